"""Arithmetic with a constant a channel goes into the weights of the convolution, conv_transpose or linear before it.

op(x, w, b) + c = op(x, w, b + c); − c likewise; c − op(x, w, b) = op(x, −w, c − b); · c = op(x, w·c, b·c); / c =
op(x, w/c, b/c). c is a number, or constant and varying along the output channels alone (aligned as broadcasting
aligns it), and leaves the shape as it is. Declined if op's result has another use, and before a step: op on integers
is exact, its products with c are not.
Exactness: ROUNDING (computed in float64, rounded once).
"""

from __future__ import annotations

import numpy as np

from neve.ir.graph import Node, Value
from neve.passes.rewrite import Exactness, Rewriter, rules_pass
from neve.passes.weights import channel_axis, per_channel, rescaled, weighted


def fold(node: Node, rw: Rewriter) -> Value | None:
    name = node.op.name
    if name not in ("add", "sub", "mul", "div", "neg") or not node.output.dtype.is_float:
        return None
    for i, x in enumerate(node.inputs):
        inner = weighted(x, rw)
        if inner is None or (name == "div" and i == 1):
            continue
        if name == "neg":
            factors: tuple[np.ndarray | None, np.ndarray | None] | None = (-np.ones(x.shape[channel_axis(inner)]), None)
        else:
            c = per_channel(node.inputs[1 - i], x, node.output, channel_axis(inner), rw)
            factors = None if c is None else _factors(name, i, c)
        if factors is None:
            continue
        if rw.uses(x) > 1:
            return rw.miss(f"{inner.op.name} output is shared")
        if rw.before_step(node.output) and name != "neg":
            return rw.miss("the result decides a step")
        return rescaled(inner, *factors, rw)
    return None


def _factors(name: str, position: int, c: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None] | None:
    """(scale, shift) of the op with the weighted result at position and c on the other side."""
    if name == "add":
        return None, c
    if name == "sub":
        return (None, -c) if position == 0 else (-np.ones_like(c), c)
    if name == "mul":
        return c, None
    with np.errstate(all="ignore"):
        inverse = 1 / c
    return (inverse, None) if np.isfinite(inverse).all() else None


PASS = rules_pass("fold_affine", Exactness.ROUNDING, fold)
