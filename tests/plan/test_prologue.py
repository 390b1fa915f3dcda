"""Factors of channels before a 1×1 convolution move into its weights, where that is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import neve

CHANNELS = 12


class Excited(nn.Module):
    """Convolution, factors of the channels, projection: squeeze-and-excitation with any function for the factors."""

    def __init__(self, factor: Callable[[torch.Tensor], torch.Tensor], stride: int = 1, reused: str = "") -> None:
        super().__init__()
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.squeeze = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.project = nn.Conv2d(CHANNELS, CHANNELS, 1, stride=stride)
        self.factor, self.reused = factor, reused

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        y = x * self.factor(self.squeeze(x.mean((2, 3), keepdim=True)))
        out = self.project(y)
        return torch.cat([out, y], 1) if self.reused == "cat" else out + y if self.reused == "add" else out


def steps(module: neve.Module) -> list[str]:
    return [c["label"] for c in module.artifact.extra["calls"]["forward"]]


def build(net: nn.Module, batch: int = 1, size: int = 9) -> tuple[neve.Module, torch.Tensor]:
    x = torch.randn(batch, 3, size, size)
    return neve.compile(net.eval(), (x,)), x


@pytest.mark.parametrize(
    "factor",
    [torch.sigmoid, torch.tanh, nn.functional.hardsigmoid, lambda g: 2 * torch.sigmoid(g) + 1],
    ids=["sigmoid", "tanh", "hardsigmoid", "affine"],
)
def test_bounded_factors_scale_the_weights(factor: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)
    net = Excited(factor)
    module, x = build(net)
    assert any("mul+convolution" in s for s in steps(module)), steps(module)
    torch.testing.assert_close(module(x), net(x), rtol=1e-5, atol=1e-6)
    x[0, 1, 3, 3] = float("nan")
    assert torch.equal(module(x).isnan(), net(x).isnan())


@pytest.mark.parametrize(
    ("net", "batch", "size"),
    [
        (Excited(torch.relu), 1, 9),
        (Excited(torch.sigmoid), 2, 9),
        (Excited(torch.sigmoid, stride=2), 1, 9),
        (Excited(torch.sigmoid, reused="cat"), 1, 9),
        (Excited(torch.sigmoid, reused="add"), 1, 9),
        (Excited(torch.sigmoid), 1, 3),
    ],
    ids=["unbounded", "batch", "strided", "reused", "residual", "few-pixels"],
)
def test_others_stay(net: Excited, batch: int, size: int) -> None:
    module, x = build(net, batch, size)
    assert not any("mul+convolution" in s for s in steps(module)), steps(module)
    torch.testing.assert_close(module(x), net(x), rtol=1e-5, atol=1e-6)


def test_huge_factors_do_not_overflow_weights() -> None:
    """Why factors have to be bounded: x · s is small where s · w is infinite."""
    net = Excited(torch.relu)
    with torch.no_grad():
        net.squeeze.bias.fill_(1e30)
        net.project.weight.fill_(1e10)
        net.first.weight.mul_(1e-30)
        net.first.bias.fill_(1e-32)
    module, x = build(net)
    assert torch.isfinite(net(x)).all()
    torch.testing.assert_close(module(x), net(x), rtol=1e-5, atol=0)
