"""Builders of Fourier transforms: along one axis after the other, by `neve.ops.fourier`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from neve.capture.aten import TABLE, overload
from neve.capture.aten_complex import times
from neve.capture.context import Context, Refusal
from neve.capture.pairs import Pair, complex_, pair
from neve.ir.graph import ConstTensor, Value
from neve.ir.types import DType
from neve.ops.fourier import LARGEST, Fourier, OverlapAdd, factors, twiddles
from neve.ops.reduce import Any as AnyOf
from neve.ops.source import Constant


@complex_("_fft_c2c")
def fft_c2c(c: Context, x: Pair, axes: Sequence[int], normalization: int, forward: bool) -> Pair:
    total = 1
    for axis in axes:
        total *= length(c, x, axis)
        x = _along(c, x, axis, lambda v: transform(c, v, forward))
    return scaled(c, x, normalization, total)


@complex_("_fft_r2c")
def fft_r2c(c: Context, x: Value, axes: Sequence[int], normalization: int, onesided: bool) -> Pair:
    """The real transform along the last of the axes, complex ones along the others."""
    *others, last = axes
    n = length(c, x, last)
    y = _along(c, x, last, lambda v: real_transform(c, v) if onesided else transform(c, pair(c, v, v.dtype), True))
    total = n
    for axis in others:
        total *= length(c, y, axis)
        y = _along(c, y, axis, lambda v: transform(c, v, True))
    return scaled(c, y, normalization, total)


@complex_("_fft_c2r")
def fft_c2r(c: Context, x: Pair, axes: Sequence[int], normalization: int, n: int) -> Value:
    *others, last = axes
    total = size(c, n)
    for axis in others:
        total *= length(c, x, axis)
        x = _along(c, x, axis, lambda v: transform(c, v, False))
    y = _along(c, x, last, lambda v: inverse_real(c, v, size(c, n)))
    factor = norm(normalization, total)
    return y if factor == 1 else c("mul", y, c.full(factor, y.dtype))


def op(name: str) -> Any:
    return TABLE[overload(name)]


def norm(normalization: int, total: int) -> float:
    """ATen's fft_norm_mode: none, by the root of the number of elements, by the number."""
    return (1.0, 1 / math.sqrt(total), 1 / total)[normalization]


def scaled(c: Context, x: Pair, normalization: int, total: int) -> Pair:
    factor = norm(normalization, total)
    if factor == 1:
        return x
    by = c.full(factor, x.dtype)
    return Pair(c("mul", x.real, by), c("mul", x.imag, by))


def length(c: Context, x: Any, axis: int) -> int:
    return size(c, x.shape[c.axis(axis, len(x.shape))])


def size(c: Context, n: Any) -> int:
    if not isinstance(n, int):
        raise Refusal(f"a transform of a dynamic length ({n}) is not supported: pad x to a fixed length first")
    return n


def _along(c: Context, x: Any, axis: int, f: Any) -> Any:
    """f along an axis, which it finds last."""
    rank = len(x.shape)
    order = [a for a in range(rank) if a != c.axis(axis, rank)] + [c.axis(axis, rank)]
    back = [order.index(a) for a in range(rank)]
    y = f(Pair(c.permute(x.real, order), c.permute(x.imag, order)) if isinstance(x, Pair) else c.permute(x, order))
    return Pair(c.permute(y.real, back), c.permute(y.imag, back)) if isinstance(y, Pair) else c.permute(y, back)


