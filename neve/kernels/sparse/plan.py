"""Products and convolutions with constant weights that are mostly zeros: an alternative to the dense kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.kernels.conv.plan import by_pixel, conv_spec, image_of
from neve.kernels.gemm.plan import rows_of
from neve.kernels.kernel import (
    COMPUTED,
    Bound,
    Call,
    Fixed,
    Kernel,
    Operands,
    Packed,
    Pointer,
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
    """Numbers that float32 holds, by a constant matrix, or by a constant kernel whose weights all channels share."""
    x, w = inputs[:2]
    if x.dtype not in COMPUTED or w.dtype not in COMPUTED:
        return f"there is no sparse product of {x.dtype} and {w.dtype}"
    if not fixed(w):
        return "its weights are no constants"
    if op.name == "convolution":
        return "" if x.shape[1] == w.shape[1] else "each group has weights of its own"
    return "" if len(w.shape) == 2 else "each batch has weights of its own"


def bind(call: Call, o: Operands) -> Bound | None:
    x, w = call.inputs[:2]
    values = o.array(w)
    if values is None or values.size == 0 or np.count_nonzero(values) > (1 - LEAST_ZEROS) * values.size:
        return None
    convolves = call.op.name == "convolution"
    channel = 1 if convolves else len(x.shape) - 1
    a = image_of(call, o) if convolves else rows_of(x, o)
    lead = tuple(k for k in range(len(x.shape)) if k != channel)
    lda = a.collapsed(lead)
    spatial = convolves and (lda is None or not by_pixel(call))
    if a.stride(channel) != Index.of(1) or (spatial and call.factor is not None):
        return None
    extents = [Index.of(call.results[0].shape[k]) for k in lead]
    spec = SparseSpec(
        size(product(extents)),
        size(lda or Index.of(0)),
        values,
        layout="kn" if call.op.name == "matmul" else "nk",
        dtype=w.dtype,
        scaled=call.factor is not None,
        image=conv_spec(call, a) if spatial else None,
    )
    choices = tuple(candidates(spec, o.target)) if spec.k >= LEAST_TERMS else ()
    pointers: list[Pointer | Packed] = [Pointer(a.buffer, a.start), Packed(w)]
    if call.factor is not None:
        s = o.access(call.factor)
        s = s if s.stride(1) in (Index.of(0), Index.of(1)) else o.copy(call.factor)
        pointers.append(Pointer(s.buffer, s.start))
    coords = Var("b", Index.of(1)), Var("m", product(extents)), Var("n", Index.of(spec.n))
    axes = digits(at(coords[1]), extents)
    axes.insert(channel, at(coords[2]))
    return Bound(choices, tuple(pointers), coords, tuple(axes)) if choices else None


SPARSE = Kernel(ops=("linear", "matmul", "convolution"), accepts=accepts, bind=bind, zeros=best_zeros)
