from __future__ import annotations

import numpy as np

from neve.ir.graph import Graph, Value
from neve.ir.walk import constants
from neve.passes.pipeline import optimize
from neve.passes.rewrite import Exactness
from neve.passes.sink_constants import PASS
from tests.passes.support import Build, assert_same_meaning, boolean, check, i64, make, ops, program


def branch(name: str, types: int = 2) -> Graph:
    b = Build()
    values = [b.x(2) for _ in range(types)]
    return b.build([b.op(name, values[0], values[1])])


def test_operands_of_if_that_are_known_are_made_inside() -> None:
    def build(b: Build) -> object:
        p, x = b.x(dtype=boolean), b.x(2)
        return b.op("neg", b.emit(make("if", then=branch("add"), orelse=branch("mul")), p, x, b.const([2.0, 3.0]))[0])

    graph = check(PASS, build, {"if": 1, "neg": 1})
    node = graph.nodes[0]
    assert len(node.inputs) == 2
    assert len(constants(program(graph))) == 1


def test_nothing_known_changes_nothing() -> None:
    def build(b: Build) -> object:
        p, x, y = b.x(dtype=boolean), b.x(2), b.x(2)
        return b.emit(make("if", then=branch("add"), orelse=branch("mul")), p, x, y)[0]

    check(PASS, build, None)


def loop(b: Build, x: Value, weight: Value, limit: Value) -> tuple[Value, ...]:
    """while k < limit: x, k = x * weight, k + 1, where limit is a fill too, but the carried k starts as one."""
    cond, body = Build(), Build()
    *_, k, end = cond.x(2), cond.x(2), cond.x(dtype=i64), cond.x(dtype=i64)
    y, w, j, stop = body.x(2), body.x(2), body.x(dtype=i64), body.x(dtype=i64)
    test = cond.build([cond.op("lt", k, end)])
    turn = body.build([body.op("mul", y, w), w, body.op("add", j, body.num(1, i64)), stop])
    return b.emit(make("while", cond=test, body=turn), x, weight, b.num(0, i64), limit)


def test_what_a_loop_only_reads_is_made_inside_and_what_it_changes_is_not() -> None:
    def build(b: Build) -> object:
        x, w, k, end = loop(b, b.x(2), b.const([2.0, 3.0]), b.num(4, i64))
        return [x, w, k, end]

    graph = check(PASS, build, {"while": 1})
    (node,) = (n for n in graph.nodes if n.op.name == "while")
    assert len(node.inputs) == len(node.outputs) == 2


def test_a_loop_in_a_branch_in_one_go() -> None:
    def side(sign: str) -> Graph:
        b = Build()
        x, w = b.x(2), b.x(2)
        y, *_ = loop(b, b.op(sign, x), w, b.num(3, i64))
        return b.build([y])

    def build(b: Build) -> object:
        p, x, w = b.x(dtype=boolean), b.x(2), b.const([2.0, 3.0])
        return b.emit(make("if", then=side("neg"), orelse=side("abs")), p, x, w)[0]

    graph = check(PASS, build, {"if": 1})
    (node,) = (n for n in graph.nodes if n.op.name == "if")
    (inner,) = (n for n in node.op.then.nodes if n.op.name == "while")  # type: ignore[attr-defined]
    assert len(node.inputs) == 2 and len(inner.inputs) == 2


def test_a_convolution_and_its_norm_fold_inside_a_branch() -> None:
    rng = np.random.default_rng(0)

    def side(name: str) -> Graph:
        b = Build()
        x, w = b.x(1, 3, 8, 8), b.x(4, 3, 3, 3)
        mean, var, scale, shift = (b.x(4) for _ in range(4))
        y = b.op("convolution", x, w, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
        y = b.op("batch_norm", y, mean, var, scale, shift, eps=1e-5)
        return b.build([b.op(name, y)])

    b = Build()
    p, x = b.x(dtype=boolean), b.x(1, 3, 8, 8)
    weights = [b.const(rng.uniform(0.5, 2, s)) for s in ((4, 3, 3, 3), (4,), (4,), (4,), (4,))]
    before = b.build(b.emit(make("if", then=side("abs"), orelse=side("exp")), p, x, *weights))
    after, _ = optimize(program(before))
    graph = after.methods["forward"].graph
    (node,) = graph.nodes
    for inner, act in ((node.op.then, "abs"), (node.op.orelse, "exp")):  # type: ignore[attr-defined]
        assert ops(inner) == {"convolution": 1, act: 1}
    assert sorted(c.array.shape for c in constants(after)) == [(4,), (4, 3, 3, 3)]
    assert_same_meaning(before, graph, Exactness.ROUNDING, edges=False)
