"""Int arguments that shapes depend on: size symbols of the run, not values of the example; against torch.jit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neve
from neve.capture.export import capture
from neve.ir.interpret import interpret
from neve.ir.text import parse_program, print_program
from neve.ir.verify import VerifyError, verify_program
from tests.capture.torchscript.compared import as_torch_jit, compiled_as_torch_jit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.arange(3.0)


class Made(nn.Module):
    def forward(self, x, n: int):
        return torch.zeros(n) + x.sum(), torch.arange(n) * 2, n + 1, x.expand(n, 3)


class Compared(nn.Module):
    """A size that is compared: the run decides, not the example."""

    def forward(self, x, n: int):
        y = torch.ones(n) * 2
        if n > 3:
            return y.sum() + x, n - 3
        return y.sum() - x, n


class Turns(nn.Module):
    def forward(self, x, n: int):
        weights = torch.linspace(0.5, 1.0, 4) + torch.zeros(n, 4)
        for i in range(n):
            x = torch.tanh(x * weights[i, 1]) + i
        return x


class Divided(nn.Module):
    """True for some values only, so it stays at the example's."""

    def forward(self, x, n: int):
        return x.view(n, -1)


@pytest.mark.parametrize("model", [Made(), Compared(), Turns()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("example", [4, 0, 1])
def test_interpreted(model: nn.Module, example: int) -> None:
    as_torch_jit(model, (X, example), [(X, n) for n in (4, 0, 1, 9)])


@pytest.mark.parametrize("model", [Made(), Turns()], ids=lambda m: type(m).__name__)
def test_compiled_saved_and_loaded(model: nn.Module, tmp_path: Path) -> None:
    module = compiled_as_torch_jit(model, (X, 4), [(X, n) for n in (4, 0, 1, 9)], tmp_path)
    with pytest.raises(neve.InputError, match="n is -1"):
        module(X, -1)


def test_a_size_that_must_be_known_keeps_the_example() -> None:
    module = neve.compile(torch.jit.script(Divided()), (torch.arange(12.0), 3), threads=1)
    assert module(torch.arange(12.0), 3).shape == (3, 4)
    with pytest.raises(neve.InputError, match="wanted 3"):
        module(torch.arange(12.0), 4)


def test_text_and_verifier() -> None:
    program = capture(torch.jit.script(Made()), (X, 4))
    method = program.methods["forward"]
    again = parse_program(print_program(program), {}, {}).methods["forward"]
    assert again.sizes == method.sizes
    args: list[Any] = [X.numpy(), np.asarray(7)]
    for got, want in zip(interpret(again.graph, args, sizes=again.given_sizes(args)), Made()(X, 7)[:2], strict=False):
        np.testing.assert_array_equal(got, want.numpy())
    broken = {"forward": type(method)(method.graph, sizes=(method.sizes[1], None))}
    with pytest.raises(VerifyError, match="cannot give the size"):
        verify_program(type(program)(broken, program.symbols))


class Fewer(nn.Module):
    def forward(self, x, n: int):
        return torch.zeros(n - 2) + x.sum()


def test_a_size_that_could_be_negative_keeps_the_example() -> None:
    method = capture(torch.jit.script(Fewer()), (X, 5)).methods["forward"]
    assert not any(method.sizes) and method.graph.outputs[0].shape == (3,)
