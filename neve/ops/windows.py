"""Sliding windows of pools: their reference in numpy and their loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, call, cast, const, guard, where
from neve.ir.types import Dim, DType, dim, same
from neve.ops.checks import lowest, wide

Cell = Callable[[Sequence[Index], Sequence[Index]], Sequence[Index]]
"""The spatial position of an output position's window cell."""
Conditions = Callable[[Sequence[Index], Sequence[Index]], list[tuple[Index, Index]]]
"""What holds where that cell exists."""
Spans = Callable[[Sequence[Index]], list[Index]]
"""A number for each axis, by the output position."""


def inside(at: np.ndarray, size: int) -> np.ndarray:
    return at[(at >= 0) & (at < size)]


def each_window(
    x: np.ndarray, cells: list[list[np.ndarray]], fn: Callable[..., np.ndarray], dtype: Any = None
) -> np.ndarray:
    """fn(elements (planes, cells), output position, positions of the cells in a plane) → (planes,), for each output."""
    n = len(cells)
    size = x.shape[-n:]
    flat = np.arange(int(np.prod(size))).reshape(size)
    planes = x.reshape(int(np.prod(x.shape[:-n])), flat.size)
    out = np.zeros((planes.shape[0], *map(len, cells)), dtype or x.dtype)
    for o in itertools.product(*(range(len(axis)) for axis in cells)):
        window: tuple[Any, ...] = np.ix_(*(cells[axis][i] for axis, i in enumerate(o)))
        places = flat[window].reshape(-1)
        at: tuple[Any, ...] = (slice(None), *o)
        with np.errstate(all="ignore"):
            out[at] = fn(planes[:, places], o, places)
    return out.reshape(*x.shape[:-n], *out.shape[1:])


def largest_of(elements: np.ndarray, *_: object) -> np.ndarray:
    low = -np.inf if elements.dtype.kind == "f" else np.iinfo(elements.dtype).min
    return np.asarray(elements.max(1, initial=low))


def best_position(elements: np.ndarray, _: object, at: np.ndarray) -> np.ndarray:
    """Positions of the last NaN, else of the first largest element."""
    nan = np.isnan(elements) if elements.dtype.kind == "f" else np.zeros(elements.shape, bool)
    last_nan = elements.shape[1] - 1 - nan[:, ::-1].argmax(1)
    return np.asarray(at[np.where(nan.any(1), last_nan, elements.argmax(1))])


def largest(
    b: Builder, x: Tensor, shape: Sequence[Dim], over: Sequence[Dim], cell: Cell, conditions: Conditions
) -> Tensor:
    n = len(over)
    return b.reduce(
        "max",
        shape,
        x.dtype,
        over,
        lambda i, k: guard(conditions(i[-n:], k), x(*i[:-n], *cell(i[-n:], k)), lowest(x.dtype)),
    )


def position(b: Builder, x: Tensor, top: Tensor, over: Sequence[Dim], cell: Cell, conditions: Conditions) -> Tensor:
    """Where in the plane the maxima `top` are: the least position of an equal element, the greatest of a NaN."""
    n, far = len(over), const(np.iinfo(np.int64).max, DType.int64)

    def score(i: tuple[Index, ...], k: tuple[Index, ...]) -> Expr:
        at = cell(i[-n:], k)
        flat = Index.of(0)
        for a, size in zip(at, x.shape[-n:], strict=True):
            flat = flat * Index.of(size) + a
        value, place = x(*i[:-n], *at), FromIndex(flat, DType.int64)
        first = where(call("eq", value, top(*i)), place, far)
        if x.dtype.is_float:
            first = where(call("isnan", value), FromIndex(-flat - 1, DType.int64), first)
        return guard(conditions(i[-n:], k), first, far)

    found = b.reduce("min", top.shape, DType.int64, over, score)
    if not x.dtype.is_float:
        return found
    negative = const(-1, DType.int64)
    return b.compute(
        top.shape,
        DType.int64,
        lambda *i: where(call("lt", found(*i), const(0, DType.int64)), call("sub", negative, found(*i)), found(*i)),
    )


def cell_sum(
    b: Builder, x: Tensor, shape: Sequence[Dim], over: Sequence[Dim], cell: Cell, conditions: Conditions
) -> Tensor:
    n, acc = len(over), wide(x.dtype)
    return b.reduce(
        "sum",
        shape,
        acc,
        over,
        lambda i, k: guard(conditions(i[-n:], k), cast(x(*i[:-n], *cell(i[-n:], k)), acc), const(0.0, acc)),
    )


def specials(x: np.ndarray) -> np.ndarray:
    """x with NaNs, infinities and equal values in it."""
    y = np.round(x)
    flat = y.reshape(-1)
    flat[::7] = np.nan
    flat[3::11] = np.inf
    flat[: flat.size // 3] = -np.inf
    return y


def adaptive_cells(x: np.ndarray, output: Sequence[Dim]) -> list[list[np.ndarray]]:
    return [
        [np.arange(o * size // int(out), -(-(o + 1) * size // int(out))) for o in range(int(out))]
        for size, out in zip(x.shape[-len(output) :], output, strict=True)
    ]


def adaptive_window(x: Tensor, output: Sequence[Dim]) -> tuple[list[Dim], Spans, Spans]:
    """The most cells a window has an axis; the first cell of an output position; its number of cells."""
    axes = [(size, out, quotient(size, out)) for size, out in zip(x.shape[-len(output) :], output, strict=True)]
    over = [q if q is not None else most_cells(size, out) for size, out, q in axes]

    def begin(o: Sequence[Index]) -> list[Index]:
        return [
            i * q if q is not None else i * size // Index.of(out)
            for i, (size, out, q) in zip(o, indexed(axes), strict=True)
        ]

    def length(o: Sequence[Index]) -> list[Index]:
        return [
            q if q is not None else ((i + 1) * size + out - 1) // out - i * size // out
            for i, (size, out, q) in zip(o, indexed(axes), strict=True)
        ]

    return over, begin, length


def adaptive_access(begin: Spans, length: Spans) -> tuple[Cell, Conditions]:
    return (
        lambda o, k: [a + j for a, j in zip(begin(o), k, strict=True)],
        lambda o, k: [(j, size) for j, size in zip(k, length(o), strict=True)],
    )


def indexed(axes: Sequence[tuple[Dim, Dim, Dim | None]]) -> list[tuple[Index, Index, Index | None]]:
    return [(Index.of(size), Index.of(out), None if q is None else Index.of(q)) for size, out, q in axes]


def quotient(size: Dim, out: Dim) -> Dim | None:
    """size / out if that is certain to be whole: then all windows are equal."""
    if out == 0:
        return 1
    if isinstance(out, int) and isinstance(size, int):
        return size // out if size % out == 0 else None
    if same(size, out):
        return 1
    return size if out == 1 else None


def most_cells(size: Dim, out: Dim) -> Dim:
    """At least the length of the longest window ⌊o·I/O⌋ … ⌈(o + 1)·I/O⌉ − 1."""
    if isinstance(out, int) and isinstance(size, int):
        return max((-(-(o + 1) * size // out) - o * size // out for o in range(out)), default=0)
    return dim(size // out + 2)
