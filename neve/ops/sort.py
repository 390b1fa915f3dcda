"""Sorting, selection and search along an axis. NaN counts as larger than everything, as in torch. Positions are
int64.

Of equal elements the order here is always that of the input. torch promises it for sort and argsort with stable=True;
there, and in median (the first place), it is also what torch gives. In sort without stable, topk and kthvalue torch's
order follows from its algorithm and the processor, and it documents none: the positions of equal elements may be others
in eager (`Op.open`), as may be the order of topk's values with sorted=False. The first maximum of argmax and max, the
last of cummax: `reduce.py`, `scan.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, as_index, call, cast, const, where
from neve.ir.types import Dim, DType, TensorType, dims, numel, same
from neve.ops.base import Op, Sample
from neve.ops.samples import FLOATS, INTS, data, sample
from neve.ops.scatter import C_TYPES
from neve.ops.shape import check_axes, permuted, positive, reshaped

Macros = dict[str, str | int | Dim]


def order_of(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """The stable order along axis; NaN last when ascending, first when descending."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    reverse = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return np.asarray(x.shape[axis] - 1 - reverse)


def tied(x: np.ndarray, axis: int, count: int | None = None, descending: bool = False) -> bool:
    """Whether any of the first `count` (default: all) in the order along axis is equal to another element there."""
    if not x.shape:
        return False
    ordered = np.moveaxis(np.take_along_axis(x, order_of(x, axis, descending), axis), axis, 0)
    equal = (ordered[1:] == ordered[:-1]) | ((ordered[1:] != ordered[1:]) & (ordered[:-1] != ordered[:-1]))
    return bool(equal[:count].any())


def rows_last(b: Builder, x: Tensor, axis: int) -> Tensor:
    """x as (rows, size of axis)."""
    order = [a for a in range(len(x.shape)) if a != axis]
    return reshaped(b, permuted(b, x, [*order, axis]), (numel(x.shape[a] for a in order), x.shape[axis]))


def rows_back(b: Builder, rows: Tensor, shape: tuple[Dim, ...], axis: int) -> Tensor:
    """What rows_last took apart, with the size of axis now that of rows' last axis."""
    order = [a for a in range(len(shape)) if a != axis]
    wide = reshaped(b, rows, (*(shape[a] for a in order), rows.shape[1]))
    back = [*order, axis]
    return permuted(b, wide, [back.index(a) for a in range(len(shape))])


def widened(b: Builder, x: Tensor) -> Tensor:
    """Half types as float32, which keeps their order; others as they are."""
    if x.dtype not in (DType.float16, DType.bfloat16):
        return x
    return b.compute(x.shape, DType.float32, lambda *i: cast(x(*i), DType.float32))


def narrowed(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    return x if x.dtype is dtype else b.compute(x.shape, dtype, lambda *i: cast(x(*i), dtype))


class _Ordering(Op):
    """Base: values and positions along axis, of a 0-d tensor itself and 0."""

    axis: int
    k: Dim
    descending: bool

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, max(x.rank, 1), self.axis)
        out = self.out_shape(x)
        return (x.with_shape(out), TensorType(dims(out), DType.int64))

    def out_shape(self, x: TensorType) -> tuple[Dim, ...]:
        return x.shape

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        values, _ = self.infer(x.type)
        if not x.shape:
            return (x, b.compute((), DType.int64, lambda: const(0, DType.int64)))
        if values.numel == 0:
            return (
                b.compute(values.shape, x.dtype, lambda *i: cast(const(0, DType.int64), x.dtype)),
                b.compute(values.shape, DType.int64, lambda *i: const(0, DType.int64)),
            )
        rows = rows_last(b, widened(b, x), self.axis)
        n, k = rows.shape[1], values.shape[self.axis]
        macros: Macros = {
            "T": C_TYPES[rows.dtype],
            "ROWS": rows.shape[0],
            "N": n,
            "K": k,
            "DESCENDING": str(int(self.descending)),
            "IS_FLOAT": str(int(rows.dtype.is_float)),
        }
        outs = (TensorType((rows.shape[0], k), rows.dtype), TensorType((rows.shape[0], k), DType.int64))
        sorted_, at = b.extern("sort.h", macros, (rows,), outs, scratch=n * (2 * rows.dtype.size + 16) + 64)
        back = [rows_back(b, t, x.shape, self.axis) for t in (sorted_, at)]
        return (narrowed(b, back[0], x.dtype), back[1])


