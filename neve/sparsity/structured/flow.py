"""Channels followed through a model: from its torch.fx trace to a `Plan` of the rows and columns that layers keep."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from neve.errors import PruneError
from neve.sparsity.modules import module_to_fqn
from neve.sparsity.structured.channels import Channels, Flow


@dataclass(frozen=True)
class Rows:
    """The pruned rows of a weight: mask [rows] is False there; prune_bias tells whether their bias is zero too."""

    mask: Tensor
    prune_bias: bool


Masks = Mapping[tuple[nn.Module, str], Rows]
"""By module and name of the weight."""


@dataclass
class Use:
    """The channels of a Linear or convolution: inputs (with what is constant of them), and outputs. A depthwise
    convolution has equal ones (as many outputs an input as it multiplies them).
    """

    ins: Flow
    outs: tuple[int, ...]
    depthwise: bool = False


@dataclass
class Recurrent:
    """The channels of an LSTM: inputs, and the units of every layer and direction, in the order of its weights."""

    ins: Flow
    units: list[tuple[int, ...]]


@dataclass
class Plan:
    """What is known of a model's channels. Layers have one entry, however often they are called. Unless it is exact, a
    constant behind zero padding counts as constant up to the border.
    """

    model: nn.Module
    masks: Masks
    exact: bool = True
    channels: Channels = field(default_factory=Channels)
    layers: dict[nn.Module, Use] = field(default_factory=dict)
    lstms: dict[nn.LSTM, Recurrent] = field(default_factory=dict)
    norms: dict[nn.Module, tuple[int, ...]] = field(default_factory=dict)

    def touched(self) -> Iterator[tuple[nn.Module, tuple[int, ...]]]:
        """Every module with parameters that may shrink, and its channels."""
        for layer, use in self.layers.items():
            yield layer, (*use.ins.ids, *use.outs)
        for lstm, recurrent in self.lstms.items():
            yield lstm, (*recurrent.ins.ids, *(i for ids in recurrent.units for i in ids))
        yield from self.norms.items()

    def settle(self) -> None:
        """Keep a row of every layer, and equally many units in all layers and directions of an LSTM."""
        pinned = True
        while pinned:
            pinned = False
            for ids in [use.outs for use in self.layers.values()] + [u for r in self.lstms.values() for u in r.units]:
                if ids and not self.channels.kept(ids).any():
                    self.channels.pin(ids[:1], "the layer would be empty")
                    pinned = True
            for recurrent in self.lstms.values():
                most = max(int(self.channels.kept(ids).sum()) for ids in recurrent.units)
                for ids in recurrent.units:
                    gone = [i for i in ids if self.channels.pinned(i) is None]
                    more = most - (len(ids) - len(gone))
                    self.channels.pin(gone[:more], "all layers of an LSTM have equally many units")
                    pinned = pinned or more > 0

    def stuck(self) -> list[str]:
        """For every weight with pruned rows that stay: which, and why."""
        from neve.sparsity.structured.layers import PRODUCERS

        found = []
        for (module, name), rows in self.masks.items():
            if isinstance(module, nn.LSTM):
                ids = self._units(module, name)
            else:
                ids = self.layers[module].outs if module in self.layers else None
            where = ".".join(filter(None, (module_to_fqn(self.model, module), name)))
            pruned = (~rows.mask).nonzero().flatten().tolist()
            if ids is None:
                kind = type_before_parametrizations(module)
                known = kind in PRODUCERS
                uncalled = (
                    "the model does not call the layer" if known else f"what a {kind.__name__} gives is not followed"
                )
                if pruned:
                    found.append(f"{len(pruned)} of {where!r} ({uncalled})")
                continue
            reasons = [why for i in pruned if (why := self.channels.pinned(ids[i % len(ids)]))]
            if reasons:
                found.append(f"{len(reasons)} of {where!r} ({', '.join(dict.fromkeys(reasons))})")
        return found

    def _units(self, lstm: nn.LSTM, name: str) -> tuple[int, ...] | None:
        if lstm not in self.lstms:
            return None
        names = [n for n in lstm._flat_weights_names if n.startswith(name[: len("weight_ih")])]
        return self.lstms[lstm].units[names.index(name)]

    def rough(self) -> list[nn.Module]:
        """The zero-padded convolutions that lose channels which were constant, but not zero, inside of the borders."""
        from neve.sparsity.structured.layers import padded

        return [
            layer
            for layer, use in self.layers.items()
            if padded(layer) and bool(use.ins.const[~self.channels.kept(use.ins.ids)].any())
        ]

    def renormalized(self) -> list[nn.Module]:
        """The layer norms that lose features."""
        return [m for m, ids in self.norms.items() if isinstance(m, nn.LayerNorm) and not self.channels.kept(ids).all()]


def follow(model: nn.Module, masks: Masks, example_inputs: tuple[Any, ...] | None, exact: bool = True) -> Plan:
    """The plan of a model with pruned rows. Raises PruneError if it cannot be traced."""
    try:
        graph = fx.Tracer().trace(model)
    except Exception as e:  # whatever the model's own code raises when it meets a proxy
        raise PruneError(
            f"the model cannot be traced by torch.fx, so where its channels go is not known: {e}. Take control flow "
            "that depends on data out of forward, or prune the part of the model without it"
        ) from e
    if example_inputs is not None:
        _propagate_shapes(model, graph, example_inputs)
    plan = Plan(model, masks, exact)
    Walk(plan, graph).run()
    _pin_shared(plan)
    plan.settle()
    return plan


def _propagate_shapes(model: nn.Module, graph: fx.Graph, example_inputs: tuple[Any, ...]) -> None:
    from torch.fx.passes.shape_prop import ShapeProp

    training = {m: m.training for m in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            ShapeProp(fx.GraphModule(model, graph)).propagate(*example_inputs)
    except Exception as e:  # the model's own, on inputs that do not fit it
        raise PruneError(f"the model does not take the example inputs: {e}") from e
    finally:
        for m, mode in training.items():
            m.training = mode


def _pin_shared(plan: Plan) -> None:
    """Keep all of layers that share a parameter with another module."""
    owners = Counter(id(p) for m in plan.model.modules() for p in m._parameters.values() if p is not None)
    why = "a parameter of the layer is shared with another"
    for layer, ids in plan.touched():
        if any(owners[id(p)] > 1 for p in layer.parameters()):
            plan.channels.pin(ids, why)


class Blocked(Exception):
    """A rule cannot follow channels through its node; the message says why."""


class Walk:
    """One pass over a trace, in the order of execution; values holds what is known of each node's result: a Flow, a
    tuple of them, or None.
    """

    def __init__(self, plan: Plan, graph: fx.Graph) -> None:
        self.plan, self.graph, self.channels = plan, graph, plan.channels
        self.modules = dict(plan.model.named_modules(remove_duplicate=False))
        self.values: dict[fx.Node, Any] = {}

    def run(self) -> None:
        from neve.sparsity.structured import layers, rules

        tables: Mapping[str, Mapping[Any, Any]] = {
            "call_module": {**rules.MODULES, **layers.MODULES},
            "call_function": rules.FUNCTIONS,
            "call_method": rules.METHODS,
        }
        for node in self.graph.nodes:
            try:
                if node.op == "output":
                    for flow in self.flows(node):
                        self.channels.read(flow, "the model's output")
                    continue
                key = self.key(node)
                rule = tables.get(node.op, {}).get(key)
                if rule is None or (key not in layers.PRODUCERS and not any(True for _ in self.flows(node))):
                    self.block(node, f"{self.where(node)} reads it")
                elif self.writes(node) and not self.sole(node.args[0]):
                    self.block(node, f"{self.where(node)} writes it in place, and others read it")
                else:
                    self.values[node] = rule(self, node)
            except Blocked as why:
                self.block(node, f"{self.where(node)} {why}")

    def block(self, node: fx.Node, why: str) -> None:
        """Keep all channels of the node's inputs."""
        for flow in self.flows(node):
            self.channels.pin(flow.ids, why)

    def flows(self, node: fx.Node) -> Iterator[Flow]:
        """All flows among the node's inputs."""
        pending = [self.values.get(n) for n in node.all_input_nodes]
        while pending:
            value = pending.pop()
            if isinstance(value, Flow):
                yield value
            elif isinstance(value, tuple):
                pending += value

    def value(self, arg: Any) -> Any:
        """What is known of an argument."""
        return self.values.get(arg) if isinstance(arg, fx.Node) else None

    def flow(self, node: fx.Node) -> Flow:
        """The flow of the first argument. Raises Blocked if there is none."""
        value = self.value(node.args[0]) if node.args else None
        if not isinstance(value, Flow):
            raise Blocked("meets what cannot shrink")
        return value

    def module(self, node: fx.Node) -> Any:
        return self.modules[str(node.target)]

    def key(self, node: fx.Node) -> Any:
        """What its rule is looked up by: the exact type of the module, the function, the name of the method."""
        return type_before_parametrizations(self.module(node)) if node.op == "call_module" else node.target

    def where(self, node: fx.Node) -> str:
        return repr(node.target) if node.op == "call_module" else node.name

    def rank(self, node: fx.Node, default: int) -> int:
        """The number of dims of a node's result, known from example inputs or taken to be the default."""
        meta = node.meta.get("tensor_meta")
        return len(meta.shape) if meta is not None and hasattr(meta, "shape") else default

    def writes(self, node: fx.Node) -> bool:
        """Whether the node may write into its first argument."""
        if node.op == "call_module":
            return bool(getattr(self.module(node), "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_")
        in_place = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
        return node.target in in_place or any(a is True for a in (*node.args, node.kwargs.get("inplace")))

    def sole(self, node: Any) -> bool:
        """Whether nobody but one node reads a value, or what it may be a view of."""
        from neve.sparsity.structured.rules import MAY_ALIAS

        while isinstance(node, fx.Node) and len(node.users) <= 1:
            if not node.args or not (self.key(node) in MAY_ALIAS or self.writes(node)):
                return True
            node = node.args[0]
        return not isinstance(node, fx.Node)
