"""Builders of elementary functions, powers, products, moments and norms of complex numbers (see `pairs`).

The formulas for inverse functions are Kahan's (Branch Cuts for Complex Elementary Functions, 1987): they lose no digits
near branch points, and signs of zero choose the side of a branch cut.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from neve.capture.aten import TABLE
from neve.capture.aten_complex import (
    absolute,
    angle,
    both,
    conjugate,
    div,
    exp,
    log,
    polar,
    reciprocal,
    sqrt,
    times,
)
from neve.capture.context import Context, Refusal
from neve.capture.pairs import Pair, complex_, linear, pair
from neve.ir.graph import Value
from neve.ir.types import DType

ATEN = torch.ops.aten

linear("im2col col2im masked_select _unsafe_index.Tensor as_strided_copy split_with_sizes_copy unfold_copy")
linear("index_add", 0, 3)
linear("masked_scatter _unsafe_index_put", 0, 2)


def _number(c: Context, x: Pair, value: float) -> Value:
    return c.full(value, x.dtype)


def _scaled(c: Context, x: Pair, factor: float) -> Pair:
    f = _number(c, x, factor)
    return Pair(c("mul", x.real, f), c("mul", x.imag, f))


def _plus(c: Context, x: Pair, real: float) -> Pair:
    return Pair(c("add", x.real, _number(c, x, real)), x.imag)


def _turned(c: Context, x: Pair) -> Pair:
    """Times i."""
    return Pair(c("neg", x.imag), x.real)


def _turned_back(c: Context, x: Pair) -> Pair:
    """Times -i."""
    return Pair(x.imag, c("neg", x.real))


# Trigonometric and hyperbolic functions.


@complex_("sinh")
def sinh(c: Context, x: Pair) -> Pair:
    return Pair(
        c("mul", c("sinh", x.real), c("cos", x.imag)),
        c("mul", c("cosh", x.real), c("sin", x.imag)),
    )


@complex_("cosh")
def cosh(c: Context, x: Pair) -> Pair:
    return Pair(
        c("mul", c("cosh", x.real), c("cos", x.imag)),
        c("mul", c("sinh", x.real), c("sin", x.imag)),
    )


@complex_("tanh")
def tanh(c: Context, x: Pair) -> Pair:
    """By sinh of the real part and tan of the imaginary one; where sinh's square would overflow, by the limit."""
    one, zero = _number(c, x, 1), _number(c, x, 0)
    far = c("gt", c("abs", x.real), _number(c, x, 11 if x.dtype is DType.float32 else 22))
    near = c("where", far, zero, x.real)
    s, t = c("sinh", near), c("tan", x.imag)
    beta, squared = c("add", one, c("mul", t, t)), c("mul", s, s)
    size = c("add", one, c("mul", beta, squared))
    real = c("div", c("mul", c("mul", beta, c("sqrt", c("add", one, squared))), s), size)
    small = c("exp", c("mul", c("abs", x.real), _number(c, x, -2)))
    limit = c("mul", c("mul", c("sin", x.imag), c("cos", x.imag)), c("mul", _number(c, x, 4), small))
    return Pair(c("where", far, c("copysign", one, x.real), real), c("where", far, limit, c("div", t, size)))


@complex_("sin")
def sin(c: Context, x: Pair) -> Pair:
    return _turned_back(c, sinh(c, _turned(c, x)))


@complex_("cos")
def cos(c: Context, x: Pair) -> Pair:
    return cosh(c, _turned(c, x))


@complex_("tan")
def tan(c: Context, x: Pair) -> Pair:
    return _turned_back(c, tanh(c, _turned(c, x)))


def _roots(c: Context, x: Pair) -> tuple[Pair, Pair]:
    """The roots of 1 - x and of 1 + x."""
    minus = Pair(c("neg", x.real), c("neg", x.imag))
    return sqrt(c, _plus(c, minus, 1)), sqrt(c, _plus(c, x, 1))


@complex_("asin")
def asin(c: Context, x: Pair) -> Pair:
    below, above = _roots(c, x)
    real = c("atan2", x.real, times(c, below, above).real)
    return Pair(real, c("asinh", times(c, conjugate(c, below), above).imag))


@complex_("acos")
def acos(c: Context, x: Pair) -> Pair:
    below, above = _roots(c, x)
    real = c("mul", _number(c, x, 2), c("atan2", below.real, above.real))
    return Pair(real, c("asinh", times(c, conjugate(c, above), below).imag))


