"""Small models with what freezing has to keep apart: weights, state, settings, methods, dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Counter(nn.Module):
    """forward reads what step writes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("total", torch.zeros(3))
        self.scale = 2.0
        self.title = "counter"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.scale + self.total

    @torch.jit.export
    def step(self, x: torch.Tensor) -> torch.Tensor:
        self.total += x.sum(0)
        return self.total * self.scale

    @torch.jit.export
    def get(self) -> torch.Tensor:
        return self.total + 0


class Block(nn.Module):
    """A convolution with norm and dropout, a residual sum with relu, pooled: any batch and picture size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, 4)
        self.norm.running_mean = torch.rand(8)
        self.norm.running_var = torch.rand(8) + 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(torch.relu(self.norm(self.conv(x))))
        return self.head(torch.relu(y + torch.tanh(y)).mean((-2, -1)))


class Outer(nn.Module):
    """A model with a submodule that has a method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Counter()
        self.choice = "plus"

    def forward(self, x: torch.Tensor) -> Any:
        y = self.inner(x)
        return {"y": y, "z": (y + 1 if self.choice == "plus" else y - 1, [x])}


def close(got: Any, want: Any) -> None:
    """Equal structure, and tensors equal within float32's rounding."""
    flat, spec = torch.utils._pytree.tree_flatten(got)
    expected, wanted = torch.utils._pytree.tree_flatten(want)
    assert spec == wanted
    for a, b in zip(flat, expected, strict=True):
        if isinstance(b, torch.Tensor):
            torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-5)
        else:
            assert a == b and type(a) is type(b)
