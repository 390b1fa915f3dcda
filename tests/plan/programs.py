"""Programs whose plans the tests of the planner check: small, but of every kind of step, layout and lifetime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from neve.build.target import native
from neve.emit.unit import Unit
from neve.ir.graph import Graph, Method, Program, StateVar, Value
from neve.ir.types import DType, Range, TensorType, symbol
from neve.passes.pipeline import optimize
from neve.plan.memory import Arena
from neve.plan.method import plan
from neve.plan.schedule import Schedule
from tests.passes.support import Build, boolean, f16, f32, i64, make

s0, s1 = symbol("s0"), symbol("s1")
Sizes = dict[str, int]


@dataclass(frozen=True)
class Plan:
    """One method planned: its steps over buffers, their places, and the sizes to look at."""

    name: str
    unit: Unit
    schedule: Schedule
    arena: Arena
    sizes: tuple[Sizes, ...]


def plans(program: Program, name: str, sizes: Sequence[Sizes]) -> list[Plan]:
    """Each method of the optimized program, planned as `emit` does."""
    new, _ = optimize(program)
    unit = Unit(native(), [str(s) for s in program.symbols])
    out = []
    for key, method in new.methods.items():
        made = plan(method.graph, unit.target, {str(s): r for s, r in program.symbols.items()})
        out.append(Plan(f"{name}.{key}", unit, made.schedule, made.arena, tuple(sizes)))
    return out


@cache
def planned(name: str) -> list[Plan]:
    """The plans of one of PROGRAMS."""
    make, sizes = PROGRAMS[name]
    return plans(make(), name, sizes)


def graph(types: Sequence[TensorType], body: Callable[..., Any]) -> Graph:
    b = Build()
    out = body(b, *(b.input(f"x{k}", t) for k, t in enumerate(types)))
    return b.build(out if isinstance(out, (list, tuple)) else [out])


def tensor(*shape: Any, dtype: DType = f32) -> TensorType:
    return TensorType(shape, dtype)


def conv(b: Build, x: Value, channels: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Value:
    pad = kernel // 2
    return b.op(
        "convolution",
        x,
        b.rand(channels, x.shape[1] // groups, kernel, kernel, seed=channels + kernel),
        b.rand(channels, seed=1),
        stride=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        dilation=(1, 1),
        groups=groups,
    )


def conv_network(n: Any = 1, size: Any = 12) -> Graph:
    """Residuals, depthwise and strided convolutions, concatenations within one another, pooling, a classifier."""

    def body(b: Build, x: Value) -> list[Value]:
        x = b.op("relu", conv(b, x, 8, stride=2))
        y = conv(b, b.op("silu", conv(b, x, 8, groups=8)), 8, kernel=1)
        x = b.op("add", x, y)
        inner = b.op("cat", b.op("relu", conv(b, x, 4)), b.op("tanh", conv(b, x, 4, kernel=1)), axis=1)
        z = b.op("cat", x, inner, axis=1)
        pooled = b.op("max_pool", z, kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))
        mean = b.op("mean", b.op("mul", pooled, b.op("sigmoid", pooled)), dims=(2, 3), keepdim=False)
        return [b.op("softmax", b.op("linear", mean, b.rand(5, 16), b.rand(5)), dim=1), inner]

    return graph([tensor(n, 3, size, size)], body)


def transformer_block(n: Any = 2, length: Any = 7) -> Graph:
    """Norms, attention over four heads, a gated projection, two residuals."""
    d, h = 32, 4

    def body(b: Build, x: Value, mask: Value) -> Value:
        y = b.op("layer_norm", x, b.rand(d), b.rand(d, seed=1))
        parts = []
        for k in range(3):
            p = b.op("reshape", b.op("linear", y, b.rand(d, d, seed=k)), shape=(n, length, h, d // h))
            parts.append(b.op("permute", p, dims=(0, 2, 1, 3)))
        y = b.op("scaled_dot_product_attention", *parts, b.op("reshape", mask, shape=(n, 1, 1, length)))
        y = b.op("reshape", b.op("permute", y, dims=(0, 2, 1, 3)), shape=(n, length, d))
        x = b.op("add", x, b.op("linear", y, b.rand(d, d, seed=5), b.rand(d)))
        y = b.op("rms_norm", x, b.rand(d, seed=7))
        gate = b.op("gelu", b.op("linear", y, b.rand(2 * d, d, seed=8)))
        y = b.op("mul", gate, b.op("linear", y, b.rand(2 * d, d, seed=9)))
        return b.op("add", x, b.op("linear", y, b.rand(d, 2 * d, seed=10)))

    return graph([tensor(n, length, d), tensor(n, length, dtype=boolean)], body)


def recurrent(n: Any = 3) -> Graph:
    """A bidirectional layer whose directions are joined, then one of another kind and its last state."""

    def weights(b: Build, gates: int, inputs: int, hidden: int, seed: int) -> list[Value]:
        shapes = [(gates * hidden, inputs), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)]
        return [b.rand(*s, seed=seed + k, low=-0.5, high=0.5) for k, s in enumerate(shapes)]

    def body(b: Build, x: Value, h: Value, c: Value) -> list[Value]:
        forward = b.emit(make("lstm"), x, *weights(b, 4, 6, 8, 1), h, c)
        backward = b.emit(make("lstm", reverse=True), x, *weights(b, 4, 6, 8, 11), h, c)
        both = b.op("cat", forward[0], backward[0], axis=2)
        y, last = b.emit(make("gru"), both, *weights(b, 3, 16, 8, 21), b.op("add", forward[1], backward[2]))
        return [y, last, backward[1]]

    return graph([tensor(5, n, 6), tensor(n, 8), tensor(n, 8)], body)


def softmaxes() -> Graph:
    """Rows in cache: several reductions, scans, halves, and results of rows that others read as well."""

    def body(b: Build, x: Value, y: Value) -> list[Value]:
        p = b.op("softmax", b.op("add", x, y), dim=1)
        q = b.op("log_softmax", b.op("mul", p, x), dim=1)
        top = b.op("amax", q, dims=(0,), keepdim=True)
        scan = b.op("cumsum", b.op("exp", b.op("sub", q, top)), axis=1)
        half = b.op("cast", b.op("matmul", scan, b.op("permute", p, dims=(1, 0))), dtype=f16)
        return [half, b.op("argmax", scan, dim=1), p]

    return graph([tensor(9, 37), tensor(1, 37)], body)


def control(n: Any = 5) -> Graph:
    """A loop with a branch, products and a concatenation inside; an operand made before it and read in every round."""
    t, k = tensor(n, 16), tensor(dtype=i64)

    def step(b: Build, i: Value, x: Value, y: Value, z: Value) -> list[Value]:
        big = graph([t, t], lambda b, x, z: [b.op("tanh", b.op("linear", b.op("add", x, z), b.rand(16, 16, seed=3)))])
        small = graph([t, t], lambda b, x, z: [b.op("mul", x, b.op("softmax", z, dim=1))])
        odd = b.op("eq", b.op("remainder", i, b.num(2, i64)), b.num(1, i64))
        new = b.op("if", odd, x, z, then=big, orelse=small)
        half = b.op("cat", *(b.op("slice", v, axis=1, start=0, stop=8) for v in (b.op("relu", new), y)), axis=1)
        return [b.op("add", i, b.num(1, i64)), half, b.op("linear", new, b.rand(16, 16, seed=4)), z]

    def body(b: Build, rounds: Value, x: Value) -> list[Value]:
        z = b.op("linear", x, b.rand(16, 16))
        y = b.op("linear", b.op("relu", z), b.rand(16, 16, seed=2))
        more = graph([k, t, t, t], lambda b, i, x, y, z: [b.op("lt", i, b.num(3, i64))])
        out = b.emit(make("while", cond=more, body=graph([k, t, t, t], step)), rounds, y, z, b.op("exp", y))
        return [b.op("linear", b.op("add", out[1], out[2]), b.rand(16, 16, seed=5)), b.op("sub", out[1], z)]

    return graph([k, t], body)


def stateful() -> dict[str, Graph]:
    """Three methods on one state: one reads before and after it writes, one raises."""
    var = StateVar("memory", np.zeros((4, 16), np.float32), f32)

    def push(b: Build, x: Value) -> list[Value]:
        old = b.op("read_state", var=var)
        joined = b.op("cat", b.op("slice", old, axis=0, start=1, stop=4), x, axis=0)
        b.emit(make("write_state", var=var), joined)
        now = b.op("read_state", var=var)
        return [b.op("matmul", old, b.op("permute", now, dims=(1, 0))), b.op("softmax", joined, dim=1)]

    def guarded(b: Build, x: Value) -> Value:
        y = b.op("linear", x, b.rand(16, 16))
        b.emit(make("raise", message="too large"), b.op("any", b.op("gt", y, b.num(9.0)), dims=(0, 1), keepdim=False))
        return b.op("linear", b.op("tanh", y), b.rand(4, 16))

    show = graph([], lambda b: [b.op("read_state", var=var)])
    return {"push": graph([tensor(1, 16)], push), "guarded": graph([tensor(3, 16)], guarded), "show": show}


def sizes_that_fall() -> Graph:
    """What is left of 40 beside s0: sizes that fall as the symbol grows, between those that rise."""

    def body(b: Build, x: Value) -> list[Value]:
        wide = b.op("cumsum", b.op("constant_pad", x, pads=((0, 0), (0, 40 - s0))), axis=1)
        rest = b.op("cumsum", b.op("slice", wide, axis=1, start=s0, stop=40), axis=0)
        y = b.op("cumsum", b.op("slice", wide, axis=1, start=0, stop=s0), axis=0)
        return [b.op("matmul", b.op("permute", rest, dims=(1, 0)), y), b.op("cumsum", rest, axis=1)]

    return graph([tensor(3, s0)], body)


def _program(graphs: Graph | dict[str, Graph], **ranges: tuple[int, int | None]) -> Program:
    methods = graphs if isinstance(graphs, dict) else {"forward": graphs}
    return Program({k: Method(g) for k, g in methods.items()}, {symbol(s): Range(*r) for s, r in ranges.items()})


ONE: tuple[Sizes, ...] = ({},)
PROGRAMS: dict[str, tuple[Callable[[], Program], Sequence[Sizes]]] = {
    "conv_network": (lambda: _program(conv_network()), ONE),
    "conv_batch": (lambda: _program(conv_network(s0), s0=(1, 9)), [{"s0": n} for n in (1, 2, 5, 9)]),
    "conv_any_size": (
        lambda: _program(conv_network(s0, 4 * s1), s0=(1, None), s1=(1, 8)),
        [{"s0": n, "s1": m} for n, m in ((1, 1), (3, 2), (2, 8), (20, 3))],
    ),
    "transformer": (lambda: _program(transformer_block()), ONE),
    "transformer_any_size": (
        lambda: _program(transformer_block(s0, s1), s0=(1, None), s1=(1, 64)),
        [{"s0": n, "s1": m} for n, m in ((1, 1), (1, 64), (5, 7), (16, 33))],
    ),
    "recurrent": (lambda: _program(recurrent()), ONE),
    "recurrent_batch": (lambda: _program(recurrent(s0), s0=(1, 16)), [{"s0": n} for n in (1, 3, 16)]),
    "softmaxes": (lambda: _program(softmaxes()), ONE),
    "control": (lambda: _program(control()), ONE),
    "control_any_size": (lambda: _program(control(s0), s0=(0, None)), [{"s0": n} for n in (0, 1, 6, 50)]),
    "stateful": (lambda: _program(stateful()), ONE),
    "several": (
        lambda: _program({"a": conv_network(), "b": transformer_block(s0, 4), "c": control(s0)}, s0=(1, 12)),
        [{"s0": n} for n in (1, 4, 12)],
    ),
    "falling": (lambda: _program(sizes_that_fall(), s0=(1, 40)), [{"s0": n} for n in (1, 2, 20, 39, 40)]),
}
"""Programs by name, and the values of their symbols to look at: both ends of each range and between."""