@complex_("asinh")
def asinh(c: Context, x: Pair) -> Pair:
    return _turned_back(c, asin(c, _turned(c, x)))


@complex_("acosh")
def acosh(c: Context, x: Pair) -> Pair:
    below, above = sqrt(c, _plus(c, x, -1)), sqrt(c, _plus(c, x, 1))
    imag = c("mul", _number(c, x, 2), c("atan2", below.imag, above.real))
    return Pair(c("asinh", times(c, conjugate(c, below), above).real), imag)


@complex_("atanh")
def atanh(c: Context, x: Pair) -> Pair:
    one, squared, length = _number(c, x, 1), c("mul", x.imag, x.imag), c("abs", x.real)
    less, more = c("sub", one, length), c("add", one, length)
    size = c("add", c("mul", less, less), squared)
    real = c("copysign", c("log1p", c("div", c("mul", _number(c, x, 4), length), size)), x.real)
    imag = c("atan2", c("mul", _number(c, x, 2), x.imag), c("sub", c("mul", less, more), squared))
    return Pair(c("mul", _number(c, x, 0.25), real), c("mul", _number(c, x, 0.5), imag))


@complex_("atan")
def atan(c: Context, x: Pair) -> Pair:
    return _turned_back(c, atanh(c, _turned(c, x)))


# Exponentials, logarithms and powers.


@complex_("exp2")
def exp2(c: Context, x: Pair) -> Pair:
    return polar(c, c("exp2", x.real), c("mul", x.imag, _number(c, x, math.log(2))))


@complex_("expm1")
def expm1(c: Context, x: Pair) -> Pair:
    half = c("sin", c("mul", x.imag, _number(c, x, 0.5)))
    real = c("mul", c("expm1", x.real), c("cos", x.imag))
    real = c("sub", real, c("mul", _number(c, x, 2), c("mul", half, half)))
    return Pair(real, c("mul", c("exp", x.real), c("sin", x.imag)))


@complex_("log2")
def log2(c: Context, x: Pair) -> Pair:
    return _scaled(c, log(c, x), 1 / math.log(2))


@complex_("log10")
def log10(c: Context, x: Pair) -> Pair:
    return _scaled(c, log(c, x), 1 / math.log(10))


@complex_("log1p")
def log1p(c: Context, x: Pair) -> Pair:
    """Near 0 by the real function, since 1 + x loses what x has."""
    moved = _plus(c, x, 1)
    small = c("lt", absolute(c, x), _number(c, x, 0.5))
    square = c("add", c("mul", x.real, c("add", x.real, _number(c, x, 2))), c("mul", x.imag, x.imag))
    near = c("mul", _number(c, x, 0.5), c("log1p", c("where", small, square, _number(c, x, 0))))
    return Pair(c("where", small, near, c("log", absolute(c, moved))), angle(c, moved))


@complex_("sinc")
def sinc(c: Context, x: Pair) -> Pair:
    turned, one = _scaled(c, x, math.pi), _number(c, x, 1)
    at_zero = c("logical_not", truth(c, x))
    made = div(c, sin(c, turned), Pair(c("where", at_zero, one, turned.real), turned.imag))
    return Pair(c("where", at_zero, one, made.real), made.imag)


@complex_("sigmoid")
def sigmoid(c: Context, x: Pair) -> Pair:
    minus = Pair(c("neg", x.real), c("neg", x.imag))
    return reciprocal(c, _plus(c, exp(c, minus), 1))


@complex_("silu")
def silu(c: Context, x: Pair) -> Pair:
    return times(c, x, sigmoid(c, x))


@complex_("rsqrt")
def rsqrt(c: Context, x: Pair) -> Pair:
    return reciprocal(c, sqrt(c, x))


@complex_("pow.Tensor_Tensor", "pow.Scalar")
def power(c: Context, x: Any, y: Any) -> Pair:
    """exp(y log x); a power of 0 is 0, that with the exponent 0 is 1."""
    a, b = both(c, x, y)
    made = exp(c, times(c, b, log(c, a)))
    zero, one = c.full(0, a.dtype), c.full(1, a.dtype)
    of_zero = c("logical_and", c("eq", a.real, zero), c("eq", a.imag, zero))
    by_zero = c("logical_and", c("eq", b.real, zero), c("eq", b.imag, zero))
    real = c("where", by_zero, one, c("where", of_zero, zero, made.real))
    return Pair(real, c("where", c("logical_or", of_zero, by_zero), zero, made.imag))


