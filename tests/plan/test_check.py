"""The check of plans finds nothing in plans of every recurrent layer and of random graphs, and every kind of damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import neve
from neve.build.target import native
from neve.capture.export import capture
from neve.emit.unit import Unit
from neve.ir.buffers import Buffer
from neve.ir.graph import Graph, Method, Program, StateVar
from neve.ir.index import Index
from neve.ir.types import Range
from neve.passes.pipeline import optimize
from neve.plan import group, method
from neve.plan.check import PlanError, check_plan
from neve.plan.lowering import Lowered, Lowering
from neve.plan.memory import Arena, assign, lifetimes
from neve.plan.order import Order, itself
from neve.plan.schedule import Schedule, schedule
from neve.plan.steps import ExternCall, Kernel, Member, Nest, Step
from tests.passes.support import Build, f32, make
from tests.plan.programs import PROGRAMS
from tests.random_layers import Layers

SHAPE, HIDDEN, CALLS = (2, 5, 4), 3, 3


def plan_all(program: Program) -> None:
    """Plans every method, which checks it: tests/conftest.py has that done for each plan."""
    program, _ = optimize(program)
    unit = Unit(native(), [str(s) for s in program.symbols])
    ranges = {str(s): r for s, r in program.symbols.items()}
    for m in program.methods.values():
        method.plan(m.graph, unit.target, ranges)


# --- recurrent layers -------------------------------------------------------------------------------------------------


class Kept(nn.Module):
    """A recurrent layer that goes on where the last call ended."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        shape = (
            layer.num_layers * (1 + layer.bidirectional),
            SHAPE[0] if layer.batch_first else SHAPE[1],
            layer.hidden_size,
        )
        self.register_buffer("h", torch.zeros(shape))
        self.register_buffer("c", torch.zeros(shape))
        self.last, self.cell = torch.zeros(shape), torch.zeros(shape)
        self.pair = (torch.zeros(shape), torch.zeros(shape))


