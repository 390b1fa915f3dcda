"""Builders of counts in bins, and of reductions over segments of an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from neve.capture.aten import aten
from neve.capture.aten_fourier import constant
from neve.capture.context import Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import DType, numel
from neve.ops.index import IndexSelect
from neve.ops.reduce import All, Amax, Amin, Sum
from neve.ops.reduce import Any as AnyOf
from neve.ops.scan import Cumsum
from neve.ops.scatter import IndexPut, Scatter
from neve.ops.sort import Searchsorted
from neve.ops.source import Arange

INT = DType.int64


@aten("histc")
def histc(c: Context, x: Value, bins: int = 100, min: Any = 0, max: Any = 0) -> Value:
    given = None if min == max else (float(min), float(max))
    edges = _Edges(c, c.reshape(x, (x.type.numel,)), bins, given, margin=1.0)
    return _counts(c, [edges.place()], [bins], None, x.dtype)


@aten("histogram.bin_ct")
def histogram(
    c: Context,
    x: Value,
    bins: int = 100,
    *,
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> tuple[Value, Value]:
    edges = _Edges(c, c.reshape(x, (x.type.numel,)), bins, tuple(range) if range else None)
    at = edges.values()
    return _histogram(c, [edges.near(at)], [at], weight, density), at


@aten("histogram.bins_tensor")
def histogram_of(
    c: Context, x: Value, bins: Value, *, weight: Value | None = None, density: bool = False
) -> tuple[Value, Value]:
    return _histogram(c, [_search(c, c.reshape(x, (x.type.numel,)), bins)], [bins], weight, density), bins


@aten("_histogramdd_bin_edges")
def histogramdd_edges(
    c: Context, x: Value, bins: Sequence[int], *, range: Sequence[float] | None = None, **kwargs: Any
) -> tuple[Value, ...]:
    return tuple(e.values() for e in _edges(c, x, bins, range))


@aten("_histogramdd_from_bin_cts")
def histogramdd(
    c: Context,
    x: Value,
    bins: Sequence[int],
    *,
    range: Sequence[float] | None = None,
    weight: Value | None = None,
    density: bool = False,
) -> Value:
    edges = _edges(c, x, bins, range)
    at = [e.values() for e in edges]
    return _histogram(c, [e.near(v) for e, v in zip(edges, at, strict=True)], at, weight, density)


@aten("_histogramdd_from_bin_tensors")
def histogramdd_of(
    c: Context, x: Value, bins: Sequence[Value], *, weight: Value | None = None, density: bool = False
) -> Value:
    places = [_search(c, column, v) for column, v in zip(_columns(c, x), bins, strict=True)]
    return _histogram(c, places, bins, weight, density)


def _columns(c: Context, x: Value) -> list[Value]:
    """x (…, D) → the D coordinates of its points, each a vector."""
    rows = c.reshape(x, (numel(x.shape[:-1]), x.shape[-1]))
    return [c.select(rows, 1, k) for k in range(int(x.shape[-1]))]


def _edges(c: Context, x: Value, bins: Sequence[int], ends: Sequence[float] | None) -> list[_Edges]:
    given = [tuple(ends[2 * k : 2 * k + 2]) if ends else None for k in range(len(bins))]
    return [_Edges(c, v, n, g) for v, n, g in zip(_columns(c, x), bins, given, strict=True)]


class _Edges:
    """Bins of equal width for a vector x, between two ends: those given, or the least and greatest of x (0 and 1 of no
    elements); a range of one number is widened by the margin on both sides.
    """

    def __init__(self, c: Context, x: Value, bins: int, given: tuple[float, ...] | None, margin: float = 0.5) -> None:
        self.c, self.x, self.bins = c, x, bins
        if x.dtype not in (DType.float32, DType.float64):
            raise Refusal(f"a histogram of {x.dtype}: cast it to float32 first")
        size = x.shape[0]
        least = size if isinstance(size, int) else (c.symbols.range(size) or (0, 0))[0]
        if given is None and least == 0 and size != 0:
            raise Refusal(
                f"a histogram over the range of {size} elements, which may be none: give min and max, or declare a "
                "least size of 1"
            )
        self.given: tuple[float, float] | None = None
        if given is not None or size == 0:
            low, high = given or (0.0, 1.0)
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise Refusal(f"a histogram from {low} to {high}, of which eager raises")
            self.given = (low - margin, high + margin) if low == high else (low, high)
            self.low, self.high = (c.full(v, x.dtype) for v in self.given)
            return
        low_, high_ = c(Amin((0,), False), x), c(Amax((0,), False), x)
        both = c("maximum", c("abs", low_), c("abs", high_))
        c.raise_if(c("logical_or", c("isnan", both), c("isinf", both)), "histogram: the elements' range is not finite")
        wider, alone = c.full(margin, x.dtype), c("eq", low_, high_)
        self.low = c("where", alone, c("sub", low_, wider), low_)
        self.high = c("where", alone, c("add", high_, wider), high_)

    def values(self) -> Value:
        """The edges, as torch.linspace has them."""
        c, n, dtype = self.c, self.bins, self.x.dtype
        if self.given is not None:
            at = torch.linspace(self.given[0], self.given[1], n + 1, dtype=getattr(torch, dtype.value))
            return constant(c, "edges", at.numpy())
        i = np.arange(n + 1)
        step = c("div", c("sub", self.high, self.low), c.full(n, dtype))
        up, down = (constant(c, "steps", v.astype(dtype.numpy)) for v in (i, n - i))
        first, last = _fused(c, self.low, step, up), _fused(c, self.high, c("neg", step), down)
        return c("where", constant(c, "first_half", i < (n + 1) // 2), first, last)

    def place(self) -> Value:
        """The bin of each element, by the width alone; the number of bins of one outside of all."""
        c, n, dtype = self.c, self.bins, self.x.dtype
        inside = _inside(c, self.x, self.low, self.high)
        far = c("mul", c("sub", self.x, self.low), c.full(n, dtype))
        at = c("div", far, c("sub", self.high, self.low))
        at = c.cast(c("where", inside, at, c.full(0, dtype)), INT)
        return c("where", inside, c("minimum", at, c.full(n - 1, INT)), c.full(n, INT))

    def near(self, edges: Value) -> Value:
        """The same, of the edges around that bin the last that is not above the element."""
        c, n = self.c, self.bins
        at = self.place()
        first = c("maximum", c("sub", at, c.full(1, INT)), c.full(0, INT))
        last = c("minimum", c("add", at, c.full(2, INT)), c.full(n + 1, INT))
        found = c("sub", first, c.full(1, INT))
        for k in range(3):
            here = c("minimum", c("add", first, c.full(k, INT)), c.full(n, INT))
            below = c("le", c(IndexSelect(0), edges, here), self.x)
            near = c("lt", c("add", first, c.full(k, INT)), last)
            found = c("add", found, c.cast(c("logical_and", below, near), INT))
        found = c("maximum", c("minimum", found, c.full(n - 1, INT)), c.full(0, INT))
        return c("where", c("lt", at, c.full(n, INT)), found, at)


def _fused(c: Context, start: Value, step: Value, counts: Value) -> Value:
    """start + step · counts (whole numbers) rounded once, as ATen's compiler has it."""
    if start.dtype is DType.float32:
        a, b, n = (c.cast(v, DType.float64) for v in (start, step, counts))
        return c.cast(c("add", a, c("mul", b, n)), DType.float32)
    short = c.cast(c.cast(step, DType.float32), DType.float64)  # its products are exact, and those of the rest
    short = c("where", c("isinf", short), step, short)
    large, small = c("mul", short, counts), c("mul", c("sub", step, short), counts)
    total = c("add", start, large)
    of_large = c("sub", total, start)
    lost = c("add", c("sub", start, c("sub", total, of_large)), c("sub", large, of_large))
    return c("add", total, c("add", lost, small))


