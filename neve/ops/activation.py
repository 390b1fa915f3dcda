"""Activations: pointwise ops of one float tensor (relu and clamp also of integers), with their constants as
attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.ir.loops import Expr, call, const, where
from neve.ir.types import DType
from neve.ops import special_reference as ref
from neve.ops.pad import scalar_const
from neve.ops.pointwise import Pointwise, pointwise


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


Gelu = pointwise("gelu", 1, ref.f64(lambda x: x * 0.5 * ref.erfc(-x / math.sqrt(2))))
GeluTanh = pointwise(
    "gelu_tanh", 1, ref.f64(lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
)
Silu = pointwise("silu", 1, ref.f64(lambda x: x * _sigmoid(x)))
Mish = pointwise("mish", 1, ref.f64(lambda x: x * np.tanh(_softplus(x))))


def clamped(x: Expr, low: float | None, high: float | None) -> Expr:
    """x clamped; NaN stays; high wins where low > high."""
    x = x if low is None else call("maximum", x, scalar_const(low, x.dtype))
    return x if high is None else call("minimum", x, scalar_const(high, x.dtype))


@dataclass(frozen=True)
class Relu(Pointwise):
    """max(x, 0), NaN staying."""

    name = "relu"
    arity = 1
    dtypes = "fi"

    def reference(self, *inputs: np.ndarray) -> Any:
        return np.maximum(inputs[0], inputs[0].dtype.type(0))

    def scalar(self, *args: Expr) -> Expr:
        return clamped(args[0], 0, None)


@dataclass(frozen=True)
class Clamp(Pointwise):
    """min(max(x, min), max), NaN staying; either bound may be None. Also relu6 and hardtanh. Bounds of integers must
    be ints.
    """

    name = "clamp"
    arity = 1
    dtypes = "fi"
    min: float | int | None = None
    max: float | int | None = None

    def reference(self, *inputs: np.ndarray) -> Any:
        (x,) = inputs
        x = x if self.min is None else np.maximum(x, x.dtype.type(self.min))
        return x if self.max is None else np.minimum(x, x.dtype.type(self.max))

    def scalar(self, *args: Expr) -> Expr:
        return clamped(args[0], self.min, self.max)

    @classmethod
    def variants(cls) -> Iterator[Pointwise]:
        for bounds in ((0, 3), (None, 2), (1, None), (2, 1)):
            yield cls(*bounds)


@dataclass(frozen=True)
class AddRelu(Pointwise):
    """max(x + y, 0), NaN staying: the sum is rounded first, as add and relu after one another do."""

    name = "add_relu"
    arity = 2
    dtypes = "fi"

    def reference(self, *inputs: np.ndarray) -> Any:
        x, y = inputs
        return np.maximum(x + y, x.dtype.type(0))

    def scalar(self, *args: Expr) -> Expr:
        return clamped(call("add", *args), 0, None)


@dataclass(frozen=True)
class Dropout(Pointwise):
    """The input: dropout with that probability, turned off by evaluation mode. `remove_dropout` removes it."""

    name = "dropout"
    arity = 1
    dtypes = "fib"
    p: float = 0.5

    def reference(self, *inputs: np.ndarray) -> Any:
        return inputs[0]

    def scalar(self, *args: Expr) -> Expr:
        return args[0]


@dataclass(frozen=True)
class Hardsigmoid(Pointwise):
    """clamp(x + 3, 0, 6) / 6; by_product: · (1/6)."""

    name = "hardsigmoid"
    arity = 1
    by_product: bool = False

    def reference(self, *inputs: np.ndarray) -> Any:
        return np.clip(inputs[0] + 3, 0, 6) / 6

    def scalar(self, *args: Expr) -> Expr:
        (x,) = args
        return _sixth(clamped(call("add", x, const(3.0, x.dtype)), 0, 6), self.by_product)


@dataclass(frozen=True)
class Hardswish(Pointwise):
    """x clamp(x + 3, 0, 6) / 6; by_product: · (1/6)."""

    name = "hardswish"
    arity = 1
    by_product: bool = False

    def reference(self, *inputs: np.ndarray) -> Any:
        return inputs[0] * np.clip(inputs[0] + 3, 0, 6) / 6

    def scalar(self, *args: Expr) -> Expr:
        (x,) = args
        return _sixth(call("mul", x, clamped(call("add", x, const(3.0, x.dtype)), 0, 6)), self.by_product)


def _sixth(x: Expr, by_product: bool) -> Expr:
    return call("mul", x, const(1 / 6, x.dtype)) if by_product else call("div", x, const(6.0, x.dtype))


@dataclass(frozen=True)
class LeakyRelu(Pointwise):
    """x > 0 ? x : negative_slope x."""

    name = "leaky_relu"
    arity = 1
    negative_slope: float = 0.01

    def reference(self, *inputs: np.ndarray) -> Any:
        (x,) = inputs
        return np.where(x > 0, x, x * x.dtype.type(self.negative_slope))

    def scalar(self, *args: Expr) -> Expr:
        (x,) = args
        return where(call("gt", x, const(0.0, x.dtype)), x, call("mul", x, const(self.negative_slope, x.dtype)))

    @classmethod
    def variants(cls) -> Iterator[Pointwise]:
        yield from (cls(), cls(-0.5))


@dataclass(frozen=True)
class Prelu(Pointwise):
    """x, weight (broadcast to x): x > 0 ? x : weight x."""

    name = "prelu"
    arity = 2

    def reference(self, *inputs: np.ndarray) -> Any:
        x, weight = inputs
        return np.where(x > 0, x, weight * x)

    def scalar(self, *args: Expr) -> Expr:
        x, weight = args
        return where(call("gt", x, const(0.0, x.dtype)), x, call("mul", weight, x))


@dataclass(frozen=True)
class Elu(Pointwise):
    """scale (x > 0 ? x : alpha expm1(input_scale x)); also celu and selu."""

    name = "elu"
    arity = 1
    alpha: float = 1.0
    scale: float = 1.0
    input_scale: float = 1.0

    def reference(self, *inputs: np.ndarray) -> Any:
        x = inputs[0].astype(np.float64)
        return np.where(x > 0, x * self.scale, np.expm1(x * self.input_scale) * self.alpha * self.scale)

    def scalar(self, *args: Expr) -> Expr:
        (x,) = args

        def times(e: Expr, factor: float) -> Expr:
            return e if factor == 1 else call("mul", e, const(factor, x.dtype))

        low = times(call("expm1", times(x, self.input_scale)), self.alpha * self.scale)
        return where(call("gt", x, const(0.0, x.dtype)), times(x, self.scale), low)

    @classmethod
    def variants(cls) -> Iterator[Pointwise]:
        yield from (cls(), cls(1.5), cls(1.6732632423543772, 1.0507009873554805), cls(2.0, 1.0, 0.5))


@dataclass(frozen=True)
class Softplus(Pointwise):
    """log(1 + exp(beta x)) / beta, x where beta x > threshold."""

    name = "softplus"
    arity = 1
    beta: float = 1.0
    threshold: float = 20.0

    def reference(self, *inputs: np.ndarray) -> Any:
        x = inputs[0].astype(np.float64)
        return np.where(x * self.beta > self.threshold, x, _softplus(x * self.beta) / self.beta)

    def scalar(self, *args: Expr) -> Expr:
        (x,) = args
        if self.beta == 1:
            scaled, soft = x, call("softplus", x)
        else:
            scaled = call("mul", x, const(self.beta, x.dtype))
            soft = call("div", call("softplus", scaled), const(self.beta, x.dtype))
        if self.threshold == 20 and self.beta == 1 and x.dtype is not DType.float64:
            return soft
        return where(call("gt", scaled, const(self.threshold, x.dtype)), x, soft)

    @classmethod
    def variants(cls) -> Iterator[Pointwise]:
        yield from (cls(), cls(2.0, 3.0), cls(1.0, 0.5), cls(-0.5, 20.0))
