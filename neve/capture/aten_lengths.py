"""Builders of ops whose results are as long as data decide: the length is measured, and is a size from there on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neve.capture.aten import aten
from neve.capture.context import Context, Refusal
from neve.errors import InputError
from neve.ir.bounds import capacity
from neve.ir.graph import Value
from neve.ir.index import Index
from neve.ir.types import Dim, DType, broadcast, numel
from neve.ops.index import IndexSelect
from neve.ops.lengths import Measure, NonzeroStatic
from neve.ops.pad import Cat
from neve.ops.reduce import Amax, Sum
from neve.ops.reduce import Any as AnyOf
from neve.ops.scan import Cumsum
from neve.ops.scatter import Scatter
from neve.ops.sort import Searchsorted, Sort
from neve.ops.source import Arange


def measured(c: Context, count: Value, most: Dim | None, axis: int | None = 0) -> Dim:
    """The size that the run reads from count (int64, 0-d), which is 0 or more and at most `most` (None: nothing bounds
    it): that of the node's first result along an axis, or of none.
    """
    if most is not None and capacity(Index.of(most), c.symbols.most) is None:
        raise Refusal(f"no bound is known of a length that data decide ({most}), which memory is planned for")
    val = c.node.meta["val"]
    first = val[0] if isinstance(val, (tuple, list)) else val
    of_torch = None if axis is None else first.shape[axis]
    known = c.symbols.known(of_torch)
    if known is not None:
        wrong_length(c, count, known)
        return known
    size = c.symbols.measured(of_torch, most)
    op = Measure(size, most)
    c.symbols.most[size] = op.bound
    c.emit(op, count)
    return size


def wrong_length(c: Context, count: Value, wanted: Dim) -> None:
    """End the call where a length is not the wanted one. Eager takes 1 for any other, which these calls do not."""
    text = f"a length that data decide is not {wanted}, which the model needs it to be"
    c.raise_if(c("ne", count, c.tensor(wanted, DType.int64)), text)


def count_true(c: Context, mask: Value) -> Value:
    return c(Sum(tuple(range(len(mask.shape)))), c.cast(mask, DType.int64))


def true_places(c: Context, mask: Value, axis: int | None = 0) -> Value:
    """The positions in a mask of any shape, read as a vector, where it is true: int64, as many as `measured` says, for
    that axis. Once for each mask.
    """
    if mask not in c.places:
        n = mask.type.numel
        flat = c.reshape(mask, (n,))
        c.places[mask] = c(NonzeroStatic(measured(c, count_true(c, flat), n, axis)), flat)
    return c.places[mask]


def coordinates(c: Context, places: Value, shape: Sequence[Dim]) -> list[Value]:
    """Positions in a tensor of that shape, read as a vector, along each of its axes."""
    found, below = [], places
    for axis in reversed(range(1, len(shape))):
        size = c.tensor(shape[axis], DType.int64)
        found.append(c("remainder", below, size))
        below = c("floor_divide", below, size)
    return [below, *reversed(found)]


def _truth(c: Context, x: Value) -> Value:
    return x if x.dtype is DType.bool else c("ne", x, c.full(0, x.dtype))


@aten("nonzero")
def nonzero(c: Context, x: Value) -> Value:
    places = true_places(c, _truth(c, x))
    if not x.shape:
        return c.full(0, DType.int64, (places.shape[0], 0))
    columns = [c.reshape(v, (*v.shape, 1)) for v in coordinates(c, places, x.shape)]
    return columns[0] if len(columns) == 1 else c(Cat(1), *columns)


@aten("nonzero_static")
def nonzero_static(c: Context, x: Value, *, size: int, fill_value: int = -1) -> Value:
    flat = c.reshape(_truth(c, x), (x.type.numel,))
    places = c(NonzeroStatic(size), flat)
    none = c("lt", places, c.full(0, DType.int64))
    fill = c.full(fill_value, DType.int64, (size,))
    columns = [
        c.reshape(c("where", none, fill, v), (size, 1)) for v in (coordinates(c, places, x.shape) if x.shape else ())
    ]
    if not columns:
        return c.full(0, DType.int64, (size, 0))
    return columns[0] if len(columns) == 1 else c(Cat(1), *columns)


@aten("masked_select")
def masked_select(c: Context, x: Value, mask: Value) -> Value:
    shape = broadcast(x.shape, mask.shape)
    if x.shape != shape:  # torch.export asserts that no more are selected than x itself has
        raise Refusal("masked_select of a smaller tensor than the mask: expand it first, x.expand(mask.shape)")
    places = true_places(c, c.expand(mask, shape))
    return c(IndexSelect(0), c.reshape(c.expand(x, shape), (numel(shape),)), places)


def rows(c: Context, x: Value, mask: Value, axis: int) -> Value:
    """x where a mask along its axes from `axis` on is true."""
    mask, last = _truth(c, mask), axis + len(mask.shape)
    flat = c.reshape(x, (*x.shape[:axis], mask.type.numel, *x.shape[last:]))
    return c(IndexSelect(axis), flat, true_places(c, mask, axis))


def is_mask(v: Value | None) -> bool:
    return v is not None and v.dtype in (DType.bool, DType.uint8)


def without_masks(c: Context, indices: Sequence[Value | None]) -> list[Value | None]:
    """The indices with positions in place of masks, one for each axis that a mask has."""
    found: list[Value | None] = []
    size: Dim | None = None
    for v in indices:
        if v is None or not is_mask(v):
            found.append(v)
            continue
        mask = _truth(c, v)
        if size is None:
            places = true_places(c, mask, c.symbols.axis_of_data(c.node.meta["val"].shape))
            size = places.shape[0]
        else:
            wrong_length(c, count_true(c, mask), size)
            places = c(NonzeroStatic(size), c.reshape(mask, (mask.type.numel,)))
        found += coordinates(c, places, mask.shape)
    return found


# What is equal, or said to be repeated.


@aten("repeat_interleave.Tensor")
def repeat_interleave(c: Context, repeats: Value, *, output_size: Any = None) -> Value:
    """Which element each of the results is."""
    times = c.cast(repeats, DType.int64)
    zero, n = c.full(0, DType.int64), repeats.shape[0]
    c.raise_if(c(AnyOf((0,), False), c("lt", times, zero)), "repeats can not be negative")
    total = c(Sum((0,)), times)
    if output_size is None:
        size = measured(c, total, None)
    else:
        wrong_length(c, total, output_size)
        size = output_size
    if n == 0:
        return c.full(0, DType.int64, (size,))
    ends = c(Cumsum(0), times)
    return c(Searchsorted(True), ends, c(Arange(0, 1, size, DType.int64)))


@aten("bincount")
def bincount(c: Context, x: Value, weights: Value | None = None, minlength: int = 0) -> Value:
    places, n = c.cast(x, DType.int64), x.shape[0]
    zero, one = c.full(0, DType.int64), c.full(1, DType.int64)
    c.raise_if(c(AnyOf((0,), False), c("lt", places, zero)), "bincount only supports non-negative integers")
    if weights is not None:  # of nothing eager gives integers, whatever the weights
        c.raise_if_below(n, 1, f"{InputError.__name__}: bincount with weights")
    if n == 0:
        return c.full(0, c.out.dtype, (minlength,))
    beyond = c("add", c(Amax((0,), False), c(Cat(0), places, c.full(-1, DType.int64, (1,)))), one)
    size = measured(c, c("maximum", beyond, c.full(minlength, DType.int64)), None)
    counts = c.full(1, DType.int64, (n,)) if weights is None else c.cast(weights, c.out.dtype)
    return c(Scatter(0, "sum"), c.full(0, c.out.dtype, (size,)), places, counts)


@aten("unique_consecutive")
def unique_consecutive(
    c: Context, x: Value, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> tuple[Value, Value, Value]:
    if dim is not None and dim < 0:  # torch.export has another shape for it than eager
        front = dim + max(len(x.shape), 1)
        raise Refusal(f"unique_consecutive with a negative dim: count it from the front, dim={front}")
    axis = None if dim is None or not x.shape else c.axis(dim, len(x.shape))
    flat = c.reshape(x, (x.type.numel,)) if axis is None else x
    at = 0 if axis is None else axis
    if axis is not None:  # torch gives both then, whatever is asked for
        c.raise_if_empty(x, [a for a in range(len(x.shape)) if a != axis], "unique_consecutive")
        return_inverse, return_counts = (str(v.shape[0]) != "0" for v in c.node.meta["val"][1:])
    return _runs(c, flat, at, None, x.shape if axis is None else (x.shape[at],), return_inverse, return_counts)


@aten("_unique2")
def unique(
    c: Context, x: Value, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> tuple[Value, Value, Value]:
    """In order, which torch does as well where it is not asked to."""
    flat = c.cast(c.reshape(x, (x.type.numel,)), DType.uint8 if x.dtype is DType.bool else x.dtype)
    ordered, order = c.emit(Sort(0), flat)
    values, inverse, counts = _runs(c, ordered, 0, order, x.shape, return_inverse, return_counts)
    return c.cast(values, x.dtype), inverse, counts


def _runs(
    c: Context, x: Value, axis: int, order: Value | None, shape: Sequence[Dim], inverse: bool, counts: bool
) -> tuple[Value, Value, Value]:
    """Of equal neighbours along an axis the first; for each element, in a tensor of that shape, which one that is; how
    many there are. order: where in that tensor an element comes from.
    """
    n, none = x.shape[axis], c.full(0, DType.int64, (0,))
    at = c(Arange(0, 1, n, DType.int64))
    before = c("maximum", c("sub", at, c.full(1, DType.int64)), c.full(0, DType.int64))
    others = c("ne", x, c(IndexSelect(axis), x, before))
    over = tuple(a for a in range(len(x.shape)) if a != axis)
    first = c("logical_or", c("eq", at, c.full(0, DType.int64)), c(AnyOf(over, False), others) if over else others)
    places = true_places(c, first, axis)
    made = c(IndexSelect(axis), x, places)
    which = none
    if inverse:
        which = c("sub", c(Cumsum(0), c.cast(first, DType.int64)), c.full(1, DType.int64))
        which = which if order is None else c(Scatter(0, "none"), c.full(0, DType.int64, (n,)), order, which)
        which = c.reshape(which, shape)
    if counts:
        u = places.shape[0]
        last = c("sub", c.tensor(u, DType.int64), c.full(1, DType.int64))
        k = c(Arange(0, 1, u, DType.int64))
        following = c(IndexSelect(0), places, c("minimum", c("add", k, c.full(1, DType.int64)), last))
        ends = c("where", c("eq", k, last), c.expand(c.tensor(n, DType.int64), (u,)), following)
        return made, which, c("sub", ends, places)
    return made, which, none
