"""Products with constant weights that are mostly zeros: an alternative to the dense ones of linear, matmul and 1×1
convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neve.ir.buffers import Access
from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.kernels.kernel import (
    COMPUTED,
    Bound,
    Call,
    Fixed,
    Kernel,
    Operands,
    Packed,
    Pointer,
    Shaped,
    at,
    digits,
    product,
    size,
)
from neve.kernels.sparse.blocks import SparseSpec, best_zeros, candidates
from neve.ops.base import Op

LEAST_ZEROS = 0.1
"""Of a weight that is looked at."""
LEAST_TERMS = 32
"""Below, transposing costs as much as is saved."""


def accepts(op: Op, inputs: Sequence[Tensor], fixed: Fixed) -> str:
    """Numbers that float32 holds, by a constant matrix, or by a convolution of single pixels."""
    x, w = inputs[:2]
    if x.dtype not in COMPUTED or w.dtype not in COMPUTED:
        return f"there is no sparse product of {x.dtype} and {w.dtype}"
    if not fixed(w):
        return "its weights are no constants"
    if op.name == "convolution":
        return "" if _by_pixel(op, w) else "it is a convolution of more than single pixels"
    return "" if len(w.shape) == 2 else "each batch has weights of its own"


def bind(call: Call, o: Operands) -> Bound | None:
    x, w = call.inputs[:2]
    values = o.array(w)
    if values is None or values.size == 0 or np.count_nonzero(values) > (1 - LEAST_ZEROS) * values.size:
        return None
    channel = 1 if call.op.name == "convolution" else len(x.shape) - 1
    a = _rows(x, channel, o)
    lead = tuple(k for k in range(len(x.shape)) if k != channel)
    lda = a.collapsed(lead)
    if lda is None:
        return None
    rows = product([a.vars[k].extent for k in lead])
    spec = SparseSpec(
        size(rows),
        size(lda),
        values,
        layout="kn" if call.op.name == "matmul" else "nk",
        dtype=w.dtype,
        scaled=call.factor is not None,
    )
    choices = tuple(candidates(spec, o.target)) if spec.k >= LEAST_TERMS else ()
    pointers: list[Pointer | Packed] = [Pointer(a.buffer, a.start), Packed(w)]
    if call.factor is not None:
        s = o.access(call.factor)
        s = s if s.stride(1) in (Index.of(0), Index.of(1)) else o.copy(call.factor)
        pointers.append(Pointer(s.buffer, s.start))
    coords = Var("b", Index.of(1)), Var("m", rows), Var("n", Index.of(spec.n))
    axes = digits(at(coords[1]), [a.vars[k].extent for k in lead])
    axes.insert(channel, at(coords[2]))
    return Bound(choices, tuple(pointers), coords, tuple(axes)) if choices else None


def _by_pixel(op: Any, w: Shaped) -> bool:
    plain = op.stride == (1, 1) and op.groups == 1 and not any(map(any, op.padding))
    return tuple(w.shape[2:]) == (1, 1) and plain


def _rows(x: Tensor, channel: int, o: Operands) -> Access:
    """x with stride 1 over its channels; copied as the dense kernels have it copied where it lies in another way."""
    a, last = o.access(x), len(x.shape) - 1
    lead = [k for k in range(len(x.shape)) if k != channel]
    if a.stride(channel) == 1 and (channel != last or a.collapsed(lead) is not None):
        return a
    return o.copy(x, None if channel == last else (*lead, channel))


SPARSE = Kernel(ops=("linear", "matmul", "convolution"), accepts=accepts, bind=bind, zeros=best_zeros)
