from __future__ import annotations

import numpy as np
import pytest

from neve.ir.graph import Graph, StateVar
from neve.ir.types import symbol
from neve.passes import fold_constants
from neve.passes.fold_constants import PASS
from tests.passes.support import Build, boolean, check, f16, f32, i64, make

s0 = symbol("s0")


def test_a_chain_of_constants_is_one_constant() -> None:
    check(PASS, lambda b: b.op("add", b.x(3, 2), b.op("permute", b.op("exp", b.rand(2, 3)), dims=(1, 0))), {"add": 1})


def test_half_constants_round_at_every_op() -> None:
    check(
        PASS,
        lambda b: b.op("add", b.x(3, dtype=f16), b.op("mul", b.rand(3, dtype=f16), b.rand(3, seed=1, dtype=f16))),
        {"add": 1},
    )


def test_numbers_stay_fills_also_of_symbolic_shape() -> None:
    def build(b: Build) -> object:
        ones = b.op("expand", b.num(1, i64), shape=(s0, 4))
        mask = b.op("mul", b.op("sub", b.num(1.0), b.op("cast", ones, dtype=f32)), b.num(-3e38))
        return b.op("add", b.x(s0, 4), b.op("reshape", mask, shape=(1, s0, 4)))

    graph = check(PASS, build, {"add": 1}, sizes={s0: 3})
    assert [n.op.value for n in graph.nodes if n.op.name == "full"] == [-0.0]  # type: ignore[attr-defined]


def test_equal_elements_become_a_fill_zeros_of_both_signs_do_not() -> None:
    graph = check(PASS, lambda b: b.op("neg", b.const(np.zeros(3))), {})
    assert graph.nodes[0].op.name == "full" and str(graph.nodes[0].op.value) == "-0.0"  # type: ignore[attr-defined]
    graph = check(PASS, lambda b: b.op("reshape", b.const(np.zeros((2, 3))), shape=(3, 2)), {})
    assert graph.nodes[0].op.name == "constant"
    graph = check(PASS, lambda b: b.op("neg", b.const([0.0, -0.0])), {})
    assert graph.nodes[0].op.name == "constant"


def test_ranges_and_expansions_are_seen_through_but_not_stored() -> None:
    graph = check(
        PASS,
        lambda b: b.op(
            "mul",
            b.x(5, 4, dtype=i64),
            b.op(
                "add", b.op("expand", b.op("arange", start=0, step=1, length=4, dtype=i64), shape=(5, 4)), b.num(1, i64)
            ),
        ),
        {"mul": 1},
    )
    assert max(n.output.type.numel for n in graph.nodes) == 20
    check(PASS, lambda b: b.op("mul", b.x(5, 4), b.op("expand", b.rand(1, 4), shape=(5, 4))), None)


def test_results_beyond_the_budget_are_computed_at_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_constants, "LIMIT", 64)

    def build(b: Build) -> object:
        return b.op("mul", b.rand(16, 1), b.rand(1, 16))

    check(PASS, build, None, miss="would store")
    check(PASS, lambda b: b.op("exp", b.rand(16, 16)), {})


def test_effects_state_symbols_and_inputs_are_not_folded() -> None:
    var = StateVar("s", np.zeros(2, np.float32), f32)

    def build(b: Build) -> object:
        b.emit(make("write_state", var=var), b.rand(2))
        return [b.op("read_state", var=var), b.op("size", value=s0), b.op("neg", b.x(s0))]

    check(PASS, build, None)


def test_static_sizes_become_numbers() -> None:
    check(PASS, lambda b: b.op("add", b.x(dtype=i64), b.op("size", value=7)), {"add": 1})


def branch(name: str) -> Graph:
    b = Build()
    return b.build([b.op("add", b.op(name, b.x(2)), b.op("exp", b.num(0.5)))])


@pytest.mark.parametrize(("value", "left"), [(True, "neg"), (False, "abs")])
def test_if_on_a_known_predicate_is_its_branch(value: bool, left: str) -> None:
    def build(b: Build) -> object:
        return b.op(
            "if", b.op("logical_not", b.num(not value, boolean)), b.x(2), then=branch("neg"), orelse=branch("abs")
        )

    check(PASS, build, {left: 1, "add": 1})


def test_graphs_inside_are_folded() -> None:
    graph = check(
        PASS, lambda b: b.op("if", b.x(dtype=boolean), b.x(2), then=branch("neg"), orelse=branch("abs")), {"if": 1}
    )
    assert [n.op.name for n in graph.nodes[0].op.then.nodes].count("exp") == 0  # type: ignore[attr-defined]
