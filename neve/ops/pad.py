"""Ops that put tensors together or around: cat, padding, roll, triangles, writes into slices and diagonals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, const, guard
from neve.ir.types import Dim, DType, TensorType, dim, same
from neve.ops.base import Op, Sample
from neve.ops.samples import data
from neve.ops.shape import check_axes, positive

Pads = tuple[tuple[Dim, Dim], ...]


def at_axis(i: tuple[Index, ...], axis: int, k: Index) -> tuple[Index, ...]:
    """The index with its entry at axis replaced."""
    return (*i[:axis], k, *i[axis + 1 :])


def scalar_const(value: float | bool, dtype: DType) -> Expr:
    """A literal of dtype."""
    return const(bool(value) if dtype is DType.bool else float(value) if dtype.is_float else int(value), dtype)


@dataclass(frozen=True)
class Cat(Op):
    """Inputs one after another along axis."""

    name = "cat"
    axis: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not types:
            raise ValueError("cat of nothing")
        first = types[0]
        check_axes(self, first.rank, self.axis)
        for t in types[1:]:
            if (
                t.dtype is not first.dtype
                or t.rank != first.rank
                or not all(
                    a == self.axis or same(d, e) for a, (d, e) in enumerate(zip(t.shape, first.shape, strict=True))
                )
            ):
                raise ValueError(f"cat along {self.axis} of {', '.join(map(str, types))}")
        total = sum((t.shape[self.axis] for t in types[1:]), first.shape[self.axis])
        return (first.with_shape((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :])),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.concatenate(inputs, self.axis),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (out,) = self.infer(*(x.type for x in inputs))
        starts = [Index.of(0)]
        for x in inputs:
            starts.append(starts[-1] + Index.of(x.shape[self.axis]))

        def element(*i: Index) -> Expr:
            e = inputs[-1](*at_axis(i, self.axis, i[self.axis] - starts[len(inputs) - 1]))
            for x, start in list(zip(inputs, starts, strict=False))[-2::-1]:
                k = i[self.axis] - start
                e = guard([(k, Index.of(x.shape[self.axis]))], x(*at_axis(i, self.axis, k)), e)
            return e

        return (b.compute(out.shape, out.dtype, element),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis,) * len(types) if axis != self.axis else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for axis, shapes in (
            (0, ((2, 3), (1, 3), (4, 3))),
            (1, ((2, 3), (2, 0), (2, 1))),
            (2, ((1, 2, 3), (1, 2, 4))),
            (0, ((3,),)),
            (0, ((0,), (0,))),
        ):
            yield Sample(cls(axis), tuple(data(s, seed=k) for k, s in enumerate(shapes)))


class _Pad(Op):
    """Base of the paddings: pads holds (before, after) for each axis, outermost first."""

    pads: Pads
    cropping = False

    def limit(self, size: Dim) -> Dim | None:
        """The largest pad an axis of that size allows; None for any."""
        return None

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if len(self.pads) != x.rank:
            raise ValueError(f"{self.name}: {len(self.pads)} pads for {x}")
        for d, pair in zip(x.shape, self.pads, strict=True):
            limit = self.limit(d)
            for p in pair if pair != (0, 0) else ():
                if (not self.cropping and not positive(p)) or (limit is not None and not positive(dim(limit - p))):
                    raise ValueError(f"{self.name}: {pair} does not fit size {d} of {x}")
        shape = [dim(d + p + q) for d, (p, q) in zip(x.shape, self.pads, strict=True)]
        if not all(map(positive, shape)):
            raise ValueError(f"{self.name}: {self.pads} cuts more than there is of {x}")
        return (x.with_shape(shape),)


@dataclass(frozen=True)
class Pad(_Pad):
    """Filled with value around; negative pads cut off."""

    name = "constant_pad"
    cropping = True
    pads: Pads
    value: float | int | bool = 0.0

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        pads = [(int(p), int(q)) for p, q in self.pads]
        x = x[tuple(slice(max(-p, 0), n - max(-q, 0)) for n, (p, q) in zip(x.shape, pads, strict=True))]
        widths = [(max(p, 0), max(q, 0)) for p, q in pads]
        out = np.full([n + p + q for n, (p, q) in zip(x.shape, widths, strict=True)], self.value).astype(x.dtype)
        out[tuple(slice(p, p + n) for n, (p, q) in zip(x.shape, widths, strict=True))] = x
        return (out,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)
        value = scalar_const(self.value, x.dtype)

        def element(*i: Index) -> Expr:
            at = [k - Index.of(p) for k, (p, _) in zip(i, self.pads, strict=True)]
            inside = [(k, Index.of(d)) for k, d, pair in zip(at, x.shape, self.pads, strict=True) if pair != (0, 0)]
            return guard(inside, x(*at), value)

        return (b.compute(out.shape, out.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((3, 4), cls(((0, 0), (1, 2)))),
            ((3, 4), cls(((2, 0), (-1, -2)), 1.5)),
            ((0, 2), cls(((1, 1), (0, 0)), float("-inf"))),
            ((), cls(())),
            ((3,), cls(((-1, 3),))),
        ):
            yield Sample(op, (data(shape),))
        yield Sample(cls(((1, 1),), True), (data((3,), DType.bool),))
        yield Sample(cls(((1, 1),), 7), (data((3,), DType.int64),))


class _Mirror(_Pad):
    """Paddings whose every element is one of x's: `left` and `right` give the position read for one before or after
    x.
    """

    mode: str

    def left(self, k: Index, size: Index) -> Index:
        raise NotImplementedError

    def right(self, k: Index, size: Index) -> Index:
        raise NotImplementedError

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        widths = [(max(int(p), 0), max(int(q), 0)) for p, q in self.pads]
        x = np.pad(inputs[0], widths, mode=self.mode)  # type: ignore[call-overload]
        return (
            x[tuple(slice(-min(int(p), 0), n + min(int(q), 0)) for n, (p, q) in zip(x.shape, self.pads, strict=True))],
        )

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        for axis, (before, after) in enumerate(self.pads):
            if before != 0 or after != 0:
                x = self._axis(b, x, axis, before, after)
        return (x,)

    def _axis(self, b: Builder, x: Tensor, axis: int, before: Dim, after: Dim) -> Tensor:
        size, first, last = Index.of(x.shape[axis]), Index.of(before), Index.of(after)

        def element(*i: Index) -> Expr:
            k = i[axis] - first
            inside, left, right = (x(*at_axis(i, axis, j)) for j in (k, self.left(k, size), self.right(k, size)))
            if _cuts(before) and _cuts(after):
                return inside
            if _cuts(before):
                return guard([(k, size)], inside, right)
            return guard([(k, size)], inside, left if _cuts(after) else guard([(k - size, last)], right, left))

        shape = (*x.shape[:axis], dim(x.shape[axis] + before + after), *x.shape[axis + 1 :])
        return b.compute(shape, x.dtype, element)


def _cuts(pad: Dim) -> bool:
    """Whether a pad adds nothing."""
    return isinstance(pad, int) and pad <= 0


def _mirror_samples(cls: type[_Mirror]) -> Iterator[Sample]:
    for shape, pads in (
        ((4, 5), ((0, 0), (2, 3))),
        ((2, 4, 5), ((0, 0), (3, 1), (0, 4))),
        ((2, 3), ((0, 0), (0, 0))),
        ((0, 2, 3), ((0, 0), (0, 0), (1, 0))),
    ):
        yield Sample(cls(pads), (data(shape),))  # type: ignore[call-arg]
    for pads in (((0, 0), (-2, 1)), ((0, 0), (3, -2)), ((0, 0), (-1, -2))) if cls.cropping else ():
        yield Sample(cls(pads), (data((2, 5)),))  # type: ignore[call-arg]


@dataclass(frozen=True)
class ReflectionPad(_Mirror):
    """Mirrored at the edge elements, which are not repeated; pads < size, negative ones cut off."""

    name = "reflection_pad"
    cropping = True
    mode = "reflect"
    pads: Pads

    def limit(self, size: Dim) -> Dim | None:
        return dim(size - 1)

    def left(self, k: Index, size: Index) -> Index:
        return -k

    def right(self, k: Index, size: Index) -> Index:
        return size * 2 - 2 - k

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _mirror_samples(cls)


@dataclass(frozen=True)
class ReplicationPad(_Mirror):
    """The edge elements repeated, negative pads cutting off; a padded axis has at least one element."""

    name = "replication_pad"
    cropping = True
    mode = "edge"
    pads: Pads

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        out = super().infer(*types)
        if any(d == 0 and pair != (0, 0) for d, pair in zip(types[0].shape, self.pads, strict=True)):
            raise ValueError(f"replication_pad of an empty axis of {types[0]}")
        return out

    def left(self, k: Index, size: Index) -> Index:
        return Index.of(0)

    def right(self, k: Index, size: Index) -> Index:
        return size - 1

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _mirror_samples(cls)


@dataclass(frozen=True)
class CircularPad(_Mirror):
    """Continued periodically; pads <= size."""

    name = "circular_pad"
    mode = "wrap"
    pads: Pads

    def limit(self, size: Dim) -> Dim | None:
        return size

    def left(self, k: Index, size: Index) -> Index:
        return k + size

    def right(self, k: Index, size: Index) -> Index:
        return k - size

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _mirror_samples(cls)


@dataclass(frozen=True)
class Roll(Op):
    """Elements moved by shift along axis, those that leave coming in at the other end; 0 <= shift <= size."""

    name = "roll"
    shift: Dim
    axis: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, x.rank, self.axis)
        if not positive(self.shift) or not positive(dim(x.shape[self.axis] - self.shift)):
            raise ValueError(f"roll by {self.shift} along axis {self.axis} of {x}")
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.roll(inputs[0], self.shift, self.axis),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        size, shift = Index.of(x.shape[self.axis]), Index.of(self.shift)

        def element(*i: Index) -> Expr:
            k = i[self.axis] - shift
            return guard([(k, size)], x(*at_axis(i, self.axis, k)), x(*at_axis(i, self.axis, k + size)))

        return (b.compute(x.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((5,), cls(2, 0)),
            ((2, 3), cls(1, 1)),
            ((2, 3), cls(0, 1)),
            ((4, 3), cls(4, 0)),
            ((0, 3), cls(0, 0)),
        ):
            yield Sample(op, (data(shape),))


class _Triangle(Op):
    """tril keeps what is at or below a diagonal of the last two axes, triu what is at or above; the rest is 0."""

    diagonal: int
    lower_part: bool

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if x.rank < 2:
            raise ValueError(f"{self.name} wants a matrix, got {x}")
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return ((np.tril if self.lower_part else np.triu)(inputs[0], self.diagonal),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        far = Index.of(x.shape[-1]) + Index.of(x.shape[-2]) + abs(self.diagonal) + 1

        def element(*i: Index) -> Expr:
            above = i[-1] - i[-2] - self.diagonal
            return guard([(-above if self.lower_part else above, far)], x(*i), scalar_const(0, x.dtype))

        return (b.compute(x.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, k in (((4, 5), 0), ((2, 5, 4), 2), ((5, 4), -2), ((3, 3), 9), ((3, 3), -9), ((0, 3), 0)):
            yield Sample(cls(k), (data(shape, edges=True),))  # type: ignore[call-arg]
        yield Sample(cls(1), (data((3, 3), DType.bool),))  # type: ignore[call-arg]


@dataclass(frozen=True)
class Tril(_Triangle):
    """torch.tril."""

    name = "tril"
    lower_part = True
    diagonal: int = 0


@dataclass(frozen=True)
class Triu(_Triangle):
    """torch.triu."""

    name = "triu"
    lower_part = False
    diagonal: int = 0
