"""Two linear maps of the channels with nothing between them but views are one.

    op2(op1(x, w1, b1), w2, b2) = op1(x, w2·w1, w2·b1 + b2)

for op1 a linear or an ungrouped convolution, op2 a linear or a 1×1 convolution along the same channels, perhaps seen
through reshapes and permutations that keep the channels one axis. Done where it leaves at most SHARE of the products;
a bottleneck stays two maps. Exactness: ROUNDING (the new weight is computed in float64, rounded once).
"""

from __future__ import annotations

import math

import numpy as np

from neve.ir.graph import Node, Value
from neve.ir.types import Dim, same
from neve.ops.conv import Conv
from neve.ops.matmul import Linear
from neve.ops.shape import Permute, Reshape
from neve.passes.rewrite import Exactness, Rewriter, rules_pass
from neve.passes.weights import SHARED_LIMIT, channel_axis, pointwise_conv

SHARE = 0.8


def compose(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, Linear) and not pointwise_conv(node):
        return None
    found = _inner(node, rw) if node.output.dtype.size >= 4 else None
    if found is None:
        return None
    inner, views = found
    w1, w2 = rw.array(inner.inputs[1]), rw.array(node.inputs[1])
    if w1 is None or w2 is None:
        return rw.miss("the weights of successive linear maps are not constant")
    b1, b2 = (rw.array(n.inputs[2]) if len(n.inputs) == 3 else np.zeros(len(w)) for n, w in ((inner, w1), (node, w2)))
    if b1 is None or b2 is None:
        return rw.miss("the biases of successive linear maps are not constant")
    outer, before = w2.reshape(len(w2), -1).astype(np.float64), w1.reshape(len(w1), -1).astype(np.float64)
    if len(w2) * before.shape[1] > SHARE * (before.size + outer.size):
        return rw.miss("successive linear maps form a bottleneck: one map would be more work")
    if any(rw.uses(v) > 1 for v in (inner.output, *(view.output for view in views))):
        return rw.miss("the result of the first of successive linear maps is shared")
    if rw.uses(inner.inputs[1]) > 1 and w1.nbytes > SHARED_LIMIT:
        return rw.miss("the weight of the first of successive linear maps is shared, and large")
    dtype, name = inner.inputs[1].dtype, node.inputs[1].name
    weight, bias = outer @ before, outer @ b1.astype(np.float64) + b2
    if not all(np.isfinite(a.astype(dtype.numpy)).all() for a in (weight, bias)):
        return rw.miss("the weights of two linear maps together are not finite")
    inputs = [inner.inputs[0], rw.constant(weight.reshape(len(w2), *w1.shape[1:]), dtype, name)]
    if len(inner.inputs) == 3 or len(node.inputs) == 3:
        inputs.append(rw.constant(bias, dtype, f"{name}.bias"))
    out = rw.emit(inner.op, *inputs)
    axis = channel_axis(inner)
    for view in reversed(views):
        out, axis = _again(view, out, axis, rw)
    return out


def _inner(node: Node, rw: Rewriter) -> tuple[Node, list[Node]] | None:
    """The linear or convolution whose channels are those of the node's input, and the views between, the last first."""
    v, axis = node.inputs[0], channel_axis(node)
    views: list[Node] = []
    if isinstance(node.op, Linear):
        axis = v.type.rank - 1
    while (n := rw.producer(v)) is not None:
        if isinstance(n.op, Permute):
            axis = n.op.dims[axis]
        elif isinstance(n.op, Reshape):
            at = _kept(n.inputs[0].shape, v.shape, axis)
            if at is None:
                return None
            axis = at
        else:
            good = isinstance(n.op, Linear) or (isinstance(n.op, Conv) and n.op.groups == 1)
            return (n, views) if good and axis == channel_axis(n) else None
        views.append(n)
        v = n.inputs[0]
    return None


def _kept(old: tuple[Dim, ...], new: tuple[Dim, ...], axis: int) -> int | None:
    """Which axis before a reshape has the elements of `axis` after it; None if they are no axis."""
    before = math.prod(new[:axis])
    if new[axis] == 1 or 0 in new:
        return None  # several axes could be meant
    for k in range(len(old)):
        if same(old[k], new[axis]) and same(math.prod(old[:k]), before):
            return k
    return None


def _again(view: Node, v: Value, axis: int, rw: Rewriter) -> tuple[Value, int]:
    """The view of v, whose axis `axis` has another size now; the axis after it."""
    if isinstance(view.op, Permute):
        return rw.emit(view.op, v), view.op.dims.index(axis)
    shape, size = list(view.output.shape), v.shape[axis]
    after = next(k for k in range(len(shape)) if _kept(view.inputs[0].shape, view.output.shape, k) == axis)
    shape[after] = size
    return rw.emit(Reshape(tuple(shape)), v), after


PASS = rules_pass("compose_linears", Exactness.ROUNDING, compose)
