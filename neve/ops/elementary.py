"""Elementary and special functions of one or two floats; references compute in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.loops import Expr, call, const
from neve.ops import special_reference as ref
from neve.ops.base import Sample
from neve.ops.pointwise import Pointwise, pointwise

INF = float("inf")


def _function(
    name: str, f: Callable[..., Any], low: float = -4.0, high: float = 4.0, arity: int = 1
) -> type[Pointwise]:
    return pointwise(name, arity, ref.f64(f), domain=(low, high))


Exp = _function("exp", np.exp)
Exp2 = _function("exp2", np.exp2)
Expm1 = _function("expm1", np.expm1)
Log = _function("log", np.log, 0)
Log2 = _function("log2", np.log2, 0)
Log10 = _function("log10", np.log10, 0)
Log1p = _function("log1p", np.log1p, -1)
Sqrt = _function("sqrt", np.sqrt, 0)
Rsqrt = _function("rsqrt", lambda x: 1 / np.sqrt(x), 0)
Reciprocal = _function("reciprocal", lambda x: 1 / x)
Sin = _function("sin", np.sin, -20, 20)
Cos = _function("cos", np.cos, -20, 20)
Tan = _function("tan", np.tan, -20, 20)
Asin = _function("asin", np.arcsin, -1, 1)
Acos = _function("acos", np.arccos, -1, 1)
Atan = _function("atan", np.arctan)
Sinh = _function("sinh", np.sinh)
Cosh = _function("cosh", np.cosh)
Tanh = _function("tanh", np.tanh)
Asinh = _function("asinh", np.arcsinh)
Acosh = _function("acosh", np.arccosh, 1, 20)
Atanh = _function("atanh", np.arctanh, -1, 1)
Sigmoid = _function("sigmoid", lambda x: 1 / (1 + np.exp(-x)), -20, 20)
Logsigmoid = _function("logsigmoid", lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), -20, 20)
Erf = _function("erf", ref.erf)
Erfc = _function("erfc", ref.erfc)
Erfinv = _function("erfinv", ref.erfinv, -1, 1)
Lgamma = _function("lgamma", ref.lgamma, -3, 20)
Digamma = _function("digamma", ref.digamma, -3, 20)
Ndtr = _function("ndtr", ref.ndtr)
Ndtri = _function("ndtri", ref.ndtri, 0, 1)
LogNdtr = _function("log_ndtr", ref.log_ndtr, -30, 10)
I0 = _function("i0", ref.i0, -10, 10)
I0e = _function("i0e", ref.i0e, -10, 10)
I1 = _function("i1", ref.i1, -10, 10)
I1e = _function("i1e", ref.i1e, -10, 10)
Sinc = _function("sinc", ref.sinc)
Atan2 = _function("atan2", np.arctan2, arity=2)
Hypot = _function("hypot", np.hypot, arity=2)
Xlogy = _function("xlogy", ref.xlogy, 0, arity=2)
Xlog1py = _function("xlog1py", ref.xlog1py, -1, arity=2)
Zeta = _function("zeta", ref.zeta, 1.1, 9, arity=2)


@dataclass(frozen=True)
class Polygamma(Pointwise):
    """The n-th derivative of digamma, n >= 0."""

    name = "polygamma"
    arity = 1
    domain = (0.1, 9.0)
    n: int

    def reference(self, *inputs: np.ndarray) -> Any:
        return ref.polygamma(self.n)(*inputs)

    def scalar(self, *args: Expr) -> Expr:
        (x,) = args
        if self.n == 0:
            return call("digamma", x)
        return call("trigamma", x) if self.n == 1 else call("polygamma", const(float(self.n), x.dtype), x)

    @classmethod
    def variants(cls) -> Iterator[Pointwise]:
        for n in (0, 1, 2, 4):
            yield cls(n)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Without the poles below 0, where eager gives noise."""
        for s in super().samples():
            x = s.inputs[0]
            yield Sample(s.op, (np.where((x < 0) & (x == np.floor(x)), x.dtype.type(-0.25), x),), s.types)


class _Logaddexp(Pointwise):
    """log(base^x + base^y) without overflow, for two functions of base e or 2."""

    arity = 2
    functions: ClassVar[tuple[str, str]]

    def scalar(self, *args: Expr) -> Expr:
        x, y = args
        exp, log = self.functions
        top, low = call("maximum", x, y), call("minimum", x, y)
        one = const(1.0, x.dtype)
        terms = call("exp", call("sub", low, top)) if exp == "exp" else call("exp2", call("sub", low, top))
        sum_ = call("log1p", terms) if log == "log1p" else call("log2", call("add", one, terms))
        return call(
            "where",
            call("eq", x, y),
            call("add", x, const(LOG2 if exp == "exp" else 1.0, x.dtype)),
            call("add", top, sum_),
        )


LOG2 = 0.6931471805599453


@dataclass(frozen=True)
class Logaddexp(_Logaddexp):
    """log(exp(x) + exp(y))."""

    name = "logaddexp"
    function = staticmethod(ref.f64(np.logaddexp))
    functions = ("exp", "log1p")


@dataclass(frozen=True)
class Logaddexp2(_Logaddexp):
    """log2(2^x + 2^y)."""

    name = "logaddexp2"
    function = staticmethod(ref.f64(np.logaddexp2))
    functions = ("exp2", "log2")
