"""clamp(prepacked_op(x, …)) with numbers as bounds goes into the op's own minimum and maximum; so relu.

The bounds that the op has are clamped into the clamp's, as in `fuse_clamps`. Exactness: EXACT; NaN stays NaN.
Declined: the unclamped result has another use.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from neve.ir.graph import Node, Value
from neve.ops.activation import Clamp, Relu
from neve.ops.prepacked import Prepacked
from neve.passes.fuse_clamps import interval, steps
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def fuse(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, (Relu, Clamp)):
        return None
    inner = rw.producer(node.inputs[0])
    if inner is None or not isinstance(inner.op, Prepacked):
        return None
    if rw.uses(node.inputs[0]) != 1:
        return rw.miss(f"{inner.op.name} output is shared")
    own = [
        (is_max, bound) for is_max, bound in ((False, inner.op.maximum), (True, inner.op.minimum)) if bound is not None
    ]
    found = steps(node, rw)
    if found is None:
        return None
    bounds: dict[str, Any] = {}
    bounds["minimum"], bounds["maximum"] = interval([*found[1], *own], node.output.dtype)
    return rw.emit(replace(inner.op, **bounds), *inner.inputs)


PASS = rules_pass("fuse_prepacked_clamps", Exactness.EXACT, fuse)
