"""Chains of views become one view.

reshape∘reshape, permute∘permute, expand∘expand, slice∘slice of one axis; a permutation that moves only axes of size 1
is a reshape; permute∘reshape∘permute where the reshape only adds or drops axes of size 1 is one permutation and a
reshape; a slice of a cat that lies in one part is a slice of that part; a cat of adjoining slices of one tensor is
one slice; cat of cats on one axis is one cat. Exactness: EXACT: elements only move.
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ir.types import Dim, dim, same
from neve.ir.verify import same_type
from neve.ops.pad import Cat
from neve.ops.shape import Expand, Permute, Reshape, Slice
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def reshapes(node: Node, rw: Rewriter) -> Value | None:
    """reshape(reshape(x))."""
    if not isinstance(node.op, Reshape):
        return None
    inner = rw.op(node.inputs[0], "reshape")
    return None if inner is None else rw.emit(node.op, inner.inputs[0])


def permutes(node: Node, rw: Rewriter) -> Value | None:
    """permute(permute(x)); permutations of axes of size 1 alone."""
    if not isinstance(node.op, Permute):
        return None
    (x,) = node.inputs
    inner = rw.op(x, "permute")
    if inner is not None:
        assert isinstance(inner.op, Permute)
        return rw.emit(Permute(tuple(inner.op.dims[d] for d in node.op.dims)), inner.inputs[0])
    moved = [d for d in node.op.dims if x.shape[d] != 1]
    return rw.emit(Reshape(node.output.shape), x) if moved == sorted(moved) else None


def permute_reshape_permute(node: Node, rw: Rewriter) -> Value | None:
    """permute(reshape(permute(x))) with a reshape that adds or drops 1s: reshape(permute(x)), and no permutation
    where they cancel.
    """
    if not isinstance(node.op, Permute):
        return None
    middle = rw.op(node.inputs[0], "reshape")
    inner = rw.op(middle.inputs[0], "permute") if middle is not None else None
    if middle is None or inner is None:
        return None
    assert isinstance(inner.op, Permute)
    axes = real_axes(middle.inputs[0].shape, middle.output.shape)
    if axes is None:
        return None
    order = [inner.op.dims[axes[d]] for d in node.op.dims if d in axes]
    x = inner.inputs[0]
    rest = [d for d in range(x.type.rank) if d not in order]
    if [*order, *rest] != sorted(rest + order):
        x = rw.emit(Permute((*order, *rest)), x)
    return x if same_type(x.type, node.output.type) else rw.emit(Reshape(node.output.shape), x)


def real_axes(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> dict[int, int] | None:
    """new axis → old axis for the axes that are not 1, if a reshape from old to new only adds or drops 1s; else
    None.
    """
    a = [i for i, d in enumerate(old) if d != 1]
    b = [i for i, d in enumerate(new) if d != 1]
    if len(a) != len(b) or not all(same(old[i], new[j]) for i, j in zip(a, b, strict=True)):
        return None
    return dict(zip(b, a, strict=True))


def expands(node: Node, rw: Rewriter) -> Value | None:
    """expand(expand(x))."""
    if not isinstance(node.op, Expand):
        return None
    inner = rw.op(node.inputs[0], "expand")
    return None if inner is None else rw.emit(node.op, inner.inputs[0])


def slices(node: Node, rw: Rewriter) -> Value | None:
    """slice(slice(x)) on one axis; slice(cat(…)) within one part."""
    op = node.op
    if not isinstance(op, Slice):
        return None
    inner = rw.producer(node.inputs[0])
    if inner is None or getattr(inner.op, "axis", None) != op.axis:
        return None
    if isinstance(inner.op, Slice):
        first = dim(inner.op.start + op.start * inner.op.step)
        step = op.step * inner.op.step
        stop = dim(inner.op.start + op.stop * inner.op.step) if inner.op.step == 1 else None
        length = op.length
        if stop is None:
            stop = dim(first + (length - 1) * step + 1) if isinstance(length, int) and length > 0 else None
        return None if stop is None else rw.emit(Slice(op.axis, first, stop, step), inner.inputs[0])
    return _slice_of_cat(op, inner, rw) if isinstance(inner.op, Cat) else None


def _slice_of_cat(op: Slice, cat: Node, rw: Rewriter) -> Value | None:
    if not isinstance(op.start, int) or not isinstance(op.stop, int):
        return None
    at = 0
    for part in cat.inputs:
        n = part.shape[op.axis]
        if not isinstance(n, int):
            return None
        if at <= op.start and op.stop <= at + n:
            return rw.emit(Slice(op.axis, op.start - at, op.stop - at, op.step), part)
        at += n
    return None


def cats(node: Node, rw: Rewriter) -> Value | None:
    """cat(cat(…), …) on one axis; cat of slices of one tensor that adjoin."""
    op = node.op
    if not isinstance(op, Cat):
        return None
    parts: list[Value] = []
    for v in node.inputs:
        inner = rw.op(v, "cat")
        nested = inner is not None and inner.op == op and rw.uses(v) == 1
        parts.extend(inner.inputs if inner is not None and nested else (v,))
    merged = _merge_slices(parts, op.axis, rw)
    if len(parts) == len(node.inputs) and len(merged) == len(parts):
        return None
    return rw.emit(op, *merged) if len(merged) > 1 else merged[0]


def _merge_slices(parts: list[Value], axis: int, rw: Rewriter) -> list[Value]:
    out: list[Value] = []
    for v in parts:
        before = rw.op(out[-1], "slice") if out else None
        this = rw.op(v, "slice")
        if before is not None and this is not None and before.inputs[0] is this.inputs[0]:
            a, b = before.op, this.op
            assert isinstance(a, Slice) and isinstance(b, Slice)
            if a.axis == b.axis == axis and a.step == b.step == 1 and same(a.stop, b.start):
                out[-1] = rw.emit(Slice(axis, a.start, b.stop), this.inputs[0])
                continue
        out.append(v)
    return out


PASS = rules_pass("compose_views", Exactness.EXACT, reshapes, permute_reshape_permute, permutes, expands, slices, cats)