class OneCopied(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, h = self.layer(x, self.h)
        self.h.copy_(h)
        return y


class OneReturned(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, h = self.layer(x, self.h)
        self.h.copy_(h)
        return y, h, self.h * 2


class OneAttribute(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, self.last = self.layer(x, self.last)
        return y


class OneTuple(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, h = self.layer(x, self.pair[0])
        self.pair = (h, self.pair[0])
        return y, self.pair[1]


class TwoCopied(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, (h, c) = self.layer(x, (self.h, self.c))
        self.h.copy_(h)
        self.c.copy_(c)
        return y


class TwoReturned(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, (h, c) = self.layer(x, (self.h, self.c))
        self.h.copy_(h)
        self.c.copy_(c)
        return y, h, c, self.c - self.h


class TwoAttribute(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, (self.last, self.cell) = self.layer(x, (self.last, self.cell))
        return y


class TwoTuple(Kept):
    def forward(self, x):  # type: ignore[no-untyped-def]
        y, self.pair = self.layer(x, self.pair)
        return y


ONE, TWO = (OneCopied, OneReturned, OneAttribute, OneTuple), (TwoCopied, TwoReturned, TwoAttribute, TwoTuple)
FORMS = [(kind, form) for kind in (nn.GRU, nn.LSTM, nn.RNN) for form in (TWO if kind is nn.LSTM else ONE)]
OPTIONS = [(b, n, d) for b in (False, True) for n in (1, 2) for d in (False, True)]
"""Batch first, layers, both directions."""
EVERY = pytest.mark.parametrize(("kind", "form"), FORMS, ids=lambda cls: cls.__name__)


def kept(kind: type[nn.RNNBase], form: type[Kept], batch_first: bool, layers: int, both: bool) -> Kept:
    torch.manual_seed(0)
    layer = kind(SHAPE[2], HIDDEN, layers, batch_first=batch_first, bidirectional=both)
    return form(layer).eval()


@EVERY
def test_recurrent_layers_whose_states_are_kept(kind: type[nn.RNNBase], form: type[Kept]) -> None:
    for options in OPTIONS:
        plan_all(capture(kept(kind, form, *options), (torch.randn(SHAPE),)))


@EVERY
def test_kept_states_are_those_of_eager_over_several_calls(kind: type[nn.RNNBase], form: type[Kept]) -> None:
    """One of the options each, so that all are tried."""
    options = OPTIONS[FORMS.index((kind, form)) * 3 % len(OPTIONS)]
    module = neve.compile(kept(kind, form, *options), (torch.randn(SHAPE),), threads=1)
    eager = kept(kind, form, *options)
    for _ in range(CALLS):
        x = torch.randn(SHAPE)
        with torch.no_grad():
            wanted = eager(x)
        torch.testing.assert_close(module(x), wanted, rtol=1e-5, atol=1e-5)


# --- random graphs ----------------------------------------------------------------------------------------------------


class Stateful(Layers):
    """Layers, and state that is read and written between them, and raises."""

    STEPS: ClassVar[tuple[Callable[[Any], Any], ...]] = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.vars = [StateVar(f"v{k}", np.zeros((3, 4 + k), np.float32), f32) for k in range(2)]

    def read(self) -> Any:
        v = self.b.op("read_state", var=self.choice(self.vars))
        self.bounds[v] = 1.0
        return v

    def write(self) -> Any:
        var = self.choice(self.vars)
        x = self.pick(lambda v: v.type == var.type)
        self.b.emit(make("write_state", var=var), x)
        return self.op("neg", x)

    def fail(self) -> Any:
        x = self.pick(lambda v: v.dtype is f32 and self.count(v.shape) > 0)
        low = self.op("amin", x, dims=tuple(range(len(x.shape))), keepdim=False) if x.shape else x
        self.b.emit(make("raise", message="low"), self.op("lt", low, self.number(-1e9, f32)))
        return self.op("neg", x)


Stateful.STEPS = (*Layers.STEPS, *[Stateful.read, Stateful.write] * (len(Layers.STEPS) // 4), Stateful.fail)


def stateful_graph(seed: int) -> Graph:
    types = [StateVar("", np.zeros((3, n), np.float32), f32).type for n in (4, 5)]
    return Stateful(random.Random(seed).randint, types).graph(14)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_graphs_with_state(first: int) -> None:
    for seed in range(first, first + 50):
        plan_all(Program({"forward": Method(stateful_graph(seed))}))


# --- damage -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """A plan with what it was made from."""

    lowered: Lowered
    plan: Schedule
    arena: Arena
    ranges: dict[str, Range]

    def check(self, steps: list[Step] | None = None, offsets: dict[Buffer, Index] | None = None) -> None:
        plan = self.plan if steps is None else replace(self.plan, steps=steps)
        check_plan(
            self.lowered, plan, self.arena if offsets is None else replace(self.arena, offsets=offsets), self.ranges
        )


def wholes(name: str) -> Iterator[Whole]:
    program, _ = optimize(PROGRAMS[name][0]())
    ranges = {str(s): r for s, r in program.symbols.items()}
    unit = Unit(native(), list(ranges))
    for m in program.methods.values():
        lowered = Lowering().method(m.graph)
        plan = schedule(lowered, unit.target)
        yield Whole(lowered, plan, assign(lifetimes(plan.steps, plan.buffers)), ranges)


EACH = pytest.mark.parametrize("name", PROGRAMS)


@EACH
def test_a_step_that_is_left_out_or_comes_too_early_is_found(name: str) -> None:
    tried = 0
    for w in wholes(name):
        steps = w.plan.steps
        for k, s in enumerate(steps):
            read_later = {t for x in steps[k + 1 :] for t in x.reads} | set(w.plan.outputs) | set(w.plan.states)
            if set(s.writes) & read_later and not all(t.type.numel == 0 for t in s.writes):
                with pytest.raises(PlanError):
                    w.check(steps[:k] + steps[k + 1 :])
                tried += 1
            if k and set(s.reads) & set(steps[k - 1].writes):
                with pytest.raises(PlanError):
                    w.check([*steps[: k - 1], s, steps[k - 1], *steps[k + 1 :]])
    assert tried


@EACH
def test_memory_that_is_taken_too_early_is_found(name: str) -> None:
    """Each buffer moved to where one lies that the same step reads or writes."""
    tried = 0
    for w in wholes(name):
        roots = [[w.plan.buffers[t].root for t in (*s.reads, *s.writes)] for s in w.plan.steps]
        for step, touched in zip(w.plan.steps, roots, strict=True):
            arena = [b for b in dict.fromkeys(touched) if b.place == "arena"]
            places = {w.arena.offsets[b] for b in arena}
            if len(arena) > 1 and len(places) == len(arena) and isinstance(step, (Kernel, ExternCall)):
                with pytest.raises(PlanError):
                    w.check(offsets={**w.arena.offsets, arena[0]: w.arena.offsets[arena[-1]]})
                tried += 1
    assert tried or name in ("softmaxes", "stateful")


@EACH
def test_members_of_a_nest_in_another_order_are_found(name: str) -> None:
    for w in wholes(name):
        for k, s in enumerate(w.plan.steps):
            if isinstance(s, Nest) and len(s.members) > 1:
                turned = Nest(s.extents, s.members[::-1], s.local)
                with pytest.raises(PlanError):
                    w.check([*w.plan.steps[:k], turned, *w.plan.steps[k + 1 :]])


def test_loops_that_mix_rows_are_found() -> None:
    """The nest's second member reads the row before its own."""
    b = Build()
    x = b.x(4, 8)
    graph = b.build([b.op("softmax", x, dim=1)])
    lowered = Lowering().method(graph)
    unit = Unit(native(), [])
    plan = schedule(lowered, unit.target)
    (nest,) = plan.steps
    assert isinstance(nest, Nest)
    whole = Whole(lowered, plan, assign(lifetimes(plan.steps, plan.buffers)), {})
    whole.check()
    last = nest.members[-1]
    (row,) = last.rows
    mixed = last.stage.expr.subs({row: (Index.of(row) + 1) % Index.of(4)})
    damaged = Nest(nest.extents, [*nest.members[:-1], Member(replace(last.stage, expr=mixed), last.rows)], nest.local)
    with pytest.raises(PlanError, match="another row"):
        whole.check([damaged])


class Scaled(nn.Module):
    """Its mean and division become one nest, which needs the concatenation that comes between them."""

    def forward(self, v: torch.Tensor, o: torch.Tensor) -> torch.Tensor:
        scale = v.mean(1, keepdim=True)
        x = torch.cat((v, o), 1) / scale
        return torch.stack([x[:, 3 - i : 17 - i] for i in (1, 2, 3)], -1)


def test_parts_that_were_no_writers_of_the_whole_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    program = capture(Scaled().eval(), (torch.rand(2, 13), torch.rand(2, 4)))
    plan_all(program)
    monkeypatch.setattr(group, "sharing", lambda buffers: itself)
    with pytest.raises(PlanError, match="not yet written"):
        plan_all(program)


def test_an_epilogue_that_delays_the_last_state_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    program = capture(kept(nn.GRU, OneCopied, True, 1, False), (torch.randn(SHAPE),))
    plan_all(program)
    monkeypatch.setattr(Order, "sort", lambda self, units: range(len(units)))
    with pytest.raises(PlanError, match="not yet written"):
        plan_all(program)


class WithLast(nn.Module):
    """Every step with the last state, which is there when all steps are done: no epilogue of theirs."""

    def __init__(self, layer: nn.Module, view: bool) -> None:
        super().__init__()
        self.layer, self.view = layer, view

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, h = self.layer(x)
        last = h[0] if isinstance(h, tuple) else h
        return y + (last[0].flip(0)[None].flip(1) if self.view else last[-1] * 2)


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_an_epilogue_reads_no_other_result_of_its_kernel(kind: type[nn.RNNBase], layers: int, view: bool) -> None:
    plan_all(capture(WithLast(kind(6, 4, layers), view).eval(), (torch.randn(5, 2, 6),)))
