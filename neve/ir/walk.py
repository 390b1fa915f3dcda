"""Questions about an op that passes, verifier and interpreter share: the graphs inside it, its effects, its
attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from neve.ir.graph import ConstTensor, Graph, Program, StateVar
from neve.ir.index import Index

if TYPE_CHECKING:
    from neve.ops.base import Op


def subgraphs(op: Op) -> Iterator[tuple[str, Graph]]:
    """(attribute name, graph) of every graph inside op, in field order."""
    for f in fields(op):
        value = getattr(op, f.name)
        if isinstance(value, Graph):
            yield f.name, value


def map_subgraphs(op: Op, f: Callable[[Graph], Graph]) -> Op:
    """op with f applied to the graphs inside it; op itself if none changed."""
    changed = {name: new for name, old in subgraphs(op) if (new := f(old)) is not old}
    return replace(op, **changed) if changed else op


def graphs(graph: Graph) -> Iterator[Graph]:
    """graph and every graph nested in it."""
    yield graph
    for n in graph.nodes:
        for _, g in subgraphs(n.op):
            yield from graphs(g)


def has_effect(op: Op) -> bool:
    """Whether op, or a node in a graph inside it, must neither be dropped nor reordered against other effects."""
    return op.effect or any(has_effect(n.op) for _, g in subgraphs(op) for n in g.nodes)


def touches_state(op: Op) -> bool:
    """Whether op's result depends on when it runs: an effect, or a read of state that a write may precede."""
    return (
        op.effect
        or any(isinstance(getattr(op, f.name), StateVar) for f in fields(op))
        or any(touches_state(n.op) for _, g in subgraphs(op) for n in g.nodes)
    )


def map_attributes(op: Op, f: Callable[[Any], Any]) -> Op:
    """op with f applied to every attribute, and to the elements of tuples; op itself if nothing changed."""
    changed = {}
    for field in fields(op):
        old = getattr(op, field.name)
        new = _map(old, f)
        if new is not old:
            changed[field.name] = new
    return replace(op, **changed) if changed else op


def _map(value: Any, f: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple):
        new = tuple(_map(x, f) for x in value)
        return value if all(a is b for a, b in zip(new, value, strict=True)) else new
    return f(value)


def attribute_symbols(op: Op) -> set[Index]:
    """The size symbols in op's attributes; graphs inside it not counted."""
    found: set[Index] = set()

    def visit(value: Any) -> Any:
        if isinstance(value, Index):
            found.update(value.symbols)
        return value

    map_attributes(op, visit)
    return found


def measures(graph: Graph) -> Iterator[Any]:
    """The ops of the graph, and of graphs inside it, that give a size symbol a value from data."""
    return (n.op for g in graphs(graph) for n in g.nodes if n.op.name == "measure")


def measured(graph: Graph) -> dict[Index, Index]:
    """The size symbols that data decide → the most that each may be."""
    return {op.size: op.bound for op in measures(graph)}


def capacities(graph: Graph) -> dict[Index, Index]:
    """The sizes that data decide without a bound → how many there is memory for, which a call says."""
    return {op.size: op.bound for op in measures(graph) if op.most is None}


def constants(program: Program) -> list[ConstTensor]:
    """Every constant that a method uses, once, in order of first use."""
    return _referenced(program, ConstTensor)


def states(program: Program) -> list[StateVar]:
    """The program's own state variables, then others that a method reads or writes, once, in order of first use."""
    return list(dict.fromkeys((*program.state, *_referenced(program, StateVar))))


def _referenced(program: Program, kind: type[Any]) -> list[Any]:
    found: dict[Any, None] = {}

    def visit(value: Any) -> Any:
        if isinstance(value, kind):
            found[value] = None
        return value

    for method in program.methods.values():
        for g in graphs(method.graph):
            for n in g.nodes:
                map_attributes(n.op, visit)
    return list(found)
