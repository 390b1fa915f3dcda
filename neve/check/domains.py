"""What the inputs of a method may be: by the example, by their use in the graph, by the declared sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neve.capture.constants import in_parts
from neve.ir.graph import Graph, Method, Node, Value
from neve.ir.index import Index
from neve.ir.types import Dim, DType, size_at
from neve.ir.walk import graphs
from neve.ops.control import If, While
from neve.ops.source import Constant, Full

VIEWS = frozenset({"reshape", "permute", "expand", "slice", "flip", "repeat", "roll", "cat", "unfold", "diagonal"})
STEPS = frozenset(
    {"div", "mul", "lt", "le", "gt", "ge", "eq", "ne", "floor_divide", "remainder", "fmod", "searchsorted"}
)
"""Ops whose constants say where a function of the inputs may jump."""
MOST_STEPS = 16

Limits = tuple[Dim, Dim]
"""The least and the greatest index that an axis takes."""


@dataclass(frozen=True)
class Domain:
    """One flat input: its type, its example, and what is known of the values that it may have.

    shape is in size symbols. scalar is "int", "float" or "bool" if it is a Python number, and symbol the size that it
    gives. limits has the range of every axis that it is an index into. steps are numbers near whose multiples functions
    of it may jump. complex: whether it is a tensor of complex numbers, of whose parts dtype, shape and example speak.
    """

    name: str
    dtype: DType
    shape: tuple[Dim, ...]
    example: Any
    scalar: str | None = None
    symbol: Index | None = None
    limits: tuple[Limits, ...] = ()
    steps: tuple[float, ...] = ()
    complex: bool = False

    def range(self, sizes: Mapping[Index, int]) -> tuple[int, int] | None:
        """The indices that all uses allow with these sizes; None if it is not known to be an index."""
        if not self.limits:
            return None
        low, high = (([size_at(d, sizes) for d in side]) for side in zip(*self.limits, strict=True))
        return max(low), min(high)


def domains(method: Method, example: Sequence[Any]) -> list[Domain]:
    """The domain of each input of a method, as it was captured; example: its flat inputs."""
    graph = method.graph
    count = len(graph.inputs)
    limits = index_limits(graph)
    steps = jumps(graph)
    return [
        Domain(
            v.name,
            v.dtype,
            v.shape,
            in_parts(torch.as_tensor(x)) if k in method.complex[0] else x,
            scalar,
            symbol,
            limits.get(v, ()),
            steps if v.dtype.is_float else (),
            k in method.complex[0],
        )
        for k, (v, x, scalar, symbol) in enumerate(
            zip(graph.inputs, example, method.scalars or (None,) * count, method.sizes or (None,) * count, strict=True)
        )
    ]


def index_limits(graph: Graph) -> dict[Value, tuple[Limits, ...]]:
    """The ranges of indices that uses of a value, and of views of it, allow."""
    made = graph.producers()
    found: dict[Value, tuple[Limits, ...]] = {}
    for node in reversed(graph.nodes):
        for v, more in _uses(node, found, made):
            found[v] = tuple(dict.fromkeys((*found.get(v, ()), *more)))
    return found


def _uses(node: Node, found: Mapping[Value, tuple[Limits, ...]], made: Mapping[Value, Node]) -> Any:
    """(input of a node, the ranges that this use allows)."""
    op: Any = node.op
    x = node.inputs[0] if node.inputs else None
    if op.name in ("embedding", "gather", "index_select", "scatter") and x is not None:
        axis = 0 if op.name == "embedding" else op.dim
        yield node.inputs[1], ((0, (x.shape[axis] if x.shape else 1) - 1),)
    elif op.name in ("index", "index_put") and x is not None:
        for axis, v in zip(op.axes, node.inputs[1:], strict=False):
            yield v, ((-x.shape[axis], x.shape[axis] - 1),)
    elif isinstance(op, (If, While)):
        inner = (op.then, op.orelse) if isinstance(op, If) else (op.body,)
        for g in inner:
            within = index_limits(g)
            for outer, v in zip(node.inputs[1:] if isinstance(op, If) else node.inputs, g.inputs, strict=True):
                yield outer, within.get(v, ())
    elif len(node.outputs) == 1 and (limits := found.get(node.output, ())):
        yield from _through(node, limits, made)


def _through(node: Node, limits: tuple[Limits, ...], made: Mapping[Value, Node]) -> Any:
    """(input, ranges) of a node whose output has to be within limits."""
    name = node.op.name
    if name in VIEWS or (name == "cast" and node.inputs[0].dtype.is_int):
        yield from ((v, limits) for v in node.inputs)
    elif name == "where":
        yield from ((v, limits) for v in node.inputs[1:])
    elif name in ("add", "sub"):
        for v, other in (node.inputs, node.inputs[::-1]) if name == "add" else (node.inputs,):
            c = scalar(made.get(other))
            if c is not None:
                shift = int(c) if name == "add" else -int(c)
                yield v, tuple((low - shift, high - shift) for low, high in limits)


def scalar(node: Node | None) -> float | None:
    """The number that a node gives for every element, if it is a constant."""
    if node is not None and isinstance(node.op, Full):
        return float(node.op.value)
    if node is not None and isinstance(node.op, Constant) and node.op.tensor.array.size == 1:
        return float(node.op.tensor.array.item())
    return None


def jumps(graph: Graph) -> tuple[float, ...]:
    """Numbers that the graph divides by or compares with: near their multiples a step may jump."""
    found: dict[float, None] = {}
    for g in graphs(graph):
        made = g.producers()
        for node in g.nodes:
            if node.op.name not in STEPS:
                continue
            for v in node.inputs:
                for c in _numbers(made.get(v)):
                    c = 1 / c if node.op.name == "mul" and c else c
                    if np.isfinite(c) and 1e-6 < abs(c) < 1e6 and len(found) < MOST_STEPS:
                        found[abs(c)] = None
    return tuple(found)


def _numbers(node: Node | None) -> list[float]:
    c = scalar(node)
    if c is not None:
        return [c]
    if node is not None and isinstance(node.op, Constant) and node.op.tensor.array.size <= MOST_STEPS:
        return [float(x) for x in node.op.tensor.array.reshape(-1)]
    return []
