"""Packed sequences: the padded tensor and its lengths, which is what packing and padding make of each other.

Recurrent layers run over the padded steps too: what they give there is not used. The reverse direction runs forward
over sequences turned around within their lengths. Where a size would depend on the lengths, the run checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.recurrent_op import RECURRENT
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import Dim, Num, Packed, PackedSizes, Refusal, Var, describe

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

FROZEN = 1e4
"""Makes a sigmoid exactly 0 or 1, so that a step behind a sequence's end leaves an LSTM's cell as it is."""
GATES = {"gru": 3, "lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}
KEEP = frozenset({"dropout", "dropout_", "detach", "clone", "contiguous", "to", "relu", "tanh", "sigmoid", "linear"})
ASK = frozenset({"dtype", "device", "is_floating_point", "is_cuda", "requires_grad", "layout"})


def pack(m: Machine, x: Any, lengths: Any, batch_first: Any = False) -> Any:
    """torch._pack_padded_sequence. The run checks that the lengths are sorted, and from 1 to the padded length."""
    if not isinstance(x, Var) or not isinstance(lengths, Var) or not isinstance(batch_first, bool):
        return NotImplemented
    if x.meta.dim() < 2 or lengths.meta.dim() != 1:
        raise Refusal(f"packing {describe(x)} with lengths {describe(lengths)}")
    padded = m.tape.call(ATEN.transpose.int, x, 0, 1) if batch_first else x
    lengths = m.tape.cast(lengths, torch.int64)
    steps = _number(m, padded, 0)
    _check(m, m.tape.call(ATEN.lt.Scalar, lengths, 1), "Length of all samples has to be greater than 0")
    _check(m, m.tape.call(ATEN.gt.Tensor, lengths, steps), "a length is greater than that of the padded sequences")
    if lengths.meta.shape[0] != 1:
        ahead, behind = (m.torch("slice", [lengths, 0, *part], {}) for part in ((1, None), (0, -1)))
        unsorted = m.tape.call(ATEN.gt.Tensor, ahead, behind)
        _check(m, unsorted, "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True")
    from neve.capture.torchscript.tensors import dim_of

    longest = Num(int, m.tape.call(ATEN.amax.default, lengths))
    return Packed(padded, lengths), PackedSizes(dim_of(m, padded, 1), longest)


def _number(m: Machine, x: Var, axis: int) -> Var:
    from neve.capture.torchscript.tensors import dim_of

    return m.tape.number(dim_of(m, x, axis), int)


def _check(m: Machine, wrong: Var, message: str) -> None:
    m.tape.fail(m.tape.call(ATEN.any.default, wrong), message)


def pad(m: Machine, x: Packed, sizes: Any, batch_first: bool, value: float, total: Any = -1) -> Any:
    """torch._pad_packed_sequence. Its result is as long as the padded sequences were, or `total`; the run checks that
    the longest sequence is so long, or not longer.
    """
    longest = sizes.count.var
    steps = _number(m, x.padded, 0)
    out = m.tape.call(
        ATEN.where.self, _inside(m, x), x.padded, m.tape.call(ATEN.full.default, [], value, dtype=x.dtype)
    )
    if isinstance(total, Num) or (isinstance(total, int) and total < 1):
        wanted = total.var if isinstance(total, Num) else longest
        _check(
            m,
            m.tape.call(ATEN.ne.Tensor, wanted, steps),
            "InputError: the longest sequence is shorter than the padded ones, so that pad_packed_sequence would give "
            "a tensor of another size: cut the padding to the longest sequence, or pass total_length",
        )
    else:
        _check(
            m,
            m.tape.call(ATEN.gt.Tensor, longest, m.tape.number(total, int)),
            "total_length is less than the length of the longest sequence",
        )
        out = _resized(m, out, total, value)
    return (m.tape.call(ATEN.transpose.int, out, 0, 1) if batch_first else out), x.lengths


def _resized(m: Machine, x: Var, total: Any, value: float) -> Var:
    """x with `total` steps."""
    have = x.meta.shape[0]
    if not isinstance(have, int) or not isinstance(total, int):
        raise Refusal("pad_packed_sequence with total_length where the number of padded steps varies")
    if have >= total:
        cut: Var = m.torch("slice", [x, 0, 0, total], {})
        return cut
    from neve.capture.torchscript.tensors import dim_of

    shape = [total - have, *(dim_of(m, x, i) for i in range(1, x.meta.dim()))]
    more = m.torch("full", [shape, value], {})
    return m.tape.tensor(ATEN.cat.default, [x, m.tape.cast(more, x.meta.dtype)], 0)


def _steps(m: Machine, x: Packed) -> Var:
    """0, 1, … over the padded steps, as a column."""
    from neve.capture.torchscript.tensors import dim_of

    count = dim_of(m, x.padded, 0)
    steps = m.tape.call(ATEN.arange.default, count.var if isinstance(count, Dim) else count, dtype=torch.int64)
    return m.tape.tensor(ATEN.unsqueeze.default, steps, 1)


def _inside(m: Machine, x: Packed) -> Var:
    """Whether a step is within its sequence: (T, B, 1 …)."""
    found = m.tape.tensor(ATEN.lt.Tensor, _steps(m, x), m.tape.call(ATEN.unsqueeze.default, x.lengths, 0))
    for _ in range(x.padded.meta.dim() - 2):
        found = m.tape.call(ATEN.unsqueeze.default, found, -1)
    return found


def _turned(m: Machine, x: Packed, padded: Var) -> Var:
    """The sequences from their last step to their first; what is behind them stays anything."""
    last = m.tape.call(ATEN.sub.Scalar, m.tape.call(ATEN.unsqueeze.default, x.lengths, 0), 1)
    index = m.tape.call(ATEN.clamp_min.default, m.tape.call(ATEN.sub.Tensor, last, _steps(m, x)), 0)
    index = m.tape.call(ATEN.expand_as.default, m.tape.call(ATEN.unsqueeze.default, index, 2), padded)
    return m.tape.tensor(ATEN.gather.default, padded, 0, index)


def _last(m: Machine, x: Packed, padded: Var) -> Var:
    """Each sequence's last step: (B, H)."""
    index = m.tape.call(ATEN.sub.Scalar, x.lengths, 1)
    index = m.tape.call(ATEN.unsqueeze.default, m.tape.call(ATEN.unsqueeze.default, index, 0), 2)
    one = m.torch("slice", [padded, 0, 0, 1], {})
    index = m.tape.call(ATEN.expand_as.default, index, one)
    return m.tape.tensor(ATEN.squeeze.dim, m.tape.call(ATEN.gather.default, padded, 0, index), 0)


