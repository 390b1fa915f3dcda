"""Views: reshape, permute, expand, slice, flip, diagonal, unfold, strided. Axes are non-negative; sizes may be
symbolic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Tensor, view
from neve.ir.types import Dim, TensorType, dim, dims, numel, same
from neve.ops.base import Op, Sample, broadcast_axis
from neve.ops.samples import data


def check_axes(op: Op, rank: int, *axes: int) -> None:
    """Raises unless the axes are distinct and in 0..rank-1."""
    if len(set(axes)) != len(axes) or any(not 0 <= a < rank for a in axes):
        raise ValueError(f"{op.name}: axes {axes} do not fit rank {rank}")


def positive(d: Dim) -> bool:
    """Whether a dim is not provably negative."""
    return not (-1 - Index.of(d)).nonnegative


def strides(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Row-major strides in elements."""
    return tuple(numel(shape[i + 1 :]) for i in range(len(shape)))


def flat(index: Sequence[Index], shape: Sequence[Dim]) -> Index:
    """The row-major position of a logical index."""
    out = Index.of(0)
    for i, s in zip(index, strides(shape), strict=True):
        out = out + i * Index.of(s)
    return out


def unflat(position: Index, shape: Sequence[Dim]) -> tuple[Index, ...]:
    """The logical index of a row-major position; all zero if the shape is empty."""
    if any(d == 0 for d in shape):
        return tuple(Index.of(0) for _ in shape)
    out: list[Index] = []
    for d in reversed(shape[1:]):
        out.append(position % Index.of(d))
        position = position // Index.of(d)
    return tuple(reversed([*out, position][: len(shape)]))


