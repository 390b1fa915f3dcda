"""A plan run without its arithmetic: which bytes each step reads and writes, in the order of execution.

Nothing here uses what the planner computes of lifetimes or dependencies: reads come from the expressions and operands
of the steps, and memory is a shadow in which every byte knows whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from neve.ir.buffers import Buffer
from neve.ir.index import Index
from neve.ir.loops import Load, Tensor
from neve.kernels.kernel import Pointer
from neve.plan.schedule import Schedule
from neve.plan.stages import Compute
from neve.plan.steps import BranchStep, ExternCall, FailStep, Kernel, LoopStep, Nest, Step
from tests.plan.programs import Plan

LINE = 64
GIVEN = ("input", "constant", "state")
"""Places that hold something before the first step."""


@dataclass(frozen=True)
class Path:
    """How control flow goes: rounds of every loop; branches take this side, or turn by turn."""

    rounds: int
    side: str


PATHS = (Path(0, "then"), Path(1, "orelse"), Path(2, "both"), Path(3, "then"))


@dataclass(frozen=True)
class Event:
    """A step at work. reads come from outside the step; inner are tensors of a nest that live in its rows."""

    step: Step
    reads: frozenset[Tensor]
    writes: tuple[Tensor, ...]
    inner: frozenset[Tensor] = frozenset()


class Left(Exception):
    """The path meets a raise of the model."""


def events(steps: Sequence[Step], path: Path, turn: list[int] | None = None) -> Iterator[Event]:
    """The events of one path, in order; raises Left at a raise."""
    turn = [0] if turn is None else turn
    for s in steps:
        if isinstance(s, BranchStep):
            yield Event(s, frozenset([s.pred]), ())
            turn[0] += path.side == "both"
            take = path.side if path.side != "both" else ("then", "orelse")[turn[0] % 2]
            yield from events(getattr(s, take), path, turn)
        elif isinstance(s, LoopStep):
            for k in range(path.rounds + 1):
                yield from events(s.cond, path, turn)
                yield Event(s, frozenset([s.test]), ())
                if k < path.rounds:
                    yield from events(s.body, path, turn)
        elif isinstance(s, FailStep):
            raise Left
        else:
            yield event(s)


def until_raise(steps: Sequence[Step], path: Path) -> list[Event]:
    """The events of a path, to its end or its raise."""
    out: list[Event] = []
    with suppress(Left):
        out.extend(events(steps, path))
    return out


def event(s: Step) -> Event:
    """What a step without steps inside reads and writes."""
    if isinstance(s, Nest):
        made: list[Tensor] = []
        reads: set[Tensor] = set()
        for m in s.members:
            needs = tensors_in(m.stage.expr)
            later = {x.stage.out for x in s.members} - set(made)
            assert m.stage.out in s.local or not needs & later, f"{m.stage.label} reads what comes after it in its nest"
            reads |= needs - set(made)
            made.append(m.stage.out)
        return Event(s, frozenset(reads), tuple(t for t in made if t not in s.local), frozenset(s.local))
    if isinstance(s, ExternCall):
        return Event(s, frozenset(s.stage.inputs), s.stage.results)
    assert isinstance(s, Kernel)
    reads = {p.buffer.tensor for b in s.bounds for p in b.pointers if isinstance(p, Pointer)}
    outs = s.stage.results
    if s.stage.epilogue is not None:
        reads |= tensors_in(s.stage.epilogue.expr) - {outs[0]}
        outs = (s.stage.epilogue.out, *outs[1:])
    return Event(s, frozenset(reads), outs)


def tensors_in(x: Any) -> set[Tensor]:
    """Every tensor that an expression loads from, indexes and conditions included."""
    if isinstance(x, Tensor):
        return {x}
    if isinstance(x, Index):
        return tensors_in(tuple(x.atoms()))
    if isinstance(x, tuple):
        return {t for y in x for t in tensors_in(y)}
    if is_dataclass(x):
        return {t for f in fields(x) for t in tensors_in(getattr(x, f.name))}
    return set()


def loads_in(x: Any) -> list[Load]:
    """Every load in an expression, those in indexes included."""
    found = [x] if isinstance(x, Load) else []
    if isinstance(x, Index):
        return [y for a in x.atoms() for y in loads_in(a)]
    if isinstance(x, tuple):
        return [y for part in x for y in loads_in(part)]
    if is_dataclass(x) and not isinstance(x, Tensor):
        found += [y for f in fields(x) for y in loads_in(getattr(x, f.name))]
    return found


@dataclass(eq=False)
class Memory:
    """The arena and what lies outside it, byte by byte: the number of the tensor's root buffer, or -1."""

    schedule: Schedule
    offsets: Mapping[Buffer, Index]
    size: int
    sizes: Mapping[str, int]
    arena: np.ndarray = field(init=False)
    others: dict[Buffer, np.ndarray] = field(default_factory=dict)
    numbers: dict[Buffer, int] = field(default_factory=dict)
    known: dict[Tensor, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arena = np.full(self.size, -1)

    def value(self, i: Index) -> int:
        return int(i.value(self.sizes))

    def number(self, root: Buffer) -> int:
        return self.numbers.setdefault(root, len(self.numbers))

    def room(self, root: Buffer) -> np.ndarray:
        """The memory that root lies in."""
        if root.place == "arena":
            return self.arena
        if root not in self.others:
            filled = self.number(root) if root.place in GIVEN else -1
            self.others[root] = np.full(self.value(root.bytes), filled)
        return self.others[root]

    def bytes(self, t: Tensor) -> np.ndarray:
        """Where t's elements lie in their room, byte by byte; checks that they are distinct and in t's own memory."""
        if t not in self.known:
            buffer = self.schedule.buffers[t]
            shape = [self.value(Index.of(d)) for d in t.shape]
            at = np.full(shape, self.value(buffer.offset), np.int64)
            for axis, (n, stride) in enumerate(zip(shape, buffer.strides, strict=True)):
                at = at + np.arange(n).reshape([-1 if a == axis else 1 for a in range(len(shape))]) * self.value(stride)
            at = at.reshape(-1)
            root, item = buffer.root, t.dtype.size
            assert root.dtype.size == item, f"{t} in memory of {root.dtype}"
            assert len(np.unique(at)) == at.size, f"elements of {t} share memory"
            assert not at.size or (at.min() >= 0 and (at.max() + 1) * item <= self.value(root.bytes)), f"{t} leaves it"
            start = self.value(self.offsets[root]) if root.place == "arena" else 0
            assert start % LINE == 0, f"{t} lies at {start}"
            places = (start + at[:, None] * item + np.arange(item)).reshape(-1)
            assert not at.size or places.max() < len(self.room(root)), f"{t} ends at {places.max() + 1}"
            self.known[t] = places
        return self.known[t]

    def root(self, t: Tensor) -> Buffer:
        return self.schedule.buffers[t].root

    def run(self, e: Event) -> None:
        """Checks what e reads, then marks what it writes."""
        read: dict[int, list[tuple[Tensor | None, np.ndarray]]] = {}
        for t in e.reads:
            places, root = self.bytes(t), self.root(t)
            room = self.room(root)
            assert (room[places] == self.number(root)).all(), f"{t} is overwritten or not written where it is read"
            read.setdefault(id(room), []).append((t, places))
        for t in e.writes:
            places, root = self.bytes(t), self.root(t)
            room = self.room(root)
            for source, others in read.get(id(room), ()):
                if np.isin(places, others).any():
                    assert source is not None and self.in_place(e.step, source, t), (
                        f"{t} is written over what the same step reads"
                    )
            room[places] = self.number(root)
            read.setdefault(id(room), []).append((None, places))  # nor two results over one another

    def in_place(self, s: Step, source: Tensor, t: Tensor) -> bool:
        """Whether s reads of source's memory, for each element of t that it writes, that element's address alone."""
        if isinstance(s, Kernel) and s.stage.epilogue is not None:
            operands = [p.buffer for b in s.bounds for p in b.pointers if isinstance(p, Pointer)]
            if any(b.root is self.root(source) for b in operands):
                return False
            vars, index, expr = s.stage.epilogue.vars, s.stage.epilogue.index, s.stage.epilogue.expr
        elif isinstance(s, Nest) and len(s.members) == 1 and isinstance(s.members[0].stage, Compute):
            stage = s.members[0].stage
            vars, index, expr = stage.vars, tuple(map(Index.of, stage.vars)), stage.expr
        else:
            return False
        grid = np.ix_(*(np.arange(self.value(v.extent)) for v in vars))
        env = {**self.sizes, **{v.name: g for v, g in zip(vars, grid, strict=True)}}

        def places(x: Tensor, at: Sequence[Index]) -> np.ndarray:
            buffer = self.schedule.buffers[x]
            start = self.value(self.offsets[buffer.root])
            address = np.asarray(buffer.address(at).value(env)) * x.dtype.size + start
            return np.broadcast_to(address, [g.size for g in grid])

        loads = [x for x in loads_in(expr) if x.tensor in self.schedule.buffers]
        same = [x for x in loads if self.root(x.tensor) is self.root(source)]
        return bool(same) and all(np.array_equal(places(x.tensor, x.index), places(t, index)) for x in same)


def memories(p: Plan) -> Iterator[Memory]:
    """Empty memory for a plan at each of its sizes."""
    for sizes in p.sizes:
        yield Memory(p.schedule, p.arena.offsets, int(p.arena.size.value(sizes)), sizes)


def live_bytes(trace: Sequence[Event], memory: Memory) -> int:
    """The most bytes (in whole lines) that are alive at once: from a write to the last read before the next write."""
    spans: dict[Buffer, list[list[int]]] = {}
    reading: dict[Buffer, bool] = {}
    for k, e in enumerate(trace):
        for reads, tensors in ((True, e.reads), (False, e.writes)):
            for root in {memory.root(t) for t in tensors}:
                if root.place != "arena":
                    continue
                if not reads and reading.get(root, True) and (root not in spans or spans[root][-1][1] < k):
                    spans.setdefault(root, []).append([k, k])
                spans[root][-1][1] = k
                reading[root] = reads
    alive = np.zeros(len(trace) + 1, np.int64)
    for root, parts in spans.items():
        size = -(-memory.value(root.bytes) // LINE) * LINE
        for first, last in parts:
            alive[first : last + 1] += size
    return int(alive.max())
