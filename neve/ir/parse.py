"""Reads the text of `neve.ir.text` back. Safe on text from strangers: no eval, bounded sizes; every error names its line."""
from __future__ import annotations

import functools
import importlib
import json
import math
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, NoReturn

import numpy as np
import sympy

from neve.ir.graph import ConstTensor, Graph, Method, Node, Origin, Program, StateVar, Value
from neve.ir.text import RESERVED
from neve.ir.types import Dim, DType, Range, TensorType, symbol
from neve.ir.verify import VerifyError, same_type, verify
from neve.ops.base import REGISTRY, Op

MAX_DEPTH = 40
MAX_TERMS = 64

_TOKEN = re.compile(r"""
    (?P<space>[ \t\r\n]+) | (?P<comment>\#[^\n]*)
  | (?P<name>[%@$](?:[A-Za-z0-9_.]+|"(?:[^"\\\n]|\\.)*"))
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<float>(?:\d+\.(?!\.)\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+))
  | (?P<int>\d+)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>\.\.|\*\*|[()\[\]{},:=+\-*/])
""", re.VERBOSE)


class TextError(ValueError):
    """The text is not a graph; the message begins with its line."""


def parse_graph(text: str, constants: Mapping[str, ConstTensor] | None = None, states: Mapping[str, StateVar] | None = None) -> Graph:
    """The graph that was printed, verified; @ and $ names are looked up in constants and states. Raises TextError."""
    p = _Parser(text, dict(constants or {}), dict(states or {}))
    graph = p.graph(0)
    p.expect_end()
    return graph


