"""What limits says of integers holds for random programs; checks that cannot fail go, all others stay."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from neve.ir.graph import Graph, GraphBuilder, Method, Program, Value
from neve.ir.interpret import interpret
from neve.ir.types import DType, Range, TensorType, symbol
from neve.ops.control import If
from neve.passes.ranges import Limits, limits, not_negative, type_range
from neve.passes.remove_checks import PASS
from neve.passes.rewrite import Log, Rewriter
from tests.passes.support import Build, boolean, f32, i32, i64, make, ops

n, m = symbol("n"), symbol("m")
SIZES = {n: Range(1, 6), m: Range(0, None)}
U8, I8 = DType.uint8, DType.int8


def passed(build: Callable[[Build], Any]) -> Graph:
    b = Build()
    out = build(b)
    return run(b.build([out] if isinstance(out, Value) else []))


def run(graph: Graph) -> Graph:
    return PASS.run(Program({"forward": Method(graph)}, SIZES), Log()).methods["forward"].graph


def checked(b: GraphBuilder, x: Value, high: Any, low: Any = 0, message: str = "m") -> None:
    b.emit(make("raise", message=message), b(make("any_outside", low=low, high=high), x))


def count(b: GraphBuilder, length: Any, start: Any = 0, step: Any = 1) -> Value:
    return b(make("arange", start=start, step=step, length=length, dtype=i64))


def test_a_second_raise_on_the_same_goes_and_one_in_a_branch_stays() -> None:
    def build(b: Build) -> None:
        x = b.x(3, 4, dtype=i32)
        wrong = b.op("any_outside", x, low=0, high=8)
        for message in "ab":
            b.emit(make("raise", message=message), wrong)
        inner = GraphBuilder()
        v = inner.input("v", TensorType((), boolean))
        for message in "cd":
            inner.emit(make("raise", message=message), v)
        side = inner.build([])
        empty = GraphBuilder([Value("v", TensorType((), boolean))]).build([])
        b.emit(If(side, empty), b.input("p", TensorType((), boolean)), wrong)

    graph = passed(build)
    left = [getattr(k.op, "message", None) for k in graph.nodes]
    (branch,) = (k.op for k in graph.nodes if isinstance(k.op, If))
    assert left == [None, "a", None]
    assert [k.op.message for k in branch.then.nodes] == ["c"]  # type: ignore[attr-defined]


def test_the_same_elements_are_checked_where_they_come_from() -> None:
    def build(b: Build) -> None:
        x = b.x(3, 4, dtype=i32)
        wide = b.op("cast", b.op("permute", x, dims=(1, 0)), dtype=i64)
        flat = b.op("flip", b.op("reshape", wide, shape=(12,)), dims=(0,))
        for v in (x, flat, b.op("slice", flat, axis=0, start=1, stop=12), b.op("cast", x, dtype=U8)):
            checked(b, v, 8)

    first, second, third, fourth = (k.inputs[0].name for k in passed(build).nodes if k.op.name == "any_outside")
    assert (first, second, third.startswith("slice"), fourth.startswith("cast")) == ("x0", "x0", True, True)


@pytest.mark.parametrize(
    ("known", "build"),
    [
        (True, lambda b: checked(b, count(b, n), n)),
        (True, lambda b: checked(b, count(b, n), 6)),
        (False, lambda b: checked(b, count(b, n), 5)),
        (True, lambda b: checked(b, count(b, n, 1), n + 1, 1)),
        (False, lambda b: checked(b, count(b, n, 1), n)),
        (True, lambda b: checked(b, count(b, n, n - 1, -1), n)),
        (False, lambda b: checked(b, count(b, n, n, -1), n)),
        (True, lambda b: checked(b, count(b, m), m)),
        (False, lambda b: checked(b, count(b, m), 10**6)),
        (True, lambda b: checked(b, b.op("size", value=n), 7)),
        (True, lambda b: checked(b, b.op("argmax", b.x(4, n), dim=1), n)),
        (True, lambda b: checked(b, b.op("argmax", b.x(2, n), dim=None), 2 * n)),
        (False, lambda b: checked(b, b.op("argmax", b.x(2, n), dim=None), n)),
        (True, lambda b: checked(b, b.op("cumsum", b.op("cast", b.x(2, n, dtype=boolean), dtype=i64), axis=1), n + 1)),
        (False, lambda b: checked(b, b.op("cumsum", b.op("cast", b.x(2, n, dtype=boolean), dtype=i64), axis=1), n)),
        (False, lambda b: checked(b, b.x(3, dtype=i64), 2**62)),
    ],
)
def test_sizes(known: bool, build: Callable[[Build], Any]) -> None:
    assert ("raise" not in ops(passed(build))) is known


def test_not_negative_is_never_wrong() -> None:
    a, b = symbol("a"), symbol("b")
    for low, high in ((0, 4), (1, 5), (3, 3), (2, None)):
        sizes = {a: Range(low, high), b: Range(1, 3)}
        points = list(itertools.product(range(low, (high or 9) + 1), range(1, 4)))
        for x, y, z in itertools.product(range(-3, 4), range(-2, 3), range(-4, 5)):
            for e in (x * a + y * b + z, x * a * b + z, x * (a // 2) + y * b + z):
                if not_negative(e, sizes):
                    assert all(e.at({a: i, b: j}) >= 0 for i, j in points), (e, sizes)
    assert not_negative(5 - b, {b: Range(1, 5)}) and not not_negative(5 - b, {b: Range(1, 6)})
    assert not_negative(a - 3, {a: Range(3, None)}) and not not_negative(a - 3, {a: Range(2, None)})


BINARY = ("add", "sub", "mul", "maximum", "minimum", "remainder", "floor_divide", "bitwise_and")


def random_program(r: random.Random) -> Graph:
    """A few ops on integers of several types, with numbers that limits are made of."""
    b = Build()
    made = [b.x(2, 3, dtype=r.choice((i64, i32, I8, U8))), b.const(np.array([[r.randint(-9, 9)] * 3] * 2), i64)]

    def pick(dtype: DType) -> Value:
        v = r.choice(made)
        return v if v.dtype is dtype else b.op("cast", v, dtype=dtype)

    for _ in range(r.randint(1, 8)):
        dtype = r.choice((i64, i64, i32, I8, U8))
        kind = r.randrange(9)
        x = pick(dtype)
        number = b.num(r.choice((0, 1, 2, 3, 100, 200) if dtype is U8 else (-7, -1, 0, 1, 3, 100)), dtype, (2, 3))
        if kind <= 3:
            name, y = r.choice(BINARY), r.choice((number, number, pick(dtype)))
            if name in ("remainder", "floor_divide"):
                y = b.op("where", b.op("eq", y, b.num(0, dtype)), b.num(3, dtype, (2, 3)), y)
            made.append(b.op(name, x, y))
        elif kind == 4:
            low = r.choice((None, -3, 0, 2) if dtype is not U8 else (None, 0, 2))
            made.append(b.op("clamp", x, min=low, max=r.choice((None, 4, 90) if low is not None else (4, 90))))
        elif kind == 5:
            made.append(b.op("where", b.op("gt", x, number), x, pick(dtype)))
        elif kind == 6:
            made.append(b.op("slice", b.op("cat", x, pick(dtype), axis=0), axis=0, start=1, stop=3))
        elif kind == 7:
            made.append(b.op("cumsum", b.op("cast", x, dtype=i64), axis=1))
        else:
            at = b.op("argmax", b.op("cast", x, dtype=f32), dim=0)
            made.append(b.op("expand", b.op("reshape", at, shape=(1, 3)), shape=(2, 3)))
    return b.build(made)


def test_limits_hold() -> None:
    known = 0
    for seed in range(300):
        r, g = random.Random(seed), np.random.default_rng(seed)
        graph = random_program(r)
        rw = Rewriter(graph, Log())
        rw.run([])
        (x,) = graph.inputs
        least, greatest = type_range(x.dtype)
        for high in (least, least + 3), (-9, 9), (0, 127), (greatest - 3, greatest):
            values = g.integers(max(high[0], least), min(high[1], greatest), (2, 3), endpoint=True)
            with np.errstate(all="ignore"):
                outs = interpret(graph, [values.astype(x.dtype.numpy)])
            for v, a in zip(graph.outputs, outs, strict=True):
                found = limits(v, rw, {})
                assert found.low is None or int(a.min()) >= found.low, (seed, v.name, found, a, str(graph))
                assert found.high is None or int(a.max()) <= found.high, (seed, v.name, found, a, str(graph))
                known += v.dtype is i64 and found.low is not None
    assert known > 3000


def test_nothing_is_known_of_floats() -> None:
    b = Build()
    x = b.x(3, dtype=DType.float16)
    y = b.op("where", b.x(3, dtype=boolean), x, x)
    rw = Rewriter(b.build([y]), Log())
    assert all(limits(v, rw, {}) == Limits() for v in (x, y))
