"""batch_norm(op(x, w, b)) = op(x, w·s, (b − mean)·s + bias) with s = weight / √(var + eps), for convolution,
conv_transpose and linear.

The statistics are constants, b counts as 0 if there is none. Each call gets its own weights, so sharing one weight
between a normalised and a bare call is right. Declined: op's result has another use (it would be computed twice),
statistics that are no constants, a linear of rank > 2 (its channels are the last axis, the norm's the second).
Exactness: ROUNDING (computed in float64, rounded once).
"""

from __future__ import annotations

import numpy as np

from neve.ir.graph import Node, Value
from neve.ops.norm import BatchNorm
from neve.passes.rewrite import Exactness, Rewriter, rules_pass
from neve.passes.weights import channel_axis, rescaled, weighted


def fold(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, BatchNorm):
        return None
    inner = weighted(node.inputs[0], rw)
    if inner is None:
        return None
    affine = scale_and_shift(node, rw)
    if affine is None:
        return rw.miss("batch_norm's parameters are not constant")
    if channel_axis(inner) != 1:
        return rw.miss("batch_norm is over another axis than linear's outputs")
    if rw.uses(node.inputs[0]) > 1:
        return rw.miss(f"{inner.op.name} output is shared")
    return rescaled(inner, *affine, rw)


def scale_and_shift(node: Node, rw: Rewriter) -> tuple[np.ndarray, np.ndarray] | None:
    """The float64 (C,) factors of a batch_norm, y = scale · x + shift, if its parameters are constant."""
    assert isinstance(node.op, BatchNorm)
    arrays = [rw.array(v) for v in node.inputs[1:]]
    if any(a is None for a in arrays):
        return None
    weight, bias, mean, var = (np.asarray(a, np.float64) for a in arrays)
    with np.errstate(all="ignore"):
        scale = weight / np.sqrt(var + node.op.eps)
        return scale, bias - mean * scale


PASS = rules_pass("fold_batch_norm", Exactness.ROUNDING, fold)
