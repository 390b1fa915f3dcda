"""Integer sums and comparisons of ranges that are one value everywhere are that value, also where sizes are symbolic.

(start + i) − (start' + i) = start − start'; running sums of zeros are zeros; start + i ≥ start' where start ≥ start'.
Such are the masks of packed sequences where no sequence is packed. Exactness: EXACT (integers that do not overflow
int64).
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ir.index import Index
from neve.ir.types import Dim, DType, dim
from neve.ops.scan import Cumsum
from neve.ops.source import Full
from neve.passes.ranges import combined, count
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def difference(node: Node, rw: Rewriter) -> Value | None:
    if node.op.name not in ("add", "sub") or node.output.dtype is not DType.int64:
        return None
    a, b = (count(v, rw) for v in node.inputs)
    total = combined(a, b, 1 if node.op.name == "add" else -1) if a is not None and b is not None else None
    if total is None or total.axis or not isinstance(total.start, int):
        return None
    return rw.emit(Full(node.output.shape, total.start, node.output.dtype))


def comparison(node: Node, rw: Rewriter) -> Value | None:
    """Comparisons that come out the same for every position."""
    if node.op.name not in ("ge", "gt", "le", "lt") or not node.inputs[0].dtype.is_int:
        return None
    left, right = node.inputs if node.op.name in ("ge", "gt") else node.inputs[::-1]
    a, b = count(left, rw), count(right, rw)
    gap = combined(a, b, -1) if a is not None and b is not None else None
    if gap is None:
        return None
    least = dim(gap.start - (1 if node.op.name in ("gt", "lt") else 0))
    if _not_negative(gap.step) and _not_negative(least):
        return rw.emit(Full(node.output.shape, True, DType.bool))
    if _not_negative(dim(0 - gap.step)) and _not_negative(dim(-1 - least)):
        return rw.emit(Full(node.output.shape, False, DType.bool))
    return None


def _not_negative(d: Dim) -> bool:
    return Index.of(d).nonnegative


def sums(node: Node, rw: Rewriter) -> Value | None:
    if isinstance(node.op, Cumsum) and rw.scalar(node.inputs[0]) == 0 and node.output.dtype.is_int:
        return rw.emit(Full(node.output.shape, 0, node.output.dtype))
    return None


PASS = rules_pass("fold_ranges", Exactness.EXACT, difference, comparison, sums)
