"""How channels pass operations without parameters: activations, sums, pooling, flattening, concatenation.

A rule takes (walk, node) and returns the result's flow; it raises Blocked for what it cannot follow. What is in no
table is not followed at all: the channels that it reads are kept.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from neve.sparsity.structured.channels import Flow
from neve.sparsity.structured.flow import Blocked, Walk
from neve.sparsity.structured.layers import Rule


def elementwise(walk: Walk, node: fx.Node) -> Flow:
    """f(x), with what is constant computed by f itself, in evaluation mode."""
    flow = walk.flow(node)
    const = flow.const.clone()
    if node.op == "call_module":
        module = walk.module(node)
        training = module.training
        module.eval()
        const = module(const)
        module.train(training)
    else:
        args, kwargs = (
            _numbers(walk, node.args[1:]),
            dict(zip(node.kwargs, _numbers(walk, node.kwargs.values()), strict=True)),
        )
        const = _function(node)(const, *args, **kwargs)
    return flow.with_const(torch.where(flow.const.isnan(), flow.const, const.detach()))


def _function(node: fx.Node) -> Callable[..., Tensor]:
    if callable(node.target):
        return node.target
    function: Callable[..., Tensor] = getattr(Tensor, node.target)
    return function


def _numbers(walk: Walk, args: Any) -> list[Any]:
    """Arguments of a call with parameters of one element in place of what reads them."""
    found = []
    for arg in args:
        if isinstance(arg, fx.Node):
            value = operator.attrgetter(str(arg.target))(walk.plan.model) if arg.op == "get_attr" else None
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise Blocked("meets what cannot shrink")
            arg = value.detach()
        found.append(arg)
    return found


def identity(walk: Walk, node: fx.Node) -> Flow:
    return walk.flow(node)


def binary(walk: Walk, node: fx.Node) -> Flow:
    """a ∘ b: two flows are tied channel by channel, a number is applied to every channel."""
    operands = [walk.value(a) for a in node.args[:2]]
    flows = [v for v in operands if isinstance(v, Flow)]
    if len(node.args) != 2 or not flows or any(isinstance(v, tuple) for v in operands):
        raise Blocked("meets what cannot shrink")
    values = [
        v.const if isinstance(v, Flow) else _numbers(walk, [a])[0] for v, a in zip(operands, node.args, strict=True)
    ]
    a, b = flows[0], flows[-1]
    if (a.axis, a.spread, len(a.ids)) != (b.axis, b.spread, len(b.ids)):
        raise Blocked("meets other channels")
    walk.channels.tie(a.ids, b.ids)
    if any(isinstance(v, Tensor) for v in values):
        values[0] = values[0].clone() if isinstance(values[0], Tensor) else values[0]
    const = _function(node)(*values, **node.kwargs)
    if node.target in _PRODUCTS:
        zero = torch.stack([f.const == 0 for f in flows]).any(0)
        const = torch.where(zero, torch.zeros_like(const), const)
    return replace(a, const=const, rank=max(a.rank, b.rank))


def pool(walk: Walk, node: fx.Node) -> Flow:
    """Pooling over the dims behind the channels; an average over padding keeps only zero constant."""
    flow = walk.flow(node)
    if flow.axis == -1 or flow.spread:
        raise Blocked("pools over the channels")
    if node.op == "call_module":
        kwargs: Mapping[str, Any] = vars(walk.module(node))
    else:
        names = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        kwargs = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if kwargs.get("return_indices"):
        raise Blocked("returns indices")
    average = node.target in _AVERAGES or (
        node.op == "call_module" and isinstance(walk.module(node), (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))
    )
    padding = kwargs.get("padding", 0)
    padded = any(n != 0 for n in (padding if isinstance(padding, (tuple, list)) else (padding,)))
    if average and (padded or kwargs.get("divisor_override")):
        return flow.with_const(torch.where(flow.const == 0, 0.0, float("nan")).to(flow.const))
    return flow


def flatten(walk: Walk, node: fx.Node) -> Flow:
    """[N, C, …] → [N, C · …]: each channel becomes a run of neighbours."""
    if node.op == "call_module":
        start, end = walk.module(node).start_dim, walk.module(node).end_dim
    else:
        start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        end = node.args[2] if len(node.args) > 2 else node.kwargs.get("end_dim", -1)
    flow = walk.flow(node)
    if not isinstance(start, int) or not isinstance(end, int) or flow.spread:
        raise Blocked("flattens dims that are not known")
    return _flattened(flow, flow.dim(start), flow.dim(end))


def _flattened(flow: Flow, start: int, end: int) -> Flow:
    if start == end:
        return flow
    if start != flow.axis or end != -1:
        raise Blocked("flattens other dims than from the channels to the last")
    return replace(flow, axis=-1, rank=flow.rank + start + 1, spread=True)


def view(walk: Walk, node: fx.Node) -> Flow:
    """x.view(x.size(0), -1) and the like: a flatten from dim 1 on."""
    flow = walk.flow(node)
    sizes = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], (tuple, list)) else node.args[1:]
    if len(sizes) != 2 or sizes[1] != -1 or not _is_size(sizes[0]) or flow.axis != 1 - flow.rank or flow.spread:
        raise Blocked("changes the shape in a way that is not followed; use flatten(1)")
    return _flattened(flow, flow.axis, -1)


def _is_size(arg: Any) -> bool:
    """Whether an argument is x.size(0) or x.shape[0] of whatever x."""
    if not isinstance(arg, fx.Node):
        return False
    if arg.target == "size":
        return bool(arg.args[1:] == (0,))
    sizes = arg.args[0] if arg.target is operator.getitem and arg.args[1] == 0 else None
    return isinstance(sizes, fx.Node) and sizes.target in (getattr, "size")


def size(walk: Walk, node: fx.Node) -> None:
    """The size of dim 0, or all sizes of which only that is read: unless it is the channels', nothing is to be kept."""
    flow = walk.flow(node)
    dims = node.args[1:]
    if not dims or node.target is getattr:
        if node.target is getattr and dims != ("shape",):
            raise Blocked("reads an attribute of it")
        dims = tuple(user.args[1] if user.target is operator.getitem else None for user in node.users)
    if any(not isinstance(d, int) or flow.dim(d) == flow.axis for d in dims):
        raise Blocked("reads its sizes")


