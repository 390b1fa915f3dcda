"""The exports of a method for different sizes as one graph: a branch of it for each, by what decides between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy

from neve.capture import trees
from neve.capture.aten_checks import truth_of
from neve.capture.context import Context
from neve.capture.guards import written
from neve.capture.questions import fix_for
from neve.capture.regions import Region, Relation, least, related
from neve.capture.symbols import MethodSymbols, Symbols, UnsupportedSize, plain_symbol
from neve.errors import CaptureError, InputError
from neve.ir.graph import Graph, GraphBuilder, Node, Value
from neve.ir.index import Index, Sym
from neve.ir.types import Dim, DType, Range, TensorType, dim, same
from neve.ir.walk import map_attributes, measured
from neve.ops.control import If, Raise
from neve.ops.shape import Slice
from neve.ops.source import Full

MOST_TERMS = 64
"""Of the formula of a size that differs between sides."""


@dataclass(frozen=True, eq=False)
class Side:
    """A region of sizes: what was exported for it, or what the model raises there; known: torch's symbols of its inputs
    → what they are in those of the Program.
    """

    region: Region
    exported: Any
    known: Mapping[sympy.Symbol, Index]
    raises: str = ""


@dataclass(frozen=True, eq=False)
class Fork:
    """One tree where a relation holds, another elsewhere."""

    region: Region
    relation: Relation
    then: Fork | Side
    orelse: Fork | Side


Tree = Fork | Side
Typed = tuple[Value, TensorType]


@dataclass(frozen=True)
class Sides:
    """shapes: for each flat input its declared shape, the symbol that an int is, or None for a constant; wanted: the
    name, if it has one, and range of each symbol.
    """

    shapes: Sequence[Any]
    wanted: Mapping[Index, tuple[str | None, Range]]
    tree: Tree

    def of(self, symbols: Symbols) -> Sides:
        """With the symbols of a Program."""
        new = {s: symbols.define(*wanted) for s, wanted in self.wanted.items()}
        shapes = [_renamed(shape, new) for shape in self.shapes]
        return Sides(shapes, {new[s]: w for s, w in self.wanted.items()}, _renamed(self.tree, new))

    @property
    def leaves(self) -> list[Side]:
        return list(_leaves(self.tree))

    @property
    def exported(self) -> list[Any]:
        """The exports, the one for the example first."""
        return [side.exported for side in self.leaves if side.exported is not None]


def _leaves(tree: Tree) -> Iterator[Side]:
    if isinstance(tree, Fork):
        yield from _leaves(tree.then)
        yield from _leaves(tree.orelse)
    else:
        yield tree


def _renamed(x: Any, new: Mapping[Index, Index]) -> Any:
    """Sizes, regions and trees with other symbols."""
    if isinstance(x, tuple):
        return tuple(_renamed(part, new) for part in x)
    if isinstance(x, Region):
        checked = frozenset(_renamed(tuple(x.checked), new))
        return Region({new[s]: r for s, r in x.declared.items()}, _renamed(x.conditions, new), checked)
    if isinstance(x, Side):
        return replace(x, region=_renamed(x.region, new), known={t: _renamed(e, new) for t, e in x.known.items()})
    if isinstance(x, Fork):
        return Fork(*(_renamed(part, new) for part in (x.region, x.relation, x.then, x.orelse)))
    if isinstance(x, sympy.Basic):
        return x.xreplace({plain_symbol(s): plain_symbol(n) for s, n in new.items()})
    return at_symbols(x, new) if isinstance(x, Index) else x


@dataclass(frozen=True)
class Body:
    """A method's graph; the types of its outputs as far as it is called; how its result is made of these (torch's spec
    and a tree for each leaf); for inputs that it writes, by number, the output that is the new content; and the numbers
    of the outputs that are complex (see `Method.complex`).
    """

    graph: Graph
    types: Sequence[TensorType]
    spec: Any
    leaves: Sequence[trees.Tree]
    writes: Mapping[int, int]
    complex: frozenset[int] = frozenset()

    def output(self, k: int) -> Typed:
        return self.graph.outputs[k], self.types[k]

    def given(self, k: int) -> Typed:
        return self.graph.inputs[k], self.graph.inputs[k].type


def joined(tree: Tree, bodies: Mapping[Side, Body], symbols: Symbols) -> Body:
    """The body of a tree; bodies: of its leaves, all of which have equal inputs. CaptureError says why two
    cannot be one.
    """
    if isinstance(tree, Side):
        return bodies[tree]
    for failing, other, relation in (
        (tree.then, tree.orelse, tree.relation),
        (tree.orelse, tree.then, sympy.Not(tree.relation)),
    ):
        if isinstance(failing, Side) and failing.raises:
            return _raising(joined(other, bodies, symbols), relation, failing.raises, symbols)
    sides = [joined(side, bodies, symbols) for side in (tree.then, tree.orelse)]
    return _Join(tree, sides, symbols).body()


def _raising(body: Body, relation: Relation, message: str, symbols: Symbols) -> Body:
    b = _builder(body.graph)
    count = len(b.nodes)
    b.emit(Raise(message), truth_of(Context(b, symbols.method({}, {})), relation))
    b.nodes = [*b.nodes[count:], *b.nodes[:count]]
    return replace(body, graph=b.build(body.graph.outputs))


def _builder(graph: Graph) -> GraphBuilder:
    b = GraphBuilder(graph.inputs)
    for node in graph.nodes:
        b.keep(node)
    return b


class _Join:
    """Two bodies, of which one is that of the sizes where the fork's relation holds."""

    def __init__(self, fork: Fork, sides: Sequence[Body], symbols: Symbols) -> None:
        self.fork, self.sides, self.owner = fork, sides, symbols
        self.regions = fork.region.where(fork.relation), fork.region.where(sympy.Not(fork.relation))
        self.builders = [_builder(side.graph) for side in sides]
        self.contexts = [Context(b, symbols.side({}, fork.region)) for b in self.builders]
        self.outputs: tuple[list[Value], list[Value]] = ([], [])
        self.complex: set[int] = set()
        self.by_data = {s for side in sides for s in measured(side.graph)}

    def body(self) -> Body:
        first, second = self.sides
        if first.spec != second.spec:
            raise self.refusal("these results", "other tuples, lists or dicts of results")
        leaves = [self.result(*pair) for pair in zip(first.leaves, second.leaves, strict=True)]
        writes = {}
        for k in sorted({*first.writes, *second.writes}):
            writes[k] = self.output([s.output(s.writes[k]) if k in s.writes else s.given(k) for s in self.sides])
            if any(s.writes.get(k) in s.complex for s in self.sides):
                self.complex.add(writes[k])
        b = GraphBuilder(first.graph.inputs)
        graphs = [builder.build(outs) for builder, outs in zip(self.builders, self.outputs, strict=True)]
        graphs[1] = _own_inputs(graphs[1])
        graphs[0] = _own_inputs(graphs[0])
        c = Context(b, self.owner.method({}, {}))
        outputs = b.emit(If(*graphs), truth_of(c, self.fork.relation), *b.inputs)
        types = [v.type for v in outputs]
        return Body(b.build(outputs), types, first.spec, leaves, writes, frozenset(self.complex))

    def refusal(self, one: str, other: str) -> CaptureError:
        others = sympy.Not(self.fork.relation)
        return CaptureError(
            f"where {written(others)} the model gives {other} instead of {one}, and the results of a compiled method "
            f"have one form: {fix_for(others)}"
        )

    def result(self, one: trees.Tree, other: trees.Tree) -> trees.Tree:
        """A leaf of the result."""
        if one == other and "leaf" not in one:
            return one
        kinds = [_kind(side, leaf) for side, leaf in zip(self.sides, (one, other), strict=True)]
        if kinds[0] != kinds[1] or kinds[0] == "":
            raise self.refusal(*map(_shown, kinds))
        dtype = next(
            (s.graph.outputs[t["leaf"]].dtype for s, t in zip(self.sides, (one, other), strict=True) if "leaf" in t),
            None,
        )
        values = [self.value(k, leaf, dtype) for k, leaf in enumerate((one, other))]
        found: trees.Tree = {"leaf": self.output(values)}
        if kinds[0] == COMPLEX:
            self.complex.add(found["leaf"])
        return found if kinds[0] in ("tensor", COMPLEX) else {**found, "as": kinds[0]}

    def value(self, k: int, leaf: trees.Tree, dtype: DType | None) -> Typed:
        if "leaf" in leaf:
            return self.sides[k].output(leaf["leaf"])
        number = leaf["const"]
        natural = DType.bool if isinstance(number, bool) else DType.int64 if isinstance(number, int) else DType.float64
        v = self.contexts[k](Full((), number, dtype or natural))
        return v, v.type

    def output(self, values: Sequence[Typed]) -> int:
        """The number of an output that is one of both values."""
        one, other = (type for _, type in values)
        if one.dtype is not other.dtype or one.rank != other.rank:
            raise self.refusal(_shown(one), _shown(other))
        shape = [self.size(*pair) for pair in zip(one.shape, other.shape, strict=True)]
        for c, outputs, (v, _) in zip(self.contexts, self.outputs, values, strict=True):
            outputs.append(resized(c, v, shape))
        return len(self.outputs[0]) - 1

    def size(self, one: Dim, other: Dim) -> Dim:
        """What is the first size where the relation holds, and the second elsewhere."""
        if same(one, other):
            return one
        if self.by_data & {*Index.of(one).symbols, *Index.of(other).symbols}:
            raise self.refusal("a result of a length that data decide", "one of another length")
        then, orelse = self.regions
        if then.implies(related(sympy.Eq, one, other)):
            return other
        if orelse.implies(related(sympy.Eq, one, other)):
            return one
        symbols = self.contexts[0].symbols
        try:
            if then.implies(related(sympy.Le, one, other)) and orelse.implies(related(sympy.Ge, one, other)):
                return symbols.least(one, other)
            if then.implies(related(sympy.Ge, one, other)) and orelse.implies(related(sympy.Le, one, other)):
                return symbols.largest(one, other)
            made = other + indicator(self.fork.relation, symbols) * (one - Index.of(other))
            if len(made.terms) > MOST_TERMS:
                where = written(self.fork.relation)
                raise CaptureError(
                    f"the size of a result differs in too many cases, such as where {where}: declare a range "
                    "(torch.export.Dim with min and max) for which the model takes fewer ways"
                )
            return dim(made)
        except UnsupportedSize as error:
            raise self.refusal(f"the size {one} ({error})", f"the size {other}") from error


