"""Scaled dot product attention."""

from __future__ import annotations

from collections.abc import Sequence

from neve.ir.buffers import Access
from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.ir.types import Dim, DType, broadcast
from neve.kernels.attention.blocks import AttentionSpec, Mask, Strides, candidates, symbolic_scratch
from neve.kernels.kernel import (
    COMPUTED,
    Bound,
    Call,
    Fixed,
    Kernel,
    Operands,
    Pointer,
    Shaped,
    at,
    digits,
    product,
    size,
)
from neve.ops.attention import Attention
from neve.ops.base import Op

FLOPS_PER_TERM = 2
KEYS_GUESS = 256
"""Keys of an attention whose number is symbolic, for the choice of a block."""


def accepts(op: Op, inputs: Sequence[Tensor], fixed: Fixed) -> str:
    """Numbers that float32 holds, rows of known size, a known number of heads or one that can be a batch, and one
    stride each over a batch.
    """
    q, k, v, *mask = (t.shape for t in inputs)
    gqa = getattr(op, "enable_gqa", False)
    if inputs[0].dtype not in COMPUTED:
        return f"there is no attention in {inputs[0].dtype}"
    if not isinstance(q[-1], int) or not isinstance(v[-1], int):
        return "the size of a head is no constant"
    lead = broadcast(q[:-2], *(s[:-2] for s in ((k, v) if not gqa else ())))
    if len(lead) > 2 and not _alike(lead, (q, k, v), mask):
        return "queries, keys and values do not have the same leading sizes"
    heads_known = not lead or isinstance(lead[-1], int)
    if not heads_known and (len(lead) > 1 or gqa):
        return "the number of heads is no constant"
    return ""


def _alike(lead: tuple[Dim, ...], operands: Sequence[tuple[Dim, ...]], mask: Sequence[tuple[Dim, ...]]) -> bool:
    return all(s[:-3] == lead[:-1] for s in operands) and all(s[:-3] in ((), lead[:-1]) for s in mask)


def flops(op: Op, inputs: Sequence[Shaped], results: Sequence[Shaped]) -> Index:
    q, k, v = (t.shape for t in inputs[:3])
    terms = Index.of(q[-1]) + Index.of(v[-1])
    return product(results[0].shape[:-1]) * Index.of(k[-2]) * terms * FLOPS_PER_TERM


def bind(call: Call, o: Operands) -> Bound:
    """q, k, v (…, H, S, D) [, mask]: leading dims beyond the heads become one batch."""
    op = call.op
    assert isinstance(op, Attention)
    out = call.results[0].shape
    rank = len(out)
    q, k, v = (_unit_rows(o, t) for t in call.inputs[:3])
    lead = [Index.of(d) for d in out[: max(rank - 3, 0)]]
    heads = Index.of(out[-3]) if rank > 2 else Index.of(1)
    if len(lead) > 1 and any(a.collapsed(range(len(lead))) is None for a in (q, k, v)):
        q, k, v = (o.copy(t) for t in call.inputs[:3])
    extents = product(lead), heads, q.vars[-2].extent, v.vars[-1].extent
    coords = tuple(Var(n, e) for n, e in zip("bhqd", extents, strict=True))
    mask, extra = _mask(call, o, rank)
    keys, group = k.vars[-2].extent, 1
    if op.enable_gqa and rank > 2 and heads.const and k.vars[-3].extent.const:
        group = heads.const // k.vars[-3].extent.const
    spec = AttentionSpec(
        batch=size(coords[0].extent),
        heads=int(heads.const or 0),
        queries=size(coords[2].extent),
        keys=size(keys),
        dim=int(q.vars[-1].extent.const or 0),
        value_dim=int(coords[3].extent.const or 0),
        q=_head_strides(q),
        k=_head_strides(k),
        v=_head_strides(v),
        group=group,
        scale=op.scale,
        mask=mask,
        causal=op.is_causal,
        keys_bound=KEYS_GUESS,
        queries_bound=KEYS_GUESS,
    )
    choices = candidates(spec, o.target)
    scratch = None
    if keys.const is None:
        choices = choices[:1]
        scratch = symbolic_scratch(keys, spec, choices[0], o.target.vl)
    pointers = tuple(Pointer(a.buffer, a.start) for a in (q, k, v, *extra))
    places = digits(at(coords[0]), lead) if lead else []
    axes = (*places, *([at(coords[1])] if rank > 2 else []), at(coords[2]), at(coords[3]))
    return Bound(tuple(choices), pointers, coords, axes, scratch)


def _unit_rows(o: Operands, t: Tensor) -> Access:
    """An operand with strides everywhere and 1 along its last axis."""
    a = o.access(t)
    return a if None not in a.strides and (a.strides[-1] == 1 or a.vars[-1].extent.const == 1) else o.copy(t)


def _head_strides(a: Access) -> Strides:
    rank = len(a.vars)
    batch = a.collapsed(range(rank - 3)) if rank > 3 else Index.of(0)
    head, row = a.stride(rank - 3) if rank > 2 else Index.of(0), a.stride(rank - 2)
    assert batch is not None and head is not None and row is not None
    return Strides(size(batch), size(head), size(row))


def _mask(call: Call, o: Operands, rank: int) -> tuple[Mask | None, tuple[Access, ...]]:
    if len(call.inputs) < 4:
        return None, ()
    t = call.inputs[3]
    a = o.access(t)
    unit = a.stride(len(a.vars) - 1) in (Index.of(0), Index.of(1))
    if None in a.strides or not unit or (rank > 4 and a.collapsed(range(len(a.vars) - 3)) is None):
        a = o.copy(t)
    n = len(a.vars)
    head, query, key = (a.stride(n - k) if n >= k else Index.of(0) for k in (3, 2, 1))
    batch = a.collapsed(range(n - 3)) if n > 3 else Index.of(0)
    assert batch is not None and head is not None and query is not None and key is not None and key.const is not None
    kind = "bool" if t.dtype is DType.bool else "float"
    return Mask(kind, size(batch), size(head), size(query), key.const), (a,)


ATTENTION = Kernel(ops=("scaled_dot_product_attention",), accepts=accepts, bind=bind, flops=flops)
