"""Resampling to a given size: nearest, linear and cubic interpolation over the last 1 to 3 axes of x (N, C, spatial…)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import Dim, DType, TensorType
from neve.ops.base import Op
from neve.ops.checks import check, check_float, less

Scales = tuple[float | None, ...]


@dataclass(frozen=True)
class UpsampleNearest(Op):
    """out[o] = x[min(⌊o·s⌋, size − 1)], with exact ⌊(o + ½)·s⌋; s = 1 / scale, or size / output without a scale, in float32.

    output: one dim a spatial axis; scales: () or one a spatial axis, as ATen's scale arguments.
    """

    output: tuple[Dim, ...]
    scales: Scales = ()
    exact: bool = False
    name: ClassVar[str] = "upsample_nearest"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return (check_resize(self, types, self.output, self.scales, (1, 2, 3)),)


@dataclass(frozen=True)
class UpsampleLinear(Op):
    """Linear, bilinear or trilinear interpolation, by the number of spatial axes.

    output: one dim a spatial axis; scales: () or one a spatial axis, as ATen's scale arguments.
    """

    output: tuple[Dim, ...]
    align_corners: bool = False
    scales: Scales = ()
    name: ClassVar[str] = "upsample_linear"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        return (check_resize(self, types, self.output, self.scales, (1, 2, 3)),)


@dataclass(frozen=True)
class UpsampleBicubic(Op):
    """Cubic convolution (a = −¾) over two axes, edges replicated; attributes as UpsampleLinear."""

    output: tuple[Dim, ...]
    align_corners: bool = False
    scales: Scales = ()
    name: ClassVar[str] = "upsample_bicubic"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check_float(self, types)
        return (check_resize(self, types, self.output, self.scales, (2,)),)


def check_resize(op: Op, types: tuple[TensorType, ...], output: tuple[Dim, ...], scales: Scales, ranks: tuple[int, ...]) -> TensorType:
    """The output type, after checking the attributes."""
    n = len(output)
    check(len(types) == 1 and n in ranks and types[0].rank == n + 2, op, f"x (N, C, spatial…) with {' or '.join(map(str, ranks))} spatial axes", types)
    check(types[0].dtype is not DType.bool, op, "numbers", types)
    check(len(scales) in (0, n), op, f"{n} scales or none", types)
    check(not any(less(d, 1) for d in (*types[0].shape[2:], *output)), op, f"spatial sizes > 0 (output {output})", types)
    return types[0].with_shape((*types[0].shape[:2], *output))
