"""Functions of matrices that torch.export does not take, or with the example's sizes alone, composed of those that it
takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from neve.capture.asserted import check
from neve.errors import CaptureError

Order = float | int | str
LINALG: Any = torch.linalg
LEAST: Any = torch.sym_min
LARGEST: Any = torch.sym_max


def matrix_norm(
    A: Tensor,  # noqa: N803
    ord: Order = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """torch.linalg.matrix_norm; where it takes the largest or the smallest of something, torch's own fixes sizes."""
    if isinstance(ord, str) or abs(ord) not in (1, 2, math.inf) or A.dim() < 2:
        return LINALG.matrix_norm(A, ord, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]
    first, second = (d % A.dim() for d in dim)
    if any(isinstance(n, int) and n == 0 for n in (A.shape[first], A.shape[second])):
        return LINALG.matrix_norm(A, ord, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]
    x = A if dtype is None else A.to(dtype)
    matrices = x.movedim((first, second), (-2, -1))
    axis = -2 if abs(ord) == 1 else -1
    values = LINALG.svdvals(matrices) if abs(ord) == 2 else LINALG.vector_norm(matrices, 1.0, axis)
    found: Tensor = values.amax(-1) if ord > 0 else values.amin(-1)
    return found.unsqueeze(min(first, second)).unsqueeze(max(first, second)) if keepdim else found


