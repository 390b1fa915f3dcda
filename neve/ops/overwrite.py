"""Functional writes into views: the first input with the second in place of a slice or a diagonal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, guard
from neve.ir.types import Dim, TensorType, same
from neve.ops.base import Op, Sample
from neve.ops.pad import at_axis, scalar_const
from neve.ops.samples import data
from neve.ops.shape import AsStrided, Diagonal, Slice, check_axes


def _same_type(op: Op, want: TensorType, got: TensorType) -> None:
    if (
        want.rank != got.rank
        or want.dtype is not got.dtype
        or not all(same(a, b) for a, b in zip(want.shape, got.shape, strict=True))
    ):
        raise ValueError(f"{op.name} wants a source of type {want}, got {got}")


@dataclass(frozen=True)
class SliceScatter(Op):
    """x with x[start:stop:step] along axis replaced by src; bounds as in Slice."""

    name = "slice_scatter"
    axis: int
    start: Dim
    stop: Dim
    step: int = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, src = types
        _same_type(self, Slice(self.axis, self.start, self.stop, self.step).infer(x)[0], src)
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        out = inputs[0].copy()
        out[(slice(None),) * self.axis + (slice(self.start, self.stop, self.step),)] = inputs[1]
        return (out,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, src = inputs
        start, length = Index.of(self.start), Index.of(src.shape[self.axis])

        def element(*i: Index) -> Expr:
            k = i[self.axis] - start
            inside = [(k, length)] if self.step == 1 else [(k // self.step, length), (k % self.step, Index.of(1))]
            return guard(inside, src(*at_axis(i, self.axis, k // self.step)), x(*i))

        return (b.compute(x.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op, n in (
            ((5, 4), cls(0, 1, 4), 3),
            ((5, 4), cls(1, 1, 4, 2), 2),
            ((5, 8), cls(1, 1, 8, 3), 3),
            ((5,), cls(0, 2, 2), 0),
        ):
            yield Sample(op, (data(shape), data((*shape[: op.axis], n, *shape[op.axis + 1 :]), seed=1)))


@dataclass(frozen=True)
class DiagonalScatter(Op):
    """x with a diagonal (as in Diagonal) replaced by src."""

    name = "diagonal_scatter"
    offset: int = 0
    dim1: int = 0
    dim2: int = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, src = types
        _same_type(self, Diagonal(self.offset, self.dim1, self.dim2).infer(x)[0], src)
        return (x,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        out = inputs[0].copy()
        view = np.moveaxis(out, (self.dim1, self.dim2), (-2, -1))
        n = np.arange(inputs[1].shape[-1])
        view[..., n + max(-self.offset, 0), n + max(self.offset, 0)] = inputs[1]
        return (out,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, src = inputs

        def element(*i: Index) -> Expr:
            row = i[self.dim1] - max(-self.offset, 0)
            rest = [k for a, k in enumerate(i) if a not in (self.dim1, self.dim2)]
            on = i[self.dim2] - max(self.offset, 0) - row
            return guard([(on, Index.of(1)), (row, Index.of(src.shape[-1]))], src(*rest, row), x(*i))

        return (b.compute(x.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((3, 4), cls()),
            ((4, 3), cls(1)),
            ((4, 3, 2), cls(-2, 1, 0)),
            ((2, 5, 5), cls(0, 1, 2)),
            ((2, 2), cls(3)),
        ):
            x = data(shape)
            yield Sample(op, (x, data(np.diagonal(x, op.offset, op.dim1, op.dim2).shape, seed=1)))


@dataclass(frozen=True)
class AsStridedScatter(Op):
    """x with the part of its row-major elements that AsStrided views replaced by src; no element may be in it twice.

    Every stride must be larger than all that the smaller ones span, as in any slice or permutation of a tensor.
    """

    name = "as_strided_scatter"
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, src = types
        _same_type(self, AsStrided(self.size, self.stride, self.offset).infer(x)[0], src)
        span = 0
        for a in reversed(self._axes()):
            if self.stride[a] <= span:
                raise ValueError(f"as_strided_scatter of size {self.size} and stride {self.stride} overlaps itself")
            span += (self.size[a] - 1) * self.stride[a]
        return (x,)

    def _axes(self) -> list[int]:
        """The axes with more than one element, those of the largest strides first."""
        return sorted((a for a, n in enumerate(self.size) if n != 1), key=lambda a: -self.stride[a])

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, src = inputs
        numbers = np.arange(x.size).reshape(x.shape)
        out = x.reshape(-1).copy()
        out[AsStrided(self.size, self.stride, self.offset).eval(numbers)[0]] = src
        return (out.reshape(x.shape),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, src = inputs

        def element(*i: Index) -> Expr:
            at = Index.of(0)
            for k, n in zip(i, x.shape, strict=True):
                at = at * Index.of(n) + k
            at = at - self.offset
            place, inside = [Index.of(0)] * len(self.size), []
            for a in self._axes():
                place[a] = at // self.stride[a]
                inside.append((place[a], Index.of(self.size[a])))
                at = at % self.stride[a]
            return guard([*inside, (at, Index.of(1))], src(*place), x(*i))

        return (b.compute(x.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((12,), cls((3,), (1,), 4)),
            ((3, 4), cls((2, 2), (1, 4), 5)),
            ((4, 5), cls((2, 1, 2), (10, 3, 2), 1)),
            ((3, 3), cls((), (), 4)),
            ((), cls((1,), (7,))),
            ((3, 3), cls((0, 2), (4, 1))),
            ((2, 3, 4), cls((4, 2, 3), (1, 12, 4))),
        ):
            yield Sample(op, (data(shape), data(op.size, seed=1)))


@dataclass(frozen=True)
class DiagEmbed(Op):
    """A tensor of zeros whose diagonal of axes dim1 and dim2 (of the output) is x's last axis."""

    name = "diag_embed"
    offset: int = 0
    dim1: int = 0
    dim2: int = 1

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        if not x.rank:
            raise ValueError("diag_embed of a scalar")
        check_axes(self, x.rank + 1, self.dim1, self.dim2)
        rest = iter(x.shape[:-1])
        size = x.shape[-1] + abs(self.offset)
        return (x.with_shape(size if a in (self.dim1, self.dim2) else next(rest) for a in range(x.rank + 1)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        size = x.shape[-1] + abs(self.offset)
        out = np.zeros((*x.shape[:-1], size, size), x.dtype)
        n = np.arange(x.shape[-1])
        out[..., n + max(-self.offset, 0), n + max(self.offset, 0)] = x
        return (np.moveaxis(out, (-2, -1), (self.dim1, self.dim2)),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)

        def element(*i: Index) -> Expr:
            row = i[self.dim1] - max(-self.offset, 0)
            rest = [k for a, k in enumerate(i) if a not in (self.dim1, self.dim2)]
            on = i[self.dim2] - max(self.offset, 0) - row
            return guard([(on, Index.of(1)), (row, Index.of(x.shape[-1]))], x(*rest, row), scalar_const(0, x.dtype))

        return (b.compute(out.shape, out.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, op in (
            ((3,), cls()),
            ((2, 3), cls(1, 1, 2)),
            ((2, 3), cls(-2, 2, 0)),
            ((0,), cls(1)),
            ((2, 3, 2), cls(0, 0, 2)),
        ):
            yield Sample(op, (data(shape),))