def indicator(relation: Relation, symbols: MethodSymbols) -> Index:
    """1 where a relation holds, 0 elsewhere, in index arithmetic. Raises UnsupportedSize."""
    if relation in (sympy.true, sympy.false):
        return Index.of(bool(relation))
    if isinstance(relation, sympy.Not):
        return 1 - indicator(relation.args[0], symbols)
    if isinstance(relation, sympy.And):
        return math.prod((indicator(a, symbols) for a in relation.args), start=Index.of(1))
    if isinstance(relation, sympy.Or):
        return 1 - math.prod((1 - indicator(a, symbols) for a in relation.args), start=Index.of(1))
    if isinstance(relation, sympy.Ne):
        return 1 - indicator(sympy.Not(relation), symbols)
    parts = least(relation)
    if not parts:
        raise UnsupportedSize(f"{relation} is no integer arithmetic")
    return math.prod((_at_least_0(e, symbols) for e in parts), start=Index.of(1))


def _at_least_0(e: Index, symbols: MethodSymbols) -> Index:
    reach = symbols.range(e)
    if reach is None or max(map(abs, reach)) == math.inf:
        raise UnsupportedSize("declare the size's range: torch.export.Dim with max")
    m = 1 << int(max(map(abs, reach)) + 1).bit_length()
    return (e + m) // m


