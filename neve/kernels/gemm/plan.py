"""Matrix products: linear, matmul, and convolutions of single pixels where these lie side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neve.ir.buffers import Access
from neve.ir.index import Index, Var, recombine
from neve.ir.loops import Tensor
from neve.ir.types import DType
from neve.kernels.gemm.tiles import GemmSpec, candidates
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
    Size,
    at,
    digits,
    product,
    size,
)
from neve.ops.base import Op

FLOPS_PER_TERM = 2


def accepts(op: Op, inputs: Sequence[Tensor], fixed: Fixed) -> str:
    """Two matrices of float64, or of numbers that float32 holds."""
    other = next((t.dtype for t in inputs[:2] if t.dtype not in (*COMPUTED, DType.float64)), None)
    return f"there is no matrix product of {other}" if other else ""


def flops(op: Op, inputs: Sequence[Shaped], results: Sequence[Shaped]) -> Index:
    return product(results[0].shape) * Index.of(inputs[0].shape[-1]) * FLOPS_PER_TERM


def bind(call: Call, o: Operands) -> Bound:
    a, b = call.inputs
    if call.op.name == "linear":
        return _shared(a, b, "nk", o)
    return _shared(a, b, "kn", o) if len(b.shape) == 2 else _batched(call, o)


def _shared(x: Tensor, w: Tensor, layout: str, o: Operands) -> Bound:
    """x (…, K) by one matrix, (N, K) for "nk" and (K, N) for "kn": all leading dims of x are rows."""
    a = rows_of(x, o)
    lead = tuple(range(len(a.vars) - 1))
    rows, lda = product([a.vars[k].extent for k in lead]), a.collapsed(lead)
    assert lda is not None
    n = Var("n", Index.of(w.shape[0 if layout == "nk" else 1]))
    spec, weight = _weight(GemmSpec(m=size(rows), n=size(n.extent), k=size(a.vars[-1].extent), lda=size(lda),
                                    b_packed=False, dtype=x.dtype), o, w, layout)  # fmt: skip
    coords = Var("b", Index.of(1)), Var("m", rows), n
    axes = (*digits(at(coords[1]), [a.vars[k].extent for k in lead]), at(n))
    return Bound(tuple(candidates(spec, o.target)), (Pointer(a.buffer, a.start), weight), coords, axes)


def rows_of(x: Tensor, o: Operands) -> Access:
    """x with one stride over all leading dims and 1 along the last."""
    a, last = o.access(x), len(x.shape) - 1
    unit = a.stride(last) is not None and (a.stride(last) == 1 or a.vars[-1].extent.const == 1)
    return a if unit and a.collapsed(range(last)) is not None else o.copy(x)


def _weight(spec: GemmSpec, o: Operands, w: Tensor, layout: str) -> tuple[GemmSpec, Pointer | Packed]:
    """The spec with what is said of B, and B."""
    if o.array(w) is not None:
        return replace(spec, b_packed=True, b_layout=layout, b_type=w.dtype), Packed(w)  # type: ignore[arg-type]
    b = _matrix(o, w)
    s0, s1 = b.strides
    assert s0 is not None and s1 is not None
    ldn, ldb = (s0, s1) if layout == "nk" else (s1, s0)
    return replace(spec, ldb=size(ldb), ldn=size(ldn)), Pointer(b.buffer, b.start)


def _matrix(o: Operands, t: Tensor) -> Access:
    """An operand whose last two axes have strides, one of them 1, and whose batch axes have strides."""
    a = o.access(t)
    s = a.strides
    return o.copy(t) if None in s or 1 not in [x.const for x in s[-2:] if x is not None] else a


def _batched(call: Call, o: Operands) -> Bound:
    """a (…, M, K) @ b (…, K, N); batch dims become one batch of linear strides, if need be by copies of operands."""
    batch = [Index.of(d) for d in call.results[0].shape[:-2]]
    b_var = Var("b", product(batch))
    places = digits(at(b_var), batch)
    a, b = (_matrix(o, t) for t in call.inputs[:2])
    m, n = Var("m", a.vars[-2].extent), Var("n", b.vars[-1].extent)
    sa, sb = a.strides, b.strides
    assert None not in sa and None not in sb
    spec = GemmSpec(
        m=size(m.extent),
        n=size(n.extent),
        k=size(a.vars[-1].extent),
        batch=size(b_var.extent),
        lda=size(sa[-2] or Index.of(0)),
        ldk=size(sa[-1] or Index.of(1)) if a.vars[-1].extent.const != 1 else 1,
        a_batch=_batch_offset(a, places),
        b_packed=False,
        dtype=call.inputs[0].dtype,
        ldb=size(sb[-2] or Index.of(0)),
        ldn=size(sb[-1] or Index.of(1)) if n.extent.const != 1 else 1,
        b_batch=_batch_offset(b, places),
    )
    pointers = Pointer(a.buffer, a.start), Pointer(b.buffer, b.start)
    return Bound(tuple(candidates(spec, o.target)), pointers, (b_var, m, n), (*places, at(m), at(n)))


def _batch_offset(a: Access, places: Sequence[Index]) -> Size:
    """Where a batch begins: elements a batch if linear in b, else an expression in b."""
    own = len(a.vars) - 2
    offset = Index.of(0)
    for k in range(own):
        if a.vars[k].extent.const != 1:
            stride = a.stride(k)
            assert stride is not None
            offset = offset + places[len(places) - own + k] * stride
    offset = recombine(offset)
    b = next((v for v in offset.vars if v.name == "b"), None)
    if b is None:
        return 0
    form = offset.affine(b)
    linear = form is not None and form[0].const is not None and not form[1].terms
    return form[0].const or 0 if form is not None and linear else offset


def bind_pixels(call: Call, x: Access, lda: Index, o: Operands) -> Bound:
    """A 1×1 convolution of x (N, C, H, W) whose pixels are rows that lie lda apart; a factor scales the weights."""
    w, extents = call.inputs[1], [x.vars[k].extent for k in (0, 2, 3)]
    m, n = Var("m", product(extents)), Var("n", Index.of(w.shape[0]))
    spec = GemmSpec(
        m=size(m.extent),
        n=int(w.shape[0]),
        k=int(w.shape[1]),
        lda=size(lda),
        scaled=call.factor is not None,
        b_type=w.dtype,
    )
    pointers: list[Pointer | Packed] = [Pointer(x.buffer, x.start), Packed(w)]
    if call.factor is not None:
        s = o.access(call.factor)
        s = s if s.stride(1) in (Index.of(0), Index.of(1)) else o.copy(call.factor)
        pointers.append(Pointer(s.buffer, s.start))
    i, h, w_at = digits(at(m), extents)
    coords = Var("b", Index.of(1)), m, n
    return Bound(tuple(candidates(spec, o.target)), tuple(pointers), coords, (i, at(n), h, w_at))


def packs(op: Op, inputs: Sequence[Shaped]) -> tuple[int, ...]:
    """One matrix for all rows; a batch of matrices is read where it lies."""
    return (1,) if len(inputs[1].shape) == 2 else ()


GEMM = Kernel(ops=("linear", "matmul"), accepts=accepts, bind=bind, flops=flops, packs=packs)