@complex_("istft")
def istft(
    c: Context,
    x: Pair,
    n: int,
    hop: Any = None,
    width: Any = None,
    window: Any = None,
    center: bool = True,
    normalized: bool = False,
    onesided: Any = None,
    length_: Any = None,
    return_complex: bool = False,
) -> Any:
    """As ATen's SpectralOps.cpp: inverse transforms, windowed, added up, over the sum of squared windows."""
    n, hop, width = size(c, n), size(c, n // 4 if hop is None else hop), size(c, n if width is None else width)
    rank = len(x.shape)
    x = Pair(*(c.permute(v, (*range(rank - 2), rank - 1, rank - 2)) for v in (x.real, x.imag)))
    frames = x.shape[-2]
    if return_complex:
        if isinstance(window, Pair):
            raise Refusal("a complex window is not supported")
        y: Any = scaled(c, transform(c, x, False), 1 if normalized else 2, n)
    else:
        made = inverse_real(c, x, n)
        y = c("mul", made, c.full(norm(1 if normalized else 2, n), made.dtype))
    left = (n - width) // 2
    w = c.full(1, x.dtype, (width,)) if window is None else c.cast(window, x.dtype)
    if width < n:
        w = op("constant_pad_nd")(c, w, [left, n - width - left], 0)
    weight = c.expand(c.reshape(c("mul", w, w), (1, n)), (frames, n))
    total = hop * (frames - 1) + n
    begin = n // 2 if center else 0
    end = begin + length_ if length_ is not None else total - n // 2 if center else total
    known = isinstance(total, int) and isinstance(end, int)
    if length_ is not None and not known:
        raise Refusal("length with a dynamic number of frames is not supported: slice the result instead")
    stop = min(end, total) if known else end
    sums = c.slice(c(OverlapAdd(hop), weight), 0, begin, stop)
    low = c("le", c("abs", sums), c.full(1e-11, sums.dtype))
    c.raise_if(c(AnyOf((0,), False), low), "the sum of the squared windows is 0 somewhere, where istft divides by it")

    def whole(v: Value) -> Value:
        added = c(OverlapAdd(hop), c("mul", v, w))
        out = c("div", c.slice(added, len(added.shape) - 1, begin, stop), sums)
        return op("constant_pad_nd")(c, out, [0, end - stop], 0) if known and end > stop else out

    return Pair(whole(y.real), whole(y.imag)) if return_complex else whole(y)


# Along the last axis, unscaled.


def table(c: Context, n: int, dtype: DType) -> Value:
    return constant(c, f"twiddles_{n}", twiddles(n, dtype))


def constant(c: Context, name: str, array: np.ndarray) -> Value:
    return c(Constant(ConstTensor(name, array, DType(str(array.dtype)))))


def has_kernel(n: int) -> bool:
    return max(factors(n), default=1) <= LARGEST


def transform(c: Context, x: Pair, forward: bool) -> Pair:
    """The complex transform; backward with both parts exchanged on both sides."""
    n = int(x.shape[-1])
    if not forward:
        y = transform(c, Pair(x.imag, x.real), True)
        return Pair(y.imag, y.real)
    return Pair(*c.emit(Fourier(n), table(c, n, x.dtype), x.real, x.imag)) if has_kernel(n) else bluestein(c, x)


def real_transform(c: Context, x: Value) -> Pair:
    n = int(x.shape[-1])
    if has_kernel(n):
        return Pair(*c.emit(Fourier(n, "real"), table(c, n, x.dtype), x))
    y, axis = transform(c, pair(c, x, x.dtype), True), len(x.shape) - 1
    return Pair(*(c.slice(v, axis, 0, n // 2 + 1) for v in (y.real, y.imag)))


def inverse_real(c: Context, x: Pair, n: int) -> Value:
    """n elements from the first n // 2 + 1 frequencies; x may have more, or fewer, which count as 0."""
    half, axis, given = n // 2 + 1, len(x.shape) - 1, size(c, x.shape[-1])
    pad = op("constant_pad_nd")
    if given < half:
        x = Pair(*(pad(c, v, [0, half - given], 0) for v in (x.real, x.imag)))
    x = Pair(*(c.slice(v, axis, 0, half) for v in (x.real, x.imag)))
    if has_kernel(n):
        return c(Fourier(n, "inverse_real"), table(c, n, x.dtype), x.real, x.imag)
    first = constant(c, f"inner_{n}", (np.arange(half) > 0).astype(x.dtype.numpy))
    x = Pair(x.real, c("mul", x.imag, first))
    rest = op("flip")
    stop = n - half + 1
    parts = [c.slice(v, axis, 1, stop) for v in (x.real, x.imag)]
    mirrored = [rest(c, v, [axis]) for v in (parts[0], c("neg", parts[1]))]
    cat = op("cat")
    whole = Pair(*(cat(c, [v, m], axis) for v, m in zip((x.real, x.imag), mirrored, strict=True)))
    return transform(c, whole, False).real


def bluestein(c: Context, x: Pair) -> Pair:
    """A length with a large prime factor, as a convolution with a chirp in a length that is a power of two.

    L. Bluestein, "A linear filtering approach to the computation of discrete Fourier transform", 1970.
    """
    n, axis, dtype = int(x.shape[-1]), len(x.shape) - 1, x.dtype
    m = 1 << (2 * n - 2).bit_length()
    square = np.arange(n, dtype=object) ** 2 % (2 * n)
    chirp = np.exp(-1j * np.pi * square.astype(np.float64) / n)
    around = np.zeros(m, complex)
    around[:n] = chirp.conj()
    around[m - n + 1 :] = chirp[:0:-1].conj()
    spectrum = np.fft.fft(around) / m

    def known(name: str, z: np.ndarray) -> Pair:
        return Pair(*(constant(c, f"{name}_{n}", v.astype(dtype.numpy)) for v in (z.real, z.imag)))

    turned = times(c, x, known("chirp", chirp))
    pad = op("constant_pad_nd")
    wide = transform(c, Pair(*(pad(c, v, [0, m - n], 0) for v in (turned.real, turned.imag))), True)
    back = transform(c, times(c, wide, known("chirps", spectrum)), False)
    return times(c, Pair(*(c.slice(v, axis, 0, n) for v in (back.real, back.imag))), known("chirp", chirp))
