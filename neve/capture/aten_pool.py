"""Builders of pooling, resampling and image sampling."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import torch

from neve.capture.aten import aten
from neve.capture.aten_fourier import constant
from neve.capture.aten_nn import Ints, spread
from neve.capture.context import Context, Refusal
from neve.capture.releases import HAS_LANCZOS
from neve.ir.graph import Value
from neve.ir.types import Dim, DType, dim, numel
from neve.ops import antialias
from neve.ops.image import GridSample
from neve.ops.index import Gather, IndexTensors
from neve.ops.pad import Cat, Pad
from neve.ops.pool import AdaptiveAvgPool, AdaptiveMaxPool, AdaptiveMaxPoolIndices, AvgPool, MaxPool, MaxPoolIndices
from neve.ops.reduce import Amax, Argmax, Sum
from neve.ops.source import Arange
from neve.ops.upsample import UpsampleBicubic, UpsampleLinear, UpsampleNearest


def _spatial(c: Context) -> int:
    """The number of spatial axes, from the op's name (max_pool2d, upsample_bilinear2d …)."""
    name = c.node.target.overloadpacket.__name__
    return next(int(ch) for ch in reversed(name) if ch in "123") if any(ch in "123" for ch in name) else 2


def _raise_if_no_pixels(c: Context, x: Value) -> None:
    """Eager raises for images without pixels, whatever the padding."""
    n = _spatial(c)
    c.raise_if_empty(x, range(len(x.shape) - n, len(x.shape)), c.node.target.overloadpacket.__name__)


def _windows(c: Context, kernel: Ints, stride: Ints | None, *rest: Ints) -> tuple[tuple[int, ...], ...]:
    n = _spatial(c)
    kernel = spread(kernel, n)
    return (kernel, spread(stride, n) if stride else kernel, *(spread(r, n) for r in rest))


