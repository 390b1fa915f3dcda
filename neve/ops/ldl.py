"""L D Lᵀ of symmetric matrices that need not be definite, by the pivots of Bunch and Kaufman, as LAPACK has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.loops import Builder, Tensor
from neve.ir.types import DType, TensorType
from neve.ops.base import Op, Sample
from neve.ops.checks import check, same_shape
from neve.ops.elimination import batched, extern_on_matrices, is_matrix, is_square
from neve.ops.samples import data, sample

ALPHA = (1 + 17**0.5) / 8


@dataclass(frozen=True)
class LdlFactor(Op):
    """(…, n, n), of which the lower triangle counts → L and D in one, 0 above the diagonal; pivots (…, n) int32: the
    row, from 1, with which each was exchanged, of a block of two negative and the same for both; info (…) int32: the
    step, from 1, of the first block of D that is 0, or 0.
    """

    name: ClassVar[str] = "linalg_ldl_factor"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(is_square(x), self, "square matrices of float32 or float64", types)
        return x, TensorType(x.shape[:-1], DType.int32), TensorType(x.shape[:-2], DType.int32)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (given,) = inputs
        x = batched(given).copy()
        pivots, info = np.zeros(x.shape[:-1], np.int32), np.zeros(len(x), np.int32)
        with np.errstate(all="ignore"):
            for b in range(len(x)):
                info[b] = _factor(x[b], pivots[b])
        return np.tril(x).reshape(given.shape), pivots.reshape(given.shape[:-1]), info.reshape(given.shape[:-2])

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        sizes = {"N": inputs[0].shape[-1], "SOLVE": "0"}
        return extern_on_matrices(b, "ldl.h", inputs, self.infer(inputs[0].type), (2, 2, 1, 0), sizes)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, dtype in (((2, 9, 5, 5), DType.float64), ((30, 6, 6), DType.float32), ((2, 0, 0), DType.float32)):
            yield sample(cls(), data(shape, dtype))
        yield sample(cls(), np.round(data((40, 3, 3), low=-1, high=1)))  # zeros, equal pivots


@dataclass(frozen=True)
class LdlSolve(Op):
    """What `LdlFactor` gives of A, and B (…, n, k) → X with A X = B."""

    name: ClassVar[str] = "linalg_ldl_solve"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        ld, pivots, right = types
        wanted = "L and D (…, n, n), pivots (…, n) of int32, B (…, n, k)"
        check(is_square(ld) and is_matrix(right) and ld.dtype is right.dtype, self, wanted, types)
        check(pivots.dtype is DType.int32 and same_shape(pivots.shape, ld.shape[:-1]), self, wanted, types)
        check(same_shape(ld.shape[:-1], right.shape[:-1]), self, wanted, types)
        return (right,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        ld, pivots, x = batched(inputs[0]), batched(inputs[1], 1), batched(inputs[2]).copy()
        with np.errstate(all="ignore"):
            for b in range(len(x)):
                _solve(ld[b], pivots[b], x[b])
        return (x.reshape(inputs[2].shape),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        sizes = {"N": inputs[0].shape[-1], "K": inputs[2].shape[-1], "SOLVE": "1"}
        return extern_on_matrices(b, "ldl.h", inputs, (inputs[2].type,), (2, 1, 2, 2), sizes)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, dtype in (((9, 4, 4), DType.float32), ((2, 3, 6, 6), DType.float64)):
            x = data(shape, dtype, high=9)
            ld, pivots, _ = LdlFactor().eval(x + np.swapaxes(x, -1, -2))
            yield sample(cls(), ld, pivots, data((*shape[:-1], 3), dtype, 1))


def _factor(a: np.ndarray, pivots: np.ndarray) -> int:
    """LAPACK's sytf2 on the lower triangle of a, in place; gives info."""
    info, k, n = 0, 0, len(a)
    while k < n:
        p, two = k, False
        own, column = abs(a[k, k]), np.abs(a[k + 1 :, k])
        most = column.max(initial=0)
        zero = bool(np.isnan(own)) or max(own, most) == 0
        if not zero and not own >= ALPHA * most:
            best = k + 1 + int(column.argmax())
            row = np.abs(np.concatenate([a[best, k:best], a[best + 1 :, best]])).max()
            if not own >= ALPHA * most * (most / row):
                p, two = best, not abs(a[best, best]) >= ALPHA * row
        whole = np.tril(a[k:, k:]) + np.tril(a[k:, k:], -1).T
        order = np.arange(n - k)
        order[[k + two - k, p - k]] = order[[p - k, k + two - k]]
        a[k:, k:] = whole[np.ix_(order, order)]
        end = k + 1 + two
        if zero:
            info = info or k + 1
        else:
            factor = _divided(a[end:, k:end].T, a[k:end, k:end]).T
            a[end:, end:] -= factor @ a[end:, k:end].T
            a[end:, k:end] = factor
        pivots[k:end] = -(p + 1) if two else p + 1
        k = end
    return info


def _solve(ld: np.ndarray, pivots: np.ndarray, x: np.ndarray) -> None:
    """LAPACK's sytrs, in place."""
    blocks: list[tuple[int, int]] = []
    end = 0
    while (k := end) < len(ld):
        end = k + 2 if pivots[k] < 0 and k + 1 < len(ld) else k + 1
        blocks.append((k, end))
    for k, end in blocks:
        _exchange(x, end - 1, pivots[k])
        x[end:] -= ld[end:, k:end] @ x[k:end]
        x[k:end] = _divided(x[k:end], ld[k:end, k:end])
    for k, end in reversed(blocks):
        x[k:end] -= ld[end:, k:end].T @ x[end:]
        _exchange(x, end - 1, pivots[k])


def _divided(rows: np.ndarray, block: np.ndarray) -> np.ndarray:
    """The rows over a block of D, of one row or of two."""
    if len(block) == 1:
        return np.asarray(rows / block)
    (first, _), (off, second) = block
    top, bottom = rows
    return np.asarray(np.stack([second * top - off * bottom, first * bottom - off * top]) / (first * second - off**2))


def _exchange(x: np.ndarray, row: int, pivot: Any) -> None:
    rows: Sequence[int] = [row, min(max(abs(int(pivot)) - 1, 0), len(x) - 1)]
    x[rows] = x[rows[::-1]]
