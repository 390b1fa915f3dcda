"""Python's arithmetic, in an exported graph, on numbers that are known at run time only (`context.Number`)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from neve.capture.context import Context, Number, Refusal
from neve.ir.graph import Value
from neve.ir.index import Index
from neve.ir.types import DType
from neve.ops.control import Raise

DTYPES = {int: DType.int64, float: DType.float64, bool: DType.bool}
COMPARISONS: dict[Any, str] = {getattr(operator, n): n for n in ("lt", "le", "gt", "ge", "eq", "ne")}
SAME: dict[Any, str] = {
    **{getattr(operator, n): n for n in ("add", "sub", "mul", "neg", "abs")},
    operator.mod: "remainder",
    operator.floordiv: "floor_divide",
    operator.truediv: "div",
    torch.sym_max: "maximum",
    torch.sym_min: "minimum",
}
LOGICAL: dict[Any, str] = {operator.and_: "logical_and", operator.or_: "logical_or", torch.sym_not: "logical_not"}
DIVISIONS = (operator.mod, operator.floordiv, operator.truediv)


def known(target: Any) -> bool:
    """Whether `arithmetic` has that operator."""
    return target in SAME or target in COMPARISONS or target in LOGICAL or target in _OTHERS


def arithmetic(c: Context, target: Any, args: Sequence[Any], kind: type) -> Number:
    """The operator's result, of that kind (int, float or bool); a division by zero raises as in Python."""
    if target in _OTHERS:
        return Number(_OTHERS[target](c, args, kind), kind)
    if target in LOGICAL:
        return Number(c(LOGICAL[target], *(c.tensor(a, DType.bool) for a in args)), kind)
    wide = DTYPES[kind] if target in SAME else DType.float64 if float in map(_kind, args) else DType.int64
    values = [c.tensor(a, wide) for a in args]
    if target in DIVISIONS:
        c.emit(Raise("ZeroDivisionError: division by zero"), c("eq", values[1], c.full(0, wide)))
    return Number(c(COMPARISONS.get(target) or SAME[target], *values), kind)


def _kind(a: Any) -> type:
    if isinstance(a, Number):
        return a.kind
    return int if isinstance(a, (int, Index)) else float


def _power(c: Context, args: Sequence[Any], kind: type) -> Value:
    if kind is int and not (isinstance(args[1], int) and args[1] >= 0):
        raise Refusal("the power of an int that is known at run time only, whose exponent may be negative")
    return c("pow", *(c.tensor(a, DTYPES[kind]) for a in args))


def _root(c: Context, args: Sequence[Any], kind: type) -> Value:
    return c("sqrt", c.tensor(args[0], DType.float64))


def _converted(name: str = "") -> Callable[[Context, Sequence[Any], type], Value]:
    """A number as another type, after the op of that name has rounded it."""

    def convert(c: Context, args: Sequence[Any], kind: type) -> Value:
        if len(args) > 1 and args[1] is not None:
            raise Refusal("round to some digits of a number that is known at run time only")
        if not (isinstance(args[0], Number) and args[0].kind is float):
            return c.tensor(args[0], DTYPES[kind])
        x = args[0].value
        if kind is int:
            finite = c("eq", c("sub", x, x), c.full(0, x.dtype))
            c.emit(Raise("OverflowError: cannot convert a float infinity or NaN to integer"), c("logical_not", finite))
        return c.tensor(c(name, x) if name else x, DTYPES[kind])

    return convert


def _chosen(c: Context, args: Sequence[Any], kind: type) -> Value:
    condition, *values = args
    return c("where", c.tensor(condition, DType.bool), *(c.tensor(v, DTYPES[kind]) for v in values))


_OTHERS: dict[Any, Callable[[Context, Sequence[Any], type], Value]] = {
    operator.pow: _power,
    torch.sym_float: _converted(),
    torch.sym_int: _converted("trunc"),
    math.floor: _converted("floor"),
    math.ceil: _converted("ceil"),
    math.trunc: _converted("trunc"),
    round: _converted("round"),
    torch.sym_ite: _chosen,
    torch.sym_sqrt: _root,
}
