"""Ops without inputs: constants, fills, ranges, sizes. Symbolic attributes must be bound to ints before `eval`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neve.ir.graph import ConstTensor
from neve.ir.index import Index
from neve.ir.loops import Builder, FromIndex, Tensor, call, cast, const
from neve.ir.types import Dim, DType, TensorType, dims, limits, round_to
from neve.ops.base import Op, Sample
from neve.ops.samples import data


def _no_inputs(op: Op, types: tuple[TensorType, ...]) -> None:
    if types:
        raise ValueError(f"{op.name} takes no inputs, got {len(types)}")


@dataclass(frozen=True)
class Constant(Op):
    """A tensor of the Program."""

    name = "constant"
    tensor: ConstTensor

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _no_inputs(self, types)
        return (self.tensor.type,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (self.tensor.array,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        return b.kernel(self, (), (self.tensor.type,))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in ((), (3, 4), (0, 2)):
            yield Sample(cls(ConstTensor("c", data(shape), DType.float32)), ())


@dataclass(frozen=True)
class Full(Op):
    """A shape filled with one value, which dtype must be able to hold (a float value is rounded to dtype)."""

    name = "full"
    shape: tuple[Dim, ...]
    value: float | int | bool
    dtype: DType

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _no_inputs(self, types)
        if self.dtype.is_int:
            least, most = limits(self.dtype)
            if not least <= self.value <= most:
                raise ValueError(f"full: {self.value} is no value of {self.dtype} ({least} to {most})")
        return (TensorType(dims(self.shape), self.dtype),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (round_to(np.full(self.shape, self.value), self.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        value = (
            bool(self.value)
            if self.dtype is DType.bool
            else float(self.value)
            if self.dtype.is_float
            else int(self.value)
        )
        return (b.compute(dims(self.shape), self.dtype, lambda *i: const(value, self.dtype)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((), 1.5, DType.float32), ())
        yield Sample(cls((2, 3), float("-inf"), DType.float32), ())
        yield Sample(cls((2, 3), -(1 << 62), DType.int64), ())
        yield Sample(cls((0,), True, DType.bool), ())
        yield Sample(cls((2,), 1.0001, DType.bfloat16), ())


@dataclass(frozen=True)
class Arange(Op):
    """start + i * step for i in 0..length-1; start and step may be dims. Floats are computed in float64 and rounded."""

    name = "arange"
    start: Dim | float
    step: Dim | float
    length: Dim
    dtype: DType

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _no_inputs(self, types)
        if self.dtype is DType.bool:
            raise ValueError("arange is not defined for bool")
        if not self.dtype.is_float and (isinstance(self.start, float) or isinstance(self.step, float)):
            raise ValueError(
                f"arange of {self.dtype} wants an integer start and step, got {self.start} and {self.step}"
            )
        return (TensorType(dims((self.length,)), self.dtype),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        i = np.arange(int(self.length))
        start, step = (v if isinstance(v, float) else int(v) for v in (self.start, self.step))
        return (round_to(start + i * step, self.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        if not (isinstance(self.start, float) or isinstance(self.step, float)):
            start, step = Index.of(self.start), Index.of(self.step)
            return (b.compute(dims((self.length,)), self.dtype, lambda i: FromIndex(start + i * step, self.dtype)),)
        wide = DType.float64
        first, step_ = (const(float(v), wide) for v in (self.start, self.step))
        return (
            b.compute(
                dims((self.length,)),
                self.dtype,
                lambda i: cast(call("add", first, call("mul", FromIndex(i, wide), step_)), self.dtype),
            ),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 1, 7, DType.int64), ())
        yield Sample(cls(5, -2, 4, DType.int32), ())
        yield Sample(cls(0, 1, 7, DType.float32), ())
        yield Sample(cls(0.25, 0.1, 9, DType.float32), ())
        yield Sample(cls(0.25, 0.1, 9, DType.float16), ())
        yield Sample(cls(1, 1, 0, DType.int64), ())


@dataclass(frozen=True)
class SizeOf(Op):
    """A size expression as a 0-d int64 tensor."""

    name = "size"
    value: Dim

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        _no_inputs(self, types)
        return (TensorType((), DType.int64),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(int(self.value), np.int64),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (b.compute((), DType.int64, lambda: FromIndex(Index.of(self.value), DType.int64)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(7), ())
