"""What functional graphs of torch.export compute, as numbers that are equal where the steps and their inputs are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import fx
from torch.export.graph_signature import InputKind, OutputKind

from neve.capture.draws import draws

SAME = frozenset(
    {
        torch.ops.aten.clone.default,
        torch.ops.aten.alias.default,
        torch.ops.aten.detach.default,
        torch.ops.aten.lift_fresh_copy.default,
    }
)
"""Ops whose result is their operand."""
SIZES = (torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True)
class Input:
    """What an argument of a graph is: that of a call with this index, or what state of this name is before it."""

    call: int
    what: int | str


@dataclass(frozen=True)
class Meaning:
    """A value of a graph: its number, and the calls whose inputs, state and draws it depends on."""

    number: int
    calls: frozenset[int]


class Expressions:
    """Of several graphs, which share the numbers."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def read(
        self, program: Any, inputs: Mapping[str, Input], labels: Mapping[int, Any], drawn: Sequence[tuple[int, int]]
    ) -> Reader:
        """What knows the meaning of each node.

        inputs: of user inputs and state, by the name of their placeholders. labels: what each call is called, in the
        order in which sizes that are the same in several are called after them. drawn: for each node that draws random
        numbers the call it is of, and which of that call's draws it is.
        """
        return Reader(self, program, inputs, labels, drawn)


class Reader:
    """See `Expressions.read`; symbols: what each of torch's symbols is called, and of which call it is."""

    def __init__(
        self,
        expressions: Expressions,
        program: Any,
        inputs: Mapping[str, Input],
        labels: Mapping[int, Any],
        drawn: Sequence[tuple[int, int]],
    ) -> None:
        self._number, self._labels = expressions.number, labels
        self._known: dict[fx.Node, Meaning] = {}
        self.symbols: dict[sympy.Symbol, tuple[sympy.Symbol, int]] = {}
        self._draws = iter(drawn)
        placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
        self._name_symbols([(placeholders[name], i) for name, i in inputs.items() if isinstance(i.what, int)])
        for spec in program.graph_signature.input_specs:
            name = spec.arg.name
            if name in inputs:
                found = self._input(placeholders[name], inputs[name])
            elif spec.kind is InputKind.CONSTANT_TENSOR:
                found = self._made("constant", *content(program.constants[spec.target]))
            else:
                found = self._made(spec.kind, spec.target)
            self._known[placeholders[name]] = found
        self._run(program.graph)

    def of(self, value: Any) -> Meaning:
        if isinstance(value, fx.Node):
            return self._known[value]
        if isinstance(value, (list, tuple)):
            return self._made("list", *map(self.of, value))
        if isinstance(value, slice):
            return self._made("slice", *map(self.of, (value.start, value.stop, value.step)))
        if isinstance(value, Mapping):
            return self._made("dict", *(self.of(x) for item in value.items() for x in item))
        return self._made(type(value), repr(value))

    def _made(self, *key: Any) -> Meaning:
        """The meaning with that key, in which there may be meanings."""
        parts = [k for k in key if isinstance(k, Meaning)]
        number = self._number(tuple(k.number if isinstance(k, Meaning) else ("", k) for k in key))
        return Meaning(number, frozenset().union(*(p.calls for p in parts)))

    def _name_symbols(self, inputs: Sequence[tuple[fx.Node, Input]]) -> None:
        """A symbol is called after a call of whose inputs it is a size, and which of that call's it is."""
        for call, label in self._labels.items():
            for k, symbol in enumerate(symbols_of([node for node, i in inputs if i.call == call])):
                self.symbols.setdefault(symbol, (sympy.Symbol(f"{label}_{k}", integer=True), call))

    def _size(self, expr: Any) -> Meaning | None:
        """Of a size, if the inputs determine it."""
        expr = sympy.sympify(expr)
        if not expr.free_symbols <= self.symbols.keys():
            return None
        if expr.is_Integer:
            return self.of(int(expr))
        named = expr.xreplace({s: self.symbols[s][0] for s in expr.free_symbols})
        return Meaning(self._number(("size", named)), frozenset(self.symbols[s][1] for s in expr.free_symbols))

    def _input(self, node: fx.Node, given: Input) -> Meaning:
        val = node.meta.get("val")
        if isinstance(val, SIZES) and (size := self._size(val.node.expr)) is not None:
            return size
        shape = (self._size(e) for e in sizes_of(node))
        made = self._made("input", self._labels[given.call], given.what, *shape)
        return Meaning(made.number, made.calls | {given.call})

    def _run(self, graph: fx.Graph, inner: bool = False) -> None:
        for node in graph.nodes:
            if node.op == "get_attr":
                self._known[node] = self._attribute(node)
            elif node.op == "call_function":
                self._known[node] = self._called(node, not inner and draws(node))

    def _attribute(self, node: fx.Node) -> Meaning:
        found: Any = node.graph.owning_module
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return self._inner(found) if isinstance(found, fx.GraphModule) else self._made("constant", *content(found))

    def _inner(self, module: fx.GraphModule) -> Meaning:
        """Of a branch, or of the body of a loop."""
        for k, node in enumerate(n for n in module.graph.nodes if n.op == "placeholder"):
            self._known[node] = self._made("parameter", k)
        self._run(module.graph, inner=True)
        results = next(n for n in module.graph.nodes if n.op == "output").args
        steps = [self._known[n] for n in module.graph.nodes if n.op == "call_function"]
        return self._made("graph", *steps, self.of(results))

    def _called(self, node: fx.Node, drawn: bool) -> Meaning:
        val = node.meta.get("val")
        if isinstance(val, SIZES) and (size := self._size(val.node.expr)) is not None:
            return size
        if node.target in SAME or (node.target is torch.ops.aten.expand.default and _alike(node, node.args[0])):
            return self.of(node.args[0])
        if not drawn:
            return self._made("step", node.target, self.of(node.args), self.of(node.kwargs))
        call, k = next(self._draws, (-1, 0))
        made = self._made("draw", self._labels.get(call), k, node.target, self.of(node.args), self.of(node.kwargs))
        return Meaning(made.number, made.calls | {call})


