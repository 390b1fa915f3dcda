"""Builders of recurrent layers: torch's stacks of layers and directions as single ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from neve.capture.aten import TABLE, aten
from neve.capture.aten_random import dropped
from neve.capture.context import Context, Refusal
from neve.capture.recurrent_op import RECURRENT
from neve.ir.graph import Value
from neve.ir.types import DType
from neve.ops.pad import Cat
from neve.ops.recurrent import Gru, Lstm, Recurrent, Rnn


@aten("gru.input")
def gru(c: Context, x: Value, h0: Value, params: Sequence[Value], *flags: Any) -> tuple[Value, ...]:
    return _stack(c, x, (h0,), params, Gru, *flags)


@aten("lstm.input")
def lstm(c: Context, x: Value, states: Sequence[Value], params: Sequence[Value], *flags: Any) -> tuple[Value, ...]:
    if states[0].shape[-1] != states[1].shape[-1]:
        raise Refusal("an LSTM with a projection (proj_size) is not supported")
    return _stack(c, x, tuple(states), params, Lstm, *flags)


@aten("rnn_tanh.input")
def rnn_tanh(c: Context, x: Value, h0: Value, params: Sequence[Value], *flags: Any) -> tuple[Value, ...]:
    return _stack(c, x, (h0,), params, lambda reverse: Rnn(reverse, "tanh"), *flags)


@aten("rnn_relu.input")
def rnn_relu(c: Context, x: Value, h0: Value, params: Sequence[Value], *flags: Any) -> tuple[Value, ...]:
    return _stack(c, x, (h0,), params, lambda reverse: Rnn(reverse, "relu"), *flags)


def _any(
    c: Context, x: Value, states: Sequence[Value], params: Sequence[Value], kind: str, biases: bool, layers: int,
    bidirectional: bool, batch_first: bool,
) -> tuple[Value, ...]:  # fmt: skip
    """`neve.capture.recurrent_op`."""
    flags = (biases, layers, 0.0, False, bidirectional, batch_first)
    if kind == "lstm":
        return lstm(c, x, states, params, *flags)
    return {"gru": gru, "rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu}[kind](c, x, states[0], params, *flags)


TABLE[RECURRENT] = _any


def _stack(
    c: Context,
    x: Value,
    states: tuple[Value, ...],
    params: Sequence[Value],
    cell: Callable[[bool], Recurrent],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """Layers and directions: (y, last states…), the states stacked as torch does (layer · directions + direction)."""
    directions, each = 2 if bidirectional else 1, 4 if has_biases else 2
    y = c.permute(x, (1, 0, 2)) if batch_first else x
    if x.dtype is not DType.float32 and not isinstance(y.shape[0], int):
        raise Refusal(
            f"a recurrent layer over a dynamic number of steps is supported in float32 alone, got {x.dtype}: compute "
            "it in float32 (layer.float(), x.float()), or leave that dim out of dynamic_shapes"
        )
    last: list[tuple[Value, ...]] = []
    for layer in range(layers):
        outs = []
        for direction in range(directions):
            k = layer * directions + direction
            weights = list(params[k * each : (k + 1) * each])
            if not has_biases:
                weights += [c.full(0, x.dtype, weights[0].shape[:1])] * 2
            out, *ends = c.emit(cell(bool(direction)), y, *weights, *(c.select(s, 0, k) for s in states))
            outs.append(out)
            last.append(tuple(ends))
        y = outs[0] if directions == 1 else c(Cat(2), *outs)
        if dropout and train and layer < layers - 1:
            y = dropped(c, y, c.contiguous(y), float(dropout))
    stacked = tuple(_together(c, [ends[i] for ends in last]) for i in range(len(states)))
    return (c.permute(y, (1, 0, 2)) if batch_first else y, *stacked)


def _together(c: Context, parts: Sequence[Value]) -> Value:
    rows = [c.unsqueeze(p, 0) for p in parts]
    return rows[0] if len(rows) == 1 else c(Cat(0), *rows)
