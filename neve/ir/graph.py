"""Program, Graph, Node, Value: what every stage before the plan passes on. All frozen; a pass returns new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from neve.ir.index import Index
from neve.ir.types import DType, Range, TensorType

if TYPE_CHECKING:
    from neve.ops.base import Op


@dataclass(frozen=True)
class Origin:
    """Where a node came from: dotted module path and the user's source line; either may be empty."""

    module: str = ""
    source: str = ""

    def __str__(self) -> str:
        return "  ".join(x for x in (self.module, self.source) if x)


class Value:
    """A tensor in a graph; compared by identity. name is unique in its graph."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: TensorType) -> None:
        self.name, self.type = name, type

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True, eq=False)
class Node:
    """An op applied to values: one step of a graph."""

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    origin: Origin = Origin()

    @property
    def output(self) -> Value:
        """The only output."""
        (out,) = self.outputs
        return out


@dataclass(frozen=True, eq=False)
class ConstTensor:
    """A constant of a Program, shared by methods: compared by identity. array is in dtype's numpy form, read-only."""

    name: str
    array: np.ndarray
    dtype: DType

    @property
    def type(self) -> TensorType:
        return TensorType(self.array.shape, self.dtype)

    @cached_property
    def density(self) -> float:
        """The share of elements that are not zero, 0 to 1, and 1 for an empty tensor. -0.0 is zero, NaN is not. Counted
        once, at about a nanosecond an element.
        """
        return int(np.count_nonzero(self.array)) / self.array.size if self.array.size else 1.0

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class StateVar:
    """A tensor that methods write and that survives between calls; compared by identity.

    complex: whether it is one of complex numbers to the caller; here their parts are its last axis, of 2.
    """

    name: str
    init: np.ndarray
    dtype: DType
    complex: bool = False

    @property
    def type(self) -> TensorType:
        return TensorType(self.init.shape, self.dtype)

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Graph:
    """inputs, nodes in execution (topological) order, outputs. Nodes with an effect (state writes) keep their order."""

    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]

    def producers(self) -> dict[Value, Node]:
        return {o: n for n in self.nodes for o in n.outputs}

    def users(self) -> dict[Value, list[Node]]:
        """Nodes that read each value, one entry a use; a use as graph output is not a node (see `outputs`)."""
        users: dict[Value, list[Node]] = {v: [] for v in self.values()}
        for n in self.nodes:
            for v in n.inputs:
                users[v].append(n)
        return users

    def values(self) -> Iterator[Value]:
        yield from self.inputs
        for n in self.nodes:
            yield from n.outputs

    def __str__(self) -> str:
        from neve.ir.text import print_graph

        return print_graph(self)


@dataclass(frozen=True, eq=False)
class Method:
    """An entry point: its graph, how Python arguments and results map to inputs and outputs, and examples.

    in_tree and out_tree are the JSON trees of `neve.build.source`; scalars holds for each input None or the Python type
    ("int", "float", "bool") that it had; sizes holds for each input None or the size symbol that the value of this int
    is (no shape of an input may tell it); examples is a list of input tuples (numpy); complex holds the numbers of the
    inputs, and of the outputs, that are complex numbers to the caller: here their parts are the last axis, of 2.
    """

    graph: Graph
    in_tree: Mapping[str, Any] = field(default_factory=dict)
    out_tree: Mapping[str, Any] = field(default_factory=dict)
    scalars: tuple[str | None, ...] = ()
    sizes: tuple[Index | None, ...] = ()
    examples: tuple[tuple[np.ndarray, ...], ...] = ()
    complex: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())

    def given_sizes(self, inputs: Sequence[Any]) -> dict[Index, int]:
        """The size symbols that these inputs give by their values, for `neve.ir.interpret`."""
        return {s: int(x) for s, x in zip(self.sizes, inputs, strict=False) if s is not None}


@dataclass(frozen=True, eq=False)
class Program:
    """Methods that share constants and state. symbols gives the range of every size symbol.

    state holds the state variables that the program has even where no method uses them; attributes describes what the
    model has in them, dotted path → JSON tree (see `neve.runtime.signature`) whose leaves are numbers of entries of
    state.
    """

    methods: Mapping[str, Method]
    symbols: Mapping[Index, Range] = field(default_factory=dict)
    state: tuple[StateVar, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def map(self, f: Any) -> Program:
        """The program with f applied to each method's graph; self if no graph changed."""
        graphs = {k: f(m.graph) for k, m in self.methods.items()}
        if all(graphs[k] is m.graph for k, m in self.methods.items()):
            return self
        return replace(self, methods={k: replace(m, graph=graphs[k]) for k, m in self.methods.items()})

    def __str__(self) -> str:
        from neve.ir.text import print_program

        return print_program(self)


class GraphBuilder:
    """Appends nodes, inferring types and inventing unique names; for capture, passes and tests."""

    def __init__(self, inputs: Sequence[Value] = ()) -> None:
        self.inputs = list(inputs)
        self.nodes: list[Node] = []
        self._names = {v.name for v in inputs}
        self.origin = Origin()

    def fresh(self, hint: str) -> str:
        """A name not used yet, as near to the hint as possible."""
        name, i = hint, 1
        while name in self._names:
            name, i = f"{hint}_{i}", i + 1
        self._names.add(name)
        return name

    def input(self, name: str, type: TensorType) -> Value:
        v = Value(self.fresh(name), type)
        self.inputs.append(v)
        return v

    def emit(self, op: Op, *inputs: Value, name: str | None = None, origin: Origin | None = None) -> tuple[Value, ...]:
        """Append op on inputs; returns its outputs."""
        types = op.infer(*(v.type for v in inputs))
        outs = tuple(Value(self.fresh(name or op.name), t) for t in types)
        self.nodes.append(Node(op, inputs, outs, origin or self.origin))
        return outs

    def __call__(self, op: Op, *inputs: Value, name: str | None = None, origin: Origin | None = None) -> Value:
        """Append op, return its only output."""
        (out,) = self.emit(op, *inputs, name=name, origin=origin)
        return out

    def keep(self, node: Node) -> None:
        """Append an existing node as it is."""
        self._names.update(v.name for v in node.outputs)
        self.nodes.append(node)

    def build(self, outputs: Sequence[Value]) -> Graph:
        return Graph(tuple(self.inputs), tuple(self.nodes), tuple(outputs))
