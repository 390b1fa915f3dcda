"""Builders of ordering: sort, topk, median, search."""

from __future__ import annotations

from typing import Any

from neve.capture.aten import aten
from neve.capture.context import Context
from neve.ir.graph import Value
from neve.ir.types import DType
from neve.ops.index import Gather
from neve.ops.sort import Kthvalue, Median, Mode, Searchsorted, Sort, TopK


@aten("sort", "sort.stable")
def sort(
    c: Context, x: Value, axis: int = -1, descending: bool = False, *, stable: bool | None = None, **kwargs: Any
) -> tuple[Value, ...]:
    return c.emit(Sort(c.axis(kwargs.get("dim", axis), len(x.shape)), descending, bool(stable)), x)


@aten("topk")
def topk(c: Context, x: Value, k: Any, axis: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Value, ...]:
    return c.emit(TopK(k, c.axis(axis, len(x.shape)), largest, sorted), x)


@aten("kthvalue")
def kthvalue(c: Context, x: Value, k: int, axis: int = -1, keepdim: bool = False) -> tuple[Value, ...]:
    return c.emit(Kthvalue(k, c.axis(axis, len(x.shape)), keepdim), x)


@aten("median.dim", "nanmedian.dim")
def median_dim(c: Context, x: Value, axis: int, keepdim: bool = False) -> tuple[Value, ...]:
    axis = c.axis(axis, len(x.shape))
    c.raise_if_empty(x, [axis] if x.shape else [], "median")
    return c.emit(Median(axis, keepdim, _ignores_nan(c)), x)


@aten("median", "nanmedian")
def median(c: Context, x: Value) -> Value:
    return c.emit(Median(0, False, _ignores_nan(c)), c.reshape(x, (x.type.numel,)))[0]


def _ignores_nan(c: Context) -> bool:
    return bool(c.node.target.overloadpacket.__name__ == "nanmedian")


@aten("mode")
def mode(c: Context, x: Value, axis: int = -1, keepdim: bool = False) -> tuple[Value, ...]:
    axis = c.axis(axis, len(x.shape))
    c.raise_if_empty(x, [axis] if x.shape else [], "mode")
    return c.emit(Mode(axis, keepdim), x)


@aten("searchsorted.Tensor", "searchsorted.Scalar")
def searchsorted(
    c: Context,
    ordered: Value,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    if sorter is not None:
        ordered = c(Gather(len(ordered.shape) - 1), ordered, sorter)
    return _search(c, ordered, values, out_int32, right or side == "right")


@aten("bucketize.Tensor", "bucketize.Scalar")
def bucketize(c: Context, values: Any, boundaries: Value, *, out_int32: bool = False, right: bool = False) -> Value:
    return _search(c, boundaries, values, out_int32, right)


def _search(c: Context, ordered: Value, values: Any, narrow: bool, right: bool) -> Value:
    dtype = c.promote(ordered, values)
    found = c(Searchsorted(right), c.cast(ordered, dtype), c.tensor(values, dtype))
    return c.cast(found, DType.int32 if narrow else DType.int64)
