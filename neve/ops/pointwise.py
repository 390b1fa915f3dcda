"""Pointwise ops: every output element is a scalar function of the inputs' elements at the same (broadcast) index.

All inputs of an op have one dtype (capture inserts casts by PyTorch's promotion rules), but for `where`'s condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, call, cast
from neve.ir.types import DType, TensorType, broadcast
from neve.ops import checks
from neve.ops.base import Op, Sample, broadcast_axis
from neve.ops.samples import pointwise_samples

REPRESENTABLE = frozenset(
    [
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "abs",
        "neg",
        "sign",
        "floor",
        "ceil",
        "trunc",
        "round",
        "copysign",
        "where",
        "relu",
        "clamp",
    ]
)
"""Ops whose results on values of a type are values of that type: there is nothing to round."""


def kind(dtype: DType) -> str:
    """'f' for floats, 'i' for integers, 'b' for bool."""
    return "f" if dtype.is_float else "i" if dtype.is_int else "b"


def wide(x: np.ndarray) -> np.ndarray:
    """x as the type that it is computed in: float16 as float32, else itself."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


class Pointwise(Op):
    """Base of the ops made by `pointwise`: name is also the scalar function's name in `neve.emit.functions`, unless
    `scalar` is overridden.

    dtypes holds the kinds of inputs allowed ("f", "i", "b"); predicate ops give bool; domain is the range of float
    samples.
    """

    arity: ClassVar[int]
    function: ClassVar[Callable[..., Any]]
    dtypes: ClassVar[str] = "f"
    domain: ClassVar[tuple[float, float]] = (-4.0, 4.0)
    predicate: ClassVar[bool] = False

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if len(types) != self.arity:
            raise ValueError(f"{self.name} takes {self.arity} inputs, got {len(types)}")
        if len({t.dtype for t in types}) != 1:
            raise ValueError(f"{self.name} wants inputs of one dtype, got {', '.join(map(str, types))}")
        if kind(types[0].dtype) not in self.dtypes:
            raise ValueError(f"{self.name} is not defined for {types[0].dtype}")
        return (TensorType(broadcast(*(t.shape for t in types)), DType.bool if self.predicate else types[0].dtype),)

    def reference(self, *inputs: np.ndarray) -> Any:
        """The numpy function; inputs are at least float32."""
        return type(self).function(*inputs)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            out = np.asarray(self.reference(*(wide(x) for x in inputs)))
            return (out.astype(bool if self.predicate else inputs[-1].dtype),)

    def scalar(self, *args: Expr) -> Expr:
        """The value of one element."""
        return call(self.name, *args, dtype=DType.bool if self.predicate else args[-1].dtype)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Half types are computed in float32 and rounded once an op, as in eager."""
        (out,) = self.infer(*(x.type for x in inputs))

        def element(*i: Index) -> Expr:
            args = [x.broadcast(i) for x in inputs]
            if self.name in REPRESENTABLE:
                return self.scalar(*args)
            result = self.scalar(*(cast(a, checks.wide(a.dtype)) for a in args))
            return result if result.dtype is out.dtype else cast(result, out.dtype)

        return (b.compute(out.shape, out.dtype, element),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        rank = max(t.rank for t in types)
        return tuple(broadcast_axis(axis, rank, t) for t in types)

    @classmethod
    def variants(cls) -> Iterator[Pointwise]:
        """Instances to test."""
        yield cls()

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for op in cls.variants():
            yield from pointwise_samples(op, cls.arity, cls.dtypes, cls.domain)


def pointwise(
    name: str,
    arity: int,
    function: Callable[..., Any],
    dtypes: str = "f",
    domain: tuple[float, float] = (-4.0, 4.0),
    predicate: bool = False,
) -> type[Pointwise]:
    """An attribute-free pointwise op class; function is its numpy reference, name its scalar function's too."""
    title = "".join(part.capitalize() for part in name.split("_"))
    body = {
        "name": name,
        "arity": arity,
        "function": staticmethod(function),
        "dtypes": dtypes,
        "domain": domain,
        "predicate": predicate,
        "__module__": __name__,
        "__qualname__": title,
        "__doc__": f"torch.{name}.",
    }
    return dataclass(frozen=True)(type(title, (Pointwise,), body))


def _round(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(x))


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind != "f":
        return np.asarray(np.mod(x, y))
    m = np.fmod(x, y)
    return np.asarray(np.where((m != 0) & ((y < 0) != (m < 0)), m + y, m))


def _floor_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """c10::div_floor_floating; integers round down."""
    if x.dtype.kind != "f":
        return np.asarray(np.floor_divide(x, y))
    m = np.fmod(x, y)
    q = (x - m) / y
    q = np.where((m != 0) & ((y < 0) != (m < 0)), q - 1, q)
    f = np.floor(q)
    f = np.where(q - f > 0.5, f + 1, f)
    f = np.where(q == 0, np.copysign(np.zeros_like(x), x / y), f)
    return np.asarray(np.where(y == 0, x / y, f))


def _trunc_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.asarray(np.trunc(x / y))
    q = np.floor_divide(x, y)
    return np.asarray(q + ((x - q * y != 0) & ((x < 0) != (y < 0))))


