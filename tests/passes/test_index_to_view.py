from __future__ import annotations

import pytest

from neve.ir.graph import Value
from neve.ir.types import symbol
from neve.passes.index_to_view import PASS
from tests.passes.support import Build, apply, assert_same_meaning, check, i64, ops

s0, s1 = symbol("s0"), symbol("s1")


def count(b: Build, n: object, *shape: object, start: int = 0) -> Value:
    """0 … n − 1 in that shape."""
    return b.op("reshape", b.op("arange", start=start, step=1, length=n, dtype=i64), shape=shape)


def views(b: Build, x: Value, axes: tuple[int, ...], *indices: Value) -> Value:
    return b.op("index", x, *indices, axes=axes)


def left(build: object, **options: object) -> set[str]:
    b = Build()
    graph = b.build([build(b)])  # type: ignore[operator]
    new, _ = apply(PASS, graph)
    assert_same_meaning(graph, new, PASS.exactness, **options)  # type: ignore[arg-type]
    return set(ops(new)) - {"arange"}


@pytest.mark.parametrize(
    ("build", "sizes"),
    [
        (lambda b: views(b, b.x(1, 5), (0, 1), b.num(0, i64, (1, 1, 1, 1)), count(b, 5, 1, 1, 1, 5)), {}),
        (lambda b: views(b, b.x(s0, s1), (0, 1), count(b, s0, s0, 1, 1, 1), count(b, s1, 1, 1, 1, s1)), {s0: 2, s1: 3}),
        (lambda b: views(b, b.x(s0, s1), (0, 1), count(b, s0, s0), count(b, s1, s1, 1)), {s0: 2, s1: 3}),
        (lambda b: views(b, b.x(4, 3, 6), (1,), count(b, 3, 3, 1)), {}),
        (lambda b: views(b, b.x(4, 3, 6), (0, 2), b.num(-1, i64), count(b, 6, 6, 1)), {}),
        (lambda b: views(b, b.x(4, 3), (0, 1), b.num(2, i64, (5, 1)), b.const([0, 1, 2], i64)), {}),
    ],
)
def test_whole_ranges_and_numbers_are_views(build: object, sizes: dict[object, int]) -> None:
    assert left(build, sizes=sizes) <= {"slice", "permute", "reshape", "expand"}


@pytest.mark.parametrize(
    "build",
    [
        lambda b: views(b, b.x(6), (0,), count(b, 5, 5)),
        lambda b: views(b, b.x(6), (0,), count(b, 6, 6, start=1)),
        lambda b: views(b, b.x(3, 3), (0, 1), count(b, 3, 3), count(b, 3, 3)),
        lambda b: views(b, b.x(3), (0,), b.const([0, 2, 1], i64)),
        lambda b: views(b, b.x(s0, 3), (0,), b.num(0, i64, (1,))),
        lambda b: views(b, b.x(4, 3), (0,), b.op("cast", b.op("cast", b.x(2), dtype=i64), dtype=i64)),
    ],
)
def test_anything_else_stays(build: object) -> None:
    check(PASS, build, None)  # type: ignore[arg-type]
