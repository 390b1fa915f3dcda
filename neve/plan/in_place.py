"""Writes of some rows of a state variable, done in its own memory: no time and no memory for all of its rows.

read_state → index_put → … → write_state is such a write if the old content is needed by nothing that can only run
behind it. A call that raises must leave state as it was, so every raise comes before the first such write.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from neve.ir.graph import Graph, Node, StateVar, Value
from neve.ir.walk import has_effect
from neve.ops.control import Raise, ReadState, WriteState
from neve.ops.scatter import IndexPut


@dataclass
class InPlace:
    """Of a method's graph: the writes that are done in place, the variables that they write, the order to run it in."""

    graph: Graph
    puts: set[Node] = field(default_factory=set)
    variables: set[StateVar] = field(default_factory=set)


def in_place(graph: Graph) -> InPlace:
    """What can be written in place; nothing if that would change what a raise leaves behind."""
    if any(has_effect(n.op) and not isinstance(n.op, (Raise, ReadState, WriteState)) for n in graph.nodes):
        return InPlace(graph)
    chains = _chains(graph)
    while chains:
        puts = {n for chain in chains.values() for n in chain}
        ordered, late = _ordered(graph, puts)
        if any(isinstance(n.op, Raise) for n in late):
            return InPlace(graph)
        place = {n: k for k, n in enumerate(ordered.nodes)}
        spoilt = [var for var, chain in chains.items() if not _old_is_read_before(graph, chain, place)]
        if not spoilt:
            return InPlace(ordered, puts, set(chains))
        for var in spoilt:
            del chains[var]
    return InPlace(graph)


def _chains(graph: Graph) -> dict[StateVar, list[Node]]:
    """The index_puts between the only read and the only write of a variable, in order."""
    made = graph.producers()
    touched: dict[StateVar, list[Node]] = {}
    for n in graph.nodes:
        if isinstance(n.op, (ReadState, WriteState)):
            touched.setdefault(n.op.var, []).append(n)
    found = {}
    for var, nodes in touched.items():
        if len(nodes) != 2 or not isinstance(nodes[0].op, ReadState) or not isinstance(nodes[1].op, WriteState):
            continue
        chain: list[Node] = []
        at = made.get(nodes[1].inputs[0])
        while at is not None and isinstance(at.op, IndexPut) and at.op.fits_in_place:
            chain.insert(0, at)
            at = made.get(at.inputs[0])
        if chain and at is nodes[0]:
            found[var] = chain
    return found


def _ordered(graph: Graph, puts: set[Node]) -> tuple[Graph, list[Node]]:
    """The graph with everything that does not depend on these nodes before all that does; and the latter."""
    early: list[Node] = []
    late: list[Node] = []
    values: set[Value] = set()
    variables: set[StateVar] = set()
    for n in graph.nodes:
        var = n.op.var if isinstance(n.op, (ReadState, WriteState)) else None
        if n in puts or any(v in values for v in n.inputs) or var in variables:
            late.append(n)
            values.update(n.outputs)
            variables |= {var} if var is not None else set()
        else:
            early.append(n)
    return replace(graph, nodes=(*early, *late)), late


def _old_is_read_before(graph: Graph, chain: list[Node], place: dict[Node, int]) -> bool:
    """Whether all that uses what a write of the chain replaces runs before that write."""
    for put in chain:
        old = put.inputs[0]
        if old in graph.outputs or put.inputs.count(old) != 1:
            return False
        if any(old in n.inputs and n is not put and place[n] > place[put] for n in graph.nodes):
            return False
    return True
