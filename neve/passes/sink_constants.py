"""A constant or fill that is an operand of `if`, or of `while` and the same every turn, is made inside its graphs.

There it is folded and packed as anywhere else; ConstTensors are shared, so nothing is stored twice.
Exactness: EXACT.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from neve.ir.graph import Graph, Node, Value
from neve.ir.walk import map_subgraphs
from neve.ops.base import Op
from neve.ops.control import If, While
from neve.ops.source import Constant, Full
from neve.passes.rewrite import Exactness, Log, Pass


def run(graph: Graph, log: Log) -> Graph:
    return _sunk(graph, {}, log)


def _sunk(graph: Graph, given: Mapping[Value, Node], log: Log) -> Graph:
    """The graph with the given inputs made in it, and what is known in it made in the graphs inside."""
    known: dict[Value, Node] = {}
    nodes: list[Node] = []
    same: dict[Value, Value] = {}
    for v, source in given.items():
        known[v] = Node(source.op, (), (v,), source.origin)
        nodes.append(known[v])
    for old in graph.nodes:
        inputs = tuple(same.get(v, v) for v in old.inputs)
        node = old if inputs == old.inputs else Node(old.op, inputs, old.outputs, old.origin)
        if isinstance(node.op, (Constant, Full)):
            known[node.output] = node
        new = _node(node, known, log)
        nodes.append(new)
        if len(new.outputs) != len(old.outputs):
            same |= {o: i for o, i in zip(old.outputs, inputs, strict=True) if o not in new.outputs}
    outputs = tuple(same.get(v, v) for v in graph.outputs)
    changed = (
        given or len(nodes) != len(graph.nodes) or any(a is not b for a, b in zip(nodes, graph.nodes, strict=True))
    )
    return Graph(tuple(v for v in graph.inputs if v not in given), tuple(nodes), outputs) if changed else graph


def _node(node: Node, known: Mapping[Value, Node], log: Log) -> Node:
    """The node with its known operands sunk."""
    op = node.op
    if isinstance(op, If):
        sunk = {i: known[v] for i, v in enumerate(node.inputs[1:]) if v in known}
        first, outputs = 1, node.outputs
    elif isinstance(op, While):
        sunk = {
            i: known[v] for i, v in enumerate(node.inputs) if v in known and op.body.outputs[i] is op.body.inputs[i]
        }
        first, outputs = 0, tuple(v for i, v in enumerate(node.outputs) if i not in sunk)
    else:
        return node
    new: Op = map_subgraphs(op, lambda g: _sunk(g, {g.inputs[i]: s for i, s in sunk.items()}, log))
    if new is op:
        return node
    if isinstance(new, While):
        new = replace(new, body=_without_outputs(new.body, sunk))
    if sunk:
        log.rewrite(f"{len(sunk)} constant operands of {op.name} are made inside it", node.origin)
    inputs = tuple(v for i, v in enumerate(node.inputs) if i - first not in sunk)
    return Node(new, inputs, outputs, node.origin)


def _without_outputs(graph: Graph, dropped: Collection[int]) -> Graph:
    return Graph(graph.inputs, graph.nodes, tuple(v for i, v in enumerate(graph.outputs) if i not in dropped))


PASS = Pass("sink_constants", Exactness.EXACT, run)