@dataclass(frozen=True)
class Sort(_Ordering):
    """x sorted along axis, stably, and where each element was; stable: whether that is asked for."""

    name = "sort"
    axis: int
    descending: bool = False
    stable: bool = True

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if not x.shape:
            return (x, np.zeros((), np.int64))
        order = order_of(x, self.axis, self.descending).astype(np.int64)
        return (np.take_along_axis(x, order, self.axis), order)

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        return (False, not self.stable and tied(inputs[0], self.axis))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axis) in enumerate(
            (((3, 17), 1), ((9, 4), 0), ((2, 5, 3), 1), ((), 0), ((3, 0), 1), ((0, 3), 1), ((1,), 0), ((2, 300), 1))
        ):
            for descending in (False, True):
                yield Sample(cls(axis, descending), (data(shape, seed=i),))
        for dtype in (*FLOATS, *INTS, DType.bool):
            for descending in (False, True):
                yield sample(cls(1, descending), data((4, 20), dtype, edges=True), dtypes=[dtype])


@dataclass(frozen=True)
class TopK(_Ordering):
    """The k largest (or smallest) along axis, best first, and where they were; equal elements in their order.

    ordered: whether "best first" is asked for (torch's `sorted`).
    """

    name = "topk"
    k: Dim
    axis: int
    largest: bool = True
    ordered: bool = True

    @property
    def descending(self) -> bool:  # type: ignore[override]
        return self.largest

    def out_shape(self, x: TensorType) -> tuple[Dim, ...]:
        n = x.shape[self.axis] if x.rank else 1
        if not positive(self.k) or not positive(n - self.k):
            raise ValueError(f"topk of {self.k} along axis {self.axis} of {x}")
        return x.with_shape((*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :])).shape if x.rank else ()

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if not x.shape:
            return (x, np.zeros((), np.int64))
        order = order_of(x, self.axis, self.largest).astype(np.int64).take(range(self.k), self.axis)
        return (np.take_along_axis(x, order, self.axis), order)

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        (x,) = inputs
        if not self.ordered and x.shape and self.k != 1:
            return (True, True)
        count = self.k if isinstance(self.k, int) else None
        return (False, tied(x, self.axis, count, self.largest))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axis, k) in enumerate(
            (((3, 17), 1, 5), ((9, 4), 0, 1), ((2, 5, 3), 1, 5), ((), 0, 1), ((3, 4), 1, 0), ((2, 300), 1, 40))
        ):
            for largest in (False, True):
                yield Sample(cls(k, axis, largest), (data(shape, seed=i),))
        for dtype in (*FLOATS, *INTS):
            yield sample(cls(7, 1), data((4, 20), dtype, edges=True), dtypes=[dtype])


@dataclass(frozen=True)
class Kthvalue(Op):
    """The k-th smallest (k from 1) along axis, and where it is: of equal ones the k-th in their stable order."""

    name = "kthvalue"
    k: int
    axis: int
    keepdim: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, max(x.rank, 1), self.axis)
        n = x.shape[self.axis] if x.rank else 1
        if self.k < 1 or not positive(n - self.k):
            raise ValueError(f"kthvalue {self.k} along axis {self.axis} of {x}")
        out = picked_shape(x, self.axis, self.keepdim)
        return (x.with_shape(out), TensorType(out, DType.int64))

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(pick_row(t, self.axis, self.k - 1, self.keepdim) for t in Sort(self.axis).eval(*inputs))

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        return (False, tied(inputs[0], self.axis))

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        if not x.shape:
            return Sort(self.axis).lower(b, x)
        (out, _) = self.infer(x.type)
        both = TopK(self.k, self.axis, False).lower(b, x)

        def pick(t: Tensor) -> Tensor:
            return b.compute(
                out.shape,
                t.dtype,
                lambda *i: t(*(*i[: self.axis], Index.of(self.k - 1), *i[self.axis + int(self.keepdim) :])),
            )

        return tuple(pick(t) for t in both)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axis, k) in enumerate((((3, 17), 1, 5), ((9, 4), 0, 9), ((2, 5, 3), 1, 1), ((), 0, 1))):
            for keepdim in (False, True):
                yield Sample(cls(k, axis, keepdim), (data(shape, seed=i),))


