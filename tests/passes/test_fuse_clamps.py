from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.ir.graph import Value
from neve.passes.fuse_clamps import PASS
from neve.passes.rewrite import Exactness
from tests.passes.support import Build, apply, assert_same_meaning, bf16, check, f16, f32, i64, ops


def step(b: Build, x: Value, kind: str, lo: float, hi: float) -> Value:
    if kind == "relu":
        return b.op("relu", x)
    if kind == "clamp":
        return b.op("clamp", x, min=lo, max=hi)
    return b.op(kind, x, b.num(lo, x.dtype)) if kind == "maximum" else b.op(kind, b.num(hi, x.dtype), x)


def test_disjoint_intervals_give_the_outer_bound() -> None:
    for first, second in (((0.0, 1.0), (2.0, 3.0)), ((2.0, 3.0), (0.0, 1.0))):
        graph = check(PASS, lambda b: step(b, step(b, b.x(30), "clamp", *first), "clamp", *second), {"clamp": 1})  # noqa: B023
        node = graph.nodes[-1]
        assert node.op.min == node.op.max == (2.0 if first[0] == 0 else 1.0)  # type: ignore[attr-defined]


def test_relu6_and_relu_from_maximum_and_minimum() -> None:
    check(PASS, lambda b: b.op("minimum", b.op("maximum", b.x(30), b.num(0.0)), b.num(6.0)), {"clamp": 1})
    check(PASS, lambda b: b.op("maximum", b.x(30), b.num(0.0)), {"relu": 1})
    check(PASS, lambda b: b.op("relu", step(b, b.x(30), "clamp", 0.0, 6.0)), {"clamp": 1})
    check(PASS, lambda b: b.op("maximum", b.x(30, dtype=i64), b.num(0, i64)), {"relu": 1})


def test_bounds_that_bound_nothing_go() -> None:
    check(PASS, lambda b: b.op("maximum", b.x(30), b.num(-math.inf)), {})
    check(PASS, lambda b: b.op("maximum", b.op("minimum", b.x(30), b.num(math.inf)), b.num(0.0)), {"relu": 1})
    check(PASS, lambda b: b.op("maximum", b.x(30, dtype=i64), b.num(-(2**63), i64)), {})


def test_near_misses() -> None:
    check(PASS, lambda b: b.op("maximum", b.x(30), b.x(30)), None)
    check(PASS, lambda b: b.op("maximum", b.x(3), b.num(0.0, shape=(2, 3))), None)
    check(PASS, lambda b: b.op("maximum", b.x(30), b.num(math.nan)), None)
    check(
        PASS,
        lambda b: b.op("maximum", b.op("maximum", b.x(30), b.num(0.0)), b.num(-0.0)),
        {"relu": 1, "maximum": 1},
        miss="zeros of both signs",
    )
    check(PASS, lambda b: b.op("relu", b.x(30)), None)


def test_an_inner_clamp_with_another_use_stays() -> None:
    def build(b: Build) -> object:
        inner = b.op("clamp", b.x(30), min=-1.0, max=1.0)
        return [inner, b.op("clamp", inner, min=0.5, max=2.0)]

    check(PASS, build, None)


@pytest.mark.parametrize("dtype", [f16, bf16])
def test_bounds_of_half_types_are_rounded_as_they_were(dtype: object) -> None:
    check(
        PASS,
        lambda b: b.op("minimum", b.op("maximum", b.x(30, dtype=dtype), b.num(0.1, dtype)), b.num(0.3, dtype)),
        {"clamp": 1},
    )  # type: ignore[arg-type]


KINDS = st.tuples(st.sampled_from(["relu", "clamp", "maximum", "minimum"]), st.integers(-3, 3), st.integers(-3, 3))


@settings(max_examples=150, deadline=None)
@given(st.lists(KINDS, min_size=1, max_size=6), st.sampled_from([f32, i64]))
def test_any_chain_means_the_same(chain: list[tuple[str, int, int]], dtype: object) -> None:
    b = Build()
    v = x = b.x(15, dtype=dtype)  # type: ignore[arg-type]
    for kind, lo, hi in chain:
        v = step(b, v, kind, *((lo, hi) if dtype is i64 else (float(lo), float(hi))))
    graph = b.build([v])
    new, _ = apply(PASS, graph)
    values = (
        np.arange(-7, 8)
        if dtype is i64
        else np.array([*np.arange(-6, 6) / 2, math.inf, -math.inf, math.nan], np.float32)
    )
    assert sum(ops(new).values()) <= 1
    assert_same_meaning(graph, new, Exactness.EXACT, inputs=[values])
    del x