def groups(old: Sequence[Dim], new: Sequence[Dim]) -> Iterator[tuple[range, range]]:
    """Runs of axes of both shapes that hold the same number of elements, as short as can be proved."""
    a = b = 0
    while a < len(old) or b < len(new):
        i, j = next(
            (i, j)
            for s in range(1, len(old) + len(new) - a - b + 1)
            for i in range(a, len(old) + 1)
            for j in [s + a + b - i]
            if b <= j <= len(new) and same(numel(old[a:i]), numel(new[b:j]))
        )
        yield range(a, i), range(b, j)
        a, b = i, j


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in row-major order under another shape (no -1)."""

    name = "reshape"
    shape: tuple[Dim, ...]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if not all(positive(d) for d in self.shape) or not same(numel(self.shape), x.numel):
            raise ValueError(f"cannot reshape {x} to {self.shape}")
        return (x.with_shape(self.shape),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (inputs[0].reshape(self.shape),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        new = dims(self.shape)
        if any(d == 0 for d in new):
            return (view(b, x, new, lambda *i: tuple(0 for _ in x.shape)),)
        runs = list(groups(x.shape, new))

        def source(*i: Index) -> tuple[Index, ...]:
            parts = [unflat(flat([i[k] for k in n], [new[k] for k in n]), [x.shape[k] for k in o]) for o, n in runs]
            return tuple(k for p in parts for k in p)

        return (view(b, x, new, source),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        if any(d == 0 for d in self.shape):
            return None
        runs = groups(types[0].shape, self.shape)
        return next(
            (
                (o,)
                for old, new in runs
                if axis in new
                for o in old
                if same(types[0].shape[o], self.shape[axis])
                and all(types[0].shape[k] == 1 for k in old if k != o)
                and all(self.shape[k] == 1 for k in new if k != axis)
            ),
            None,
        )

    def narrowed(self, axis: int, size: Dim) -> Op:
        return Reshape((*self.shape[:axis], size, *self.shape[axis + 1 :]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for old, new in (
            ((2, 3, 4), (6, 4)),
            ((6, 4), (2, 3, 2, 2)),
            ((4, 6), (3, 8)),
            ((), (1, 1)),
            ((1, 1), ()),
            ((3, 1, 4), (1, 12)),
            ((0, 3), (3, 0, 2)),
            ((2, 3, 4, 5), (2, 12, 5)),
            ((5, 6, 7), (7, 5, 6)),
            ((24,), (24,)),
        ):
            yield Sample(cls(new), (data(old),))


@dataclass(frozen=True)
class Permute(Op):
    """out axis k is x axis dims[k]."""

    name = "permute"
    dims: tuple[int, ...]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if sorted(self.dims) != list(range(x.rank)):
            raise ValueError(f"permute {self.dims} does not fit {x}")
        return (x.with_shape(x.shape[d] for d in self.dims),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (inputs[0].transpose(self.dims),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (
            view(b, x, [x.shape[d] for d in self.dims], lambda *i: tuple(i[self.dims.index(k)] for k in range(len(i)))),
        )

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (self.dims[axis],)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, order in (
            ((2, 3), (1, 0)),
            ((2, 3, 4), (2, 0, 1)),
            ((), ()),
            ((2, 0, 3, 4), (0, 2, 3, 1)),
            ((5,), (0,)),
        ):
            yield Sample(cls(order), (data(shape),))


@dataclass(frozen=True)
class Expand(Op):
    """Broadcast to shape, which has x's sizes on the right, but where x has 1."""

    name = "expand"
    shape: tuple[Dim, ...]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        tail = self.shape[len(self.shape) - x.rank :]
        if (
            len(self.shape) < x.rank
            or not all(d == 1 or same(d, n) for d, n in zip(x.shape, tail, strict=True))
            or not all(map(positive, self.shape))
        ):
            raise ValueError(f"cannot expand {x} to {self.shape}")
        return (x.with_shape(self.shape),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.broadcast_to(inputs[0], tuple(map(int, self.shape))),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (b.compute(dims(self.shape), x.dtype, lambda *i: x.broadcast(i)),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (broadcast_axis(axis, len(self.shape), types[0]),)

    def narrowed(self, axis: int, size: Dim) -> Op:
        return Expand((*self.shape[:axis], size, *self.shape[axis + 1 :]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for old, new in (((3, 1), (3, 4)), ((), (2, 3)), ((1, 3), (2, 5, 3)), ((1,), (0,)), ((2, 1), (2, 1))):
            yield Sample(cls(new), (data(old),))


def ceil_div(a: Dim, b: int) -> Dim:
    """ceil(a / b) for b > 0."""
    return dim((a + b - 1) // b)


@dataclass(frozen=True)
class Slice(Op):
    """x[start:stop:step] along axis, with 0 <= start <= stop <= size and step > 0 (capture normalises)."""

    name = "slice"
    axis: int
    start: Dim
    stop: Dim
    step: int = 1

    @property
    def length(self) -> Dim:
        return ceil_div(dim(self.stop - self.start), self.step)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, x.rank, self.axis)
        if (
            self.step < 1
            or not positive(self.start)
            or not positive(dim(self.stop - self.start))
            or not positive(dim(x.shape[self.axis] - self.stop))
        ):
            raise ValueError(f"slice {self.start}:{self.stop}:{self.step} does not fit axis {self.axis} of {x}")
        return (x.with_shape((*x.shape[: self.axis], self.length, *x.shape[self.axis + 1 :])),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (inputs[0][(slice(None),) * self.axis + (slice(self.start, self.stop, self.step),)],)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)
        start = Index.of(self.start)
        return (
            view(
                b,
                x,
                out.shape,
                lambda *i: tuple(k * self.step + start if a == self.axis else k for a, k in enumerate(i)),
            ),
        )

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis,) if axis != self.axis else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((5, 4), cls(0, 1, 4)),
            ((5, 4), cls(1, 1, 4, 2)),
            ((5, 7), cls(1, 0, 7, 3)),
            ((5,), cls(0, 2, 2)),
            ((5, 0), cls(0, 4, 5)),
        ):
            yield Sample(op, (data(shape),))


@dataclass(frozen=True)
class Flip(Op):
    """Reversed along the axes."""

    name = "flip"
    dims: tuple[int, ...]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, x.rank, *self.dims)
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.flip(inputs[0], self.dims),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (
            view(
                b,
                x,
                x.shape,
                lambda *i: tuple(Index.of(x.shape[a]) - 1 - k if a in self.dims else k for a, k in enumerate(i)),
            ),
        )

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis,) if axis not in self.dims else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (((3, 4), cls((0,))), ((3, 4, 5), cls((0, 2))), ((), cls(())), ((0, 2), cls((0, 1)))):
            yield Sample(op, (data(shape),))


