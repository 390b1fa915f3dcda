"""Parts of a tensor at positions that the run decides: a slice of known length, one row. Builders of `aten_shape` use
them where a bound is a Number, or a size of which the declared ranges do not say where it is in the axis.
"""

from __future__ import annotations

from typing import Any

from neve.capture.context import Context, Number, Refusal
from neve.capture.symbols import UnsupportedSize
from neve.errors import InputError
from neve.ir.graph import Value
from neve.ir.types import Dim, DType
from neve.ops.index import IndexSelect
from neve.ops.scatter import IndexPut
from neve.ops.source import Arange

BY_DATA = (
    "the length of a slice depends on the values of tensors: keep the whole axis and mask what is not meant, as "
    "torch.where(torch.arange(x.shape[1]) < n, x, 0) does for x[:, :n], or take a slice of fixed length, as "
    "x[:, p : p + 4]"
)


def by_run(*bounds: Any) -> bool:
    """Whether one of a slice's bounds is a number that is known at run time only."""
    return any(isinstance(b, (Number, Value)) for b in bounds)


def read(c: Context, x: Value, axis: int, start: Any, stop: Any, step: Any) -> Value:
    """x[start:stop:step] along axis, of the length that torch has for it; the call ends where it has another one."""
    try:
        count = c.out.shape[axis]
    except UnsupportedSize as error:
        raise ByData(BY_DATA) from error
    return c(IndexSelect(axis), x, _places(c, x.shape[axis], start, stop, step, count))


def write(c: Context, x: Value, src: Value, axis: int, start: Any, stop: Any, step: Any) -> Value:
    """x with src, which has the length of the slice, in place of x[start:stop:step] along axis."""
    return c(IndexPut((axis,)), x, _places(c, x.shape[axis], start, stop, step, src.shape[axis]), src)


def _places(c: Context, size: Dim, start: Any, stop: Any, step: Any, count: Dim) -> Value:
    """The positions of a slice that has `count` of them."""
    if not isinstance(step, int):
        raise Refusal("a slice whose step is read from a tensor")
    low, high = _bound(c, size, start, 0), _bound(c, size, stop, size)
    length = c("maximum", c("sub", high, low), c.full(0, DType.int64))
    if step != 1:
        length = c("floor_divide", c("add", length, c.full(step - 1, DType.int64)), c.full(step, DType.int64))
    text = f"a slice that is compiled for a length of {count} is shorter or longer in this call"
    c.raise_if(c("ne", length, c.tensor(count, DType.int64)), f"{InputError.__name__}: {text}")
    return c("add", c(Arange(0, step, count, DType.int64)), low)


def _bound(c: Context, size: Dim, at: Any, default: Dim) -> Value:
    """A bound as 0..size: negative ones count from the end, what is beyond either end is cut off."""
    n, zero = c.tensor(size, DType.int64), c.full(0, DType.int64)
    at = c.tensor(default if at is None else at, DType.int64)
    at = c("where", c("lt", at, zero), c("add", at, n), at)
    return c("minimum", c("maximum", at, zero), n)


def row(c: Context, size: Dim, index: Any) -> Value:
    """An index of an axis as a position 0..size-1, one element; eager raises where there is none."""
    n, at = c.tensor(size, DType.int64), c.tensor(index, DType.int64)
    low = c("lt", at, c("neg", n))
    c.raise_if(
        c("logical_or", low, c("ge", at, n)), f"IndexError: an index is out of range: not in {-size}..{size - 1}"
    )
    return c.reshape(c("where", c("lt", at, c.full(0, DType.int64)), c("add", at, n), at), (1,))


class ByData(Refusal):
    """A shape depends on the values of tensors, which an interpretation of the source may still follow."""
