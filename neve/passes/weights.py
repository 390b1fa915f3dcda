"""Helpers for passes that change the weights of convolutions and linears: y = op(x, w, b) ↦ scale·y + shift a
channel, as new w and b.
"""

from __future__ import annotations

import numpy as np

from neve.ir.graph import Node, Value
from neve.ir.types import round_to
from neve.ir.verify import same_type
from neve.ops.conv import Conv, ConvTranspose
from neve.ops.matmul import Linear
from neve.passes.rewrite import Rewriter

SHARED_LIMIT = 16 << 20


def weighted(v: Value, rw: Rewriter) -> Node | None:
    """The convolution, transposed convolution or linear that gives v."""
    n = rw.producer(v)
    return n if n is not None and isinstance(n.op, (Conv, ConvTranspose, Linear)) else None


def channel_axis(node: Node) -> int:
    """The axis of the output that the weight's output channels make."""
    return node.output.type.rank - 1 if isinstance(node.op, Linear) else 1


def channels(node: Node) -> int:
    size = node.output.shape[channel_axis(node)]
    assert isinstance(size, int)
    return size


def per_channel(operand: Value, x: Value, out: Value, axis: int, rw: Rewriter) -> np.ndarray | None:
    """operand's content as float64 of shape (channels,), if it is constant, varies along x's axis at most, and leaves
    x's shape alone.
    """
    if not same_type(x.type, out.type) or not isinstance(x.shape[axis], int):
        return None
    value = rw.scalar(operand)
    if value is not None:
        return np.full(x.shape[axis], value, np.float64)
    a = rw.array(operand)
    if a is None:
        return None
    own = axis - (x.type.rank - a.ndim)
    if any(n != 1 for i, n in enumerate(a.shape) if i != own):
        return None
    return np.broadcast_to(a.astype(np.float64).reshape(-1), (x.shape[axis],))


def rescaled(node: Node, scale: np.ndarray | None, shift: np.ndarray | None, rw: Rewriter) -> Value | None:
    """scale · node's output + shift, as one node with new weights; None, with a Miss, if that cannot be.

    scale, shift: float64 (channels,) or None for 1, 0.
    """
    if shift is not None and (shift.size == 0 or not isinstance(node.output.shape[channel_axis(node)], int)):
        return None
    w, bias = node.inputs[1], node.inputs[2] if len(node.inputs) == 3 else None
    new_w = w
    if scale is not None:
        made = _scaled_weight(node, scale, rw)
        if made is None:
            return None
        new_w = made
    b = np.zeros(channels(node)) if bias is None else rw.array(bias)
    if b is None:
        rw.miss(f"the bias of {node.op.name} is not constant")
        return None
    wide = b.astype(np.float64)
    total = wide * (1 if scale is None else scale) + (0 if shift is None else shift)
    rounded = total.astype(w.dtype.numpy)
    if not np.isfinite(rounded).all():
        rw.miss("the new bias is not finite")
        return None
    if bias is None and not rounded.any():
        return rw.emit(node.op, node.inputs[0], new_w)
    return rw.emit(
        node.op, node.inputs[0], new_w, rw.constant(total, w.dtype, bias.name if bias is not None else f"{w.name}.bias")
    )


def _scaled_weight(node: Node, scale: np.ndarray, rw: Rewriter) -> Value | None:
    w = node.inputs[1]
    array = rw.array(w)
    if array is None:
        rw.miss(f"the weight of {node.op.name} is not constant")
        return None
    if rw.uses(w) > 1 and array.nbytes > SHARED_LIMIT:
        rw.miss(f"the weight of {node.op.name} is shared, and large: folding would copy it")
        return None
    if isinstance(node.op, ConvTranspose):
        g = node.op.groups
        split = array.reshape(g, array.shape[0] // g, array.shape[1], -1)
        product = (split * scale.reshape(g, 1, array.shape[1], 1)).reshape(array.shape)
    else:
        product = array * scale.reshape(-1, *(1,) * (array.ndim - 1))
    with np.errstate(over="ignore"):
        rounded = round_to(product, w.dtype)
    if not np.isfinite(rounded).all():
        return rw.miss("the new weight is not finite")
    return rw.constant(rounded, w.dtype, w.name)


def pointwise_conv(node: Node) -> bool:
    """Whether the node mixes the channels of each pixel and nothing else: a convolution with a kernel of ones."""
    op = node.op
    if not isinstance(op, Conv) or op.groups != 1:
        return False
    ones = all(k == 1 for k in node.inputs[1].shape[2:])
    return ones and set(op.stride) <= {1} and not any(p for pair in op.padding for p in pair)