def picked_shape(x: TensorType, axis: int, keepdim: bool) -> tuple[Dim, ...]:
    """x's shape without axis, or with 1 there."""
    return (*x.shape[:axis], *((1,) if keepdim and x.rank else ()), *x.shape[axis + 1 :])


def pick_row(x: np.ndarray, axis: int, k: int, keepdim: bool) -> np.ndarray:
    """x at position k of axis."""
    return x if not x.shape else x.take([k], axis) if keepdim else np.asarray(x.take(k, axis))


@dataclass(frozen=True)
class Median(Op):
    """The lower median along axis and where it is; NaN wins, or is left out if ignore_nan (nanmedian). Position of
    NaN: its first.
    """

    name = "median"
    axis: int
    keepdim: bool = False
    ignore_nan: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, max(x.rank, 1), self.axis)
        out = picked_shape(x, self.axis, self.keepdim)
        if x.rank and x.shape[self.axis] == 0 and 0 not in out:
            raise ValueError(f"median of no elements: axis {self.axis} of {x}")
        return (x.with_shape(out), TensorType(out, DType.int64))

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if not x.shape:
            return (x, np.zeros((), np.int64))
        shape = picked_shape(TensorType(x.shape, DType.float32), self.axis, self.keepdim)
        if 0 in shape:
            return (np.zeros(shape, x.dtype), np.zeros(shape, np.int64))
        values, order = Sort(self.axis).eval(x)
        nans = (x != x).sum(self.axis, keepdims=True)
        valid = x.shape[self.axis] - nans
        k = np.maximum(valid - 1, 0) // 2 if self.ignore_nan else np.where(nans > 0, valid, (valid - 1) // 2)
        return tuple(np.take_along_axis(t, k, self.axis).reshape(shape) for t in (values, order))

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        both = Sort(self.axis).lower(b, x)
        if not x.shape:
            return both
        out, _ = self.infer(x.type)
        n, axis, step = x.shape[self.axis], self.axis, int(self.keepdim)

        def at(i: tuple[Index, ...], k: Index) -> tuple[Index, ...]:
            return (*i[:axis], k, *i[axis + step :])

        size, one, zero, two = FromIndex(Index.of(n), DType.int64), *(const(v, DType.int64) for v in (1, 0, 2))
        nans = b.reduce(
            "sum", out.shape, DType.int64, (n,), lambda i, r: cast(call("isnan", x(*at(i, r[0]))), DType.int64)
        )

        def place(*i: Index) -> Index:
            valid = call("sub", size, nans(*i))
            half = call("floor_divide", call("maximum", call("sub", valid, one), zero), two)
            k: Expr = half if self.ignore_nan else where(call("gt", nans(*i), zero), valid, half)
            return as_index(call("minimum", k, FromIndex(Index.of(n) - 1, DType.int64)), n)

        def pick(t: Tensor) -> Tensor:
            return b.compute(out.shape, t.dtype, lambda *i: t(*at(i, place(*i))))

        return tuple(pick(t) for t in both)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axis) in enumerate((((3, 17), 1), ((8, 4), 0), ((2, 5, 3), 1), ((), 0), ((5,), 0))):
            for ignore in (False, True):
                yield Sample(cls(axis, bool(i % 2), ignore), (data(shape, seed=i),))
                yield Sample(cls(axis, bool(i % 2), ignore), (data(shape, seed=i, edges=True),))
        yield Sample(cls(0), (data((7, 3), DType.int64),))


