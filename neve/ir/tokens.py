"""The lower half of the parser: tokens, JSON values, attribute values and size expressions, all of them bounded."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from neve.ir.graph import ConstTensor, StateVar
from neve.ir.index import Index
from neve.ir.text import RESERVED
from neve.ir.types import DType, dim, symbol

MAX_DEPTH = 40
MAX_TERMS = 64

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+) | (?P<comment>\#[^\n]*)
  | (?P<name>[%@$](?:[A-Za-z0-9_.]+|"(?:[^"\\\n]|\\.)*"))
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<float>(?:\d+\.(?!\.)\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+))
  | (?P<int>\d+)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>\.\.|\*\*|//|[()\[\]{},:=+\-*%])
""",
    re.VERBOSE,
)


class TextError(ValueError):
    """The text is not a graph; the message begins with its line."""


class Tokens:
    """A text as tokens, and a position in it; constants and states are where @ and $ names are looked up."""

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

    def symbol(self, name: str) -> Index:
        if name in RESERVED:
            self.fail(f"a size symbol cannot be named {name}")
        return symbol(name)

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

    # values: literals, tuples, names, and size expressions with + - * // % **

    def value(self, depth: int, what: str) -> Any:
        left = self.term(depth, what)
        while self.peek("+") or self.peek("-"):
            minus = self.accept("-") or not self.accept("+")
            right = self.term(depth, what)
            left = self.combine("-" if minus else "+", left, right, what)
        return left

    def term(self, depth: int, what: str) -> Any:
        left = self.factor(depth, what)
        while self.peek("*") or self.peek("//") or self.peek("%"):
            mark = self.tokens[self.at][1]
            self.at += 1
            left = self.combine(mark, left, self.factor(depth, what), what)
        return left

    def factor(self, depth: int, what: str) -> Any:
        if not self.accept("-"):
            return self.power(depth, what)
        value = self.factor(depth + 1, what) if depth < MAX_DEPTH else self.fail("nested too deeply")
        if isinstance(value, bool) or not isinstance(value, (int, float, Index)):
            self.fail(f"{what}: nothing to negate")
        return -value

    def power(self, depth: int, what: str) -> Any:
        base = self.atom(depth, what)
        return self.combine("**", base, self.atom(depth, what), what) if self.accept("**") else base

    def combine(self, mark: str, a: Any, b: Any, what: str) -> Any:
        for x in (a, b):
            if isinstance(x, bool) or not isinstance(x, (int, Index)):
                self.fail(f"{what}: {mark} wants sizes")
        a, b = Index.of(a), Index.of(b)
        terms = len(a.terms) * len(b.terms) if mark == "*" else len(a.terms) + len(b.terms)
        if terms > MAX_TERMS or sum(len(k) for e in (a, b) for k in e.terms) > MAX_TERMS:
            self.fail(f"{what}: too large")
        if mark == "**" and (b.const not in range(1, 9) or sum(map(len, a.terms)) > 1 or len(a.terms) > 1):
            self.fail(f"{what}: a power is of one factor, with 1…8")
        if mark in ("//", "%") and b.const is not None and b.const <= 0:
            self.fail(f"{what}: a division by {b}")
        operators: Mapping[str, Any] = {
            "+": operator.add,
            "-": operator.sub,
            "*": operator.mul,
            "//": operator.floordiv,
            "%": operator.mod,
            "**": lambda x, n: x ** (n.const or 1),
        }
        return dim(operators[mark](a, b))

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


_WORDS = {"True": True, "False": False, "None": None, "inf": math.inf, "nan": math.nan}
