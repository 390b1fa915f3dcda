"""Writes at positions that are data. `eval` raises IndexError for one out of range; compiled code, where a check before
it ends the call, skips it.

Written serially along the index: of several writes to one place the last wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, as_index, call, cast, const, guard, where
from neve.ir.types import Dim, DType, TensorType, broadcast, numel, same
from neve.ops.base import Op, Sample
from neve.ops.index import (
    INDEXINGS,
    check_indices,
    check_range,
    index_tensors,
    indexed_shape,
    numpy_key,
    positive_difference,
)
from neve.ops.samples import FLOATS, INTS, data, sample
from neve.ops.shape import check_axes, permuted, reshaped

REDUCTIONS = ("none", "sum", "prod", "amax", "amin", "mean")


@dataclass(frozen=True)
class Scatter(Op):
    """x, index, src: x with x[…, index[i, j, …] at dim, …] = src[i, j, …] (reduce "none": aten.scatter.src) or
    reduced with it
    ("sum", "prod", "amax", "amin", "mean": scatter_add, scatter_reduce). include_self: the old value takes part. src
    is at least as
    large as index on each axis; 0-d tensors count as 1-d.
    """

    name = "scatter"
    dim: int
    reduce: str = "none"
    include_self: bool = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, index, src = types
        check_indices(self, index)
        check_axes(self, max(x.rank, 1), self.dim)
        if (
            self.reduce not in REDUCTIONS
            or x.dtype is not src.dtype
            or (x.dtype is DType.bool and self.reduce not in ("none", "sum", "prod", "amax", "amin"))
        ):
            raise ValueError(f"scatter {self.reduce} of {src} into {x}")
        ranks = {max(t.rank, 1) for t in types}
        fits = (
            len(ranks) == 1
            and all(positive_difference(d, e) for d, e in zip(src.shape or (1,), index.shape or (1,), strict=True))
            and all(
                a == self.dim or positive_difference(d, e)
                for a, (d, e) in enumerate(zip(x.shape or (1,), index.shape or (1,), strict=True))
            )
        )
        if not fits and index.numel != 0:
            raise ValueError(f"scatter of {src} by {index} into {x} along {self.dim}")
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, index, src = (np.atleast_1d(v) for v in inputs)
        if index.size == 0:
            return (inputs[0],)
        index = check_range(index, x.shape[self.dim])
        out = x.copy()
        touched: dict[tuple[int, ...], list[Any]] = {}
        for at in np.ndindex(*index.shape):
            to = (*at[: self.dim], int(index[at]), *at[self.dim + 1 :])
            touched.setdefault(to, [x[to]] if self.include_self and self.reduce != "none" else []).append(src[at])
        for to, values in touched.items():
            out[to] = _fold(self.reduce, np.array(values))
        return (out.reshape(inputs[0].shape),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, index, src = inputs
        if not x.shape or not index.shape or not src.shape:
            one = [reshaped(b, t, t.shape or (1,)) for t in inputs]
            return (reshaped(b, Scatter(0, self.reduce, self.include_self).lower(b, *one)[0], x.shape),)
        if index.type.numel == 0:
            return (x,)
        rest = [a for a in range(len(x.shape)) if a != self.dim]
        order = [*rest, self.dim]
        lanes, m = numel(x.shape[a] for a in rest), index.shape[self.dim]
        shape = [*(x.shape[a] for a in rest), m]

        def inside(i: tuple[Index, ...]) -> list[tuple[Index, Index]]:
            return [(k, Index.of(index.shape[a])) for k, a in zip(i, rest, strict=False)]

        def source(i: tuple[Index, ...]) -> tuple[Index, ...]:
            at = dict(zip(order, i, strict=True))
            return tuple(at[a] for a in range(len(order)))

        to = b.compute(
            shape,
            DType.int64,
            lambda *i: guard(inside(i), cast(index(*source(i)), DType.int64), const(-1, DType.int64)),
        )
        values = b.compute(shape, x.dtype, lambda *i: guard(inside(i), src(*source(i)), _zero(x.dtype)))
        flat_x = reshaped(b, permuted(b, x, order), (lanes, x.shape[self.dim], 1))
        out = scatter_kernel(
            b, flat_x, reshaped(b, to, (lanes, m)), reshaped(b, values, (lanes, m, 1)), self.reduce, self.include_self
        )
        back = [order.index(a) for a in range(len(order))]
        return (permuted(b, reshaped(b, out, [*(x.shape[a] for a in rest), x.shape[self.dim]]), back),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, index, src, dim) in enumerate(
            (
                ((5, 4), (3, 4), (3, 4), 0),
                ((3, 6), (2, 5), (3, 7), 1),
                ((2, 5, 3), (2, 4, 2), (2, 4, 3), 1),
                ((), (), (), 0),
                ((5,), (0,), (3,), 0),
            )
        ):
            for reduce in REDUCTIONS:
                for include_self in (True, False) if reduce != "none" else (True,):
                    op = cls(dim, reduce, include_self)
                    yield Sample(
                        op,
                        (
                            data(shape, seed=i),
                            _indices(index, shape[dim] if shape else 1, dim, reduce),
                            data(src, seed=i + 1),
                        ),
                    )
        for dtype in (*FLOATS, *INTS, DType.bool):
            for reduce in REDUCTIONS:
                if dtype is not DType.bool or reduce == "none":
                    arrays = (
                        data((3, 6), dtype, seed=1, edges=True),
                        _indices((3, 5), 6, 1, reduce),
                        data((3, 5), dtype, seed=2, edges=True),
                    )
                    yield sample(cls(1, reduce), *arrays, dtypes=[dtype, DType.int64, dtype])


def _zero(dtype: DType) -> Expr:
    return const(False if dtype is DType.bool else 0.0 if dtype.is_float else 0, dtype)


def _indices(shape: tuple[int, ...], size: int, dim: int, reduce: str) -> np.ndarray:
    """Positions in 0..size-1, distinct along dim where the order of writes would matter."""
    if reduce != "none" or not shape:
        return data(shape, DType.int64, seed=7, low=0, high=size - 1)
    rng = np.random.default_rng(7)
    order = np.argsort(rng.random([size if a == dim else n for a, n in enumerate(shape)]), axis=dim)
    return order.take(range(shape[dim]), dim)


def _fold(reduce: str, values: np.ndarray) -> Any:
    """Values reduced; means of integers round down."""
    with np.errstate(all="ignore"):
        if reduce == "none":
            return values[-1]
        if reduce in ("amax", "amin"):
            return values.max() if reduce == "amax" else values.min()
        wider = values.astype(np.float32) if values.dtype == np.float16 else values
        if reduce == "prod":
            return np.multiply.reduce(wider, dtype=wider.dtype if wider.dtype != bool else bool)
        total = np.add.reduce(wider, dtype=wider.dtype)
        if reduce == "sum":
            return total
        return total / len(values) if values.dtype.kind == "f" else total // len(values)


C_TYPES = {
    DType.float64: "double",
    DType.float32: "float",
    DType.int64: "int64_t",
    DType.int32: "int32_t",
    DType.int16: "int16_t",
    DType.int8: "int8_t",
    DType.uint8: "uint8_t",
    DType.bool: "uint8_t",
}


def scatter_kernel(b: Builder, x: Tensor, index: Tensor, src: Tensor, reduce: str, include_self: bool) -> Tensor:
    """x (O, N, I), index (O, M) int64, src (O, M, I) → x with row index[o, m] of src reduced in; indices out of
    0..N-1 are skipped.
    """
    if x.dtype in (DType.float16, DType.bfloat16):
        wider = [b.compute(t.shape, DType.float32, lambda *i, t=t: cast(t(*i), DType.float32)) for t in (x, src)]
        out = scatter_kernel(b, wider[0], index, wider[1], reduce, include_self)
        return b.compute(x.shape, x.dtype, lambda *i: cast(out(*i), x.dtype))
    if reduce == "mean":
        return _mean(b, x, index, src, include_self)
    outer, n, inner = x.shape
    how = {"none": 0, "sum": 1, "prod": 2, "amax": 3, "amin": 4}[reduce]
    if x.dtype is DType.bool:
        how = {0: 0, 1: 3, 2: 4, 3: 3, 4: 4}[how]
    macros: dict[str, str | int | Dim] = {
        "T": C_TYPES[x.dtype],
        "OUTER": outer,
        "N": n,
        "INNER": inner,
        "M": index.shape[1],
        "REDUCE": str(how),
        "INCLUDE_SELF": str(int(include_self or how == 0)),
        "IDENTITY": _identity(how, x.dtype),
        "IS_FLOAT": str(int(x.dtype.is_float)),
    }
    return b.extern("scatter.h", macros, (x, index, src), (x.type,))[0]


def _identity(how: int, dtype: DType) -> str:
    """The neutral value of a reduction, in C."""
    if how < 3:
        return "1" if how == 2 else "0"
    if dtype.is_float:
        return "(-__builtin_inf())" if how == 3 else "__builtin_inf()"
    limits = np.iinfo(np.uint8 if dtype is DType.bool else dtype.numpy)
    return f"({limits.min + 1}LL - 1)" if how == 3 else f"{limits.max}LL"


def _mean(b: Builder, x: Tensor, index: Tensor, src: Tensor, include_self: bool) -> Tensor:
    total = scatter_kernel(b, x, index, src, "sum", include_self)
    outer, n, _ = x.shape
    ones = b.compute((outer, index.shape[1], 1), DType.int64, lambda *i: const(1, DType.int64))
    zeros = b.compute((outer, n, 1), DType.int64, lambda *i: const(0, DType.int64))
    hits = scatter_kernel(b, zeros, index, ones, "sum", True)

    def element(o: Index, k: Index, i: Index) -> Expr:
        count = call(
            "maximum", call("add", hits(o, k, 0), const(int(include_self), DType.int64)), const(1, DType.int64)
        )
        return call("div" if x.dtype.is_float else "floor_divide", total(o, k, i), cast(count, x.dtype))

    return b.compute(x.shape, x.dtype, element)


@dataclass(frozen=True)
class IndexPut(Op):
    """x, one index tensor for each of the (ascending) axes, values: x with x[indices] = values, or += if accumulate.

    Indices as in `index`; values broadcast to the shape of x[indices].
    """

    name = "index_put"
    axes: tuple[int, ...]
    accumulate: bool = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, indices, values = types[0], types[1:-1], types[-1]
        shape, _, _ = indexed_shape(self, x, self.axes, indices)
        if (
            values.dtype is not x.dtype
            or len(values.shape) > len(shape)
            or not all(same(d, e) for d, e in zip(broadcast(shape, values.shape), shape, strict=True))
        ):
            raise ValueError(f"index_put of {values} into {x} at {shape}")
        if x.dtype is DType.bool and self.accumulate:
            raise ValueError("index_put does not accumulate bool")
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, values = inputs[0], inputs[-1]
        key = numpy_key(x, self.axes, inputs[1:-1])
        with np.errstate(all="ignore"):
            if self.accumulate:
                out = x.astype(np.float32) if x.dtype == np.float16 else x.copy()
                np.add.at(out, key, values)
                return (out.astype(x.dtype),)
            out = x.copy()
            out[key] = values
            return (out,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, indices, values = inputs[0], inputs[1:-1], inputs[-1]
        shape, first, rank = indexed_shape(self, x.type, self.axes, [t.type for t in indices])
        rest = [a for a in range(len(x.shape)) if a not in self.axes]
        order = [*self.axes, *rest]
        places, inner = numel(x.shape[a] for a in self.axes), numel(x.shape[a] for a in rest)
        index_shape = shape[first : first + rank]

        def value(*i: Index) -> Expr:
            return values.broadcast((*i[rank : rank + first], *i[:rank], *i[rank + first :]))

        rows = b.compute((*index_shape, *(x.shape[a] for a in rest)), x.dtype, value)
        m = numel(index_shape)
        out = scatter_kernel(
            b,
            reshaped(b, permuted(b, x, order), (1, places, inner)),
            reshaped(b, b.compute(index_shape, DType.int64, self._places(x, indices)), (1, m)),
            reshaped(b, rows, (1, m, inner)),
            "sum" if self.accumulate else "none",
            True,
        )
        back = [order.index(a) for a in range(len(order))]
        return (permuted(b, reshaped(b, out, [x.shape[a] for a in order]), back),)

    def _places(self, x: Tensor, indices: Sequence[Tensor]) -> Callable[..., Expr]:
        """At an element of the broadcast index: the row of x, its indexed axes as one; -1 if that is out of range."""

        def to(*i: Index) -> Expr:
            at: Expr = const(0, DType.int64)
            for axis, t in zip(self.axes, indices, strict=True):
                size = FromIndex(Index.of(x.shape[axis]), DType.int64)
                k = cast(t.broadcast(i), DType.int64)
                k = where(call("lt", k, const(0, DType.int64)), call("add", k, size), k)
                inside = call("logical_and", call("ge", k, const(0, DType.int64)), call("lt", k, size))
                inside = call("logical_and", inside, call("ge", at, const(0, DType.int64)))
                at = where(inside, call("add", call("mul", at, size), k), const(-1, DType.int64))
            return at

        return to

    @property
    def fits_in_place(self) -> bool:
        """Whether `in_place` has it."""
        return not self.accumulate and self.axes == tuple(range(self.axes[0], self.axes[-1] + 1))

    def in_place(self, b: Builder, *inputs: Tensor) -> tuple[str, dict[str, str | int | Dim], tuple[Tensor, ...]]:
        """Header, macros and operands of a kernel that writes into x, the first input, where it lies (row-major)."""
        x, indices, values = inputs[0], inputs[1:-1], inputs[-1]
        shape, first, rank = indexed_shape(self, x.type, self.axes, [t.type for t in indices])
        index_shape = shape[first : first + rank]
        macros: dict[str, str | int | Dim] = {
            "T": C_TYPES.get(x.dtype, "uint16_t"),
            "OUTER": numel(x.shape[: self.axes[0]]),
            "N": numel(x.shape[a] for a in self.axes),
            "INNER": numel(x.shape[self.axes[-1] + 1 :]),
            "M": numel(index_shape),
        }
        places = b.compute(index_shape, DType.int64, self._places(x, indices))
        rows = b.compute(shape, x.dtype, lambda *i: values.broadcast(i))
        return "put.h", macros, (places, rows)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axes, index) in enumerate(INDEXINGS):
            indices = index_tensors(shape, axes, index)
            x = data(shape, seed=i)
            got = x[numpy_key(x, axes, indices)].shape
            yield Sample(cls(axes, True), (x, *indices, data(got, seed=i + 1)))
            yield Sample(cls(axes), (x, *indices, np.asarray(2.5, np.float32)))
        yield Sample(cls((0,)), (data((6, 3)), np.array([4, -1, 0]), data((3, 3), seed=1)))
        yield Sample(cls((0, 2)), (data((3, 4, 5)), np.array([1, 2]), np.array([3, -1]), data((2, 4), seed=1)))
        for dtype in (*FLOATS, *INTS):
            yield sample(
                cls((0,), True),
                data((6, 3), dtype),
                np.array([4, 1, 4]),
                data((3, 3), dtype, seed=1),
                dtypes=[dtype, DType.int64, dtype],
            )


@dataclass(frozen=True)
class MaskedScatter(Op):
    """x, mask, source: where the mask is true, the elements of source in order; x elsewhere. The mask has x's shape.

    Compiled code repeats the last element if source has too few, where eager raises; `eval` raises ValueError.
    """

    name = "masked_scatter"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, mask, source = types
        if (
            mask.dtype is not DType.bool
            or source.dtype is not x.dtype
            or mask.rank != x.rank
            or not all(same(d, e) for d, e in zip(x.shape, mask.shape, strict=True))
        ):
            raise ValueError(f"masked_scatter of {source} into {x} by {mask}")
        if source.numel == 0 and x.numel != 0:
            raise ValueError("masked_scatter from an empty source")
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, mask, source = inputs
        if mask.sum() > source.size:
            raise ValueError(f"masked_scatter of {source.size} elements into {mask.sum()} places")
        out = np.ascontiguousarray(x).copy().reshape(x.shape)
        out[mask] = source.reshape(-1)[: int(mask.sum())]
        return (out,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, mask, source = inputs
        n, m = x.type.numel, source.type.numel
        if n == 0:
            return (x,)
        flat_x, flat_mask, flat_source = reshaped(b, x, (n,)), reshaped(b, mask, (n,)), reshaped(b, source, (m,))
        count = b.scan("sum", b.compute((n,), DType.int64, lambda i: cast(flat_mask(i), DType.int64)), 0)

        def element(i: Index) -> Expr:
            k = call("sub", count(i), const(1, DType.int64))
            k = call("maximum", call("minimum", k, FromIndex(Index.of(m) - 1, DType.int64)), const(0, DType.int64))
            return where(flat_mask(i), flat_source(as_index(k, m)), flat_x(i))

        return (reshaped(b, b.compute((n,), x.dtype, element), x.shape),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in ((3, 5), (), (0,)):
            yield Sample(cls(), (data(shape), data(shape, DType.bool), data((3, 6), seed=1)))