def _pow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Integers as torch: repeated multiplication that wraps; to a negative power 1 and -1 alone do not give 0."""
    if x.dtype.kind == "f":
        return np.asarray(np.power(x, y))
    x, y = np.broadcast_arrays(x, y)
    out = np.power(x, np.maximum(y, 0) if y.dtype.kind == "i" else y)
    negative = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0))
    return np.asarray(np.where(y < 0, negative, out).astype(x.dtype))


def _sign(x: np.ndarray) -> np.ndarray:
    """NaN gives 0, as in torch."""
    return np.asarray((x > 0).astype(x.dtype) - (x < 0).astype(x.dtype))


def _shift(left: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Shifts by less than 0 or by the width and more give 0 (for right shifts of negative numbers -1), as in torch."""

    def shift(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        bits = x.dtype.itemsize * 8
        far = (y < 0) | (y >= bits)
        n = np.where(far, 0, y).astype(x.dtype)
        out = np.left_shift(x, n) if left else np.right_shift(x, n)
        beyond = np.zeros_like(x) if left else np.where(x < 0, -1, 0).astype(x.dtype)
        return np.asarray(np.where(far, beyond, out))

    return shift


Add = pointwise("add", 2, np.add, "fib")
Sub = pointwise("sub", 2, np.subtract, "fi")
Mul = pointwise("mul", 2, np.multiply, "fib")
Div = pointwise("div", 2, np.divide)
FloorDivide = pointwise("floor_divide", 2, _floor_divide, "fi")
TruncDivide = pointwise("trunc_divide", 2, _trunc_divide, "fi")
Remainder = pointwise("remainder", 2, _remainder, "fi")
Fmod = pointwise("fmod", 2, np.fmod, "fi")
Pow = pointwise("pow", 2, _pow, "fi")
Maximum = pointwise("maximum", 2, np.maximum, "fib")
Minimum = pointwise("minimum", 2, np.minimum, "fib")
Fmax = pointwise("fmax", 2, np.fmax)
Fmin = pointwise("fmin", 2, np.fmin)
Copysign = pointwise("copysign", 2, np.copysign)
Abs = pointwise("abs", 1, np.abs, "fi")
Neg = pointwise("neg", 1, np.negative, "fi")
Sign = pointwise("sign", 1, _sign, "fi")
Floor = pointwise("floor", 1, np.floor)
Ceil = pointwise("ceil", 1, np.ceil)
Trunc = pointwise("trunc", 1, np.trunc)
Round = pointwise("round", 1, _round)

Eq = pointwise("eq", 2, np.equal, "fib", predicate=True)
Ne = pointwise("ne", 2, np.not_equal, "fib", predicate=True)
Lt = pointwise("lt", 2, np.less, "fib", predicate=True)
Le = pointwise("le", 2, np.less_equal, "fib", predicate=True)
Gt = pointwise("gt", 2, np.greater, "fib", predicate=True)
Ge = pointwise("ge", 2, np.greater_equal, "fib", predicate=True)
Isnan = pointwise("isnan", 1, np.isnan, "fib", predicate=True)
Isinf = pointwise("isinf", 1, np.isinf, "fib", predicate=True)
Signbit = pointwise("signbit", 1, lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0, "fi", predicate=True)
LogicalNot = pointwise("logical_not", 1, np.logical_not, "fib", predicate=True)
LogicalAnd = pointwise("logical_and", 2, np.logical_and, "fib", predicate=True)
LogicalOr = pointwise("logical_or", 2, np.logical_or, "fib", predicate=True)
LogicalXor = pointwise("logical_xor", 2, np.logical_xor, "fib", predicate=True)
BitwiseAnd = pointwise("bitwise_and", 2, np.bitwise_and, "ib")
BitwiseOr = pointwise("bitwise_or", 2, np.bitwise_or, "ib")
BitwiseXor = pointwise("bitwise_xor", 2, np.bitwise_xor, "ib")
BitwiseNot = pointwise("bitwise_not", 1, np.invert, "ib")
BitwiseLeftShift = pointwise("bitwise_left_shift", 2, _shift(True), "i")
BitwiseRightShift = pointwise("bitwise_right_shift", 2, _shift(False), "i")
Gcd = pointwise("gcd", 2, np.gcd, "i")


@dataclass(frozen=True)
class Where(Pointwise):
    """condition (bool) ? then : other."""

    name = "where"
    arity = 3
    function = staticmethod(np.where)
    dtypes = "fib"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if len(types) != 3 or types[0].dtype is not DType.bool or types[1].dtype is not types[2].dtype:
            raise ValueError(
                f"where wants a bool condition and two values of one dtype, got {', '.join(map(str, types))}"
            )
        return (TensorType(broadcast(*(t.shape for t in types)), types[1].dtype),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for s in pointwise_samples(cls(), 3, cls.dtypes, cls.domain):
            condition = s.inputs[0] > s.inputs[1] if s.inputs[0].dtype != bool else s.inputs[0]
            types = s.types and (TensorType(condition.shape, DType.bool), *s.types[1:])
            yield Sample(s.op, (condition, *s.inputs[1:]), types)


@dataclass(frozen=True)
class Nextafter(Pointwise):
    """The next float after the first towards the second; not for the half types, whose steps are not float32's."""

    name = "nextafter"
    arity = 2
    function = staticmethod(np.nextafter)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if any(t.dtype in (DType.float16, DType.bfloat16) for t in types):
            raise ValueError(f"nextafter is not defined for {types[0].dtype}")
        return super().infer(*types)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from (s for s in super().samples() if s.types is None or s.types[0].dtype.size > 2)
