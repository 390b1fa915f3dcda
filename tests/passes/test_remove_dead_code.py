from __future__ import annotations

import numpy as np

from neve.ir.graph import Graph, StateVar
from neve.passes.remove_dead_code import PASS
from tests.passes.support import Build, boolean, check, f32, make, ops


def test_unused_chains_go_and_used_stay() -> None:
    def build(b: Build) -> object:
        x = b.x(3)
        b.op("abs", b.op("exp", x))
        return b.op("neg", x)

    check(PASS, build, {"neg": 1})


def test_nothing_dead_changes_nothing() -> None:
    check(PASS, lambda b: b.op("neg", b.x(3)), None)


def test_effects_stay_but_a_read_that_nobody_uses_goes() -> None:
    var = StateVar("s", np.zeros(3, np.float32), f32)

    def build(b: Build) -> object:
        x = b.x(3)
        b.emit(make("write_state", var=var), x)
        b.op("read_state", var=var)
        b.emit(make("raise", message="never"), b.num(False, boolean))
        return b.op("neg", x)

    check(PASS, build, {"neg": 1, "write_state": 1, "raise": 1})


def branch(name: str) -> Graph:
    b = Build()
    x, y = b.x(2), b.x(2)
    del y
    b.op("exp", x)
    return b.build([b.op(name, x), b.op("abs", x)])


def test_if_loses_dead_outputs_operands_and_what_is_dead_inside() -> None:
    def build(b: Build) -> object:
        p, x, y = b.x(dtype=boolean), b.x(2), b.x(2)
        first, _ = b.emit(make("if", then=branch("neg"), orelse=branch("sqrt")), p, x, b.op("neg", y))
        return first

    graph = check(PASS, build, {"if": 1})
    (node,) = graph.nodes
    assert len(node.inputs) == 2 and ops(node.op.then) == {"neg": 1} and ops(node.op.orelse) == {"sqrt": 1}  # type: ignore[attr-defined]


def test_an_if_that_writes_state_stays() -> None:
    var = StateVar("s", np.zeros(2, np.float32), f32)

    def writer(b: Build) -> Graph:
        b.emit(make("write_state", var=var), b.x(2))
        return b.build([])

    def build(b: Build) -> object:
        p, x = b.x(dtype=boolean), b.x(2)
        b.emit(make("if", then=writer(Build()), orelse=writer(Build())), p, x)
        return x

    check(PASS, build, None)