def _alike(a: Any, b: Any) -> bool:
    x, y = a.meta.get("val"), b.meta.get("val")
    return x is not None and y is not None and x.dtype is y.dtype and sizes_of(a) == sizes_of(b)


def symbols_of(inputs: Sequence[fx.Node]) -> list[sympy.Symbol]:
    """The symbols in the sizes of inputs, in an order that does not depend on their names where each is a size."""
    found = (s for node in inputs for e in sizes_of(node) for s in sorted(e.free_symbols, key=str))
    return list(dict.fromkeys(found))


def sizes_of(node: fx.Node) -> list[Any]:
    """The sizes of a tensor, or the size that a node is, as numbers and expressions."""
    val = node.meta.get("val")
    if isinstance(val, SIZES):
        return [val.node.expr]
    shape = val.shape if isinstance(val, torch.Tensor) else ()
    return [sympy.sympify(d.node.expr if isinstance(d, torch.SymInt) else d) for d in shape]


def content(tensor: torch.Tensor) -> tuple[Any, ...]:
    """What a constant is: equal for equal values."""
    t = tensor.detach().cpu()
    if t.layout is not torch.strided or t.device.type == "meta" or t.is_quantized:
        return (id(tensor),)
    raw = t.contiguous().flatten().view(torch.uint8) if t.numel() else t
    return t.dtype, tuple(t.shape), hashlib.sha256(raw.numpy().tobytes()).digest() if t.numel() else b""


def draws_of(program: Any) -> int:
    """How many steps of a graph draw random numbers, those of its branches counted as one."""
    return sum(n.op == "call_function" and draws(n) for n in program.graph.nodes)


def results(program: Any, reader: Reader) -> tuple[list[Meaning], dict[str, Meaning]]:
    """What a program gives, and what it writes: by the buffer, or the name of the placeholder."""
    given: list[Meaning] = []
    written: dict[str, Meaning] = {}
    (output,) = (n for n in program.graph.nodes if n.op == "output")
    for spec, value in zip(program.graph_signature.output_specs, output.args[0], strict=True):
        if spec.kind is OutputKind.USER_OUTPUT:
            given.append(reader.of(value))
        elif spec.target is not None:
            written[spec.target] = reader.of(value)
    return given, written
