"""How channels pass layers with parameters: Linear, convolutions, LSTM, norms, PReLU."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from neve.sparsity.modules import parametrizations
from neve.sparsity.structured.channels import Flow
from neve.sparsity.structured.flow import Blocked, Recurrent, Use, Walk
from neve.sparsity.structured.masks import TRANSPOSED, FakeStructuredSparsity, rows_first

_NAN = float("nan")


def linear(walk: Walk, node: fx.Node) -> Flow:
    layer = walk.module(node)
    ins = _input(walk, node, -1, layer.in_features)
    use = _use(walk, node, layer, ins, layer.out_features)
    rank = walk.rank(node, ins.rank if node.args and walk.value(node.args[0]) else 2)
    return Flow(use.outs, _row_constants(walk, layer, use), -1, rank)


def convolution(walk: Walk, node: fx.Node) -> Flow:
    layer = walk.module(node)
    axis = -len(layer.kernel_size) - 1
    ins = _input(walk, node, axis, layer.in_channels)
    use = _use(walk, node, layer, ins, layer.out_channels)
    const = _row_constants(walk, layer, use)
    if use.depthwise:
        const = torch.where(const.isnan(), _depthwise_constants(layer, ins.const, walk.plan.exact), const)
    return Flow(use.outs, const, axis, walk.rank(node, 1 - axis))


def _input(walk: Walk, node: fx.Node, axis: int, size: int) -> Flow:
    """What a layer reads, over its whole input axis; unknown and pinned channels where that is not known."""
    value = walk.value(node.args[0]) if node.args else None
    if isinstance(value, Flow):
        whole = value.over(size) if value.axis == axis else None
        if whole is not None:
            return whole
    walk.block(node, f"{walk.where(node)} reads it along another axis")
    ids = walk.channels.new(size)
    walk.channels.pin(ids, f"{walk.where(node)} reads what cannot shrink")
    return Flow(ids, torch.full((size,), _NAN), axis, 1 - axis)


def _use(walk: Walk, node: fx.Node, layer: Any, ins: Flow, rows: int) -> Use:
    """Enter a call of a layer: its reads, and that all its calls have the same channels."""
    channels, groups = walk.channels, getattr(layer, "groups", 1)
    depthwise = groups > 1 and groups == layer.in_channels
    use = walk.plan.layers.get(layer)
    if use is None:
        outs = channels.new(rows)
        use = walk.plan.layers[layer] = Use(ins, outs, depthwise)
        if depthwise:
            times = rows // groups
            channels.tie(outs, (i for i in ins.ids for _ in range(times)))
        elif groups > 1:
            channels.pin((*ins.ids, *outs), f"{walk.where(node)} is in groups")
        foreign = [
            p for chain in parametrizations(layer).values() for p in chain if not isinstance(p, FakeStructuredSparsity)
        ]
        if foreign:
            channels.pin((*ins.ids, *outs), f"{walk.where(node)} is parametrized by {type(foreign[0]).__name__}")
    else:
        channels.tie(use.ins.ids, ins.ids)
        differs = ~torch.eq(use.ins.const, ins.const)
        channels.pin([i for i, d in zip(ins.ids, differs.tolist(), strict=True) if d], f"{walk.where(node)} runs twice")
    if not depthwise:
        varies = isinstance(layer, TRANSPOSED) or (walk.plan.exact and padded(layer))
        channels.read(ins, walk.where(node), not varies)
    return use


def padded(layer: Any) -> bool:
    """Whether a layer sees zeros around its input, so that a constant channel is not constant to it."""
    amounts = getattr(layer, "_reversed_padding_repeated_twice", ())
    return getattr(layer, "padding_mode", "zeros") == "zeros" and any(amounts)


def _row_constants(walk: Walk, layer: Any, use: Use) -> Tensor:
    """What the rows of a layer give: a pruned one its bias, or 0; others vary."""
    const = torch.full_like(rows_first(layer, layer.weight.detach()).flatten(1)[:, 0], _NAN)
    rows = walk.plan.masks.get((layer, "weight"))
    if rows is not None:
        bias = torch.zeros_like(const) if layer.bias is None or rows.prune_bias else layer.bias.detach()
        const = torch.where(rows.mask, const, bias)
    return const


def _depthwise_constants(layer: Any, const: Tensor, exact: bool) -> Tensor:
    """What a depthwise convolution makes of constant channels. What a transposed one makes of them depends on how many
    of its steps meet at a place, unless they are zero.
    """
    times = layer.out_channels // layer.in_channels
    const = const.to(layer.weight).repeat_interleave(times)
    if isinstance(layer, TRANSPOSED) or (exact and padded(layer)):
        const = torch.where(const == 0, const, torch.full_like(const, _NAN))
    out: Tensor = const * rows_first(layer, layer.weight.detach()).flatten(1).sum(1)
    return out if layer.bias is None else out + layer.bias.detach()


def lstm(walk: Walk, node: fx.Node) -> tuple[Any, ...]:
    layer: nn.LSTM = walk.module(node)
    ins = _input(walk, node, -1, layer.input_size)
    channels, where = walk.channels, walk.where(node)
    recurrent = walk.plan.lstms.get(layer)
    if recurrent is None:
        units = [channels.new(layer.hidden_size) for _ in range(layer.num_layers * (1 + layer.bidirectional))]
        recurrent = walk.plan.lstms[layer] = Recurrent(ins, units)
    else:
        channels.tie(recurrent.ins.ids, ins.ids)
        channels.pin(ins.ids, f"{where} runs twice")
    everything = (*ins.ids, *(i for ids in recurrent.units for i in ids))
    if len(node.args) > 1 or node.kwargs or layer.proj_size:
        channels.pin(everything, f"{where} has {'a projection' if layer.proj_size else 'an initial state'}")
    channels.read(ins, where, bool(layer.bias))
    return _lstm_outputs(walk, node, layer, recurrent)


def _lstm_outputs(walk: Walk, node: fx.Node, layer: nn.LSTM, recurrent: Recurrent) -> tuple[Any, ...]:
    """(output, (h, c)): the units of the last layer are the channels of the output, and of h and c where these have no
    others; else whoever reads h or c keeps all.
    """
    names = [n[len("weight_ih") :] for n in layer._flat_weights_names if n.startswith("weight_ih")]
    flows = []
    for suffix, ids in zip(names, recurrent.units, strict=True):
        flows.append(Flow(ids, _unit_constants(walk, layer, suffix), -1, 3))
        walk.channels.read(flows[-1], walk.where(node))
    directions = 1 + layer.bidirectional
    last = flows[-directions:]
    rank = walk.rank(node, 3)
    out = Flow(tuple(i for f in last for i in f.ids), torch.cat([f.const for f in last]), -1, rank)
    state = out if len(flows) == 1 else Flow((), out.const[:0], -1, rank)
    hidden = flows if len(flows) > 1 else []
    for f in hidden if _reads_state(node) else ():
        walk.channels.pin(f.ids, f"the states of all layers of {walk.where(node)} are read")
    return (out, (state, state))


def _reads_state(node: fx.Node) -> bool:
    """Whether anything but the output of an LSTM is used; `out, (h, c) = lstm(x)` alone does not use h and c."""

    def used(n: fx.Node) -> bool:
        return any(user.target is not operator.getitem or used(user) for user in n.users)

    parts = [user for user in node.users if user.target is operator.getitem]
    return len(parts) < len(node.users) or any(part.args[1] != 0 and used(part) for part in parts)


def _unit_constants(walk: Walk, layer: nn.LSTM, suffix: str) -> Tensor:
    """A unit whose rows and biases are zero in all gates has c = σ(0)·c + σ(0)·tanh(0) = 0 from c = 0 on, so h = 0."""
    gates = []
    for name in ("weight_ih", "weight_hh"):
        rows = walk.plan.masks.get((layer, name + suffix))
        zero = torch.zeros(4 * layer.hidden_size, dtype=torch.bool)
        if rows is not None and (rows.prune_bias or not layer.bias):
            zero = ~rows.mask.cpu()
        gates.append(zero.view(4, -1))
    pruned = torch.cat(gates).all(0)
    return torch.where(pruned, 0.0, _NAN).to(getattr(layer, "weight_ih" + suffix).detach())


def batch_norm(walk: Walk, node: fx.Node) -> Flow:
    """y = (x - mean) / sqrt(var + eps) * weight + bias, by channel; without running statistics a constant has mean
    itself and gives the bias.
    """
    layer = walk.module(node)
    flow = _channelwise(walk, node, layer.num_features)
    const = torch.zeros_like(flow.const)
    if layer.running_mean is not None:
        const = (flow.const - layer.running_mean) / torch.sqrt(layer.running_var + layer.eps)
    if layer.weight is not None:
        const = const * layer.weight.detach() + layer.bias.detach()
    _enter_norm(walk, layer, flow)
    return flow.with_const(torch.where(flow.const.isnan(), flow.const, const))


def layer_norm(walk: Walk, node: fx.Node) -> Flow:
    """A norm over the channels: pruned ones are taken out of its mean and variance, and give nothing."""
    layer, flow = walk.module(node), walk.flow(node)
    whole = flow.over(layer.normalized_shape[-1])
    if whole is None or whole.axis != -1 or len(layer.normalized_shape) != 1:
        raise Blocked("normalizes over more than channels")
    _enter_norm(walk, layer, whole)
    return whole.with_const(torch.where(whole.const.isnan(), whole.const, torch.zeros_like(whole.const)))


def prelu(walk: Walk, node: fx.Node) -> Flow:
    layer = walk.module(node)
    if layer.num_parameters == 1:
        flow = walk.flow(node)
        slope = layer.weight.detach()
    else:
        flow = _channelwise(walk, node, layer.num_parameters)
        _enter_norm(walk, layer, flow)
        slope = layer.weight.detach()
    return flow.with_const(torch.where(flow.const < 0, slope * flow.const, flow.const))


def _channelwise(walk: Walk, node: fx.Node, size: int) -> Flow:
    """The flow into a layer that works on dim 1 of its input."""
    flow = walk.flow(node).over(size)
    if flow is None or flow.axis != 1 - flow.rank:
        raise Blocked("works on another dim than that of the channels")
    return flow


def _enter_norm(walk: Walk, layer: nn.Module, flow: Flow) -> None:
    if layer in walk.plan.norms:
        walk.channels.tie(walk.plan.norms[layer], flow.ids)
    walk.plan.norms[layer] = flow.ids
    if parametrizations(layer):
        walk.channels.pin(flow.ids, f"{type(layer).__name__} is parametrized")


Rule = Callable[[Walk, fx.Node], Any]

MODULES: Mapping[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    **dict.fromkeys(TRANSPOSED, convolution),
    nn.LSTM: lstm,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
    nn.LayerNorm: layer_norm,
    nn.PReLU: prelu,
}
PRODUCERS = frozenset({nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.LSTM})
