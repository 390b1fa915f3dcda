"""Builders of reads and writes at positions that are data, which end the call where eager raises: out of range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neve.capture.aten import aten
from neve.capture.aten_lengths import coordinates, count_true, is_mask, rows, without_masks, wrong_length
from neve.capture.context import Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import Dim, DType, broadcast, dim, numel
from neve.ops.index import AnyOutside, Embedding, Gather, IndexSelect, IndexTensors
from neve.ops.lengths import NonzeroStatic
from neve.ops.reduce import Sum
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


def in_range(c: Context, index: Value, size: Dim, what: str, kind: str = "IndexError", wrap: bool = False) -> None:
    """End the call with an error of that kind unless all of index are in 0..size-1, or from -size on if wrap."""
    low = dim(-size) if wrap else 0
    wrong = c(AnyOutside(low, size), index)
    c.raise_if(wrong, f"{kind}: {what}: an index is out of range: not in {low}..{dim(size - 1)}")


@aten("embedding")
def embedding(
    c: Context,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    in_range(c, indices, weight.shape[0], "embedding")
    return c(Embedding(), weight, indices)


@aten("gather")
def gather(c: Context, x: Value, axis: int, index: Value, *, sparse_grad: bool = False) -> Value:
    if index.type.numel == 0:
        return c.full(0, x.dtype, index.shape)
    axis = _along(c, x, axis)
    _along_axis(c, x, axis, index)
    return c(Gather(axis), x, index)


@aten("index_select")
def index_select(c: Context, x: Value, axis: int, index: Value) -> Value:
    axis = _along(c, x, axis)
    in_range(c, index, x.shape[axis] if x.shape else 1, "index_select")
    return c(IndexSelect(axis), x, index if index.shape else c.reshape(index, (1,)))


def _along_axis(c: Context, x: Value, axis: int, index: Value) -> None:
    """The check of gather and scatter, of which eager raises a RuntimeError; of a target's class an IndexError."""
    name, source = c.node.target.overloadpacket.__name__, str(c.node.meta.get("original_aten", ""))
    kind = "RuntimeError"
    if "nll_loss" in source:
        name, kind = "nll_loss", "IndexError"
    in_range(c, index, x.shape[axis] if x.shape else 1, name, kind)


def _positions(c: Context, indices: Sequence[Value | None]) -> tuple[tuple[int, ...], list[Value]]:
    axes = tuple(i for i, v in enumerate(indices) if v is not None)
    tensors = [v for v in indices if v is not None]
    return axes, [c.cast(v, DType.int64) for v in tensors]


def _all_in_range(c: Context, x: Value, axes: Sequence[int], tensors: Sequence[Value]) -> None:
    """Eager does not look at the positions where nothing is read or written."""
    name = c.node.target.overloadpacket.__name__
    rest = [d for a, d in enumerate(x.shape) if a not in axes]
    if name.startswith("_unsafe") or numel((*broadcast(*(v.shape for v in tensors)), *rest)) == 0:
        return
    for axis, v in zip(axes, tensors, strict=True):
        in_range(c, v, x.shape[axis], name, wrap=True)


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(c: Context, x: Value, indices: Sequence[Value | None]) -> Value:
    given = [(axis, v) for axis, v in enumerate(indices) if v is not None]
    if len(given) == 1 and is_mask(given[0][1]):
        return rows(c, x, given[0][1], given[0][0])
    axes, tensors = _positions(c, without_masks(c, indices))
    _all_in_range(c, x, axes, tensors)
    return c(IndexTensors(axes), x, *tensors)


@aten("index_put", "_unsafe_index_put")
def index_put(
    c: Context, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False, unsafe: bool = False
) -> Value:
    mask = indices[0] if len(indices) == 1 else None
    if mask is not None and mask.dtype is DType.bool:
        rest = len(x.shape) - len(mask.shape)
        several = len(values.shape) - rest
        if several > 1:
            raise Refusal(f"values of {len(values.shape)} axes for what a mask selects, which has {rest + 1}")
        if several == 1 and values.shape[0] != 1:
            n = values.shape[0]
            wrong_length(c, count_true(c, mask), n)
            places = c(NonzeroStatic(n), c.reshape(mask, (mask.type.numel,)))
            at = coordinates(c, places, mask.shape)
            return c(IndexPut(tuple(range(len(at))), accumulate), x, *at, c.cast(values, x.dtype))
        chosen = c.expand(c.reshape(mask, (*mask.shape, *(1,) * rest)), x.shape)
        row = c.reshape(values, values.shape[1:]) if several == 1 else values
        new = c.expand(c.cast(row, x.dtype), x.shape)
        return c("where", chosen, c("add", x, new) if accumulate else new, x)
    axes, tensors = _positions(c, without_masks(c, indices))
    _all_in_range(c, x, axes, tensors)
    return c(IndexPut(axes, accumulate), x, *tensors, c.cast(values, x.dtype))