@dataclass(frozen=True)
class Repeat(Op):
    """x tiled repeats[k] times along each axis; as many repeats as axes."""

    name = "repeat"
    repeats: tuple[Dim, ...]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if len(self.repeats) != x.rank or not all(map(positive, self.repeats)):
            raise ValueError(f"cannot repeat {x} by {self.repeats}")
        return (x.with_shape(d * r for d, r in zip(x.shape, self.repeats, strict=True)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.tile(inputs[0], tuple(map(int, self.repeats))),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)
        if any(d == 0 for d in x.shape):
            return (view(b, x, out.shape, lambda *i: tuple(0 for _ in x.shape)),)
        return (
            view(
                b,
                x,
                out.shape,
                lambda *i: tuple(
                    k if r == 1 else k % Index.of(d) for k, d, r in zip(i, x.shape, self.repeats, strict=True)
                ),
            ),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((3, 4), cls((2, 1))),
            ((1, 2, 3), cls((3, 2, 2))),
            ((), cls(())),
            ((2, 3), cls((0, 2))),
            ((0, 3), cls((2, 2))),
        ):
            yield Sample(op, (data(shape),))


@dataclass(frozen=True)
class Diagonal(Op):
    """The diagonal of axes dim1 and dim2, as a new last axis; offset > 0 is above the main one."""

    name = "diagonal"
    offset: int = 0
    dim1: int = 0
    dim2: int = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, x.rank, self.dim1, self.dim2)
        rows, cols = x.shape[self.dim1], x.shape[self.dim2]
        rows, cols = rows - max(-self.offset, 0), cols - max(self.offset, 0)
        if isinstance(rows, int) and isinstance(cols, int):
            length: Dim = max(min(rows, cols), 0)
        elif same(rows, cols) and self.offset == 0:
            length = rows
        else:
            raise ValueError(f"diagonal of {x} has a size that is not known")
        rest = [d for a, d in enumerate(x.shape) if a not in (self.dim1, self.dim2)]
        return (x.with_shape((*rest, length)),)

    def source(self, i: Sequence[Index], rank: int) -> tuple[Index, ...]:
        """x's index of an output index."""
        rest = iter(i[:-1])
        at = {self.dim1: i[-1] + max(-self.offset, 0), self.dim2: i[-1] + max(self.offset, 0)}
        return tuple(at[a] if a in at else next(rest) for a in range(rank))

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.diagonal(inputs[0], self.offset, self.dim1, self.dim2),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)
        return (view(b, x, out.shape, lambda *i: self.source(i, len(x.shape))),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((3, 4), cls()),
            ((4, 3), cls(1)),
            ((4, 3, 2), cls(-2, 1, 0)),
            ((2, 5, 5), cls(0, 1, 2)),
            ((2, 2), cls(3)),
        ):
            yield Sample(op, (data(shape),))


@dataclass(frozen=True)
class Unfold(Op):
    """Windows of size elements every step along axis; the window's elements are a new last axis (Tensor.unfold)."""

    name = "unfold"
    axis: int
    size: int
    step: int

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, max(x.rank, 1), self.axis)
        n = x.shape[self.axis] if x.shape else 1
        if self.size < 0 or self.step < 1 or not positive(dim(n - self.size)):
            raise ValueError(f"unfold of {self.size} every {self.step} does not fit axis {self.axis} of {x}")
        if not x.shape:
            return (x.with_shape((self.size,)),)
        count = ceil_div(dim(n - self.size + 1), self.step)
        return (x.with_shape((*x.shape[: self.axis], count, *x.shape[self.axis + 1 :], self.size)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if not x.shape:
            return (x.reshape(1)[: self.size],)
        count = (x.shape[self.axis] - self.size) // self.step + 1
        windows = [x.take(range(w * self.step, w * self.step + self.size), self.axis) for w in range(count)]
        return (np.moveaxis(np.stack(windows, self.axis), self.axis + 1, -1),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)
        if not x.shape:
            return (view(b, x, out.shape, lambda *i: ()),)
        return (
            view(
                b,
                x,
                out.shape,
                lambda *i: tuple(k * self.step + i[-1] if a == self.axis else k for a, k in enumerate(i[:-1])),
            ),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((7,), cls(0, 3, 2)),
            ((2, 8, 3), cls(1, 4, 4)),
            ((2, 5), cls(1, 5, 1)),
            ((), cls(0, 1, 1)),
            ((3, 4), cls(0, 1, 2)),
        ):
            yield Sample(op, (data(shape),))


@dataclass(frozen=True)
class AsStrided(Op):
    """A view of x's row-major elements by explicit strides, in elements (torch.as_strided of a contiguous tensor)."""

    name = "as_strided"
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if len(self.size) != len(self.stride) or min((*self.size, *self.stride, self.offset), default=0) < 0:
            raise ValueError(f"as_strided of size {self.size}, stride {self.stride} and offset {self.offset}")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        if 0 not in self.size and not (isinstance(x.numel, int) and last < x.numel):
            raise ValueError(f"as_strided reads element {last} of {x}")
        return (x.with_shape(self.size),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        at = np.full(self.size, self.offset)
        for axis, (n, s) in enumerate(zip(self.size, self.stride, strict=True)):
            at = at + (np.arange(n) * s).reshape([-1 if a == axis else 1 for a in range(len(self.size))])
        return (inputs[0].reshape(-1)[at],)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs

        def source(*i: Index) -> tuple[Index, ...]:
            at = Index.of(self.offset)
            for k, s in zip(i, self.stride, strict=True):
                at = at + k * s
            return unflat(at, x.shape)

        return (view(b, x, self.size, source),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((3, 4), cls((2, 2), (1, 2), 1)),
            ((12,), cls((3, 4, 2), (4, 1, 0), 0)),
            ((3, 3), cls((), (), 4)),
            ((3, 3), cls((0, 2), (1, 1))),
        ):
            yield Sample(op, (data(shape),))


def permuted(b: Builder, x: Tensor, order: Sequence[int]) -> Tensor:
    """x with its axes in that order."""
    return Permute(tuple(order)).lower(b, x)[0]


def reshaped(b: Builder, x: Tensor, shape: Sequence[Dim]) -> Tensor:
    """x under another shape."""
    return Reshape(dims(shape)).lower(b, x)[0]
