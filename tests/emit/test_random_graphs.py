"""Random graphs, optimized and compiled, on one and two threads, against the interpreter on the graph as drawn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from neve.build.target import native
from neve.build.toolchain import build
from neve.emit.program import emit
from neve.ir.graph import ConstTensor, Graph, GraphBuilder, Method, Program
from neve.ir.interpret import interpret
from neve.ir.types import DType, Range, TensorType, symbol
from neve.passes.pipeline import optimize
from neve.runtime.loader import Module, open_library
from tests.emit.programs import FAST, call
from tests.passes.support import EDGES, bf16, equal_bits, f16, f32, f64, make, random_inputs
from tests.random_layers import random_graph

TOLERANCE = {f64: 1e-12, f32: 1e-5, f16: 4e-3, bf16: 3e-2}
"""Of the largest value in the graph (of 1 if that is less), by the least precise type in it. Four times what the
interpreter's own result changes by when it computes in float64 is allowed besides (see `wanted`)."""

PRECISION = (f64, f32, f16, bf16)
s0, s1 = symbol("s0"), symbol("s1")
RANGES = {s0: Range(4, 40), s1: Range(4, None)}
SIZES: Sequence[Mapping[Any, int]] = [{s0: n, s1: m} for n, m in ((4, 4), (5, 9), (17, 8), (40, 33))]


def drawn(count: int, first: int = 0, **more: Any) -> list[Graph]:
    """The same graphs in every run."""
    return [random_graph(random.Random(seed).randint, **more) for seed in range(first, first + count)]


def compiled(graphs: Sequence[Graph], symbols: Mapping[Any, Range]) -> tuple[Module, Module]:
    """A module with a method g0, g1 … for each graph, on one thread and on two."""
    program = Program({f"g{k}": Method(g) for k, g in enumerate(graphs)}, symbols)
    source = emit(optimize(program)[0], native(), "random", 2).source
    path = build(source, extra=FAST).path
    one, two = (open_library(path, source.signature, source.weights, n) for n in (1, 2))
    return one, two


def everything(graph: Graph) -> Graph:
    """The graph with every float value an output, after its own."""
    values = [v for v in graph.values() if v.dtype.is_float]
    return Graph(graph.inputs, graph.nodes, (*graph.outputs, *values))


def widened(graph: Graph) -> Graph:
    """The graph computed in float64 from the same numbers: results differ by what rounding does."""
    b = GraphBuilder()
    env = {v: b.input(v.name, wide(v.type)) for v in graph.inputs}
    for n in graph.nodes:
        op: Any = n.op
        if op.name == "constant":
            t = op.tensor
            op = make(
                "constant", tensor=ConstTensor(t.name, t.array.astype(wide(t.type).dtype.numpy), wide(t.type).dtype)
            )
        elif getattr(op, "dtype", None) in PRECISION:
            op = type(op)(**{**op.attributes(), "dtype": f64})
        env.update(zip(n.outputs, b.emit(op, *(env[v] for v in n.inputs)), strict=True))
    return b.build([env[v] for v in graph.outputs])


def wide(t: TensorType) -> TensorType:
    return t.with_dtype(f64) if t.dtype.is_float else t


@dataclass(frozen=True)
class Want:
    """What a graph gives: outputs, and how far each may be off."""

    outputs: tuple[np.ndarray, ...]
    room: tuple[float, ...]


def wanted(graph: Graph, inputs: Sequence[np.ndarray], sizes: Mapping[Any, int]) -> Want:
    with np.errstate(all="ignore"):
        found = interpret(everything(graph), inputs, sizes=sizes)
        same = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
        ideal = interpret(widened(graph), same, sizes=sizes)
    outputs = found[: len(graph.outputs)]
    types = {v.dtype for v in graph.values()}
    tolerance = TOLERANCE[max(types & set(PRECISION), key=PRECISION.index)]
    largest = max((top(x) for x in found[len(outputs) :]), default=0.0)
    return Want(
        outputs,
        tuple(
            tolerance * max(largest, 1.0) + 4 * top(x.astype(np.float64) - y) if x.dtype.kind == "f" else 0.0
            for x, y in zip(outputs, ideal, strict=True)
        ),
    )


def hides(graph: Graph) -> bool:
    """Whether some attention never looks at what it must not see, where 0 · NaN would show."""
    return any(getattr(n.op, "is_causal", False) for n in graph.nodes)


def sprinkled(x: np.ndarray, seed: int) -> np.ndarray:
    """x with NaN, infinities and zeros at a few places."""
    if x.dtype.kind != "f" or not x.size:
        return x
    rng, y = np.random.default_rng(seed), x.copy()
    y.reshape(-1)[rng.integers(0, x.size, 4)] = rng.choice(np.array(EDGES), 4)
    return y


def top(x: np.ndarray) -> float:
    """The largest finite magnitude."""
    return float(np.abs(x[np.isfinite(x)]).max(initial=0))


def difference(got: np.ndarray, want: np.ndarray, room: float) -> str:
    """What is wrong with got; empty if nothing is."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
    if want.dtype.kind != "f":
        return "" if np.array_equal(got, want) else f"{(got != want).sum()} of {got.size} differ"
    for what in (np.isnan, np.isposinf, np.isneginf):
        if not np.array_equal(what(got), what(want)):
            return f"{what.__name__} at {what(got).sum()} instead of {what(want).sum()} places of {got.size}"
    finite = np.isfinite(want)
    off = top(got[finite].astype(np.float64) - want[finite])
    return "" if off <= room else f"off by {off:.1e}, allowed {room:.1e}"


def check(graphs: Sequence[Graph], sizes: Sequence[Mapping[Any, int]] = ({},)) -> None:
    one, two = compiled(graphs, RANGES if sizes[0] else {})
    bad = []
    for k, graph in enumerate(graphs):
        for seed, at in enumerate((*sizes, *sizes)):
            edges = seed >= len(sizes)
            if edges and hides(graph):
                continue
            inputs = random_inputs(graph, at, seed, edges=False)
            inputs = [sprinkled(x, seed + k) for x in inputs] if edges else inputs
            want = wanted(graph, inputs, at)
            got, again = call(one, f"g{k}", graph, inputs), call(two, f"g{k}", graph, inputs)
            for i, (x, y, w, room) in enumerate(zip(got, again, want.outputs, want.room, strict=True)):
                wrong = difference(np.asarray(x), w, room)
                if not wrong and not equal_bits(np.asarray(x), np.asarray(y)):
                    wrong = "other bits on two threads"
                if wrong:
                    bad.append(f"g{k}{' with NaN and Inf' * edges} at {dict(at)}: output {i} {wrong}\n{graph}")
    assert not bad, f"{len(bad)} wrong, the shortest:\n" + "\n".join(sorted(bad, key=len)[:3])


@pytest.mark.parametrize("dtype", [f32, f64, f16, bf16], ids=str)
def test_random_graphs(dtype: DType) -> None:
    check(drawn(150 if dtype is f32 else 40, 1400, dtype=dtype))


def test_random_graphs_of_any_size() -> None:
    check(drawn(50, 1300, symbols=(s0, s1), length=7), SIZES)
