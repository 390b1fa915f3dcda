"""Builders of nodes that take or give complex numbers (see `pairs`).

The formulas are those of ATen's vectorized complex types; a real operand counts as one with the imaginary part 0, as
eager promotes it, so that infinities and NaN spread as there.
"""

from __future__ import annotations

from typing import Any

import torch

from neve.capture.aten import TABLE
from neve.capture.context import PARTS, Context, Number, Refusal, dtype_of
from neve.capture.pairs import Pair, complex_, in_one, pair, taken_apart
from neve.ir.graph import Value
from neve.ir.types import DType

ATEN = torch.ops.aten


def both(c: Context, x: Any, y: Any) -> tuple[Pair, Pair]:
    return pair(c, x, c.out.dtype), pair(c, y, c.out.dtype)


def times(c: Context, x: Pair, y: Pair) -> Pair:
    real = c("sub", c("mul", x.real, y.real), c("mul", x.imag, y.imag))
    return Pair(real, c("add", c("mul", x.real, y.imag), c("mul", x.imag, y.real)))


def conjugate(c: Context, x: Pair) -> Pair:
    return Pair(x.real, c("neg", x.imag))


# Made and taken apart.


@complex_("complex")
def complex_of(c: Context, real: Value, imag: Value) -> Pair:
    return Pair(c.expand(real, c.out.shape), c.expand(imag, c.out.shape))


@complex_("polar")
def polar(c: Context, length: Value, angle: Value) -> Pair:
    return Pair(c("mul", length, c("cos", angle)), c("mul", length, c("sin", angle)))


@complex_("view_as_complex", "view_as_complex_copy")
def view_as_complex(c: Context, x: Value) -> Pair:
    return taken_apart(c, x)


@complex_("view_as_real", "view_as_real_copy")
def view_as_real(c: Context, x: Pair) -> Value:
    return in_one(c, x)


@complex_("real")
def real(c: Context, x: Pair) -> Value:
    return x.real


@complex_("_conj", "_conj_physical", "conj_physical", "_conj_copy")
def conj(c: Context, x: Pair) -> Pair:
    return conjugate(c, x)


@complex_("_neg_view", "_neg_view_copy")
def neg_view(c: Context, x: Any) -> Any:
    return Pair(c("neg", x.real), c("neg", x.imag)) if isinstance(x, Pair) else c("neg", x)


@complex_("resolve_conj", "resolve_neg")
def resolved(c: Context, x: Any) -> Any:
    return x


@complex_("_to_copy", "to.dtype")
def to_copy(c: Context, x: Any, dtype: Any = None, *_: Any, **kwargs: Any) -> Any:
    """To a complex type, or the real part, as eager gives it (with a warning)."""
    wanted = kwargs.get("dtype") or dtype or c.node.meta["val"].dtype
    if wanted in PARTS:
        return pair(c, x, dtype_of(PARTS[wanted]))
    if wanted is torch.bool:
        return c("logical_or", *(c.cast(v, DType.bool) for v in (x.real, x.imag)))
    return c.cast(x.real, dtype_of(wanted))


@complex_("ones", "ones_like", "new_ones")
def ones(c: Context, *_: Any, **__: Any) -> Value | Pair:
    made = c.full(1, c.out.dtype, c.out.shape)
    return pair(c, made, c.out.dtype) if c.node.meta["val"].is_complex() else made


@complex_("scalar_tensor")
def scalar_tensor(c: Context, value: Any, **_: Any) -> Pair:
    return pair(c, value, c.out.dtype)


@complex_("_assert_tensor_metadata")
def nothing(c: Context, *_: Any, **__: Any) -> None:
    return None


# Arithmetic.


@complex_("add.Tensor", "add.Scalar")
def add(c: Context, x: Any, y: Any, alpha: Any = 1) -> Pair:
    return _sum(c, "add", x, y, alpha)