def mean(walk: Walk, node: fx.Node) -> Flow:
    """A mean over dims that are not the channels'."""
    flow = walk.flow(node)
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    keep = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
    dims = [dims] if isinstance(dims, int) else dims
    if not isinstance(dims, (tuple, list)) or not all(isinstance(d, int) for d in dims) or not isinstance(keep, bool):
        raise Blocked("is over dims that are not known")
    gone = [flow.dim(int(str(d))) for d in dims]
    if flow.axis in gone or flow.spread:
        raise Blocked("is over the channels")
    if keep:
        return flow
    return replace(flow, axis=flow.axis + sum(d > flow.axis for d in gone), rank=flow.rank - len(gone))


def item(walk: Walk, node: fx.Node) -> Any:
    """An element of an LSTM's result, or steps of a sequence: x[:, -1]."""
    value, index = walk.value(node.args[0]), node.args[1]
    if isinstance(value, tuple):
        if not isinstance(index, int):
            raise Blocked("takes several of its results")
        return value[index]
    flow = walk.flow(node)
    parts = index if isinstance(index, tuple) else (index,)
    behind = parts[flow.rank + flow.axis :]
    if flow.axis != -1 or not all(isinstance(p, (int, slice)) for p in parts) or any(p != slice(None) for p in behind):
        raise Blocked("takes some of its channels")
    return replace(flow, rank=flow.rank - sum(isinstance(p, int) for p in parts))


def cat(walk: Walk, node: fx.Node) -> Flow:
    """Along the channels: those of all inputs, one after the other. Along another dim: equal ones."""
    values = [walk.value(a) for a in node.args[0]]  # type: ignore[union-attr]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    flows = [v for v in values if isinstance(v, Flow)]
    first = flows[0]
    alike = all((f.axis, f.rank, f.spread) == (first.axis, first.rank, False) for f in flows)
    if len(flows) != len(values) or not alike or not isinstance(dim, int):
        raise Blocked("meets what cannot shrink")
    if first.dim(dim) == first.axis:
        return replace(first, ids=tuple(i for f in flows for i in f.ids), const=torch.cat([f.const for f in flows]))
    if any(len(f.ids) != len(first.ids) for f in flows):
        raise Blocked("meets other channels")
    const = first.const
    for f in flows[1:]:
        walk.channels.tie(first.ids, f.ids)
        const = torch.where(const == f.const, const, torch.full_like(const, float("nan")))
    return first.with_const(const)


_PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")

_ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
    "tanhshrink",
]
_DROPOUTS = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]

_POOLS = ("max", "avg", "adaptive_avg", "adaptive_max")
_AVERAGES = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)

MODULES: Mapping[type[nn.Module], Rule] = {
    **dict.fromkeys(
        (nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU), elementwise
    ),
    **dict.fromkeys((nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.Sigmoid, nn.SiLU), elementwise),
    **dict.fromkeys((nn.Softplus, nn.Softsign, nn.Tanh, nn.Tanhshrink), elementwise),
    **dict.fromkeys(
        (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
        identity,
    ),
    **{
        getattr(nn, f"{kind}Pool{n}d"): pool for kind in ("Max", "Avg", "AdaptiveAvg", "AdaptiveMax") for n in (1, 2, 3)
    },
    nn.Flatten: flatten,
}
FUNCTIONS: Mapping[Any, Rule] = {
    **{getattr(functional, name): elementwise for name in _ACTIVATIONS},
    **dict.fromkeys((torch.relu, torch.sigmoid, torch.tanh, functional.relu_, torch.selu, torch.prelu), elementwise),
    **{getattr(functional, name): identity for name in _DROPOUTS},
    **dict.fromkeys((operator.add, operator.sub, operator.mul, torch.add, torch.sub, torch.mul), binary),
    **dict.fromkeys((operator.iadd, operator.isub, operator.imul, operator.truediv), binary),
    **{getattr(functional, f"{kind}_pool{n}d"): pool for kind in _POOLS for n in (1, 2, 3)},
    **dict.fromkeys((torch.max_pool1d, torch.max_pool2d, torch.max_pool3d), pool),
    torch.flatten: flatten,
    torch.mean: mean,
    torch.cat: cat,
    operator.getitem: item,
    getattr: size,
}
METHODS: Mapping[str, Rule] = {
    **dict.fromkeys(("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_"), elementwise),
    **dict.fromkeys(("contiguous", "clone", "detach"), identity),
    **dict.fromkeys(("add", "add_", "sub", "sub_", "mul", "mul_"), binary),
    "flatten": flatten,
    "view": view,
    "reshape": view,
    "size": size,
    "mean": mean,
}
MAY_ALIAS = frozenset(
    key
    for table in (MODULES, FUNCTIONS, METHODS)
    for key, rule in table.items()
    if rule in (identity, flatten, view, item)
)
"""Keys of what may return its first argument, or a view of it."""
