"""batch_norm(x) = x·s + t with s = weight / √(var + eps), t = bias − mean·s constants: two pointwise ops that fuse
with their neighbours.

Exactness: ROUNDING. Parameters that are not constant, or whose factors are not finite, are left alone.
"""

from __future__ import annotations

import numpy as np

from neve.ir.graph import Node, Value
from neve.ops.norm import BatchNorm
from neve.ops.pointwise import Add, Mul
from neve.passes.fold_batch_norm import scale_and_shift
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def expand(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, BatchNorm):
        return None
    x = node.inputs[0]
    if x.dtype.size < 4:
        return None  # two roundings instead of one would cost half types half their precision
    affine = scale_and_shift(node, rw)
    if affine is None:
        return None
    shape = (-1, *(1,) * (x.type.rank - 2))
    scale, shift = (a.astype(x.dtype.numpy).reshape(shape) for a in affine)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return rw.miss("batch_norm's factors are not finite")
    y = rw.emit(Mul(), x, rw.constant(scale, x.dtype, f"{node.output.name}.scale"))
    return rw.emit(Add(), y, rw.constant(shift, x.dtype, f"{node.output.name}.shift"))


PASS = rules_pass("expand_batch_norm", Exactness.ROUNDING, expand)
