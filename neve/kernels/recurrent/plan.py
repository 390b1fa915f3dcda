"""Recurrent layers in one direction, after the product of their inputs for all steps."""

from __future__ import annotations

from collections.abc import Sequence

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
    product,
    size,
    weights,
)
from neve.kernels.recurrent.panels import GATES, RecurrentSpec, candidates
from neve.ops.base import Op
from neve.ops.recurrent import Recurrent, Rnn

BATCH_GUESS = 8
"""A batch that is symbolic, for the size of what is shared."""
STATES = 2
"""Pointers to initial states; a cell with fewer leaves the last one out."""
FLOPS_PER_TERM = 2


def accepts(op: Op, inputs: Sequence[Tensor], fixed: Fixed) -> str:
    """x, w_ih, w_hh, …: numbers that float32 holds, and a w_hh that can be packed."""
    if inputs[0].dtype not in COMPUTED:
        return f"there is no recurrent layer of {inputs[0].dtype}"
    return "" if fixed(inputs[2]) else "its recurrent weights are no constants"


def flops(op: Op, inputs: Sequence[Shaped], results: Sequence[Shaped]) -> Index:
    """Of the products with the state."""
    hidden = results[0].shape
    return product(hidden) * Index.of(hidden[-1]) * (FLOPS_PER_TERM * GATES[_kind(op)])


def bind(call: Call, o: Operands) -> Bound:
    """gates of x (T, B, G·H), constant w_hh (G·H, H), b_hh, h0 [, c0] (B, H) → y (T, B, H) and the final states."""
    gates, w, b_hh, *states = call.inputs
    x = o.access(gates)
    if None in x.strides or x.strides[-1] != 1:
        x = o.copy(gates)
    bias, *initial = (
        a if a.buffer.is_row_major and len(a.vars) == len(a.buffer.tensor.shape) else o.copy(t)
        for t, a in ((t, o.access(t)) for t in (b_hh, *states))
    )
    steps, batch, hidden = (Index.of(d) for d in call.results[0].shape)
    x_step, x_batch = x.strides[:2]
    assert x_step is not None and x_batch is not None
    op = call.op
    assert isinstance(op, Recurrent)
    spec = RecurrentSpec(
        _kind(op),
        size(steps),
        size(batch),
        int(hidden.const or 0),
        size(x_step),
        size(x_batch),
        reverse=op.reverse,
        batch_bound=BATCH_GUESS,
        weight_type=w.dtype,
    )
    (choice,) = candidates(spec, o.target)
    shared = batch * (choice.shared // BATCH_GUESS) if batch.const is None else None
    pointers = (
        Pointer(x.buffer, x.start),
        Packed(w),
        *(Pointer(a.buffer, a.start) for a in (bias, *initial)),
        *([None] * (STATES - len(initial))),
    )
    coords = Var("t", steps), Var("b", batch), Var("j", hidden)
    return Bound((choice,), pointers, coords, tuple(map(at, coords)), shared=shared)


def _kind(op: Op) -> str:
    """The cell as the specs call it."""
    return str(op.nonlinearity if isinstance(op, Rnn) else op.name)


RECURRENT = Kernel(ops=("gru", "lstm", "rnn"), accepts=accepts, bind=bind, flops=flops, packs=weights)