@aten("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(
    c: Context,
    x: Value,
    kernel: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Value:
    _raise_if_no_pixels(c, x)
    kernel, stride, padding, dilation = _windows(c, kernel, stride, padding, dilation)
    return c(MaxPool(kernel, stride, padding, dilation, ceil_mode), x)


@aten("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices")
def max_pool_indices(
    c: Context,
    x: Value,
    kernel: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> tuple[Value | None, ...]:
    _raise_if_no_pixels(c, x)
    kernel, stride, padding, dilation = _windows(c, kernel, stride, padding, dilation)
    value = c(MaxPool(kernel, stride, padding, dilation, ceil_mode), x)
    return value, c(MaxPoolIndices(kernel, stride, padding, dilation, ceil_mode), x) if c.used(1) else None


@aten("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(
    c: Context,
    x: Value,
    kernel: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    _raise_if_no_pixels(c, x)
    kernel, stride, padding = _windows(c, kernel, stride, padding)
    return c(AvgPool(kernel, stride, padding, ceil_mode, count_include_pad, divisor_override), x)


@aten(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"
)
def adaptive_avg_pool(c: Context, x: Value, output: Any) -> Value:
    _raise_if_no_pixels(c, x)
    return c(AdaptiveAvgPool(c.out.shape[-_spatial(c) :]), x)


@aten("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(c: Context, x: Value, output: Any) -> tuple[Value | None, ...]:
    _raise_if_no_pixels(c, x)
    output = c.out.shape[-_spatial(c) :]
    return c(AdaptiveMaxPool(output), x), c(AdaptiveMaxPoolIndices(output), x) if c.used(1) else None


@aten("fractional_max_pool2d", "fractional_max_pool3d")
def fractional_max_pool(c: Context, x: Value, kernel: Ints, output: Ints, samples: Value) -> tuple[Value, Value | None]:
    """x (…, C, spatial…), samples (N, C, spatial axes) from 0 to 1 → (…, C, out…): the largest element of windows at
    positions that the samples decide, and where it is in the flattened spatial axes.
    """
    if getattr(c.node.args[3].target, "overloadpacket", None) is not torch.ops.aten.rand:
        raise Refusal(
            "_random_samples that torch.rand has not drawn here, which may lie outside of 0 to 1: leave it out"
        )
    if x.dtype not in (DType.float32, DType.float64):
        raise Refusal(f"fractional max pooling of {x.dtype}: cast it to float32 first")
    n = _spatial(c)
    kernel, size, out = spread(kernel, n), x.shape[-n:], c.out.shape[-n:]
    planes = numel(x.shape[:-n])
    cells = c.full(0, DType.int64, (1,) * (2 * n + 1))
    for a in range(n):
        # The samples of the last axis come first in two dimensions, those of the first in three.
        sample = c.select(samples, 2, n - 1 - a if n == 2 else a)
        start = _starts(c, c.reshape(sample, (planes, 1)), size[a], out[a], kernel[a])
        start = c.reshape(start, (planes, *(out[a] if b == a else 1 for b in range(n)), *(1,) * n))
        inner = c.reshape(c(Arange(0, 1, kernel[a], DType.int64)), [kernel[a] if b == a else 1 for b in range(n)])
        stride = c.tensor(numel(size[a + 1 :]), DType.int64)
        cells = c("add", cells, c("mul", c("add", start, inner), stride))
    cells = c.reshape(cells, (planes, numel((*out, *kernel))))
    shape = (planes, numel(out), numel(kernel))
    windows = c.reshape(c(Gather(1), c.reshape(x, (planes, numel(size))), cells), shape)
    value = c.reshape(c(Amax((2,), False), windows), c.out.shape)
    if not c.used(1):
        return value, None
    best = c(Gather(2), c.reshape(cells, shape), c.unsqueeze(_first_largest(c, windows), 2))
    return value, c.reshape(best, c.out.shape)


def _starts(c: Context, sample: Value, size: Dim, out: Dim, kernel: int) -> Value:
    """Where the windows of an axis begin, for each plane: sample (planes, 1) → (planes, out), int64."""
    last = c.tensor(dim(size - kernel), DType.int64)
    steps = c("maximum", c.tensor(dim(out - 1), DType.int64), c.full(1, DType.int64))
    step = c("div", c.cast(last, sample.dtype), c.cast(steps, sample.dtype))
    i = c.reshape(c(Arange(0, 1, out, DType.int64)), (1, out))
    begin = c.cast(c("mul", c("add", c.cast(i, sample.dtype), sample), step), DType.int64)
    begin = c("sub", begin, c.cast(c("mul", sample, step), DType.int64))
    return c("where", c("eq", i, c.tensor(dim(out - 1), DType.int64)), last, begin)


def _first_largest(c: Context, windows: Value) -> Value:
    """For each row of the last axis the position of the first largest element, but of the last NaN."""
    places = c(Arange(0, 1, windows.shape[2], DType.int64))
    last = c(Amax((2,), False), c("where", c("isnan", windows), places, c.full(-1, DType.int64)))
    return c("where", c("lt", last, c.full(0, DType.int64)), c(Argmax(2, False), windows), last)


def _resize(
    c: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], tuple[float | None, ...]]:
    """Output sizes and scale arguments of an upsample op; args are what follows the input (and align_corners)."""
    n = _spatial(c)
    scales: Any = args[1:]
    if c.node.target._overloadname == "vec":
        scales = args[-1] if args else kwargs.get("scale_factors")
    elif not scales:
        scales = tuple(v for k, v in kwargs.items() if k.startswith("scale"))
    scales = tuple(scales or ())
    if any(s is not None and not isinstance(s, float) for s in scales):
        raise Refusal(f"resampling by the factors {scales}, which depend on a size")
    output = c.out.shape[-n:]
    for size in output:
        c.raise_if_below(size, 1, "resampling, with a result")
    return output, scales if any(s is not None for s in scales) else ()


@aten(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "upsample_nearest1d.vec",
    "upsample_nearest2d.vec",
    "upsample_nearest3d.vec",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
    "_upsample_nearest_exact1d.vec",
    "_upsample_nearest_exact2d.vec",
    "_upsample_nearest_exact3d.vec",
)
def upsample_nearest(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    output, scales = _resize(c, args, kwargs)
    return c(UpsampleNearest(output, scales, "exact" in c.node.target.overloadpacket.__name__), x)


@aten(
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_linear1d.vec",
    "upsample_bilinear2d.vec",
    "upsample_trilinear3d.vec",
)
def upsample_linear(c: Context, x: Value, size: Any, align_corners: bool, *args: Any, **kwargs: Any) -> Value:
    output, scales = _resize(c, (size, *args), kwargs)
    return c(UpsampleLinear(output, align_corners, scales), x)


@aten("upsample_bicubic2d", "upsample_bicubic2d.vec")
def upsample_bicubic(c: Context, x: Value, size: Any, align_corners: bool, *args: Any, **kwargs: Any) -> Value:
    output, scales = _resize(c, (size, *args), kwargs)
    return c(UpsampleBicubic(output, align_corners, scales), x)


@aten(
    "_upsample_bilinear2d_aa",
    "_upsample_bilinear2d_aa.vec",
    "_upsample_bicubic2d_aa",
    "_upsample_bicubic2d_aa.vec",
    *(["_upsample_lanczos2d_aa", "_upsample_lanczos2d_aa.vec"] if HAS_LANCZOS else []),
)
def upsample_antialias(c: Context, x: Value, size: Any, align_corners: bool, *args: Any, **kwargs: Any) -> Value:
    """Along the last axis, then along the one before it, which rounds bytes in between."""
    output, scales = _resize(c, (size, *args), kwargs)
    name = c.node.target.overloadpacket.__name__.removeprefix("_upsample_").removesuffix("2d_aa")
    if x.dtype not in (DType.float32, DType.float64, DType.uint8):
        raise Refusal(f"resampling of {x.dtype} with antialias, which torch does not have: cast it to float32 first")
    for axis, out, scale in zip((3, 2), reversed(output), reversed(scales or (None, None)), strict=True):
        x = _antialiased(c, x, axis, out, name, align_corners, scale)
    return x


def _antialiased(c: Context, x: Value, axis: int, out: Dim, name: str, align: bool, scale: float | None) -> Value:
    size = x.shape[axis]
    sizes = (size, out) if isinstance(size, int) and isinstance(out, int) else None
    if x.dtype is DType.uint8:
        if sizes is None:
            raise Refusal(
                f"resampling of uint8 with antialias from {size} to {out}: the weights' precision depends on both "
                "sizes; declare them as fixed, or resample x.float() and round"
            )
        return _antialiased_bytes(c, x, axis, antialias.windows(*sizes, name, align, scale, np.float64))
    if sizes is not None or (scale and not align):
        n: Dim = antialias.taps(*(sizes or (1, 1)), name, align, scale)
    elif align and not isinstance(out, int):
        raise Refusal(f"resampling with antialias and align_corners to {out}: leave align_corners, or fix the size")
    else:
        n = antialias.taps_of(size, out, name, align and out != 1)
    return c(antialias.UpsampleAntialias(axis, out, n, name, align, scale), x)


def _antialiased_bytes(c: Context, x: Value, axis: int, windows: tuple[np.ndarray, ...]) -> Value:
    """In integers, as ATen and Pillow do: weights of 16 bits with as many behind the point as fit, sums in 32 bits."""
    low, _, weight = windows
    if weight.shape[1] == 1:
        return x
    bits = next(p for p in range(23) if p == 22 or int(0.5 + weight.max() * (1 << (p + 1))) >= 1 << 15)
    whole = np.trunc(weight * (1 << bits) + np.copysign(0.5, weight)).astype(np.int32)
    cells = np.minimum(low[:, None] + np.arange(weight.shape[1]), x.shape[axis] - 1)
    read = c(IndexTensors((axis,)), x, constant(c, "cells", cells))
    behind = (1,) * (len(x.shape) - 1 - axis)
    product = c("mul", c.cast(read, DType.int32), constant(c, "weights", whole.reshape(*whole.shape, *behind)))
    total = c.cast(c(Sum((axis + 1,), False), product), DType.int32)
    total = c("bitwise_right_shift", c("add", total, c.full(1 << (bits - 1), DType.int32)), c.full(bits, DType.int32))
    total = c("minimum", c("maximum", total, c.full(0, DType.int32)), c.full(255, DType.int32))
    return c.cast(total, DType.uint8)


@aten("im2col")
def im2col(c: Context, x: Value, kernel: Ints, dilation: Ints, padding: Ints, stride: Ints) -> Value:
    """[n, c, h, w] → [n, c * kernel, windows]: for each element of the kernel what it is laid on."""
    kernel, dilation, padding, stride = (spread(v, 2) for v in (kernel, dilation, padding, stride))
    batched = len(x.shape) == 4
    x = x if batched else c.unsqueeze(x, 0)
    c.raise_if_empty(x, (2, 3), "im2col")
    images, channels = x.shape[:2]
    pads = ((0, 0), (0, 0), *((p, p) for p in padding))
    x = c(Pad(pads, False if x.dtype is DType.bool else 0.0 if x.dtype.is_float else 0), x) if any(padding) else x
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    counts = [dim((n - span) // s + 1) for n, span, s in zip(x.shape[2:], spans, stride, strict=True)]
    for count in counts:
        c.raise_if_below(count, 1, "windows larger than the image, with a result")
    parts = []
    for offset in product(*(range(0, d * k, d) for d, k in zip(dilation, kernel, strict=True))):
        part = x
        for axis, (start, count, step) in enumerate(zip(offset, counts, stride, strict=True), 2):
            part = c.slice(part, axis, start, dim(start + (count - 1) * step + 1), step)
        parts.append(c.unsqueeze(part, 2))
    columns = c(Cat(2), *parts)
    y = c.reshape(columns, (images, channels * math.prod(kernel), math.prod(counts)))
    return y if batched else c.reshape(y, y.shape[1:])


@aten("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(c: Context, x: Value, grid: Value, mode: int, padding_mode: int, align_corners: bool) -> Value:
    c.raise_if_empty(x, range(2, len(x.shape)), "grid_sample")
    return c(
        GridSample(
            ("bilinear", "nearest", "bicubic")[mode], ("zeros", "border", "reflection")[padding_mode], align_corners
        ),
        x,
        grid,
    )
