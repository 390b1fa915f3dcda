"""Dropout in evaluation mode returns its input itself: it is seen in the graph, and writes go through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from neve.capture.export import capture
from neve.ir.interpret import interpret


def off(x: torch.Tensor) -> torch.Tensor:
    return functional.dropout(x, 0.3, False)


def result_written(x: torch.Tensor) -> Any:
    a = torch.relu(x + 1)
    b = off(a)
    functional.relu_(b.view(-1)).add_(1)
    return a, b


def input_written(x: torch.Tensor) -> Any:
    a = torch.relu_(x + 1)
    b = off(functional.alpha_dropout(a, 0.3, False))
    a.add_(1)
    return b


def written_before(x: torch.Tensor) -> Any:
    a = torch.relu_(x + 1)
    c = off(a).view(-1) + 0
    c.add_(1)
    return a, c


def in_a_branch(x: torch.Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda x: off(x) * 2, lambda x: x - 1, (x,))


class Model(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "seen"), [(result_written, 0), (input_written, 0), (written_before, 1), (in_a_branch, 1)]
)
def test_writes_go_through_dropout(function: Callable[[torch.Tensor], Any], seen: int) -> None:
    x = torch.rand(2, 3)
    program = capture(Model(function), (x,))
    want = function(x.clone())
    want = want if isinstance(want, tuple) else (want,)
    for got, expected in zip(interpret(program.methods["forward"].graph, [x.numpy()]), want, strict=True):
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-6)
    assert str(program).count("= dropout(") == seen


def test_an_exported_program_is_left_as_it_was() -> None:
    program = torch.export.export(Model(result_written), (torch.rand(2, 3),))
    before = str(program.graph)
    capture(program)
    assert str(program.graph) == before
