"""The interpreter: symbols, control flow, state, rounding, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from neve.errors import ModelError
from neve.ir.graph import Graph, GraphBuilder, StateVar, Value
from neve.ir.interpret import bind, bind_sizes, interpret
from neve.ir.parse import op_classes
from neve.ir.types import DType, TensorType, symbol
from neve.ops.base import Op

f32, i64 = DType.float32, DType.int64
s0, s1 = symbol("s0"), symbol("s1")


def make(name: str, **attributes: object) -> Op:
    return op_classes()[name](**attributes)


def scalar(b: GraphBuilder, value: object, dtype: DType = f32) -> Value:
    return b(make("full", shape=(), value=value, dtype=dtype))


def test_symbols_are_bound_from_shapes_and_put_into_attributes() -> None:
    b = GraphBuilder()
    x = b.input("x", TensorType((s0, 2 * s1 + 1), f32))
    n = b(make("size", value=s0 * s1))
    f = b(make("full", shape=(s1, s0 // 2), value=2.0, dtype=f32))
    graph = b.build([n, f, x])
    got = interpret(graph, [np.zeros((5, 7), np.float32)])
    assert got[0] == 15 and got[1].shape == (3, 2) and got[2].shape == (5, 7)


def test_shapes_that_do_not_fit_are_refused() -> None:
    values = [Value("x", TensorType((s0, s0), f32)), Value("y", TensorType((2 * s0,), f32))]
    assert bind_sizes(values, [(3, 3), (6,)]) == {s0: 3}
    for shapes in ([(3, 4), (6,)], [(3, 3), (7,)], [(3,), (6,)], [(3, 3)]):
        with pytest.raises(ValueError, match=r"is float32|expected 2 inputs"):
            bind_sizes(values, shapes)
    with pytest.raises(ValueError, match="x is float32"):
        bind_sizes([Value("x", TensorType((2 * s0,), f32))], [(5,)])


def test_inputs_of_another_type_are_refused() -> None:
    b = GraphBuilder()
    graph = b.build([b.input("x", TensorType((2,), f32))])
    with pytest.raises(TypeError, match="x is float32"):
        interpret(graph, [np.zeros(2)])


def test_bind_replaces_symbols_within_tuples_only() -> None:
    op = make("full", shape=(s0, (4)), value=1.0, dtype=f32)
    assert bind(op, {s0: 3}) == make("full", shape=(3, 4), value=1.0, dtype=f32)
    plain = make("full", shape=(3, 4), value=1.0, dtype=f32)
    assert bind(plain, {s0: 3}) is plain


def test_half_types_round_at_every_op() -> None:
    for dtype, step in ((DType.bfloat16, 2.0**-8), (DType.float16, 2.0**-11)):
        b = GraphBuilder()
        x = b.input("x", TensorType((), dtype))
        y = b(make("add"), b(make("add"), x, scalar(b, step, dtype)), scalar(b, step, dtype))
        (got,) = interpret(b.build([y]), [np.asarray(1.0, dtype.numpy)])
        assert got == 1.0 and got.dtype == dtype.numpy


def branch(op: str, n: object = 2) -> Graph:
    b = GraphBuilder()
    x = b.input("x", TensorType((n,), f32))  # type: ignore[arg-type]
    return b.build([b(make(op), x)])


def test_if_takes_one_branch_and_knows_the_outer_symbols() -> None:
    b = GraphBuilder()
    p, x = b.input("p", TensorType((), DType.bool)), b.input("x", TensorType((s0,), f32))
    graph = b.build([b(make("if", then=branch("neg", s0), orelse=branch("abs", s0)), p, x)])
    a = np.array([-1, 2, 3], np.float32)
    np.testing.assert_array_equal(interpret(graph, [np.asarray(True), a])[0], -a)
    np.testing.assert_array_equal(interpret(graph, [np.asarray(False), a])[0], abs(a))


def test_while_counts() -> None:
    b = GraphBuilder()
    i, x = b.input("i", TensorType((), i64)), b.input("x", TensorType((), f32))
    cond = b.build([b(make("lt"), i, scalar(b, 5, i64))])
    b = GraphBuilder()
    i, x = b.input("i", TensorType((), i64)), b.input("x", TensorType((), f32))
    body = b.build([b(make("add"), i, scalar(b, 1, i64)), b(make("add"), x, x)])
    b = GraphBuilder()
    i, x = b.input("i", TensorType((), i64)), b.input("x", TensorType((), f32))
    graph = b.build(b.emit(make("while", cond=cond, body=body), i, x))
    assert [a.item() for a in interpret(graph, [np.asarray(2), np.float32(3)])] == [5, 24]
    assert [a.item() for a in interpret(graph, [np.asarray(9), np.float32(3)])] == [9, 3]


def test_state_lives_between_calls_and_starts_from_its_content() -> None:
    var = StateVar("count", np.zeros((), np.float32), f32)
    b = GraphBuilder()
    old = b(make("read_state", var=var))
    b.emit(make("write_state", var=var), b(make("add"), old, scalar(b, 1.0)))
    graph = b.build([old, b(make("read_state", var=var))])
    state: dict[StateVar, np.ndarray] = {}
    assert [interpret(graph, [], state)[1].item() for _ in range(3)] == [1, 2, 3]
    assert interpret(graph, [])[0] == 0 and var.init == 0


def test_raise_raises_where_it_is_reached() -> None:
    b = GraphBuilder()
    p = b.input("p", TensorType((), DType.bool))
    b.emit(make("raise", message="no"), p)
    graph = b.build([p])
    interpret(graph, [np.asarray(False)])
    with pytest.raises(ModelError, match="no"):
        interpret(graph, [np.asarray(True)])
