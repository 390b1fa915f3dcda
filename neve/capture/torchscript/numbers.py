"""Arithmetic on ints, floats and bools as TorchScript has it: now, on sizes, or at run time."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from neve.capture.torchscript.tape import ATEN, Recorder
from neve.capture.torchscript.values import Dim, Num, Raised, Refusal, needs_of

Number = Any
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, Num, Dim))


def kind_of(value: Any) -> type:
    return value.kind if isinstance(value, (Num, Dim)) else type(value)


def _divide(a: Any, b: Any) -> Any:
    if b == 0:
        raise Raised("float division by zero")
    return a / b


def _floordiv(a: Any, b: Any) -> Any:
    if b == 0:
        raise Raised("integer division or modulo by zero")
    return a // b


def _remainder(a: Any, b: Any) -> Any:
    if b == 0:
        raise Raised("integer division or modulo by zero")
    return a % b


def _power(a: Any, b: Any) -> Any:
    """TorchScript's int ** int is a float."""
    try:
        return math.pow(a, b)
    except (OverflowError, ValueError, ZeroDivisionError) as error:
        raise Refusal(f"{a} ** {b}: {error}") from error


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
    "floordiv": (_floordiv, _same_kind, ATEN.floor_divide.default),
    "remainder": (_remainder, _same_kind, ATEN.remainder.Tensor),
    "pow": (_power, _always(float), ATEN.pow.Tensor_Tensor),
    "lt": (operator.lt, _always(bool), ATEN.lt.Tensor),
    "le": (operator.le, _always(bool), ATEN.le.Tensor),
    "gt": (operator.gt, _always(bool), ATEN.gt.Tensor),
    "ge": (operator.ge, _always(bool), ATEN.ge.Tensor),
    "eq": (operator.eq, _always(bool), ATEN.eq.Tensor),
    "ne": (operator.ne, _always(bool), ATEN.ne.Tensor),
    "min": (min, _same_kind, ATEN.minimum.default),
    "max": (max, _same_kind, ATEN.maximum.default),
    "__and__": (operator.and_, lambda a, b: a, ATEN.bitwise_and.Tensor),
    "__or__": (operator.or_, lambda a, b: a, ATEN.bitwise_or.Tensor),
    "__xor__": (operator.xor, lambda a, b: a, ATEN.bitwise_xor.Tensor),
    "__lshift__": (operator.lshift, _always(int), ATEN.bitwise_left_shift.Tensor),
    "__rshift__": (operator.rshift, _always(int), ATEN.bitwise_right_shift.Tensor),
}
COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
UNARY: dict[str, tuple[Callable[[Any], Any], Callable[..., type], Any]] = {
    "neg": (operator.neg, _same_kind, ATEN.neg.default),
    "abs": (abs, _same_kind, ATEN.abs.default),
    "floor": (math.floor, _always(int), ATEN.floor.default),
    "ceil": (math.ceil, _always(int), ATEN.ceil.default),
    "round": (lambda a: round(a) if isinstance(a, int) else float(round(a)), _same_kind, ATEN.round.default),
    "sqrt": (math.sqrt, _always(float), ATEN.sqrt.default),
    "exp": (math.exp, _always(float), ATEN.exp.default),
    "log": (math.log, _always(float), ATEN.log.default),
    "sin": (math.sin, _always(float), ATEN.sin.default),
    "cos": (math.cos, _always(float), ATEN.cos.default),
    "tanh": (math.tanh, _always(float), ATEN.tanh.default),
    "__not__": (lambda a: not a, _always(bool), ATEN.logical_not.default),
}
NO_RUN_TIME_DIVISION = frozenset({"floordiv", "remainder", "div"})


def binary(tape: Recorder, name: str, a: Number, b: Number) -> Number:
    """a op b. Refusal for what has no form at run time."""
    function, result, op = BINARY[name]
    kinds = kind_of(a), kind_of(b)
    kind = result(*kinds)
    if isinstance(a, Num) or isinstance(b, Num):
        common = float if float in kinds or name in ("div", "pow") else bool if kinds == (bool, bool) else int
        if common is bool and kind is not bool:
            common = int
        left, right = tape.number(a, common), tape.number(b, common)
        if name in NO_RUN_TIME_DIVISION:
            zero = tape.call(ATEN.eq.Scalar, right, 0)
            if not (isinstance(b, (int, float)) and b != 0):
                tape.fail(zero, "division by zero")
                right = tape.call(ATEN.where.self, zero, tape.number(1, common), right)
        return Num(kind, tape.call(op, left, right))
    if isinstance(a, Dim) or isinstance(b, Dim):
        if name in COMPARISONS and needs_of(a, b) and not _same_size(a, b):
            # an argument may have any value in the next call
            return Num(bool, tape.call(op, tape.number(a, _same_kind(*kinds)), tape.number(b, _same_kind(*kinds))))
        return _on_sizes(tape, function, kind, a, b)
    return checked(kind(function(a, b)))


def _same_size(a: Number, b: Number) -> bool:
    x, y = (v.var.meta if isinstance(v, Dim) else v for v in (a, b))
    return str(x) == str(y)


def unary(tape: Recorder, name: str, a: Number) -> Number:
    """op a."""
    function, result, op = UNARY[name]
    kind = result(kind_of(a))
    if isinstance(a, Num):
        if name == "__not__" and a.kind is not bool:
            a = convert(tape, a, bool)
        out = tape.call(op, tape.number(a, float) if kind is float and a.kind is not float else a.var)
        return Num(kind, tape.cast(out, torch.int64) if kind is int else out)
    if isinstance(a, Dim):
        return _on_sizes(tape, function, kind, a)
    try:
        return checked(kind(function(a)))
    except (ValueError, OverflowError) as error:
        raise Raised(f"math domain error: {error}") from error


def _on_sizes(tape: Recorder, function: Callable[..., Any], kind: type, *args: Any) -> Any:
    if kind is float or function in (min, max):
        if function is min:
            function = torch.sym_min
        elif function is max:
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
        if kind is bool and value.needs:
            return Num(bool, tape.call(ATEN.ne.Scalar, tape.number(value, value.kind), 0))
        function = {int: torch.sym_int, float: torch.sym_float, bool: _nonzero}[kind]
        return _on_sizes(tape, function, kind, value)
    try:
        return checked(kind(value))
    except (ValueError, OverflowError) as error:
        raise Raised(f"cannot convert {value} to {kind.__name__}: {error}") from error


def _nonzero(value: Any) -> Any:
    return value != 0


def checked(value: Any) -> Any:
    """A number that TorchScript can hold."""
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        raise Refusal(f"the int {str(value)[:40]} does not fit into 64 bits")
    return value


def decided(tape: Recorder, value: Number) -> bool | None:
    """The truth of a bool that is known now, or that sizes decide (noted on the tape); None: at run time."""
    if isinstance(value, Dim):
        meta = value.var.meta
        truth = bool(meta)
        tape.call(_Assume(truth), value.var)
        return truth
    return None if isinstance(value, Num) else bool(value)


class _Assume:
    """A step that says: this relation between sizes has been taken as decided, so torch.export has to prove it."""

    def __init__(self, truth: bool) -> None:
        self.truth, self.__name__ = truth, "assume"

    def __call__(self, relation: Any) -> None:
        if bool(relation) is not self.truth:
            raise Refusal(f"the sizes decide {relation} another way than in the example")
