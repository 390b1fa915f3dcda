"""A node none of whose outputs is used, and that has no effect, is removed; so are outputs and operands of `if` that
nobody uses.

Exactness: EXACT. Reading state is no effect here: a read that nobody uses goes.
"""

from __future__ import annotations

from neve.ir.graph import Graph, Node, Value
from neve.ir.walk import has_effect, map_subgraphs
from neve.ops.control import If, ReadState
from neve.passes.rewrite import Exactness, Log, Pass


def run(graph: Graph, log: Log) -> Graph:
    live: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    changed = False
    for old in reversed(graph.nodes):
        if not any(v in live for v in old.outputs) and (isinstance(old.op, ReadState) or not has_effect(old.op)):
            log.rewrite(f"removed {old.op.name} %{old.outputs[0].name if old.outputs else ''}", old.origin)
            changed = True
            continue
        node = _prune_if(old, live) if isinstance(old.op, If) else old
        op = map_subgraphs(node.op, lambda g: run(g, log))
        node = node if op is node.op else Node(op, node.inputs, node.outputs, node.origin)
        changed |= node is not old
        live.update(node.inputs)
        kept.append(node)
    return Graph(graph.inputs, tuple(reversed(kept)), graph.outputs) if changed else graph


def _prune_if(node: Node, live: set[Value]) -> Node:
    """Without outputs that are dead and operands that neither branch reads."""
    op = node.op
    assert isinstance(op, If)
    outs = [i for i, v in enumerate(node.outputs) if v in live]
    branches = [Graph(g.inputs, g.nodes, tuple(g.outputs[i] for i in outs)) for g in (op.then, op.orelse)]
    read = [{v for n in g.nodes for v in n.inputs} | set(g.outputs) for g in branches]
    ins = [i for i in range(len(op.then.inputs)) if any(g.inputs[i] in r for g, r in zip(branches, read, strict=True))]
    if len(outs) == len(node.outputs) and len(ins) == len(op.then.inputs):
        return node
    then, orelse = (Graph(tuple(g.inputs[i] for i in ins), g.nodes, g.outputs) for g in branches)
    return Node(
        If(then, orelse),
        (node.inputs[0], *(node.inputs[1 + i] for i in ins)),
        tuple(node.outputs[i] for i in outs),
        node.origin,
    )


PASS = Pass("remove_dead_code", Exactness.EXACT, run)