@complex_("addcmul", "addcdiv")
def add_product(c: Context, x: Any, y: Any, z: Any, value: Any = 1) -> Pair:
    made = div(c, y, z) if c.node.target is ATEN.addcdiv.default else times(c, *both(c, y, z))
    made = times(c, made, pair(c, value, made.dtype))
    first = pair(c, x, made.dtype)
    return Pair(c("add", first.real, made.real), c("add", first.imag, made.imag))


# Reductions.


@complex_("prod", "prod.dim_int")
def prod(c: Context, x: Pair, axis: int | None = None, keepdim: bool = False, **_: Any) -> Pair:
    """By halves, filled up with ones."""
    if not isinstance(x, Pair):
        raise Refusal("a product of real numbers as a complex one is not supported: convert x first")
    if axis is None:
        x = Pair(*(c.reshape(v, (math.prod(v.shape),)) for v in (x.real, x.imag)))
    at = c.axis(axis or 0, len(x.shape))
    if not x.shape:
        return x
    n = x.shape[at]
    if not isinstance(n, int):
        raise Refusal("a product of complex numbers over a dynamic size is not supported: cumulate it in a loop")
    shape = x.shape[:at] + ((1,) if keepdim else ()) + x.shape[at + 1 :]
    if n == 0:
        return Pair(c.full(1, x.dtype, shape), c.full(0, x.dtype, shape))
    while n > 1:
        half = n // 2
        low, high, odd = (
            Pair(*(c.slice(v, at, *ends) for v in (x.real, x.imag)))
            for ends in ((0, half), (half, 2 * half), (2 * half, n))
        )
        x = times(c, low, high)
        if n % 2:
            x = Pair(*(TABLE[ATEN.cat.default](c, [u, v], at) for u, v in ((x.real, odd.real), (x.imag, odd.imag))))
        n = half + n % 2
    return Pair(c.reshape(x.real, shape), c.reshape(x.imag, shape))


@complex_("var.correction", "std.correction")
def variance(c: Context, x: Pair, *args: Any, **kwargs: Any) -> Value:
    """The mean square of what is left of the mean: that of the real parts and that of the imaginary ones."""
    one = TABLE[ATEN.var.correction]
    both = c("add", one(c, x.real, *args, **kwargs), one(c, x.imag, *args, **kwargs))
    return c("sqrt", both) if c.node.target.overloadpacket.__name__.startswith("std") else both


@complex_("var_mean.correction", "std_mean.correction")
def moments(c: Context, x: Pair, *args: Any, **kwargs: Any) -> tuple[Value, Pair]:
    means = (TABLE[ATEN.var_mean.correction](c, v, *args, **kwargs)[1] for v in (x.real, x.imag))
    return variance(c, x, *args, **kwargs), Pair(*means)


@complex_("linalg_vector_norm")
def vector_norm(c: Context, x: Pair, *args: Any, **kwargs: Any) -> Value:
    made: Value = TABLE[ATEN.linalg_vector_norm.default](c, absolute(c, x), *args, **kwargs)
    return made


# Truth: a complex number is true unless both parts are 0.


def truth(c: Context, x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return [truth(c, e) for e in x]
    return c("logical_or", *(c.cast(v, DType.bool) for v in (x.real, x.imag))) if isinstance(x, Pair) else x


@complex_(
    "logical_and", "logical_or", "logical_xor", "logical_not", "any", "any.dim", "any.dims", "all", "all.dim",
    "all.dims", "count_nonzero", "count_nonzero.dim_IntList", "nonzero", "nonzero_static",
)  # fmt: skip
def of_truth(c: Context, *args: Any, **kwargs: Any) -> Any:
    return TABLE[c.node.target](c, *(truth(c, a) for a in args), **kwargs)


# Tensors that are made real.


@complex_("eye", "eye.m", "arange", "arange.start", "arange.start_step", "linspace")
def real_factory(c: Context, *args: Any, **kwargs: Any) -> Pair:
    if any(isinstance(a, complex) for a in args):
        raise Refusal("complex bounds are not supported: make both parts, and torch.complex of them")
    made = TABLE[c.node.target](c, *args, **{**kwargs, "dtype": getattr(torch, c.out.dtype.value)})
    return pair(c, made, c.out.dtype)


@complex_("lerp.Tensor", "lerp.Scalar")
def lerp(c: Context, x: Pair, y: Pair, weight: Any) -> Pair:
    w = pair(c, weight, x.dtype)
    made = times(c, w, Pair(c("sub", y.real, x.real), c("sub", y.imag, x.imag)))
    return Pair(c("add", x.real, made.real), c("add", x.imag, made.imag))
