"""Nodes that give back their input are removed, and pairs that undo each other.

reshape, permute, slice, expand, cast, pad, flip, repeat, cat that change nothing; x·1, x/1, x − 0, x + (−0) (x + 0
for integers: for floats it turns −0 into 0); and, or, xor with their neutral element, and for integers and bool
products and masks that are constant; where(p, x, x), where on a known p; maximum(x, x), minimum(x, x); −(−x), !(!x);
cast to a type that holds every value of the first and on, as one cast. Exactness: EXACT, NaN, infinities and signed
zeros included.
"""

from __future__ import annotations

import math

from neve.ir.graph import Node, Value
from neve.ir.types import DType, same
from neve.ir.verify import same_type
from neve.ops.cast import Cast
from neve.ops.pad import Cat, Pad
from neve.ops.pointwise import Where
from neve.ops.shape import Expand, Flip, Permute, Repeat, Reshape, Slice
from neve.ops.source import Full
from neve.ops.upsample import UpsampleLinear, keeps_size
from neve.passes.rewrite import Exactness, Rewriter, rules_pass

_BITS = {DType.float64: (11, 53), DType.float32: (8, 24), DType.float16: (5, 11), DType.bfloat16: (8, 8)}
_RANGE = {
    DType.bool: (0, 1),
    DType.uint8: (0, 2**8 - 1),
    **{
        d: (-(2 ** (8 * d.size - 1)), 2 ** (8 * d.size - 1) - 1)
        for d in (DType.int8, DType.int16, DType.int32, DType.int64)
    },
}


def holds(a: DType, b: DType) -> bool:
    """Whether b represents every value of a."""
    if a is b:
        return True
    if a.is_float:
        return b.is_float and all(x <= y for x, y in zip(_BITS[a], _BITS[b], strict=True))
    low, high = _RANGE[a]
    if b.is_float:
        return bool(max(-low, high) <= 2 ** _BITS[b][1] and max(-low, high) < 2 ** (2 ** (_BITS[b][0] - 1)))
    return bool(_RANGE[b][0] <= low and high <= _RANGE[b][1])


def unchanged_view(node: Node, rw: Rewriter) -> Value | None:
    """Views and padding that do nothing."""
    op = node.op
    if not node.inputs:
        return None
    x = node.inputs[0]
    if isinstance(op, (Reshape, Expand, Slice, Repeat, Pad)):
        if same_type(x.type, node.output.type) and (not isinstance(op, Slice) or (op.step == 1 and same(op.start, 0))):
            return x if not isinstance(op, Pad) or all(same(d, 0) for pair in op.pads for d in pair) else None
    elif isinstance(op, Permute):
        return x if op.dims == tuple(range(x.type.rank)) else None
    elif isinstance(op, UpsampleLinear):
        return x if keeps_size(x.shape, op.output) else None
    elif isinstance(op, Flip):
        return x if all(x.shape[a] == 1 for a in op.dims) else None
    elif isinstance(op, Cat):
        parts = [v for v in node.inputs if v.shape[op.axis] != 0]
        if len(parts) == 1:
            return parts[0]
        return rw.emit(op, *parts) if 0 < len(parts) < len(node.inputs) else None
    return None


def casts(node: Node, rw: Rewriter) -> Value | None:
    """cast(x) to x's own type; cast(cast(x, wide), narrow) as cast(x, narrow)."""
    if not isinstance(node.op, Cast):
        return None
    (x,) = node.inputs
    if x.dtype is node.op.dtype:
        return x
    inner = rw.op(x, "cast")
    if inner is None or not holds(inner.inputs[0].dtype, x.dtype):
        return None
    source, target = inner.inputs[0].dtype, node.op.dtype
    if source.is_float and target.is_int and source is not DType.float64:
        return None  # out-of-range values take a path that depends on the float type
    return rw.emit(node.op, inner.inputs[0])


def neutral(node: Node, rw: Rewriter) -> Value | None:
    """Arithmetic with a neutral element."""
    name = node.op.name
    if name not in _NEUTRAL:
        return None
    for i in (1, 0) if name not in ("sub", "div") else (1,):
        value, dtype = rw.scalar(node.inputs[i]), node.inputs[i].dtype
        if value is None:
            continue
        if _is_neutral(name, value, dtype):
            return _as(node, node.inputs[1 - i], rw)
        if not dtype.is_float and _is_absorbing(name, value, dtype):
            return rw.emit(Full(node.output.shape, value, dtype))
    return None


def _is_neutral(name: str, value: float, dtype: DType) -> bool:
    if name == "add" and dtype.is_float:
        return value == 0 and math.copysign(1, value) < 0
    if name == "sub" and dtype.is_float:
        return value == 0 and math.copysign(1, value) > 0
    if name.startswith("logical") and dtype is not DType.bool:
        return False
    if dtype is DType.bool:
        return value is (name in ("mul", "logical_and", "bitwise_and"))
    return value == _NEUTRAL[name]


_NEUTRAL = {
    "add": 0,
    "sub": 0,
    "mul": 1,
    "div": 1,
    "logical_and": 1,
    "logical_or": 0,
    "logical_xor": 0,
    "bitwise_and": -1,
    "bitwise_or": 0,
    "bitwise_xor": 0,
}


def _is_absorbing(name: str, value: float, dtype: DType) -> bool:
    """Whether op(x, value) is value for every x; integers and bool."""
    if dtype is DType.bool:
        return (name in ("mul", "logical_and", "bitwise_and") and not value) or (
            name in ("add", "logical_or", "bitwise_or") and bool(value)
        )
    return value == {"mul": 0, "bitwise_and": 0, "bitwise_or": -1}.get(name)


def _as(node: Node, x: Value, rw: Rewriter) -> Value | None:
    """x broadcast to the node's shape."""
    if x.dtype is not node.output.dtype:
        return None
    return x if same_type(x.type, node.output.type) else rw.emit(Expand(node.output.shape), x)


def idempotent(node: Node, rw: Rewriter) -> Value | None:
    """Both sides the same; known conditions; negation twice."""
    name = node.op.name
    if isinstance(node.op, Where):
        p, a, b = node.inputs
        known = rw.scalar(p)
        if a is b:
            return _as(node, a, rw)
        return None if known is None else _as(node, a if known else b, rw)
    if name in ("maximum", "minimum") and node.inputs[0] is node.inputs[1]:
        return node.inputs[0]
    if name in ("neg", "logical_not", "bitwise_not"):
        inner = rw.op(node.inputs[0], name)
        return inner.inputs[0] if inner is not None and inner.inputs[0].dtype is node.output.dtype else None
    if name in ("abs", "relu"):
        return node.inputs[0] if rw.op(node.inputs[0], name) is not None else None
    return None


PASS = rules_pass("remove_identities", Exactness.EXACT, unchanged_view, casts, neutral, idempotent, repeat=4)
