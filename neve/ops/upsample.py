"""Resampling x (N, C, spatial…) to a given size: nearest, linear and cubic interpolation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import product
from typing import Any, ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, as_index, call, cast, const
from neve.ir.types import Dim, DType, TensorType, same
from neve.ops.base import Op, Sample
from neve.ops.checks import check, check_float, exact, less, number, wide
from neve.ops.samples import FLOATS, data, sample

Scales = tuple[float | None, ...]
Sides = tuple[tuple[Index, Expr], tuple[Index, Expr]]
"""Along one axis, the two cells around an output position, each with its weight."""
LANES = 8
"""The least number of channels that ATen's x86 kernels put into a vector."""
SMALL = 128
"""The greatest sum of two output sizes for which ATen looks at whether sizes stay or double (its vectorized kernel)."""


@dataclass(frozen=True)
class UpsampleNearest(Op):
    """out[o] = x[min(⌊o·s⌋, size − 1)], with exact ⌊(o + ½)·s⌋; s = 1 / scale, or size / output without a scale.

    Positions are computed in float32 (float64 for a float64 x), as in ATen. Without exact, over two axes of a
    small output (at most 128 in sum), ATen copies an axis that keeps its size, and repeats each cell of one that
    doubles, whatever the scale is; if x is channels last in memory, for other outputs too, which is not promised.
    output: one dim a spatial axis; scales: () or one a spatial axis, as ATen's scale arguments.
    """

    output: tuple[Dim, ...]
    scales: Scales = ()
    exact: bool = False
    name: ClassVar[str] = "upsample_nearest"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (check_resize(self, types, self.output, self.scales, (1, 2, 3)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        real = np.float64 if x.dtype == np.float64 else np.float32
        small = not self.exact and len(self.output) == 2 and sum(map(int, self.output)) <= SMALL
        for axis, (size, out, scale) in enumerate(axes_of(x.shape, self.output, self.scales), 2):
            times = out // size if small and out in (size, 2 * size) else None
            cells = np.arange(out) // times if times else nearest(size, out, scale, self.exact, real)
            x = x.take(cells, axis)
        return (x,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """A view where whole-number arithmetic gives the same cells, else positions computed as eager does."""
        (x,) = inputs
        (out,) = self.infer(x.type)
        axes = axes_of(x.shape, self.output, self.scales)

        def element(n: Index, c: Index, *o: Index) -> Expr:
            return x(n, c, *(self.source(i, *axis, x.dtype) for i, axis in zip(o, axes, strict=True)))

        return (b.compute(out.shape, out.dtype, element),)

    def source(self, o: Index, size: Dim, out: Dim, scale: float | None, dtype: DType) -> Index:
        acc = DType.float64 if dtype is DType.float64 else DType.float32
        odd = not self.exact and len(self.output) == 2 and scale is not None and scale not in (1.0, 2.0)
        if not odd or (isinstance(size, int) and isinstance(out, int) and out not in (size, 2 * size)):
            whole = whole_source(o, size, out, scale, self.exact, acc)
            if whole is not None:
                return whole
        place = call("mul", plus_half(o, acc) if self.exact else FromIndex(o, acc), step(size, out, scale, acc))
        last = number(Index.of(size) - 1, DType.int64)
        cell = call("minimum", cast(call("floor", place), DType.int64), last)
        return as_index(self._repeated(o, size, out, cell) if odd else cell, size)

    def _repeated(self, o: Index, size: Dim, out: Dim, cell: Expr) -> Expr:
        """The cell, but o or o // 2 where a small output is as large or twice as large as x along this axis."""
        total = sum((Index.of(d) for d in self.output), Index.of(0))
        small = call("le", number(total, DType.int64), const(SMALL, DType.int64))
        for times in (1, 2):
            hit = call("eq", number(out, DType.int64), number(Index.of(size) * times, DType.int64))
            cell = call("where", call("logical_and", small, hit), FromIndex(o // times, DType.int64), cell)
        return cell

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for exactly in (False, True):
            for i, (shape, output, scales) in enumerate(RESIZES):
                yield sample(cls(output, scales, exactly), data(shape, seed=i, edges=i == 1))
            for dtype in (*FLOATS[1:], DType.uint8):
                yield sample(cls((7, 3), (), exactly), data((1, 2, 5, 4), dtype), dtypes=[dtype])


@dataclass(frozen=True)
class UpsampleLinear(Op):
    """Linear, bilinear or trilinear interpolation, by the number of spatial axes.

    output: one dim a spatial axis; scales: () or one a spatial axis, as ATen's scale arguments.
    """

    output: tuple[Dim, ...]
    align_corners: bool = False
    scales: Scales = ()
    name: ClassVar[str] = "upsample_linear"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        return (check_resize(self, types, self.output, self.scales, (1, 2, 3)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        if keeps_size(inputs[0].shape, self.output):
            return (inputs[0],)
        x = exact(inputs[0])
        for axis, (size, out, scale) in enumerate(axes_of(x.shape, self.output, self.scales), 2):
            place = np.maximum(places(size, out, scale, self.align_corners, inputs[0].dtype), 0)
            low = np.minimum(np.floor(place), size - 1).astype(np.int64)
            part = np.clip(place - low, 0, 1)
            if size == out:
                low, part = np.arange(out), np.zeros(out)
            weight = part.reshape(-1, *[1] * (x.ndim - 1 - axis))
            with np.errstate(all="ignore"):
                x = x.take(low, axis) * (1 - weight) + x.take(np.minimum(low + 1, size - 1), axis) * weight
        return (x.astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All corners of the cell, weighted, in the order of ATen's two kernels, fused as its compiler fuses them.

        ATen sums the corners with products of weights where a thread is alone or the output small, else one axis after
        the other. The orders were found by comparing bits with torch 2.13's x86 wheels, AVX2 and AVX-512.
        """
        (x,) = inputs
        (out,) = self.infer(x.type)
        if keeps_size(x.shape, self.output):
            return (b.compute(out.shape, x.dtype, x),)
        acc = wide(x.dtype)
        axes = [self.neighbours(b, *axis, acc) for axis in axes_of(x.shape, self.output, self.scales)]

        def element(n: Index, c: Index, *o: Index) -> Expr:
            sides = [self.sides(axis, i, x.dtype) for axis, i in zip(axes, o, strict=True)]

            def corner(*cells: Index) -> Expr:
                return cast(x(n, c, *cells), acc)

            if small(self.output):
                return cast(self.corners(sides, corner, x.shape[1]), x.dtype)
            return cast(self.nested(sides, corner), x.dtype)

        return (b.compute(out.shape, x.dtype, element),)

    @staticmethod
    def corners(sides: Sequence[Sides], corner: Callable[..., Expr], channels: Dim) -> Expr:
        """Σ corner · (product of weights) over two axes; in another order where channels fill a vector."""
        (top, bottom), (left, right) = sides
        all_ = [(top, left), (top, right), (bottom, left), (bottom, right)]
        order = (1, 0, 2, 3) if isinstance(channels, int) and channels < LANES else (2, 3, 1, 0)
        total: Expr | None = None
        for (h, wh), (w, ww) in (all_[i] for i in order):
            weight = call("mul", wh, ww)
            total = call("fma", corner(h, w), weight, total) if total else call("mul", corner(h, w), weight)
        assert total is not None
        return total

    @classmethod
    def nested(cls, sides: Sequence[Sides], corner: Callable[..., Expr]) -> Expr:
        """Two taps along the first axis, each of them such a blend along the others."""
        if not sides:
            return corner()
        return taps_sum([(cls.nested(sides[1:], partial(corner, cell)), weight) for cell, weight in sides[0]])

    def sides(self, axis: tuple[Any, Any, Any], o: Index, dtype: DType) -> Sides:
        """The two cells around an output position along an axis, each with its weight."""
        low, high, part = axis
        keep = (lambda w: w) if small(self.output) else partial(stored, dtype=dtype)
        weight = keep(part(o))
        return (low(o), keep(call("sub", const(1.0, weight.dtype), weight))), (high(o), weight)

    def neighbours(self, b: Builder, size: Dim, out: Dim, scale: float | None, acc: DType) -> tuple[Any, Any, Any]:
        """Functions of an output position: the cells to both sides, and the weight of the second."""
        if same(size, out):
            return (lambda o: o), (lambda o: o), (lambda o: const(0.0, acc))
        last = number(Index.of(size) - 1, DType.int64)

        def position(o: Index) -> Expr:
            there = call("maximum", place_of(o, size, out, scale, self.align_corners, acc), const(0.0, acc))
            if not scale or self.align_corners or (Index.of(size) - out).const is not None:
                return there
            # sizes that turn out equal at run time: ATen then copies along the axis, whatever the scale is
            kept = call("eq", number(size, DType.int64), number(out, DType.int64))
            return call("where", kept, FromIndex(o, acc), there)

        place = b.compute((out,), acc, position)
        low = b.compute(
            (out,), DType.int64, lambda o: call("minimum", cast(call("floor", place(o)), DType.int64), last)
        )
        high = b.compute(
            (out,), DType.int64, lambda o: call("minimum", call("add", low(o), const(1, DType.int64)), last)
        )
        part = b.compute(
            (out,), acc, lambda o: call("minimum", call("sub", place(o), cast(low(o), acc)), const(1.0, acc))
        )
        return (lambda o: as_index(low(o), size)), (lambda o: as_index(high(o), size)), part

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return interpolations(cls, RESIZES)


@dataclass(frozen=True)
class UpsampleBicubic(Op):
    """Cubic convolution (a = −¾) over two axes, edges replicated; attributes as UpsampleLinear."""

    output: tuple[Dim, ...]
    align_corners: bool = False
    scales: Scales = ()
    name: ClassVar[str] = "upsample_bicubic"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        return (check_resize(self, types, self.output, self.scales, (2,)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = exact(inputs[0])
        for axis, (size, out, scale) in enumerate(axes_of(x.shape, self.output, self.scales), 2):
            place = places(size, out, scale, self.align_corners, inputs[0].dtype)
            low = np.minimum(np.floor(place), size - 1).astype(np.int64)
            weights = cubic_weights(np.clip(place - low, 0, 1))
            taps = [
                x.take(np.clip(low + j - 1, 0, size - 1), axis) * w.reshape(-1, *[1] * (x.ndim - 1 - axis))
                for j, w in enumerate(weights)
            ]
            x = sum(taps[1:], taps[0])
        return (x.astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Σ over four taps of cell · weight, along the last axis, then along the one before it."""
        (x,) = inputs
        acc = wide(x.dtype)
        (h, oh, sh), (w, ow, sw) = axes_of(x.shape, self.output, self.scales)
        n, c = x.shape[:2]
        across, down = self.taps(b, w, ow, sw, x.dtype), self.taps(b, h, oh, sh, x.dtype)
        rows = b.compute(
            (n, c, h, ow),
            acc,
            lambda *i: taps_sum(
                [(cast(x(*i[:3], as_index(cell(i[3]), w)), acc), weight(i[3])) for cell, weight in across]
            ),
        )
        return (
            b.compute(
                (n, c, oh, ow),
                x.dtype,
                lambda *i: cast(
                    taps_sum([(rows(*i[:2], as_index(cell(i[2]), h), i[3]), weight(i[2])) for cell, weight in down]),
                    x.dtype,
                ),
            ),
        )

    def taps(self, b: Builder, size: Dim, out: Dim, scale: float | None, dtype: DType) -> list[tuple[Tensor, Tensor]]:
        """The four cells that an output position reads, and their weights."""
        acc = wide(dtype)
        last, one = number(Index.of(size) - 1, DType.int64), const(1.0, acc)
        place = b.compute((out,), acc, lambda o: place_of(o, size, out, scale, self.align_corners, acc))
        low = b.compute(
            (out,), DType.int64, lambda o: call("minimum", cast(call("floor", place(o)), DType.int64), last)
        )
        part = b.compute((out,), acc, lambda o: call("minimum", call("sub", place(o), cast(low(o), acc)), one))

        def tap(k: int) -> tuple[Tensor, Tensor]:
            def cell(o: Index) -> Expr:
                there = call("add", low(o), const(k - 1, DType.int64))
                return call("maximum", call("minimum", there, last), const(0, DType.int64))

            return b.compute((out,), DType.int64, cell), b.compute(
                (out,), acc, lambda o: stored(cubic_weight(part(o), k), dtype)
            )

        return [tap(k) for k in range(4)]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return interpolations(cls, [r for r in RESIZES if len(r[1]) == 2])


def check_resize(
    op: Op, types: tuple[TensorType, ...], output: tuple[Dim, ...], scales: Scales, ranks: tuple[int, ...]
) -> TensorType:
    """The output type, after checking the attributes."""
    n = len(output)
    wanted = f"x (N, C, spatial…) with {' or '.join(map(str, ranks))} spatial axes"
    check(len(types) == 1 and n in ranks and types[0].rank == n + 2, op, wanted, types)
    check(types[0].dtype is not DType.bool, op, "numbers", types)
    check(len(scales) in (0, n), op, f"{n} scales or none", types)
    check(
        not any(less(d, 1) for d in (*types[0].shape[2:], *output)), op, f"spatial sizes > 0 (output {output})", types
    )
    return types[0].with_shape((*types[0].shape[:2], *output))


def axes_of(shape: Sequence[Any], output: Sequence[Any], scales: Scales) -> list[tuple[Any, Any, float | None]]:
    """(size, output size, scale) of each spatial axis."""
    return list(zip(shape[2:], output, scales or (None,) * len(output), strict=True))


def small(output: Sequence[Dim]) -> bool:
    """Whether ATen uses its kernel for small outputs of two axes, whatever the number of threads."""
    return len(output) == 2 and all(isinstance(d, int) for d in output) and not less(SMALL, sum(output))


def keeps_size(shape: Sequence[Any], output: Sequence[Any]) -> bool:
    """Whether no spatial axis changes: ATen's linear interpolation then copies, whatever the scales are."""
    return all(same(a, b) for a, b in zip(shape[2:], output, strict=True))


def ratio(size: int, out: int, scale: float | None, align_corners: bool, dtype: Any) -> Any:
    """Input cells an output cell, as ATen's area_pixel_compute_scale."""
    if align_corners:
        return dtype(size - 1) / dtype(out - 1) if out > 1 else dtype(0)
    return dtype(1.0 / scale) if scale else dtype(size) / dtype(out)


def places(size: int, out: int, scale: float | None, align_corners: bool, dtype: Any) -> np.ndarray:
    """Where output cells lie in the input, as ATen's area_pixel_compute_source_index without its clamp at 0."""
    real: Any = np.float64 if dtype == np.float64 else np.float32
    r, o = ratio(size, out, scale, align_corners, real), np.arange(out).astype(real)
    return np.asarray(r * o if align_corners else r * (o + real(0.5)) - real(0.5)).astype(np.float64)


def nearest(size: int, out: int, scale: float | None, exactly: bool, real: Any) -> np.ndarray:
    """The input cell of each output cell."""
    o = np.arange(out).astype(real) + real(0.5 if exactly else 0)
    cells = np.floor(o * ratio(size, out, scale, False, real)).astype(np.int64)
    return np.asarray(np.minimum(cells, size - 1))


def step(size: Dim, out: Dim, scale: float | None, acc: DType) -> Expr:
    """`ratio` without align_corners, as an expression."""
    if scale:
        return const(float(acc.numpy.type(1.0 / scale)), acc)
    if isinstance(size, int) and isinstance(out, int):
        return const(float(ratio(size, out, None, False, acc.numpy.type)), acc)
    return call("div", number(size, acc), number(out, acc))


def plus_half(o: Index, acc: DType) -> Expr:
    return call("add", FromIndex(o, acc), const(0.5, acc))


def place_of(o: Index, size: Dim, out: Dim, scale: float | None, align_corners: bool, acc: DType) -> Expr:
    """`places`, as an expression."""
    if not align_corners:
        return call("fma", step(size, out, scale, acc), plus_half(o, acc), const(-0.5, acc))
    if isinstance(size, int) and isinstance(out, int):
        r = const(float(ratio(size, out, None, True, acc.numpy.type)), acc)
    else:
        span = call("maximum", number(Index.of(out) - 1, acc), const(1.0, acc))
        r = call("div", number(Index.of(size) - 1, acc), span)
    return call("mul", r, FromIndex(o, acc))


def whole_source(o: Index, size: Dim, out: Dim, scale: float | None, exactly: bool, acc: DType) -> Index | None:
    """The source cell as ⌊o·p/q⌋ (⌊(2o + 1)·p/2q⌋ if exactly) where that equals eager's arithmetic, else None."""
    share = Fraction(1.0 / scale).limit_denominator(4096) if scale else fraction(size, out)
    if share is None or not agrees(share, out if isinstance(out, int) else 1 << 22, scale, exactly, acc):
        return None
    p, q = (share.numerator, share.denominator * 2) if exactly else (share.numerator, share.denominator)
    index = (o * 2 + 1) * p // q if exactly else o * p // q
    if isinstance(size, int) and isinstance(out, int):
        last = (2 * out - 1) * p // q if exactly else (out - 1) * p // q
        return index if last < size else None
    return index if (Index.of(size) - 1 - index.bound(upper=True)).nonnegative else None


@lru_cache
def agrees(ratio: Fraction, n: int, scale: float | None, exactly: bool, acc: DType) -> bool:
    """Whether floor((o [+ ½]) · ratio) is the same in whole numbers and in floating point for all o < n."""
    real, p, q = acc.numpy.type, ratio.numerator, ratio.denominator
    r = real(1.0 / scale) if scale else real(p) / real(q)
    o = np.arange(n)
    places = np.floor((o.astype(real) + real(0.5 if exactly else 0)) * r).astype(np.int64)
    return np.array_equal(places, (2 * o + 1) * p // (2 * q) if exactly else o * p // q)


def fraction(size: Dim, out: Dim) -> Fraction | None:
    """size / out if that is a number."""
    if out == 0:
        return Fraction(1)
    terms = Index.of(size).terms, Index.of(out).terms
    ratios = {Fraction(terms[0].get(k, 0), terms[1].get(k) or 1) for k in terms[1]}
    return ratios.pop() if len(ratios) == 1 and terms[0].keys() <= terms[1].keys() else None


def cubic_weights(t: np.ndarray) -> list[np.ndarray]:
    """Weights of the cells at −1, 0, 1, 2 from the cell before a position t after it: cubic convolution with a = −¾."""
    a = -0.75
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (t + 1, 2 - t)]
    return [far[0], near[0], near[1], far[1]]


def cubic_weight(part: Expr, tap: int) -> Expr:
    """The same, of cell tap − 1 from the one before the position; rounded as ATen's compiler rounds it."""
    acc = part.dtype

    def c(x: float) -> Expr:
        return const(x, acc)

    d = part if tap < 2 else call("sub", c(1.0), part)
    if tap in (1, 2):
        cube = call("mul", call("mul", call("fma", d, c(1.25), c(-2.25)), d), d)
        return call("add", cube, c(1.0))
    d = call("add", d, c(1.0))
    cube = call("mul", call("fma", call("fma", d, c(-0.75), c(3.75)), d, c(-6.0)), d)
    return call("add", cube, c(3.0))


def taps_sum(taps: Sequence[tuple[Expr, Expr]]) -> Expr:
    """Σ cell · weight, fused as ATen's compiler fuses it: the second product is the one that is rounded."""
    first, second, *rest = taps
    total = call("fma", *first, call("mul", *second))
    for cell, weight in rest:
        total = call("fma", cell, weight, total)
    return total


def stored(weight: Expr, dtype: DType) -> Expr:
    """A weight as ATen's general kernel keeps it: in x's type, though it computes in a wider one."""
    return cast(cast(weight, dtype), weight.dtype)


def interpolations(cls: Callable[..., Op], resizes: Sequence[Resize]) -> Iterator[Sample]:
    for (i, (shape, output, scales)), align in product(enumerate(resizes), (False, True)):
        yield sample(cls(output, align, () if align else scales), data(shape, seed=i))
    for dtype in FLOATS[1:]:
        yield sample(cls((7, 3)), data((1, 2, 5, 4), dtype), dtypes=[dtype])


Resize = tuple[tuple[int, ...], tuple[int, ...], Scales]
RESIZES: list[Resize] = [
    ((1, 2, 4, 5), (8, 10), ()),
    ((2, 3, 4, 5), (8, 15), (2.0, 3.0)),
    ((1, 2, 7, 5), (3, 9), ()),
    ((1, 2, 6, 9), (9, 10), (1.5, 1.2)),
    ((1, 1, 5, 5), (5, 5), ()),
    ((1, 1, 6, 5), (1, 1), ()),
    ((1, 1, 1, 1), (3, 4), ()),
    ((0, 2, 3, 3), (6, 6), ()),
    ((2, 3, 7), (14,), ()),
    ((1, 2, 13), (29,), (2.3,)),
    ((1, 2, 3, 4, 2), (6, 5, 2), ()),
    ((1, 2, 4, 6), (4, 12), (1.15, 2.1)),
    ((1, 1, 4, 60), (4, 126), (1.15, 2.1)),
    ((1, 1, 4, 6), (4, 126), (1.15, 21.0)),
    ((1, 1, 4), (4,), (1.15,)),
    ((1, 1, 4, 6, 5), (4, 12, 11), (1.15, 2.1, 2.3)),
    ((1, 1, 4, 6, 30), (4, 12, 240), (1.15, 2.1, 8.0)),
    ((1, 1, 4, 6, 31), (4, 12, 241), (1.15, 2.1, 7.8)),
]
