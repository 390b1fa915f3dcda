"""Sliding windows of pools: their reference in numpy and their loops."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, call, cast, const, guard, where
from neve.ir.types import Dim, DType
from neve.ops.checks import lowest, wide

Cell = Callable[[Sequence[Index], Sequence[Index]], Sequence[Index]]
"""The spatial position of an output position's window cell."""
Conditions = Callable[[Sequence[Index], Sequence[Index]], list[tuple[Index, Index]]]
"""What holds where that cell exists."""


def inside(at: np.ndarray, size: int) -> np.ndarray:
    return at[(at >= 0) & (at < size)]


def each_window(x: np.ndarray, cells: list[list[np.ndarray]], fn: Callable[..., np.ndarray],
                dtype: Any = None) -> np.ndarray:
    """fn(elements (planes, cells), output position, flat positions of the cells (cells,)) → (planes,), for each combination of cells."""
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


def largest(b: Builder, x: Tensor, shape: Sequence[Dim], over: Sequence[Dim], cell: Cell, conditions: Conditions) -> Tensor:
    n = len(over)
    return b.reduce("max", shape, x.dtype, over, lambda i, k: guard(
        conditions(i[-n:], k), x(*i[:-n], *cell(i[-n:], k)), lowest(x.dtype)))


def position(b: Builder, x: Tensor, top: Tensor, over: Sequence[Dim], cell: Cell, conditions: Conditions) -> Tensor:
    """Where in the plane the maxima `top` are: the least position of an equal element, or for NaN the greatest of a NaN."""
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
    return b.compute(top.shape, DType.int64, lambda *i: where(
        call("lt", found(*i), const(0, DType.int64)), call("sub", negative, found(*i)), found(*i)))


def cell_sum(b: Builder, x: Tensor, shape: Sequence[Dim], over: Sequence[Dim], cell: Cell, conditions: Conditions) -> Tensor:
    n, acc = len(over), wide(x.dtype)
    return b.reduce("sum", shape, acc, over, lambda i, k: guard(
        conditions(i[-n:], k), cast(x(*i[:-n], *cell(i[-n:], k)), acc), const(0.0, acc)))


def specials(x: np.ndarray) -> np.ndarray:
    """x with NaNs, infinities and equal values in it."""
    y = np.round(x)
    flat = y.reshape(-1)
    flat[::7] = np.nan
    flat[3::11] = np.inf
    flat[: flat.size // 3] = -np.inf
    return y
