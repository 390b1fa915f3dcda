"""A check of plans: the steps run without their arithmetic over a shadow of memory, on paths through control flow.

It knows for every read which value (see `neve.plan.history`) must be there, from the stages before fusion alone, and
uses nothing of what the planner knows of order, lifetimes or places in memory. What must hold:

- what a step reads was written in this call (inputs, constants and state apart), completely, and holds the values that
  the model's own order gives; so does every output at the end, and state at the end and at a raise;
- a step writes over nothing that it reads, but where it reads, for each element, that element's own address last;
- members of a nest read of each other one and the same row, and only of earlier ones: rows may run on any thread;
- a kernel's store writes each element once; tensors lie inside their memory, their elements apart, parts of a
  concatenation where they belong; a packed weight is filled completely, from one value of the weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NoReturn

import numpy as np

from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var
from neve.ir.loops import Load, Tensor
from neve.ir.types import Range
from neve.kernels.kernel import product
from neve.plan.history import PATHS, History, Left, Value, concatenations
from neve.plan.lowering import Lowered
from neve.plan.memory import LINE, Arena
from neve.plan.schedule import Schedule
from neve.plan.stages import Compute, Concat, Reduce, loads
from neve.plan.steps import BranchStep, ExternCall, FailStep, Kernel, LoopStep, Member, Nest, SizeStep, Step

GIVEN = ("input", "constant", "state")
"""Places that hold something before the first step."""
SAMPLES = 64
"""Points of a loop nest at which addresses are compared."""


class PlanError(Exception):
    """A plan is wrong: a defect of the planner. The message says which step finds or does what."""


def check_plan(lowered: Lowered, plan: Schedule, arena: Arena, ranges: Mapping[str, Range]) -> None:
    """Raise PlanError unless the plan does what its stages say, for some sizes in range and on some paths."""
    controls = any(isinstance(s, (BranchStep, LoopStep)) for s in plan.steps)
    histories = [History(lowered, path) for path in (PATHS if controls else PATHS[:1])]
    for sizes in some_sizes(ranges, lowered.most):
        layout = Layout(plan, arena, sizes, {c.out: c for c in concatenations(lowered.block)})
        layout.check()
        for history in histories:
            Shadow(layout, history).check()


def some_sizes(ranges: Mapping[str, Range], most: Mapping[Index, Index]) -> list[dict[str, int]]:
    """Sizes to look at: the least, odd ones that differ, the greatest."""
    if not ranges:
        return [{}]
    low = {s: r.min for s, r in ranges.items()}
    odd = {s: r.min + 1 + 2 * k for k, (s, r) in enumerate(ranges.items())}
    many = {s: 37 + 10 * k for k, s in enumerate(ranges)}
    high = {s: r.min + 300 if r.max is None else r.max for s, r in ranges.items()}
    found = [{s: max(r.min, min(v[s], high[s])) for s, r in ranges.items()} for v in (low, odd, many, high)]
    for v in found:
        for s, n in most.items():
            v[str(s)] = min(v[str(s)], int(n.value(v)))
    return [v for k, v in enumerate(found) if v not in found[:k]]


@dataclass(eq=False)
class Layout:
    """Where tensors lie, at given sizes."""

    plan: Schedule
    arena: Arena
    sizes: Mapping[str, int]
    concats: Mapping[Tensor, Concat]
    spans: dict[Buffer, tuple[int, int]] = field(default_factory=dict)

    def value(self, i: Index) -> int:
        return int(i.value(self.sizes))

    def shape(self, t: Tensor) -> list[int]:
        return [self.value(Index.of(d)) for d in t.shape]

    def root(self, t: Tensor) -> Buffer:
        return self.plan.buffers[t].root

    def span(self, root: Buffer) -> tuple[int, int]:
        """The bytes of the arena that root takes: first, and one past the last."""
        if root not in self.spans:
            if root not in self.arena.offsets:
                raise PlanError(f"{root.tensor} has no place in the arena")
            start = self.value(self.arena.offsets[root])
            self.spans[root] = start, start + self.value(root.bytes)
        return self.spans[root]

    def overlap(self, a: Buffer, b: Buffer) -> bool:
        """Whether two roots have bytes in common."""
        if a is b:
            return True
        if a.place != "arena" or b.place != "arena":
            return False
        (first, last), (begin, end) = self.span(a), self.span(b)
        return first < end and begin < last and first < last and begin < end

    def parts(self, t: Tensor) -> frozenset[Tensor]:
        """The tensors that t is made of side by side: itself, unless it is a concatenation."""
        concat = self.concats.get(t)
        inside = concat.parts if concat is not None else self.plan.packed.get(t)
        return frozenset([t]) if inside is None else frozenset().union(*map(self.parts, inside))

    def check(self) -> None:
        for t, b in self.plan.buffers.items():
            if b.place != "row":
                self._dense(t, b) if b.base is None else None
        for concat in self.concats.values():
            if concat.out in self.plan.buffers:
                self._side_by_side(concat)
        for t, parts in self.plan.packed.items():
            self._filled(t, parts)
        for step in leaves(self.plan.steps):
            if isinstance(step, Nest):
                self._rows(step)
            elif isinstance(step, Kernel):
                self._stored_once(step)

    def _dense(self, t: Tensor, b: Buffer) -> None:
        """Elements apart and inside."""
        sizes = self.shape(t)
        steps = sorted((self.value(s), n) for s, n in zip(b.strides, sizes, strict=True) if n != 1)
        reach = 1
        for step, n in steps:
            if 0 not in sizes and step != reach:
                raise PlanError(f"{t} lies with strides {steps}")
            reach *= n
        if self.value(b.offset):
            raise PlanError(f"{t} begins inside of its own memory")
        if b.place == "arena" and b in self.arena.offsets:
            first, last = self.span(b)
            if first % LINE or first < 0 or last > self.value(self.arena.size):
                raise PlanError(f"{t} lies at {first}..{last} of {self.value(self.arena.size)} bytes")

    def _side_by_side(self, concat: Concat) -> None:
        whole, at = self.plan.buffers[concat.out], 0
        for t in concat.parts:
            part, sizes = self.plan.buffers[t], self.shape(t)
            offset = self.value(whole.offset) + at * self.value(whole.strides[concat.axis])
            same = all(
                n == 1 or self.value(a) == self.value(b)
                for n, a, b in zip(sizes, part.strides, whole.strides, strict=True)
            )
            if part.root is not whole.root or not same or (0 not in sizes and self.value(part.offset) != offset):
                raise PlanError(f"{t} does not lie in its place of {concat.out}")
            at += sizes[concat.axis]
        if at != self.shape(concat.out)[concat.axis]:
            raise PlanError(f"the parts of {concat.out} are {at} long together")

    def _filled(self, t: Tensor, parts: Sequence[Tensor]) -> None:
        """The parts of a packed array are each of its elements once."""
        times = np.zeros(self.value(product(t.shape)), np.uint8)
        for part in parts:
            b = self.plan.buffers[part]
            at = np.array(self.value(b.offset))
            for n, s in zip(self.shape(part), b.strides, strict=True):
                at = at[..., None] + np.arange(n) * self.value(s)
            if b.root is not self.root(t) or at.min() < 0 or at.max() >= len(times):
                raise PlanError(f"a part of {t} does not lie in it")
            times[at] += 1
        if (times != 1).any():
            raise PlanError(f"{t} is not packed completely, or some of it twice")

    def _rows(self, nest: Nest) -> None:
        """Local tensors apart in the scratch of a row, each walked by the nest's own loops."""
        places = []
        for m in nest.members:
            if [self.value(v.extent) for v in m.rows] != [self.value(n) for n in nest.extents]:
                raise PlanError(f"{m.stage.label} walks other rows than its nest")
            b, item = self.plan.buffers[m.stage.out], m.stage.out.dtype.size
            if m.stage.out in nest.local:
                n = 1 + sum(
                    (self.value(v.extent) - 1) * self.value(s)
                    for v, s in zip(m.stage.vars, b.strides, strict=True)
                    if v not in m.rows
                )
                places.append((b.slot, b.slot + n * item))
            elif b.place == "row":
                raise PlanError(f"{m.stage.out} has memory of a row that is not its own")
        places.sort()
        for (_, end), (begin, _) in pairwise(places):
            if begin < end:
                raise PlanError(f"local tensors of {nest.members[0].stage.label} overlap")

    def _stored_once(self, k: Kernel) -> None:
        e = k.stage.epilogue
        if e is None:
            return
        grid = Points(e.vars, self)
        shape = self.shape(e.out)
        if np.prod(shape) != np.prod([self.value(v.extent) for v in e.vars]) or not grid.count:
            if np.prod(shape):
                raise PlanError(f"{k.stage.label} does not store each element of {e.out} once")
            return
        at = np.stack([grid(i) for i in e.index], 1) if e.index else np.zeros((grid.count, 0), int)
        from_points = len(np.unique(np.stack([grid(Index.of(v)) for v in e.vars], 1), axis=0)) if e.vars else 1
        if len(np.unique(at, axis=0)) != from_points or (at < 0).any() or (at >= np.array(shape)).any():
            raise PlanError(f"{k.stage.label} does not store each element of {e.out} once")


