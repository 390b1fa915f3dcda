"""op(constants) is evaluated at compile time by `Op.eval`; `if` on a constant is its branch.

Values that are one number everywhere become fills, but for views of constants, which may be weights; fills, also of
symbolic shape, fold through views, casts and pointwise ops. Expansions of constants are never stored. A result of more
than LIMIT bytes is stored only if its constant inputs are as large.
Exactness: EXACT. Effects, state and loops are never evaluated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neve.errors import NeveError
from neve.ir.graph import Node, Value
from neve.ir.interpret import evaluate
from neve.ir.walk import attribute_symbols, subgraphs, touches_state
from neve.ops.cast import Cast
from neve.ops.control import If
from neve.ops.pointwise import Pointwise
from neve.ops.shape import Expand, Flip, Permute, Repeat, Reshape, Slice
from neve.ops.source import Arange, Constant, Full, SizeOf
from neve.passes.rewrite import Exactness, Rewriter, rules_pass

LIMIT = 4 << 20
_VIEWS = (Reshape, Permute, Slice, Flip)
_SOURCES = (Constant, Full, Arange)


def fold_uniform(node: Node, rw: Rewriter) -> Value | None:
    """A view, cast or pointwise op on fills is a fill."""
    if not node.inputs or not isinstance(node.op, (*_VIEWS, Expand, Repeat, Cast, Pointwise)):
        return None
    values = [rw.scalar(v) if isinstance(getattr(rw.producer(v), "op", None), Full) else None for v in node.inputs]
    if any(v is None for v in values):
        return None
    out = node.output.type
    value: Any = values[0]
    if isinstance(node.op, (Cast, Pointwise)):
        arrays = [np.asarray(v, i.dtype.numpy) for v, i in zip(values, node.inputs, strict=True)]
        value = evaluate(node.op, arrays, [out.dtype])[0].item()
    return rw.emit(Full(out.shape, value, out.dtype))


def fold(node: Node, rw: Rewriter) -> tuple[Value, ...] | None:
    """A node on constants becomes constants."""
    if isinstance(node.op, SizeOf) and isinstance(node.op.value, int):
        return (rw.number(node.op.value, node.output.dtype),)
    if isinstance(node.op, (*_SOURCES, Expand)) or not node.outputs or not _foldable(node):
        return None
    inputs = [known(v, rw) for v in node.inputs]
    if any(a is None for a in inputs):
        return None
    size = sum(int(v.type.numel) * v.dtype.size for v in node.outputs)
    if size > max(LIMIT, sum(_stored(v, rw) for v in node.inputs)):
        rw.miss(f"{node.op.name} of constants would store {size >> 20} MiB")
        return None
    try:
        outs = evaluate(node.op, [a for a in inputs if a is not None], [v.dtype for v in node.outputs])
    except (NeveError, NotImplementedError) as e:
        rw.miss(f"{node.op.name} of constants cannot be evaluated: {e or type(e).__name__}")
        return None
    if isinstance(node.op, _VIEWS) and _stored(node.inputs[0], rw):
        return (rw.constant(outs[0], node.output.dtype, node.output.name),)
    return tuple(store(a, v, rw) for a, v in zip(outs, node.outputs, strict=True))


def _foldable(node: Node) -> bool:
    return (
        not touches_state(node.op)
        and not any(subgraphs(node.op))
        and not attribute_symbols(node.op)
        and all(v.type.is_static for v in node.outputs)
    )


def known(v: Value, rw: Rewriter, depth: int = 4) -> np.ndarray | None:
    """v's content where it is a constant, a fill, a range, or a constant expanded; without storing it."""
    n = rw.producer(v)
    if n is None or not v.type.is_static:
        return None
    if isinstance(n.op, Arange) and not attribute_symbols(n.op):
        return evaluate(n.op, (), [v.dtype])[0]
    if isinstance(n.op, Expand) and depth:
        inner = known(n.inputs[0], rw, depth - 1)
        return None if inner is None else np.broadcast_to(inner, v.type.at({}))
    return rw.array(v, 1 << 24)


def _stored(v: Value, rw: Rewriter) -> int:
    n = rw.producer(v)
    return n.op.tensor.array.size * v.dtype.size if n is not None and isinstance(n.op, Constant) else 0


def store(a: np.ndarray, like: Value, rw: Rewriter) -> Value:
    """a as a fill if all its elements are the same bits, else as a constant."""
    flat = np.ascontiguousarray(a).reshape(-1)
    if flat.size and flat.dtype.kind in "fiub":
        bits = flat.view(f"u{flat.itemsize}")
        if bits[0] == bits[-1] and bool((bits == bits[0]).all()):
            return rw.emit(Full(tuple(a.shape), flat[0].item(), like.dtype))
    return rw.constant(a, like.dtype, like.name)


def inline_if(node: Node, rw: Rewriter) -> tuple[Value, ...] | None:
    """`if` on a known predicate."""
    if not isinstance(node.op, If):
        return None
    predicate = rw.scalar(node.inputs[0])
    return None if predicate is None else rw.inline(node.op.then if predicate else node.op.orelse, node.inputs[1:])


PASS = rules_pass("fold_constants", Exactness.EXACT, inline_if, fold_uniform, fold)