@aten("index_add", "index_copy", "index_fill.int_Scalar", "index_fill.int_Tensor")
def index_add(c: Context, x: Value, axis: int, index: Value, source: Any, *, alpha: Any = 1) -> Value:
    """Unlike index_put, which they would decompose to, index_add and index_copy raise for negative positions."""
    name, axis = c.node.target.overloadpacket.__name__, _along(c, x, axis)
    shape = x.shape or (1,)
    index = index if index.shape else c.reshape(index, (1,))
    in_range(c, index, shape[axis], name, wrap=name == "index_fill")
    source = c.tensor(source, x.dtype)
    source = source if alpha == 1 else c("mul", source, c.tensor(alpha, x.dtype))
    if name != "index_fill":
        source = c.reshape(source, (*shape[:axis], index.type.numel, *shape[axis + 1 :]))
    op = IndexPut((axis,), name == "index_add")
    return c.reshape(c(op, c.reshape(x, shape), c.cast(index, DType.int64), source), x.shape)


@aten("max_unpool2d", "max_unpool3d")
def max_unpool(c: Context, x: Value, indices: Value, output_size: Sequence[Any], *args: Any) -> Value:
    """Every plane has positions of its own; of several values for one place the last stays."""
    n = len(output_size)
    lead = x.shape[:-n]
    planes, places = numel(lead), numel(output_size)
    shape = (planes, numel(x.shape[-n:]))
    in_range(c, indices, places, "max_unpool", "RuntimeError")
    flat = c(Scatter(1), c.full(0, x.dtype, (planes, places)), c.reshape(indices, shape), c.reshape(x, shape))
    return c.reshape(flat, (*lead, *output_size))


def _scatter(c: Context, op: Scatter, x: Value, index: Value, source: Value) -> Value:
    """Nothing is written where there are no positions, whatever their rank and dtype."""
    if index.type.numel == 0:
        return x
    _along_axis(c, x, op.dim, index)
    return c(op, x, index, source)


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
    mask, have = c.expand(mask, shape), source.type.numel
    spare = c.symbols.range(have - numel(shape))
    if spare is None or spare[0] < 0:
        used = c(Sum(tuple(range(len(shape)))), c.cast(mask, DType.int64))
        wrong = c("lt", c.tensor(have, DType.int64), used)
        c.raise_if(wrong, f"masked_scatter: the mask is true in more places than the {have} elements of source")
    return c(MaskedScatter(), c.expand(x, shape), mask, source)


@aten("index_reduce")
def index_reduce(
    c: Context, x: Value, axis: int, index: Value, source: Value, reduce: str, *, include_self: bool = True
) -> Value:
    axis, shape = _along(c, x, axis), x.shape or (1,)
    index = c.cast(c.reshape(index, (index.type.numel,)), DType.int64)
    source = c.reshape(source, (*shape[:axis], index.shape[0], *shape[axis + 1 :]))
    if source.type.numel == 0:
        return x
    in_range(c, index, shape[axis], "index_reduce")
    places = c.expand(c.reshape(index, (index.shape[0], *(1,) * (len(shape) - 1 - axis))), source.shape)
    op = Scatter(axis, REDUCTIONS[reduce], include_self)
    return c.reshape(c(op, c.reshape(x, shape), places, source), x.shape)


@aten("put")
def put(c: Context, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    """At positions in the flattened x."""
    if index.type.numel == 0:
        return x
    n, count = x.type.numel, index.type.numel
    in_range(c, index, n, "put", wrap=True)
    places = c.cast(c.reshape(index, (count,)), DType.int64)
    wide = DType.uint8 if x.dtype is DType.bool and accumulate else x.dtype
    flat, values = (c.cast(c.reshape(v, (m,)), wide) for v, m in ((x, n), (source, count)))
    return c.reshape(c.cast(c(IndexPut((0,), accumulate), flat, places, values), x.dtype), x.shape)
