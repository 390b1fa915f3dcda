"""The whole pipeline: random graphs mean the same before and after, at the exactness asked for; options; speed;
verification.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neve.ir.graph import Graph, StateVar
from neve.ir.text import print_program
from neve.ir.types import TensorType, symbol
from neve.ir.verify import VerifyError
from neve.passes import pipeline
from neve.passes.pipeline import optimize, passes
from neve.passes.rewrite import Exactness, Log, Pass
from tests.passes.support import Build, assert_same_meaning, boolean, f32, i64, make, ops, program
from tests.random_layers import Layers

s0 = symbol("s0")
INPUTS = [TensorType((s0, 4, 6), f32), TensorType((1, 4, 6), f32), TensorType((6,), i64)]


class Exact(Layers):
    """Steps that exact passes know."""

    STEPS = (*Layers.POINTWISE, *Layers.VIEWS, Layers.there_and_back, Layers.there_and_back)


class Everything(Layers):
    """Also what the others know."""

    STEPS = (*Exact.STEPS, *Layers.DEEP, *Layers.PARTS, *Layers.PARTS)


@st.composite
def random_graphs(draw: st.DrawFn, steps: type[Layers] = Everything) -> Graph:
    r = steps(lambda low, high: draw(st.integers(low, high)), INPUTS)
    return r.graph(r.integer(1, 9))


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@SETTINGS
@given(random_graphs(Exact))
def test_exact_passes_keep_every_bit(graph: Graph) -> None:
    new, _ = optimize(program(graph), optimize_numerics=False)
    assert_same_meaning(graph, new.methods["forward"].graph, Exactness.EXACT, sizes={s0: 5})


@SETTINGS
@given(random_graphs())
def test_all_passes_keep_the_meaning(graph: Graph) -> None:
    new, _ = optimize(program(graph))
    assert_same_meaning(graph, new.methods["forward"].graph, Exactness.ROUNDING, sizes={s0: 4}, edges=False)
    again, _ = optimize(new)
    assert print_program(again) == print_program(new), "optimizing twice gives something else"


@SETTINGS
@given(random_graphs())
def test_inside_if_and_while(graph: Graph) -> None:
    def nested(x: Graph) -> Graph:
        b = Build()
        p = b.x(dtype=boolean)
        inputs = [b.input(v.name + "_", v.type) for v in x.inputs]
        return b.build(b.emit(make("if", then=x, orelse=x), p, *inputs))

    outer = nested(graph)
    new, _ = optimize(program(outer))
    assert_same_meaning(outer, new.methods["forward"].graph, Exactness.ROUNDING, sizes={s0: 4}, edges=False)


def small() -> Graph:
    b = Build()
    x = b.x(2, 4, 6, 6)
    y = b.op("convolution", x, b.rand(4, 4, 3, 3), stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1))
    y = b.op("batch_norm", y, b.rand(4), b.rand(4), b.rand(4), b.rand(4, low=0.5))
    return b.build([b.op("maximum", b.op("mul", y, b.num(1.0)), b.num(0.0))])


def test_without_numerics_only_exact_passes_run() -> None:
    new, log = optimize(program(small()), optimize_numerics=False)
    assert ops(new.methods["forward"].graph) == {"convolution": 1, "batch_norm": 1, "relu": 1}
    exact = {p.name for p in passes() if p.exactness is Exactness.EXACT}
    assert set(log.counts()) <= exact and len(exact) > 8
    new, _ = optimize(program(small()))
    assert ops(new.methods["forward"].graph) == {"convolution": 1, "relu": 1}


def test_passes_can_be_left_out_by_name() -> None:
    new, log = optimize(program(small()), disable=("fold_batch_norm", "expand_batch_norm", "fuse_clamps"))
    assert ops(new.methods["forward"].graph) == {"convolution": 1, "batch_norm": 1, "maximum": 1}
    assert "fold_batch_norm" not in log.counts()
    with pytest.raises(ValueError, match="no such pass: nonsense"):
        optimize(program(small()), disable=("nonsense",))


def test_what_is_optimal_comes_back_as_it_is() -> None:
    new, _ = optimize(program(small()))
    again, log = optimize(new)
    assert again is new and not log.rewrites


def test_methods_share_constants_after_folding() -> None:
    new, _ = optimize(program(small(), again=small()))
    text = print_program(new)
    assert text.count("const @") == 2


def test_state_keeps_its_order() -> None:
    var = StateVar("s", np.zeros((), np.float32), f32)
    b = Build()
    x = b.x()
    outputs = []
    for _ in range(2):
        old = b.op("read_state", var=var)
        outputs.append(old)
        b.emit(make("write_state", var=var), b.op("add", old, b.op("mul", x, b.num(1.0))))
    graph = b.build(outputs)
    new, _ = optimize(program(graph))
    assert [n.op.name for n in new.methods["forward"].graph.nodes] == ["read_state", "add", "write_state"] * 2
    assert_same_meaning(graph, new.methods["forward"].graph, Exactness.EXACT)


def test_a_pass_that_breaks_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(graph: Graph, log: Log) -> Graph:
        return Graph(graph.inputs, graph.nodes[1:], graph.outputs)

    monkeypatch.setattr(pipeline, "PIPELINE", (Pass("lose_first", Exactness.EXACT, lose),))
    with pytest.raises(VerifyError, match="after the pass lose_first: %constant is used before"):
        optimize(program(small()))


def test_a_thousand_nodes_take_less_than_a_second() -> None:
    b = Build()
    x = b.x(1, 16, 32)
    for i in range(60):
        y = b.op("linear", x, b.rand(32, 32, seed=i), b.rand(32, seed=i))
        y = b.op("permute", b.op("reshape", y, shape=(1, 16, 4, 8)), dims=(0, 2, 1, 3))
        y = b.op("reshape", b.op("permute", b.op("mul", y, b.num(1.0)), dims=(0, 2, 1, 3)), shape=(1, 16, 32))
        y = b.op("layer_norm", b.op("add", x, y), b.rand(32, seed=i), b.rand(32, seed=i))
        x = b.op("maximum", b.op("minimum", y, b.num(6.0)), b.num(0.0))
    graph = b.build([x])
    assert len(graph.nodes) > 900
    start = time.process_time()
    new, _ = optimize(program(graph))
    assert time.process_time() - start < 1
    assert ops(new.methods["forward"].graph)["clamp"] == 60