@dataclass(frozen=True)
class Mode(Op):
    """The most frequent value along axis (of several the smallest) and the last place where it is; NaN equals
    nothing.
    """

    name = "mode"
    axis: int
    keepdim: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return Median(self.axis, self.keepdim).infer(*types)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if not x.shape:
            return (x, np.zeros((), np.int64))
        shape = picked_shape(TensorType(x.shape, DType.float32), self.axis, self.keepdim)
        rows = np.moveaxis(x, self.axis, -1)
        values, at = np.zeros(rows.shape[:-1], x.dtype), np.zeros(rows.shape[:-1], np.int64)
        for i in np.ndindex(*rows.shape[:-1]):
            counts = [(np.count_nonzero(rows[i] == v), -v) for v in rows[i]]
            values[i] = rows[i][max(range(len(counts)), key=counts.__getitem__)]
            at[i] = np.flatnonzero(rows[i] == values[i])[-1]
        return (values.reshape(shape), at.reshape(shape))

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        if not x.shape:
            return Sort(self.axis).lower(b, x)
        out, _ = self.infer(x.type)
        n, axis, step = x.shape[self.axis], self.axis, int(self.keepdim)
        sorted_, order = Sort(axis).lower(b, x)

        def at(i: tuple[Index, ...], k: Index) -> tuple[Index, ...]:
            return (*i[:axis], k, *i[axis + step :])

        counts = b.reduce(
            "sum",
            x.shape,
            DType.int64,
            (n,),
            lambda i, r: cast(
                call("eq", sorted_(*(r[0] if a == axis else k for a, k in enumerate(i))), sorted_(*i)), DType.int64
            ),
        )
        best = b.reduce("argmax", out.shape, DType.int64, (n,), lambda i, r: counts(*at(i, r[0])))

        def last(*i: Index) -> Index:
            k = as_index(best(*i), n)
            end = call("sub", call("add", best(*i), counts(*at(i, k))), const(1, DType.int64))
            return as_index(
                call("maximum", call("minimum", end, FromIndex(Index.of(n) - 1, DType.int64)), const(0, DType.int64)), n
            )

        return tuple(b.compute(out.shape, t.dtype, lambda *i, t=t: t(*at(i, last(*i)))) for t in (sorted_, order))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axis) in enumerate((((3, 17), 1), ((8, 4), 0), ((2, 5, 3), 1), ((), 0), ((5,), 0))):
            yield Sample(cls(axis, bool(i % 2)), (np.round(data(shape, seed=i)),))
        yield Sample(cls(1), (data((4, 30), DType.int64),))


@dataclass(frozen=True)
class Searchsorted(Op):
    """sorted (…, N) or (N), values → how many of sorted are less (right: less or equal), int64, by bisection (NaN is
    larger than all).
    """

    name = "searchsorted"
    right: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        s, values = types
        if (
            s.dtype is not values.dtype
            or not s.rank
            or (
                s.rank > 1
                and (
                    s.rank != values.rank
                    or not all(same(d, e) for d, e in zip(s.shape[:-1], values.shape[:-1], strict=True))
                )
            )
        ):
            raise ValueError(f"searchsorted of {values} in {s}")
        return (values.with_dtype(DType.int64),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        s, values = inputs
        side = "right" if self.right else "left"
        if s.ndim == 1:
            return (np.asarray(_search(s, values, side)),)
        out = np.zeros(values.shape, np.int64)
        for i in np.ndindex(*s.shape[:-1]):
            out[i] = _search(s[i], values[i], side)
        return (out,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        s, values = (widened(b, t) for t in inputs)
        if values.type.numel == 0:
            return (b.compute(values.shape, DType.int64, lambda *i: const(0, DType.int64)),)
        rows = numel(s.shape[:-1])
        columns: Dim = values.type.numel if len(s.shape) == 1 else values.shape[-1]
        macros: Macros = {
            "T": C_TYPES[s.dtype],
            "ROWS": rows,
            "N": s.shape[-1],
            "M": columns,
            "RIGHT": str(int(self.right)),
        }
        operands = (reshaped(b, s, (rows, s.shape[-1])), reshaped(b, values, (rows, columns)))
        (out,) = b.extern("searchsorted.h", macros, operands, (TensorType(dims((rows, columns)), DType.int64),))
        return (reshaped(b, out, values.shape),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for right in (False, True):
            yield Sample(cls(right), (np.sort(np.round(data((9,)))), np.round(data((3, 5), seed=1))))
            yield Sample(cls(right), (np.sort(np.round(data((2, 3, 7)))), np.round(data((2, 3, 4), seed=1))))
            yield Sample(cls(right), (np.sort(data((5,))), data((8,), edges=True)))
            yield Sample(cls(right), (np.sort(data((5,), DType.int64)), data((), DType.int64)))
            yield Sample(cls(right), (np.zeros(0, np.float32), data((3,))))


def _search(s: np.ndarray, values: np.ndarray, side: str) -> np.ndarray:
    """numpy's, but for NaN, which is beyond everything on both sides."""
    found = np.searchsorted(s, values, side)  # type: ignore[call-overload]
    return np.asarray(np.where(values != values, len(s), found)).astype(np.int64)
