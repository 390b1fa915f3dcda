"""Builders of the ops that check something and give nothing, and of numbers read from tensors."""

from __future__ import annotations

from typing import Any

from neve.capture import guards
from neve.capture.aten import aten
from neve.capture.context import Context, Number, Refusal
from neve.ir.graph import Value
from neve.ir.types import DType
from neve.ops.control import Raise


@aten("_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size")
def nothing(c: Context, *args: Any, **kwargs: Any) -> None:
    return None


@aten("_assert_scalar")
def assert_scalar(c: Context, condition: Any, message: str = "") -> None:
    if isinstance(condition, Number):
        return assert_tensor(c, condition.value, message)
    if not guards.holds(condition, c.symbols):
        raise Refusal(f"the model asserts {condition} of its sizes, which their declared ranges do not ensure")
    return None


@aten("_assert_async.msg", "_assert_async")
def assert_tensor(c: Context, condition: Value, message: str = "assertion failed") -> None:
    v = condition if condition.dtype is DType.bool else c("ne", condition, c.full(0, condition.dtype))
    c.emit(Raise(message), c("logical_not", c.reshape(v, ())))


@aten("_local_scalar_dense", "item")
def number(c: Context, x: Value) -> Number:
    kind = bool if x.dtype is DType.bool else float if x.dtype.is_float else int
    return Number(c.reshape(x, ()), kind)
