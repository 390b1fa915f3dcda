"""What is known of integer values, with sizes that may be symbolic: that they count along one axis, v[…, i, …] =
start + step · i (what masks are computed from), and their least and greatest element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neve.ir.graph import Node, Value
from neve.ir.index import Atom, Index, IndexLike, Sym, Var
from neve.ir.types import Dim, DType, Range, dim, same
from neve.ops.activation import Clamp
from neve.ops.cast import Cast
from neve.ops.index import Embedding, Gather, IndexSelect, IndexTensors
from neve.ops.pad import Cat, Roll
from neve.ops.reduce import Argmax, Argmin
from neve.ops.scan import Cumsum
from neve.ops.shape import AsStrided, Diagonal, Expand, Flip, Permute, Repeat, Reshape, Slice, Unfold
from neve.ops.sort import Sort, TopK
from neve.ops.source import Arange, Constant, SizeOf
from neve.passes.compose_views import real_axes
from neve.passes.rewrite import Rewriter

DEPTH = 12


@dataclass(frozen=True)
class Count:
    """start + step · i along axis, counted from the right (−1 is the last); axis 0 where step is 0."""

    start: Dim
    step: Dim = 0
    axis: int = 0


def count(v: Value, rw: Rewriter, depth: int = DEPTH) -> Count | None:
    """How v counts, or None if that is not known."""
    n = rw.producer(v)
    if n is None or not v.dtype.is_int or depth == 0:
        return None
    value = rw.scalar(v)
    if value is not None:
        return Count(int(value))
    op = n.op
    if isinstance(op, SizeOf):
        return Count(op.value)
    if isinstance(op, Arange):
        plain = not isinstance(op.start, float) and not isinstance(op.step, float)
        return Count(dim(op.start), dim(op.step), -1) if plain else None
    if isinstance(op, Cat):
        return _cat(n, op, rw, depth)
    if op.name in ("add", "sub"):
        a, b = (count(x, rw, depth - 1) for x in n.inputs)
        return None if a is None or b is None else combined(a, b, 1 if op.name == "add" else -1)
    if not isinstance(op, (Reshape, Expand, Permute, Slice, Cast)):
        return None
    inner = count(n.inputs[0], rw, depth - 1)
    return None if inner is None else _viewed(inner, n)


def combined(a: Count, b: Count, sign: int) -> Count | None:
    """a + sign · b, if it counts along one axis."""
    if a.axis and b.axis and a.axis != b.axis:
        return None
    step = dim(a.step + sign * b.step)
    return Count(dim(a.start + sign * b.start), step, (a.axis or b.axis) if step != 0 else 0)


def _viewed(c: Count, n: Node) -> Count | None:
    """c as seen through a view or a cast between integers."""
    op, x = n.op, n.inputs[0]
    if isinstance(op, Cast):
        return c if op.dtype.is_int and op.dtype.size >= x.dtype.size else None
    if isinstance(op, Slice):
        if op.axis - x.type.rank != c.axis:
            return c
        return Count(dim(c.start + c.step * op.start), dim(c.step * op.step), c.axis)
    if not c.axis or isinstance(op, Expand):
        return c if not c.axis or x.shape[c.axis] != 1 else Count(c.start)
    at = c.axis + x.type.rank
    if isinstance(op, Permute):
        return Count(c.start, c.step, op.dims.index(at) - x.type.rank)
    axes = real_axes(x.shape, n.output.shape)
    if x.shape[at] == 1 or axes is None:
        return Count(c.start) if x.shape[at] == 1 else None
    return Count(c.start, c.step, next(new for new, old in axes.items() if old == at) - n.output.type.rank)


def _cat(n: Node, op: Cat, rw: Rewriter, depth: int) -> Count | None:
    """Parts that continue each other; a part of one element may begin a run of any step."""
    axis = op.axis - n.output.type.rank
    parts = [count(x, rw, depth - 1) for x in n.inputs]
    known = [(c, x.shape[op.axis]) for c, x in zip(parts, n.inputs, strict=True) if c is not None]
    if len(known) < len(parts) or any(c.axis not in (0, axis) for c, _ in known):
        return None
    step: Dim = next((c.step for c, length in known if length != 1), 0)
    at: Dim = known[0][0].start
    for c, length in known:
        if not same(c.start, at) or (length != 1 and not same(c.step, step)):
            return None
        at = dim(at + step * length)
    return Count(known[0][0].start, step, axis if step != 0 else 0)


Sizes = Mapping[Index, Range]
_PICKS = (Reshape, Permute, Expand, Slice, Flip, Repeat, Roll, Diagonal, Unfold, AsStrided, Embedding, Gather,
          IndexSelect, IndexTensors)  # fmt: skip
"""Ops each element of whose result is one of their first input."""


@dataclass(frozen=True)
class Limits:
    """low <= v <= high for every element; None where nothing is known."""

    low: Dim | None = None
    high: Dim | None = None


def not_negative(d: Dim, sizes: Sizes) -> bool:
    """Whether d >= 0 for all sizes in their ranges: proved, each taken for a variable of its own."""
    e = Index.of(d)
    values: dict[Atom, IndexLike] = {}
    for s in e.symbols:
        r = sizes.get(s, Range())
        above = s if r.max is None else Index.of(Var(str(s), Index.of(r.max - r.min + 1)))
        values[Sym(str(s))] = above + r.min
    return e.subs(values).nonnegative


def limits(v: Value, rw: Rewriter, sizes: Sizes, depth: int = DEPTH) -> Limits:
    """The least and greatest element of integers or bools that v can have, as far as they are known; of floats nothing
    is.
    """
    if v.dtype.is_float:
        return Limits()
    found = _limits(v, rw, sizes, depth) if v.dtype.is_int and depth else Limits()
    least, greatest = type_range(v.dtype)
    if v.dtype.size == 8 or (found.low is not None and found.high is not None):
        return found
    return Limits(least if found.low is None else found.low, greatest if found.high is None else found.high)


def type_range(dtype: DType) -> tuple[int, int]:
    """The least and greatest number of an integer type, or bool."""
    return (0, 1) if dtype is DType.bool else (int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max))


def _limits(v: Value, rw: Rewriter, sizes: Sizes, depth: int) -> Limits:
    n, counted = rw.producer(v), count(v, rw, depth)
    if n is None:
        return Limits()
    if counted is not None:
        last = dim(counted.start + counted.step * (v.shape[counted.axis] - 1)) if counted.axis else counted.start
        down = not not_negative(counted.step, sizes)
        if down and not not_negative(dim(-counted.step), sizes):
            return Limits()
        return Limits(last, counted.start) if down else Limits(counted.start, last)
    op = n.op
    if isinstance(op, Constant):
        a = op.tensor.array
        return Limits(int(a.min()), int(a.max())) if a.size else Limits(0, -1)
    if isinstance(op, (Argmax, Argmin)):
        x = n.inputs[0].type
        return Limits(0, dim((x.numel if op.dim is None else x.shape[op.dim] if x.rank else 1) - 1))
    if isinstance(op, (Sort, TopK)) and v is n.outputs[1]:
        x = n.inputs[0].type
        return Limits(0, dim((x.shape[op.axis] if x.rank else 1) - 1))
    if isinstance(op, Cast) and not n.inputs[0].dtype.is_int:
        return Limits(0, 1) if n.inputs[0].dtype is DType.bool else Limits()
    parts = [limits(x, rw, sizes, depth - 1) for x in n.inputs]
    if isinstance(op, _PICKS):
        return parts[0]
    if isinstance(op, Cat):
        return _either([p for p, x in zip(parts, n.inputs, strict=True) if x.shape[op.axis] != 0], sizes)
    if isinstance(op, Cast):
        return parts[0] if _fits(parts[0], v.dtype, sizes) else Limits()
    if isinstance(op, Clamp):
        least, greatest = (Limits(b, b) if isinstance(b, int) else None for b in (op.min, op.max))
        found = parts[0] if least is None else _maximum(parts[0], least, sizes)
        return found if greatest is None else _minimum(found, greatest, sizes)
    if op.name == "where":
        return _either(parts[1:], sizes)
    if op.name in _SELECTING:
        return _SELECTING[op.name](parts[0], parts[1], sizes)
    if isinstance(op, Cumsum):
        length = n.inputs[0].shape[op.axis] if v.type.rank else 1
        found = _product(parts[0], Limits(0, length), sizes)
    else:
        found = _ARITHMETIC[op.name](parts[0], parts[1], sizes) if op.name in _ARITHMETIC else Limits()
    return found if _fits(found, v.dtype, sizes) else Limits()


def _fits(x: Limits, dtype: DType, sizes: Sizes) -> bool:
    """Whether x is known on both sides and the type holds it; sizes are taken to be far below the limits of int64."""
    if x.low is None or x.high is None:
        return dtype is DType.int64
    least, greatest = type_range(dtype)
    if dtype is DType.int64:
        return all(least <= b <= greatest for b in (x.low, x.high) if isinstance(b, int))
    return not_negative(x.low - least, sizes) and not_negative(greatest - x.high, sizes)


def _larger(a: Dim | None, b: Dim | None, sizes: Sizes) -> Dim | None:
    """The larger of two bounds, if it is known which."""
    if a is None or b is None:
        return None
    return a if not_negative(dim(a - b), sizes) else b if not_negative(dim(b - a), sizes) else None


def _negated(a: Limits) -> Limits:
    return Limits(None if a.high is None else dim(-a.high), None if a.low is None else dim(-a.low))


def _either(parts: Sequence[Limits], sizes: Sizes) -> Limits:
    """Of elements that are from any of the parts."""
    out = parts[0] if parts else Limits()
    for p in parts[1:]:
        low = _larger(_negated(out).high, _negated(p).high, sizes)
        out = Limits(None if low is None else dim(-low), _larger(out.high, p.high, sizes))
    return out


def _maximum(a: Limits, b: Limits, sizes: Sizes) -> Limits:
    low = _larger(a.low, b.low, sizes)
    if low is None:
        low = a.low if a.low is not None else b.low  # each of the two is a bound
    return Limits(low, _larger(a.high, b.high, sizes))


def _minimum(a: Limits, b: Limits, sizes: Sizes) -> Limits:
    return _negated(_maximum(_negated(a), _negated(b), sizes))


def _remainder(a: Limits, b: Limits, sizes: Sizes) -> Limits:
    """Of the divisor's sign and smaller."""
    positive = b.low is not None and not_negative(b.low - 1, sizes)
    return Limits(0, None if b.high is None else dim(b.high - 1)) if positive else Limits()