def resized(c: Context, v: Value, shape: Sequence[Dim]) -> Value:
    """The value with sizes that are equal to its own for all sizes for which the code runs."""
    for axis, n in enumerate(shape):
        if not same(v.shape[axis], n):
            v = c(Slice(axis, 0, n), v)
    return v


def wanted_where(c: Context, relation: Relation) -> None:
    """End the call where a relation between sizes does not hold that the code for their region assumes."""
    region = c.symbols.region
    if region is None or not region.implies(relation):
        c.emit(
            Raise(f"{InputError.__name__}: wanted sizes where {written(relation)}"), truth_of(c, sympy.Not(relation))
        )


def cut_off(graph: Graph, clamps: Mapping[Index, Index]) -> Graph:
    """The graph on inputs of the same types, with these expressions for symbols in all that it computes."""
    inner = substituted(graph, clamps)
    b = GraphBuilder([Value(v.name, v.type) for v in graph.inputs])
    for node in inner.nodes:
        b.keep(node)
    count = len(b.nodes)
    new: dict[Value, Value] = {}
    for v, given in zip(inner.inputs, b.inputs, strict=True):
        new[v] = given
        for axis, n in enumerate(v.shape):
            if not same(given.shape[axis], n):
                new[v] = b(Slice(axis, 0, n), new[v])
    nodes = [replace(n, inputs=tuple(new.get(v, v) for v in n.inputs)) for n in b.nodes[:count]]
    b.nodes = [*b.nodes[count:], *nodes]
    return b.build([new.get(v, v) for v in inner.outputs])