@complex_("sub.Tensor", "sub.Scalar")
def sub(c: Context, x: Any, y: Any, alpha: Any = 1) -> Pair:
    return _sum(c, "sub", x, y, alpha)


@complex_("rsub.Tensor", "rsub.Scalar")
def rsub(c: Context, x: Any, y: Any, alpha: Any = 1) -> Pair:
    return _sum(c, "sub", y, x, alpha)


def _sum(c: Context, op: str, x: Any, y: Any, alpha: Any) -> Pair:
    a, b = both(c, x, y)
    if alpha != 1:
        b = times(c, b, pair(c, alpha, b.dtype))
    return Pair(c(op, a.real, b.real), c(op, a.imag, b.imag))


@complex_("mul.Tensor", "mul.Scalar")
def mul(c: Context, x: Any, y: Any) -> Pair:
    return times(c, *both(c, x, y))


@complex_("square")
def square(c: Context, x: Pair) -> Pair:
    return times(c, x, x)


@complex_("div.Tensor", "div.Scalar")
def div(c: Context, x: Any, y: Any) -> Pair:
    """Both scaled by the greater part of the divisor first, as ATen's vectors do."""
    a, b = both(c, x, y)
    scale = c("reciprocal", c("maximum", c("abs", b.real), c("abs", b.imag)))
    a, b = (Pair(c("mul", v.real, scale), c("mul", v.imag, scale)) for v in (a, b))
    size = c("add", c("mul", b.real, b.real), c("mul", b.imag, b.imag))
    top = times(c, a, conjugate(c, b))
    return Pair(c("div", top.real, size), c("div", top.imag, size))


@complex_("reciprocal")
def reciprocal(c: Context, x: Pair) -> Pair:
    size = c("add", c("mul", x.real, x.real), c("mul", x.imag, x.imag))
    return Pair(c("div", x.real, size), c("div", c("neg", x.imag), size))


@complex_("pow.Tensor_Scalar")
def power(c: Context, x: Pair, exponent: Any) -> Pair:
    if isinstance(exponent, (complex, Number)):
        raise Refusal("a power with a complex exponent, or one of the run, is not supported")
    if exponent == 0.5:
        return sqrt(c, x)
    if exponent in (-1, -2):
        return reciprocal(c, x if exponent == -1 else times(c, x, x))
    if exponent in (1, 2, 3):
        y = x
        for _ in range(int(exponent) - 1):
            y = times(c, y, x)
        return y
    n = c.full(float(exponent), x.dtype)
    return polar(c, c("pow", absolute(c, x), n), c("mul", angle(c, x), n))


@complex_("exp")
def exp(c: Context, x: Pair) -> Pair:
    return polar(c, c("exp", x.real), x.imag)


@complex_("log")
def log(c: Context, x: Pair) -> Pair:
    return Pair(c("log", absolute(c, x)), angle(c, x))


@complex_("sqrt")
def sqrt(c: Context, x: Pair) -> Pair:
    """The root with real part >= 0; by the half that does not cancel, the other one from it."""
    zero, half = c.full(0, x.dtype), c.full(0.5, x.dtype)
    large = c("sqrt", c("mul", half, c("add", absolute(c, x), c("abs", x.real))))
    small = c("where", c("eq", large, zero), large, c("div", c("mul", half, c("abs", x.imag)), large))
    right = c("ge", x.real, zero)
    imag = c("where", right, small, large)
    return Pair(c("where", right, large, small), c("copysign", imag, x.imag))


@complex_("sgn")
def sgn(c: Context, x: Pair) -> Pair:
    length, zero = absolute(c, x), c.full(0, x.dtype)
    none = c("eq", length, zero)
    return Pair(*(c("where", none, zero, c("div", v, length)) for v in (x.real, x.imag)))


# Real results.


@complex_("abs")
def absolute(c: Context, x: Pair) -> Value:
    return c("hypot", x.real, x.imag)


