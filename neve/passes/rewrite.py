"""What passes are made of: exactness, the log of rewrites and misses, and the rewriter that applies local rules to a
graph.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from neve.ir.graph import ConstTensor, Graph, Node, Origin, Program, Value
from neve.ir.types import DType, round_to
from neve.ir.verify import same_type
from neve.ir.walk import has_effect, map_subgraphs
from neve.ops.base import Op
from neve.ops.source import Constant, Full
from neve.passes.steps import before_steps

NOWHERE = Origin()


class Exactness(enum.Enum):
    """How a pass may change results: EXACT bit for bit, ROUNDING by reassociation, LOSSY only on request."""

    EXACT = "exact"
    ROUNDING = "rounding"
    LOSSY = "lossy"


@dataclass(frozen=True)
class Entry:
    """One line of the log: what a pass did (miss False) or declined to do (miss True), and where."""

    pass_name: str
    text: str
    origin: Origin
    miss: bool = False

    def __str__(self) -> str:
        return f"{self.pass_name}: {'declined: ' if self.miss else ''}{self.text}" + (
            f"  ({self.origin})" if str(self.origin) else ""
        )


@dataclass
class Log:
    """The rewrites and misses of an optimization, in order; an equal miss is kept once."""

    entries: list[Entry] = field(default_factory=list)
    current: str = ""

    def rewrite(self, text: str, origin: Origin = NOWHERE) -> None:
        self.entries.append(Entry(self.current, text, origin))

    def miss(self, reason: str, origin: Origin = NOWHERE) -> None:
        entry = Entry(self.current, reason, origin, True)
        if entry not in self.entries:
            self.entries.append(entry)

    @property
    def rewrites(self) -> list[Entry]:
        return [e for e in self.entries if not e.miss]

    @property
    def misses(self) -> list[Entry]:
        return [e for e in self.entries if e.miss]

    def counts(self) -> dict[str, int]:
        """Rewrites a pass."""
        return dict(Counter(e.pass_name for e in self.rewrites))


@dataclass(frozen=True)
class Pass:
    """A named transformation of one graph; nested graphs are its own business (`rewrite` visits them)."""

    name: str
    exactness: Exactness
    run: Callable[[Graph, Log], Graph]


@dataclass(frozen=True)
class ProgramPass:
    """A named transformation of all methods together."""

    name: str
    exactness: Exactness
    run: Callable[[Program, Log], Program]


Rule = Callable[[Node, "Rewriter"], "Value | tuple[Value, ...] | None"]
"""Looks at a node; returns what replaces its outputs, or None to leave it."""


def rewrite(graph: Graph, log: Log, *rules: Rule, inner: bool = False) -> Graph:
    """graph, and the graphs in it, with every node offered once to the rules in order; the same object if nothing
    changed.

    What the rewrites leave without a use is gone. Rules see nodes whose inputs are rewritten already, so chains
    collapse in one go. inner: graph is inside another one.
    """
    return Rewriter(graph, log, inner).run(rules)


def rules_pass(name: str, exactness: Exactness, *rules: Rule, repeat: int = 1) -> Pass:
    """A pass that applies rules, up to `repeat` times while they change something."""

    def run(graph: Graph, log: Log) -> Graph:
        for _ in range(repeat):
            new = rewrite(graph, log, *rules)
            if new is graph:
                break
            graph = new
        return graph

    return Pass(name, exactness, run)


class Rewriter:
    """One sweep over a graph. Rules ask it about values and emit nodes through it."""

    def __init__(self, graph: Graph, log: Log, inner: bool = False) -> None:
        self.graph, self.log, self.inner = graph, log, inner
        self.nodes: list[Node] = []
        self.node: Node | None = None
        self._producer: dict[Value, Node] = {}
        self._replaced: dict[Value, Value] = {}
        self._names = {v.name for v in graph.values()}
        self._next: dict[str, int] = {}
        self._uses: Counter[Value] = Counter(v for n in graph.nodes for v in n.inputs)
        self._uses.update(graph.outputs)
        self._users: dict[Value, list[Node]] = {}
        for n in graph.nodes:
            for v in n.inputs:
                self._users.setdefault(v, []).append(n)

    # questions

    def producer(self, v: Value) -> Node | None:
        """The node that gives v; None for a graph input."""
        return self._producer.get(v)

    def op(self, v: Value, name: str) -> Node | None:
        """The node that gives v if its op has that name."""
        n = self._producer.get(v)
        return n if n is not None and n.op.name == name else None

    def uses(self, v: Value) -> int:
        """How often v is used, as an input of nodes or as an output of the graph."""
        return self._uses[v]

    def users(self, v: Value) -> list[Node]:
        """The nodes of the graph before this sweep that read v, or what v replaced."""
        return self._users.get(v, [])

    def is_output(self, v: Value) -> bool:
        return any(self._replaced.get(o, o) is v for o in self.graph.outputs)

    def before_step(self, v: Value) -> bool:
        """Whether v, a value of the graph before this sweep, must keep eager's rounding (`neve.passes.steps`)."""
        return v in self._before_steps

    @cached_property
    def _before_steps(self) -> frozenset[Value]:
        return before_steps(self.graph, self.inner)

    def array(self, v: Value, limit: int = 1 << 22) -> np.ndarray | None:
        """v's content if it is a constant or a static fill of at most limit elements, else None."""
        n = self._producer.get(v)
        if n is not None and isinstance(n.op, Constant):
            return n.op.tensor.array
        if n is not None and isinstance(n.op, Full) and v.type.is_static and int(v.type.numel) <= limit:
            return np.broadcast_to(round_to(np.asarray(n.op.value), v.dtype), v.type.at({}))
        return None

    def scalar(self, v: Value) -> Any:
        """The Python number that every element of v is, as rounded to its dtype; None if that is not known. Shapes
        may be symbolic.
        """
        n = self._producer.get(v)
        if n is not None and isinstance(n.op, Full):
            return round_to(np.asarray(n.op.value), v.dtype).item()
        if n is not None and isinstance(n.op, Constant) and n.op.tensor.array.size == 1:
            return n.op.tensor.array.item()
        return None

    # actions

    def emit(self, op: Op, *inputs: Value, name: str | None = None) -> Value:
        """Append op on inputs; its only output."""
        (out,) = self.emit_all(op, *inputs, name=name)
        return out

    def emit_all(self, op: Op, *inputs: Value, name: str | None = None) -> tuple[Value, ...]:
        """Append op on inputs; all its outputs."""
        types = op.infer(*(v.type for v in inputs))
        outs = tuple(Value(self._fresh(name or op.name), t) for t in types)
        self._append(Node(op, inputs, outs, self.node.origin if self.node else NOWHERE))
        self._uses.update(inputs)
        return outs

    def constant(self, array: np.ndarray, dtype: DType, name: str) -> Value:
        """A constant with that content, rounded to dtype; nobody may write to array afterwards."""
        content = np.ascontiguousarray(round_to(array, dtype)).reshape(np.shape(array)).view()
        content.flags.writeable = False
        return self.emit(Constant(ConstTensor(name, content, dtype)), name=name)

    def number(self, value: float | bool, dtype: DType) -> Value:
        """A 0-d scalar of that dtype."""
        return self.emit(Full((), value, dtype))

    def inline(self, graph: Graph, inputs: Iterable[Value]) -> tuple[Value, ...]:
        """graph's nodes in place, on inputs; its outputs."""
        env = dict(zip(graph.inputs, inputs, strict=True))
        for n in graph.nodes:
            outs = tuple(Value(self._fresh(v.name), v.type) for v in n.outputs)
            new = Node(n.op, tuple(env[v] for v in n.inputs), outs, n.origin)
            self._uses.update(new.inputs)
            self._append(new)
            env.update(zip(n.outputs, outs, strict=True))
        return tuple(env[v] for v in graph.outputs)

    def miss(self, reason: str) -> Value | None:
        """Log why a near match was declined; gives None, for `return rw.miss(…)`."""
        self.log.miss(reason, self.node.origin if self.node else NOWHERE)
        return None

    # the sweep

    def run(self, rules: Iterable[Rule]) -> Graph:
        rules = tuple(rules)
        changed = False
        for old in self.graph.nodes:
            node = self._current(old, rules)
            changed |= node is not old
            self.node = node
            outs = self._apply(node, rules)
            if outs is None:
                self._append(node)
                continue
            changed = True
            self._replace(node, outs)
        if not changed:
            return self.graph
        outputs = tuple(self._replaced.get(v, v) for v in self.graph.outputs)
        return Graph(self.graph.inputs, self._live(outputs), outputs)

    def _live(self, outputs: tuple[Value, ...]) -> tuple[Node, ...]:
        """The nodes that outputs or effects need."""
        live, kept = set(outputs), []
        for n in reversed(self.nodes):
            if has_effect(n.op) or any(v in live for v in n.outputs):
                live.update(n.inputs)
                kept.append(n)
        return tuple(reversed(kept))

    def _current(self, node: Node, rules: tuple[Rule, ...]) -> Node:
        inputs = tuple(self._replaced.get(v, v) for v in node.inputs)
        op = map_subgraphs(node.op, lambda g: rewrite(g, self.log, *rules, inner=True))
        if op is node.op and all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
            return node
        return Node(op, inputs, node.outputs, node.origin)

    def _apply(self, node: Node, rules: tuple[Rule, ...]) -> tuple[Value, ...] | None:
        for rule in rules:
            result = rule(node, self)
            if result is not None:
                return result if isinstance(result, tuple) else (result,)
        return None

    def _replace(self, node: Node, outs: tuple[Value, ...]) -> None:
        for old, new in zip(node.outputs, outs, strict=True):
            assert same_type(old.type, new.type), f"{self.log.current}: %{old.name}: {old.type} replaced by {new.type}"
            self._replaced[old] = new
            self._uses[new] += self._uses[old]
            if old in self._users:
                self._users.setdefault(new, []).extend(self._users[old])
        made = self._producer.get(outs[0]) if outs else None
        label = made.op.name if made is not None else (f"%{outs[0].name}" if outs else "nothing")
        self.log.rewrite(f"%{node.outputs[0].name if node.outputs else ''} = {node.op.name} → {label}", node.origin)
        self._release(node)

    def _release(self, node: Node) -> None:
        for v in node.inputs:
            self._uses[v] -= 1
            producer = self._producer.get(v)
            if producer is not None and not any(self._uses[o] for o in producer.outputs):
                self._release(producer)

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        for v in node.outputs:
            self._producer[v] = node

    def _fresh(self, hint: str) -> str:
        i, name = self._next.get(hint, 0), hint
        while name in self._names:
            i += 1
            name = f"{hint}_{i}"
        self._next[hint] = i
        self._names.add(name)
        return name