def at_symbols(e: Index, values: Mapping[Index, Index]) -> Index:
    """e with expressions for symbols."""
    return e.subs({Sym(str(s)): value for s, value in values.items()})


def substituted(graph: Graph, sizes: Mapping[Index, Index]) -> Graph:
    """The graph with expressions for symbols."""

    def changed(x: Any) -> Any:
        if isinstance(x, Graph):
            return substituted(x, sizes)
        return dim(at_symbols(x, sizes)) if isinstance(x, Index) else x

    new = {v: Value(v.name, TensorType(tuple(map(changed, v.shape)), v.dtype)) for v in graph.values()}
    nodes = tuple(
        Node(map_attributes(n.op, changed), tuple(new[v] for v in n.inputs), tuple(new[v] for v in n.outputs), n.origin)
        for n in graph.nodes
    )
    return Graph(tuple(new[v] for v in graph.inputs), nodes, tuple(new[v] for v in graph.outputs))


def _own_inputs(graph: Graph) -> Graph:
    """The graph on inputs that no other graph has."""
    new = {v: Value(v.name, v.type) for v in graph.inputs}
    nodes = tuple(replace(n, inputs=tuple(new.get(v, v) for v in n.inputs)) for n in graph.nodes)
    return Graph(tuple(new.values()), nodes, tuple(new.get(v, v) for v in graph.outputs))


COMPLEX = "tensor of complex numbers"


def _kind(side: Body, leaf: trees.Tree) -> str:
    """Of a result: tensor, int, float, bool; "" for what cannot be chosen by the run."""
    if leaf.get("leaf") in side.complex:
        return COMPLEX
    if "leaf" in leaf:
        return str(leaf.get("as", "tensor"))
    kind = type(leaf.get("const")).__name__
    return kind if kind in ("int", "float", "bool") else ""


def _shown(x: Any) -> str:
    if isinstance(x, TensorType):
        return f"a {x}"
    return {"tensor": "a tensor", COMPLEX: f"a {COMPLEX}", "": "a constant"}.get(x, f"a number ({x})")
