"""torch's recurrent layers as one op whose number of steps may be symbolic; torch.export unrolls its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

KINDS = ("gru", "lstm", "rnn_tanh", "rnn_relu")


@torch.library.custom_op("neve::recurrent", mutates_args=())
def recurrent(
    x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], kind: str, biases: bool, layers: int,
    bidirectional: bool, batch_first: bool,
) -> list[Tensor]:  # fmt: skip
    """torch.KIND in evaluation mode: [output, last states…]; states is [h0] or, for an LSTM, [h0, c0]."""
    given = list(states) if kind == "lstm" else states[0]
    flags = (biases, layers, 0.0, False, bidirectional, batch_first)
    found: tuple[Tensor, ...] = getattr(torch, kind)(x, given, list(params), *flags)
    return [t.clone() for t in found]


@recurrent.register_fake
def _(
    x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], kind: str, biases: bool, layers: int,
    bidirectional: bool, batch_first: bool,
) -> list[Tensor]:  # fmt: skip
    directions = 2 if bidirectional else 1
    first = x.new_empty((x.shape[0], x.shape[1], states[0].shape[2] * directions))
    return [first, *(torch.empty_like(s, memory_format=torch.contiguous_format) for s in states)]


RECURRENT = torch.ops.neve.recurrent.default