def _inside(c: Context, x: Value, low: Value, high: Value) -> Value:
    return c("logical_and", c("ge", x, low), c("le", x, high))


def _search(c: Context, x: Value, edges: Value) -> Value:
    """The bin of each element between given edges; the number of bins of one outside of all."""
    n = edges.shape[0]
    if not isinstance(n, int):
        raise Refusal(f"a histogram of {n} bins: their number has to be fixed")
    found = c("sub", c(Searchsorted(True), edges, x), c.full(1, INT))
    found = c("minimum", found, c.full(n - 2, INT))
    inside = _inside(c, x, c.select(edges, 0, 0), c.select(edges, 0, n - 1))
    return c("where", inside, found, c.full(n - 1, INT))


def _counts(c: Context, places: Sequence[Value], bins: Sequence[int], weight: Value | None, dtype: DType) -> Value:
    """How many points (or how much weight) each bin has; places: along each axis, the number of bins if outside."""
    count, total = places[0].shape[0], numel(bins)
    at: Value = c.full(0, INT, (count,))
    outside: Value = c.full(False, DType.bool, (count,))
    for place, n in zip(places, bins, strict=True):
        outside = c("logical_or", outside, c("eq", place, c.full(n, INT)))
        at = c("add", c("mul", at, c.full(n, INT)), place)
    at = c("where", outside, c.tensor(total, INT), at)
    values = c.full(1, dtype, (count,)) if weight is None else c.reshape(weight, (count,))
    found = c(IndexPut((0,), True), c.full(0, dtype, (total + 1,)), at, values)
    return c.reshape(c.slice(found, 0, 0, total), bins)


