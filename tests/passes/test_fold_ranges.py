from __future__ import annotations

import numpy as np
import pytest

from neve.ir.graph import Value
from neve.ir.types import size_at, symbol
from neve.passes.fold_ranges import PASS
from neve.passes.ranges import Count, count
from neve.passes.rewrite import Log, Rewriter
from tests.passes.support import Build, check, i32, i64

s0, s1 = symbol("s0"), symbol("s1")


def arange(b: Build, n: object, start: object = 0, step: object = 1) -> Value:
    return b.op("arange", start=start, step=step, length=n, dtype=i64)


def cut(b: Build, x: Value, start: object, stop: object, axis: int = 0) -> Value:
    return b.op("slice", x, axis=axis, start=start, stop=stop)


def shifted_difference(b: Build, step: int = 1, gap: int = 1) -> Value:
    """The positions of a sequence minus those before: all `step`, if the first is preceded by −gap."""
    x = b.op("expand", b.op("reshape", arange(b, s0, 0, step), shape=(1, s0)), shape=(2, s0))
    all_ = b.op("cat", b.op("sub", cut(b, x, 0, 1, axis=1), b.num(gap, i64)), x, axis=1)
    return b.op("sub", cut(b, all_, 1, s0 + 1, axis=1), cut(b, all_, 0, s0, axis=1))


def test_positions_minus_the_positions_before() -> None:
    graph = check(PASS, shifted_difference, {}, sizes={s0: 5})
    assert graph.nodes[-1].op.value == 1  # type: ignore[attr-defined]
    check(PASS, lambda b: shifted_difference(b, step=3, gap=3), {}, sizes={s0: 5})
    check(PASS, lambda b: shifted_difference(b, gap=2), None)


def test_sums_of_opposite_ranges() -> None:
    check(PASS, lambda b: b.op("add", arange(b, s0), arange(b, s0, 7, -1)), {}, sizes={s0: 4})
    check(PASS, lambda b: b.op("sub", arange(b, s0), arange(b, s0, 0, 2)), None)
    check(PASS, lambda b: b.op("sub", arange(b, s0), arange(b, s0, s1)), None)
    check(PASS, lambda b: b.op("sub", b.op("reshape", arange(b, 4), shape=(4, 1)), arange(b, 4)), None)
    check(PASS, lambda b: b.op("sub", *(b.op("cast", arange(b, s0), dtype=i32) for _ in range(2))), None)


@pytest.mark.parametrize(
    ("name", "start", "step", "number", "result"),
    [
        ("ge", 0, 1, 0, True),
        ("ge", 1, 0, 0, True),
        ("gt", 0, 1, -1, True),
        ("gt", 0, 1, 0, None),
        ("ge", 0, 1, 1, None),
        ("lt", 0, 1, 0, False),
        ("lt", 0, 1, 1, None),
        ("le", 0, -1, 0, True),
        ("le", 0, 1, 0, None),
        ("le", 0, 1, -1, False),
        ("gt", -1, -1, 0, False),
        ("gt", 0, -1, 0, False),
        ("ge", 0, -1, 0, None),
        ("ge", s1, 1, 0, True),
        ("gt", s1, 1, 0, None),
        ("gt", s1, s0, -1, True),
        ("lt", s1, 1, -s1, False),
    ],
)
def test_comparisons(name: str, start: object, step: object, number: object, result: bool | None) -> None:
    def build(b: Build) -> object:
        other = b.num(number, i64) if isinstance(number, int) else b.op("size", value=number)
        return b.op(name, b.op("reshape", arange(b, s0, start, step), shape=(1, s0)), other)

    graph = check(PASS, build, None if result is None else {}, sizes={s0: 4, s1: 3})
    assert result is None or graph.nodes[-1].op.value is result  # type: ignore[attr-defined]


def test_running_sums_of_zeros() -> None:
    check(PASS, lambda b: b.op("cumsum", b.num(0, i64, (2, s0)), axis=1), {}, sizes={s0: 3})
    check(PASS, lambda b: b.op("cumsum", b.num(1, i64, (2, s0)), axis=1), None)
    check(PASS, lambda b: b.op("cumsum", b.num(-0.0, shape=(2, s0)), axis=1), None)


def test_counts_are_what_the_interpreter_counts() -> None:
    from neve.ir.interpret import interpret

    b = Build()
    x = arange(b, s0, s1, 2)
    column = b.op("reshape", x, shape=(1, s0, 1))
    values = [
        x,
        column,
        b.op("expand", column, shape=(3, s0, 4)),
        b.op("permute", b.op("expand", column, shape=(3, s0, 4)), dims=(1, 0, 2)),
        cut(b, x, 1, s0),
        b.op("slice", x, axis=0, start=1, stop=s0, step=2),
        b.op("add", column, b.op("size", value=s1)),
        b.op("cat", cut(b, x, 0, 2), cut(b, x, 2, s0), axis=0),
        b.op("expand", cut(b, x, 1, 2), shape=(5,)),
    ]
    graph = b.build(values)
    rw = Rewriter(graph, Log())
    rw.run(())
    sizes = {s0: 6, s1: 10}
    for v, a in zip(values, interpret(graph, [], sizes=sizes), strict=True):
        c = count(v, rw)
        assert c is not None
        at = np.indices(a.shape)[c.axis] if c.axis else 0
        numbers = [size_at(d, sizes) for d in (c.start, c.step)]
        np.testing.assert_array_equal(a, numbers[0] + numbers[1] * at)


def test_what_does_not_count_is_not_taken_for_it() -> None:
    b = Build()
    x = arange(b, 6)
    values = [
        b.op("cat", cut(b, x, 2, 6), cut(b, x, 0, 2), axis=0),
        b.op("mul", x, x),
        b.op("reshape", x, shape=(2, 3)),
        b.x(6, dtype=i64),
        b.op("add", b.op("reshape", x, shape=(6, 1)), x),
        b.op("flip", x, dims=(0,)),
        b.op("cast", arange(b, 300), dtype=i32),
    ]
    rw = Rewriter(b.build(values), Log())
    rw.run(())
    assert [count(v, rw) for v in values] == [None] * len(values)
    assert count(x, rw) == Count(0, 1, -1)
