"""relu(x + y) = add_relu(x, y).

Declined: the sum has another use, which would still need it. Not part of the default pipeline: the plan computes both
in one loop by itself; this is the form that a user of optimize_for_mobile expects to see. Exactness: EXACT; NaN stays
NaN.
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ops.activation import AddRelu, Relu
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def fuse(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, Relu):
        return None
    inner = rw.op(node.inputs[0], "add")
    if inner is None:
        return None
    if rw.uses(node.inputs[0]) != 1:
        return rw.miss("the sum has another use")
    return rw.emit(AddRelu(), *inner.inputs)


PASS = rules_pass("fuse_add_relu", Exactness.EXACT, fuse)