def _bitwise_and(a: Limits, b: Limits, sizes: Sizes) -> Limits:
    masks = [x.high for x in (a, b) if x.low is not None and not_negative(x.low, sizes)]
    return Limits(0, next((m for m in masks if m is not None), None)) if masks else Limits()


def _sum(a: Limits, b: Limits, sizes: Sizes) -> Limits:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Limits()
    return Limits(dim(a.low + b.low), dim(a.high + b.high))


def _product(a: Limits, b: Limits, sizes: Sizes) -> Limits:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Limits()
    corners = [Limits(d, d) for d in (dim(x * y) for x in (a.low, a.high) for y in (b.low, b.high))]
    return _either(corners, sizes)


def _quotient(a: Limits, b: Limits, sizes: Sizes) -> Limits:
    """Rounded down, by one positive number."""
    if not isinstance(b.low, int) or b.low != b.high or b.low < 1 or not isinstance(a.low, int):
        return Limits()
    return Limits(a.low // b.low, a.high // b.low) if isinstance(a.high, int) else Limits()


_SELECTING: Mapping[str, Callable[[Limits, Limits, Sizes], Limits]] = {
    "maximum": _maximum,
    "minimum": _minimum,
    "remainder": _remainder,
    "bitwise_and": _bitwise_and,
    "floor_divide": _quotient,
}
_ARITHMETIC: Mapping[str, Callable[[Limits, Limits, Sizes], Limits]] = {
    "add": _sum,
    "sub": lambda a, b, sizes: _sum(a, _negated(b), sizes),
    "mul": _product,
}
"""What may overflow: known only where both sides of both operands are."""
