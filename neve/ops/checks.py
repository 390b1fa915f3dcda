"""Small helpers of the op families: refusals with one wording, and the sizes of sliding windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, call, cast, const
from neve.ir.types import Dim, DType, TensorType, dim, same
from neve.ops.base import Op


def check(ok: bool, op: Op, wanted: str, types: Sequence[TensorType]) -> None:
    """Raises ValueError("NAME wants …, got …") unless ok."""
    if not ok:
        raise ValueError(f"{op.name} wants {wanted}, got {', '.join(map(str, types)) or 'nothing'}")


def check_same_dtype(op: Op, types: Sequence[TensorType]) -> None:
    check(len({t.dtype for t in types}) == 1, op, "inputs of one dtype", types)


def check_float(op: Op, types: Sequence[TensorType]) -> None:
    """All inputs of one floating-point type."""
    check_same_dtype(op, types)
    check(types[0].dtype.is_float, op, "floating-point inputs", types)


def same_shape(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))


def less(a: Dim, b: Dim) -> bool:
    """Whether a < b is certain; False when it depends on symbols."""
    return bool(isinstance(a, int) and isinstance(b, int) and a < b)


def floor_div(a: Dim, b: int) -> Dim:
    """floor(a / b) of a dim."""
    return dim(a // b)


def windows(
    size: Dim, kernel: int, stride: int = 1, before: int = 0, after: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> Dim:
    """How many windows fit along an axis of that size: PyTorch's convolution and pooling output size.

    With ceil_mode a last partial window counts if it starts inside the input or its left padding.
    """
    last = before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return dim(floor_div(size + last, stride) + 1)
    return floor_div(size + min(last + stride, before) + stride - 1, stride)


def wide(dtype: DType) -> DType:
    """The type that values of dtype are computed in: float32 for the half types, else dtype."""
    return DType.float32 if dtype in (DType.float16, DType.bfloat16) else dtype


def widened(types: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """Types with the dtype that theirs is computed in."""
    return tuple(TensorType(t.shape, wide(t.dtype)) for t in types)


def exact(x: np.ndarray) -> np.ndarray:
    """Floating-point values in float64, so that a reference is better than what it checks; other types as they are."""
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def number(value: Dim | Index, dtype: DType) -> Expr:
    """A size as a value of dtype."""
    i = Index.of(value)
    return const(float(i.const) if dtype.is_float else i.const, dtype) if i.const is not None else FromIndex(i, dtype)


def lowest(dtype: DType) -> Expr:
    """What no element is less than."""
    return const(float("-inf") if dtype.is_float else int(np.iinfo(dtype.numpy).min), dtype)


def finish(b: Builder, y: Tensor, dtype: DType, bias: Sequence[Tensor] = (), axis: int = -1) -> Tensor:
    """y, plus the bias, if one is given, along an axis, in dtype; y itself if that changes nothing."""
    if bias:
        return b.compute(y.shape, dtype, lambda *i: cast(call("add", y(*i), cast(bias[0](i[axis]), y.dtype)), dtype))
    return y if y.dtype is dtype else b.compute(y.shape, dtype, lambda *i: cast(y(*i), dtype))
