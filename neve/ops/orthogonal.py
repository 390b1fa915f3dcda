"""Orthogonal decompositions of matrices of float32 or float64, in the last two axes: QR, symmetric eigenproblems,
singular values. Kernels and meaning compute in float64.

Torch promises no signs of vectors, nor a basis where values are equal or a matrix has no full rank (`Op.open`). Here
they are LAPACK's, as MKL has it (see `orthogonal_reference.py`): what torch gives on x86 for distinct values, nearly
always up to 25 rows, mostly beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Tensor, const
from neve.ir.types import Dim, DType, TensorType, dim, dims, numel
from neve.ops import orthogonal_reference as reference
from neve.ops import singular_reference
from neve.ops.base import Op, Sample
from neve.ops.checks import check, same_shape
from neve.ops.elimination import is_matrix, is_square
from neve.ops.samples import data, sample
from neve.ops.scatter import C_TYPES
from neve.ops.shape import reshaped

Arrays = tuple[np.ndarray, ...]


def check_smaller(op: Op, k: Dim, x: TensorType) -> None:
    """That k may be the smaller size of matrices x; of symbolic sizes, capture knows it (min needs their ranges)."""
    m, n = x.shape[-2:]
    check(not isinstance(m, int) or not isinstance(n, int) or k == min(m, n), op, f"matrices with a side of {k}", (x,))


def each(op: Op, f: Callable[..., Arrays], ranks: Sequence[int], inputs: Sequence[np.ndarray]) -> Arrays:
    """f on each matrix, as float64; ranks: of what one matrix has of each input."""
    types = op.infer(*(TensorType(x.shape, DType(x.dtype.name)) for x in inputs))
    lead = inputs[0].shape[: inputs[0].ndim - ranks[0]]
    outs = [np.zeros(t.sizes, t.dtype.numpy) for t in types]
    for i in np.ndindex(*lead):
        with np.errstate(all="ignore"):
            made = f(*(np.array(x[i], np.float64) for x in inputs))
            for out, value in zip(outs, made, strict=True):
                out[i] = value
    return tuple(outs)


def deficient(x: np.ndarray) -> bool:
    """Whether first columns of a matrix depend on each other, as far as its type tells: R may be one of many then."""
    if not x.size or not np.isfinite(x).all():
        return bool(x.size)
    diagonal = np.abs(np.diagonal(np.linalg.qr(x.astype(np.float64), "r"), 0, -2, -1))
    least = 32 * max(x.shape[-2:]) * rounding(x) * np.abs(x).max((-2, -1))
    return bool((diagonal.min(-1) <= least).any())


def rounding(x: np.ndarray) -> float:
    """Half the distance from 1 to the next number of x's type."""
    return float(np.finfo(x.dtype).eps) / 2


def call(
    op: Op,
    b: Builder,
    header: str,
    inputs: Sequence[Tensor],
    ranks: Sequence[int],
    doubles: Dim,
    **macros: Dim | bool,
) -> tuple[Tensor, ...]:
    """A kernel on a batch of matrices. ranks: of what one matrix has of each input, then of each result; doubles: the
    kernel's scratch.
    """
    outs = op.infer(*(t.type for t in inputs))
    dtype = inputs[0].dtype
    if all(o.numel == 0 for o in outs):
        return tuple(b.compute(o.shape, dtype, lambda *i: const(0.0, dtype)) for o in outs)
    batch = numel(inputs[0].shape[: len(inputs[0].shape) - ranks[0]])
    text: dict[str, str | int | Dim] = {"T": C_TYPES[dtype], "BATCH": batch}
    text |= {k: str(int(v)) if isinstance(v, bool) else v for k, v in macros.items()}
    flat = [reshaped(b, t, (batch, *t.shape[len(t.shape) - r :])) for t, r in zip(inputs, ranks, strict=False)]
    types = [
        TensorType(dims((batch, *o.shape[o.rank - r :])), o.dtype)
        for o, r in zip(outs, ranks[len(inputs) :], strict=True)
    ]
    made = b.extern(f"orthogonal/{header}", text, flat, types, scratch=dim(8 * Index.of(doubles)))
    return tuple(reshaped(b, t, o.shape) for t, o in zip(made, outs, strict=True))


