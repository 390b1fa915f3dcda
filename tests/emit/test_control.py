"""Control flow and state in compiled code, against the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from neve.build.target import native
from neve.build.toolchain import build
from neve.check.verify import relative_error
from neve.emit.program import emit
from neve.ir.graph import ConstTensor, Graph, GraphBuilder, Method, Program, StateVar, Value
from neve.ir.interpret import interpret
from neve.ir.types import DType, TensorType
from neve.ops.base import REGISTRY
from neve.ops.control import If, ReadState, While, WriteState
from neve.ops.matmul import Linear
from neve.ops.source import Constant, Full
from neve.passes.pipeline import optimize
from neve.runtime.loader import Module, open_library
from tests.emit.programs import FAST, call

F, I64, B = DType.float32, DType.int64, DType.bool


def vec(n: int = 5) -> TensorType:
    return TensorType((n,), F)


def op(b: GraphBuilder, name: str, *inputs: Value) -> Value:
    return b(REGISTRY[name](), *inputs)


def scalar(b: GraphBuilder, value: float, dtype: DType = F) -> Value:
    return b(Full((), value, dtype))


def graph(types: Sequence[TensorType], body) -> Graph:  # type: ignore[no-untyped-def]
    b = GraphBuilder()
    ins = [b.input(f"x{k}", t) for k, t in enumerate(types)]
    return b.build(body(b, *ins))


def compiled(methods: dict[str, Graph], threads: int = 1) -> Module:
    e = emit(Program({k: Method(g) for k, g in methods.items()}), native(), "control", 2)
    return open_library(build(e.source, extra=FAST).path, e.source.signature, e.source.weights, threads)


def collatz() -> Graph:
    """Steps of the Collatz sequence from n to 1: a loop with a branch on data inside."""
    zero = TensorType((), I64)

    def step(b: GraphBuilder, n: Value, k: Value) -> list[Value]:
        even = op(b, "eq", op(b, "remainder", n, scalar(b, 2, I64)), scalar(b, 0, I64))
        half = graph([zero], lambda b, n: [op(b, "floor_divide", n, scalar(b, 2, I64))])
        more = graph([zero], lambda b, n: [op(b, "add", op(b, "mul", n, scalar(b, 3, I64)), scalar(b, 1, I64))])
        return [b(If(half, more), even, n), op(b, "add", k, scalar(b, 1, I64))]

    cond = graph([zero, zero], lambda b, n, k: [op(b, "gt", n, scalar(b, 1, I64))])
    body = graph([zero, zero], step)
    return graph([zero], lambda b, n: [*b.emit(While(cond, body), n, scalar(b, 0, I64))])


def swapping_loop() -> Graph:
    """Carried tensors that swap places, beside an operand that the loop only reads."""
    t, s = vec(37), TensorType((), I64)
    cond = graph([s, t, t, t], lambda b, k, x, y, z: [op(b, "lt", k, scalar(b, 3, I64))])
    body = graph([s, t, t, t], lambda b, k, x, y, z: [op(b, "add", k, scalar(b, 1, I64)), y, op(b, "add", x, z), z])
    return graph([s, t, t, t], lambda b, k, x, y, z: [*b.emit(While(cond, body), k, x, y, z)])


def branch_with_kernels() -> Graph:
    """A matrix product in one branch, an operand handed through in the other; the result is used again."""
    rng = np.random.default_rng(0)
    w = ConstTensor("w", rng.standard_normal((16, 16), np.float32), F)
    t = TensorType((3, 16), F)
    then = graph([t], lambda b, x: [op(b, "tanh", b(Linear(), x, b(Constant(w))))])
    orelse = graph([t], lambda b, x: [x])

    def body(b: GraphBuilder, x: Value, p: Value) -> list[Value]:
        y = b(If(then, orelse), p, x)
        return [op(b, "add", y, x), y]

    return graph([t, TensorType((), B)], body)


def rows_as_results() -> Graph:
    """A branch and a loop whose results come out of reductions along rows."""
    t, s = TensorType((5, 16), F), TensorType((), I64)
    soft = graph([t], lambda b, x: [b(REGISTRY["softmax"](1), x)])  # type: ignore[call-arg]
    other = graph([t], lambda b, x: [op(b, "tanh", x)])
    cond = graph([s, t], lambda b, k, x: [op(b, "gt", k, scalar(b, 0, I64))])
    body = graph(
        [s, t],
        lambda b, k, x: [op(b, "sub", k, scalar(b, 1, I64)), b(If(soft, other), op(b, "lt", k, scalar(b, 2, I64)), x)],
    )

    def whole(b: GraphBuilder, p: Value, k: Value, x: Value) -> list[Value]:
        y = op(b, "mul", b(If(soft, other), p, x), x)
        return [y, *b.emit(While(cond, body), k, y)]

    return graph([TensorType((), B), s, t], whole)


def row_by_index() -> Graph:
    """The sum of a row whose number the same loop nest computes; others read the number too."""
    t, s = TensorType((3, 5), F), TensorType((), I64)

    def whole(b: GraphBuilder, x: Value, k: Value) -> list[Value]:
        at = op(b, "remainder", k, scalar(b, 3, I64))
        row = b(REGISTRY["index_select"](dim=0), x, b(REGISTRY["reshape"]((1,)), at))  # type: ignore[call-arg]
        return [b(REGISTRY["sum"]((0, 1)), row), op(b, "add", at, k), at]  # type: ignore[call-arg]

    return graph([t, s], whole)


def counter() -> tuple[Graph, Graph, StateVar]:
    """Two methods that share a state: one reads before and after it writes."""
    var = StateVar("count", np.arange(4, dtype=np.float32), F)

    def bump(b: GraphBuilder, x: Value) -> list[Value]:
        old = b(ReadState(var))
        b.emit(WriteState(var), op(b, "add", old, x))
        return [old, op(b, "mul", b(ReadState(var)), scalar(b, 2.0))]

    return graph([vec(4)], bump), graph([], lambda b: [b(ReadState(var))]), var


@pytest.mark.parametrize("threads", [1, 2])
def test_loops_and_branches(threads: int) -> None:
    graphs = {
        "collatz": collatz(),
        "swap": swapping_loop(),
        "branch": branch_with_kernels(),
        "rows": rows_as_results(),
        "index": row_by_index(),
    }
    m = compiled(graphs, threads)
    rng = np.random.default_rng(1)
    x = [rng.standard_normal(37).astype(np.float32) for _ in range(3)]
    m16 = rng.standard_normal((3, 16)).astype(np.float32)
    problems = [("collatz", (np.array(n),)) for n in (1, 2, 27, 97)]
    problems += [("swap", (np.array(k), *x)) for k in (0, 1, 2, 3, 9)]
    problems += [("branch", (m16, np.array(p))) for p in (True, False)]
    rows = rng.standard_normal((5, 16)).astype(np.float32)
    problems += [("rows", (np.array(p), np.array(k), rows)) for p in (True, False) for k in (0, 1, 3)]
    problems += [("index", (m16[:3, :5], np.array(k))) for k in (4, 2, 3)]
    for name, inputs in problems:
        for got, want in zip(call(m, name, graphs[name], inputs), interpret(graphs[name], inputs), strict=True):
            assert relative_error(np.asarray(got), np.asarray(want)) <= 1e-6, name


def test_state_is_shared_kept_and_reset() -> None:
    bump, show, var = counter()
    m = compiled({"bump": bump, "show": show})
    state: dict[StateVar, np.ndarray] = {}
    for k in range(3):
        x = np.full(4, k + 1, np.float32)
        for got, want in zip(call(m, "bump", bump, (x,)), interpret(bump, (x,), state), strict=True):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(call(m, "show", show, ())[0], state[var])
    other = m.clone()
    np.testing.assert_array_equal(call(other, "show", show, ())[0], var.init)
    m.reset()
    np.testing.assert_array_equal(call(m, "show", show, ())[0], var.init)


def test_weights_that_both_branches_use_are_packed_and_stored_once() -> None:
    rng = np.random.default_rng(0)
    w = ConstTensor("w", rng.standard_normal((64, 64), np.float32), F)
    t, s = TensorType((3, 64), F), w.type

    def side(name: str) -> Graph:
        return graph([t, s], lambda b, x, w: [op(b, name, b(Linear(), x, w))])

    def whole(b: GraphBuilder, p: Value, x: Value) -> list[Value]:
        return [b(If(side("tanh"), side("exp")), p, x, b(Constant(w)))]

    program, _ = optimize(Program({"forward": Method(graph([TensorType((), B), t], whole))}))
    emitted = emit(program, native(), "branches", 1)
    assert w.array.nbytes <= emitted.source.weights.size < 2 * w.array.nbytes
    labels = [site.label for site in emitted.calls["forward"] if site.label.startswith("linear")]
    assert labels == [f"linear+{act}: {labels[0].partition(': ')[2]}" for act in ("tanh", "exp")]
