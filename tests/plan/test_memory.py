"""Memory plans at every size: what is alive at once does not overlap, everything is aligned, inside, and tight."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.build.target import native
from neve.emit.program import emit
from neve.ir.buffers import Buffer, row_major
from neve.ir.index import Index, Var
from neve.ir.loops import Call, Load, Tensor
from neve.ir.types import DType, TensorType, symbol
from neve.passes.pipeline import optimize
from neve.plan.memory import LINE, Arena, Interval, assign, lifetimes
from neve.plan.schedule import Schedule
from neve.plan.stages import Compute
from neve.plan.steps import BranchStep, LoopStep, Member, Nest, Step
from neve.runtime.expressions import compile_sizes
from tests.plan.programs import PROGRAMS, Sizes, planned
from tests.plan.trace import PATHS, Memory, events, live_bytes, memories, until_raise

TIGHT, SYMBOLIC = 1.4, 2.0
"""The arena of a program is at most this times what is alive at once: with sizes known, and at any size."""

LOOSE = 1.5
"""Likewise for any lifetimes of known sizes, as far as they are drawn here."""

EACH = pytest.mark.parametrize("name", PROGRAMS)


@EACH
def test_the_arena_is_little_more_than_what_is_alive(name: str) -> None:
    for p in planned(name):
        for m in memories(p):
            least = max(live_bytes(until_raise(p.schedule.steps, path), m) for path in PATHS)
            assert m.size <= (SYMBOLIC if m.sizes else TIGHT) * least, (
                f"{p.name} at {m.sizes}: {m.size} bytes for {least}"
            )


@EACH
def test_the_context_holds_the_arena_at_every_size(name: str) -> None:
    """In the range of the symbols, not only at its ends; without a bound the workspace is what the arena wants."""
    program = optimize(PROGRAMS[name][0]())[0]
    source = emit(program, native(), "m", threads=2).source
    text = source.files["m.c"]
    for p in planned(name):
        key = p.name.removeprefix(f"{name}.")
        body = text[text.index(f"int m_{key}(") :]
        inside = re.search(r"call.arena = \(char \*\)ctx \+ (\d+);", body[: body.index("return call.code")])
        ranges = [range(r.min, (r.min + 70 if r.max is None else r.max) + 1) for r in program.symbols.values()]
        for values in itertools.product(*(r[:: max(len(r) // 20, 1)] for r in ranges)):
            sizes = dict(zip(map(str, program.symbols), values, strict=True))
            need = p.arena.size.value(sizes)
            if inside:
                assert int(inside[1]) % LINE == 0
                room = source.signature["context_size"] - int(inside[1])
            else:
                workspace = compile_sizes([source.signature["methods"][key]["workspace"]], list(sizes))
                (room,) = workspace(*sizes.values())
            assert need <= room, f"{p.name} at {sizes}: {need} bytes in {room}"


ALIGN = st.sampled_from([1, 7, 63, 64, 65, 100, 640, 4096, 100_000])


def buffer(elements: object) -> Buffer:
    t = Tensor(TensorType((elements,), DType.uint8), "t")  # type: ignore[arg-type]
    return Buffer(t, "arena", row_major(t.shape), Index.of(0))


@st.composite
def intervals_of(draw: st.DrawFn, sizes: st.SearchStrategy[object]) -> list[Interval]:
    spans = st.tuples(st.integers(0, 12), st.integers(0, 6))
    drawn = draw(st.lists(st.tuples(sizes, spans), min_size=1, max_size=16))
    return [Interval(buffer(n), first, first + length) for n, (first, length) in drawn]


def n_times(coefficients: tuple[int, int, int]) -> object:
    n, m = symbol("n"), symbol("m")
    return coefficients[0] + coefficients[1] * n + coefficients[2] * n * m


ROW = st.integers(0, 3)
SYMBOLIC_SIZES = st.one_of(
    st.tuples(st.integers(1, 99), ROW, ROW).map(n_times),
    st.integers(1, 9).map(lambda k: k * (40 - symbol("n"))),
    ALIGN,
)
AT: list[Sizes] = [{"n": n, "m": m} for n in (0, 1, 2, 17, 39, 40) for m in (0, 1, 33, 1000)]


def peak(intervals: Sequence[Interval], sizes: Sizes) -> int:
    """The most bytes, in whole lines, that are alive at one step."""
    used = dict.fromkeys(range(20), 0)
    for i in intervals:
        for s in range(i.first, i.last + 1):
            used[s] += -(-int(i.buffer.bytes.value(sizes)) // LINE) * LINE
    return max(used.values())


def check_places(intervals: Sequence[Interval], arena: Arena, sizes: Sizes) -> int:
    """Checks that places are aligned, inside, and apart while both are alive; the size of the arena."""
    size = int(arena.size.value(sizes))
    placed = []
    for i in intervals:
        at = int(arena.offsets[i.buffer].value(sizes))
        n = int(i.buffer.bytes.value(sizes))
        assert at % LINE == 0 and at >= 0 and at + n <= size
        placed.append((i, at, at + n))
    for (i, a, b), (j, c, d) in itertools.combinations(placed, 2):
        together = set(range(i.first, i.last + 1)) & set(range(j.first, j.last + 1))
        assert not together or a >= d or c >= b or a == b or c == d, f"{i} and {j} overlap at {sizes}"
    return size


@settings(max_examples=200)
@given(intervals_of(ALIGN))
def test_any_lifetimes_of_known_sizes_fit_tightly(intervals: list[Interval]) -> None:
    assert check_places(intervals, assign(intervals), {}) <= LOOSE * peak(intervals, {})


@settings(max_examples=200)
@given(intervals_of(st.just(640)))
def test_buffers_of_one_size_take_no_more_than_what_is_alive(intervals: list[Interval]) -> None:
    assert check_places(intervals, assign(intervals), {}) == peak(intervals, {})


@settings(max_examples=100)
@given(intervals_of(SYMBOLIC_SIZES))
def test_any_lifetimes_of_symbolic_sizes_keep_apart_at_every_size(intervals: list[Interval]) -> None:
    arena = assign(intervals)
    for sizes in AT:
        check_places(intervals, arena, sizes)


@settings(max_examples=100)
@given(intervals_of(st.just(64 * symbol("n"))))
def test_buffers_of_one_symbolic_size_take_no_more_than_what_is_alive(intervals: list[Interval]) -> None:
    arena = assign(intervals)
    for sizes in AT:
        assert check_places(intervals, arena, sizes) == peak(intervals, sizes)


class Steps:
    """Draws steps without arithmetic: each reads tensors of its own block or of those around it."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.buffers: dict[Tensor, Buffer] = {}

    def tensor(self) -> Tensor:
        b = buffer(self.draw(st.sampled_from([1, 64, 200])))
        self.buffers[b.tensor] = b
        return b.tensor

    def some(self, visible: Sequence[Tensor]) -> list[Tensor]:
        return self.draw(st.lists(st.sampled_from(visible), max_size=3)) if visible else []

    def nest(self, out: Tensor, reads: Sequence[Tensor]) -> Nest:
        """Element by element of tensors as large as out (which may take over their memory), the first of others."""
        i = Var("i", Index.of(out.shape[0]))
        at = {t: Index.of(i) if t.shape == out.shape and self.draw(st.booleans()) else Index.of(0) for t in reads}
        loads = tuple(Load(t, (k,)) for t, k in at.items() if t is not out)
        return Nest((), [Member(Compute(out, (i,), Call("any", loads, DType.uint8)), ())])

    def block(self, around: Sequence[Tensor], depth: int, last: Sequence[Tensor] = ()) -> list[Step]:
        """Steps; those at the end write the tensors `last`."""
        visible, out = list(around), []
        for _ in range(self.draw(st.integers(2, 5))):
            kind = self.draw(st.sampled_from(["nest", "nest", "branch", "loop"])) if depth and visible else "nest"
            made = [self.tensor() for _ in range(2 if kind == "loop" else 1)]
            if kind == "nest":
                out.append(self.nest(made[0], self.some(visible)))
            elif kind == "branch":
                sides = [self.block(visible, depth - 1, made) for _ in range(2)]
                out.append(BranchStep(self.draw(st.sampled_from(visible)), *sides))
            else:
                out += [self.nest(t, self.some(visible)) for t in made]
                inside, test = [*visible, *made], self.tensor()
                cond = self.block(inside, 0, [test])
                out.append(LoopStep(cond, test, self.block(inside, depth - 1, made)))
            visible += made
        return [*out, *(self.nest(t, self.some(visible)) for t in last)]


@settings(max_examples=60)
@given(st.data())
def test_whatever_branches_and_loops_read_is_still_there(data: st.DataObject) -> None:
    """Also in later rounds, and what was made before the loop that it is read in."""
    drawn = Steps(data.draw)
    steps = drawn.block([], 1)
    arena = assign(lifetimes(steps, drawn.buffers))
    plan = Schedule(steps, drawn.buffers, {}, (), (), {}, {}, {})
    for path in PATHS:
        memory = Memory(plan, arena.offsets, int(arena.size.value({})), {})
        for e in events(steps, path):
            memory.run(e)
