"""Reads at positions that are data, and the question whether these are in range, on which a graph raises.

`eval` of a read raises IndexError; compiled code clamps positions into the axis, so that what is read before the call
has ended is memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, as_index, call, cast, const, where
from neve.ir.types import Dim, DType, TensorType, broadcast
from neve.ops.base import Op, Sample
from neve.ops.samples import FLOATS, data, sample
from neve.ops.shape import check_axes, positive


def position(e: Expr, size: Dim, wrap: bool = False) -> Index:
    """The integer e as a position in an axis of that size: negative ones count from the end if wrap; out of range is
    clamped into it.
    """
    e = cast(e, DType.int64)
    n, last, first = (FromIndex(i, DType.int64) for i in (Index.of(size), Index.of(size) - 1, -Index.of(size)))
    zero = const(0, DType.int64)
    e = call("maximum", call("minimum", e, last), first if wrap else zero)
    return as_index(where(call("lt", e, zero), call("add", e, n), e) if wrap else e, size)


def check_indices(op: Op, *types: TensorType) -> None:
    """Raises unless all are integer tensors."""
    for t in types:
        if not t.dtype.is_int:
            raise ValueError(f"{op.name} wants integer indices, got {t}")


def check_some(op: Op, size: Dim, out: Sequence[Dim]) -> None:
    """Raises if positions are read from an axis without elements."""
    if size == 0 and 0 not in out:
        raise ValueError(f"{op.name} reads from an axis of size 0")


def check_range(i: np.ndarray, size: int, wrap: bool = False) -> np.ndarray:
    """The positions made non-negative; raises IndexError if one is out of range."""
    if i.size and (i.min() < (-size if wrap else 0) or i.max() >= size):
        raise IndexError(f"index {i.min()}..{i.max()} is out of range for size {size}")
    return np.asarray(np.where(i < 0, i + size, i)).astype(np.int64)


@dataclass(frozen=True)
class AnyOutside(Op):
    """x of integers → bool[]: whether an element is not in low..high-1."""

    name = "any_outside"
    low: Dim
    high: Dim

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_indices(self, *types)
        return (TensorType((), DType.bool),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        return (np.asarray(bool(((x < self.low) | (x >= self.high)).any())),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        low, high = (FromIndex(Index.of(d), DType.int64) for d in (self.low, self.high))

        def outside(_: tuple[Index, ...], at: tuple[Index, ...]) -> Expr:
            e = cast(x(*at), DType.int64)
            return call("logical_or", call("lt", e, low), call("ge", e, high))

        return (b.reduce("any", (), DType.bool, x.shape, outside),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for low, high in ((0, 5), (-5, 5), (0, 0), (0, 2**40)):
            for shape in ((3, 4), (), (0,), (70,)):
                yield Sample(cls(low, high), (data(shape, DType.int64, low=low, high=max(high - 1, low)),))
            yield Sample(cls(low, high), (np.array([0, high]),))
            yield Sample(cls(low, high), (np.array([low - 1, 0, 0]),))
        for dtype in (DType.int32, DType.int16, DType.int8, DType.uint8):
            for size in (7, 2**40):
                yield Sample(cls(0, size), (data((3, 5), dtype, low=0, high=6),))
                yield Sample(cls(0, size), (data((3, 5), dtype, low=5, high=7),))
        yield Sample(cls(0, 10), (np.array([2**32 + 1, 2**63 - 1, -(2**63)]),))


@dataclass(frozen=True)
class Embedding(Op):
    """weight (V, D), indices (…) → rows (…, D)."""

    name = "embedding"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        weight, indices = types
        check_indices(self, indices)
        if weight.rank != 2:
            raise ValueError(f"embedding wants a weight (V, D), got {weight}")
        out = weight.with_shape((*indices.shape, weight.shape[1]))
        check_some(self, weight.shape[0], out.shape)
        return (out,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        weight, indices = inputs
        return (weight[check_range(indices, len(weight))],)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        weight, indices = inputs
        (out,) = self.infer(weight.type, indices.type)
        return (b.compute(out.shape, out.dtype, lambda *i: weight(position(indices(*i[:-1]), weight.shape[0]), i[-1])),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in ((2, 3), (), (0,), (4,)):
            yield Sample(cls(), (data((7, 5)), data(shape, DType.int64, low=0, high=6)))
        yield Sample(cls(), (data((7, 5)), data((3,), DType.int32, low=0, high=6)))
        for dtype in FLOATS:
            yield sample(
                cls(), data((7, 5), dtype), data((3,), DType.int64, low=0, high=6), dtypes=[dtype, DType.int64]
            )


@dataclass(frozen=True)
class Gather(Op):
    """x, index of the same rank → out[i, j, …] = x with its index along dim replaced by index[i, j, …]; 0-d counts as
    1-d.
    """

    name = "gather"
    dim: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, index = types
        check_indices(self, index)
        check_axes(self, max(x.rank, 1), self.dim)
        if max(x.rank, 1) != max(index.rank, 1) or not all(
            a == self.dim or positive_difference(d, e)
            for a, (d, e) in enumerate(zip(x.shape, index.shape, strict=False))
        ):
            raise ValueError(f"gather along {self.dim} of {x} by {index}")
        check_some(self, x.shape[self.dim] if x.rank else 1, index.shape)
        return (x.with_shape(index.shape),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, index = np.atleast_1d(inputs[0]), np.atleast_1d(inputs[1])
        index = check_range(index, x.shape[self.dim])
        at: list[np.ndarray] = list(np.indices(index.shape, sparse=True))
        at[self.dim] = index
        return (x[tuple(at)].reshape(inputs[1].shape),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, index = inputs

        def element(*i: Index) -> Expr:
            if not x.shape:
                return x()
            at = list(i) or [Index.of(0)]
            at[self.dim] = position(index(*i), x.shape[self.dim])
            return x(*at)

        return (b.compute(index.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, index, dim in (
            ((3, 4), (3, 7), 1),
            ((3, 4), (2, 4), 0),
            ((2, 3, 4), (2, 5, 1), 1),
            ((), (), 0),
            ((5,), (0,), 0),
            ((), (3,), 0),
            ((4,), (), 0),
        ):
            high = shape[dim] - 1 if shape else 0
            yield Sample(cls(dim), (data(shape), data(index, DType.int64, low=0, high=high)))


def positive_difference(d: Dim, e: Dim) -> bool:
    """Whether d >= e may hold."""
    return positive(d - e)


@dataclass(frozen=True)
class IndexSelect(Op):
    """x, indices (K) → x with axis dim of size K; 0-d x counts as 1-d and stays 0-d."""

    name = "index_select"
    dim: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, index = types
        check_indices(self, index)
        check_axes(self, max(x.rank, 1), self.dim)
        if index.rank > 1 or (not x.rank and index.numel != 1):
            raise ValueError(f"index_select along {self.dim} of {x} by {index}")
        if not x.rank:
            return (x,)
        out = x.with_shape((*x.shape[: self.dim], index.numel, *x.shape[self.dim + 1 :]))
        check_some(self, x.shape[self.dim], out.shape)
        return (out,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, index = np.atleast_1d(inputs[0]), np.atleast_1d(inputs[1])
        out = x.take(check_range(index, x.shape[self.dim]), self.dim)
        return (out if inputs[0].shape else out.reshape(()),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, index = inputs
        (out,) = self.infer(x.type, index.type)

        def element(*i: Index) -> Expr:
            if not x.shape:
                return x()
            at = list(i)
            at[self.dim] = position(index(*(i[self.dim] for _ in index.shape)), x.shape[self.dim])
            return x(*at)

        return (b.compute(out.shape, out.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, index, dim in (
            ((3, 4), (7,), 1),
            ((3, 4), (2,), 0),
            ((2, 3, 4), (), 2),
            ((), (), 0),
            ((), (1,), 0),
            ((5, 2), (0,), 0),
        ):
            yield Sample(cls(dim), (data(shape), data(index, DType.int64, low=0, high=shape[dim] - 1 if shape else 0)))


def indexed_shape(
    op: Op, x: TensorType, axes: tuple[int, ...], indices: Sequence[TensorType]
) -> tuple[tuple[Dim, ...], int, int]:
    """(shape of x[indices at axes], where the broadcast index shape begins in it, its rank), by numpy's and torch's
    rules.
    """
    check_indices(op, *indices)
    check_axes(op, x.rank, *axes)
    if len(axes) != len(indices) or not axes or list(axes) != sorted(axes):
        raise ValueError(f"{op.name}: axes {axes} for {len(indices)} index tensors")
    shape = broadcast(*(t.shape for t in indices))
    first = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    rest = [d for a, d in enumerate(x.shape) if a not in axes]
    return (*rest[:first], *shape, *rest[first:]), first, len(shape)


def numpy_key(x: np.ndarray, axes: tuple[int, ...], indices: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """The key for x[…]; raises IndexError out of range, unless no element is meant."""
    key: list[Any] = [slice(None)] * x.ndim
    rest = [n for a, n in enumerate(x.shape) if a not in axes]
    nothing = 0 in (*np.broadcast_shapes(*(i.shape for i in indices)), *rest)
    for axis, i in zip(axes, indices, strict=True):
        key[axis] = np.zeros_like(i) if nothing else check_range(i, x.shape[axis], wrap=True)
    return tuple(key)


@dataclass(frozen=True)
class IndexTensors(Op):
    """x[…] with an integer tensor at each of the (ascending) axes: x, one index tensor an axis. Negative positions
    count from the end.

    The index tensors' broadcast shape replaces the axes where they are adjacent, else it comes first.
    """

    name = "index"
    axes: tuple[int, ...]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x = types[0]
        shape, _, _ = indexed_shape(self, x, self.axes, types[1:])
        for axis in self.axes:
            check_some(self, x.shape[axis], shape)
        return (x.with_shape(shape),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(inputs[0][numpy_key(inputs[0], self.axes, inputs[1:])]),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, indices = inputs[0], inputs[1:]
        shape, first, rank = indexed_shape(self, x.type, self.axes, [t.type for t in indices])

        def element(*i: Index) -> Expr:
            where_ = i[first : first + rank]
            rest = iter((*i[:first], *i[first + rank :]))
            picked = {
                a: position(t.broadcast(where_), x.shape[a], wrap=True) for a, t in zip(self.axes, indices, strict=True)
            }
            return x(*(picked[a] if a in picked else next(rest) for a in range(len(x.shape))))

        return (b.compute(shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, axes, index in INDEXINGS:
            yield Sample(cls(axes), (data(shape), *index_tensors(shape, axes, index)))


INDEXINGS: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, ...], ...]], ...] = (
    ((5,), (0,), ((3,),)),
    ((3, 4), (1,), ((2, 2),)),
    ((3, 4, 5), (1, 2), ((2, 1), (3,))),
    ((3, 4, 5), (0, 2), ((6,), (6,))),
    ((3, 4, 5, 2), (1, 3), ((2,), ())),
    ((3, 4), (0, 1), ((), ())),
    ((3, 4), (0,), ((0,),)),
    ((2, 3, 4), (0, 1, 2), ((4,), (1,), (4,))),
)


def index_tensors(
    shape: tuple[int, ...], axes: tuple[int, ...], index: tuple[tuple[int, ...], ...]
) -> list[np.ndarray]:
    """Index tensors in range, also negative, for samples."""
    return [
        data(s, DType.int64, seed=k, low=-shape[a], high=shape[a] - 1)
        for k, (a, s) in enumerate(zip(axes, index, strict=True))
    ]
