"""Binding: a template stage and its operands become a kernel choice, pointers and store coordinates.

There is one binder an op class. It asks for what the kernel needs of an operand's layout through the `Operands` it is
given, which copies an operand only where its strides do not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from neve.build.target import Target
from neve.ir.index import Index, Var, recombine
from neve.ir.loops import Tensor
from neve.ir.types import DType
from neve.plan.buffers import Access, Buffer
from neve.plan.stages import Template
from neve.plan.templates import attention as attention_templates
from neve.plan.templates import conv as conv_templates
from neve.plan.templates import gemm as gemm_templates
from neve.plan.templates import recurrent as recurrent_templates
from neve.plan.templates.choice import Choice


@dataclass(frozen=True)
class Pointer:
    """A kernel's operand: where buffer's element `start` is."""

    buffer: Buffer
    start: Index


@dataclass(frozen=True)
class Packed:
    """A kernel's operand: a constant in the packed form of the kernel's choice."""

    constant: Tensor
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Bound:
    """How a template runs.

    coords name the store's indexes in the header's order, axes gives each logical axis of the result in them.
    """

    choices: tuple[Choice, ...]
    pointers: tuple[Pointer | Packed | None, ...]
    coords: tuple[Var, ...]
    axes: tuple[Index, ...]
    scratch: Index | None = None
    """Bytes a thread where they depend on symbolic sizes; None: what the choice says."""
    shared: Index | None = None
    """Bytes for all threads together, likewise."""


class Operands(Protocol):
    """What the scheduler offers to binders."""

    target: Target

    def access(self, t: Tensor) -> Access:
        """The operand as it lies."""

    def copy(self, t: Tensor, order: tuple[int, ...] | None = None) -> Access:
        """The operand copied into dense memory, axes in that order (None: row-major)."""

    def constant(self, t: Tensor) -> bool:
        """Whether the operand is a compile-time constant as it is (no view of one)."""

    def size(self, i: Index) -> int | str:
        """A size for a template's macro: a literal, or C in s[]."""


Binder = Callable[[Template, Operands], Bound]


def bind(stage: Template, operands: Operands) -> Bound:
    """The kernel for a template stage; KeyError if no binder knows the op."""
    return BINDERS[stage.op.name](stage, operands)


def product(extents: list[Index]) -> Index:
    n = Index.of(1)
    for e in extents:
        n = n * e
    return n


def _split(flat: Index, extents: list[Index]) -> list[Index]:
    """The row-major digits of flat."""
    out, rest = [], flat
    for k, e in enumerate(reversed(extents)):
        out.append(rest % e if k < len(extents) - 1 else rest)
        rest = rest // e
    return out[::-1]


def _coord(name: str, extent: Index) -> Var:
    return Var(name, extent)


def _at(v: Var) -> Index:
    return Index.of(0) if v.extent.const == 1 else Index.of(v)


def bind_linear(stage: Template, o: Operands) -> Bound:
    """x (…, K) with constant or run-time w (N, K): all leading dims of x are rows."""
    x, w = stage.inputs
    lead = tuple(range(len(x.shape) - 1))
    a = o.access(x)
    if (
        a.stride(len(lead)) is None
        or a.collapsed(lead) is None
        or (a.stride(len(lead)) != 1 and a.vars[-1].extent.const != 1)
    ):
        a = o.copy(x)
    rows = product([a.vars[k].extent for k in lead])
    lda = a.collapsed(lead)
    assert lda is not None
    b, m, n = _coord("b", Index.of(1)), _coord("m", rows), _coord("n", Index.of(w.shape[0]))
    spec: dict[str, Any] = {
        "m": o.size(rows),
        "n": o.size(Index.of(w.shape[0])),
        "k": o.size(Index.of(w.shape[1])),
        "lda": o.size(lda),
    }
    weight, extra = _weight(o, w, "nk")
    choices = gemm_templates.candidates(gemm_templates.GemmSpec(**spec, **extra), o.target)
    axes = (*_split(_at(m), [a.vars[k].extent for k in lead]), _at(n))
    return Bound(tuple(choices), (Pointer(a.buffer, a.start), weight), (b, m, n), axes)


def _weight(o: Operands, w: Tensor, layout: str) -> tuple[Pointer | Packed, dict[str, Any]]:
    if o.constant(w):
        return Packed(w), {"b_packed": True, "b_layout": layout}
    acc = o.access(w)
    if None in acc.strides or 1 not in [s.const for s in acc.strides if s is not None]:
        acc = o.copy(w)
    s0, s1 = acc.strides
    assert s0 is not None and s1 is not None
    ldn, ldb = (s0, s1) if layout == "nk" else (s1, s0)
    return Pointer(acc.buffer, acc.start), {"b_packed": False, "ldb": o.size(ldb), "ldn": o.size(ldn)}


