"""Inclusive scans along an axis (of a 0-d tensor: axis 0, the tensor itself)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, call, const, where
from neve.ir.types import DType, TensorType
from neve.ops.base import Op, Sample
from neve.ops.pointwise import kind
from neve.ops.samples import FLOATS, INTS, data, sample
from neve.ops.shape import check_axes


class _Scan(Op):
    """Base: one output like the input."""

    axis: int
    kinds: ClassVar[str] = "fi"
    scanner: ClassVar[str]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, max(x.rank, 1), self.axis)
        if kind(x.dtype) not in self.kinds:
            raise ValueError(f"{self.name} is not defined for {x.dtype}")
        return (x,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (b.scan(self.scanner, x, self.axis) if x.shape else x,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, axis) in enumerate(
            (((3, 40), 1), ((5, 4), 0), ((2, 3, 4), 1), ((), 0), ((3, 0), 1), ((0, 3), 1), ((1,), 0))
        ):
            yield Sample(cls(axis), (data(shape, seed=i),))  # type: ignore[call-arg]
        for dtype in (FLOATS if "f" in cls.kinds else ()) + (INTS if "i" in cls.kinds else ()):
            yield sample(cls(1), data((9, 11), dtype, seed=3, edges=True), dtypes=[dtype])  # type: ignore[call-arg]
            yield sample(cls(0), data((9, 11), dtype, seed=2, low=-2, high=2), dtypes=[dtype])  # type: ignore[call-arg]


def _accumulate(function: np.ufunc, x: np.ndarray, axis: int) -> np.ndarray:
    if not x.shape:
        return x
    with np.errstate(all="ignore"):
        return np.asarray(
            function.accumulate(
                x.astype(np.float64) if x.dtype.kind == "f" else x, axis, dtype=None if x.dtype.kind == "f" else x.dtype
            )
        )


@dataclass(frozen=True)
class Cumsum(_Scan):
    """torch.cumsum; integers wrap (capture casts narrow integers and bool to int64 first)."""

    name = "cumsum"
    scanner = "sum"
    axis: int

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            return (_accumulate(np.add, inputs[0], self.axis).astype(inputs[0].dtype),)


@dataclass(frozen=True)
class Cumprod(_Scan):
    """torch.cumprod; as Cumsum for integers."""

    name = "cumprod"
    scanner = "prod"
    axis: int

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            return (_accumulate(np.multiply, inputs[0], self.axis).astype(inputs[0].dtype),)


@dataclass(frozen=True)
class LogCumSumExp(_Scan):
    """log of the running sum of exp."""

    name = "logcumsumexp"
    scanner = "logaddexp"
    kinds = "f"
    axis: int

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (_accumulate(np.logaddexp, inputs[0], self.axis).astype(inputs[0].dtype),)


class _CumExtremum(_Scan):
    """Running extremum, and the position of the last element equal to it (int64); NaN is the extremum from where it
    appears.
    """

    kinds = "fib"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (out,) = super().infer(*types)
        return (out, out.with_dtype(DType.int64))

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if not x.shape:
            return (x, np.zeros((), np.int64))
        values = (np.maximum if self.scanner == "max" else np.minimum).accumulate(x, self.axis)
        n = np.arange(x.shape[self.axis]).reshape([-1 if a == self.axis else 1 for a in range(x.ndim)])
        here = np.where((x == values) | (x != x), n, 0)
        return (values, np.maximum.accumulate(here, self.axis).astype(np.int64))

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        if not x.shape:
            return (x, b.compute((), DType.int64, lambda: const(0, DType.int64)))
        if x.dtype is DType.bool:
            from neve.ops.cast import Cast

            bytes_, at = self.lower(b, *Cast(DType.uint8).lower(b, x))
            return (*Cast(DType.bool).lower(b, bytes_), at)
        values = b.scan(self.scanner, x, self.axis)

        def here(*i: Index) -> Expr:
            on = call("logical_or", call("eq", x(*i), values(*i)), call("ne", x(*i), x(*i)))
            return where(on, FromIndex(i[self.axis], DType.int64), const(0, DType.int64))

        return (values, b.scan("max", b.compute(x.shape, DType.int64, here), self.axis))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls(0), (data((7, 3), DType.bool),))  # type: ignore[call-arg]


@dataclass(frozen=True)
class Cummax(_CumExtremum):
    """torch.cummax."""

    name = "cummax"
    scanner = "max"
    axis: int


@dataclass(frozen=True)
class Cummin(_CumExtremum):
    """torch.cummin."""

    name = "cummin"
    scanner = "min"
    axis: int
