"""Running one pass on a small graph, and comparing what it meant before with what it means after, at the pass's
exactness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neve.ir.graph import ConstTensor, Graph, GraphBuilder, Method, Program, Value
from neve.ir.index import Index
from neve.ir.interpret import interpret
from neve.ir.parse import op_classes
from neve.ir.types import DType, TensorType, round_to
from neve.ir.verify import verify
from neve.ops.base import Op
from neve.passes.remove_dead_code import run as remove_dead_code
from neve.passes.rewrite import Exactness, Log, Pass

f32, f64, f16, bf16, i64, i32 = DType.float32, DType.float64, DType.float16, DType.bfloat16, DType.int64, DType.int32
boolean = DType.bool

ULPS = 32
"""How many units in the last place of the largest output a ROUNDING pass may move one."""

EPS = {f64: 2.0**-52, f32: 2.0**-23, f16: 2.0**-10, bf16: 2.0**-7}
EDGES = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"))


class Build(GraphBuilder):
    """A GraphBuilder with short forms: b.x(2, 3), b.const(array), b.num(2.0), b.op("add", x, y)."""

    def x(self, *shape: Any, dtype: DType = f32) -> Value:
        return self.input(f"x{len(self.inputs)}", TensorType(tuple(shape), dtype))

    def const(self, array: Any, dtype: DType = f32) -> Value:
        a = round_to(np.asarray(array), dtype)
        return self(op_classes()["constant"](tensor=ConstTensor("c", a, dtype)))

    def rand(self, *shape: int, seed: int = 0, dtype: DType = f32, low: float = -2, high: float = 2) -> Value:
        return self.const(np.random.default_rng(seed).uniform(low, high, shape), dtype)

    def num(self, value: Any, dtype: DType = f32, shape: Sequence[Any] = ()) -> Value:
        return self(op_classes()["full"](shape=tuple(shape), value=value, dtype=dtype))

    def op(self, name: str, *inputs: Value, **attributes: Any) -> Value:
        return self(make(name, **attributes), *inputs)


def make(name: str, **attributes: Any) -> Op:
    return op_classes()[name](**attributes)


def ops(graph: Graph) -> dict[str, int]:
    """How many nodes of each op there are, sources left out."""
    return dict(Counter(n.op.name for n in graph.nodes if n.op.name not in ("constant", "full")))


def random_inputs(graph: Graph, sizes: Mapping[Index, int], seed: int, edges: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    out = []
    for v in graph.inputs:
        shape = v.type.at(sizes)
        if v.dtype is boolean:
            out.append(rng.integers(0, 2, shape).astype(bool))
        elif v.dtype.is_int:
            out.append(rng.integers(0, 100, shape).astype(v.dtype.numpy))
        else:
            a = rng.uniform(-4, 4, shape)
            where = rng.uniform(size=shape) < 0.3
            out.append(round_to(np.where(where, rng.choice(EDGES, shape), a) if edges else a, v.dtype))
    return out


def equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Bit for bit, but that a NaN is a NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool((a == b).all())
    return bool(((a == b) & (np.signbit(a) == np.signbit(b)) | (np.isnan(a) & np.isnan(b))).all())


def close(a: np.ndarray, b: np.ndarray, dtype: DType) -> bool:
    """Within ULPS of the largest finite output, with equal NaN and infinities."""
    if a.dtype.kind != "f":
        return equal_bits(a, b)
    finite = np.isfinite(a)
    if not np.array_equal(np.isnan(a), np.isnan(b)) or not np.array_equal(a[np.isinf(a)], b[np.isinf(a)]):
        return False
    top = float(np.abs(a[finite]).max(initial=0))
    return bool((np.abs(a[finite].astype(np.float64) - b[finite]) <= ULPS * EPS[dtype] * max(top, 1e-6)).all())


def assert_same_meaning(
    before: Graph,
    after: Graph,
    exactness: Exactness,
    sizes: Mapping[Index, int] | None = None,
    edges: bool = True,
    inputs: Sequence[Any] | None = None,
) -> None:
    """Interpret both on random inputs, with and without NaN, infinities and zeros of both signs."""
    verify(after)
    assert [v.type for v in before.outputs] == [v.type for v in after.outputs]
    for seed in range(3):
        arrays = list(inputs) if inputs is not None else random_inputs(before, sizes or {}, seed, edges and seed > 0)
        was, now = interpret(before, arrays, sizes=sizes), interpret(after, arrays, sizes=sizes)
        for a, b, v in zip(was, now, before.outputs, strict=True):
            good = equal_bits(a, b) if exactness is Exactness.EXACT else close(a, b, v.dtype)
            assert good, f"%{v.name}: {a!r} became {b!r}\n{before}\n{after}"


def apply(p: Pass, graph: Graph) -> tuple[Graph, Log]:
    log = Log(current=p.name)
    new = p.run(graph, log)
    return (graph if new is graph else remove_dead_code(new, Log())), log


def check(
    p: Pass, build: Callable[[Build], Any], expected: Mapping[str, int] | None, miss: str | None = None, **options: Any
) -> Graph:
    """Build a graph, run the pass, and compare meanings; expected None: the same object comes back.

    Otherwise expected is the ops (without sources) that are left, and the pass leaves its own result alone. miss: a
    reason that the log must hold.
    """
    b = Build()
    outputs = build(b)
    graph = b.build(outputs if isinstance(outputs, (tuple, list)) else [outputs])
    verify(graph)
    new, log = apply(p, graph)
    if expected is None:
        assert new is graph, f"should not have changed, but became\n{new}"
    else:
        assert new is not graph and ops(new) == dict(expected), f"became\n{new}"
        assert any(not e.miss for e in log.entries)
        again, _ = apply(p, new)
        assert again is new, f"runs on from its own result:\n{again}"
        assert_same_meaning(graph, new, p.exactness, **options)
    if miss is not None:
        assert any(miss in e.text for e in log.misses), f"no miss with {miss!r}: {[e.text for e in log.misses]}"
    return new


def program(graph: Graph, **more: Graph) -> Program:
    return Program({"forward": Method(graph), **{k: Method(g) for k, g in more.items()}})