def bind_matmul(stage: Template, o: Operands) -> Bound:
    """a (…, M, K) @ b (…, K, N); batch dims become one batch of linear strides, if need be by copies of operands."""
    ta, tb = stage.inputs
    if len(tb.shape) == 2:
        return _matmul_shared(stage, o)
    out = stage.results[0]
    batch = [Index.of(d) for d in out.shape[:-2]]
    count = product(batch)
    bvar = _coord("b", count)
    digits = _split(_at(bvar), batch)
    a, b = (_matrix(o, t) for t in (ta, tb))
    a_batch, b_batch = (_batch_offset(o, acc, digits) for acc in (a, b))
    m, n = _coord("m", a.vars[-2].extent), _coord("n", b.vars[-1].extent)
    sa, sb = a.strides, b.strides
    assert None not in sa and None not in sb
    spec = gemm_templates.GemmSpec(
        m=o.size(m.extent),
        n=o.size(n.extent),
        k=o.size(a.vars[-1].extent),
        batch=o.size(count),
        lda=o.size(sa[-2] or Index.of(0)),
        ldk=o.size(sa[-1] or Index.of(1)) if a.vars[-1].extent.const != 1 else 1,
        a_batch=a_batch,
        b_packed=False,
        ldb=o.size(sb[-2] or Index.of(0)),
        ldn=o.size(sb[-1] or Index.of(1)) if n.extent.const != 1 else 1,
        b_batch=b_batch,
    )
    choices = gemm_templates.candidates(spec, o.target)
    return Bound(
        tuple(choices),
        (Pointer(a.buffer, a.start), Pointer(b.buffer, b.start)),
        (bvar, m, n),
        (*digits, _at(m), _at(n)),
    )


def _matmul_shared(stage: Template, o: Operands) -> Bound:
    """a (…, M, K) @ b (K, N): all leading dims of a are rows."""
    ta, tb = stage.inputs
    lead = tuple(range(len(ta.shape) - 1))
    a = o.access(ta)
    if (
        a.collapsed(lead) is None
        or a.stride(len(lead)) is None
        or (a.stride(len(lead)) != 1 and a.vars[-1].extent.const != 1)
    ):
        a = o.copy(ta)
    rows, lda = product([a.vars[k].extent for k in lead]), a.collapsed(lead)
    assert lda is not None
    b, m, n = _coord("b", Index.of(1)), _coord("m", rows), _coord("n", Index.of(tb.shape[1]))
    weight, extra = _weight(o, tb, "kn")
    spec = gemm_templates.GemmSpec(
        m=o.size(rows), n=o.size(n.extent), k=o.size(a.vars[-1].extent), lda=o.size(lda), **extra
    )
    axes = (*_split(_at(m), [a.vars[k].extent for k in lead]), _at(n))
    return Bound(
        tuple(gemm_templates.candidates(spec, o.target)), (Pointer(a.buffer, a.start), weight), (b, m, n), axes
    )


def _matrix(o: Operands, t: Tensor) -> Access:
    """An operand whose last two axes have strides, one of them 1, and whose batch axes have strides."""
    acc = o.access(t)
    s = acc.strides
    if None in s or 1 not in [x.const for x in s[-2:] if x is not None]:
        acc = o.copy(t)
    return acc


def _batch_offset(o: Operands, acc: Access, digits: list[Index]) -> int | str:
    """The batch offset macro: elements a batch if linear in b, else an expression in b."""
    own = len(acc.vars) - 2
    offset = Index.of(0)
    for k in range(own):
        if acc.vars[k].extent.const != 1:
            stride = acc.stride(k)
            assert stride is not None
            offset = offset + digits[len(digits) - own + k] * stride
    offset = recombine(offset)
    b = next((v for v in offset.vars if v.name == "b"), None)
    if b is None:
        return 0
    form = offset.affine(b)
    return (
        o.size(form[0]) if form is not None and form[0].const is not None and not form[1].terms else str(o.size(offset))
    )


