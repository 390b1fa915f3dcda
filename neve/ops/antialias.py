"""Resampling along an axis with antialias: the filter grows with the step, as Pillow's does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, as_index, call, cast, const, where
from neve.ir.types import Dim, DType, TensorType, dim, same
from neve.ops.base import Op, Sample
from neve.ops.checks import check, less, number
from neve.ops.samples import data, sample
from neve.ops.upsample import ratio, step

SUPPORT = {"bilinear": 1, "bicubic": 2, "lanczos": 3}
"""Half the filter's width, in cells of the coarser of both grids."""


@dataclass(frozen=True)
class UpsampleAntialias(Op):
    """out[…, o, …] = Σ_k w[o, k] · x[…, low[o] + k, …] along an axis, with ATen's windows and weights (`windows`,
    UpSampleKernel.cpp). An axis that keeps its size is copied, whatever the scale is. Cells outside of a window are not
    read: a NaN or Inf stays where the filter has it.

    taps: at least as many as a window has cells (see `taps`); scale: as ATen's scale arguments.
    """

    name = "upsample_antialias"
    axis: int
    output: Dim
    taps: Dim
    filter: str = "bilinear"
    align_corners: bool = False
    scale: float | None = None

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(x.dtype in (DType.float32, DType.float64), self, "float32 or float64", types)
        check(0 <= self.axis < x.rank and self.filter in SUPPORT, self, "an axis and a filter", types)
        check(not less(x.shape[self.axis], 1) and not less(self.output, 1), self, "sizes > 0", types)
        return (x.with_shape((*x.shape[: self.axis], self.output, *x.shape[self.axis + 1 :])),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        size = x.shape[self.axis]
        low, count, weight = windows(size, int(self.output), self.filter, self.align_corners, self.scale, x.dtype.type)
        total: Any = 0
        for k in range(weight.shape[1]):
            cells = np.moveaxis(x.take(np.minimum(low + k, size - 1), self.axis), self.axis, -1)
            with np.errstate(all="ignore"):
                total = total + np.where(k < count, cells.astype(np.float64) * weight[:, k], 0.0)
        return (np.moveaxis(total, -1, self.axis).astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)
        size, axis = x.shape[self.axis], self.axis
        if same(size, self.output):
            return (x,)
        low, count, weight = self.windows(b, size, x.dtype)

        def element(i: tuple[Index, ...], r: tuple[Index, ...]) -> Expr:
            o, (k,) = i[axis], r
            cell = call("minimum", call("add", low(o), FromIndex(k, DType.int64)), number(size - 1, DType.int64))
            read = call("mul", x(*i[:axis], as_index(cell, size), *i[axis + 1 :]), weight(o, k))
            return where(call("lt", FromIndex(k, DType.int64), count(o)), read, const(0.0, x.dtype))

        return (b.reduce("sum", out.shape, x.dtype, (self.taps,), element),)

    def windows(self, b: Builder, size: Dim, dtype: DType) -> tuple[Tensor, Tensor, Tensor]:
        """`windows`, as loops: low and count (output,), weights (output, taps)."""
        one, half, whole = const(1.0, dtype), const(0.5, dtype), DType.int64
        support = const(float(SUPPORT[self.filter]), dtype)
        r = self.step(size, dtype)
        wide = call("maximum", r, one)
        reach = call("mul", support, wide)
        kept = call("eq", number(size, whole), number(self.output, whole))  # sizes that turn out equal when it runs

        def center(o: Index) -> Expr:
            return call("mul", r, call("add", FromIndex(o, dtype), half))

        def first(o: Index) -> Expr:
            begin = cast(call("add", call("sub", center(o), reach), half), whole)
            return where(kept, FromIndex(o, whole), call("maximum", begin, const(0, whole)))

        low = b.compute((self.output,), whole, first)

        def cells(o: Index) -> Expr:
            end = cast(call("add", call("add", center(o), reach), half), whole)
            n = call("sub", call("minimum", end, number(size, whole)), low(o))
            n = call("minimum", call("maximum", n, const(0, whole)), number(self.taps, whole))
            return where(kept, const(1, whole), n)

        count = b.compute((self.output,), whole, cells)

        def raw(o: Index, k: Index) -> Expr:
            at = cast(call("add", low(o), FromIndex(k, whole)), dtype)
            place = call("mul", call("add", call("sub", at, center(o)), half), call("div", one, wide))
            inside = call("lt", FromIndex(k, whole), count(o))
            return where(inside, where(kept, one, weight_of(self.filter, place)), const(0.0, dtype))

        taps = b.compute((self.output, self.taps), dtype, raw)
        total = b.reduce("sum", (self.output,), dtype, (self.taps,), lambda i, k: taps(*i, *k))

        def weight(o: Index, k: Index) -> Expr:
            whole_sum = where(call("ne", total(o), const(0.0, dtype)), total(o), one)
            return call("div", taps(o, k), whole_sum)

        return low, count, b.compute((self.output, self.taps), dtype, weight)

    def step(self, size: Dim, dtype: DType) -> Expr:
        """Input cells an output cell."""
        if not self.align_corners:
            return step(size, self.output, self.scale, dtype)
        if isinstance(size, int) and isinstance(self.output, int):
            return const(float(ratio(size, self.output, None, True, dtype.numpy.type)), dtype)
        span = call("maximum", number(Index.of(self.output) - 1, dtype), const(1.0, dtype))
        several = call("lt", const(1, DType.int64), number(self.output, DType.int64))
        return where(several, call("div", number(Index.of(size) - 1, dtype), span), const(0.0, dtype))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axis, output, scale) in enumerate(
            [
                ((2, 3, 13, 9), 3, 5, None),
                ((2, 3, 13, 9), 2, 5, 0.4),
                ((1, 2, 4, 5), 2, 11, None),
                ((1, 2, 4, 5), 3, 5, 1.3),
                ((1, 2, 4, 7), 3, 1, None),
                ((1, 1, 1, 2), 2, 3, None),
                ((0, 2, 5, 4), 3, 2, None),
                ((1, 1, 100, 3), 2, 7, None),
            ]
        ):
            for name in SUPPORT:
                for align in (False, True):
                    n = taps(shape[axis], output, name, align, scale)
                    yield sample(cls(axis, output, n, name, align, scale), data(shape, seed=i))
        x = data((1, 2, 13, 4))
        x[0, 0, 3, 1], x[0, 1, 9, 2] = np.nan, np.inf
        yield sample(cls(2, 7, taps(13, 7, "bicubic"), "bicubic"), x)
        wide = data((1, 2, 13, 4), DType.float64)
        yield sample(cls(2, 7, taps(13, 7, "bilinear")), wide, dtypes=[DType.float64])


