"""linear(reshape(x), w, b) = reshape(linear(x, w, b)) where the reshape leaves the last axis: a linear takes any
leading axes.

So reshapes to a matrix and back vanish, and what follows fuses with the linear.
Exactness: EXACT: the same sums of the same products.
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ir.types import same
from neve.ops.matmul import Linear
from neve.ops.shape import Reshape
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def lift(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, Linear):
        return None
    view = rw.op(node.inputs[0], "reshape")
    if view is None or not view.inputs[0].shape or not same(view.inputs[0].shape[-1], node.inputs[0].shape[-1]):
        return None
    return rw.emit(Reshape(node.output.shape), rw.emit(node.op, view.inputs[0], *node.inputs[1:]))


PASS = rules_pass("linear_on_views", Exactness.EXACT, lift)
