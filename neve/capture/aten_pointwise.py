"""Builders of the pointwise ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from neve.capture.aten import aten
from neve.capture.context import INT_TO_FLOAT, Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import DType, limits, round_to
from neve.ops.elementary import Polygamma
from neve.ops.reduce import All

UNARY = (
    "exp exp2 expm1 log log2 log10 log1p tanh sigmoid erf erfc sin cos tan asin acos atan sinh cosh asinh acosh atanh "
    "rsqrt sqrt lgamma digamma "
    "erfinv i0 sinc reciprocal special_i0e:i0e special_i1:i1 special_i1e:i1e "
    "special_ndtri:ndtri special_log_ndtr:log_ndtr"
)
SAME = "neg abs sign sgn:sign"
ROUNDING = "floor ceil trunc"
BINARY = "maximum minimum bitwise_and.Tensor bitwise_or.Tensor bitwise_xor.Tensor gcd"
FLOAT_BINARY = (
    "atan2 hypot copysign.Tensor copysign.Scalar nextafter "
    "xlogy.Tensor special_xlog1py:xlog1py special_zeta:zeta logaddexp logaddexp2"
)
HALVES = (DType.float16, DType.bfloat16)
COMPARISONS = "eq ne lt le gt ge"


def unary(names: str, to_float: bool) -> None:
    for entry in names.split():
        name, _, function = entry.partition(":")

        @aten(name)
        def build(c: Context, x: Value, function: str = function or name) -> Value:
            return c(function, c.cast(x, c.out.dtype if to_float else x.dtype))


def binary(names: str, to_float: bool) -> None:
    for entry in names.split():
        name, _, function = entry.partition(":")

        @aten(name)
        def build(c: Context, x: Any, y: Any, function: str = function or name.partition(".")[0]) -> Value:
            dtype = c.promote(x, y, kind=INT_TO_FLOAT) if to_float else c.out.dtype
            return c(function, c.tensor(x, dtype), c.tensor(y, dtype))


unary(UNARY, True)
unary(SAME, False)
binary(BINARY, False)
binary(FLOAT_BINARY, True)

for _name in ROUNDING.split():

    @aten(_name)
    def rounding(c: Context, x: Value, function: str = _name) -> Value:
        return c(function, x) if x.dtype.is_float else x


for _name in COMPARISONS.split():

    @aten(f"{_name}.Tensor", f"{_name}.Scalar")
    def compare(c: Context, x: Value, y: Any, function: str = _name) -> Value:
        dtype = c.promote(x, y)
        return c(function, c.tensor(x, dtype), c.tensor(y, dtype))


for _name in ("logical_and", "logical_or", "logical_xor"):

    @aten(_name)
    def logical(c: Context, x: Value, y: Value, function: str = _name) -> Value:
        return c(function, truth(c, x), truth(c, y))


def truth(c: Context, x: Value) -> Value:
    """x != 0, as bool."""
    return x if x.dtype is DType.bool else c("ne", x, c.full(0, x.dtype))


@aten("logical_not")
def logical_not(c: Context, x: Value) -> Value:
    return c("logical_not", x)


@aten("bitwise_not")
def bitwise_not(c: Context, x: Value) -> Value:
    return c("bitwise_not", x)


@aten(
    "bitwise_and.Scalar",
    "bitwise_or.Scalar",
    "bitwise_xor.Scalar",
    "bitwise_left_shift.Tensor",
    "bitwise_right_shift.Tensor",
    "bitwise_left_shift.Tensor_Scalar",
    "bitwise_right_shift.Tensor_Scalar",
    "bitwise_left_shift.Scalar_Tensor",
    "bitwise_right_shift.Scalar_Tensor",
    "__lshift__.Scalar",
    "__lshift__.Tensor",
    "__rshift__.Scalar",
    "__rshift__.Tensor",
)
def bitwise(c: Context, x: Any, y: Any) -> Value:
    dtype, name = c.out.dtype, c.node.target.overloadpacket.__name__
    name = {"__lshift__": "bitwise_left_shift", "__rshift__": "bitwise_right_shift"}.get(name, name)
    return c(name, c.tensor(x, dtype), c.tensor(y, dtype))


@aten("special_ndtr")
def ndtr(c: Context, x: Value) -> Value:
    """(1 + erf(x / √2)) / 2, which eager computes so, with its cancellation below −5."""
    dtype = c.out.dtype
    erf = c("erf", c("mul", c.cast(x, dtype), c.full(2**-0.5, dtype)))
    return c("mul", c("add", c.full(1, dtype), erf), c.full(0.5, dtype))


@aten("polygamma")
def polygamma(c: Context, n: int, x: Value) -> Value:
    return c(Polygamma(n), c.cast(x, c.out.dtype))


@aten("isnan")
def isnan(c: Context, x: Value) -> Value:
    return c("isnan", x)


@aten("isinf")
def isinf(c: Context, x: Value) -> Value:
    return c("isinf", x)


@aten("signbit")
def signbit(c: Context, x: Value) -> Value:
    return c.full(False, DType.bool, x.shape) if x.dtype is DType.bool else c("signbit", x)


@aten("add.Tensor", "add.Scalar")
def add(c: Context, x: Value, y: Any, alpha: Any = 1) -> Value:
    dtype = c.out.dtype
    return c("add", c.tensor(x, dtype), _scaled(c, y, alpha, dtype))


@aten("sub.Tensor", "sub.Scalar")
def sub(c: Context, x: Value, y: Any, alpha: Any = 1) -> Value:
    dtype = c.out.dtype
    return c("sub", c.tensor(x, dtype), _scaled(c, y, alpha, dtype))


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(c: Context, x: Value, y: Any, alpha: Any = 1) -> Value:
    dtype = c.out.dtype
    return c("sub", c.tensor(y, dtype), _scaled(c, x, alpha, dtype))


def _scaled(c: Context, y: Any, alpha: Any, dtype: DType) -> Value:
    v = c.tensor(y, dtype)
    return v if alpha == 1 else c("mul", v, c.tensor(alpha, dtype))


@aten("mul.Tensor", "mul.Scalar")
def mul(c: Context, x: Any, y: Any) -> Value:
    return _by_number(c, "mul", y, x) if _is_number(x) else _by_number(c, "mul", x, y)


@aten("div.Tensor", "div.Scalar")
def div(c: Context, x: Any, y: Any) -> Value:
    return _by_number(c, "div", x, y)


def _by_number(c: Context, function: str, x: Any, y: Any) -> Value:
    """function(x, y) of the products and quotients, which round a number or 0-d y to float32 for an x of a half type,
    not to that type (sums and remainders do).
    """
    dtype = c.out.dtype
    if dtype not in HALVES or not _is_number(y) or _is_number(x):
        return c(function, c.tensor(x, dtype), c.tensor(y, dtype))
    if isinstance(y, (int, float)) and float(round_to(np.asarray(y, np.float64), dtype)) == y:
        return c(function, c.tensor(x, dtype), c.tensor(y, dtype))
    wide = (c.cast(c.tensor(v, t), DType.float32) for v, t in ((x, dtype), (y, DType.float32)))
    return c.cast(c(function, *wide), dtype)


def _is_number(x: Any) -> bool:
    return not isinstance(x, Value) or not x.shape


@aten("div.Tensor_mode", "div.Scalar_mode")
def div_mode(c: Context, x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    if rounding_mode is None:
        return div(c, x, y)
    if c.out.dtype in HALVES and not _is_number(y):
        pair = (c.tensor(v, c.out.dtype) for v in (x, y))
        return _floor_of_halves(c, *pair) if rounding_mode == "floor" else c("trunc", c("div", *pair))
    op = "floor_divide" if rounding_mode == "floor" else "trunc_divide"
    return _by_number(c, op, x, _no_zero(c, op, y))


def _floor_of_halves(c: Context, x: Value, y: Value) -> Value:
    """c10::div_floor_floating of a half type, which rounds to that type after each step."""

    def zero() -> Value:
        return c.full(0, x.dtype)

    m = c("fmod", x, y)
    q = c("div", c("sub", x, m), y)
    apart = c("logical_and", c("ne", m, zero()), c("ne", c("lt", y, zero()), c("lt", m, zero())))
    q = c("where", apart, c("sub", q, c.full(1, x.dtype)), q)
    f = c("floor", q)
    f = c("where", c("gt", c("sub", q, f), c.full(0.5, x.dtype)), c("add", f, c.full(1, x.dtype)), f)
    plain = c("div", x, y)
    f = c("where", c("eq", q, zero()), c("copysign", c.expand(zero(), plain.shape), plain), f)
    return c("where", c("eq", y, zero()), plain, f)


def _no_zero(c: Context, op: str, y: Any) -> Any:
    """A divisor, of which eager raises a RuntimeError where integers are divided by 0."""
    out = c.out
    if not out.dtype.is_int or out.numel == 0:
        return y
    y = c.tensor(y, out.dtype)
    every = c(All(tuple(range(len(y.shape)))), c("ne", y, c.full(0, out.dtype)))
    c.raise_if(c("logical_not", every), f"{op}: an integer is divided by zero")
    return y


@aten("floor_divide", "floor_divide.Scalar")
def floor_divide(c: Context, x: Any, y: Any) -> Value:
    return div_mode(c, x, y, rounding_mode="floor")


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def remainder(c: Context, x: Any, y: Any) -> Value:
    dtype = c.out.dtype
    return c("remainder", c.tensor(x, dtype), c.tensor(_no_zero(c, "remainder", y), dtype))


@aten("fmod.Tensor", "fmod.Scalar")
def fmod(c: Context, x: Any, y: Any) -> Value:
    dtype = c.out.dtype
    return c("fmod", c.tensor(x, dtype), c.tensor(_no_zero(c, "fmod", y), dtype))


@aten("fmax", "fmin")
def fmax(c: Context, x: Value, y: Value) -> Value:
    dtype, name = c.out.dtype, c.node.target.overloadpacket.__name__
    if not dtype.is_float:
        name = {"fmax": "maximum", "fmin": "minimum"}[name]
    return c(name, c.cast(x, dtype), c.cast(y, dtype))


@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar")
def power(c: Context, x: Any, y: Any) -> Value:
    dtype = c.out.dtype
    if dtype is DType.bool:
        raise Refusal("pow of bool is not supported")
    if isinstance(y, (int, float)) and dtype.is_float and y in SPECIAL_POWERS:
        special: Value = SPECIAL_POWERS[y](c, c.tensor(x, dtype))
        return special
    if isinstance(y, (int, float)) and not isinstance(y, bool) and dtype.is_int and 0 <= y <= 4 and y == int(y):
        return _repeated(c, c.tensor(x, dtype), int(y))
    return c("pow", c.tensor(x, dtype), c.tensor(y, dtype))


def _repeated(c: Context, x: Value, n: int) -> Value:
    if n == 0:
        return c.expand(c.full(1, x.dtype), x.shape)
    out = x
    for _ in range(n - 1):
        out = c("mul", out, x)
    return out


SPECIAL_POWERS: dict[float, Any] = {
    0.5: lambda c, x: c("sqrt", x),
    -0.5: lambda c, x: c("rsqrt", x),
    1.0: lambda c, x: x,
    2.0: lambda c, x: c("mul", x, x),
    3.0: lambda c, x: c("mul", c("mul", x, x), x),
    -1.0: lambda c, x: c("reciprocal", x),
    -2.0: lambda c, x: c("reciprocal", c("mul", x, x)),
}


@aten("square")
def square(c: Context, x: Value) -> Value:
    return c("mul", x, x) if x.dtype is not DType.bool else c.refuse("square of bool is not supported")


@aten("round")
def round_(c: Context, x: Value) -> Value:
    return c("round", x) if x.dtype.is_float else x


@aten("round.decimals")
def round_decimals(c: Context, x: Value, decimals: int = 0) -> Value:
    if not x.dtype.is_float:
        raise Refusal("round of integers to decimals is not supported")
    if decimals == 0:
        return c("round", x)
    wide = DType.float32 if x.dtype in HALVES else x.dtype
    ten = c.full(10.0 ** abs(decimals), wide)
    first, last = ("mul", "div") if decimals > 0 else ("div", "mul")
    return c.cast(c(last, c("round", c(first, c.cast(x, wide), ten)), ten), x.dtype)


@aten("where.self")
def where(c: Context, condition: Value, x: Any, y: Any) -> Value:
    dtype = c.out.dtype
    return c("where", truth(c, condition), c.tensor(x, dtype), c.tensor(y, dtype))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(c: Context, x: Value, mask: Value, value: Any) -> Value:
    least, most = limits(x.dtype) if x.dtype.is_int else (0, 0)
    least = least or -most  # negative numbers wrap to unsigned ones
    if x.dtype.is_int and isinstance(value, (int, float)) and not least <= value <= most:
        raise Refusal(f"{value} does not fit into {x.dtype}: eager raises")
    return c("where", mask, c.tensor(value, x.dtype), x)


@aten("clone", "alias", "detach", "lift_fresh_copy", "lift_fresh", "contiguous")
def identity(c: Context, x: Value, memory_format: Any = None) -> Value:
    return x


@aten("_to_copy", "to.dtype", "to.dtype_layout", "to.device")
def to(c: Context, x: Any, *args: Any, **kwargs: Any) -> Value:
    return c.tensor(x, c.out.dtype)


@aten("_conj_physical", "conj_physical", "real")
def conj(c: Context, x: Value) -> Value:
    return x


@aten("lerp.Scalar", "lerp.Tensor")
def lerp(c: Context, x: Value, end: Value, weight: Any) -> Value:
    dtype = c.out.dtype
    w, x, end = c.tensor(weight, dtype), c.cast(x, dtype), c.cast(end, dtype)
    one = c.full(1, dtype)
    gap = c("sub", end, x)
    near = c("add", x, c("mul", w, gap))
    far = c("sub", end, c("mul", gap, c("sub", one, w)))
    return c("where", c("lt", c("abs", w), c.full(0.5, dtype)), near, far)
