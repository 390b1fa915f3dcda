"""Builders of orthogonal decompositions: QR, symmetric eigenvalues, singular values, and what follows from them."""

from __future__ import annotations

from typing import Any

from neve.capture.aten import TABLE, aten
from neve.capture.aten_elimination import turned
from neve.capture.composed_matrices import GEQRF
from neve.capture.context import Context, Refusal
from neve.capture.pairs import complex_
from neve.ir.graph import Value
from neve.ir.types import Dim, DType, numel
from neve.ops.elimination import REAL
from neve.ops.matmul import MatMul
from neve.ops.orthogonal import Eigh, Geqrf, Ormqr, Qr, Svd
from neve.ops.reduce import Amax
from neve.ops.reduce import Any as AnyOf
from neve.ops.source import Arange

EPS = {DType.float32: 2.0**-23, DType.float64: 2.0**-52}


def smaller(c: Context, x: Value) -> Dim:
    """The smaller size of matrices."""
    m, n = x.shape[-2:]
    return m if m == n else c.symbols.least(m, n)


def factored(c: Context, x: Value) -> Value:
    """x, if eager decomposes matrices of its type."""
    if x.dtype not in REAL:
        raise Refusal(f"{c.node.target.overloadpacket.__name__} of {x.dtype.value}, which eager refuses on CPUs")
    return x


def empty(c: Context, x: Value) -> Value:
    """What torch gives where vectors are not asked for."""
    return c.full(0, x.dtype, (0,))


@aten("linalg_qr")
def linalg_qr(c: Context, x: Value, mode: str = "reduced") -> tuple[Value, ...]:
    found = c.emit(Qr(smaller(c, factored(c, x)), mode), x)
    return (empty(c, x), *found) if mode == "r" else found


@aten("geqrf")
def geqrf(c: Context, x: Value) -> tuple[Value, ...]:
    return c.emit(Geqrf(smaller(c, factored(c, x))), x)


TABLE[GEQRF] = geqrf


@aten("ormqr")
def ormqr(c: Context, a: Value, tau: Value, other: Value, left: bool = True, transpose: bool = False) -> Value:
    factored(c, a)
    if left:
        return c(Ormqr(transpose), a, tau, other)
    return turned(c, c(Ormqr(not transpose), a, tau, turned(c, other)))


@aten("linalg_householder_product", "orgqr")
def householder_product(c: Context, a: Value, tau: Value) -> Value:
    """The first columns of the product of reflections."""
    *lead, m, n = factored(c, a).shape
    row, column = (c(Arange(0, 1, size, DType.int64)) for size in (m, n))
    one = c.cast(c("eq", c.unsqueeze(row, 1), c.unsqueeze(column, 0)), a.dtype)
    return c(Ormqr(), a, tau, c.expand(one, (*lead, m, n)))


@aten("_linalg_eigh")
def linalg_eigh(c: Context, x: Value, triangle: str = "L", compute_v: bool = True) -> tuple[Value | None, ...]:
    vectors = compute_v and c.used(1)
    found = c.emit(Eigh(triangle.upper() == "U", vectors), factored(c, x))
    return found if vectors else (*found, None if compute_v else empty(c, x))


@aten("_linalg_svd")
def linalg_svd(
    c: Context, x: Value, full_matrices: bool = False, compute_uv: bool = True, *, driver: str | None = None
) -> tuple[Value | None, ...]:
    k = smaller(c, no_nan(c, factored(c, x)))
    if compute_uv and (c.used(0) or c.used(2)):
        return c.emit(Svd(k, full_matrices), x)
    none = None if compute_uv else empty(c, x)
    return (none, *c.emit(Svd(k, False, False), x), none)


def no_nan(c: Context, x: Value) -> Value:
    """x; the call ends where it has NaN, on which LAPACK's singular values do not converge."""
    wrong = c(AnyOf(tuple(range(len(x.shape))), False), c("isnan", x))
    c.raise_if(wrong, "linalg.svd: the algorithm does not converge: the input matrix contains NaN")
    return x


@aten("linalg_pinv.atol_rtol_tensor")
def pinv(
    c: Context, x: Value, *, atol: Value | None = None, rtol: Value | None = None, hermitian: bool = False
) -> Value:
    """As ATen's LinearAlgebra.cpp: by singular values, or eigenvalues, those above a tolerance inverted."""
    *lead, m, n = factored(c, x).shape
    if numel(x.shape) == 0:
        return c.full(0, x.dtype, (*lead, n, m))
    last = len(x.shape) - 2
    if hermitian:
        values, right = c.emit(Eigh(), x)
        left = right
        size = c("abs", values)
        most = c(Amax((last,), True), size)
    else:
        left, values, vh = c.emit(Svd(smaller(c, x)), no_nan(c, x))
        right, size = turned(c, vh), values
        most = c.slice(values, last, 0, 1)
    least = c("maximum", *tolerances(c, x, atol, rtol, most))
    zero = c.full(0, x.dtype)
    inverse = c("where", c("gt", size, least), c("reciprocal", values), zero)
    return c(MatMul(), c("mul", right, c.unsqueeze(inverse, last)), turned(c, left))


def tolerances(c: Context, x: Value, atol: Value | None, rtol: Value | None, most: Value) -> tuple[Value, Value]:
    """ATen's get_atol_rtol: the absolute tolerance, and the relative one times the largest value (…, 1)."""
    zero = c.full(0, x.dtype)
    if rtol is None:
        m, n = x.shape[-2:]
        size = c.tensor(m if m == n else c.symbols.largest(m, n), x.dtype)
        rtol = c("mul", c.full(EPS[x.dtype], x.dtype), size)
        if atol is not None:
            rtol = c("where", c("gt", atol, c.full(0, atol.dtype)), zero, rtol)

    def column(t: Value) -> Value:
        t = c.cast(t, x.dtype)
        return c.unsqueeze(t, len(t.shape)) if t.shape else t

    return column(zero if atol is None else atol), c("mul", column(rtol), most)


@complex_("linalg_eig", "linalg_eigvals")
def linalg_eig(c: Context, x: Any) -> Any:
    raise Refusal(
        "eigenvalues of general matrices are not supported: if they are symmetric, call torch.linalg.eigh or "
        "torch.linalg.eigvalsh"
    )
