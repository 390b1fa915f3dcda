"""torch's recurrent layers as one op whose number of steps may be symbolic; torch.export unrolls its own. With it other
functions that take the example's number for a symbolic size, in terms of functions that do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

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


class VaryingSteps(TorchFunctionMode):
    """While torch.export runs: recurrent layers on symbolic sizes become this op, and REPLACED are called."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = getattr(func, "__name__", "")
        if kind in KINDS and len(args) == 9 and not kwargs and args[0].dim() == 3 and _varies(args[0]):
            x, hx, params, biases, layers, _, train, bidirectional, batch_first = args
            states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
            if not train and len({str(s.shape[-1]) for s in states}) == 1:
                return tuple(RECURRENT(x, states, list(params), kind, biases, layers, bidirectional, batch_first))
        if kind in REPLACED and any(_varies(x) for x in (*args, *(kwargs or {}).values())):
            return REPLACED[kind](*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _varies(x: Any) -> bool:
    return isinstance(x, torch.SymInt) or (isinstance(x, Tensor) and any(isinstance(n, torch.SymInt) for n in x.shape))


def _max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *flags: Any, **named: Any
) -> Any:
    """F.max_pool1d by way of F.max_pool2d."""
    given = (kernel_size, stride or kernel_size, padding, dilation)
    numbers = (x[0] if isinstance(x, (list, tuple)) else x for x in given)
    pool: Any = torch.nn.functional.max_pool2d
    found = pool(input.unsqueeze(-1), *zip(numbers, (1, 1, 0, 1), strict=True), *flags, **named)
    return tuple(t.squeeze(-1) for t in found) if isinstance(found, tuple) else found.squeeze(-1)


def _linspace(start: Any, end: Any, steps: Any, *, dtype: Any = None, **named: Any) -> Tensor:
    """torch.linspace of numbers: from either end to the middle, as ATen has it (RangeFactoriesKernel.cpp)."""
    dtype = dtype or torch.get_default_dtype()
    if not isinstance(start, (int, float)) or not isinstance(end, (int, float)) or not dtype.is_floating_point:
        return torch.linspace(start, end, steps, dtype=dtype, **named)
    i = torch.arange(steps, dtype=dtype)
    last = torch.scalar_tensor(steps - 1, dtype=dtype)
    step = torch.scalar_tensor(end - start, dtype=dtype) / last.clamp(min=1)
    return torch.where((i < steps // 2) | (last == 0), start + step * i, end - step * (last - i))


REPLACED: dict[str, Any] = {"max_pool1d": _max_pool1d, "linspace": _linspace}


RECURRENT = torch.ops.neve.recurrent.default
