"""Reads the text of `neve.ir.text` back. Safe on text from strangers: no eval, bounded sizes; every error names its
line.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from neve.ir.graph import ConstTensor, Graph, Method, Node, Origin, Program, StateVar, Value
from neve.ir.index import Index
from neve.ir.tokens import MAX_DEPTH, TextError, Tokens
from neve.ir.types import Dim, DType, Range, TensorType
from neve.ir.verify import VerifyError, same_type, verify
from neve.ops.base import REGISTRY, Op
from neve.trees import leaves


def parse_graph(
    text: str, constants: Mapping[str, ConstTensor] | None = None, states: Mapping[str, StateVar] | None = None
) -> Graph:
    """The graph that was printed, verified; @ and $ names are looked up in constants and states. Raises TextError."""
    p = _Parser(text, dict(constants or {}), dict(states or {}))
    graph = p.graph(0)
    p.expect_end()
    return graph


def parse_program(
    text: str, constants: Mapping[str, np.ndarray] | None = None, states: Mapping[str, np.ndarray] | None = None
) -> Program:
    """The program that was printed, verified, without example inputs. Arrays for its constants and states are given
    by name.

    Raises TextError, also if an array is missing or not of the declared shape and type.
    """
    p = _Parser(text, {}, {})
    program = p.program(constants or {}, states or {})
    p.expect_end()
    return program


@functools.cache
def op_classes() -> Mapping[str, type[Op]]:
    """Every op by name, with all of neve.ops imported."""
    import neve.ops

    for info in pkgutil.iter_modules(neve.ops.__path__):
        importlib.import_module(f"neve.ops.{info.name}")
    return REGISTRY


class _Parser(Tokens):
    # programs

    def program(self, arrays: Mapping[str, np.ndarray], contents: Mapping[str, np.ndarray]) -> Program:
        symbols: dict[Index, Range] = {}
        if self.accept("symbols"):
            symbols.update([self.symbol_range()])
            while self.accept(","):
                symbols.update([self.symbol_range()])
        while self.accept("const"):
            name, array, t = self.declared("@", arrays, self.constants)
            self.constants[name] = ConstTensor(name, array, t.dtype)
        while self.accept("state"):
            name, array, t = self.declared("$", contents, self.states)
            self.states[name] = StateVar(name, array, t.dtype, complex=self.accept("complex"))
        attributes = self.attributes(len(self.states)) if self.accept("attributes") else {}
        methods: dict[str, Method] = {}
        while self.accept("method"):
            kind, _, line = self.tokens[self.at]
            name = self.string(self.take("string", "a name")) if kind == "string" else self.take("word", "a name")
            if name in methods:
                self.fail(f"a second method {name}", line)
            about = self.json(0)
            try:
                scalars = tuple(about.get("scalars", ()))
                sizes = tuple(s if s is None else self.symbol(str(s)) for s in about.get("sizes", ()))
                taken, given = map(frozenset, about.get("complex", ((), ())))
                extra = about.keys() - {"in_tree", "out_tree", "scalars", "sizes", "complex"}
            except (AttributeError, TypeError, ValueError):
                self.fail("a method is followed by an object", line)
            graph = self.graph(0)
            if (
                extra
                or not all(s in (None, "int", "float", "bool") for s in scalars)
                or not all(len(x) in (0, len(graph.inputs)) for x in (scalars, sizes))
                or not (taken <= set(range(len(graph.inputs))) and given <= set(range(len(graph.outputs))))
            ):
                self.fail(f"the description of the method {name} does not fit it", line)
            methods[name] = Method(
                graph, about.get("in_tree", {}), about.get("out_tree", {}), scalars, sizes, complex=(taken, given)
            )
        if not methods:
            self.fail("a program has methods")
        return Program(methods, symbols, tuple(self.states.values()), attributes)

    def attributes(self, states: int) -> dict[str, Any]:
        """The JSON trees of attributes, whose leaves are below the number of states."""
        line = self.line
        found = self.json(0)

        try:
            fits = all(type(i) is int and 0 <= i < states for tree in found.values() for i in leaves(tree))
        except (AttributeError, TypeError, KeyError):
            fits = False
        if not fits or not isinstance(found, dict):
            self.fail(f"wanted attributes as an object with leaves of {states} states", line)
        return found

    def symbol_range(self) -> tuple[Index, Range]:
        s = self.symbol(self.take("word", "a symbol"))
        self.expect(":")
        low = self.integer()
        self.expect("..")
        return s, Range(low, self.integer() if self.tokens[self.at][0] == "int" else None)

    def declared(
        self, sigil: str, arrays: Mapping[str, np.ndarray], taken: Mapping[str, Any]
    ) -> tuple[str, np.ndarray, TensorType]:
        line = self.line
        name = self.reference(sigil)
        self.expect(":")
        t = self.tensor_type()
        if name in taken or name not in arrays:
            self.fail(f"{sigil}{name} is {'declared twice' if name in taken else 'not in the table of arrays'}", line)
        array = arrays[name]
        if array.shape != t.shape or array.dtype != t.dtype.numpy:
            self.fail(f"{sigil}{name} is declared {t}, but the table has {array.dtype}{list(array.shape)}", line)
        return name, array, t

    # graphs

    def graph(self, depth: int) -> Graph:
        if depth > MAX_DEPTH:
            self.fail("nested too deeply")
        start = self.line
        self.expect("graph")
        self.expect("(")
        scope: dict[str, Value] = {}
        inputs = []
        while not self.accept(")"):
            inputs.append(self.definition(scope))
            if not self.peek(")"):
                self.expect(",")
        self.expect("{")
        nodes = []
        while not self.accept("return"):
            nodes.append(self.node(scope, depth))
        outputs = []
        if not self.peek("}"):
            outputs.append(self.use(scope))
            while self.accept(","):
                outputs.append(self.use(scope))
        self.expect("}")
        graph = Graph(tuple(inputs), tuple(nodes), tuple(outputs))
        if depth == 0:
            try:
                verify(graph)
            except VerifyError as e:
                self.fail(str(e), start)
        return graph

    def definition(self, scope: dict[str, Value]) -> Value:
        line = self.line
        name = self.reference("%")
        if name in scope:
            self.fail(f"%{name} is defined twice", line)
        self.expect(":")
        scope[name] = Value(name, self.tensor_type())
        return scope[name]

    def use(self, scope: Mapping[str, Value]) -> Value:
        name = self.reference("%")
        if name not in scope:
            self.fail(f"%{name} is not defined")
        return scope[name]

    def tensor_type(self) -> TensorType:
        word = self.take("word", "an element type")
        if word not in DType.__members__:
            self.fail(f"there is no element type {word}")
        self.expect("[")
        shape: list[Dim] = []
        while not self.accept("]"):
            d = self.value(0, f"a size of {word}")
            if isinstance(d, bool) or not isinstance(d, (int, Index)) or (isinstance(d, int) and d < 0):
                self.fail(f"not a size: {d}")
            shape.append(d)
            if not self.peek("]"):
                self.expect(",")
        return TensorType(tuple(shape), DType[word])

    def node(self, scope: dict[str, Value], depth: int) -> Node:
        line = self.line
        outs: list[Value] = []
        mine: dict[str, Value] = dict(scope) if self.tokens[self.at][0] == "name" else {}
        if self.tokens[self.at][0] == "name":
            outs.append(self.definition(mine))
            while self.accept(","):
                outs.append(self.definition(mine))
            self.expect("=")
        name = self.take("word", "an op")
        cls = op_classes().get(name)
        if cls is None:
            self.fail(f"there is no op {name}", line)
        self.expect("(")
        inputs = []
        while not self.accept(")"):
            inputs.append(self.use(scope))
            if not self.peek(")"):
                self.expect(",")
        attributes: dict[str, Any] = {}
        if self.accept("{"):
            while not self.accept("}"):
                self.attribute(attributes, name, None)
                if not self.peek("}"):
                    self.expect(",")
        if self.accept("with"):
            while self.tokens[self.at][0] == "word" and self.tokens[self.at + 1][1] == "=":
                self.attribute(attributes, name, depth + 1)
        op = self.make(cls, attributes, [v.type for v in inputs], [v.type for v in outs], line)
        for v in outs:
            scope[v.name] = v
        return Node(op, tuple(inputs), tuple(outs), self.origin(line))

    def attribute(self, attributes: dict[str, Any], op: str, graph_depth: int | None) -> None:
        key = self.take("word", "an attribute")
        if key in attributes:
            self.fail(f"{op} has {key} twice")
        self.expect("=")
        attributes[key] = self.graph(graph_depth) if graph_depth is not None else self.value(0, f"{op}'s {key}")

    def make(
        self,
        cls: type[Op],
        attributes: Mapping[str, Any],
        inputs: list[TensorType],
        outputs: list[TensorType],
        line: int,
    ) -> Op:
        """cls(**attributes) if such an op exists and maps inputs to outputs."""
        known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls)}
        unknown = attributes.keys() - known.keys()
        missing = [k for k, required in known.items() if required and k not in attributes]
        if unknown or missing:
            self.fail(
                f"{cls.name} has no attribute {min(unknown)}" if unknown else f"{cls.name} lacks {missing[0]}", line
            )
        try:
            op = cls(**attributes)
            types = op.infer(*inputs)
            fit = len(types) == len(outputs) and all(same_type(a, b) for a, b in zip(types, outputs, strict=True))
        except Exception as e:  # whatever a stranger's attributes make infer stumble over
            raise TextError(f"line {line}: {cls.name} does not take this: {e}") from e
        if not fit:
            self.fail(f"{cls.name} gives {', '.join(map(str, types))}, not {', '.join(map(str, outputs))}", line)
        return op

    def origin(self, line: int) -> Origin:
        module, _, source = self.comments.get(line, "").removeprefix(" ").partition("  ")
        return Origin(module, source)