@complex_("angle")
def angle(c: Context, x: Any) -> Value:
    """Of a real number 0, pi below 0, NaN of NaN."""
    if isinstance(x, Pair):
        return c("atan2", x.imag, x.real)
    y = c.cast(x, c.out.dtype)
    below = c("where", c("lt", y, c.full(0, y.dtype)), c.full(torch.pi, y.dtype), c.full(0, y.dtype))
    return c("where", c("isnan", y), y, below)


@complex_("eq.Tensor", "eq.Scalar")
def eq(c: Context, x: Any, y: Any) -> Value:
    return _compared(c, "eq", "logical_and", x, y)


@complex_("ne.Tensor", "ne.Scalar")
def ne(c: Context, x: Any, y: Any) -> Value:
    return _compared(c, "ne", "logical_or", x, y)


def _compared(c: Context, op: str, join: str, x: Any, y: Any) -> Value:
    dtype = next((v.dtype for v in (x, y) if isinstance(v, Pair)), DType.float32)
    dtype = DType.float64 if any(getattr(v, "dtype", None) is DType.float64 for v in (x, y)) else dtype
    a, b = pair(c, x, dtype), pair(c, y, dtype)
    return c(join, c(op, a.real, b.real), c(op, a.imag, b.imag))


@complex_("isnan", "isinf")
def nonfinite(c: Context, x: Pair) -> Value:
    name = c.node.target.overloadpacket.__name__
    return c("logical_or", c(name, x.real), c(name, x.imag))


# Products.


def _product(c: Context, f: Any, x: Pair, y: Pair) -> Pair:
    real = c("sub", f(x.real, y.real), f(x.imag, y.imag))
    return Pair(real, c("add", f(x.real, y.imag), f(x.imag, y.real)))


@complex_("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot")
def product(c: Context, x: Any, y: Any) -> Pair:
    a, b = both(c, x, y)
    target = c.node.target
    return _product(c, lambda u, v: TABLE[target](c, u, v), a, b)


@complex_("vdot")
def vdot(c: Context, x: Pair, y: Pair) -> Pair:
    return _product(c, lambda u, v: TABLE[ATEN.dot.default](c, u, v), conjugate(c, x), y)


@complex_("linear")
def linear(c: Context, x: Any, weight: Any, bias: Any = None) -> Pair:
    a, b = both(c, x, weight)
    y = _product(c, lambda u, v: TABLE[ATEN.linear.default](c, u, v), a, b)
    return y if bias is None else _sum(c, "add", y, bias, 1)


@complex_("addmm", "baddbmm", "addbmm")
def addmm(c: Context, x: Any, y: Any, z: Any, beta: Any = 1, alpha: Any = 1) -> Pair:
    one = ATEN.mm.default if c.node.target is ATEN.addmm.default else ATEN.bmm.default
    made = _product(c, lambda u, v: TABLE[one](c, u, v), *both(c, y, z))
    if c.node.target is ATEN.addbmm.default:
        made = Pair(*(TABLE[ATEN.sum.dim_IntList](c, v, [0]) for v in (made.real, made.imag)))
    made = made if alpha == 1 else times(c, made, pair(c, alpha, made.dtype))
    if beta == 0:
        return made
    return _sum(c, "add", made, x, beta)


@complex_("convolution")
def convolution(c: Context, x: Any, weight: Any, bias: Any, *how: Any) -> Pair:
    a, b = both(c, x, weight)
    parts = (None, None) if bias is None else (bias.real, bias.imag)

    def f(u: Value, v: Value, w: Value | None = None) -> Value:
        made: Value = TABLE[ATEN.convolution.default](c, u, v, w, *how)
        return made

    real = c("sub", f(a.real, b.real, parts[0]), f(a.imag, b.imag))
    return Pair(real, c("add", f(a.real, b.imag, parts[1]), f(a.imag, b.real)))