def taps(size: int, output: int, filter: str, align_corners: bool = False, scale: float | None = None) -> int:
    """How many cells a window has at most; their sizes may be known only when it runs, where the scale is given."""
    r = float(ratio(size, output, scale, align_corners, np.float32))
    return 2 * math.ceil(SUPPORT[filter] * max(r, 1.0)) + 1


def windows(
    size: int, output: int, filter: str, align_corners: bool, scale: float | None, real: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each output cell its first input cell, how many it reads, and their weights (output, taps); computed in the
    type `real`, as ATen does.
    """
    if size == output:
        return np.arange(output), np.ones(output, np.int64), np.ones((output, 1), real)
    r = ratio(size, output, scale, align_corners, real)
    wide = max(r, real(1))
    reach = real(SUPPORT[filter]) * wide
    n = 2 * math.ceil(reach) + 1
    center = r * (np.arange(output).astype(real) + real(0.5))
    low = np.maximum((center - reach + real(0.5)).astype(np.int64), 0)
    count = np.clip(np.minimum((center + reach + real(0.5)).astype(np.int64), size) - low, 0, n)
    k = np.arange(n)
    place = ((low[:, None] + k).astype(real) - center[:, None] + real(0.5)) * (real(1) / wide)
    raw = np.where(k < count[:, None], FILTERS[filter](np.abs(place)), real(0)).astype(real)
    total = np.cumsum(raw, 1, dtype=real)[:, -1:]  # in ATen's order
    return low, count, raw / np.where(total == 0, real(1), total)


def _cubic(d: np.ndarray) -> np.ndarray:
    near = (1.5 * d - 2.5) * d * d + 1
    return np.where(d < 1, near, np.where(d < 2, ((d - 5) * d + 8) * d * -0.5 + 2, 0))


FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bilinear": lambda d: np.maximum(1 - d, 0),
    "bicubic": _cubic,
    "lanczos": lambda d: np.where(d < 3, np.sinc(d) * np.sinc(d / 3), 0),
}
"""Weights at a distance, in cells of the coarser grid; bicubic has a = −½, as Pillow's, not −¾."""


def weight_of(filter: str, place: Expr) -> Expr:
    """`FILTERS`, as an expression of the signed distance."""
    dtype = place.dtype

    def c(x: float) -> Expr:
        return const(x, dtype)

    d = call("abs", place)
    if filter == "bilinear":
        return call("maximum", call("sub", c(1.0), d), c(0.0))
    if filter == "bicubic":
        near = call("mul", call("mul", call("sub", call("mul", c(1.5), d), c(2.5)), d), d)
        far = call("add", call("mul", call("sub", d, c(5.0)), d), c(8.0))
        far = call("add", call("mul", call("mul", far, d), c(-0.5)), c(2.0))
        far = where(call("lt", d, c(2.0)), far, c(0.0))
        return where(call("lt", d, c(1.0)), call("add", near, c(1.0)), far)

    def sinc(x: Expr) -> Expr:
        angle = call("mul", x, c(math.pi))
        zero = call("eq", x, c(0.0))
        return where(zero, c(1.0), call("div", call("sin", angle), where(zero, c(1.0), angle)))

    return where(call("lt", d, c(3.0)), call("mul", sinc(d), sinc(call("div", d, c(3.0)))), c(0.0))


def taps_of(size: Dim, output: Dim, filter: str, align_corners: bool) -> Dim:
    """As many as `taps` has at least, of symbolic sizes: ceil(SUPPORT · (1 + size / output)) on each side."""
    n = SUPPORT[filter]
    over, under = (Index.of(size) - 1, Index.of(output) - 1) if align_corners else (Index.of(size), Index.of(output))
    return dim(2 * ((n * (over + under) + under - 1) // under) + 1)