@dataclass(frozen=True)
class Qr(Op):
    """(…, m, n), k = min(m, n) → Q (…, m, k) and R (…, k, n), with m for k in mode "complete"; in mode "r" R alone."""

    k: Dim
    mode: str = "reduced"
    name = "linalg_qr"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(is_matrix(x) and self.mode in ("reduced", "complete", "r"), self, "matrices", types)
        check_smaller(self, self.k, x)
        *lead, m, n = x.shape
        k = m if self.mode == "complete" else self.k
        r = x.with_shape((*lead, k, n))
        return (r,) if self.mode == "r" else (x.with_shape((*lead, m, k)), r)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        def one(a: np.ndarray) -> Arrays:
            m, n = a.shape
            k = m if self.mode == "complete" else min(m, n)
            taus = reference.triangularize(a)
            r = np.triu(a[:k])
            return (r,) if self.mode == "r" else (reference.orthogonal(a, taus, np.eye(m, k)), r)

        return each(self, one, (2,), inputs)

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        return (deficient(inputs[0]),) * (1 if self.mode == "r" else 2)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        m, n = inputs[0].shape[-2:]
        complete, vectors = self.mode == "complete", self.mode != "r"
        doubles = m * n + m * (m if complete else self.k) + self.k + m + n
        ranks = (2, 2, 2) if vectors else (2, 2)
        return call(self, b, "qr.h", inputs, ranks, doubles, M=m, N=n, K=self.k, COMPLETE=complete, VECTORS=vectors)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for mode, shapes in (
            ("reduced", ((3, 3), (2, 5, 4, 3), (2, 3, 6), (2, 0, 3))),
            ("complete", ((2, 5, 4, 3), (2, 3, 0))),
            ("r", ((20, 17), (0, 3, 3))),
        ):
            for shape in shapes:
                yield sample(cls(min(shape[-2:]), mode), data(shape))
        yield sample(cls(2, "complete"), np.full((3, 2), 2.0**700))


@dataclass(frozen=True)
class Geqrf(Op):
    """(…, m, n), k = min(m, n) → R in and above the diagonal, the reflections below it, and their factors (…, k)."""

    k: Dim
    name = "geqrf"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(is_matrix(x), self, "matrices", types)
        check_smaller(self, self.k, x)
        return x, x.with_shape((*x.shape[:-2], self.k))

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        def one(a: np.ndarray) -> Arrays:
            taus = reference.triangularize(a)
            return a, np.array(taus)

        return each(self, one, (2,), inputs)

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        return (deficient(inputs[0]),) * 2

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        m, n = inputs[0].shape[-2:]
        return call(self, b, "geqrf.h", inputs, (2, 2, 1), m * n + self.k + n, M=m, N=n, K=self.k)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in ((2, 5, 4, 3), (3, 6), (0, 3, 3)):
            yield sample(cls(min(shape[-2:])), data(shape))