def recurrent(name: str) -> Callable[..., Any]:
    """torch.gru, lstm, rnn_tanh or rnn_relu of packed data."""

    def run(
        m: Machine, x: Packed, sizes: Any, hx: Any, params: Sequence[Var], biases: bool, layers: int, dropout: Any,
        train: Any, bidirectional: bool,
    ) -> Any:  # fmt: skip
        del sizes, dropout, train
        directions = 2 if bidirectional else 1
        each = 4 if biases else 2
        states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        if len(params) != each * layers * directions or any(not isinstance(p, Var) for p in (*params, *states)):
            raise Refusal(f"{name} of packed sequences with {len(params)} parameters: projections are not supported")
        padded, finals = x.padded, []
        for layer in range(layers):
            outputs = []
            for direction in range(directions):
                at = layer * directions + direction
                given = [m.tape.call(ATEN.slice.Tensor, s, 0, at, at + 1) for s in states]
                own = [*params[at * each : (at + 1) * each]]
                y, final = _one(m, name, replace(x, padded=padded), given, own, biases, direction == 1)
                outputs.append(y)
                finals.append(final)
            padded = m.tape.call(ATEN.cat.default, outputs, 2) if directions > 1 else outputs[0]
        last = [m.tape.call(ATEN.stack.default, list(column)) for column in zip(*finals, strict=True)]
        return (replace(x, padded=padded), *last)

    return run


