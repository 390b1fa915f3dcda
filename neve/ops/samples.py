"""Helpers that make test samples: seeded data with edge values, in every dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from neve.ir.types import DType, TensorType, round_to
from neve.ops.base import Op, Sample

FLOATS = (DType.float32, DType.float64, DType.float16, DType.bfloat16)
INTS = (DType.int64, DType.int32, DType.uint8)
EDGES = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, -1.0, 0.5)


def data(
    shape: Sequence[int],
    dtype: DType = DType.float32,
    seed: int = 0,
    low: float = -4.0,
    high: float = 4.0,
    edges: bool = False,
) -> np.ndarray:
    """Seeded values in low..high (bools: both); edges puts NaN, infinities, zeros and ones first, in changing order."""
    rng = np.random.default_rng(seed)
    if dtype is DType.bool:
        return np.asarray(rng.integers(0, 2, shape).astype(bool))
    if dtype.is_int:
        low = max(low, 0) if dtype is DType.uint8 else low
        return np.asarray(rng.integers(int(low), int(high) + 1, shape).astype(dtype.numpy))
    x = np.asarray(rng.uniform(low, high, shape))
    if edges and x.size:
        values = np.array([EDGES[(i * (1, 3, 5, 7)[seed % 4] + i // 8) % 8] for i in range(64)])
        x.reshape(-1)[:64] = values[: x.size] if x.size < 64 else values
    return round_to(x.astype(np.float64 if dtype is DType.float64 else np.float32), dtype)


def sample(op: Op, *inputs: Any, dtypes: Sequence[DType] | None = None) -> Sample:
    """A Sample; dtypes are needed where an input is bfloat16."""
    arrays = tuple(np.asarray(x) for x in inputs)
    types = tuple(TensorType(x.shape, d) for x, d in zip(arrays, dtypes, strict=True)) if dtypes else None
    return Sample(op, arrays, types)


def pointwise_samples(op: Op, arity: int, dtypes: str, domain: tuple[float, float]) -> Iterator[Sample]:
    """Every dtype with edge values; broadcasting, 0-d and empty shapes."""
    allowed = (
        (FLOATS if "f" in dtypes else ()) + (INTS if "i" in dtypes else ()) + ((DType.bool,) if "b" in dtypes else ())
    )
    nonzero = op.name in ("floor_divide", "trunc_divide", "remainder", "fmod")
    signs = op.name in ("copysign", "signbit")  # of NaN: half types do not keep it
    shapes: list[tuple[tuple[int, ...], ...]] = [((9, 13),) * arity, ((),) * arity, ((0, 3),) * arity]
    if arity > 1:
        shapes += [((2, 1, 5), (3, 1), (1, 5))[:arity], ((4,), (), (4,))[:arity]]
    for i, dtype in enumerate(allowed):
        for j, shape in enumerate(shapes if i == 0 else shapes[:1]):
            arrays = [
                data(
                    s,
                    dtype,
                    seed=i + 3 * j + 5 * k,
                    low=domain[0],
                    high=domain[1],
                    edges=j == 0 and not (signs and dtype.size < 4),
                )
                for k, s in enumerate(shape)
            ]
            if nonzero and dtype.is_int:
                arrays[1] = np.where(arrays[1] == 0, 3, arrays[1]).astype(dtype.numpy)
            yield sample(op, *arrays, dtypes=[dtype] * arity)
