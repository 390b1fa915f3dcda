"""Builders of embedding bags: rows of a table, those of one bag summed, averaged, or the largest of each column."""

from __future__ import annotations

from neve.capture.aten import aten
from neve.capture.aten_index import in_range
from neve.capture.context import Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import Dim, DType
from neve.ops.index import Embedding
from neve.ops.pad import Cat
from neve.ops.reduce import Any, VectorNorm
from neve.ops.scan import Cumsum
from neve.ops.scatter import IndexPut, Scatter
from neve.ops.source import Arange

INT = DType.int64
MEAN, MAX = 1, 2


@aten("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    c: Context, weight: Value, indices: Value, offsets: Value, scale_grad_by_freq: bool = False, mode: int = 0,
    sparse: bool = False, scales: Value | None = None, include_last_offset: bool = False, padding_idx: int = -1,
) -> tuple[Value | None, ...]:  # fmt: skip
    if any(c.used(i) for i in (1, 2, 3)):
        raise Refusal("what _embedding_bag gives beside its first result is not supported")
    bags, length = c.out.shape[0], indices.shape[0]
    # torch has two kernels, which differ where offsets go down or the last one is not the length
    table = c.node.args[0].meta["val"]
    fast = mode != MAX and padding_idx < 0 and table.dtype.itemsize < 8 and table.stride(1) == 1
    offsets, at = c.cast(offsets, INT), c(Arange(0, 1, length, INT))
    starts = c.slice(offsets, 0, 0, bags)
    _check_offsets(c, offsets, starts, length, fast)
    # what is in no bag is put into one more, the last
    bag = _bag_of(c, starts, length)
    if padding_idx >= 0:
        bag = c("where", c("eq", indices, c.full(padding_idx, indices.dtype)), c.tensor(bags, INT), bag)
    elif fast and include_last_offset:
        inside = c("lt", at, c.select(offsets, 0, bags))
        bag = c("where", inside, bag, c.tensor(bags, INT))
        indices = c("where", inside, indices, c.full(0, indices.dtype))
    in_range(c, indices, weight.shape[0], "embedding_bag", "RuntimeError")
    acc = weight.dtype if weight.dtype is DType.float64 else DType.float32
    rows = c.cast(c(Embedding(), weight, indices), acc)
    if scales is not None:
        rows = c("mul", rows, c.unsqueeze(c.cast(scales, acc), 1))
    result = _largest(c, bags, bag, rows) if mode == MAX else _summed(c, bags, bag, rows)
    if mode == MEAN:
        ends = c(Cat(0), c.slice(starts, 0, 1, bags), c.reshape(c.tensor(length, INT), (1,)))
        count = c("sub", ends, starts)
        if padding_idx >= 0:
            count = c("sub", count, _padded(c, starts, indices, padding_idx))
        result = c("div", result, c.unsqueeze(c.cast(c("maximum", count, c.full(1, INT)), acc), 1))
    return c.cast(result, weight.dtype), None, None, None


@aten("embedding_renorm")
def embedding_renorm(c: Context, weight: Value, indices: Value, max_norm: float, norm_type: float) -> Value:
    """The rows that are read, those of a greater norm scaled down to max_norm."""
    in_range(c, indices, weight.shape[0], "embedding_renorm")
    at = c.reshape(indices, (indices.type.numel,))
    read = c(IndexPut((0,), False), c.full(0, INT, weight.shape[:1]), c.cast(at, INT), c.full(1, INT, at.shape))
    norm = c(VectorNorm((1,), False, float(norm_type)), weight)
    most, small = c.full(max_norm, weight.dtype), c.full(1e-7, weight.dtype)
    large = c("logical_and", c("gt", norm, most), c("ne", read, c.full(0, INT)))
    scale = c("where", large, c("div", most, c("add", norm, small)), c.full(1, weight.dtype))
    return c("mul", weight, c.unsqueeze(scale, 1))


def _check_offsets(c: Context, offsets: Value, starts: Value, length: Dim, ordered: bool) -> None:
    """End the call where eager refuses the offsets of bags in that many positions; ordered: also those that go down."""
    in_range(c, starts, length + 1, "embedding_bag: offsets")
    n = offsets.shape[0]
    if n == 0:
        return
    c.raise_if(c("ne", c.select(offsets, 0, 0), c.full(0, INT)), "embedding_bag: offsets[0] is not 0")
    if n != starts.shape[0]:
        c.raise_if(
            c("lt", c.tensor(length, INT), c.select(offsets, 0, n - 1)), "embedding_bag: offsets[-1] is too large"
        )
    if ordered:
        down = c("lt", c.slice(offsets, 0, 1, n), c.slice(offsets, 0, 0, n - 1))
        c.raise_if(c(Any((0,)), down), "embedding_bag: an offset is below the one before it")


def _bag_of(c: Context, starts: Value, length: Dim) -> Value:
    """The number of the bag that each of that many positions is in: of those that start at it or before, the last."""
    begun = c(IndexPut((0,), True), c.full(0, INT, (length + 1,)), starts, c.full(1, INT, starts.shape))
    return c("sub", c.slice(c(Cumsum(0), begun), 0, 0, length), c.full(1, INT))


def _padded(c: Context, starts: Value, indices: Value, padding_idx: int) -> Value:
    """How many positions in each bag are padding."""
    padding = c.cast(c("eq", indices, c.full(padding_idx, indices.dtype)), INT)
    return c(IndexPut((0,), True), c.full(0, INT, starts.shape), _bag_of(c, starts, indices.shape[0]), padding)


def _summed(c: Context, bags: Dim, bag: Value, rows: Value) -> Value:
    zeros = c.full(0, rows.dtype, (bags + 1, rows.shape[1]))
    return c.slice(c(IndexPut((0,), True), zeros, bag, rows), 0, 0, bags)


def _largest(c: Context, bags: Dim, bag: Value, rows: Value) -> Value:
    """As torch's loop finds them: a NaN counts only where it is the first of its bag. 0 of an empty bag."""
    length, width = rows.shape
    low = c.full(float("-inf"), rows.dtype)
    numbers = c("where", c("isnan", rows), low, rows)
    shape = (bags + 1, width)
    most = c(Scatter(0, "amax"), c.expand(low, shape), c.expand(c.unsqueeze(bag, 1), rows.shape), numbers)
    none = c.tensor(length, INT)
    first = c(Scatter(0, "amin"), c.expand(none, (bags + 1,)), bag, c(Arange(0, 1, length, INT)))
    start = c(Embedding(), c(Cat(0), rows, c.full(0, rows.dtype, (1, width))), first)
    most = c("where", c.unsqueeze(c("eq", first, none), 1), start, c("where", c("isnan", start), start, most))
    return c.slice(most, 0, 0, bags)
