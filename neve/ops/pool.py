"""Pooling over the last 1 to 3 axes; any leading axes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import Dim, DType, TensorType, dim
from neve.ops.base import Op
from neve.ops.checks import check, check_float, less, windows


@dataclass(frozen=True)
class MaxPool(Op):
    """The largest element of each window, NaN if there is one: x (…, spatial…) → (…, out…). All tuples one int a spatial axis.

    Padding never wins.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    name: ClassVar[str] = "max_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(types[0].dtype is not DType.bool, self, "numbers", types)
        out = pool_shape(self, types, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode)
        return (types[0].with_shape(out),)


@dataclass(frozen=True)
class MaxPoolIndices(MaxPool):
    """Where MaxPool found its values: int64 positions in the flattened spatial axes of x; the first best, but the last NaN."""

    name: ClassVar[str] = "max_pool_indices"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (super().infer(*types)[0].with_dtype(DType.int64),)


@dataclass(frozen=True)
class AvgPool(Op):
    """The mean of each window: x (…, spatial…) → (…, out…).

    The divisor is divisor_override, else the cells inside the input with (count_include_pad) or without its padding.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    name: ClassVar[str] = "avg_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        check(self.divisor_override != 0, self, "a divisor other than 0", types)
        out = pool_shape(self, types, self.kernel, self.stride, self.padding, (1,) * len(self.kernel), self.ceil_mode)
        return (types[0].with_shape(out),)


@dataclass(frozen=True)
class AdaptiveAvgPool(Op):
    """The mean of cells ⌊o·I/O⌋ … ⌈(o + 1)·I/O⌉ − 1 an axis: x (…, spatial…) → (…, *output)."""

    output: tuple[Dim, ...]
    name: ClassVar[str] = "adaptive_avg_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        return (types[0].with_shape(adaptive_shape(self, types, self.output)),)


@dataclass(frozen=True)
class AdaptiveMaxPool(Op):
    """The largest of cells ⌊o·I/O⌋ … ⌈(o + 1)·I/O⌉ − 1 an axis, NaN if there is one: x (…, spatial…) → (…, *output)."""

    output: tuple[Dim, ...]
    name: ClassVar[str] = "adaptive_max_pool"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 1 and types[0].dtype is not DType.bool, self, "numbers", types)
        return (types[0].with_shape(adaptive_shape(self, types, self.output)),)


@dataclass(frozen=True)
class AdaptiveMaxPoolIndices(AdaptiveMaxPool):
    """Where AdaptiveMaxPool found its values: int64 positions in the flattened spatial axes of x; the first best, but the last NaN."""

    name: ClassVar[str] = "adaptive_max_pool_indices"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (super().infer(*types)[0].with_dtype(DType.int64),)


def pool_shape(op: Op, types: tuple[TensorType, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
               dilation: tuple[int, ...], ceil_mode: bool) -> tuple[Dim, ...]:
    """The output shape, after checking the attributes."""
    n = len(kernel)
    check(len(types) == 1 and 1 <= n <= 3 and types[0].rank >= n, op, f"one input with {n} spatial axes", types)
    check(len(stride) == len(padding) == len(dilation) == n, op, "attributes of one length", types)
    check(min(kernel + stride + dilation) > 0, op, "kernel, stride and dilation > 0", types)
    check(all(0 <= 2 * p <= d * (k - 1) + 1 for p, k, d in zip(padding, kernel, dilation, strict=True)), op,
          f"padding between 0 and half the kernel (padding {padding}, kernel {kernel})", types)
    out: list[Dim] = []
    for d, k, s, p, dil in zip(types[0].shape[-n:], kernel, stride, padding, dilation, strict=True):
        check(not less(d, 1), op, "spatial sizes > 0", types)
        out.append(windows(d, k, s, p, p, dil, ceil_mode))
        check(not less(out[-1], 1), op, f"an input no smaller than the kernel {kernel}", types)
    return (*types[0].shape[:-n], *out)


def adaptive_shape(op: Op, types: tuple[TensorType, ...], output: tuple[Dim, ...]) -> tuple[Dim, ...]:
    n = len(output)
    check(len(types) == 1 and 1 <= n <= 3 and types[0].rank >= n, op, f"one input with {n} spatial axes", types)
    check(not any(less(dim(d), 1) for d in types[0].shape[-n:]), op, "spatial sizes > 0", types)
    return (*types[0].shape[:-n], *output)