def _histogram(
    c: Context, places: Sequence[Value], edges: Sequence[Value], weight: Value | None, density: bool
) -> Value:
    dtype, bins = edges[0].dtype, [int(v.shape[0]) - 1 for v in edges]
    found = _counts(c, places, bins, weight, dtype)
    if not density:
        return found
    found = c("div", found, c(Sum(tuple(range(len(bins))), False), found))
    for axis, (v, n) in enumerate(zip(edges, bins, strict=True)):
        width = c("sub", c.slice(v, 0, 1, n + 1), c.slice(v, 0, 0, n))
        found = c("div", found, c.reshape(width, (n, *(1,) * (len(bins) - 1 - axis))))
    return found


KINDS = {"sum": ("sum", 0.0), "mean": ("sum", 0.0), "prod": ("prod", 1.0)} | {
    "max": ("amax", float("-inf")),
    "min": ("amin", float("inf")),
}


@aten("segment_reduce")
def segment_reduce(
    c: Context,
    x: Value,
    reduce: str,
    *,
    lengths: Value | None = None,
    indices: Value | None = None,
    offsets: Value | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Any = None,
) -> Value:
    given = lengths if lengths is not None else offsets
    if given is None or indices is not None:
        raise Refusal("segment_reduce with indices, which torch does not have")
    axis = c.axis(axis, len(x.shape))
    n, rest = x.shape[axis], x.shape[axis + 1 :]
    given = c.cast(given, INT)
    segments = given.shape[-1] if lengths is not None else given.shape[-1] - 1
    if lengths is not None:
        if not unsafe:
            _check_lengths(c, given, n)
        segment = c(Searchsorted(True), c(Cumsum(axis), given), _positions(c, x, axis))
    else:
        segment = c("sub", c(Searchsorted(True), given, _positions(c, x, axis)), c.full(1, INT))
    none = c.tensor(segments, INT)
    segment = c("where", c("lt", segment, c.full(0, INT)), none, c("minimum", segment, none))
    at = c.expand(c.reshape(segment, (*segment.shape, *(1,) * len(rest))), x.shape)
    kind, start = KINDS[reduce]
    first = c.full(start if initial is None else initial, x.dtype, (*x.shape[:axis], segments + 1, *rest))
    total = c.slice(c(Scatter(axis, kind), first, at, x), axis, 0, segments)
    if reduce != "mean":
        return total
    count = c(
        Scatter(axis, "sum"), c.full(0, INT, (*x.shape[:axis], segments + 1)), segment, c.full(1, INT, segment.shape)
    )
    count = c.reshape(c.slice(count, axis, 0, segments), (*x.shape[:axis], segments, *(1,) * len(rest)))
    several = c("lt", c.full(0, INT), count)
    empty = c.full(float("nan") if initial is None else initial, x.dtype)
    return c("where", several, c("div", total, c.cast(count, x.dtype)), empty)


def _positions(c: Context, x: Value, axis: int) -> Value:
    n = x.shape[axis]
    return c.expand(c(Arange(0, 1, n, INT)), x.shape[: axis + 1])


def _check_lengths(c: Context, lengths: Value, n: Any) -> None:
    axes = tuple(range(len(lengths.shape)))
    c.raise_if(c(AnyOf(axes, False), c("lt", lengths, c.full(0, INT))), "segment_reduce: a length is below 0")
    total = c(Sum((axes[-1],), False), lengths)
    same = c(All(axes[:-1], False), c("eq", total, c.tensor(n, INT)))
    c.raise_if(c("logical_not", same), "segment_reduce: the sum of lengths is not the size of the axis")
