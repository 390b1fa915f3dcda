"""A multiplication or addition of constants a channel before a convolution or linear goes into its weights.

op(x·s + t, w, b) = op(x, w·s, b + Σ w·t) with s, t along w's input channels; for convolutions t must be 0 where there
is padding, since zeros are padded after the addition. Declined if the product has another use.
Exactness: ROUNDING (computed in float64, rounded once).
"""

from __future__ import annotations

import numpy as np

from neve.ir.graph import Node, Value
from neve.ops.conv import Conv
from neve.ops.matmul import Linear
from neve.passes.rewrite import Exactness, Rewriter, rules_pass
from neve.passes.weights import SHARED_LIMIT, per_channel


def fold(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, (Conv, Linear)):
        return None
    x = node.inputs[0]
    before = rw.producer(x)
    if before is None or before.op.name not in ("mul", "add", "sub", "div") or x.dtype.size < 4:
        return None
    axis = 1 if isinstance(node.op, Conv) else x.type.rank - 1
    sides = (0, 1) if before.op.name in ("mul", "add") else (0,)
    for i in sides:
        source = before.inputs[i]
        c = per_channel(before.inputs[1 - i], source, x, axis, rw) if rw.array(source) is None else None
        if c is not None:
            return _fold(node, before, source, c, rw)
    return None


def _fold(node: Node, before: Node, source: Value, c: np.ndarray, rw: Rewriter) -> Value | None:
    w = node.inputs[1]
    weight = rw.array(w)
    if weight is None:
        return rw.miss(f"the weights of {node.op.name} are not constant")
    bias = rw.array(node.inputs[2]) if len(node.inputs) == 3 else np.zeros(len(weight))
    if bias is None:
        return rw.miss(f"the bias of {node.op.name} is not constant")
    if rw.uses(node.inputs[0]) > 1:
        return rw.miss(f"the input of {node.op.name} is shared")
    if rw.uses(w) > 1 and weight.nbytes > SHARED_LIMIT:
        return rw.miss(f"the weight of {node.op.name} is shared, and large: folding would copy it")
    wide = weight.astype(np.float64)
    by_channel = _along_inputs(node, c, wide)
    if before.op.name in ("mul", "div"):
        with np.errstate(all="ignore"):
            product = wide * by_channel if before.op.name == "mul" else wide / by_channel
        new_bias = bias
    else:
        if isinstance(node.op, Conv) and any(p for pair in node.op.padding for p in pair):
            return rw.miss("zeros are padded after the addition")
        product = wide
        new_bias = bias + (1 if before.op.name == "add" else -1) * (wide * by_channel).sum(
            axis=tuple(range(1, wide.ndim))
        )
    if not (
        np.isfinite(product.astype(w.dtype.numpy)).all()
        and np.isfinite(np.asarray(new_bias).astype(w.dtype.numpy)).all()
    ):
        return rw.miss("the new weights are not finite")
    new_w = w if product is wide else rw.constant(product, w.dtype, w.name)
    inputs = [source, new_w]
    if len(node.inputs) == 3 or np.any(new_bias):
        inputs.append(node.inputs[2] if new_bias is bias else rw.constant(new_bias, w.dtype, f"{w.name}.bias"))
    return rw.emit(node.op, *inputs)


def _along_inputs(node: Node, c: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """c (input channels,) shaped to multiply the weight."""
    if isinstance(node.op, Linear):
        return c.reshape(1, -1)
    assert isinstance(node.op, Conv)
    groups = node.op.groups
    rows = c.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)
    return rows.reshape(*rows.shape, *(1,) * (weight.ndim - 2))


PASS = rules_pass("fold_affine_before", Exactness.ROUNDING, fold)
