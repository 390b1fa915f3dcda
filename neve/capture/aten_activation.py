"""Builders of activation functions and clamps."""

from __future__ import annotations

import math
from typing import Any

from neve.capture.aten import aten
from neve.capture.aten_pointwise import unary
from neve.capture.aten_random import random_rrelu
from neve.capture.context import Context, Number, Refusal
from neve.ir.graph import Value
from neve.ir.types import DType, limits
from neve.ops.activation import Clamp, Elu, Hardsigmoid, Hardswish, LeakyRelu, Prelu, Relu, Softplus

unary("silu mish log_sigmoid:logsigmoid", to_float=False)


@aten("relu")
def relu(c: Context, x: Value) -> Value:
    return c(Relu(), x)


@aten("clamp", "clamp.Tensor")
def clamp(c: Context, x: Value, min: Any = None, max: Any = None) -> Value:
    dtype = c.out.dtype
    v = c.cast(x, dtype)
    if any(isinstance(b, float) and math.isnan(b) for b in (min, max)):
        raise Refusal("clamp to NaN")
    if all(b is None or isinstance(b, (int, float)) for b in (min, max)) and dtype is not DType.bool:
        return c(Clamp(_bound(min, dtype), _bound(max, dtype)), v)
    for name, bound in (("maximum", min), ("minimum", max)):
        if bound is not None:
            v = c(name, v, c.tensor(bound, dtype))
    return v


def _bound(value: Any, dtype: DType) -> Any:
    """Of unsigned integers, a negative bound wraps; what does not fit otherwise eager refuses."""
    if value is None or dtype.is_float:
        return None if value is None else float(value)
    least, most = limits(dtype)
    bound = int(value)
    if not (least or -most) <= bound <= most:
        raise Refusal(f"clamp: {bound} cannot be converted to {dtype} without overflow")
    return bound + most + 1 if bound < least else bound


@aten("clamp_min", "clamp_min.Tensor")
def clamp_min(c: Context, x: Value, min: Any) -> Value:
    return clamp(c, x, min, None)


@aten("clamp_max", "clamp_max.Tensor")
def clamp_max(c: Context, x: Value, max: Any) -> Value:
    return clamp(c, x, None, max)


@aten("hardtanh")
def hardtanh(c: Context, x: Value, min_val: Any = -1, max_val: Any = 1) -> Value:
    return clamp(c, x, min_val, max_val)


@aten("relu6")
def relu6(c: Context, x: Value) -> Value:
    return clamp(c, x, 0, 6)


@aten("hardsigmoid")
def hardsigmoid(c: Context, x: Value) -> Value:
    return c(Hardsigmoid(), x)


@aten("hardswish")
def hardswish(c: Context, x: Value) -> Value:
    return c(Hardswish(), x)


@aten("gelu")
def gelu(c: Context, x: Value, approximate: str = "none") -> Value:
    return c("gelu" if approximate == "none" else "gelu_tanh", x)


@aten("softplus")
def softplus(c: Context, x: Value, beta: Any = 1, threshold: Any = 20) -> Value:
    if not any(isinstance(n, Number) for n in (beta, threshold)):
        return c(Softplus(float(beta), float(threshold)), x)
    beta, threshold = c.tensor(beta, x.dtype), c.tensor(threshold, x.dtype)
    scaled = c("mul", x, beta)
    return c("where", c("gt", scaled, threshold), x, c("div", c("log1p", c("exp", scaled)), beta))


@aten("leaky_relu")
def leaky_relu(c: Context, x: Value, negative_slope: Any = 0.01) -> Value:
    if not isinstance(negative_slope, Number):
        return c(LeakyRelu(float(negative_slope)), x)
    below = c("mul", x, c.tensor(negative_slope, x.dtype))
    return c("where", c("gt", x, c.full(0, x.dtype)), x, below)


@aten("rrelu_with_noise_functional")
def rrelu(
    c: Context, x: Value, noise: Value, lower: Any = 1 / 8, upper: Any = 1 / 3, training: bool = False, g: Any = None
) -> tuple[Value, Value]:
    if training:
        return random_rrelu(c, x, noise, float(lower), float(upper), g)
    return c(LeakyRelu((float(lower) + float(upper)) / 2), x), noise


@aten("elu")
def elu(c: Context, x: Value, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Value:
    if not any(isinstance(n, Number) for n in (alpha, scale, input_scale)):
        return c(Elu(float(alpha), float(scale), float(input_scale)), x)
    alpha, scale, input_scale = (c.tensor(n, x.dtype) for n in (alpha, scale, input_scale))
    below = c("mul", c("mul", c("expm1", c("mul", x, input_scale)), alpha), scale)
    return c("where", c("le", x, c.full(0, x.dtype)), below, c("mul", x, scale))


@aten("_prelu_kernel")
def prelu(c: Context, x: Value, weight: Value) -> Value:
    return c(Prelu(), x, weight)
