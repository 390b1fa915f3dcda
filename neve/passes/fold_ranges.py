"""Integer sums of ranges that are one number everywhere are that number, also where sizes are symbolic.

(start + i) − (start' + i) = start − start'; running sums of zeros are zeros. Such are the masks of packed sequences
where no sequence is packed. Exactness: EXACT (integers that do not overflow int64).
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ir.types import DType
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


def sums(node: Node, rw: Rewriter) -> Value | None:
    if isinstance(node.op, Cumsum) and rw.scalar(node.inputs[0]) == 0 and node.output.dtype.is_int:
        return rw.emit(Full(node.output.shape, 0, node.output.dtype))
    return None


PASS = rules_pass("fold_ranges", Exactness.EXACT, difference, sums)
