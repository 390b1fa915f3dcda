"""scaled_dot_product_attention(q·c, k·d, v, scale=s) = …(q, k, v, scale=s·c·d) for numbers c, d: one multiplication
that the kernel does anyway.

scale None is 1/√D and needs a static D. Exactness: ROUNDING. Declined where the scaled q or k has another use.
"""

from __future__ import annotations

import math
from dataclasses import replace

from neve.ir.graph import Node, Value
from neve.ops.attention import Attention
from neve.passes.match import has_shape, product
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def fold(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, Attention):
        return None
    d = node.inputs[0].shape[-1]
    scale = node.op.scale if node.op.scale is not None else 1 / math.sqrt(d) if isinstance(d, int) and d > 0 else None
    if scale is None:
        return None
    plain = [_plain(v, rw) for v in node.inputs[:2]]
    number = math.prod(c for _, c in plain)
    if all(a is b for (a, _), b in zip(plain, node.inputs[:2], strict=True)):
        return None
    if number == 0 or not math.isfinite(number * scale):
        return rw.miss("the scale would be 0 or infinite")
    return rw.emit(replace(node.op, scale=scale * number), plain[0][0], plain[1][0], *node.inputs[2:])


def _plain(v: Value, rw: Rewriter) -> tuple[Value, float]:
    n = rw.producer(v)
    if n is None or n.op.name not in ("mul", "div") or rw.uses(v) != 1:
        return v, 1.0
    p = product(v, rw, depth=2)
    return (p.factors[0], p.number) if len(p.factors) == 1 and has_shape(p.factors[0], v.shape) else (v, 1.0)


PASS = rules_pass("fold_attention_scale", Exactness.ROUNDING, fold)
