"""Arithmetic on ints, floats and bools as TorchScript has it: now, on sizes, or at run time."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from neve.capture.torchscript.tape import ATEN, Recorder
from neve.capture.torchscript.values import Dim, Num, Raised, Refusal, Var, needs_of

Number = Any
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, Num, Dim))


def kind_of(value: Any) -> type:
    return value.kind if isinstance(value, (Num, Dim)) else type(value)


def _divide(a: Any, b: Any) -> Any:
    if isinstance(b, (int, float)) and b == 0:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _floordiv(a: Any, b: Any) -> Any:
    """On floats torch rounds the quotient down, which is not what Python does."""
    if isinstance(a, float) or isinstance(b, float):
        quotient = _divide(float(a), float(b))
        return math.floor(quotient) if math.isfinite(quotient) else quotient
    if b == 0:
        raise Raised("integer division or modulo by zero")
    return a // b


def _remainder(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return _fmod(b + _fmod(a, b), b)
    if b == 0:
        raise Raised("integer division or modulo by zero")
    return a % b


def _fmod(a: Any, b: Any) -> Any:
    return math.nan if b == 0 or math.isinf(a) or a != a else math.fmod(a, b)


def _power(a: Any, b: Any) -> Any:
    """TorchScript's int ** int is a float."""
    if a == 0 and b < 0:
        raise Raised("0.0 cannot be raised to a negative power")
    try:
        return math.pow(a, b)
    except (OverflowError, ValueError):
        return torch.pow(torch.tensor(a, dtype=torch.float64), b).item()


