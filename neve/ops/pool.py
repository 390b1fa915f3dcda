"""Pooling over the last 1 to 3 axes; any leading axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, call, cast, const
from neve.ir.types import Dim, DType, TensorType, dim
from neve.ops.base import Op, Sample
from neve.ops.checks import check, check_float, exact, less, number, wide, windows
from neve.ops.samples import FLOATS, data, sample
from neve.ops.windows import (
    Cell,
    Conditions,
    adaptive_access,
    adaptive_cells,
    adaptive_window,
    best_position,
    cell_sum,
    each_window,
    inside,
    largest,
    largest_of,
    position,
    specials,
)


@dataclass(frozen=True)
class MaxPool(Op):
    """The largest element of each window, NaN if there is one: x (…, spatial…) → (…, out…). Padding never wins.

    All tuples have one int a spatial axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    name: ClassVar[str] = "max_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(types[0].dtype is not DType.bool, self, "numbers", types)
        out = pool_shape(self, types, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode)
        return (types[0].with_shape(out),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (each_window(x, self.cells(x.shape), largest_of),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (largest(b, x, self.infer(x.type)[0].shape, self.kernel, *self.window(x)),)

    def window(self, x: Tensor) -> tuple[Cell, Conditions]:
        """Of the cells of an output position that lie inside x."""
        n = len(self.kernel)

        def cell(o: Sequence[Index], k: Sequence[Index]) -> list[Index]:
            return [
                i * s + j * d - p for i, s, j, d, p in zip(o, self.stride, k, self.dilation, self.padding, strict=True)
            ]

        return cell, lambda o, k: [(at, Index.of(size)) for at, size in zip(cell(o, k), x.shape[-n:], strict=True)]

    def cells(self, shape: Sequence[Any]) -> list[list[np.ndarray]]:
        """For each axis and output position the input positions of its window, for a static input shape."""
        axes = zip(shape[-len(self.kernel) :], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return [
            [
                inside(o * s - p + np.arange(k) * d, size)
                for o in range(int(windows(size, k, s, p, p, d, self.ceil_mode)))
            ]
            for size, k, s, p, d in axes
        ]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (attributes, shape) in enumerate(MAX_POOLS):
            x = data(shape, seed=i)
            yield sample(cls(*attributes), x)
            if x.size:
                yield sample(cls(*attributes), specials(x))
        for dtype in (*FLOATS[1:], DType.int64, DType.uint8):
            yield sample(cls((3, 2), (2, 2), (1, 0), (1, 1)), data((2, 3, 6, 7), dtype), dtypes=[dtype])


@dataclass(frozen=True)
class MaxPoolIndices(MaxPool):
    """Where MaxPool's values are in the flattened spatial axes of x (int64): the first largest, but the last NaN."""

    name: ClassVar[str] = "max_pool_indices"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        out = super().infer(*types)[0].with_dtype(DType.int64)
        if max(self.dilation) > 1 and types[0].is_static:
            found = all(at.size for axis in self.cells(types[0].shape) for at in axis)
            check(found, self, "windows that reach into the input", types)
        return (out,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (each_window(x, self.cells(x.shape), best_position, np.int64),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (position(b, x, super().lower(b, x)[0], self.kernel, *self.window(x)),)


@dataclass(frozen=True)
class AvgPool(Op):
    """The mean of each window: x (…, spatial…) → (…, out…).

    The divisor is divisor_override, else the cells inside the input with (count_include_pad) or without its padding.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    name: ClassVar[str] = "avg_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        check(self.divisor_override != 0, self, "a divisor other than 0", types)
        out = pool_shape(self, types, self.kernel, self.stride, self.padding, (1,) * len(self.kernel), self.ceil_mode)
        return (types[0].with_shape(out),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        size = x.shape[-len(self.kernel) :]
        axes = list(zip(size, self.kernel, self.stride, self.padding, strict=True))
        spans = [
            [(o * s - p, min(o * s - p + k, d + p)) for o in range(int(windows(d, k, s, p, p, 1, self.ceil_mode)))]
            for d, k, s, p in axes
        ]
        cells = [[inside(np.arange(*span), d) for span in spans[i]] for i, (d, _, _, _) in enumerate(axes)]

        def mean(w: np.ndarray, o: tuple[int, ...], _: object) -> np.ndarray:
            padded = np.prod([spans[axis][i][1] - spans[axis][i][0] for axis, i in enumerate(o)])
            return np.asarray(w.sum(1) / (self.divisor_override or (padded if self.count_include_pad else w.shape[1])))

        return (each_window(exact(x), cells, mean).astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        n, acc = len(self.kernel), wide(x.dtype)
        cell, conditions = MaxPool(self.kernel, self.stride, self.padding, (1,) * n, self.ceil_mode).window(x)
        # a window longer than the padded input has no cells beyond it
        over = [
            min(k, size + p) if isinstance(size, int) else k
            for k, size, p in zip(self.kernel, x.shape[-n:], self.padding, strict=True)
        ]
        total = cell_sum(b, x, self.infer(x.type)[0].shape, over, cell, conditions)
        return (
            b.compute(
                total.shape, x.dtype, lambda *i: cast(call("div", total(*i), self.divisor(x, i[-n:], acc)), x.dtype)
            ),
        )

    def divisor(self, x: Tensor, o: Sequence[Index], acc: DType) -> Expr:
        """The number of cells that the mean is over at an output position."""
        if self.divisor_override:
            return const(float(self.divisor_override), acc)
        out: Expr | None = None
        for i, size, k, s, p in zip(o, x.shape[-len(o) :], self.kernel, self.stride, self.padding, strict=True):
            begin, end = i * s - p, i * s - p + k
            last = Index.of(size) + (p if self.count_include_pad else 0)
            high, low = number(end, acc), number(begin, acc)
            if not (last - end.bound(upper=True)).nonnegative:
                high = call("minimum", high, number(last, acc))
            if not self.count_include_pad and p:
                low = call("maximum", low, const(0.0, acc))
            count = (
                number(end - begin, acc)
                if isinstance(high, FromIndex) and isinstance(low, FromIndex)
                else call("sub", high, low)
            )
            out = count if out is None else call("mul", out, count)
        assert out is not None
        return out

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (attributes, shape) in enumerate(AVG_POOLS):
            yield sample(cls(*attributes), data(shape, seed=i))
        yield sample(cls((2, 2), (1, 1), (0, 0)), data((1, 2, 5, 5), edges=True))
        for dtype in FLOATS[1:]:
            yield sample(cls((3, 2), (2, 2), (1, 0)), data((2, 3, 6, 7), dtype), dtypes=[dtype])


@dataclass(frozen=True)
class AdaptiveAvgPool(Op):
    """The mean of cells ⌊o·I/O⌋ … ⌈(o + 1)·I/O⌉ − 1 an axis: x (…, spatial…) → (…, *output)."""

    output: tuple[Dim, ...]
    name: ClassVar[str] = "adaptive_avg_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        return (types[0].with_shape(adaptive_shape(self, types, self.output)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (each_window(exact(x), adaptive_cells(x, self.output), lambda w, *_: w.mean(1)).astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        n, acc = len(self.output), wide(x.dtype)
        over, begin, length = adaptive_window(x, self.output)
        total = cell_sum(b, x, self.infer(x.type)[0].shape, over, *adaptive_access(begin, length))

        def element(*i: Index) -> Expr:
            count = Index.of(1)
            for size in length(i[-n:]):
                count = count * size
            return cast(call("div", total(*i), number(count, acc)), x.dtype)

        return (b.compute(total.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return adaptive_samples(cls, FLOATS[1:])


@dataclass(frozen=True)
class AdaptiveMaxPool(Op):
    """The largest of cells ⌊o·I/O⌋ … ⌈(o + 1)·I/O⌉ − 1 an axis, NaN if there is one: x (…, spatial…) → (…, *output)."""

    output: tuple[Dim, ...]
    name: ClassVar[str] = "adaptive_max_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        return (types[0].with_shape(adaptive_shape(self, types, self.output)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (each_window(x, adaptive_cells(x, self.output), largest_of),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        over, begin, length = adaptive_window(x, self.output)
        return (largest(b, x, self.infer(x.type)[0].shape, over, *adaptive_access(begin, length)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return adaptive_samples(cls, FLOATS[1:])


@dataclass(frozen=True)
class AdaptiveMaxPoolIndices(AdaptiveMaxPool):
    """Where AdaptiveMaxPool's values are in the flattened spatial axes (int64): the first largest, but the last NaN."""

    name: ClassVar[str] = "adaptive_max_pool_indices"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (super().infer(*types)[0].with_dtype(DType.int64),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (each_window(x, adaptive_cells(x, self.output), best_position, np.int64),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        over, begin, length = adaptive_window(x, self.output)
        return (position(b, x, super().lower(b, x)[0], over, *adaptive_access(begin, length)),)


def pool_shape(
    op: Op,
    types: tuple[TensorType, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> tuple[Dim, ...]:
    """The output shape, after checking the attributes."""
    n = len(kernel)
    check(len(types) == 1 and 1 <= n <= 3 and types[0].rank >= n, op, f"one input with {n} spatial axes", types)
    check(len(stride) == len(padding) == len(dilation) == n, op, "attributes of one length", types)
    check(min(kernel + stride + dilation) > 0, op, "kernel, stride and dilation > 0", types)
    check(
        all(0 <= 2 * p <= d * (k - 1) + 1 for p, k, d in zip(padding, kernel, dilation, strict=True)),
        op,
        f"padding between 0 and half the kernel (padding {padding}, kernel {kernel})",
        types,
    )
    out: list[Dim] = []
    for d, k, s, p, dil in zip(types[0].shape[-n:], kernel, stride, padding, dilation, strict=True):
        check(not less(d, 1), op, "spatial sizes > 0", types)
        out.append(windows(d, k, s, p, p, dil, ceil_mode))
        check(not less(out[-1], 1), op, f"an input no smaller than the kernel {kernel}", types)
    return (*types[0].shape[:-n], *out)


def adaptive_shape(op: Op, types: tuple[TensorType, ...], output: tuple[Dim, ...]) -> tuple[Dim, ...]:
    n = len(output)
    check(len(types) == 1 and 1 <= n <= 3 and types[0].rank >= n, op, f"one input with {n} spatial axes", types)
    check(not any(less(dim(d), 1) for d in types[0].shape[-n:]), op, "spatial sizes > 0", types)
    return (*types[0].shape[:-n], *output)


def adaptive_samples(cls: Callable[[tuple[Dim, ...]], Op], dtypes: Sequence[DType]) -> Iterator[Sample]:
    for i, (shape, output) in enumerate(
        [
            ((2, 3, 8, 6), (4, 2)),
            ((1, 2, 7, 5), (3, 4)),
            ((2, 7, 7), (1, 1)),
            ((2, 2, 3, 4), (5, 9)),
            ((2, 3, 9), (4,)),
            ((3, 5, 4, 6), (2, 4, 1)),
            ((0, 2, 5, 5), (2, 2)),
            ((2, 5, 5), (5, 5)),
            ((1, 2, 4, 4), (0, 2)),
        ]
    ):
        yield sample(cls(output), data(shape, seed=i))
    yield sample(cls((2, 3)), specials(data((2, 5, 5))))
    for dtype in dtypes:
        yield sample(cls((3, 2)), data((2, 7, 4), dtype), dtypes=[dtype])


MAX_POOLS: list[tuple[tuple[Any, ...], tuple[int, ...]]] = [
    (((3, 3), (2, 2), (1, 1), (1, 1)), (2, 3, 8, 9)),
    (((2, 2), (2, 2), (0, 0), (1, 1), True), (1, 2, 7, 5)),
    (((3, 2), (3, 2), (1, 1), (2, 1), True), (1, 2, 10, 6)),
    (((3, 3), (1, 1), (1, 1), (1, 1), True), (2, 5, 4)),
    (((3,), (2,), (1,), (1,)), (2, 3, 9)),
    (((2,), (3,), (1,), (3,), True), (3, 11)),
    (((2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1)), (1, 2, 4, 5, 6)),
    (((2, 2), (2, 2), (0, 0), (1, 1)), (0, 2, 4, 4)),
    (((1, 1), (4, 4), (0, 0), (1, 1), True), (1, 1, 6, 5)),
]

AVG_POOLS: list[tuple[tuple[Any, ...], tuple[int, ...]]] = [
    (((3, 3), (2, 2), (1, 1)), (2, 3, 8, 9)),
    (((3, 3), (2, 2), (1, 1), False, False), (2, 3, 8, 9)),
    (((2, 3), (2, 2), (1, 1), True), (1, 2, 7, 6)),
    (((3, 2), (2, 3), (1, 1), True, False), (1, 2, 8, 5)),
    (((3, 3), (2, 2), (1, 1), True, False, 5), (1, 2, 8, 8)),
    (((2, 2), (2, 2), (0, 0), True), (1, 1, 5, 5)),
    (((2, 2), (2, 2), (0, 0), False, True, -3), (2, 5, 5)),
    (((3,), (2,), (1,), True), (2, 3, 8)),
    (((4,), (1,), (2,), False, False), (2, 3, 8)),
    (((2, 3, 2), (2, 1, 2), (1, 1, 0), True, False), (1, 2, 4, 5, 5)),
    (((2, 2), (2, 2), (0, 0)), (0, 2, 4, 4)),
]
