"""pointwise(expand(x), y) = pointwise(x, y) where y alone gives the result its shape; so for matmul's leading dims
and attention's mask.

An op that broadcasts by itself needs no expanded operand. If every operand is expanded, the op runs on the small ones
and its result is expanded.
Exactness: EXACT.
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ir.verify import same_type
from neve.ops.attention import Attention
from neve.ops.cast import Cast
from neve.ops.matmul import MatMul
from neve.ops.pointwise import Pointwise
from neve.ops.shape import Expand
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def drop(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, (Pointwise, Cast, MatMul, Attention)):
        return None
    mask_only = isinstance(node.op, Attention)
    small = [v if mask_only and i < 3 else _unexpanded(v, rw) for i, v in enumerate(node.inputs)]
    if all(a is b for a, b in zip(small, node.inputs, strict=True)):
        return None
    if isinstance(node.op, (MatMul, Attention)):
        return _try(node, small, rw)
    if len(node.inputs) == 1:
        return _expanded(rw.emit(node.op, *small), node, rw)
    whole = _try(node, small, rw)
    if whole is not None:
        return whole
    if all(a is not b for a, b in zip(small, node.inputs, strict=True)):
        return _expanded(rw.emit(node.op, *small), node, rw)
    return _one_by_one(node, small, rw)


def _unexpanded(v: Value, rw: Rewriter) -> Value:
    n = rw.op(v, "expand")
    return v if n is None else n.inputs[0]


def _expanded(v: Value, node: Node, rw: Rewriter) -> Value:
    return v if same_type(v.type, node.output.type) else rw.emit(Expand(node.output.shape), v)


def _try(node: Node, inputs: list[Value], rw: Rewriter) -> Value | None:
    """The op on inputs if it gives the same type, else None."""
    try:
        (t,) = node.op.infer(*(v.type for v in inputs))
    except ValueError:
        return None
    return rw.emit(node.op, *inputs) if same_type(t, node.output.type) else None


def _one_by_one(node: Node, small: list[Value], rw: Rewriter) -> Value | None:
    """As many operands unexpanded as the shape allows."""
    inputs = list(node.inputs)
    for i, v in enumerate(small):
        trial = [*inputs[:i], v, *inputs[i + 1 :]]
        if v is not inputs[i] and same_type(node.op.infer(*(t.type for t in trial))[0], node.output.type):
            inputs = trial
    return rw.emit(node.op, *inputs) if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)) else None


PASS = rules_pass("drop_expands", Exactness.EXACT, drop)