def _shift(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def shift(a: Any, b: Any) -> Any:
        if isinstance(b, int) and not 0 <= b < 64:
            raise Refusal(f"a shift by {b} bits is not defined")
        return function(a, b)

    return shift


def _smaller(a: Any, b: Any) -> Any:
    """In this order: as torch has it where one is no number."""
    return min(b, a)


def _larger(a: Any, b: Any) -> Any:
    return max(b, a)


def _same_kind(*kinds: type) -> type:
    return float if float in kinds else int


def _always(kind: type) -> Callable[..., type]:
    return lambda *kinds: kind


# name → (the function on Python numbers and sizes, the kind of its result, the op on 0-d tensors of a common kind)
BINARY: dict[str, tuple[Callable[[Any, Any], Any], Callable[..., type], Any]] = {
    "add": (operator.add, _same_kind, ATEN.add.Tensor),
    "sub": (operator.sub, _same_kind, ATEN.sub.Tensor),
    "mul": (operator.mul, _same_kind, ATEN.mul.Tensor),
    "div": (_divide, _always(float), ATEN.div.Tensor),
    "floordiv": (_floordiv, _same_kind, None),
    "remainder": (_remainder, _same_kind, None),
    "pow": (_power, _always(float), None),
    "fmod": (_fmod, _always(float), ATEN.fmod.Tensor),
    "atan2": (math.atan2, _always(float), ATEN.atan2.default),
    "copysign": (math.copysign, _always(float), ATEN.copysign.Tensor),
    "lt": (operator.lt, _always(bool), ATEN.lt.Tensor),
    "le": (operator.le, _always(bool), ATEN.le.Tensor),
    "gt": (operator.gt, _always(bool), ATEN.gt.Tensor),
    "ge": (operator.ge, _always(bool), ATEN.ge.Tensor),
    "eq": (operator.eq, _always(bool), ATEN.eq.Tensor),
    "ne": (operator.ne, _always(bool), ATEN.ne.Tensor),
    "min": (_smaller, _same_kind, None),
    "max": (_larger, _same_kind, None),
    "__and__": (operator.and_, lambda a, b: a, ATEN.bitwise_and.Tensor),
    "__or__": (operator.or_, lambda a, b: a, ATEN.bitwise_or.Tensor),
    "__xor__": (operator.xor, lambda a, b: a, ATEN.bitwise_xor.Tensor),
    "__lshift__": (_shift(operator.lshift), _always(int), None),
    "__rshift__": (_shift(operator.rshift), _always(int), None),
}
COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
UNARY: dict[str, tuple[Callable[[Any], Any], Callable[..., type], Any]] = {
    "neg": (operator.neg, _same_kind, ATEN.neg.default),
    "abs": (abs, _same_kind, ATEN.abs.default),
    "floor": (math.floor, _always(int), ATEN.floor.default),
    "ceil": (math.ceil, _always(int), ATEN.ceil.default),
    "round": (round, _always(float), ATEN.round.default),
    "fabs": (math.fabs, _always(float), ATEN.abs.default),
    "degrees": (math.degrees, _always(float), ATEN.rad2deg.default),
    "radians": (math.radians, _always(float), ATEN.deg2rad.default),
    "isnan": (math.isnan, _always(bool), ATEN.isnan.default),
    "isinf": (math.isinf, _always(bool), ATEN.isinf.default),
    "isfinite": (math.isfinite, _always(bool), ATEN.isfinite.default),
    "__not__": (lambda a: not a, _always(bool), ATEN.logical_not.default),
}
UNARY |= {
    name: (getattr(math, name), _always(float), getattr(ATEN, name).default)
    for name in (
        "sqrt", "exp", "expm1", "log", "log1p", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
        "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "lgamma",
    )
}  # fmt: skip
OF_FLOATS = frozenset({"div", "pow", "fmod", "atan2", "copysign"})


def _run_time(tape: Recorder, name: str, a: Var, b: Var) -> Var:
    """The operations of BINARY that are no single op: raising, and where one is no number, as torch does."""
    whole = not a.meta.dtype.is_floating_point
    if name in ("min", "max"):
        first = tape.tensor(ATEN.lt.Tensor if name == "min" else ATEN.gt.Tensor, a, b)
        return tape.tensor(ATEN.where.self, first, a, b)
    if name in ("__lshift__", "__rshift__"):
        left = name == "__lshift__"
        wrong = tape.call(ATEN.logical_or.default, tape.call(ATEN.lt.Scalar, b, 0), tape.call(ATEN.ge.Scalar, b, 64))
        op = ATEN.bitwise_left_shift.Tensor if left else ATEN.bitwise_right_shift.Tensor
        return tape.tensor(op, a, _checked(tape, b, wrong, "a shift by less than 0 or more than 63 bits"))
    if name == "pow":
        wrong = tape.call(ATEN.logical_and.default, tape.call(ATEN.eq.Scalar, a, 0), tape.call(ATEN.lt.Scalar, b, 0))
        b = _checked(tape, b, wrong, "0.0 cannot be raised to a negative power")
        return tape.tensor(ATEN.pow.Tensor_Tensor, a, b)
    if whole:
        b = _checked(tape, b, tape.call(ATEN.eq.Scalar, b, 0), "division by zero")
        return tape.tensor(ATEN.floor_divide.default if name == "floordiv" else ATEN.remainder.Tensor, a, b)
    if name == "floordiv":
        return tape.tensor(ATEN.floor.default, tape.call(ATEN.div.Tensor, a, b))
    rest = tape.call(ATEN.add.Tensor, b, tape.call(ATEN.fmod.Tensor, a, b))
    return tape.tensor(ATEN.fmod.Tensor, rest, b)


def _checked(tape: Recorder, value: Var, wrong: Var, message: str) -> Var:
    """value; the call fails with a message where it is wrong."""
    if tape.known_bool(wrong) is False:
        return value
    tape.fail(wrong, message)
    one = tape.cast(tape.number(1, int), value.meta.dtype)
    return tape.tensor(ATEN.where.self, wrong, one, value)


def binary(tape: Recorder, name: str, a: Number, b: Number) -> Number:
    """a op b. Refusal for what has no form at run time."""
    function, result, op = BINARY[name]
    kinds = kind_of(a), kind_of(b)
    kind = result(*kinds)
    if isinstance(a, Num) or isinstance(b, Num):
        a, b = (decided(tape, v) if _is_answer(v) else v for v in (a, b))
        common = float if float in kinds or name in OF_FLOATS else bool if kinds == (bool, bool) else int
        if common is bool and kind is not bool:
            common = int
        left, right = tape.number(a, common), tape.number(b, common)
        if op is None:
            return Num(kind, _run_time(tape, name, left, right))
        return Num(kind, tape.call(op, left, right))
    if isinstance(a, Dim) or isinstance(b, Dim):
        if name in OF_FLOATS - {"div"} or (float in kinds and name in ("floordiv", "remainder")):
            return binary(
                tape, name, *(Num(v.kind, tape.number(v, v.kind)) if isinstance(v, Dim) else v for v in (a, b))
            )
        if name in COMPARISONS and _varies(tape, name, a, b):
            return Num(bool, tape.call(op, tape.number(a, _same_kind(*kinds)), tape.number(b, _same_kind(*kinds))))
        return _on_sizes(tape, function, kind, a, b)
    return checked(kind(function(a, b)))


def _is_answer(value: Number) -> bool:
    """Whether it is a comparison of sizes that has one result (one that varies is a Num)."""
    return isinstance(value, Dim) and value.kind is bool


def _varies(tape: Recorder, name: str, a: Number, b: Number) -> bool:
    """Whether another call may compare otherwise: an int argument may have any value, a size any of its range."""
    x, y = (v.var.meta if isinstance(v, Dim) else v for v in (a, b))
    return str(x) != str(y) and (bool(needs_of(a, b)) or tape.declared.varies(name, x, y))


def unary(tape: Recorder, name: str, a: Number) -> Number:
    """op a."""
    function, result, op = UNARY[name]
    kind = result(kind_of(a))
    if isinstance(a, Num):
        if name == "__not__" and a.kind is not bool:
            a = convert(tape, a, bool)
        of_float = kind is float or name.startswith("is")
        var = tape.number(a, float) if of_float else a.var
        if kind is int and a.kind is float:
            infinite = tape.call(ATEN.logical_not.default, tape.call(ATEN.isfinite.default, var))
            var = _checked(tape, var, infinite, "cannot convert an infinite float to an integer")
        out = tape.call(op, var)
        return Num(kind, tape.cast(out, torch.int64) if kind is int else out)
    if isinstance(a, Dim):
        return _on_sizes(tape, function, kind, a)
    try:
        return checked(kind(function(a)))
    except (ValueError, OverflowError) as error:
        if kind is int:
            raise Raised(f"cannot convert {a} to an integer") from error
        return op(torch.tensor(a, dtype=torch.float64)).item()


def _on_sizes(tape: Recorder, function: Callable[..., Any], kind: type, *args: Any) -> Any:
    if kind is float or function in (_smaller, _larger):
        if function is _smaller:
            function = torch.sym_min
        elif function is _larger:
            function = torch.sym_max
    out = tape.call(function, *(a.var if isinstance(a, Dim) else a for a in args))
    return out if not hasattr(out, "meta") else Dim(kind, out)


def convert(tape: Recorder, value: Number, kind: type) -> Number:
    """int(x), float(x), bool(x) of a number."""
    if isinstance(value, Num):
        if value.kind is kind:
            return value
        if kind is bool:
            return Num(bool, tape.call(ATEN.ne.Scalar, value.var, 0))
        if kind is int and value.kind is float:
            return Num(int, tape.cast(tape.call(ATEN.trunc.default, value.var), torch.int64))
        return Num(kind, tape.number(value, kind))
    if isinstance(value, Dim):
        if value.kind is kind:
            return value
        if kind is bool:
            return binary(tape, "ne", value, 0)
        if value.kind is bool:
            return kind(decided(tape, value))
        function = {int: torch.sym_int, float: torch.sym_float}[kind]
        return _on_sizes(tape, function, kind, value)
    try:
        return checked(kind(value))
    except (ValueError, OverflowError) as error:
        raise Raised(f"cannot convert {value} to {kind.__name__}: {error}") from error


def checked(value: Any) -> Any:
    """A number that TorchScript can hold."""
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        raise Refusal(f"the int {str(value)[:40]} does not fit into 64 bits")
    return value


def decided(tape: Recorder, value: Number) -> bool | None:
    """The truth of a bool that is known now, or that sizes decide; None: at run time."""
    if isinstance(value, Dim):
        return tape.decided(value)
    return None if isinstance(value, Num) else bool(value)
