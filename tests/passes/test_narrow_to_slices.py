from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import neve
from neve.ir.graph import Graph, Value
from neve.ir.types import TensorType, symbol
from neve.passes.narrow_to_slices import PASS
from neve.passes.rewrite import Exactness
from tests.passes.support import Build, apply, assert_same_meaning, check, f32, i64
from tests.random_layers import Layers

s0, s1 = symbol("s0"), symbol("s1")


def row(b: Build, v: Value, axis: int = 1, **more: Any) -> Value:
    return b.op("slice", v, axis=axis, **{"start": 0, "stop": 1, **more})


def attended(b: Build, x: Value, rows: Any) -> Value:
    """A block of an encoder on (1, rows, 8), with two heads."""

    def heads(seed: int) -> Value:
        y = b.op("linear", x, b.rand(8, 8, seed=seed), b.rand(8, seed=seed))
        return b.op("permute", b.op("reshape", y, shape=(1, rows, 2, 4)), dims=(0, 2, 1, 3))

    y = b.op("scaled_dot_product_attention", heads(1), heads(2), heads(3))
    y = b.op("reshape", b.op("permute", y, dims=(0, 2, 1, 3)), shape=(1, rows, 8))
    x = b.op("add", x, b.op("linear", y, b.rand(8, 8, seed=4)))
    y = b.op("gelu", b.op("linear", b.op("layer_norm", x, b.rand(8), b.rand(8)), b.rand(16, 8)))
    return b.op("add", x, b.op("linear", y, b.rand(8, 16)))


@pytest.mark.parametrize("rows", [5, s0])
def test_the_last_block_of_an_encoder_for_one_token(rows: Any) -> None:
    new = check(
        PASS,
        lambda b: row(b, attended(b, b.x(1, rows, 8), rows)),
        {"slice": 2, "linear": 6, "reshape": 4, "permute": 4, "add": 2, "gelu": 1, "layer_norm": 1}
        | {"scaled_dot_product_attention": 1},
        sizes={s0: 5},
        edges=False,
    )
    assert [n.output.shape[1] for n in new.nodes if n.op.name == "linear"] == [1, rows, rows, 1, 1, 1]


def test_slices_of_other_axes_and_steps() -> None:
    check(PASS, lambda b: row(b, b.op("relu", b.x(4, 6)), 1, stop=5, step=2), {"slice": 1, "relu": 1})
    check(PASS, lambda b: row(b, b.op("mul", b.x(4, 6), b.x(6)), 0), {"slice": 1, "mul": 1})
    check(PASS, lambda b: row(b, b.op("mul", b.x(4, 6), b.x(6)), 1), {"slice": 2, "mul": 1})
    check(PASS, lambda b: row(b, b.op("expand", b.x(1, 6), shape=(s0, 6)), 0), {"expand": 1}, sizes={s0: 3})
    check(
        PASS, lambda b: row(b, b.op("linear", b.x(3, 4), b.rand(8, 4), b.rand(8)), 1, stop=2), {"slice": 2, "linear": 1}
    )
    check(PASS, lambda b: row(b, row(b, b.op("relu", b.x(4, 6)), 0), 1), {"slice": 2, "relu": 1})


def test_two_slices_that_read_the_same() -> None:
    check(
        PASS,
        lambda b: [row(b, y := b.op("relu", b.x(4, 6)), 0), b.op("neg", row(b, y, 0))],
        {"slice": 1, "relu": 1, "neg": 1},
    )
    check(PASS, lambda b: row(b, row(b, b.x(4, 6), 0), 1), None)


def test_near_misses() -> None:
    """Another slice, a whole use, an output, an axis that is mixed, nothing to save, a source."""

    def relu(b: Build) -> Value:
        return b.op("relu", b.x(4, 6))

    check(PASS, lambda b: [row(b, y := relu(b), 0), row(b, y, 0, start=1, stop=2)], None)
    check(PASS, lambda b: [row(b, y := relu(b), 0), b.op("neg", y)], None)
    check(PASS, lambda b: [row(b, y := relu(b), 0), y], None)
    check(PASS, lambda b: row(b, b.op("softmax", b.x(4, 6), dim=1)), None)
    check(PASS, lambda b: row(b, relu(b), 0, stop=4), None)
    check(PASS, lambda b: row(b, b.op("relu", b.x(1, 6)), 0, stop=0), None)
    check(PASS, lambda b: row(b, b.x(4, 6)), None)
    check(
        PASS,
        lambda b: row(b, b.op("scaled_dot_product_attention", *(b.x(1, 4, 6) for _ in range(3)), is_causal=True)),
        None,
    )


class Reads(nn.Module):
    """An encoder of which `read` takes a part."""

    def __init__(self, read: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder, self.head, self.read = (
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            nn.Linear(16, 3),
            read,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.read(self.encoder(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("read", [lambda y: y[:, 0], lambda y: y[:, -1:], lambda y: y[:, 1:5:2].sum(1)])
def test_whole_models(read: Any) -> None:
    """Compiled, with sizes that vary; `compile` compares with the original."""
    rows = torch.export.Dim("rows", min=6, max=64)
    model = Reads(read).eval()
    module = neve.compile(model, (torch.randn(2, 9, 16),), dynamic_shapes=[{1: rows}])
    assert any("narrow_to_slices" in str(line) for line in module.artifact.log)
    x = torch.randn(2, 33, 16)
    torch.testing.assert_close(module(x), model(x), rtol=1e-5, atol=1e-5)


class Read(Layers):
    """Whatever a graph computes, and of that a slice, or two."""

    STEPS = (*Layers.POINTWISE, *Layers.VIEWS, *Layers.ALONG, *Layers.DEEP, *Layers.DEEP, *Layers.PARTS)

    def graph(self, length: int) -> Graph:
        for _ in range(length):
            self.step()
        v = self.values[-1]
        for _ in range(self.integer(1, 2)):
            sizes = [(a, d) for a, d in enumerate(v.shape) if isinstance(d, int) and d > 1]
            if sizes:
                axis, size = self.choice(sizes)
                start = self.integer(0, size - 1)
                v = self.op("slice", v, axis=axis, start=start, stop=self.integer(start, size), step=self.integer(1, 2))
        return self.b.build([v])


@st.composite
def graphs_that_are_read(draw: st.DrawFn) -> Graph:
    inputs = [TensorType((s0, 4, 6), f32), TensorType((2, 4, 6), f32), TensorType((6,), i64)]
    r = Read(lambda low, high: draw(st.integers(low, high)), inputs)
    return r.graph(r.integer(1, 7))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(graphs_that_are_read())
def test_random_graphs(graph: Graph) -> None:
    new, _ = apply(PASS, graph)
    assert_same_meaning(graph, new, Exactness.ROUNDING, sizes={s0: 5}, edges=False)
    assert apply(PASS, new)[0] is new
