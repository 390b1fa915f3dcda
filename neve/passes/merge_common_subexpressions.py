"""Two nodes with the same op, attributes and inputs give the same values: the second is replaced by the first.

add, mul, eq, ne and the logical and bitwise ops commute bit for bit (but for a NaN's payload); maximum and minimum do
not (±0). Exactness: EXACT. Effects, state and control flow are never merged.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from neve.ir.graph import Graph, Node, Value
from neve.ir.text import exact
from neve.ir.walk import map_subgraphs, subgraphs, touches_state
from neve.passes.rewrite import Exactness, Log, Pass

COMMUTATIVE = frozenset(
    ("add", "mul", "eq", "ne", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor")
)


def run(graph: Graph, log: Log) -> Graph:
    seen: dict[Any, Node] = {}
    replaced: dict[Value, Value] = {}
    nodes: list[Node] = []
    for old in graph.nodes:
        inputs = tuple(replaced.get(v, v) for v in old.inputs)
        op = map_subgraphs(old.op, lambda g: run(g, log))
        node = old if op is old.op and inputs == old.inputs else Node(op, inputs, old.outputs, old.origin)
        if not touches_state(node.op) and not any(subgraphs(node.op)):
            first = seen.setdefault(_key(node), node)
            if first is not node:
                replaced.update(zip(node.outputs, first.outputs, strict=True))
                log.rewrite(f"%{node.outputs[0].name} is %{first.outputs[0].name}", node.origin)
                continue
        nodes.append(node)
    if len(nodes) == len(graph.nodes) and all(a is b for a, b in zip(nodes, graph.nodes, strict=True)):
        return graph
    return Graph(graph.inputs, tuple(nodes), tuple(replaced.get(v, v) for v in graph.outputs))


def _key(node: Node) -> Any:
    ids = [id(v) for v in node.inputs]
    if node.op.name in COMMUTATIVE:
        ids.sort()
    return type(node.op), tuple(exact(getattr(node.op, f.name)) for f in fields(node.op)), tuple(ids)


PASS = Pass("merge_common_subexpressions", Exactness.EXACT, run)
