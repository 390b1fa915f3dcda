"""Tensors whose length the run decides: a buffer of the greatest length, and how much of it is meant.

Joining, cutting and reading at a place; lists are in entries.py, what else can be done with such tensors in masked.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.iterations import offset
from neve.capture.torchscript.numbers import binary, is_number
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import (
    Dim,
    Entries,
    Grown,
    Length,
    Num,
    Raised,
    Refusal,
    Var,
    describe,
    needs_of,
)
from neve.errors import InputError

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine


# Lengths.


def number(m: Machine, length: Length) -> Any:
    """A length as a number: an int, a Dim or a Num."""
    if length.value is not None:
        return length.value
    return length.most if length.origin is None else binary(m.tape, "add", length.origin, length.most)


def longer(m: Machine, length: Length, by: Any) -> Length:
    """The length with so much more (an int or a Dim)."""
    value = None if length.value is None else binary(m.tape, "add", length.value, by)
    return Length(length.origin, binary(m.tape, "add", length.most, by), value)


def difference(a: Any, b: Any) -> int | None:
    """a - b for ints and Dims; None if it depends on a size."""
    x, y = (_as_number(v) for v in (a, b))
    found = x - y
    expression = getattr(getattr(found, "node", None), "expr", found)
    return int(expression) if getattr(expression, "is_Integer", isinstance(expression, int)) else None


def larger(m: Machine, a: Any, b: Any) -> Any:
    """A number (int or Dim, not negative) that neither of two is above."""
    apart = difference(a, b)
    if apart is None:
        return binary(m.tape, "add", a, b)
    return a if apart >= 0 else b


def same_number(a: Any, b: Any) -> bool:
    return difference(a, b) == 0


def capacity(value: Grown | Entries) -> Any:
    """The size of a buffer, as torch has it (int or SymInt)."""
    return value.buffer.meta.shape[value.axis] if isinstance(value, Grown) else value.columns[0].meta.shape[0]


# Buffers.


def size_of(m: Machine, size: Any) -> Any:
    """A size of some tensor (int or SymInt) as an int or a Dim of the innermost region."""
    if isinstance(size, int):
        return size
    found = m.tape.size(size)
    if found is None:
        raise Refusal(f"a list or tensor grows, and its other size {size} is none of the inputs'")
    return Dim(int, found)


def zeros(m: Machine, shape: Sequence[Any], dtype: torch.dtype) -> Var:
    return m.tape.tensor(ATEN.zeros.default, [d.var if isinstance(d, Dim) else d for d in shape], dtype=dtype)


def padded(m: Machine, x: Var, axis: int, by: Any) -> Var:
    """x with reserved for `by` more (int or Dim) along axis."""
    if by == 0:
        return x
    shape = [by if i == axis else size_of(m, n) for i, n in enumerate(x.meta.shape)]
    return m.tape.tensor(ATEN.cat.default, [x, zeros(m, shape, x.meta.dtype)], axis)


def put(m: Machine, buffer: Var, axis: int, at: Any, rows: Var) -> Var:
    """buffer with rows at place `at` along axis; a new tensor."""
    count = rows.meta.shape[axis]
    index = m.tape.call(ATEN.reshape.default, m.tape.number(at, int), [1])
    if count != 1:
        steps = m.tape.call(ATEN.arange.default, plain(size_of(m, count)), dtype=torch.int64)
        index = m.tape.call(ATEN.add.Tensor, index, steps)
    return m.tape.tensor(ATEN.index_copy.default, buffer, axis, index, m.tape.cast(rows, buffer.meta.dtype))


def plain(size: Any) -> Any:
    return size.var if isinstance(size, Dim) else size


def longer_axis(a: Var, b: Var) -> int | None:
    """The only axis in which two tensors of one type differ; None if there is none."""
    x, y = a.meta, b.meta
    if x.dtype is not y.dtype or x.dim() != y.dim():
        return None
    found = [i for i, (p, q) in enumerate(zip(x.shape, y.shape, strict=True)) if difference(p, q) != 0]
    return found[0] if len(found) == 1 else None


def simple(value: Any) -> Any:
    """A Grown that fills its buffer, whatever the run, as the tensor that it is."""
    if isinstance(value, Grown) and value.length.origin is None and value.length.value is None:
        full = difference(_as_number(value.length.most), capacity(value)) == 0
        return value.buffer if full else value
    return value


def _as_number(value: Any) -> Any:
    return value.var.meta if isinstance(value, Dim) else value


# Tensors.


def grown_of(m: Machine, x: Var | Grown, axis: int, reserved: Any = 0) -> Grown:
    """A tensor as one that can grow by `reserved` along axis."""
    if isinstance(x, Grown):
        return replace(x, buffer=padded(m, x.buffer, x.axis, reserved))
    length = Length(None, size_of(m, x.meta.shape[axis]))
    return Grown(padded(m, x, axis, reserved), axis, length)


def joined(m: Machine, parts: Sequence[Any], axis: Any = 0) -> Any:
    """torch.cat with parts whose length the run decides, along the axis in which they grow."""
    if not parts or not all(isinstance(p, (Var, Grown)) for p in parts) or type(axis) is not int:
        raise Refusal(f"cat of {', '.join(map(describe, parts))}")
    ranks = {_tensor(p).meta.dim() for p in parts}
    if len(ranks) != 1:
        raise Refusal("cat of tensors of different ranks, one of which grows: start with one of the right rank")
    axis %= ranks.pop()
    if any(isinstance(p, Grown) and p.axis != axis for p in parts):
        raise Refusal(f"cat along axis {axis} of {', '.join(map(describe, parts))}", needs_of(*parts))
    dtype = torch.result_type(*(_tensor(p).meta for p in parts[:2])) if len(parts) > 1 else _tensor(parts[0]).meta.dtype
    first, *rest = parts
    if any(isinstance(p, Grown) and p.reserved for p in rest) and not isinstance(first, Grown):
        return _in_front(m, first, rest, axis)
    total = grown_of(m, first, axis)
    total = replace(total, buffer=m.tape.cast(total.buffer, dtype))
    for part in rest:
        total = _appended(m, total, part)
    return simple(total)


def _tensor(x: Any) -> Var:
    var: Var = x.buffer if isinstance(x, Grown) else x
    return var


def _appended(m: Machine, total: Grown, part: Any) -> Grown:
    axis, rows = total.axis, _tensor(part)
    count = size_of(m, rows.meta.shape[axis])
    at = number(m, total.length)
    space = count if isinstance(part, Grown) or not total.reserved else 0
    buffer = put(m, padded(m, total.buffer, axis, space), axis, at, rows)
    if isinstance(part, Grown):
        if total.reserved:
            buffer = _first(m, buffer, axis, capacity(total))
        if part.length.origin is not None and total.length.origin is not None:
            raise Refusal("two tensors that both grow in a loop are joined in it: join them after the loop")
        more = number(m, part.length)
        value = binary(m.tape, "add", at, more)
        origin = total.length.origin or part.length.origin
        most = binary(m.tape, "add", total.length.most, part.length.most)
        exact = total.length.value is None and part.length.value is None
        return replace(total, buffer=buffer, length=Length(origin, most, None if exact else value))
    return replace(total, buffer=buffer, length=longer(m, total.length, count))


def _in_front(m: Machine, first: Var, rest: Sequence[Any], axis: int) -> Any:
    """cat((x, grown)): the buffer moves back, and what is behind its end falls off."""
    (old,) = rest if len(rest) == 1 else (joined(m, rest, axis),)
    count = size_of(m, first.meta.shape[axis])
    buffer = m.tape.call(ATEN.cat.default, [first, old.buffer], axis)
    buffer = _first(m, buffer, axis, capacity(old))
    return replace(old, buffer=buffer, length=longer(m, old.length, count))


def _first(m: Machine, x: Var, axis: int, count: Any) -> Var:
    """The first `count` (int or SymInt) along axis, as a tensor of its own."""
    part = m.tape.call(ATEN.slice.Tensor, x, axis, 0, plain(size_of(m, count)))
    return m.tape.tensor(ATEN.clone.default, part)


# Parts along the axis.


def cut(m: Machine, x: Var | Grown, axis: int, start: Any, stop: Any, step: Any) -> Any:
    """x[start:stop:step] along axis, with bounds or a length that the run decides."""
    bounds = [v for v in (start, stop) if v is not None]
    if type(step) is not int or step < 1 or not all(is_number(v) for v in bounds):
        raise Refusal(f"a slice with step {describe(step)}", needs_of(start, stop, step))
    buffer = _tensor(x)
    full = number(m, x.length) if isinstance(x, Grown) else size_of(m, buffer.meta.shape[axis])
    window = _window(start, stop)
    if window is not None and step == 1:
        return narrowed(m, x, axis, start, window, sliced=True)
    low = _bound(m, start, 0, full)
    count = binary(m.tape, "sub", _bound(m, stop, full, full), low)
    if step > 1:
        count = binary(m.tape, "floordiv", binary(m.tape, "add", count, step - 1), step)
    count = _at_run_time(m, binary(m.tape, "max", m.as_run_time(count) if isinstance(count, Dim) else count, 0))
    if (type(low) is not int or low) or step > 1:
        places = _places(m, buffer, axis)
        index = m.tape.call(ATEN.mul.Scalar, places, step)
        index = m.tape.call(ATEN.add.Tensor, index, m.tape.number(low, int))
        last = m.tape.call(ATEN.sub.Scalar, m.tape.number(size_of(m, buffer.meta.shape[axis]), int), 1)
        index = m.tape.call(ATEN.clamp_min.default, m.tape.call(ATEN.minimum.default, index, last), 0)
        part = m.tape.call(ATEN.index_select.default, buffer, axis, index)
        m.tape.may_share(part, [buffer])
    else:
        part = buffer
    most = size_of(m, part.meta.shape[axis])
    return Grown(part, axis, Length(None, most, count))


def _at_run_time(m: Machine, value: Any) -> Num:
    return value if isinstance(value, Num) else Num(int, m.tape.number(value, int))


def _places(m: Machine, buffer: Var, axis: int) -> Var:
    count = plain(size_of(m, buffer.meta.shape[axis]))
    return m.tape.tensor(ATEN.arange.default, count, dtype=torch.int64)


def _bound(m: Machine, value: Any, default: Any, full: Any) -> Any:
    """A bound of a slice, from 0 to the length."""
    if value is None:
        return default
    if type(value) is int and value == 0:
        return 0
    var, whole = m.tape.number(value, int), m.tape.number(full, int)
    behind = m.tape.call(ATEN.add.Tensor, var, whole)
    at = m.tape.call(ATEN.where.self, m.tape.call(ATEN.lt.Scalar, var, 0), behind, var)
    return Num(int, m.tape.call(ATEN.minimum.default, m.tape.call(ATEN.clamp_min.default, at, 0), whole))


def _window(start: Any, stop: Any) -> int | None:
    """How far stop = start + constant is behind start."""
    if not (isinstance(start, Num) and isinstance(stop, Num)):
        return None
    far = offset(stop.var, start.var)
    return far if far > 0 else None


def narrowed(m: Machine, x: Var | Grown, axis: int, start: Any, count: Any, sliced: bool = False) -> Any:
    """`count` (int or Dim) entries from start on; the run checks that they are all there. sliced: a slice from -1 to 3
    is empty, and one that is cut off is nothing that eager refuses.
    """
    buffer = _tensor(x)
    full = number(m, x.length) if isinstance(x, Grown) else size_of(m, buffer.meta.shape[axis])
    first, whole = m.tape.number(start, int), m.tape.number(full, int)
    behind = m.tape.call(ATEN.add.Tensor, first, whole)
    first = m.tape.call(ATEN.where.self, m.tape.call(ATEN.lt.Scalar, first, 0), behind, first)
    last = m.tape.call(ATEN.add.Tensor, first, m.tape.number(count, int))
    low, high = m.tape.call(ATEN.lt.Scalar, first, 0), m.tape.call(ATEN.gt.Tensor, last, whole)
    outside = m.tape.call(ATEN.logical_or.default, low, high)
    what = f"a part of {describe(count)} entries reaches beyond the end of axis {axis}"
    if sliced:
        negative = m.tape.call(ATEN.lt.Scalar, m.tape.number(start, int), 0)
        across = m.tape.call(ATEN.logical_and.default, negative, m.tape.call(ATEN.ge.Tensor, last, whole))
        outside = m.tape.call(ATEN.logical_or.default, outside, across)
        what = f"{InputError.__name__}: a slice of {describe(count)} entries is shorter in this call"
    m.tape.fail(outside, what)
    safe = m.tape.call(ATEN.where.self, outside, m.tape.number(0, int), first)
    index = m.tape.call(ATEN.arange.default, plain(count), dtype=torch.int64)
    index = m.tape.call(ATEN.add.Tensor, index, safe)
    limit = m.tape.call(ATEN.sub.Scalar, m.tape.number(size_of(m, buffer.meta.shape[axis]), int), 1)
    index = m.tape.call(ATEN.clamp_min.default, m.tape.call(ATEN.minimum.default, index, limit), 0)
    return m.tape.window(buffer, axis, index)


def row(m: Machine, buffer: Var, axis: int, i: Any, n: Any, message: str = "index out of range") -> Any:
    """buffer[i] along axis, of which the first n are meant; the run checks that i is among them."""
    at = place(m, i, n, message)
    return m.torch("select", [buffer, axis, m.as_run_time(at) if isinstance(at, Dim) else at], {})


def place(m: Machine, i: Any, n: Any, message: str) -> Any:
    """An index from 0 into n entries; the run checks it, if it is not known now."""
    if not is_number(i):
        raise Refusal(f"the index {describe(i)}")
    at = i
    if type(i) is int and i < 0:
        at = binary(m.tape, "add", n, i)
    elif isinstance(i, Num):
        behind = m.tape.number(binary(m.tape, "add", i, n), int)
        at = Num(int, m.tape.call(ATEN.where.self, m.tape.call(ATEN.lt.Scalar, i.var, 0), behind, i.var))
    if type(at) is int and type(n) is int:
        if not 0 <= at < n:
            raise Raised(message)
        return at
    low = m.tape.call(ATEN.lt.Scalar, m.tape.number(at, int), 0)
    high = m.tape.call(ATEN.ge.Tensor, m.tape.number(at, int), m.tape.number(n, int))
    m.tape.fail(m.tape.call(ATEN.logical_or.default, low, high), message)
    return at
