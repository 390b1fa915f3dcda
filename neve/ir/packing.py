"""Packing as computation: loop nests that fill arrays from a weight.

`values` runs them with numpy, which folds the packed form of a constant into the file; the same loops are printed as C
where a weight is packed while the model runs or is loaded. All addresses are affine: there is nothing to guard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided

from neve.ir.index import Index, Var
from neve.ir.loops import Call, Const, Expr, Load, Tensor, const
from neve.ir.types import DType, TensorType, round_to

CHUNK = 1 << 15
"""Elements that numpy computes at a time: what lies between two of its loops stays in cache."""


@dataclass(frozen=True)
class Fill:
    """A part of an array: at offset + Σ strides · vars, in elements, for all values of vars, it is expr."""

    array: Tensor
    vars: tuple[Var, ...]
    strides: tuple[int, ...]
    offset: int
    expr: Expr

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(v.extent.const or 0 for v in self.vars)


@dataclass(eq=False)
class Rows:
    """Fills in order that share their first `count` loops: one iteration of these reads nothing of another one."""

    count: int
    fills: list[Fill] = field(default_factory=list)

    def between(self, shape: Sequence[int], dtype: DType, fn: Callable[..., Expr]) -> Tensor:
        """A row-major array for later fills, which begins with the axes of the rows."""
        array = Tensor(TensorType(tuple(shape), dtype), "unpacked")
        self.fill(array, 0, dense(shape), fn)
        return array

    def fill(self, array: Tensor, offset: int, axes: Sequence[tuple[int, int]], fn: Callable[..., Expr]) -> None:
        """array[offset + Σ stride · i] = fn(*i) for axes (extent, stride); nothing if an extent is 0."""
        if all(n for n, _ in axes):
            vars = tuple(Var(f"i{k}", Index.of(n)) for k, (n, _) in enumerate(axes))
            at = (Index.of(0) if n == 1 else Index.of(v) for v, (n, _) in zip(vars, axes, strict=True))
            self.fills.append(Fill(array, vars, tuple(s for _, s in axes), offset, fn(*at)))


class Packing:
    """How a packed array is computed, loop nests in order. `array` has size elements, each filled once."""

    def __init__(self, size: int, dtype: DType) -> None:
        self.array = Tensor(TensorType((size,), dtype), "packed")
        self.nests: list[Rows] = []

    def rows(self, count: int) -> Rows:
        """A new nest of fills that share so many loops."""
        self.nests.append(Rows(count))
        return self.nests[-1]

    def put(self, offset: int, axes: Sequence[tuple[int, int]], fn: Callable[..., Expr]) -> None:
        """A part of the packed array by loops of its own."""
        self.rows(0).fill(self.array, offset, axes, fn)

    @property
    def fills(self) -> Iterator[Fill]:
        return (f for nest in self.nests for f in nest.fills)

    def values(self, weight: Tensor, array: np.ndarray) -> np.ndarray:
        """The packed array for a weight's values; halves as numbers that they can hold."""
        arrays = {weight: array, self.array: np.empty(self.array.shape, self.array.dtype.numpy)}
        for f in self.fills:
            if f.array not in arrays:
                arrays[f.array] = np.empty(f.array.shape, f.array.dtype.numpy)
            _run(f, arrays)
        return arrays[self.array]


def dense(extents: Sequence[int], step: int = 1) -> list[tuple[int, int]]:
    """Axes (extent, stride) of a row-major block whose last axis has that stride."""
    return [(n, step * math.prod(extents[k + 1 :])) for k, n in enumerate(extents)]


def zero(dtype: DType) -> Expr:
    """What fills the columns that a panel has too many."""
    return const(0.0, dtype)


# --- with numpy -------------------------------------------------------------------------------------------------------


def _run(f: Fill, arrays: Mapping[Tensor, np.ndarray]) -> None:
    """The fill; sums some of its outermost iterations at a time."""
    flat = arrays[f.array].reshape(-1)
    out = as_strided(flat[f.offset :], f.shape, [s * flat.itemsize for s in f.strides])
    views: dict[Expr, np.ndarray] = {e: _view(e, f.vars, arrays) for e in _loads(f.expr)}
    if isinstance(f.expr, Call):
        for at in _chunks(f.shape):
            out[at] = _value(f.expr, {e: v[at] for e, v in views.items()})
    else:
        out[...] = _value(f.expr, views)


def _chunks(shape: Sequence[int]) -> Iterator[tuple[int | slice, ...]]:
    """Parts of an array of that shape."""
    axis = next(k for k in range(len(shape)) if math.prod(shape[k + 1 :]) <= CHUNK)
    step = max(1, CHUNK // math.prod(shape[axis + 1 :]))
    for outer in np.ndindex(*shape[:axis]):
        yield from ((*outer, slice(k, k + step)) for k in range(0, shape[axis], step))


def _value(e: Expr, views: Mapping[Expr, np.ndarray]) -> np.ndarray:
    if e in views:
        return views[e]
    if isinstance(e, Const):
        return np.asarray(e.value, e.dtype.numpy)
    assert isinstance(e, Call)
    args = [_value(a, views) for a in e.args]
    return round_to(args[0], e.dtype) if e.fn == "cast" else ARITHMETIC[e.fn](*args)


ARITHMETIC = {"add": np.add, "mul": np.multiply}
"""What the loops of packings are made of, beside casts."""


def _view(e: Load, vars: Sequence[Var], arrays: Mapping[Tensor, np.ndarray]) -> np.ndarray:
    """What is loaded, an axis for each variable, without a copy."""
    source, start, strides = arrays[e.tensor], [], dict.fromkeys(vars, 0)
    for i, stride in zip(e.index, source.strides, strict=True):
        start.append(slice(i.terms.get((), 0), None))
        for atoms, c in i.terms.items():
            if atoms:
                (v,) = atoms
                assert isinstance(v, Var), f"{e} is not affine"
                strides[v] += c * stride
    shape = [v.extent.const or 0 for v in vars]
    return as_strided(source[tuple(start)], shape, list(strides.values()), writeable=False)


def _loads(e: Expr) -> Iterator[Load]:
    if isinstance(e, Load):
        yield e
    for c in e.children:
        yield from _loads(c)
