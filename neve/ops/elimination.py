"""Factors of matrices by elimination, and the systems that they solve, as LAPACK has them, on float32 or float64. Axes
before the last two are batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.loops import Builder, Tensor, const
from neve.ir.types import Dim, DType, TensorType, dim, dims, numel, same
from neve.ops.base import Op, Sample
from neve.ops.checks import check, same_shape
from neve.ops.samples import data, sample
from neve.ops.scatter import C_TYPES
from neve.ops.shape import reshaped

REAL = (DType.float32, DType.float64)
FORMS = ("lu", "lu_solve", "triangular", "cholesky", "exponential")
WIDEST = 5000
"""Elements of a matrix, with all that goes with it, up to which the kernel works on matrices side by side."""
Shape = tuple[Dim, ...]


def is_matrix(t: TensorType) -> bool:
    return t.rank >= 2 and t.dtype in REAL


def is_square(t: TensorType) -> bool:
    return is_matrix(t) and same(*t.shape[-2:])


class OnMatrices(Op):
    """Base: lowering to the kernel that works on batches of matrices side by side."""

    def run(
        self, b: Builder, inputs: Sequence[Tensor], ranks: Sequence[int], form: str, elements: Dim, **sizes: str | Dim
    ) -> tuple[Tensor, ...]:
        """elements: of its scratch, for one matrix; the rest as of `extern_on_matrices`."""
        dtype = inputs[0].dtype
        macros: dict[str, str | int | Dim] = {
            "TI": C_TYPES[DType.int32 if dtype is DType.float32 else DType.int64],
            "FORM": str(FORMS.index(form)),
            "SCRATCH": elements,
            "WIDEST": str(WIDEST),
        }
        wide = min(elements, WIDEST) if isinstance(elements, int) else WIDEST
        scratch = dim(elements * dtype.size + wide * 64 + 64)
        outs = self.infer(*(t.type for t in inputs))
        return extern_on_matrices(b, "matrices.h", inputs, outs, ranks, macros | sizes, scratch)


def extern_on_matrices(
    b: Builder,
    header: str,
    inputs: Sequence[Tensor],
    outs: Sequence[TensorType],
    ranks: Sequence[int],
    macros: Mapping[str, str | int | Dim],
    scratch: Dim = 0,
) -> tuple[Tensor, ...]:
    """A kernel on all matrices, if there are any. ranks: of what one matrix has of each input and result."""
    if any(t.numel == 0 for t in (inputs[0].type, outs[0])):
        return tuple(_zeros(b, o) for o in outs)
    shapes = [t.shape for t in inputs] + [t.shape for t in outs]
    flat = [_flat(shape, r) for shape, r in zip(shapes, ranks, strict=True)]
    operands = [reshaped(b, t, s) for t, s in zip(inputs, flat, strict=False)]
    types = [TensorType(s, o.dtype) for s, o in zip(flat[len(inputs) :], outs, strict=True)]
    known = {"T": C_TYPES[inputs[0].dtype], "BATCH": flat[0][0]}
    made = b.extern(f"matrices/{header}", known | dict(macros), operands, types, scratch)
    return tuple(reshaped(b, t, o.shape) for t, o in zip(made, outs, strict=True))


def _flat(shape: Shape, rank: int) -> Shape:
    """With the axes before the last `rank` as one."""
    lead = len(shape) - rank
    return dims((numel(shape[:lead]), *shape[lead:]))


def _zeros(b: Builder, t: TensorType) -> Tensor:
    zero = const(0.0, t.dtype) if t.dtype.is_float else const(0, t.dtype)
    return b.compute(t.shape, t.dtype, lambda *i: zero)


def batched(x: np.ndarray, rank: int = 2) -> np.ndarray:
    """x with one axis before the last `rank`."""
    lead = x.ndim - rank
    return x.reshape(int(np.prod(x.shape[:lead], dtype=np.int64)), *x.shape[lead:])


@dataclass(frozen=True)
class LuFactor(OnMatrices):
    """(…, m, n) → L and U in one, pivots (…, steps) int32 from 1, info (…) int32: the step, from 1, of the first pivot
    that is 0, or 0. A pivot is the first largest of its column; one that is 0 divides nothing. steps: min(m, n).
    transposed: of the transposes, (…, n, m).
    """

    steps: Dim
    transposed: bool = False
    name: ClassVar[str] = "linalg_lu_factor"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(is_matrix(x), self, "matrices of float32 or float64", types)
        lead, (m, n) = x.shape[:-2], x.shape[-2:]
        lu = x.with_shape((*lead, n, m)) if self.transposed else x
        return lu, TensorType((*lead, self.steps), DType.int32), TensorType(lead, DType.int32)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        given = np.swapaxes(inputs[0], -1, -2) if self.transposed else inputs[0]
        x = batched(given).copy()
        count, m, n = x.shape
        steps, every = min(m, n), np.arange(count)
        pivots, info = np.zeros((count, steps), np.int32), np.zeros(count, np.int32)
        with np.errstate(all="ignore"):
            for k in range(steps):
                best, at = np.abs(x[:, k, k]), np.full(count, k)
                for i in range(k + 1, m):
                    more = np.abs(x[:, i, k]) > best
                    best, at = np.where(more, np.abs(x[:, i, k]), best), np.where(more, i, at)
                x[every, k], x[every, at] = x[every, at], x[every, k]
                pivots[:, k] = at + 1
                zero = x[:, k, k] == 0
                info[zero & (info == 0)] = k + 1
                pivot, below = x[:, k, k, None], x[:, k + 1 :, k]
                divided = (m == n <= 4 and k == n - 2) | (np.abs(pivot) < np.finfo(x.dtype).tiny)
                factors = np.where(divided, below / pivot, below * (1 / pivot))
                x[:, k + 1 :, k] = np.where(zero[:, None], below, factors)
                x[:, k + 1 :, k + 1 :] -= x[:, k + 1 :, k, None] * x[:, k, None, k + 1 :]
        lead = given.shape[:-2]
        return x.reshape(given.shape), pivots.reshape(*lead, steps), info.reshape(lead)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        m, n = reversed(inputs[0].shape[-2:]) if self.transposed else inputs[0].shape[-2:]
        sizes = {"M": m, "N": n, "STEPS": self.steps, "TRANSPOSED": str(int(self.transposed))}
        return self.run(b, inputs, (2, 2, 1, 0), "lu", dim(m * n), **sizes)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in ((19, 4, 4), (2, 9, 5, 3), (3, 6), (2, 70, 70), (0, 3, 3), (2, 0, 0)):
            yield sample(cls(min(shape[-2:])), data(shape))
        yield sample(cls(3, True), data((2, 9, 5, 3)))
        yield sample(cls(3), data((9, 3, 4), DType.float64))
        yield sample(cls(3), np.round(data((40, 3, 3), low=-1, high=1)))  # equal pivots, singular matrices


@dataclass(frozen=True)
class LuSolve(OnMatrices):
    """L and U in one (…, n, n), pivots (…, m ≤ n), B (…, n, k) → X with A X = B, where A = Pᵀ L U, or Aᵀ X = B."""

    adjoint: bool = False
    name: ClassVar[str] = "linalg_lu_solve"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        lu, pivots, right = types
        wanted = "L and U (…, n, n), pivots (…, m) of int32, B (…, n, k)"
        check(is_square(lu) and is_matrix(right) and lu.dtype is right.dtype, self, wanted, types)
        check(pivots.dtype is DType.int32 and same_shape(pivots.shape[:-1], lu.shape[:-2]), self, wanted, types)
        check(same_shape(lu.shape[:-1], right.shape[:-1]), self, wanted, types)
        return (right,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        lu, pivots, x = batched(inputs[0]), batched(inputs[1], 1), batched(inputs[2]).copy()
        n = lu.shape[-1]
        if self.adjoint:
            x = substituted(np.swapaxes(lu, 1, 2), substituted(np.swapaxes(lu, 1, 2), x, False, False), True, True)
        every, steps = np.arange(len(x)), range(pivots.shape[1])
        for i in reversed(steps) if self.adjoint else steps:
            other = np.clip(pivots[:, i].astype(np.int64), 1, n) - 1
            x[every, i], x[every, other] = x[every, other], x[every, i]
        if not self.adjoint:
            x = substituted(lu, substituted(lu, x, False, True), True, False)
        return (x.reshape(inputs[2].shape),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        n, k = inputs[2].shape[-2:]
        sizes = {"M": inputs[1].shape[-1], "N": n, "K": k, "ADJOINT": str(int(self.adjoint))}
        return self.run(b, inputs, (2, 1, 2, 2), "lu_solve", dim(n * n + n * k), **sizes)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, k, dtype in (
            ((19, 4, 4), 5, DType.float32),
            ((2, 3, 6, 6), 1, DType.float64),
            ((2, 70, 70), 11, DType.float32),
            ((0, 3, 3), 1, DType.float32),
        ):
            a = data(shape, dtype) + 9 * np.eye(shape[-1], dtype=dtype.numpy)[::-1]
            lu, pivots, _ = LuFactor(shape[-1]).eval(a)
            for adjoint in (False, True):
                yield sample(cls(adjoint), lu, pivots, data((*shape[:-1], k), dtype, 1))


@dataclass(frozen=True)
class TriangularSolve(OnMatrices):
    """A (…, n, n), B (…, n, k) → X with A X = B. One triangle of A counts, and with unit its diagonal is ones.

    transposed: the input has Aᵀ. squared: X with A Aᵀ X = B.
    """

    upper: bool
    unit: bool = False
    transposed: bool = False
    squared: bool = False
    name: ClassVar[str] = "linalg_solve_triangular"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        a, right = types
        wanted = "A (…, n, n) and B (…, n, k) of float32 or float64"
        check(is_square(a) and is_matrix(right) and a.dtype is right.dtype, self, wanted, types)
        check(same_shape(a.shape[:-1], right.shape[:-1]), self, wanted, types)
        return (right,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        a = batched(inputs[0])
        a = np.swapaxes(a, 1, 2) if self.transposed else a
        x = substituted(a, batched(inputs[1]), self.upper, self.unit)
        if self.squared:
            x = substituted(np.swapaxes(a, 1, 2), x, not self.upper, self.unit)
        return (x.reshape(inputs[1].shape),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        n, k = inputs[1].shape[-2:]
        flags = {"UPPER": self.upper, "UNIT": self.unit, "TRANSPOSED": self.transposed, "SQUARED": self.squared}
        sizes = {"N": n, "K": k, **{name: str(int(flag)) for name, flag in flags.items()}}
        return self.run(b, inputs, (2, 2, 2), "triangular", dim(n * n + n * k), **sizes)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for flags in ((0, 0, 0, 0), (1, 1, 0, 0), (0, 1, 1, 0), (1, 0, 1, 1), (0, 1, 0, 1), (1, 0, 0, 0)):
            a = data((19, 4, 4), low=-0.2, high=0.2) + (1 if flags[1] else 3) * np.eye(4, dtype=np.float32)
            yield sample(cls(*map(bool, flags)), a, data((19, 4, 5)))
        for shape, k in (((3, 3), 2), ((2, 70, 70), 3), ((2, 0, 0), 2), ((2, 2, 2), 0)):
            a = data(shape, low=-0.2, high=0.2) + 3 * np.eye(shape[-1], dtype=np.float32)
            yield sample(cls(False), a, data((*shape[:-1], k)))
        yield sample(cls(True), data((5, 4, 4), DType.float64) + 9 * np.eye(4), data((5, 4, 3), DType.float64))
        yield sample(cls(False), np.zeros((2, 2), np.float32), np.ones((2, 1), np.float32))


@dataclass(frozen=True)
class Cholesky(OnMatrices):
    """(…, n, n), of which the lower triangle counts → L with A = L Lᵀ, and info (…) int32: the order of the first
    leading minor that is not positive, or 0. There torch leaves L open; here it is NaN from that column on.
    """

    name: ClassVar[str] = "linalg_cholesky"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(is_square(x), self, "square matrices of float32 or float64", types)
        return x, TensorType(x.shape[:-2], DType.int32)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x = np.tril(batched(inputs[0]))
        info = np.zeros(len(x), np.int32)
        with np.errstate(all="ignore"):
            for k in range(x.shape[-1]):
                bad = ~(x[:, k, k] > 0)
                info[bad & (info == 0)] = k + 1
                x[:, k, k] = np.sqrt(np.where(bad, np.nan, x[:, k, k]))
                x[:, k + 1 :, k] /= x[:, k, k, None]
                column = x[:, k + 1 :, k]
                x[:, k + 1 :, k + 1 :] -= np.tril(column[:, :, None] * column[:, None, :])
        return x.reshape(inputs[0].shape), info.reshape(inputs[0].shape[:-2])

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        return bool(self.eval(*inputs)[1].any()), False

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        n = inputs[0].shape[-1]
        return self.run(b, inputs, (2, 2, 0), "cholesky", dim(n * n + n), N=n)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in ((19, 4, 4), (2, 70, 70), (0, 3, 3), (2, 0, 0)):
            x = data(shape)
            yield sample(cls(), x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1], dtype=np.float32))
        yield sample(cls(), np.array([[4.0, 9, 9], [2, 5, 9], [-2, 1, 7]]))
        yield sample(cls(), data((40, 3, 3)))  # few are positive definite


def substituted(a: np.ndarray, right: np.ndarray, upper: bool, unit: bool) -> np.ndarray:
    """(b, n, n), (b, n, k) → x with a x = right, row by row."""
    x, n = right.copy(), a.shape[-1]
    with np.errstate(all="ignore"):
        for i in reversed(range(n)) if upper else range(n):
            for t in range(i + 1, n) if upper else range(i):
                x[:, i] -= a[:, i, t, None] * x[:, t]
            if not unit:
                x[:, i] /= a[:, i, i, None]
    return x