class Points:
    """Some points of a loop nest: its corners and random ones."""

    def __init__(self, vars: Iterable[Var], layout: Layout) -> None:
        vars, g = list(vars), np.random.default_rng(0)
        extents = [layout.value(v.extent) for v in vars]
        self.count = SAMPLES if all(extents) else 0
        self.env: dict[str, int | np.ndarray] = dict(layout.sizes)
        for v, n in zip(vars, extents, strict=True):
            drawn = g.integers(0, max(n, 1), self.count)
            drawn[: self.count // 8] = g.choice([0, max(n - 1, 0)], self.count // 8)
            self.env[v.name] = drawn

    def __call__(self, i: Index) -> np.ndarray:
        """The index at each point. Raises PlanError if data decide it."""
        return np.broadcast_to(np.asarray(i.value(self.env, _no_data)), [self.count])


def _no_data(e: object) -> NoReturn:
    raise PlanError(f"an address that data decide where it has to be known: {e}")


@dataclass(eq=False)
class Shadow:
    """Memory during one call: of each root the values that it holds, by tensor."""

    layout: Layout
    history: History
    holds: dict[Buffer, dict[Tensor, int]] = field(default_factory=dict)
    count: Counter[Tensor] = field(default_factory=Counter)
    copied: dict[Value, frozenset[Value]] = field(default_factory=dict)
    known: dict[Value, frozenset[Value]] = field(default_factory=dict)
    decisions: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plan, self.path = self.layout.plan, self.history.path
        self.steps: list[Step] = self.plan.steps
        for t, b in self.plan.buffers.items():
            if b.place in GIVEN and b.base is None:
                self.holds[b] = {t: 0}
        made = {t for s in leaves(self.steps) for t in written(s)}
        made |= {m.stage.out for s in leaves(self.steps) if isinstance(s, Nest) for m in s.members}
        self.stored = made | {t for t, b in self.plan.buffers.items() if b.place in GIVEN or t in self.layout.concats}

    def check(self) -> None:
        """Raise PlanError, with the sizes and the path, unless all holds."""
        try:
            self._run()
        except PlanError as e:
            raise PlanError(f"{e} (sizes {dict(self.layout.sizes)}, {self.path})") from None

    def _run(self) -> None:
        left = None
        try:
            self._steps(self.steps)
        except Left as raised:
            (left,) = raised.args
        if left != self.history.left:
            raise PlanError(f"the call ends by {left!r} instead of {self.history.left!r}")
        if left is None and Counter(self.decisions) != Counter(self.history.decisions):
            raise PlanError("branches or loops decide on other values than the model's")
        for t in (*self.plan.states, *(self.plan.outputs if left is None else ())):
            if self._holds(t, "the end of the call") != self.history.value(t):
                raise PlanError(f"at the end {t} holds another value than the model gives it")

    # --- steps --------------------------------------------------------------------------------------------------------

    def _steps(self, steps: Sequence[Step]) -> None:
        for s in steps:
            if isinstance(s, BranchStep):
                pred = self._decide(s.pred)
                self._steps(s.then if self.path.takes(pred, self.history.places[s.pred]) == "then" else s.orelse)
            elif isinstance(s, LoopStep):
                for k in range(self.path.iterations + 1):
                    self._steps(s.cond)
                    self._decide(s.test)
                    if k < self.path.iterations:
                        self._steps(s.body)
            elif isinstance(s, FailStep):
                raise Left(s.message)
            elif isinstance(s, SizeStep):
                self._decide(s.value)
            elif isinstance(s, Nest):
                self._nest(s)
            else:
                self._call(s)

    def _decide(self, t: Tensor) -> Value:
        value = self._holds(t, "a decision")
        self.decisions.append(value)
        return value

    def _call(self, s: Kernel | ExternCall) -> None:
        e = s.stage.epilogue if isinstance(s, Kernel) else None
        operands = list(operands_of(s))
        seen = self._see(self._holds(t, s.stage.label) for t in operands)
        own = s.stage.results[0]
        loaded = [x for x in loads(e.expr) if x.tensor is not own] if e is not None else []
        seen |= self._see(self._holds(x.tensor, s.stage.label) for x in loaded)
        outs = written(s)
        for k, t in enumerate(outs):
            self._apart(t, operands, s.stage.label)
            self._apart(t, outs[:k], s.stage.label)
            if k or e is None:
                self._apart(t, [x.tensor for x in loaded], s.stage.label)
            else:
                self._in_place(t, e.index, e.vars, loaded, s.stage.label)
        wanted = [self._next(t) for t in outs]
        if e is not None:
            wanted.append((own, self.count[e.out] + 1))
        self._expect(seen, wanted, s.stage.label)
        for t in outs:
            self._write(t)

    def _nest(self, nest: Nest) -> None:
        earlier: dict[Tensor, tuple[Member, Value]] = {}
        outside: list[Load] = []
        for m in nest.members:
            s, found = m.stage, []
            for x in loads(s.expr):
                if x.tensor in earlier:
                    maker, value = earlier[x.tensor]
                    self._same_row(x, m, maker)
                    found.append(value)
                else:
                    outside.append(x)
                    found.append(self._holds(x.tensor, s.label))
            value = self._next(s.out)
            self._expect(self._see(found), [value], s.label)
            if s.out in earlier:
                raise PlanError(f"{s.label}: a nest writes {s.out} twice")
            earlier[s.out] = m, value
            if s.out in nest.local:
                self.count[s.out] += 1
        outs = written(nest)
        for k, t in enumerate(outs):
            label = nest.members[0].stage.label
            self._apart(t, outs[:k], label)
            s = nest.members[0].stage
            if len(nest.members) == 1 and isinstance(s, Compute):
                self._in_place(t, [Index.of(v) for v in s.vars], s.vars, outside, label)
            else:
                self._apart(t, [x.tensor for x in outside], label)
        for t in outs:
            self._write(t)

    def _same_row(self, x: Load, m: Member, maker: Member) -> None:
        """A load from an earlier member of the nest is at the row that is being computed."""
        points = Points([*m.stage.vars, *(m.stage.rvars if isinstance(m.stage, Reduce) else ())], self.layout)
        for own, theirs in zip(m.rows, maker.rows, strict=True):
            if not np.array_equal(points(x.index[maker.stage.vars.index(theirs)]), points(Index.of(own))):
                raise PlanError(f"{m.stage.label} reads {x.tensor} at another row than its own")

    # --- memory -------------------------------------------------------------------------------------------------------

    def _holds(self, t: Tensor, where: str) -> Value:
        """The value of t in memory, parts of a concatenation together."""
        concat = self.layout.concats.get(t)
        if concat is not None:
            parts = tuple(self._holds(p, where) for p in concat.parts)
            if parts not in self.history.joined:
                raise PlanError(f"{where}: {t} has parts of different times")
            return self.history.joined[parts]
        if t in self.plan.packed:
            return self._packed(t, where)
        if t not in self.plan.buffers or self.plan.buffers[t].place == "row":
            raise PlanError(f"{where}: {t} has no memory")
        found = self.holds.get(self.layout.root(t), {}).get(t)
        if found is None and 0 in self.layout.shape(t):
            found = self.count[t]
        if found is None:
            raise PlanError(f"{where}: {t} is read where it is not yet written, or written over")
        return t, found

    def _packed(self, t: Tensor, where: str) -> Value:
        """The value of a packed array, whose parts are of one time."""
        parts = [self._holds(p, where) for p in self.plan.packed[t]]
        time = parts[0][1] if parts else 0
        if any(n != time for _, n in parts):
            raise PlanError(f"{where}: {t} has parts of different times")
        self.copied[t, time] = self._see(parts)
        return t, time

    def _next(self, t: Tensor) -> Value:
        return t, self.count[t] + 1

    def _write(self, t: Tensor) -> None:
        if t in self.layout.concats:
            raise PlanError(f"{t} is written as a whole, its parts as well")
        self.count[t] += 1
        root = self.layout.root(t)
        for other, held in self.holds.items():
            if other is not root and held and self.layout.overlap(other, root):
                held.clear()
        self.holds.setdefault(root, {})[t] = self.count[t]

    def _apart(self, t: Tensor, others: Iterable[Tensor], label: str) -> None:
        """t is written over none of the others."""
        for x in others:
            if self._meets(x, t):
                raise PlanError(f"{label}: {t} is written over {x}, which the same step reads or writes")

    def _meets(self, a: Tensor, b: Tensor) -> bool:
        first, second = self.layout.root(a), self.layout.root(b)
        if first is second:
            return bool(self.layout.parts(a) & self.layout.parts(b))
        return self.layout.overlap(first, second)

    def _in_place(
        self, t: Tensor, index: Sequence[Index], vars: Sequence[Var], loaded: Sequence[Load], label: str
    ) -> None:
        """What is loaded from memory that t takes over is loaded, for each element, from the element's own address."""
        met = [x for x in loaded if self._meets(x.tensor, t)]
        if not met:
            return
        points = Points(vars, self.layout)

        def places(x: Tensor, at: Sequence[Index]) -> np.ndarray:
            b = self.plan.buffers[x]
            start = self.layout.span(b.root)[0] if b.root.place == "arena" else 0
            out = np.full(points.count, self.layout.value(b.offset))
            for i, s, n in zip(at, b.strides, self.layout.shape(x), strict=True):
                out = out + (points(i) * self.layout.value(s) if n != 1 else 0)
            return out * x.dtype.size + start

        for x in met:
            if x.dtype.size != t.dtype.size or not np.array_equal(places(x.tensor, x.index), places(t, index)):
                raise PlanError(f"{label}: {t} is written over {x.tensor}, which other elements still need")

    # --- values -------------------------------------------------------------------------------------------------------

    def _see(self, values: Iterable[Value]) -> frozenset[Value]:
        """Values, those of the planner's own copies replaced by what was copied."""
        return frozenset(x for v in values for x in self.copied.get(v, (v,)))

    def _expect(self, seen: frozenset[Value], outs: Sequence[Value], label: str) -> None:
        """What is seen to compute outs is among what the model computes them from."""
        if not any(v in self.history.sources for v in outs):
            if any(t in self.history.now for t, _ in outs):
                raise PlanError(f"{label}: {outs[0][0]} is written more often than the model does")
            self.copied |= dict.fromkeys(outs, seen)
            return
        wanted = frozenset().union(*map(self._origins, outs))
        for t, n in seen - wanted:
            times = sorted(m for x, m in wanted if x is t)
            raise PlanError(f"{label}: reads {t} as of write {n} instead of {times}")

    def _origins(self, v: Value) -> frozenset[Value]:
        """The values in memory that v is computed from."""
        if v not in self.known:
            found: set[Value] = set()
            for x in self.history.sources.get(v, ()):
                found |= {x} if x[0] in self.stored else self._origins(x)
            self.known[v] = frozenset(found)
        return self.known[v]


def leaves(steps: Iterable[Step]) -> Iterable[Step]:
    """The steps that do something themselves."""
    for s in steps:
        if isinstance(s, BranchStep):
            yield from (*leaves(s.then), *leaves(s.orelse))
        elif isinstance(s, LoopStep):
            yield from (*leaves(s.cond), *leaves(s.body))
        elif not isinstance(s, (FailStep, SizeStep)):
            yield s


def operands_of(s: Kernel | ExternCall) -> Iterable[Tensor]:
    """What a kernel gets pointers to, to read."""
    if isinstance(s, ExternCall):
        return s.stage.inputs
    return [p.buffer.tensor for p in s.pointers]


def written(s: Step) -> list[Tensor]:
    """What a step without others inside writes in memory."""
    if isinstance(s, Nest):
        return [m.stage.out for m in s.members if m.stage.out not in s.local]
    assert isinstance(s, (Kernel, ExternCall))
    e = s.stage.epilogue if isinstance(s, Kernel) else None
    return list(s.stage.results) if e is None else [e.out, *s.stage.results[1:]]
