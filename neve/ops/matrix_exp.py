"""The exponential of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.loops import Builder, Tensor
from neve.ir.types import DType, TensorType, dim
from neve.ops.base import Sample
from neve.ops.checks import check, exact
from neve.ops.elimination import OnMatrices, is_square
from neve.ops.samples import data, sample


@dataclass(frozen=True)
class MatrixExp(OnMatrices):
    """(…, n, n) → the sum of Aᵏ / k!, for all k from 0."""

    name: ClassVar[str] = "linalg_matrix_exp"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(is_square(types[0]), self, "square matrices of float32 or float64", types)
        return types

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        n = x.shape[-1]
        with np.errstate(all="ignore"):
            norm = np.abs(exact(x)).sum(-2).max(-1, initial=0)
            squarings = np.where(np.isfinite(norm), np.ceil(np.log2(np.maximum(norm, 1))), 0)[..., None, None]
            a = exact(x) / 2**squarings
            term = total = np.broadcast_to(np.eye(n), x.shape)
            for k in range(1, 25):
                term = term @ a / k
                total = total + term
            for step in range(int(squarings.max(initial=0))):
                total = np.where(step < squarings, total @ total, total)
        return (total.astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        n = inputs[0].shape[-1]
        return self.run(b, inputs, (2, 2), "exponential", dim(5 * n * n), N=n)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in ((2, 3, 6, 6), (2, 40, 40), (0, 3, 3), (2, 0, 0)):
            yield sample(cls(), data(shape, low=-0.3, high=0.3))
        yield sample(cls(), data((5, 4, 4), DType.float64))
        scales = np.array([1e-30, 1e-3, 0.1, 1, 3, 10, 0], np.float32).reshape(7, 1, 1)
        yield sample(cls(), data((7, 3, 3)) * scales)
        yield sample(cls(), np.array([[[np.nan, 1], [0, 1]], [[1, 2], [0, np.nan]]], np.float32))
