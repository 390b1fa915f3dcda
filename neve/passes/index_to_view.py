"""x[i, j, …] by index tensors that are numbers or whole ranges, each along an axis of its own, is a slice,
permutation and reshape of x.

x[0, arange(n)] with n the axis's size is x's row 0: the form in which attention masks are built.
Exactness: EXACT: elements only move. Declined: numbers out of range, ranges that are not the whole axis.
"""

from __future__ import annotations

import numpy as np

from neve.ir.graph import Node, Value
from neve.ir.types import Dim, DType, broadcast, same
from neve.ops.index import IndexTensors
from neve.ops.shape import Expand, Permute, Reshape, Slice
from neve.ops.source import Arange, Constant
from neve.passes.compose_views import real_axes
from neve.passes.match import has_shape
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def to_view(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, IndexTensors):
        return None
    x, indices = node.inputs[0], node.inputs[1:]
    shape = broadcast(*(v.shape for v in indices))
    places: dict[int, int] = {}
    for axis, v in zip(node.op.axes, indices, strict=True):
        value = rw.scalar(v)
        if value is not None:
            size = x.shape[axis]
            if not isinstance(size, int) or not -size <= value < size:
                return None
            at = int(value) % size
            x = rw.emit(Slice(axis, at, at + 1), x)
            continue
        place = whole_range(v, x.shape[axis], rw)
        if place is None or place + len(shape) - v.type.rank in places:
            return None
        places[place + len(shape) - v.type.rank] = axis
    return _view(node, x, shape, places, rw)


def whole_range(v: Value, size: Dim, rw: Rewriter) -> int | None:
    """The axis of v along which it counts 0, 1, … size − 1, all its other axes being 1; None if it is anything else."""
    n = rw.producer(v)
    if n is None or v.dtype is DType.bool:
        return None
    if isinstance(n.op, Arange):
        return 0 if n.op.start == 0 and n.op.step == 1 and same(n.op.length, size) else None
    if isinstance(n.op, Reshape):
        inner = whole_range(n.inputs[0], size, rw)
        axes = real_axes(n.inputs[0].shape, v.shape)
        return None if inner is None or axes is None else next((new for new, old in axes.items() if old == inner), None)
    array = n.op.tensor.array if isinstance(n.op, Constant) else None
    if array is None or array.size != size or not np.array_equal(array.reshape(-1), np.arange(array.size)):
        return None
    return next((i for i, d in enumerate(array.shape) if d == array.size), None)


def _view(node: Node, x: Value, shape: tuple[object, ...], places: dict[int, int], rw: Rewriter) -> Value:
    """x, whose plainly indexed axes are 1 already, with its ranged axes where the index tensors count along them."""
    assert isinstance(node.op, IndexTensors)
    op = node.op
    first = op.axes[0] if op.axes[-1] - op.axes[0] == len(op.axes) - 1 else 0
    rest = [a for a in range(x.type.rank) if a not in op.axes]
    moved = [places[p] for p in sorted(places)]
    dropped = [a for a in op.axes if a not in moved]
    y = rw.emit(Permute((*rest[:first], *moved, *rest[first:], *dropped)), x)
    middle = [x.shape[places[p]] if p in places else 1 for p in range(len(shape))]
    small = (*(x.shape[a] for a in rest[:first]), *middle, *(x.shape[a] for a in rest[first:]))
    y = rw.emit(Reshape(small), y)
    return y if has_shape(y, node.output.shape) else rw.emit(Expand(node.output.shape), y)


PASS = rules_pass("index_to_view", Exactness.EXACT, to_view)
