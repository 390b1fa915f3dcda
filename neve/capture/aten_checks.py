"""Builders of the ops that check something and give nothing, and of numbers read from tensors."""

from __future__ import annotations

from typing import Any

import sympy

from neve.capture import guards
from neve.capture.aten import aten
from neve.capture.context import Context, Number
from neve.capture.regions import whole
from neve.errors import InputError
from neve.ir.graph import Value
from neve.ir.index import Index
from neve.ir.types import DType, dim
from neve.ops.control import Raise
from neve.ops.source import SizeOf

COMPARISONS = {sympy.Eq: "eq", sympy.Ne: "ne", sympy.Lt: "lt", sympy.Le: "le", sympy.Gt: "gt", sympy.Ge: "ge"}


@aten("_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size")
def nothing(c: Context, *args: Any, **kwargs: Any) -> None:
    return None


@aten("_assert_scalar")
def assert_scalar(c: Context, condition: Any, message: str = "") -> None:
    if isinstance(condition, Number):
        return assert_tensor(c, condition.value, message)
    if guards.of_strides(condition):
        return None  # a model's own torch._check is in `questions`, and ops that refuse such sizes have checks
    if not guards.holds(condition, c.symbols):
        wanted = guards.written(guards.ours(condition, c.symbols))
        c.raise_if(c("logical_not", truth(c, condition)), f"{InputError.__name__}: wanted sizes where {wanted}")
    return None


def truth(c: Context, relation: Any) -> Value:
    """Whether a relation between sizes, in torch's symbols, is true, as a 0-d bool. Raises UnsupportedSize."""
    return truth_of(c, relation if relation in (sympy.true, sympy.false) else guards.ours(relation, c.symbols))


def truth_of(c: Context, relation: Any) -> Value:
    """Whether a relation between sizes of the Program is true, as a 0-d bool."""
    if relation in (sympy.true, sympy.false):
        return c.full(bool(relation), DType.bool)
    if isinstance(relation, sympy.Not):
        return c("logical_not", truth_of(c, relation.args[0]))
    if isinstance(relation, sympy.And | sympy.Or):
        first, *others = (truth_of(c, a) for a in relation.args)
        for other in others:
            first = c("logical_and" if isinstance(relation, sympy.And) else "logical_or", first, other)
        return first
    terms = whole(relation.lhs - relation.rhs).terms
    left = Index({k: n for k, n in terms.items() if n > 0})
    right = Index({k: -n for k, n in terms.items() if n < 0})
    return c(COMPARISONS[type(relation)], *(c(SizeOf(dim(side))) for side in (left, right)))


@aten("_assert_async.msg", "_assert_async")
def assert_tensor(c: Context, condition: Value, message: str = "assertion failed") -> None:
    v = condition if condition.dtype is DType.bool else c("ne", condition, c.full(0, condition.dtype))
    c.emit(Raise(message), c("logical_not", c.reshape(v, ())))


@aten("_local_scalar_dense", "item")
def number(c: Context, x: Value) -> Number:
    kind = bool if x.dtype is DType.bool else float if x.dtype.is_float else int
    return Number(c.reshape(x, ()), kind)
