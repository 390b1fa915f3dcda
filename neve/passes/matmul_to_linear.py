"""matmul(x, b) = linear(x, bᵀ) where b is a constant of rank 2, or a transpose of a matrix: the form whose weights
are packed.

A constant b of higher rank whose leading sizes are 1 counts as rank 2 if that leaves the result's shape.
Exactness: EXACT: the same products, summed over the same axis.
"""

from __future__ import annotations

import numpy as np

from neve.ir.graph import Node, Value
from neve.ir.verify import same_type
from neve.ops.matmul import Linear, MatMul
from neve.ops.shape import Permute
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def to_linear(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, MatMul):
        return None
    x, b = node.inputs
    if any(d != 1 for d in b.shape[:-2]) or rw.array(x) is not None:
        return None
    if not same_type(x.type.with_shape((*x.shape[:-1], b.shape[-1])), node.output.type):
        return None
    flipped = rw.op(b, "permute") if b.type.rank == 2 else None
    if flipped is not None:
        assert isinstance(flipped.op, Permute) and flipped.op.dims == (1, 0)
        return rw.emit(Linear(), x, flipped.inputs[0])
    array = rw.array(b, 1 << 24)
    if array is None:
        return None
    matrix = array.reshape(array.shape[-2:])
    return rw.emit(Linear(), x, rw.constant(np.ascontiguousarray(matrix.T), b.dtype, b.name))


PASS = rules_pass("matmul_to_linear", Exactness.EXACT, to_linear)
