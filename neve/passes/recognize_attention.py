"""softmax(scale · q kᵀ + mask) v = scaled_dot_product_attention(q, k, v, mask), the scale as an attribute.

The scale is a number that multiplies or divides q, kᵀ or the scores; the mask is added, of the scores' type. The
scores must have no other use. Keys and values whose heads are repeated (reshape, expand, reshape) are read in place
with enable_gqa. A mask that is constant and lets everything pass goes; one that is the lower triangle becomes
is_causal. Exactness: ROUNDING. Declined: a mask that might hold −∞ in a whole row (NaN when spelled out, zeros in
attention), other softmax axes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from neve.ir.graph import Node, Value
from neve.ir.types import DType, broadcast, same
from neve.ops.attention import Attention
from neve.ops.cast import Cast
from neve.ops.matmul import MatMul
from neve.ops.norm import Softmax
from neve.ops.shape import Expand, Permute, Reshape
from neve.passes.match import Product, has_shape, product
from neve.passes.ranges import Count, count
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def attention(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, MatMul):
        return None
    p, v = node.inputs
    soft = rw.producer(p)
    if soft is None or not isinstance(soft.op, Softmax):
        return None
    if soft.op.dim != p.type.rank - 1:
        return rw.miss("softmax is not over the last axis")
    if rw.uses(p) != 1:
        return rw.miss("the probabilities have another use")
    scores, mask = _split_mask(soft.inputs[0], rw)
    found = _scores(scores, rw)
    if found is None:
        return None
    scale, matmul = found
    if mask is not None and not finite(mask, rw):
        return rw.miss("the mask may hold −inf in a whole row")
    q, kt = matmul.inputs
    q, scale = _unscaled(q, scale, rw)
    kt, scale = _unscaled(kt, scale, rw)
    rank = kt.type.rank
    k = rw.emit(Permute((*range(rank - 2), rank - 1, rank - 2)), kt)
    lead = broadcast(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    if not (math.isfinite(scale) and all(has_shape(t, (*lead, *t.shape[-2:])) for t in (q, k, v))):
        return rw.miss("leading dims of q, k and v differ")
    return rw.emit(Attention(scale=scale), q, k, v, *(() if mask is None else (mask,)))


def _split_mask(x: Value, rw: Rewriter) -> tuple[Value, Value | None]:
    """scores + mask as (scores, mask); the scores are the side that a matmul makes."""
    n = rw.op(x, "add")
    if n is None or rw.uses(x) != 1:
        return x, None
    for i in (0, 1):
        if has_shape(n.inputs[i], x.shape) and _scores(n.inputs[i], rw) is not None:
            return n.inputs[i], n.inputs[1 - i]
    return x, None


def _scores(x: Value, rw: Rewriter) -> tuple[float, Node] | None:
    """(scale, matmul) if x is scale · matmul."""
    p = product(x, rw, root=rw.uses(x) == 1)
    n = rw.producer(p.factors[0]) if len(p.factors) == 1 else None
    return (p.number, n) if n is not None and isinstance(n.op, MatMul) and rw.uses(n.output) == 1 else None


def _unscaled(v: Value, scale: float, rw: Rewriter) -> tuple[Value, float]:
    """v without a number that multiplies it, and the scale with it."""
    n = rw.producer(v)
    p: Product = product(v, rw, depth=2) if n is not None and n.op.name in ("mul", "div") else Product(1.0, (v,))
    if len(p.factors) == 1 and p.factors[0] is not v and has_shape(p.factors[0], v.shape):
        return p.factors[0], scale * p.number
    return v, scale


def finite(v: Value, rw: Rewriter, depth: int = 12) -> bool:
    """Whether v provably holds neither infinities nor NaN, but for overflow of finite numbers."""
    n = rw.producer(v)
    if v.dtype.is_int or v.dtype is DType.bool:
        return True
    if n is None or depth == 0:
        return False
    array = rw.array(v)
    if array is not None:
        return bool(np.isfinite(array).all())
    value = rw.scalar(v)
    if value is not None:
        return math.isfinite(value)
    if n.op.name in (
        "where",
        "add",
        "sub",
        "mul",
        "minimum",
        "maximum",
        "clamp",
        "neg",
        "reshape",
        "expand",
        "slice",
        "permute",
        "cat",
        "tril",
        "triu",
    ):
        return all(finite(x, rw, depth - 1) for x in n.inputs)
    return isinstance(n.op, Cast) and (finite(n.inputs[0], rw, depth - 1))


def repeated_heads(node: Node, rw: Rewriter) -> Value | None:
    """k and v made by repeating each head n times: the unrepeated ones, with enable_gqa."""
    if not isinstance(node.op, Attention) or node.op.enable_gqa:
        return None
    k, v = (_unrepeated(x, rw) for x in node.inputs[1:3])
    if k is None or v is None or not same(k.shape[-3], v.shape[-3]):
        return None
    return rw.emit(replace(node.op, enable_gqa=True), node.inputs[0], k, v, *node.inputs[3:])


def _unrepeated(x: Value, rw: Rewriter) -> Value | None:
    """(B, H, S, D) if x is its (B, H, 1, S, D) expanded to (B, H, n, S, D) as (B, H·n, S, D)."""
    outer = rw.producer(x)
    expand = rw.producer(outer.inputs[0]) if outer is not None and isinstance(outer.op, Reshape) else None
    inner = rw.producer(expand.inputs[0]) if expand is not None and isinstance(expand.op, Expand) else None
    if (
        expand is None
        or inner is None
        or x.type.rank != 4
        or not isinstance(inner.op, Reshape)
        or len(expand.output.shape) != 5
    ):
        return None
    b, h, n, s, d = expand.output.shape
    source = inner.inputs[0]
    plain = has_shape(inner.output, (b, h, 1, s, d)) and has_shape(x, (b, h * n, s, d))
    if not plain or not isinstance(h, int) or not isinstance(n, int):
        return None
    return source if has_shape(source, (b, h, s, d)) else rw.emit(Reshape((b, h, s, d)), source)


def constant_mask(node: Node, rw: Rewriter) -> Value | None:
    """Masks known at compile time: none, or causal."""
    if not isinstance(node.op, Attention) or len(node.inputs) != 4:
        return None
    mask = node.inputs[3]
    value = rw.scalar(mask)
    if value is True or (value == 0 and mask.dtype is not DType.bool):
        return rw.emit(node.op, *node.inputs[:3])
    if _is_lower_triangle(mask, node, rw):
        return rw.emit(replace(node.op, is_causal=True), *node.inputs[:3])
    array = rw.array(mask)
    if array is None or array.ndim < 2 or array.size == 0:
        return None
    seen = array if mask.dtype is DType.bool else array == 0
    if not bool((seen | (array <= _BLOCKED)).all()) and mask.dtype is not DType.bool:
        return None
    if seen.all():
        return rw.emit(node.op, *node.inputs[:3])
    scores = (node.inputs[0].shape[-2], node.inputs[1].shape[-2])
    causal = array.shape[-2:] == scores and bool((seen == np.tri(*array.shape[-2:]).astype(bool)).all())
    return rw.emit(replace(node.op, is_causal=True), *node.inputs[:3]) if causal else None


def _is_lower_triangle(mask: Value, node: Node, rw: Rewriter) -> bool:
    """Whether mask[…, i, j] is j ≤ i for ranges i and j over queries and keys, of sizes that may be symbolic."""
    n = rw.producer(mask)
    if n is None or n.op.name not in ("le", "ge"):
        return False
    j, i = (count(v, rw) for v in (n.inputs if n.op.name == "le" else n.inputs[::-1]))
    scores = (node.inputs[0].shape[-2], node.inputs[1].shape[-2])
    return (
        j == Count(0, 1, -1)
        and i == Count(0, 1, -2)
        and all(same(a, b) for a, b in zip(mask.shape[-2:], scores, strict=True))
    )


_BLOCKED = -1e30

PASS = rules_pass("recognize_attention", Exactness.ROUNDING, attention, repeated_heads, constant_mask)
