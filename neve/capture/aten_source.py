"""Builders of the ops that make tensors from nothing."""

from __future__ import annotations

from typing import Any

import sympy

from neve.capture.aten import aten
from neve.capture.context import Context, Number, Refusal
from neve.capture.symbols import in_whole_numbers
from neve.ir.graph import Value
from neve.ir.index import Index
from neve.ir.types import DType, dim, dims
from neve.ops.source import Arange


@aten(
    "full",
    "new_full",
    "full_like",
    "scalar_tensor",
    "zeros",
    "ones",
    "new_zeros",
    "new_ones",
    "zeros_like",
    "ones_like",
    "fill.Scalar",
    "fill.Tensor",
    "zero",
)
def full(c: Context, *args: Any, **kwargs: Any) -> Value:
    name, out = c.node.target.overloadpacket.__name__, c.out
    value = 0 if "zero" in name else 1 if "ones" in name else _fill_value(name, args, kwargs)
    if isinstance(value, (Value, Number, Index)) or (isinstance(value, sympy.Expr) and not value.is_number):
        return c.expand(c.reshape(c.tensor(value, out.dtype), ()), out.shape)
    return c.full(value, out.dtype, out.shape)


def _fill_value(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name == "scalar_tensor":
        return args[0]
    if name == "new_full":
        return args[2] if len(args) > 2 else kwargs["fill_value"]
    return args[1] if len(args) > 1 else kwargs.get("fill_value", kwargs.get("value"))


@aten("empty.memory_format", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted")
def empty(c: Context, *args: Any, **kwargs: Any) -> Value:
    """Uninitialised memory; zeros are one of its possible contents."""
    out = c.out
    return c.full(0, out.dtype, out.shape)


@aten("arange", "arange.start", "arange.start_step")
def arange(c: Context, *args: Any, **kwargs: Any) -> Value:
    start, end, step = (0, *args, 1) if len(args) == 1 else (*args, 1) if len(args) == 2 else args
    if any(isinstance(a, (Value, Number)) for a in (start, end, step)):
        raise Refusal("arange with bounds that are read from tensors")
    out = c.out
    if out.dtype.is_float and not all(isinstance(a, float) for a in (start, step)):
        start, step = (float(a) if isinstance(a, (int, float)) else a for a in (start, step))
    if not out.dtype.is_float and any(isinstance(a, float) for a in (start, step)):
        start, step = int(start), int(step)
    return c(Arange(_bound(start), _bound(step), out.shape[0], out.dtype))


def _bound(x: Any) -> Any:
    if not isinstance(x, sympy.Expr):
        return x if isinstance(x, float) else dim(x)
    whole = in_whole_numbers(x)
    if whole is None or (whole[1] != 1 and whole[0].symbols):
        raise Refusal("arange with a start or step that sizes give in floating point: compute it in integers")
    return dim(whole[0]) if whole[1] == 1 else float(x)


@aten("linspace")
def linspace(c: Context, start: Any, end: Any, steps: Any, **kwargs: Any) -> Value:
    """start + step·i in the first half, end − step·(steps − 1 − i) in the second, as ATen's kernel."""
    out = c.out
    if not isinstance(steps, int) or any(isinstance(a, (Value, Number)) for a in (start, end)):
        raise Refusal("linspace with bounds or steps that are not constant")
    if not out.dtype.is_float:
        raise Refusal("linspace of integers")
    wide = DType.float64 if out.dtype is DType.float64 else DType.float32
    if steps <= 1:
        return c.full(start, out.dtype, (steps,))
    step = c("div", c("sub", c.full(end, wide), c.full(start, wide)), c.full(steps - 1, wide))
    i = c(Arange(0, 1, steps, DType.int64))
    up = c("add", c.full(start, wide), c("mul", step, c.cast(i, wide)))
    down = c("sub", c.full(end, wide), c("mul", step, c.cast(c("sub", c.full(steps - 1, DType.int64), i), wide)))
    return c.cast(c("where", c("lt", i, c.full(steps // 2, DType.int64)), up, down), out.dtype)


@aten("eye", "eye.m")
def eye(c: Context, n: Any, m: Any = None, **kwargs: Any) -> Value:
    out = c.out
    rows, cols = dims(out.shape)
    r = c.reshape(c(Arange(0, 1, rows, DType.int64)), (rows, 1))
    k = c.reshape(c(Arange(0, 1, cols, DType.int64)), (1, cols))
    return c.cast(c("eq", r, k), out.dtype)


@aten("lift")
def lift(c: Context, x: Value) -> Value:
    return x
