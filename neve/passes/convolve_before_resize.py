"""A 1×1 convolution of enlarged images is done before they are enlarged.

With R_i linear along the spatial axes (nearest, linear, bicubic interpolation) and w cut along its input channels,

    conv(cat(R_1(x_1), …, y), [w_1, …, v], b) = R_1(conv(x_1, w_1)) + … + conv(y, v, b)

since mixing channels and mixing pixels commute. Done for the parts that are enlarged at least GAIN times, whose
images have no other use. Of halves the terms of the sum are float32, which is rounded once. Exactness: ROUNDING: the
same sum in another order; enlarged halves are not rounded.
"""

from __future__ import annotations

import math

import numpy as np

from neve.ir.graph import Node, Value
from neve.ops.cast import Cast
from neve.ops.checks import wide
from neve.ops.pad import Cat
from neve.ops.pointwise import Add
from neve.ops.upsample import UpsampleBicubic, UpsampleLinear, UpsampleNearest
from neve.passes.rewrite import Exactness, Rewriter, rules_pass
from neve.passes.weights import pointwise_conv

GAIN = 2
"""Pixels after for each before: what interpolating the results costs beside the products saved is little from here."""

Resize = (UpsampleBicubic, UpsampleLinear, UpsampleNearest)


def hoist(node: Node, rw: Rewriter) -> Value | None:
    if not pointwise_conv(node) or not node.output.dtype.is_float:
        return None
    x, w = node.inputs[:2]
    cat = rw.op(x, "cat")
    split = cat is not None and isinstance(cat.op, Cat) and cat.op.axis == 1
    parts = cat.inputs if cat is not None and split else (x,)
    enlarged = [v for v in parts if _enlarged(v, rw)]
    weight = rw.array(w)
    if not enlarged:
        return None
    if weight is None:
        return rw.miss("the weight of a convolution of an enlarged image is not constant")
    if any(rw.uses(v) > 1 for v in {*enlarged, x}) or any(not isinstance(v.shape[1], int) for v in parts):
        return rw.miss("the enlarged image that a convolution reads is shared")
    return _rewrite(node, parts, enlarged, weight, rw)


def _enlarged(v: Value, rw: Rewriter) -> bool:
    n = rw.producer(v)
    if n is None or not isinstance(n.op, Resize) or not n.inputs[0].type.is_static:
        return False
    return math.prod(v.type.at({})) >= GAIN * math.prod(n.inputs[0].type.at({})) > 0


def _rewrite(
    node: Node, parts: tuple[Value, ...], enlarged: list[Value], weight: np.ndarray, rw: Rewriter
) -> Value | None:
    w, dtype = node.inputs[1], wide(node.output.dtype)

    def widened(v: Value) -> Value:
        return v if v.dtype is dtype else rw.emit(Cast(dtype), v)

    bias = [widened(b) for b in node.inputs[2:]]
    rest: list[tuple[Value, np.ndarray]] = []
    sums: list[Value] = []
    start = 0
    for v in parts:
        stop = start + int(v.shape[1])
        columns = weight[:, start:stop]
        start = stop
        resize = rw.producer(v)
        if v in enlarged and resize is not None:
            small = rw.emit(node.op, widened(resize.inputs[0]), rw.constant(columns, dtype, w.name))
            sums.append(rw.emit(resize.op, small))
        else:
            rest.append((v, columns))
    if not rest:
        total, sums = sums[0], sums[1:]
        if bias:
            shape = (-1, *(1,) * (node.output.type.rank - 2))
            content = rw.array(node.inputs[2])
            if content is None:
                return rw.miss("the bias of a convolution of an enlarged image is not constant")
            sums.append(rw.constant(content.reshape(shape), dtype, node.inputs[2].name))
    else:
        y = rest[0][0] if len(rest) == 1 else rw.emit(Cat(1), *(v for v, _ in rest))
        columns = np.concatenate([c for _, c in rest], axis=1)
        total = rw.emit(node.op, widened(y), rw.constant(columns, dtype, w.name), *bias)
    for v in sums:
        total = rw.emit(Add(), total, v)
    return total if total.dtype is node.output.dtype else rw.emit(Cast(node.output.dtype), total)


PASS = rules_pass("convolve_before_resize", Exactness.ROUNDING, hoist)