def bind_conv(stage: Template, o: Operands) -> Bound:
    """x (N, C, H, W) and constant w (OC, C/g, KH, KW).

    A gemm for 1×1 stride 1 on dense channels-last rows, else a conv template. A factor is for the gemm.
    """
    op: Any = stage.op
    tx, tw = stage.inputs
    out = stage.results[0]
    x = o.access(tx)
    if stage.factor is not None and (x.stride(1) != Index.of(1) or x.collapsed((0, 2, 3)) is None):
        x = o.copy(tx, (0, 2, 3, 1))
    few = x.stride(3) == 1 and isinstance(tx.shape[1], int) and tx.shape[1] <= 4 and op.groups == 1
    if None in x.strides or (x.stride(1) != 1 and x.vars[1].extent.const != 1 and not few):
        x = o.copy(tx, (0, 2, 3, 1))
    n, h, w, c = (_coord(name, Index.of(out.shape[k])) for name, k in (("n", 0), ("h", 2), ("w", 3), ("c", 1)))
    kernel = tw.shape[2:]
    if kernel == (1, 1) and op.stride == (1, 1) and op.groups == 1 and not any(map(any, op.padding)):
        lda = x.collapsed((0, 2, 3))
        if lda is not None and (x.stride(1) == 1 or x.vars[1].extent.const == 1):
            return _conv_as_gemm(o, x, lda, stage)
    assert stage.factor is None
    sx = [s if s is not None else Index.of(0) for s in x.strides]
    if x.vars[1].extent.const == 1 and not few:
        sx[1] = Index.of(1)
    sn, sc, sh, sw = (o.size(s) for s in sx)
    spec = conv_templates.ConvSpec(
        batch=o.size(Index.of(tx.shape[0])),
        channels=int(tx.shape[1]),
        height=o.size(Index.of(tx.shape[2])),
        width=o.size(Index.of(tx.shape[3])),
        out_channels=int(tw.shape[0]),
        out_height=o.size(h.extent),
        out_width=o.size(w.extent),
        kernel=(int(kernel[0]), int(kernel[1])),
        stride=op.stride,
        dilation=op.dilation,
        padding=(op.padding[0][0], op.padding[1][0]),
        groups=op.groups,
        strides=(sn, sc, sh, sw),
    )
    choices = conv_templates.candidates(spec, o.target)
    return Bound(
        tuple(choices), (Pointer(x.buffer, x.start), Packed(tw)), (n, h, w, c), (_at(n), _at(c), _at(h), _at(w))
    )


def _conv_as_gemm(o: Operands, x: Access, lda: Index, stage: Template) -> Bound:
    tw, extents = stage.inputs[1], [x.vars[k].extent for k in (0, 2, 3)]
    rows = product(extents)
    b, m, n = _coord("b", Index.of(1)), _coord("m", rows), _coord("n", Index.of(tw.shape[0]))
    factor = stage.factor
    spec = gemm_templates.GemmSpec(
        m=o.size(rows), n=int(tw.shape[0]), k=int(tw.shape[1]), lda=o.size(lda), scaled=factor is not None
    )
    i, h, w = _split(_at(m), extents)
    pointers: list[Pointer | Packed] = [Pointer(x.buffer, x.start), Packed(tw, (0, 1))]
    if factor is not None:
        s = o.access(factor)
        s = s if s.stride(1) in (Index.of(0), Index.of(1)) else o.copy(factor)
        pointers.append(Pointer(s.buffer, s.start))
    return Bound(tuple(gemm_templates.candidates(spec, o.target)), tuple(pointers), (b, m, n), (i, _at(n), h, w))


BATCH_GUESS = 8
KEYS_GUESS = 256
"""Keys of an attention whose number is symbolic, for the choice of a block."""


