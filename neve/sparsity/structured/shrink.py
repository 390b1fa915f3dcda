"""Layers without the rows and columns that a plan removes, in place. Nothing in here decides anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neve.sparsity.structured.flow import Plan, Recurrent, Use
from neve.sparsity.structured.masks import TRANSPOSED


@torch.no_grad()
def shrink(plan: Plan) -> None:
    """Cut all layers of the plan's model; their masks must be squashed already."""
    for layer, use in plan.layers.items():
        _shrink_layer(plan, layer, use)
    for lstm, recurrent in plan.lstms.items():
        _shrink_lstm(plan, lstm, recurrent)
    for norm, ids in plan.norms.items():
        _shrink_norm(norm, plan.channels.kept(ids))


def _cut(module: nn.Module, name: str, *index: Tensor) -> None:
    """Keep the rows (and columns) with True of a parameter or buffer, if there is one and not all stay."""
    old = getattr(module, name, None)
    if not isinstance(old, Tensor) or all(bool(keep.all()) for keep in index):
        return
    new = old.detach()
    for dim, keep in enumerate(index):
        new = new.index_select(dim, keep.nonzero().flatten().to(new.device))
    setattr(module, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)


def _folded(weight: Tensor, const: Tensor, keep: Tensor) -> Tensor:
    """What the columns that go contribute: weight [out, in, …], const [in] → [out]."""
    gone = (~keep).nonzero().flatten().to(weight.device)
    columns = weight.detach().flatten(2).sum(2) if weight.dim() > 2 else weight.detach()
    result: Tensor = columns.index_select(1, gone) @ const.to(weight).index_select(0, gone)
    return result


def _add_bias(module: nn.Module, name: str, extra: Tensor) -> None:
    if not bool(extra.any()):
        return
    bias = getattr(module, name)
    if bias is None:
        setattr(module, name, nn.Parameter(extra))
    else:
        setattr(module, name, nn.Parameter(bias.detach() + extra, bias.requires_grad))


def _shrink_layer(plan: Plan, layer: Any, use: Use) -> None:
    rows, columns = plan.channels.kept(use.outs), plan.channels.kept(use.ins.ids)
    transposed = isinstance(layer, TRANSPOSED)  # which has constants other than zero in no column that goes
    if use.depthwise:
        _cut(layer, "weight", columns if transposed else rows)
        layer.groups = int(columns.sum())
    elif transposed:
        _cut(layer, "weight", columns, rows)
    else:
        if not columns.all():
            _add_bias(layer, "bias", _folded(layer.weight, use.ins.const, columns))
        _cut(layer, "weight", rows, columns)
    _cut(layer, "bias", rows)
    names = ("out_features", "in_features") if isinstance(layer, nn.Linear) else ("out_channels", "in_channels")
    for name, keep in zip(names, (rows, columns), strict=True):
        setattr(layer, name, int(keep.sum()))


def _shrink_lstm(plan: Plan, lstm: nn.LSTM, recurrent: Recurrent) -> None:
    """Every gate loses the units' rows; a layer reads the input, or the units of all directions of the one before."""
    kept = [plan.channels.kept(ids) for ids in recurrent.units]
    directions = 1 + lstm.bidirectional
    first = plan.channels.kept(recurrent.ins.ids)
    suffixes = [n[len("weight_ih") :] for n in lstm._flat_weights_names if n.startswith("weight_ih")]
    for k, suffix in enumerate(suffixes):
        start = k - k % directions - directions
        columns = first if start < 0 else torch.cat(kept[start : start + directions])
        if start < 0 and not first.all():
            _add_bias(
                lstm, "bias_ih" + suffix, _folded(getattr(lstm, "weight_ih" + suffix), recurrent.ins.const, first)
            )
        rows = kept[k].repeat(4)
        _cut(lstm, "weight_ih" + suffix, rows, columns)
        _cut(lstm, "weight_hh" + suffix, rows, kept[k])
        _cut(lstm, "bias_ih" + suffix, rows)
        _cut(lstm, "bias_hh" + suffix, rows)
    lstm.hidden_size, lstm.input_size = int(kept[0].sum()), int(first.sum())
    lstm.flatten_parameters()


def _shrink_norm(norm: Any, keep: Tensor) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _cut(norm, name, keep)
    if isinstance(norm, nn.LayerNorm):
        norm.normalized_shape = (int(keep.sum()),)
    elif isinstance(norm, nn.PReLU):
        norm.num_parameters = int(keep.sum())
    else:
        norm.num_features = int(keep.sum())
