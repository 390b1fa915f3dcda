"""Checks what every stage relies on: names, order of definition, types, effects. Run after every pass."""

from __future__ import annotations

from collections.abc import Iterator

from neve.ir.graph import Graph, Node, Program, Value
from neve.ir.index import Index
from neve.ir.types import DType, TensorType, same
from neve.ir.walk import attribute_symbols, measured, subgraphs

CONTEXT = 5


class VerifyError(Exception):
    """A graph is malformed: a defect of the stage that made it. The message shows the node, its origin and its
    neighbours.
    """


def verify(
    graph: Graph, known: set[Node] | None = None, where: str = "", later: frozenset[Index] | None = None
) -> None:
    """Raise VerifyError, saying where, unless names are unique, uses follow definitions and types are what the ops
    infer.

    known holds nodes whose types were checked before; they are not inferred again, and those checked now are added.
    later: the sizes that data decide and that have no value yet where the graph is run; by default all of them.
    """
    known = set() if known is None else known
    later = frozenset(measured(graph)) if later is None else later
    names: set[str] = set()
    defined: set[Value] = set()
    _define(graph, graph.inputs, names, defined, None, where)
    for i, node in enumerate(graph.nodes):
        for v in node.inputs:
            if v not in defined:
                raise VerifyError(_message(graph, i, f"%{v.name} is used before its definition, or has none", where))
        if node not in known:
            _check_types(graph, i, node, where)
        if node.op.name == "measure":
            later -= {node.op.size}  # type: ignore[attr-defined]
        if later and (early := later & _sizes(node)):
            raise VerifyError(
                _message(graph, i, f"the size {min(map(str, early))} is used before it has a value", where)
            )
        for name, g in subgraphs(node.op):
            verify(
                g,
                known,
                f"{where}{'.' if where else ''}%{node.outputs[0].name if node.outputs else node.op.name}.{name}",
                later,
            )
        known.add(node)
        _define(graph, node.outputs, names, defined, i, where)
    for v in graph.outputs:
        if v not in defined:
            raise VerifyError(_message(graph, None, f"the output %{v.name} is not defined in the graph", where))


def _sizes(node: Node) -> set[Index]:
    """The size symbols of a node, but for those of graphs inside it."""
    shapes = (Index.of(d).symbols for v in node.outputs for d in v.shape)
    return attribute_symbols(node.op).union(*shapes)


def verify_program(program: Program, known: set[Node] | None = None) -> None:
    """verify every method's graph."""
    for name, method in program.methods.items():
        verify(method.graph, known, name)
        if method.scalars and len(method.scalars) != len(method.graph.inputs):
            raise VerifyError(
                f"{name}: {len(method.graph.inputs)} inputs, but {len(method.scalars)} entries in scalars"
            )
        if len(method.sizes) not in (0, len(method.graph.inputs)):
            raise VerifyError(f"{name}: {len(method.graph.inputs)} inputs, but {len(method.sizes)} entries in sizes")
        for v, s in zip(method.graph.inputs, method.sizes, strict=False):
            if s is not None and (s not in program.symbols or v.type != TensorType((), DType.int64)):
                raise VerifyError(f"{name}: %{v.name} of type {v.type} cannot give the size {s}")


def _define(
    graph: Graph, values: tuple[Value, ...], names: set[str], defined: set[Value], index: int | None, where: str
) -> None:
    for v in values:
        if v in defined:
            raise VerifyError(_message(graph, index, f"%{v.name} is defined twice", where))
        if v.name in names:
            raise VerifyError(_message(graph, index, f"the name %{v.name} is not unique", where))
        defined.add(v)
        names.add(v.name)


def _check_types(graph: Graph, index: int, node: Node, where: str) -> None:
    try:
        types = node.op.infer(*(v.type for v in node.inputs))
    except (ValueError, TypeError, IndexError, AttributeError) as e:
        raise VerifyError(_message(graph, index, f"{node.op.name} does not take these inputs: {e}", where)) from e
    got = tuple(v.type for v in node.outputs)
    if len(types) != len(got) or not all(same_type(a, b) for a, b in zip(types, got, strict=True)):
        raise VerifyError(_message(graph, index, f"the types should be {_list(types)}, but are {_list(got)}", where))


def same_type(a: TensorType, b: TensorType) -> bool:
    """Whether two types are equal for all values of their symbols."""
    return (
        a.dtype is b.dtype
        and len(a.shape) == len(b.shape)
        and all(same(x, y) for x, y in zip(a.shape, b.shape, strict=True))
    )


def _list(types: tuple[TensorType, ...]) -> str:
    return ", ".join(map(str, types)) or "none"


def _message(graph: Graph, index: int | None, problem: str, where: str) -> str:
    """problem, the node's origin, and the graph around it with an arrow at the node."""
    lines = [problem + (f"  (in {where})" if where else "")]
    if index is not None and str(graph.nodes[index].origin):
        lines.append(f"from {graph.nodes[index].origin}")
    return "\n".join([*lines, *_context(graph, index)])


def _context(graph: Graph, index: int | None) -> Iterator[str]:
    from neve.ir.text import node_text

    at = len(graph.nodes) if index is None else index
    for i, n in enumerate(graph.nodes):
        if abs(i - at) <= CONTEXT:
            yield ("  → " if i == index else "    ") + node_text(n)
