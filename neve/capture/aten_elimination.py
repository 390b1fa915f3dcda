"""Builders of linear algebra by elimination: determinants, inverses, systems of equations, LU and Cholesky factors.

torch factorises the matrix itself for systems and inverses, and the transpose of a contiguous one for determinants
(`use_A_T` in BatchLinearAlgebra.cpp). That decides in which order rounding happens, and so which matrices are found
singular: it is followed here.
"""

from __future__ import annotations

from typing import Any

from neve.capture.aten import aten, overload
from neve.capture.context import Context, Refusal
from neve.capture.releases import HAS_CHOLESKY
from neve.ir.graph import Value
from neve.ir.types import Dim, DType, numel, same
from neve.ops.checks import same_shape
from neve.ops.elimination import Cholesky, LuFactor, LuSolve, TriangularSolve
from neve.ops.ldl import LdlFactor, LdlSolve
from neve.ops.pad import Tril, Triu
from neve.ops.reduce import Any as AnyOf
from neve.ops.reduce import Prod, Sum
from neve.ops.shape import Diagonal
from neve.ops.source import Arange

SINGULAR = "the matrix is singular"
NOT_DEFINITE = "the matrix is not positive-definite"


# Parts.


def turned(c: Context, x: Value) -> Value:
    """The transposes of matrices."""
    rank = len(x.shape)
    return c.permute(x, (*range(rank - 2), rank - 1, rank - 2))


def batched(c: Context, x: Value, lead: tuple[Dim, ...], rank: int = 2) -> Value:
    """x with the axes `lead` before its last `rank`."""
    return c.expand(x, (*lead, *x.shape[len(x.shape) - rank :]))


def diagonal(c: Context, x: Value) -> Value:
    rank = len(x.shape)
    return c(Diagonal(0, rank - 2, rank - 1), x)


def identity(c: Context, n: Dim, dtype: DType, lead: tuple[Dim, ...] = ()) -> Value:
    i = c(Arange(0, 1, n, DType.int64))
    one = c.cast(c("eq", c.reshape(i, (n, 1)), c.reshape(i, (1, n))), dtype)
    return batched(c, one, lead)


def check(c: Context, info: Value, what: str) -> None:
    """Ends the call, as eager does, where any info is not 0."""
    wrong = c("ne", info, c.full(0, info.dtype))
    c.raise_if(c(AnyOf(tuple(range(len(info.shape))), False), wrong) if info.shape else wrong, what)


def title(c: Context) -> str:
    """The name of the function in torch.linalg or torch, for messages."""
    name: str = c.node.target.overloadpacket.__name__
    name = name.removeprefix("_").removesuffix("_ex")
    return "linalg." + name.removeprefix("linalg_") if name.startswith("linalg_") else name


def lu_of(c: Context, x: Value, pivot: bool = True, transposed: bool = False) -> tuple[Value, Value, Value]:
    if not pivot:
        raise Refusal("pivot=False: eager refuses it on CPUs")
    rows, columns = x.shape[-2:]
    steps = rows if same(rows, columns) else c.symbols.least(rows, columns)
    lu, pivots, info = c.emit(LuFactor(steps, transposed), x)
    return lu, pivots, info


# Determinants.


def signed(c: Context, diagonal_: Value, pivots: Value) -> Value:
    """The diagonal of U, negative where rows were exchanged."""
    places = c(Arange(1, 1, pivots.shape[-1], DType.int32))
    return c("where", c("ne", pivots, places), c("neg", diagonal_), diagonal_)


@aten("_linalg_det")
def linalg_det(c: Context, x: Value) -> tuple[Value, ...]:
    lu, pivots, _ = lu_of(c, x, transposed=True)
    factors = signed(c, diagonal(c, lu), pivots)
    return c(Prod((len(factors.shape) - 1,), False), factors), lu, pivots


@aten("_linalg_slogdet")
def linalg_slogdet(c: Context, x: Value) -> tuple[Value, ...]:
    lu, pivots, _ = lu_of(c, x, transposed=True)
    values = diagonal(c, lu)
    last = (len(values.shape) - 1,)
    sign = c(Prod(last, False), c("sign", signed(c, values, pivots)))
    return sign, c(Sum(last, False), c("log", c("abs", values))), lu, pivots


# LU and systems.


@aten("linalg_lu_factor_ex", "_lu_with_info")
def lu_factor_ex(c: Context, x: Value, pivot: bool = True, check_errors: bool = False) -> tuple[Value, ...]:
    lu, pivots, info = lu_of(c, x, pivot)
    if check_errors and c.node.target is overload("linalg_lu_factor_ex"):  # the other one ignores it
        check(c, info, f"linalg.lu_factor: {SINGULAR}")
    return lu, pivots, info


