"""Builders of reductions and scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neve.capture.aten import aten
from neve.capture.aten_pointwise import truth
from neve.capture.context import Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import DType
from neve.ops import reduce, scan

Axes = Sequence[int] | int | None


@aten("sum", "sum.dim_IntList")
def sum_(c: Context, x: Value, axes: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return _reduce(c, reduce.Sum, c.cast(x, c.out.dtype), axes, keepdim)


@aten("mean", "mean.dim")
def mean(c: Context, x: Value, axes: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return _reduce(c, reduce.Mean, c.cast(x, c.out.dtype), axes, keepdim)


@aten("prod", "prod.dim_int")
def prod(c: Context, x: Value, axes: Axes = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    return _reduce(c, reduce.Prod, c.cast(x, c.out.dtype), axes, keepdim)


@aten("amax")
def amax(c: Context, x: Value, axes: Axes = None, keepdim: bool = False) -> Value:
    return _reduce(c, reduce.Amax, x, axes, keepdim)


@aten("amin")
def amin(c: Context, x: Value, axes: Axes = None, keepdim: bool = False) -> Value:
    return _reduce(c, reduce.Amin, x, axes, keepdim)


@aten("any", "any.dim", "any.dims")
def any_(c: Context, x: Value, axes: Axes = None, keepdim: bool = False) -> Value:
    return c.cast(_reduce(c, reduce.Any, truth(c, x), axes, keepdim), c.out.dtype)


@aten("all", "all.dim", "all.dims")
def all_(c: Context, x: Value, axes: Axes = None, keepdim: bool = False) -> Value:
    return c.cast(_reduce(c, reduce.All, truth(c, x), axes, keepdim), c.out.dtype)


def _reduce(c: Context, kind: Any, x: Value, axes: Axes, keepdim: bool) -> Value:
    over = c.axes(axes, len(x.shape))
    if kind in (reduce.Amax, reduce.Amin):
        c.raise_if_empty(x, over, "the greatest or least element")
    return c(kind(over, keepdim), x) if x.shape else c(kind((), False), x)


@aten("max", "min")
def extremum(c: Context, x: Value) -> Value:
    kind = reduce.Amax if c.node.target.overloadpacket.__name__ == "max" else reduce.Amin
    return _reduce(c, kind, x, None, False)


@aten("max.dim", "min.dim")
def extremum_dim(c: Context, x: Value, axis: int, keepdim: bool = False) -> tuple[Value, Value]:
    biggest = c.node.target.overloadpacket.__name__ == "max"
    value = _reduce(c, reduce.Amax if biggest else reduce.Amin, x, (axis,), keepdim)
    return value, _position(c, reduce.Argmax if biggest else reduce.Argmin, x, axis, keepdim)


@aten("argmax")
def argmax(c: Context, x: Value, axis: int | None = None, keepdim: bool = False) -> Value:
    return _position(c, reduce.Argmax, x, axis, keepdim)


@aten("argmin")
def argmin(c: Context, x: Value, axis: int | None = None, keepdim: bool = False) -> Value:
    return _position(c, reduce.Argmin, x, axis, keepdim)


def _position(c: Context, kind: Any, x: Value, axis: int | None, keepdim: bool) -> Value:
    if not x.shape:
        return c.full(0, DType.int64)
    c.raise_if_empty(x, c.axes(axis, len(x.shape)), "the place of the greatest or least element")
    return c(kind(None if axis is None else axis % len(x.shape), keepdim), x)


@aten("var", "var.dim", "var.correction")
def var(
    c: Context,
    x: Value,
    axes: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: Any = None,
    dim: Any = None,
) -> Value:
    if isinstance(axes, bool):
        axes, unbiased = None, axes
    free = correction if correction is not None else 1 if unbiased else 0
    over = c.axes(axes if dim is None else dim, len(x.shape))
    return c(reduce.Var(over, keepdim, float(free)), x)


@aten("std", "std.dim", "std.correction")
def std(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Rounded once: the variance of half types may be below what they can hold."""
    wide = c.cast(x, DType.float32) if x.dtype.size == 2 else x
    return c.cast(c("sqrt", var(c, wide, *args, **kwargs)), x.dtype)


@aten("var_mean", "var_mean.dim", "var_mean.correction", "std_mean", "std_mean.correction")
def var_mean(c: Context, x: Value, *args: Any, **kwargs: Any) -> tuple[Value, Value]:
    v = (std if "std" in c.node.target.overloadpacket.__name__ else var)(c, x, *args, **kwargs)
    axes = args[0] if args and not isinstance(args[0], bool) else kwargs.get("dim")
    keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    return v, _reduce(c, reduce.Mean, x, axes, keepdim)


@aten("linalg_vector_norm")
def vector_norm(
    c: Context, x: Value, ord: Any = 2, axes: Axes = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    x, over = c.cast(x, c.out.dtype), c.axes(axes, len(x.shape))
    if ord < 0 or ord == float("inf"):
        c.raise_if_empty(x, over, f"the norm of order {ord}")
    return c(reduce.VectorNorm(over, keepdim if x.shape else False, float(ord)), x)


@aten("logsumexp")
def logsumexp(c: Context, x: Value, axes: Axes, keepdim: bool = False) -> Value:
    return _reduce(c, reduce.LogSumExp, c.cast(x, c.out.dtype), axes, keepdim)


@aten("cumsum")
def cumsum(c: Context, x: Value, axis: int, *, dtype: Any = None) -> Value:
    return _scan(c, scan.Cumsum, c.cast(x, c.out.dtype), axis)


@aten("cumprod")
def cumprod(c: Context, x: Value, axis: int, *, dtype: Any = None) -> Value:
    return _scan(c, scan.Cumprod, c.cast(x, c.out.dtype), axis)


@aten("logcumsumexp")
def logcumsumexp(c: Context, x: Value, axis: int) -> Value:
    return _scan(c, scan.LogCumSumExp, x, axis)


def _scan(c: Context, kind: Any, x: Value, axis: int) -> Value:
    return c(kind(axis % len(x.shape)), x) if x.shape else x


@aten("cummax", "cummin")
def cumulative(c: Context, x: Value, axis: int) -> tuple[Value, Value]:
    kind = scan.Cummax if c.node.target.overloadpacket.__name__ == "cummax" else scan.Cummin
    if not x.shape:
        return x, c.full(0, DType.int64)
    values, indices = c.emit(kind(axis % len(x.shape)), x)
    return values, indices


@aten("count_nonzero", "count_nonzero.dim_IntList")
def count_nonzero(c: Context, x: Value, axes: Axes = None) -> Value:
    return _reduce(c, reduce.Sum, c.cast(truth(c, x), DType.int64), axes, False)


@aten("aminmax")
def aminmax(c: Context, x: Value, *, dim: int | None = None, keepdim: bool = False) -> tuple[Value, Value]:
    if dim is None and keepdim and x.shape:
        raise Refusal("aminmax of all axes with keepdim")
    axes = None if dim is None else (dim,)
    return _reduce(c, reduce.Amin, x, axes, keepdim), _reduce(c, reduce.Amax, x, axes, keepdim)
