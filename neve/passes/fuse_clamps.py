"""Chains of relu, clamp, maximum and minimum with numbers become one clamp: y = min(max(x, lo), hi); or relu, if that
is what is left.

With [lo, hi] so far, max(y, c) = min(max(x, max(lo, c)), max(hi, c)) and min(y, d) = min(max(x, min(lo, d)), min(hi,
d)): each inner bound is clamped into the outer interval, which is right for disjoint intervals too, where the result
is one number. A bound that no value of the type passes (±∞, the extremes of integers) is dropped.
Exactness: EXACT; NaN stays NaN. Bounds that are zeros of both signs are left alone; which of −0 and 0 is the larger
one is open, as in torch.
"""

from __future__ import annotations

import math

import numpy as np

from neve.ir.graph import Node, Value
from neve.ir.types import DType
from neve.ir.verify import same_type
from neve.ops.activation import Clamp, Relu
from neve.ops.pointwise import Maximum, Minimum
from neve.passes.rewrite import Exactness, Rewriter, rules_pass

_CLAMPS = (Relu, Clamp, Maximum, Minimum)


def fuse(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, _CLAMPS) or node.output.dtype is DType.bool:
        return None
    found_steps: list[tuple[bool, float]] = []
    v, links = node.output, 0
    at: Node | None = node
    while at is not None and isinstance(at.op, _CLAMPS) and (at is node or rw.uses(v) == 1):
        found = steps(at, rw)
        if found is None:
            break
        v, more = found
        found_steps.extend(more)
        links += 1
        at = rw.producer(v)
    if not found_steps or any(math.isnan(b) for _, b in found_steps):
        return None
    if {math.copysign(1, b) for _, b in found_steps if b == 0 and isinstance(b, float)} == {1.0, -1.0}:
        return rw.miss("the bounds are zeros of both signs")
    return _emit(node, v, *interval(found_steps, node.output.dtype), links, rw)


def steps(node: Node, rw: Rewriter) -> tuple[Value, list[tuple[bool, float]]] | None:
    """x and the (is maximum, bound) steps on it, last first, if the node leaves x's shape."""
    op = node.op
    if isinstance(op, Relu):
        return node.inputs[0], [(True, 0.0 if node.output.dtype.is_float else 0)]
    if isinstance(op, Clamp):
        bounds = [(False, op.max)] if op.max is not None else []
        return node.inputs[0], bounds + ([(True, op.min)] if op.min is not None else [])
    for i in (1, 0):
        bound, x = rw.scalar(node.inputs[i]), node.inputs[1 - i]
        if bound is not None and same_type(x.type, node.output.type) and rw.scalar(x) is None:
            return x, [(isinstance(op, Maximum), bound)]
    return None


def interval(chain: list[tuple[bool, float]], dtype: DType) -> tuple[float | None, float | None]:
    """lo and hi of all the steps of a chain, last first; None where a bound does nothing."""
    low, high = _extremes(dtype)
    lo, hi = low, high
    for is_max, c in reversed(chain):
        lo, hi = (max(lo, c), max(hi, c)) if is_max else (min(lo, c), min(hi, c))
    return (None if lo == low else lo), (None if hi == high else hi)


def _emit(node: Node, x: Value, lo: float | None, hi: float | None, links: int, rw: Rewriter) -> Value | None:
    if lo is None and hi is None:
        return x
    positive_zero = lo is not None and lo == 0 and math.copysign(1, lo) > 0
    if hi is None and positive_zero:
        return rw.emit(Relu(), x) if links > 1 or not isinstance(node.op, Relu) else None
    if links == 1 and isinstance(node.op, Clamp) and (node.op.min, node.op.max) == (lo, hi):
        return None
    return rw.emit(Clamp(lo, hi), x)


def _extremes(dtype: DType) -> tuple[float, float]:
    if dtype.is_float:
        return -math.inf, math.inf
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


PASS = rules_pass("fuse_clamps", Exactness.EXACT, fuse)