def _one(
    m: Machine, name: str, x: Packed, states: list[Var], params: list[Var], biases: bool, reverse: bool
) -> tuple[Var, list[Var]]:
    """One layer in one direction: its outputs, and [h] or [h, c] (B, H) behind the last step of each sequence."""
    padded = _turned(m, x, x.padded) if reverse else x.padded
    if name == "lstm":
        padded, params = _freezing(m, replace(x, padded=padded), params)
    y, *rest = m.tape.call(RECURRENT, padded, states, params, name, biases, 1, False, False)
    final = [_last(m, x, y)]
    if name == "lstm":
        final.append(m.tape.call(ATEN.squeeze.dim, rest[1], 0))
    return (_turned(m, x, y) if reverse else y), final


def _freezing(m: Machine, x: Packed, params: list[Var]) -> tuple[Var, list[Var]]:
    """With one input more, 1 behind the end of a sequence, that closes the input gate and opens the forget gate."""
    behind = m.tape.cast(m.tape.call(ATEN.logical_not.default, _inside(m, x)), x.dtype)
    padded = m.tape.call(ATEN.cat.default, [x.padded, behind], 2)
    hidden = params[1].meta.shape[1]
    parts = [m.tape.call(ATEN.full.default, [hidden, 1], value, dtype=x.dtype) for value in (-FROZEN, FROZEN, 0.0, 0.0)]
    column = m.tape.call(ATEN.cat.default, parts, 0)
    return padded, [m.tape.call(ATEN.cat.default, [params[0], column], 1), *params[1:]]


def _size(m: Machine, x: Any, axis: Any = None) -> Any:
    from neve.capture.torchscript.tensors import dim_of

    rank = x.padded.meta.dim() - 1
    if type(axis) is int and axis % rank > 0:
        return dim_of(m, x.padded, axis % rank + 1)
    raise Refusal("the number of all steps of packed sequences depends on their lengths")


def call(m: Machine, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """torch.NAME with packed data, or its batch sizes, among the arguments. Refusal for what is not supported."""
    x = args[0] if args else None
    if isinstance(x, PackedSizes):
        if name in ("select", "__getitem__") and args[-1] == 0:
            return x.batch
        if name in ("size", "len") and args[1:] in ([0], []):
            return x.count if args[1:] or name == "len" else [x.count]
        if name in ("device", "to", "cpu", "is_cuda"):
            return x if name in ("to", "cpu") else torch.device("cpu") if name == "device" else False
    elif isinstance(x, Packed):
        if name in METHODS:
            return METHODS[name](m, *args, **kwargs)
        if name in GATES:
            return recurrent(name)(m, *args, **kwargs)
        rest = [a for a in args[1:] if isinstance(a, Packed)]
        if name in ASK:
            return _plainly(m, name, [x.padded, *args[1:]], kwargs)
        if name in KEEP and not rest:
            return replace(x, padded=m.torch(name, [x.padded, *args[1:]], kwargs))
    raise Refusal(f"{name} of packed sequences is not supported: pad them first (pad_packed_sequence)")


def _plainly(m: Machine, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    from neve.capture.torchscript.builtins import PRIM

    return PRIM[name](m, *args, **kwargs) if name in PRIM else m.torch(name, args, kwargs)


METHODS: dict[str, Callable[..., Any]] = {
    "_pad_packed_sequence": pad,
    "dim": lambda m, x: x.padded.meta.dim() - 1,
    "ndim": lambda m, x: x.padded.meta.dim() - 1,
    "size": _size,
    "shape": _size,
}
