"""Builders of reads and writes at positions that are data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neve.capture.aten import aten
from neve.capture.context import Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import DType
from neve.ops.index import Embedding, Gather, IndexSelect, IndexTensors
from neve.ops.scatter import IndexPut, MaskedScatter, Scatter

REDUCTIONS = {
    "sum": "sum",
    "prod": "prod",
    "mean": "mean",
    "amax": "amax",
    "amin": "amin",
    "add": "sum",
    "multiply": "prod",
}


@aten("embedding")
def embedding(
    c: Context,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    return c(Embedding(), weight, indices)


@aten("gather")
def gather(c: Context, x: Value, axis: int, index: Value, *, sparse_grad: bool = False) -> Value:
    if index.type.numel == 0:
        return c.full(0, x.dtype, index.shape)
    return c(Gather(c.axis(axis, len(x.shape))), x, index)


@aten("index_select")
def index_select(c: Context, x: Value, axis: int, index: Value) -> Value:
    return c(IndexSelect(c.axis(axis, len(x.shape))), x, index if index.shape else c.reshape(index, (1,)))


def _positions(c: Context, indices: Sequence[Value | None]) -> tuple[tuple[int, ...], list[Value]]:
    axes = tuple(i for i, v in enumerate(indices) if v is not None)
    tensors = [v for v in indices if v is not None]
    if any(v.dtype in (DType.bool, DType.uint8) for v in tensors):
        raise Refusal(
            "indexing with a mask gives a shape that depends on data: use torch.where, or masked_fill for writes"
        )
    return axes, [c.cast(v, DType.int64) for v in tensors]


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(c: Context, x: Value, indices: Sequence[Value | None]) -> Value:
    axes, tensors = _positions(c, indices)
    return c(IndexTensors(axes), x, *tensors)


@aten("index_put", "_unsafe_index_put")
def index_put(
    c: Context, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False, unsafe: bool = False
) -> Value:
    mask = indices[0] if len(indices) == 1 else None
    if mask is not None and mask.dtype is DType.bool:
        rest = len(x.shape) - len(mask.shape)
        rows = len(values.shape) - rest
        if rows > 1 or (rows == 1 and values.shape[0] != 1):
            raise Refusal("a write of several rows where a mask is true: their number depends on data")
        chosen = c.expand(c.reshape(mask, (*mask.shape, *(1,) * rest)), x.shape)
        row = c.reshape(values, values.shape[1:]) if rows == 1 else values
        new = c.expand(c.cast(row, x.dtype), x.shape)
        return c("where", chosen, c("add", x, new) if accumulate else new, x)
    axes, tensors = _positions(c, indices)
    return c(IndexPut(axes, accumulate), x, *tensors, c.cast(values, x.dtype))


def _scatter(c: Context, op: Scatter, x: Value, index: Value, source: Value) -> Value:
    """Nothing is written where there are no positions, whatever their rank and dtype."""
    return x if index.type.numel == 0 else c(op, x, index, source)


def _along(c: Context, x: Value, axis: int) -> int:
    return c.axis(axis, len(x.shape))


@aten("scatter.src", "scatter_add")
def scatter(c: Context, x: Value, axis: int, index: Value, src: Value) -> Value:
    reduce = "sum" if c.node.target.overloadpacket.__name__ == "scatter_add" else "none"
    return _scatter(c, Scatter(_along(c, x, axis), reduce), x, index, src)


@aten("scatter.value")
def scatter_value(c: Context, x: Value, axis: int, index: Value, value: Any) -> Value:
    return _scatter(c, Scatter(_along(c, x, axis), "none"), x, index, c.expand(c.tensor(value, x.dtype), index.shape))


@aten("scatter.reduce", "scatter.value_reduce")
def scatter_with(c: Context, x: Value, axis: int, index: Value, src: Any, *, reduce: str) -> Value:
    source = c.cast(src, x.dtype) if isinstance(src, Value) else c.expand(c.tensor(src, x.dtype), index.shape)
    return _scatter(c, Scatter(_along(c, x, axis), REDUCTIONS[reduce]), x, index, source)


@aten("scatter_reduce.two")
def scatter_reduce(
    c: Context, x: Value, axis: int, index: Value, src: Value, reduce: str, *, include_self: bool = True
) -> Value:
    return _scatter(c, Scatter(_along(c, x, axis), REDUCTIONS[reduce], include_self), x, index, src)


@aten("masked_scatter")
def masked_scatter(c: Context, x: Value, mask: Value, source: Value) -> Value:
    shape = c.out.shape
    return c(MaskedScatter(), c.expand(x, shape), c.expand(mask, shape), source)