@aten("linalg_lu_factor")
def lu_factor(c: Context, x: Value, pivot: bool = True) -> tuple[Value, ...]:
    lu, pivots, info = lu_of(c, x, pivot)
    check(c, info, f"linalg.lu_factor: {SINGULAR}")
    return lu, pivots


@aten("linalg_lu")
def linalg_lu(c: Context, x: Value, pivot: bool = True) -> tuple[Value, ...]:
    lu, pivots, _ = lu_of(c, x, pivot)
    return permutation(c, lu, pivots), *triangles(c, lu, pivots.shape[-1])


@aten("lu_unpack")
def lu_unpack(c: Context, lu: Value, pivots: Value, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    nothing = c.full(0, lu.dtype, (0,))
    steps = lu.shape[-2] if same(*lu.shape[-2:]) else c.symbols.least(*lu.shape[-2:])
    lower, upper = triangles(c, lu, steps) if unpack_data else (nothing, nothing)
    if not unpack_pivots:
        return nothing, lower, upper
    outside = c(
        "logical_or",
        c("lt", pivots, c.full(1, pivots.dtype)),
        c("gt", pivots, c.tensor(lu.shape[-2], pivots.dtype)),
    )
    wrong = c(AnyOf(tuple(range(len(pivots.shape))), False), outside)
    c.raise_if(wrong, "lu_unpack: pivots out of range")
    return permutation(c, lu, pivots), lower, upper


def triangles(c: Context, lu: Value, steps: Dim) -> tuple[Value, Value]:
    """L (m, steps), with ones on its diagonal, and U (steps, n)."""
    rank = len(lu.shape)
    lower = c(Tril(-1), c.slice(lu, rank - 1, 0, steps))
    rows = c.reshape(c(Arange(0, 1, lu.shape[-2], DType.int64)), (lu.shape[-2], 1))
    ones = c("eq", rows, c.reshape(c(Arange(0, 1, steps, DType.int64)), (1, steps)))
    return c("where", ones, c.full(1, lu.dtype), lower), c(Triu(0), c.slice(lu, rank - 2, 0, steps))


def permutation(c: Context, lu: Value, pivots: Value) -> Value:
    """P of A = P L U, (m, m): what the exchanges backwards make of the identity."""
    one = identity(c, lu.shape[-2], lu.dtype, lu.shape[:-2])
    return c(LuSolve(adjoint=True), one, pivots, one)


@aten("linalg_lu_solve")
def lu_solve(c: Context, lu: Value, pivots: Value, b: Value, left: bool = True, adjoint: bool = False) -> Value:
    lead = c.out.shape[:-2]
    b = batched(c, b if left else turned(c, b), lead)
    x = c(LuSolve(adjoint is left), batched(c, lu, lead), batched(c, pivots, lead, 1), b)
    return x if left else turned(c, x)


def is_vector(a: Value, b: Value) -> bool:
    """Whether B of a system has vectors (`linalg_solve_is_vector_rhs`)."""
    return len(b.shape) == 1 or same_shape(a.shape[:-1], b.shape)


def solved(c: Context, a: Value, b: Value, left: bool) -> tuple[Value, Value, Value, Value]:
    """X, LU, pivots, info."""
    vector = is_vector(a, b)
    lead = c.out.shape[: -1 if vector else -2]
    lu, pivots, info = lu_of(c, a)
    right = c.unsqueeze(b, len(b.shape)) if vector else b if left else turned(c, b)
    operands = batched(c, lu, lead), batched(c, pivots, lead, 1), batched(c, right, lead)
    x = c(LuSolve(adjoint=not left and not vector), *operands)
    return c.reshape(x, c.out.shape) if vector else x if left else turned(c, x), lu, pivots, info


@aten("_linalg_solve_ex")
def solve_ex(c: Context, a: Value, b: Value, left: bool = True, check_errors: bool = False) -> tuple[Value, ...]:
    x, lu, pivots, info = solved(c, a, b, left)
    if check_errors:
        check(c, info, f"linalg.solve: {SINGULAR}")
    return x, lu, pivots, info


@aten("linalg_solve")
def solve(c: Context, a: Value, b: Value, left: bool = True) -> Value:
    x, _, _, info = solved(c, a, b, left)
    check(c, info, f"linalg.solve: {SINGULAR}")
    return x


@aten("linalg_inv_ex")
def inv_ex(c: Context, a: Value, check_errors: bool = False) -> tuple[Value, Value]:
    lu, pivots, info = lu_of(c, a)
    if check_errors:
        check(c, info, f"{title(c)}: {SINGULAR}")
    one = identity(c, a.shape[-1], a.dtype, a.shape[:-2])
    return c(LuSolve(), lu, pivots, one), info


@aten("linalg_inv", "inverse")
def inv(c: Context, a: Value) -> Value:
    return inv_ex(c, a, True)[0]


@aten("linalg_tensorinv")
def tensorinv(c: Context, x: Value, ind: int = 2) -> Value:
    n = numel(x.shape[ind:])
    return c.reshape(inv_ex(c, c.reshape(x, (n, n)), True)[0], (*x.shape[ind:], *x.shape[:ind]))


# Triangles and Cholesky.


def triangular(c: Context, a: Value, b: Value, upper: bool, left: bool, transpose: bool, unit: bool) -> Value:
    """X with op(A) X = B, or X op(A) = B, where A and B broadcast, and op may be the transpose."""
    lead = c.out.shape[:-2]
    if not left:
        b = turned(c, b)
    turn = transpose is left
    x = c(TriangularSolve(upper is not turn, unit, turn), batched(c, a, lead), batched(c, b, lead))
    return x if left else turned(c, x)


@aten("linalg_solve_triangular")
def solve_triangular(
    c: Context, a: Value, b: Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Value:
    return triangular(c, a, b, upper, left, False, unitriangular)


@aten("triangular_solve")
def triangular_solve(
    c: Context, b: Value, a: Value, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Value, Value]:
    return triangular(c, a, b, upper, True, transpose, unitriangular), batched(c, a, c.out.shape[:-2])


def cholesky_of(c: Context, a: Value, upper: bool) -> tuple[Value, Value]:
    factor, info = c.emit(Cholesky(), turned(c, a) if upper else a)
    return turned(c, factor) if upper else factor, info


@aten("linalg_cholesky_ex")
def cholesky_ex(c: Context, a: Value, upper: bool = False, check_errors: bool = False) -> tuple[Value, Value]:
    factor, info = cholesky_of(c, a, upper)
    if check_errors:
        check(c, info, f"{title(c)}: {NOT_DEFINITE}")
    return factor, info


@aten("linalg_cholesky", *(["cholesky"] if HAS_CHOLESKY else []))
def cholesky(c: Context, a: Value, upper: bool = False) -> Value:
    return cholesky_ex(c, a, upper, True)[0]


@aten("cholesky_solve")
def cholesky_solve(c: Context, b: Value, factor: Value, upper: bool = False) -> Value:
    lead = c.out.shape[:-2]
    op = TriangularSolve(upper=False, transposed=upper, squared=True)
    return c(op, batched(c, factor, lead), batched(c, b, lead))


@aten("cholesky_inverse")
def cholesky_inverse(c: Context, factor: Value, upper: bool = False) -> Value:
    zero = c("eq", diagonal(c, factor), c.full(0, factor.dtype))
    c.raise_if(c(AnyOf(tuple(range(len(zero.shape))), False), zero), f"cholesky_inverse: {SINGULAR}")
    return cholesky_solve(c, identity(c, factor.shape[-1], factor.dtype, factor.shape[:-2]), factor, upper)


@aten("linalg_matrix_exp")
def matrix_exp(c: Context, a: Value) -> Value:
    return c("exp" if a.shape[-1] == 1 else "linalg_matrix_exp", a)


@aten("linalg_ldl_factor_ex")
def ldl_factor_ex(c: Context, a: Value, *, hermitian: bool = False, check_errors: bool = False) -> tuple[Value, ...]:
    ld, pivots, info = c.emit(LdlFactor(), a)
    if check_errors:
        check(c, info, f"linalg.ldl_factor: {SINGULAR}")
    return ld, pivots, info


@aten("linalg_ldl_factor")
def ldl_factor(c: Context, a: Value, *, hermitian: bool = False) -> tuple[Value, ...]:
    return ldl_factor_ex(c, a, check_errors=True)[:2]


@aten("linalg_ldl_solve")
def ldl_solve(c: Context, ld: Value, pivots: Value, b: Value, *, hermitian: bool = False) -> Value:
    lead = c.out.shape[:-2]
    return c(LdlSolve(), batched(c, ld, lead), batched(c, pivots, lead, 1), batched(c, b, lead))
