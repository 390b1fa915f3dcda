"""Non-maximum suppression of boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neve.ir.loops import Builder, Tensor
from neve.ir.types import DType, TensorType
from neve.ops.base import Op, Sample
from neve.ops.checks import check
from neve.ops.samples import data
from neve.ops.scatter import C_TYPES


@dataclass(frozen=True)
class Suppress(Op):
    """Which boxes stay: bool (n,), of boxes (5, n) with rows x1, y1, x2, y2, class, float32 or float64, the best box
    first.

    A box goes if its intersection with a better one of its class that stays is above `threshold` of their union,
    computed and compared as torchvision does on a CPU (torchvision/csrc/ops/cpu/nms_kernel.cpp).
    """

    name = "suppress"
    threshold: float

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (boxes,) = types
        fits = boxes.rank == 2 and boxes.shape[0] == 5 and boxes.dtype in (DType.float32, DType.float64)
        check(fits, self, "boxes (5, n) of float32 or float64", types)
        if not math.isfinite(self.threshold):
            raise ValueError(f"wanted a finite threshold, got {self.threshold}")
        return (TensorType(boxes.shape[1:], DType.bool),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x1, y1, x2, y2, kind = boxes = inputs[0]
        stays = np.ones(boxes.shape[1], np.bool_)
        with np.errstate(all="ignore"):
            area = (x2 - x1) * (y2 - y1)
            for i in range(len(stays)):
                if stays[i]:
                    w = np.where(x2 < x2[i], x2, x2[i]) - np.where(x1[i] < x1, x1, x1[i])
                    h = np.where(y2 < y2[i], y2, y2[i]) - np.where(y1[i] < y1, y1, y1[i])
                    both = np.where(w > 0, w, 0) * np.where(h > 0, h, 0)
                    share = both / (area[i] + area - both)
                    goes = (share.astype(np.float64) > self.threshold) & (kind == kind[i])
                    stays[i + 1 :] &= ~goes[i + 1 :]
        return (stays,)

    def limit(self, dtype: DType) -> float:
        """The largest number of a dtype that is not above the threshold: as good to compare with."""
        if dtype is DType.float64:
            return self.threshold
        near = np.float32(self.threshold)
        return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > self.threshold else near)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (boxes,) = inputs
        n = boxes.shape[1]
        macros = {"T": C_TYPES[boxes.dtype], "N": n, "LIMIT": self.limit(boxes.dtype).hex()}
        return b.extern("suppress.h", macros, inputs, self.infer(boxes.type), scratch=n * boxes.dtype.size)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (n, threshold) in enumerate(((0, 0.5), (1, 0.5), (9, 0.3), (60, 0.5), (60, 0.1), (200, 0.7), (40, 0.0))):
            for dtype in (DType.float32, DType.float64):
                corner, size = data((2, n), dtype, seed=i) * 2, np.abs(data((2, n), dtype, seed=i + 100))
                kind = np.zeros((1, n), dtype.numpy) if i % 2 else np.floor(data((1, n), dtype, seed=i + 200))
                yield Sample(cls(threshold), (np.concatenate([corner, corner + size, kind]),))