def norm(
    A: Tensor,  # noqa: N803
    ord: Order | None = None,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """torch.linalg.norm, see `matrix_norm`."""
    axes = (0, 1) if dim is None and A.dim() == 2 else dim
    if isinstance(ord, (int, float)) and isinstance(axes, Sequence) and len(axes) == 2:
        return matrix_norm(A, ord, axes, keepdim, dtype=dtype)
    return LINALG.norm(A, ord, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]


def cond(A: Tensor, p: Order | None = None) -> Tensor:  # noqa: N803
    """torch.linalg.cond, as ATen's LinearAlgebra.cpp has it; torch's own asks how many elements there are."""
    if p is None or p in (2, -2) or A.dim() < 2 or A.shape[-1] == 0 or A.shape[-1] != A.shape[-2]:
        return LINALG.cond(A, p)  # type: ignore[no-any-return]
    if p == "nuc":
        values: Tensor = LINALG.svdvals(A)
        return values.sum(-1) * values.reciprocal().sum(-1)
    inverse, info = LINALG.inv_ex(A)
    inverse = torch.where((info > 0)[..., None, None], math.inf, inverse)
    return (matrix_norm(A, p) * matrix_norm(inverse, p)).nan_to_num(math.inf, math.inf, -math.inf)


@dataclass(frozen=True)
class LeastSquares:
    """What gelsd and gelss give, without residuals: data decide, by the rank of the matrices, whether there are any."""

    solution: Tensor
    rank: Tensor
    singular_values: Tensor

    def __getitem__(self, i: int | slice) -> Any:
        picked = range(4)[i]
        if picked == 1 or (isinstance(picked, range) and 1 in picked):
            return self.residuals
        return (self.solution, None, self.rank, self.singular_values)[i]

    @property
    def residuals(self) -> Any:
        return _no_residuals()


def _no_residuals(*args: Any) -> Any:
    raise CaptureError(
        "data decide whether gelsd and gelss give residuals: read .solution and compute them, as "
        "(a @ solution - b).square().sum(-2)"
    )


pytree.register_pytree_node(LeastSquares, _no_residuals, _no_residuals)


def lstsq(
    input: Tensor,
    b: Tensor,
    rcond: float | None = None,
    *,
    driver: str | None = None,
    B: Tensor | None = None,  # noqa: N803
) -> Any:
    """torch.linalg.lstsq; gels by a QR factorization, as LAPACK, and the others, which give the least solution, by
    singular values.
    """
    driver = "gelsy" if driver is None else driver
    if driver not in ("gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"torch.linalg.lstsq: driver is one of gels, gelsy, gelsd, gelss, not {driver}")
    m, n = input.shape[-2:]
    vector = b.dim() == 1 or (b.dim() == input.dim() - 1 and b.shape == input.shape[:-1])
    right = b.unsqueeze(-1) if vector else b
    if right.shape[-2] != m:
        raise RuntimeError("torch.linalg.lstsq: input.size(-2) should match other.size(-2)")
    none = input.new_empty((0,))
    residuals = rank = values = none
    if driver == "gels":
        solution = _of_full_rank(input, right, m >= n)
        residuals = (input @ solution - right).square().sum(-2) if m > n else none
        rank = none.long()
    else:
        u, values, vh = LINALG.svd(input, full_matrices=False)
        kept = values > (_relative(input) if rcond is None else rcond) * values[..., :1]
        solution = vh.mT @ torch.where(kept.unsqueeze(-1), u.mT @ right / values.unsqueeze(-1), 0)
        rank = kept.sum(-1)
    solution = solution.squeeze(-1) if vector else solution
    if driver in ("gelsd", "gelss") and m > n:
        return LeastSquares(solution, rank, values)
    values = none if driver == "gelsy" else values
    return torch.return_types.linalg_lstsq((solution, residuals, rank, values))  # type: ignore[attr-defined]


def _relative(a: Tensor) -> Tensor:
    """The tolerance, of the largest singular value, below which one counts as 0."""
    return torch.scalar_tensor(LARGEST(*a.shape[-2:]), dtype=a.dtype) * torch.finfo(a.dtype).eps


def with_tolerance(f: Any) -> Any:
    """torch.linalg's pinv or matrix_rank, which compute that tolerance from the example's sizes."""

    def composed(A: Tensor, *args: Any, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Any:  # noqa: N803
        if not args and rtol is None and A.is_floating_point() and A.dim() >= 2:
            least = torch.zeros((), dtype=A.dtype) if atol is None else torch.as_tensor(atol, dtype=A.dtype)
            rtol = _relative(A) if atol is None else torch.where(least > 0, 0, _relative(A))
            return f(A, atol=least, rtol=rtol, hermitian=hermitian)
        return f(A, *args, atol=atol, rtol=rtol, hermitian=hermitian)

    return composed


def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """torch.svd; without vectors torch's own fixes sizes."""
    if compute_uv:
        return torch.svd(input, some)
    u, v = (input.new_zeros((*input.shape[:-2], n, n)) for n in input.shape[-2:])
    return torch.return_types.svd((u, LINALG.svdvals(input), v))


def _of_full_rank(a: Tensor, b: Tensor, tall: bool) -> Tensor:
    """LAPACK's gels, which gives 0 for a matrix of zeros."""
    q, r = LINALG.qr(a if tall else a.mT)
    nothing = (a == 0).flatten(-2).all(-1)
    full = (r.diagonal(dim1=-2, dim2=-1) != 0).all(-1)
    check((full | nothing).all(), "linalg.lstsq: the input matrix does not have full rank")
    if tall:
        solution = LINALG.solve_triangular(r, q.mT @ b, upper=True)
    else:
        solution = q @ LINALG.solve_triangular(r.mT, b, upper=False)
    return torch.where(nothing[..., None, None], 0, solution)


@torch.library.custom_op("neve::geqrf", mutates_args=())
def geqrf(input: Tensor) -> tuple[Tensor, Tensor]:
    """torch.geqrf, of which torch.export does not know what it gives."""
    return torch.geqrf(input)


@geqrf.register_fake
def _(input: Tensor) -> tuple[Tensor, Tensor]:
    m, n = input.shape[-2:]
    return torch.empty_like(input), input.new_empty((*input.shape[:-2], LEAST(m, n)))


GEQRF = torch.ops.neve.geqrf.default

MATRICES: dict[Any, Any] = {
    LINALG.matrix_norm: matrix_norm,
    LINALG.norm: norm,
    LINALG.cond: cond,
    LINALG.lstsq: lstsq,
    LINALG.pinv: with_tolerance(LINALG.pinv),
    LINALG.matrix_rank: with_tolerance(LINALG.matrix_rank),
    torch.svd: svd,
    Tensor.svd: svd,
    torch.geqrf: geqrf,
    Tensor.geqrf: geqrf,
}
