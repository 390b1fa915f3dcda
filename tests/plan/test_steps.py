"""Every step finds what it reads, writes only what is its own, and its C points nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from neve.emit.unit import MethodWriter
from neve.ir.buffers import Buffer
from neve.ir.loops import Tensor
from neve.plan.steps import BranchStep, FailStep, LoopStep, Nest, Step
from tests.plan.programs import PROGRAMS, Plan, Sizes, planned
from tests.plan.trace import LINE, PATHS, Event, Left, event, events, memories

EACH = pytest.mark.parametrize("name", PROGRAMS)


def leaves(steps: Sequence[Step]) -> Iterator[Step]:
    """Steps that call something, in the order of the text."""
    for s in steps:
        if isinstance(s, BranchStep):
            yield from (*leaves(s.then), *leaves(s.orelse))
        elif isinstance(s, LoopStep):
            yield from (*leaves(s.cond), *leaves(s.body))
        elif not isinstance(s, FailStep):
            yield s


def roots(p: Plan, e: Event) -> set[Buffer]:
    """Arena buffers that an event touches."""
    found = {p.schedule.buffers[t].root for t in (*e.reads, *e.writes)}
    return {r for r in found if r.place == "arena"}


class C(int):
    """An int64_t: divides as C does."""

    def __truediv__(self, other: int) -> C:
        return C(int(self) // other if self >= 0 else -(-int(self) // other))

    def __mod__(self, other: int) -> C:
        return C(self - int(self / other) * other)

    def __mul__(self, other: int) -> C:
        return C(int(self) * other)

    def __add__(self, other: int) -> C:
        return C(int(self) + other)

    def __sub__(self, other: int) -> C:
        return C(int(self) - other)

    def __neg__(self) -> C:
        return C(-int(self))

    __rmul__, __radd__ = __mul__, __add__


def address(p: Plan, pointer: str, sizes: Sizes) -> int:
    """What the C of a pointer into the arena `a` gives, from a."""
    text = re.sub(r"\b(\d+)\b", r"C(\1)", re.sub(r"s\[(\d+)\]", r"s_\1", pointer))
    names: dict[str, Any] = {f"s_{k}": C(sizes[s]) for k, s in enumerate(p.unit.symbols)}
    floors = {"neve_floor_div": lambda x, y: C(int(x) // int(y)), "neve_floor_mod": lambda x, y: C(int(x) % int(y))}
    return int(eval(text, {"a": C(0), "C": C, **names, **floors}))


def row_bytes(nest: Nest, t: Tensor) -> int:
    """What t takes of a row: its elements for one value of the nest's own loops."""
    (m,) = (m for m in nest.members if m.stage.out is t)
    n = t.dtype.size
    for v in m.stage.vars:
        if v not in m.rows:
            assert v.extent.const is not None
            n *= v.extent.const
    return n


@EACH
def test_what_a_step_reads_is_there_and_it_writes_over_none_of_it(name: str) -> None:
    """On every path through branches and loops, at every size; every output is complete in the end."""
    for p in planned(name):
        for path in PATHS:
            for m in memories(p):
                try:
                    for e in events(p.schedule.steps, path):
                        m.run(e)
                except Left:
                    continue
                except AssertionError as error:
                    raise AssertionError(f"{p.name} at {m.sizes} on {path}: {error}") from error
                for t in p.schedule.outputs:
                    assert (m.room(m.root(t))[m.bytes(t)] == m.number(m.root(t))).all(), f"{p.name}: {t} is not written"


@EACH
def test_the_emitted_calls_point_into_the_arena_of_their_own_tensors_only(name: str) -> None:
    """So that what the traces take a step to touch is all that its C can touch; at every size."""
    for p in planned(name):
        writer = MethodWriter(p.unit, p.schedule, p.arena)
        writer.write(p.schedule.steps)
        steps = [event(s) for s in leaves(p.schedule.steps)]
        called = [e for e in steps if any(t.type.numel != 0 for t in e.writes)]
        for e, site in zip(called, writer.sites, strict=True):
            own = roots(p, e)
            for m in memories(p):
                starts = {m.value(p.arena.offsets[r]): max(m.value(r.bytes), 1) for r in own}
                at = [address(p, x, m.sizes) for x in site.pointers if x.startswith("a + ")]
                met = {begin for x in at for begin, size in starts.items() if begin <= x < begin + size}
                assert met == set(starts) and len(at) >= len(own), f"{p.name} at {m.sizes}: {site.label}"
                assert all(any(b <= x < b + n for b, n in starts.items()) for x in at), f"{p.name}: {site.label}"


@EACH
def test_the_rows_of_a_nest_do_not_overlap_and_fit_the_scratch(name: str) -> None:
    for p in planned(name):
        writer = MethodWriter(p.unit, p.schedule, p.arena)
        writer.write(p.schedule.steps)
        for s in leaves(p.schedule.steps):
            if not isinstance(s, Nest):
                continue
            places = sorted((p.schedule.buffers[t].slot, row_bytes(s, t)) for t in s.local)
            for (at, size), (after, _) in pairwise([*places, (1 << 62, 0)]):
                assert at % LINE == 0 and at + size <= after, f"{p.name}: {places}"
            for sizes in p.sizes:
                assert not places or sum(places[-1]) <= writer.scratch.value(sizes)
