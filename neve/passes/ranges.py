"""Integer values that count along one axis, v[…, i, …] = start + step · i, with sizes that may be symbolic: what
masks are computed from.
"""

from __future__ import annotations

from dataclasses import dataclass

from neve.ir.graph import Node, Value
from neve.ir.types import Dim, dim, same
from neve.ops.cast import Cast
from neve.ops.pad import Cat
from neve.ops.shape import Expand, Permute, Reshape, Slice
from neve.ops.source import Arange, SizeOf
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
