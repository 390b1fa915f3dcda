"""Recurrent layers over a number of steps, and a batch, that vary; captured from one example, against eager."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.utils import _pytree as pytree

import neve
from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.interpret import interpret

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
T, B = Dim("t", min=1, max=60), Dim("b", min=1, max=9)
LAYERS = [
    nn.GRU(3, 4),
    nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    nn.LSTM(3, 4, num_layers=2, dropout=0.5),
    nn.LSTM(3, 5, bidirectional=True, bias=False, batch_first=True),
    nn.RNN(3, 4, nonlinearity="relu", bidirectional=True),
    nn.RNN(3, 4, batch_first=True),
]


class Around(nn.Module):
    """A bare scripted layer has two methods instead of forward."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def shape_of(layer: Any, t: int, b: int) -> tuple[int, int, int]:
    return (b, t, 3) if layer.batch_first else (t, b, 3)


@pytest.mark.parametrize("scripted", [False, True], ids=["eager", "scripted"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda m: f"{type(m).__name__}{'-first' * m.batch_first}")
def test_interpreted(layer: Any, scripted: bool) -> None:
    layer.eval()
    model = Around(layer).eval()
    model = torch.jit.script(model) if scripted else model
    shapes = {"x": {0: B, 1: T} if layer.batch_first else {0: T, 1: B}}
    program = capture(model, (torch.randn(shape_of(layer, 5, 2)),), dynamic_shapes=shapes)
    for t, b in ((1, 2), (3, 1), (40, 4)):
        x = torch.randn(shape_of(layer, t, b))
        got = interpret(program.methods["forward"].graph, [x.numpy()])
        for g, w in zip(got, pytree.tree_leaves(layer(x)), strict=True):
            np.testing.assert_allclose(g, w.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_compiled() -> None:
    layer: Any = LAYERS[2]
    module = neve.compile(layer, (torch.randn(5, 2, 3),), dynamic_shapes={"input": {0: T}}, threads=1)
    for t in (1, 2, 60):
        x = torch.randn(t, 2, 3)
        for g, w in zip(pytree.tree_leaves(module(x)), pytree.tree_leaves(layer(x)), strict=True):
            torch.testing.assert_close(g, w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_that_vary_are_refused_but_in_float32(dtype: torch.dtype, batch_first: bool) -> None:
    layer, x = nn.GRU(3, 4, batch_first=batch_first).to(dtype).eval(), torch.ones(5, 5, 3, dtype=dtype)
    steps = {"input": {1 if batch_first else 0: T}}
    with pytest.raises(CaptureError, match="dynamic number of steps"):
        capture(layer, (x,), dynamic_shapes=steps)
    capture(layer, (x,), dynamic_shapes={"input": {0 if batch_first else 1: B}})