@dataclass(frozen=True)
class Ormqr(Op):
    """Reflections (…, m, n), as `Geqrf` gives them, factors (…, k), k ≤ min(m, n), and C (…, m, c) → Q C, where Q, of
    m rows, is the product of the reflections; transpose: Qᵀ C.
    """

    transpose: bool = False
    name = "ormqr"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        a, tau, c = types
        wanted = "reflections (…, m, n), factors (…, k) and C (…, m, c) of one type"
        check(is_matrix(a) and tau.dtype is a.dtype and c.dtype is a.dtype, self, wanted, types)
        check(tau.rank == a.rank - 1 and c.rank == a.rank, self, wanted, types)
        check(same_shape(a.shape[:-1], c.shape[:-1]) and same_shape(a.shape[:-2], tau.shape[:-1]), self, wanted, types)
        return (c,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        def one(a: np.ndarray, tau: np.ndarray, c: np.ndarray) -> Arrays:
            order = range(len(tau))
            for k in order if self.transpose else reversed(order):
                reference.apply(a[k:, k], tau[k], c[k:])
            return (c,)

        return each(self, one, (2, 1, 2), inputs)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (m, n), k, c = inputs[0].shape[-2:], inputs[1].shape[-1], inputs[2].shape[-1]
        macros = {"M": m, "N": n, "K": k, "COLUMNS": c, "TRANSPOSE": self.transpose}
        return call(self, b, "ormqr.h", inputs, (2, 1, 2, 2), m * n + m * c + c, **macros)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for transpose, shape, c in ((False, (2, 5, 4, 3), 4), (True, (3, 3), 2), (False, (2, 3, 0), 2)):
            a, tau = Geqrf(min(shape[-2:])).eval(data(shape))
            yield sample(cls(transpose), a, tau, data((*shape[:-1], c), seed=1))
        a, tau = Geqrf(4).eval(data((2, 5, 4), DType.float64))
        yield sample(cls(), a, tau[..., :2], data((2, 5, 1), DType.float64))


@dataclass(frozen=True)
class Eigh(Op):
    """Symmetric (…, n, n), of which one triangle is read → eigenvalues (…, n), ascending, and, unless vectors is False,
    vectors (…, n, n) as columns. A matrix that is not finite gives NaN.
    """

    upper: bool = False
    vectors: bool = True
    name = "linalg_eigh"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(is_square(x), self, "square matrices", types)
        values = x.with_shape(x.shape[:-1])
        return (values, x) if self.vectors else (values,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        def one(a: np.ndarray) -> Arrays:
            return reference.eigh(a, self.upper, self.vectors, rounding(inputs[0]))[: 1 + self.vectors]

        return each(self, one, (2,), inputs)

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        return not np.isfinite(inputs[0]).all(), inputs[0].size > 0

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        n = inputs[0].shape[-1]
        ranks = (2, 1, 2) if self.vectors else (2, 1)
        macros = {"N": n, "UPPER": self.upper, "VECTORS": self.vectors}
        return call(self, b, "eigh.h", inputs, ranks, 2 * n * n + 4 * n, **macros)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for upper, vectors, shape in (
            (False, True, (2, 5, 4, 4)),
            (True, True, (3, 3)),
            (False, False, (2, 1, 1)),
            (True, False, (6, 6)),
            (False, True, (2, 0, 0)),
        ):
            yield sample(cls(upper, vectors), data(shape))
        for n, dtype in ((2, DType.float64), (16, DType.float32), (27, DType.float64)):
            yield sample(cls(), data((n, n), dtype))
        yield sample(cls(), np.ones((2, 2)) * 2.0**1000)
        yield sample(cls(), data((2, 3, 3), edges=True))


@dataclass(frozen=True)
class Svd(Op):
    """(…, m, n), k = min(m, n) → U (…, m, k), singular values (…, k), descending, Vᵀ (…, k, n), but all m in U and n in
    Vᵀ if full. Unless vectors, the values alone. A matrix that is not finite gives NaN.
    """

    k: Dim
    full: bool = False
    vectors: bool = True
    name = "linalg_svd"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check(is_matrix(x), self, "matrices", types)
        check_smaller(self, self.k, x)
        *lead, m, n = x.shape
        values = x.with_shape((*lead, self.k))
        u, v = (*lead, m, m if self.full else self.k), (*lead, n if self.full else self.k, n)
        return (x.with_shape(u), values, x.with_shape(v)) if self.vectors else (values,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        def one(a: np.ndarray) -> Arrays:
            made = singular_reference.svd(a, self.full, self.vectors, rounding(inputs[0]))
            return made if self.vectors else made[1:2]

        return each(self, one, (2,), inputs)

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        some, infinite = inputs[0].size > 0 or self.full, not np.isfinite(inputs[0]).all()
        return (some, infinite, some) if self.vectors else (infinite,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (m, n), k = inputs[0].shape[-2:], self.k
        most = m + n - k
        doubles = most * k + most * (most if self.full else k) + 4 * k * k + 8 * most
        macros = {"M": m, "N": n, "K": k, "FULL": self.full, "VECTORS": self.vectors}
        ranks = (2, 2, 1, 2) if self.vectors else (2, 1)
        return call(self, b, "svd.h", inputs, ranks, doubles, **macros)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for full, vectors, shape in (
            (False, True, (2, 5, 4, 3)),
            (True, True, (2, 3, 4)),
            (True, True, (2, 9, 3)),
            (False, True, (3, 9)),
            (True, True, (2, 0, 3)),
            (True, True, (2, 1)),
            (False, True, (1, 1)),
            (False, False, (2, 3)),
            (False, True, (0, 3, 3)),
            (False, True, (16, 16)),
        ):
            yield sample(cls(min(shape[-2:]), full, vectors), data(shape))
        yield sample(cls(27, True), data((31, 27), DType.float64))
        yield sample(cls(4), np.diag(np.array([1, -3, 0, 2], np.float32)))
        yield sample(cls(3), data((2, 3, 3), edges=True))