def bind_attention(stage: Template, o: Operands) -> Bound:
    """q, k, v (…, H, S, D) [, mask]: leading dims beyond the heads become one batch."""
    op: Any = stage.op
    out = stage.results[0]
    rank = len(out.shape)
    q, k, v = (_unit_rows(o, t) for t in stage.inputs[:3])
    lead, heads = (
        [Index.of(d) for d in out.shape[: max(rank - 3, 0)]],
        Index.of(out.shape[-3]) if rank > 2 else Index.of(1),
    )
    if len(lead) > 1 and any(acc.collapsed(range(len(lead))) is None for acc in (q, k, v)):
        q, k, v = (o.copy(t) for t in stage.inputs[:3])
    coords = tuple(
        _coord(n, e) for n, e in zip("bhqd", (product(lead), heads, q.vars[-2].extent, v.vars[-1].extent), strict=True)
    )
    mask, extra = _mask(stage, o, rank)
    keys, group = k.vars[-2].extent, 1
    if op.enable_gqa and rank > 2 and heads.const and k.vars[-3].extent.const:
        group = heads.const // k.vars[-3].extent.const
    spec = attention_templates.AttentionSpec(
        batch=o.size(coords[0].extent),
        heads=int(heads.const or 0),
        queries=o.size(coords[2].extent),
        keys=o.size(keys),
        dim=int(q.vars[-1].extent.const or 0),
        value_dim=int(coords[3].extent.const or 0),
        q=_head_strides(o, q),
        k=_head_strides(o, k),
        v=_head_strides(o, v),
        group=group,
        scale=op.scale,
        mask=mask,
        causal=op.is_causal,
        keys_bound=KEYS_GUESS,
        queries_bound=KEYS_GUESS,
    )
    choices = attention_templates.candidates(spec, o.target)
    scratch = None
    if keys.const is None:
        choices = choices[:1]
        block = int(dict(choices[0].macros)["ATT_BLOCK"])
        panel = 2 * o.target.vl
        padded = (keys + (panel - 1)) // Index.of(panel) * panel
        scratch = (
            padded * (spec.dim + -(-spec.value_dim // panel) * panel) + (padded + (16 + spec.dim + 1)) * block
        ) * 4
    pointers = tuple(Pointer(a.buffer, a.start) for a in (q, k, v, *extra))
    digits = _split(_at(coords[0]), lead) if lead else []
    axes = (*digits, *([_at(coords[1])] if rank > 2 else []), _at(coords[2]), _at(coords[3]))
    return Bound(tuple(choices), pointers, coords, axes, scratch)


def _unit_rows(o: Operands, t: Tensor) -> Access:
    """An operand with strides everywhere and 1 along its last axis."""
    acc = o.access(t)
    return acc if None not in acc.strides and (acc.strides[-1] == 1 or acc.vars[-1].extent.const == 1) else o.copy(t)


def _head_strides(o: Operands, acc: Access) -> attention_templates.Strides:
    rank = len(acc.vars)
    batch = acc.collapsed(range(rank - 3)) if rank > 3 else Index.of(0)
    head, row = acc.stride(rank - 3) if rank > 2 else Index.of(0), acc.stride(rank - 2)
    assert batch is not None and head is not None and row is not None
    return attention_templates.Strides(o.size(batch), o.size(head), o.size(row))


def _mask(stage: Template, o: Operands, rank: int) -> tuple[attention_templates.Mask | None, tuple[Access, ...]]:
    if len(stage.inputs) < 4:
        return None, ()
    t = stage.inputs[3]
    acc = o.access(t)
    if (
        None in acc.strides
        or acc.stride(len(acc.vars) - 1) not in (Index.of(0), Index.of(1))
        or (rank > 4 and acc.collapsed(range(len(acc.vars) - 3)) is None)
    ):
        acc = o.copy(t)
    n = len(acc.vars)
    stride = [acc.stride(n - k) if n >= k else Index.of(0) for k in (3, 2, 1)]
    batch = acc.collapsed(range(n - 3)) if n > 3 else Index.of(0)
    assert batch is not None and None not in stride
    head, query, key = (o.size(x) for x in stride if x is not None)
    kind = "bool" if t.dtype is DType.bool else "float"
    return attention_templates.Mask(kind, o.size(batch), head, query, int(key)), (acc,)


def bind_recurrent(stage: Template, o: Operands) -> Bound:
    """gates of x (T, B, G·H), constant w_hh (G·H, H), b_hh, h0 [, c0] (B, H) → y (T, B, H) and the final states."""
    op: Any = stage.op
    tx, tw, tb, *states = stage.inputs
    x = o.access(tx)
    if None in x.strides or x.strides[-1] != 1:
        x = o.copy(tx)
    bias, *initial = (
        a if a.buffer.is_row_major and len(a.vars) == len(a.buffer.tensor.shape) else o.copy(t)
        for t, a in ((t, o.access(t)) for t in (tb, *states))
    )
    steps, batch, hidden = (Index.of(d) for d in stage.results[0].shape)
    x_step, x_batch = x.strides[:2]
    assert x_step is not None and x_batch is not None
    kind = op.nonlinearity if op.name == "rnn" else op.name
    spec = recurrent_templates.RecurrentSpec(
        kind,
        o.size(steps),
        o.size(batch),
        int(hidden.const or 0),
        o.size(x_step),
        o.size(x_batch),
        reverse=op.reverse,
        batch_bound=BATCH_GUESS,
    )
    (choice,) = recurrent_templates.candidates(spec, o.target)
    shared = None
    if batch.const is None:
        shared = batch * (choice.shared // BATCH_GUESS)
    pointers = (
        Pointer(x.buffer, x.start),
        Packed(tw),
        *(Pointer(a.buffer, a.start) for a in (bias, *initial)),
        *([None] * (2 - len(initial))),
    )
    coords = (_coord("t", steps), _coord("b", batch), _coord("j", hidden))
    return Bound((choice,), pointers, coords, tuple(_at(c) for c in coords), shared=shared)


BINDERS: dict[str, Binder] = {
    "linear": bind_linear,
    "matmul": bind_matmul,
    "convolution": bind_conv,
    "scaled_dot_product_attention": bind_attention,
    "gru": bind_recurrent,
    "lstm": bind_recurrent,
    "rnn": bind_recurrent,
}
