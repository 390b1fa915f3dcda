"""Builders of convolutions, matrix products, normalisations and softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neve.capture.aten import aten
from neve.capture.context import Context, Refusal
from neve.capture.releases import EMPTY_GROUPS_RAISE
from neve.ir.graph import Value
from neve.ir.types import DType, dim, numel
from neve.ops.conv import Conv, ConvTranspose
from neve.ops.matmul import Linear, MatMul
from neve.ops.norm import BatchNorm, GroupNorm, LayerNorm, LogSoftmax, RmsNorm, Softmax
from neve.ops.reduce import Mean, Sum, Var

Ints = Sequence[int] | int


def spread(value: Ints, n: int) -> tuple[int, ...]:
    """One int an axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    if not all(isinstance(v, int) for v in values):
        raise Refusal(f"the attribute {list(values)} depends on a size")
    return values * n if len(values) == 1 else values


@aten("convolution")
def convolution(
    c: Context,
    x: Value,
    w: Value,
    bias: Value | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> Value:
    n = len(w.shape) - 2
    _raise_for_images_without_pixels(c, x)
    stride, padding, dilation, output_padding = (spread(v, n) for v in (stride, padding, dilation, output_padding))
    op = (
        ConvTranspose(stride, padding, output_padding, dilation, groups)
        if transposed
        else Conv(stride, tuple((p, p) for p in padding), dilation, groups)
    )
    y = c(op, x, w, *((bias,) if bias is not None else ()))
    c.raise_if_empty(y, () if transposed else range(2, n + 2), "a convolution of less than its kernel, with a result")
    return y


def _raise_for_images_without_pixels(c: Context, x: Value) -> None:
    """Of images without pixels eager has no convolution, whatever the padding, unless there are no images either."""
    count, axes = c.symbols.range(x.shape[0]), range(2, len(x.shape))
    if x.shape[0] == 0 or x.shape[1] == 0:
        return
    if count is not None and count[0] > 0:
        c.raise_if_empty(x, axes, "a convolution")
        return
    some = c("gt", c.tensor(x.shape[0], DType.int64), c.full(0, DType.int64))
    for axis in axes:
        if (c.symbols.range(x.shape[axis]) or (0, 0))[0] < 1:
            none = c("lt", c.tensor(x.shape[axis], DType.int64), c.full(1, DType.int64))
            c.raise_if(c("logical_and", none, some), "a convolution of an axis of less than 1")


@aten("conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv_padding(
    c: Context,
    x: Value,
    w: Value,
    bias: Value | None = None,
    stride: Ints = 1,
    padding: str = "valid",
    dilation: Ints = 1,
    groups: int = 1,
) -> Value:
    n = len(w.shape) - 2
    stride, dilation = spread(stride, n), spread(dilation, n)
    total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, w.shape[2:], strict=True)]
    batched = len(x.shape) == n + 2
    x = x if batched else c.unsqueeze(x, 0)
    _raise_for_images_without_pixels(c, x)
    y = c(
        Conv(stride, tuple((t // 2, t - t // 2) for t in total), dilation, groups),
        x,
        w,
        *((bias,) if bias is not None else ()),
    )
    c.raise_if_empty(y, range(2, n + 2), "a convolution of less than its kernel, with a result")
    return y if batched else c.reshape(y, y.shape[1:])


@aten("linear")
def linear(c: Context, x: Value, w: Value, bias: Value | None = None) -> Value:
    if len(w.shape) == 1:
        y = c("mul", x, w)
        y = c(Sum((len(x.shape) - 1,), False), y)
        return y if bias is None else c("add", y, bias)
    if bias is not None and len(bias.shape) != 1:
        return c("add", linear(c, x, w), bias)
    rows = x if len(x.shape) > 1 else c.unsqueeze(x, 0)
    y = c(Linear(), rows, w, *((bias,) if bias is not None else ()))
    return y if len(x.shape) > 1 else c.reshape(y, y.shape[1:])


@aten("bilinear")
def bilinear(c: Context, a: Value, b: Value, w: Value, bias: Value | None = None) -> Value:
    """out[…, o] = Σ_ij a[…, i] w[o, i, j] b[…, j] + bias[o]."""
    outputs, first, second = w.shape
    rows = c(
        MatMul(),
        c.reshape(a, (numel(a.shape[:-1]), first)),
        c.reshape(c.permute(w, (1, 0, 2)), (first, dim(outputs * second))),
    )
    rows = c.reshape(rows, (*a.shape[:-1], outputs, second))
    y = c(Sum((len(rows.shape) - 1,), False), c("mul", rows, c.unsqueeze(b, len(b.shape) - 1)))
    return y if bias is None else c("add", y, bias)


@aten("matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul")
def matmul(c: Context, a: Value, b: Value) -> Value:
    rows = a if len(a.shape) > 1 else c.unsqueeze(a, 0)
    cols = b if len(b.shape) > 1 else c.unsqueeze(b, 1)
    return c.reshape(c(MatMul(), rows, cols), c.out.shape)


@aten("addmm", "baddbmm")
def addmm(c: Context, bias: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    return _sum(c, bias, a, b, (), beta, alpha)


@aten("addbmm")
def addbmm(c: Context, bias: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    return _sum(c, bias, a, b, (0,), beta, alpha)


def _sum(c: Context, bias: Value, a: Value, b: Value, over: tuple[int, ...], beta: Any, alpha: Any) -> Value:
    """beta · bias + alpha · a @ b, summed over axes, rounded once in half types; bias is not read if beta is 0."""
    dtype = a.dtype
    if dtype.is_float and dtype.size == 2:
        bias, a, b = (c.cast(v, DType.float32) for v in (bias, a, b))
    product = c(MatMul(), a, b)
    product = c(Sum(over, False), product) if over else product
    if alpha != 1:
        product = c("mul", product, c.tensor(alpha, product.dtype))
    if beta == 0:
        return c.cast(product, dtype)
    if beta != 1:
        bias = c("mul", bias, c.tensor(beta, bias.dtype))
    return c.cast(c("add", product, bias), dtype)


@aten("_native_batch_norm_legit_no_training")
def batch_norm(
    c: Context, x: Value, w: Value | None, b: Value | None, mean: Value, var: Value, momentum: float, eps: float
) -> tuple[Any, ...]:
    dtype = mean.dtype if mean.dtype is not x.dtype else x.dtype
    w = c.full(1, dtype, mean.shape) if w is None else c.cast(w, dtype)
    b = c.full(0, dtype, mean.shape) if b is None else c.cast(b, dtype)
    y = c(BatchNorm(eps), c.cast(x, dtype), w, b, mean, c.cast(var, dtype))
    return c.cast(y, x.dtype), None, None


@aten("layer_norm")
def layer_norm(
    c: Context,
    x: Value,
    shape: Sequence[Any],
    w: Value | None = None,
    b: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    return _affine(c, LayerNorm(len(shape), eps), x, w, b)


@aten("native_layer_norm")
def native_layer_norm(
    c: Context, x: Value, shape: Sequence[Any], w: Value | None, b: Value | None, eps: float
) -> tuple[Any, ...]:
    dims = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    return layer_norm(c, x, shape, w, b, eps), *_statistics(c, x, dims, eps, keepdim=True)


@aten("group_norm")
def group_norm(
    c: Context,
    x: Value,
    groups: int,
    w: Value | None = None,
    b: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    if EMPTY_GROUPS_RAISE:
        c.raise_if_empty(x, range(2, len(x.shape)), "group_norm")
    return _affine(c, GroupNorm(groups, eps), x, w, b)


@aten("native_group_norm")
def native_group_norm(
    c: Context,
    x: Value,
    w: Value | None,
    b: Value | None,
    n: Any,
    channels: Any,
    positions: Any,
    groups: int,
    eps: float,
) -> tuple[Any, ...]:
    runs = c.reshape(x, (n, groups, dim(channels // groups * positions))) if c.used(1) or c.used(2) else x
    return group_norm(c, x, groups, w, b, eps), *_statistics(c, runs, (2,), eps, keepdim=False)


def _statistics(
    c: Context, x: Value, dims: tuple[int, ...], eps: float, keepdim: bool
) -> tuple[Value | None, Value | None]:
    """The mean and 1 / √(variance + eps) that a normalisation gives besides, where they are used."""
    mean = c(Mean(dims, keepdim), x) if c.used(1) else None
    if not c.used(2):
        return mean, None
    var = c(Var(dims, keepdim, 0.0), x)
    return mean, c("rsqrt", c("add", var, c.full(eps, x.dtype)))


@aten("instance_norm")
def instance_norm(
    c: Context,
    x: Value,
    w: Value | None,
    b: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    if not use_input_stats:
        assert mean is not None and var is not None
        normed: Value = batch_norm(c, x, w, b, mean, var, momentum, eps)[0]
        return normed
    if mean is not None or var is not None:
        raise Refusal("instance norm that updates its running statistics: neve decomposes it before it gets here")
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise Refusal(f"instance norm of {channels} channels: their number has to be fixed")
    return _affine(c, GroupNorm(channels, eps), x, w, b)


@aten("rms_norm")
def rms_norm(c: Context, x: Value, shape: Sequence[Any], w: Value | None = None, eps: float | None = None) -> Value:
    if eps is None:
        eps = float(np.finfo(np.float64 if x.dtype is DType.float64 else np.float32).eps)
    return c(RmsNorm(len(shape), eps), x, *(() if w is None else (c.cast(w, x.dtype),)))


def _affine(c: Context, op: LayerNorm | GroupNorm, x: Value, w: Value | None, b: Value | None) -> Value:
    """op with the parameters there are; a bias alone gets a weight of ones. Their dtype is computed in."""
    given = [v for v in (w, b) if v is not None]
    dtype = next((v.dtype for v in given if v.dtype is not x.dtype), x.dtype)
    if w is None and b is not None:
        w = c.full(1, dtype, b.shape)
    return c.cast(c(op, c.cast(x, dtype), *(c.cast(v, dtype) for v in (w, b) if v is not None)), x.dtype)


@aten("softmax.int", "_softmax", "special_softmax")
def softmax(c: Context, x: Value, axis: int, dtype: Any = None) -> Value:
    x = c.cast(x, c.out.dtype)
    return c(Softmax(axis % len(x.shape)), x) if x.shape else c.full(1, x.dtype)


@aten("log_softmax.int", "_log_softmax", "special_log_softmax")
def log_softmax(c: Context, x: Value, axis: int, dtype: Any = None) -> Value:
    x = c.cast(x, c.out.dtype)
    return c(LogSoftmax(axis % len(x.shape)), x) if x.shape else c("sub", x, x)
