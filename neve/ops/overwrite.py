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
from neve.ops.shape import Diagonal, Slice, check_axes


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
