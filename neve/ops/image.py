"""Sampling images at computed positions."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import TensorType, same
from neve.ops.base import Op
from neve.ops.checks import check, check_float


@dataclass(frozen=True)
class GridSample(Op):
    """x (N, C, H, W) read at grid (N, OH, OW, 2) of (x, y) in −1…1, or x (N, C, D, H, W) at (N, OD, OH, OW, 3).

    mode: "bilinear", "nearest" or (4-d only) "bicubic"; padding_mode: "zeros", "border" or "reflection".
    """

    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool = False
    name: ClassVar[str] = "grid_sampler"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 2 and types[0].rank == types[1].rank and types[0].rank in (4, 5), self, "x and grid of rank 4 or 5", types)
        check_float(self, types)
        x, grid = types
        n = x.rank - 2
        check(same(x.shape[0], grid.shape[0]) and grid.shape[-1] == n, self, f"grid (N, out…, {n})", types)
        check(all(d != 0 for d in x.shape[2:]), self, "spatial sizes > 0", types)
        modes = ("bilinear", "nearest", "bicubic") if n == 2 else ("bilinear", "nearest")
        check(self.mode in modes and self.padding_mode in ("zeros", "border", "reflection"), self,
              f"a known mode (is {self.mode}, {self.padding_mode})", types)
        return (x.with_shape((*x.shape[:2], *grid.shape[1:-1])),)