def parse_program(text: str, constants: Mapping[str, np.ndarray] | None = None, states: Mapping[str, np.ndarray] | None = None) -> Program:
    """The program that was printed, verified, without example inputs. Arrays for its constants and states are given by name.

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


class _Parser:
    def __init__(self, text: str, constants: dict[str, ConstTensor], states: dict[str, StateVar]) -> None:
        self.constants, self.states = constants, states
        self.tokens: list[tuple[str, str, int]] = []
        self.comments: dict[int, str] = {}
        line, at = 1, 0
        while at < len(text):
            m = _TOKEN.match(text, at)
            if m is None:
                raise TextError(f"line {line}: unexpected {text[at]!r}")
            kind = str(m.lastgroup)
            if kind == "comment":
                self.comments[line] = m.group()[1:]
            elif kind != "space":
                self.tokens.append((kind, m.group(), line))
            line += m.group().count("\n")
            at = m.end()
        self.tokens.append(("end", "the end", line))
        self.at = 0

    # tokens

    @property
    def line(self) -> int:
        return self.tokens[self.at][2]

    def fail(self, message: str, line: int | None = None) -> NoReturn:
        raise TextError(f"line {self.line if line is None else line}: {message}")

    def peek(self, text: str) -> bool:
        kind, found, _ = self.tokens[self.at]
        return found == text and kind in ("mark", "word")

    def accept(self, text: str) -> bool:
        if self.peek(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"expected {text!r}, found {self.tokens[self.at][1]!r}")

    def take(self, kind: str, what: str) -> str:
        if self.tokens[self.at][0] != kind:
            self.fail(f"expected {what}, found {self.tokens[self.at][1]!r}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def expect_end(self) -> None:
        self.take("end", "the end")

    def reference(self, sigil: str) -> str:
        token = self.take("name", f"a name that begins with {sigil}")
        if token[0] != sigil:
            self.fail(f"expected a name that begins with {sigil}, found {token}")
        return self.string(token[1:]) if token[1] == '"' else token[1:]

    def string(self, token: str) -> str:
        try:
            return str(json.loads(token))
        except ValueError as e:
            self.fail(f"bad string {token}: {e}")

    def integer(self) -> int:
        token = self.take("int", "a number")
        if len(token) > 19:
            self.fail(f"the number {token[:30]}… is too large")
        return int(token)

    # programs

    def program(self, arrays: Mapping[str, np.ndarray], contents: Mapping[str, np.ndarray]) -> Program:
        symbols: dict[sympy.Symbol, Range] = {}
        if self.accept("symbols"):
            symbols.update([self.symbol_range()])
            while self.accept(","):
                symbols.update([self.symbol_range()])
        while self.accept("const"):
            name, array, t = self.declared("@", arrays, self.constants)
            self.constants[name] = ConstTensor(name, array, t.dtype)
        while self.accept("state"):
            name, array, t = self.declared("$", contents, self.states)
            self.states[name] = StateVar(name, array, t.dtype)
        methods: dict[str, Method] = {}
        while self.accept("method"):
            kind, _, line = self.tokens[self.at]
            name = self.string(self.take("string", "a name")) if kind == "string" else self.take("word", "a name")
            if name in methods:
                self.fail(f"a second method {name}", line)
            about = self.json(0)
            try:
                scalars = tuple(about.get("scalars", ()))
                extra = about.keys() - {"in_tree", "out_tree", "scalars"}
            except (AttributeError, TypeError):
                self.fail("a method is followed by an object", line)
            graph = self.graph(0)
            if extra or not all(s in (None, "int", "float", "bool") for s in scalars) or len(scalars) not in (0, len(graph.inputs)):
                self.fail(f"the description of the method {name} does not fit it", line)
            methods[name] = Method(graph, about.get("in_tree", {}), about.get("out_tree", {}), scalars)
        if not methods:
            self.fail("a program has methods")
        return Program(methods, symbols)

    def symbol_range(self) -> tuple[sympy.Symbol, Range]:
        s = self.symbol(self.take("word", "a symbol"))
        self.expect(":")
        low = self.integer()
        self.expect("..")
        return s, Range(low, self.integer() if self.tokens[self.at][0] == "int" else None)

    def symbol(self, name: str) -> sympy.Symbol:
        if name in RESERVED:
            self.fail(f"a size symbol cannot be named {name}")
        return symbol(name)

    def declared(self, sigil: str, arrays: Mapping[str, np.ndarray], taken: Mapping[str, Any]) -> tuple[str, np.ndarray, TensorType]:
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

    def json(self, depth: int) -> Any:
        """A JSON value, read from tokens."""
        if depth > MAX_DEPTH:
            self.fail("nested too deeply")
        kind, token, _ = self.tokens[self.at]
        if self.accept("{"):
            out: dict[str, Any] = {}
            while not self.accept("}"):
                key = self.string(self.take("string", "a key"))
                self.expect(":")
                out[key] = self.json(depth + 1)
                if not self.peek("}"):
                    self.expect(",")
            return out
        if self.accept("["):
            items = []
            while not self.accept("]"):
                items.append(self.json(depth + 1))
                if not self.peek("]"):
                    self.expect(",")
            return items
        if kind == "word" and token in ("true", "false", "null", "NaN", "Infinity"):
            self.at += 1
            return {"true": True, "false": False, "null": None, "NaN": math.nan, "Infinity": math.inf}[token]
        if kind == "string":
            self.at += 1
            return self.string(token)
        sign = -1 if self.accept("-") else 1
        if self.accept("Infinity"):
            return sign * math.inf
        if self.tokens[self.at][0] == "float":
            return sign * float(self.take("float", "a number"))
        return sign * self.integer()

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
            if isinstance(d, bool) or not isinstance(d, (int, sympy.Expr)) or (isinstance(d, int) and d < 0):
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

    def make(self, cls: type[Op], attributes: Mapping[str, Any], inputs: list[TensorType], outputs: list[TensorType], line: int) -> Op:
        """cls(**attributes) if such an op exists and maps inputs to outputs."""
        known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls)}
        unknown = attributes.keys() - known.keys()
        missing = [k for k, required in known.items() if required and k not in attributes]
        if unknown or missing:
            self.fail(f"{cls.name} has no attribute {min(unknown)}" if unknown else f"{cls.name} lacks {missing[0]}", line)
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

    # values: literals, tuples, names, and size expressions with + - * / ** floor Mod

    def value(self, depth: int, what: str) -> Any:
        left = self.term(depth, what)
        while self.peek("+") or self.peek("-"):
            minus = self.accept("-") or not self.accept("+")
            right = self.term(depth, what)
            left = self.combine("-" if minus else "+", left, right, what)
        return left

    def term(self, depth: int, what: str) -> Any:
        if self.accept("-"):
            value = self.term(depth + 1, what) if depth < MAX_DEPTH else self.fail("nested too deeply")
            if isinstance(value, bool) or not isinstance(value, (int, float, sympy.Expr)):
                self.fail(f"{what}: nothing to negate")
            return -value
        left = self.power(depth, what)
        while self.peek("*") or self.peek("/"):
            mark = self.tokens[self.at][1]
            self.at += 1
            left = self.combine(mark, left, self.power(depth, what), what)
        return left

    def power(self, depth: int, what: str) -> Any:
        base = self.atom(depth, what)
        return self.combine("**", base, self.atom(depth, what), what) if self.accept("**") else base

    def combine(self, mark: str, a: Any, b: Any, what: str) -> Any:
        for x in (a, b):
            if isinstance(x, bool) or not isinstance(x, (int, sympy.Expr)):
                self.fail(f"{what}: {mark} wants sizes")
        if (_terms(a) * _terms(b) if mark == "*" else _terms(a) + _terms(b)) > MAX_TERMS or (mark == "/" and (not isinstance(b, int) or b == 0)):
            self.fail(f"{what}: too large or not a size")
        if mark == "**":
            if not isinstance(b, int) or not 0 < b <= 8 or not isinstance(a, sympy.Symbol):
                self.fail(f"{what}: a power is symbol ** 1…8")
            return a**b
        out = {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: sympy.sympify(a) / b}[mark]()
        return int(out) if isinstance(out, sympy.Integer) else out

    def atom(self, depth: int, what: str) -> Any:
        if depth > MAX_DEPTH:
            self.fail("nested too deeply")
        kind, token, _ = self.tokens[self.at]
        if kind == "int":
            return self.integer()
        if kind == "name":
            return self.table(token)
        if self.accept("("):
            return self.tuple_or_group(depth + 1, what)
        self.at += 1
        if kind == "float":
            return float(token)
        if kind == "string":
            return self.string(token)
        if kind != "word":
            self.at -= 1
            self.fail(f"{what}: expected a value, found {token!r}")
        if token in _WORDS:
            return _WORDS[token]
        if token in DType.__members__:
            return DType[token]
        if token in _FUNCTIONS:
            self.expect("(")
            args = self.tuple_or_group(depth + 1, what)
            args = args if isinstance(args, tuple) else (args,)
            if len(args) != _FUNCTIONS[token][1] or any(isinstance(x, bool) or not isinstance(x, (int, sympy.Expr)) for x in args):
                self.fail(f"{what}: {token} wants {_FUNCTIONS[token][1]} sizes")
            if token == "Mod" and args[1] == 0:
                self.fail(f"{what}: remainder by zero")
            return _FUNCTIONS[token][0](*args)
        return self.symbol(token)

    def tuple_or_group(self, depth: int, what: str) -> Any:
        items = []
        comma = False
        while not self.accept(")"):
            items.append(self.value(depth, what))
            if self.accept(","):
                comma = True
            elif not self.peek(")"):
                self.expect(",")
        return items[0] if len(items) == 1 and not comma else tuple(items)

    def table(self, token: str) -> ConstTensor | StateVar:
        line, sigil = self.line, token[0]
        name = self.reference(sigil if sigil in "@$" else "@")
        found: ConstTensor | StateVar | None = (self.constants if sigil == "@" else self.states).get(name)
        if found is None:
            self.fail(f"{sigil}{name} is not in the table", line)
        return found


def _terms(e: Any) -> int:
    """How many terms e has when it is multiplied out."""
    if isinstance(e, sympy.Add):
        return sum(map(_terms, e.args))
    return math.prod(map(_terms, e.args)) if isinstance(e, sympy.Mul) else 1


_WORDS = {"True": True, "False": False, "None": None, "inf": math.inf, "nan": math.nan}
_FUNCTIONS: Mapping[str, tuple[Any, int]] = {"floor": (sympy.floor, 1), "ceiling": (sympy.ceiling, 1), "Mod": (sympy.Mod, 2),
                                             "Max": (sympy.Max, 2), "Min": (sympy.Min, 2)}
