"""Conversion between element types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neve.ir.loops import Builder, Tensor, cast
from neve.ir.types import DType, TensorType, round_to
from neve.ops.base import Op, Sample
from neve.ops.samples import FLOATS, INTS, data, sample


@dataclass(frozen=True)
class Cast(Op):
    """x.to(dtype). Float to integer truncates; NaN and what does not fit give what x86 gives in eager: the smallest
    int32, wrapped, but for
    int64 and uint8, which go through int64. To bool is x != 0 (NaN is True). Integers wrap.
    """

    name = "cast"
    dtype: DType

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        return (x.with_dtype(self.dtype),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        if self.dtype is DType.bool:
            return (x != 0,)
        if x.dtype.kind == "f" and self.dtype.is_int:
            return (_truncate(x, self.dtype),)
        with np.errstate(all="ignore"):
            return (round_to(x, self.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        return (b.compute(x.shape, self.dtype, lambda *i: cast(x(*i), self.dtype)),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        every = (*FLOATS, *INTS, DType.int16, DType.int8, DType.bool)
        for i, source in enumerate(every):
            for target in every:
                yield sample(
                    cls(target), data((11, 7), source, seed=i, low=-100, high=100, edges=True), dtypes=[source]
                )
        big = np.array(
            [
                300.7,
                -300.7,
                70000.0,
                -70000.0,
                1e9,
                2147483647.0,
                2147483648.0,
                -2147483648.0,
                -1e10,
                3e10,
                4294967301.0,
                -4294967301.0,
                1e18,
                1e19,
                -1e19,
                1e30,
            ]
        )
        for target in (*INTS, DType.int16, DType.int8):
            yield sample(cls(target), big.astype(np.float32))
            yield sample(cls(target), big)
        yield sample(cls(DType.int32), np.array([1 << 40, -(1 << 33) + 5, 7]))
        yield sample(cls(DType.float32), data((0, 3), DType.int64))


def _truncate(x: np.ndarray, dtype: DType) -> np.ndarray:
    """As cvttss2si: through int64 for int64 and uint8, else through int32; out of range gives the smallest of that
    type.
    """
    through = np.int64 if dtype in (DType.int64, DType.uint8) else np.int32
    limits = np.iinfo(through)
    wide = x.astype(np.float64)
    fits = (wide > float(limits.min) - (1 if through is np.int32 else 0)) & (
        wide < float(limits.max) + (1 if through is np.int32 else 0)
    )
    fits |= wide == float(limits.min)
    return np.where(fits, np.where(fits, wide, 0).astype(through), limits.min).astype(dtype.numpy)
