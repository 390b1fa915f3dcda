"""Buffers that a method binds to new tensors are state, wherever they are; what cannot be state is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.interpret import interpret


class Buffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", torch.zeros(3))
        self.register_buffer("g", torch.zeros(3))
        self.register_buffer("late", None)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Any:
        self.h = self.h * 0.5 + x
        return self.h * 2

    def step(self, x: Tensor) -> Any:
        return Buffers.forward(self, x) + self.g


class ReturnsOld(Buffers):
    def forward(self, x: Tensor) -> Any:
        old = self.h
        self.h = x * 1
        return old, old[1:], old + 1


class Shifts(Buffers):
    """What was in h goes to g."""

    def forward(self, x: Tensor) -> Any:
        self.g = self.h
        self.h = self.h + x
        return self.g + self.h


class ThenInPlace(Buffers):
    def forward(self, x: Tensor) -> Any:
        self.h = self.h + x
        self.h[0].mul_(2)
        self.g = self.h.clone()
        self.h += 1
        return self.h * self.g


class Become(Buffers):
    """From the second call on, a write to h is one to g."""

    def forward(self, x: Tensor) -> Any:
        self.g = self.h
        self.h.add_(x)
        return self.g * 1


class Grows(Buffers):
    def forward(self, x: Tensor) -> Any:
        self.h = torch.cat((self.h, x))
        return self.h.sum()


class FromNone(Buffers):
    def forward(self, x: Tensor) -> Any:
        self.late = x * 1 if self.late is None else self.late + x
        return self.late + 1


class Swaps(Buffers):
    def forward(self, x: Tensor) -> Any:
        self.a, self.b = self.b, self.a
        return self.a(x)


class Makes(Buffers):
    def forward(self, x: Tensor) -> Any:
        self.register_buffer("made", x + getattr(self, "made", 0))
        return self.made + 1


class Parent(nn.Module):
    def __init__(self, child: nn.Module) -> None:
        super().__init__()
        self.child = child

    def forward(self, x: Tensor) -> Any:
        return self.child(x)


XS = [torch.randn(3, generator=torch.Generator().manual_seed(k)) for k in range(4)]


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("cls", [Buffers, ReturnsOld, Shifts, ThenInPlace])
def test_is_state(cls: type[nn.Module], depth: int) -> None:
    model = cls().eval()
    for _ in range(depth):
        model = Parent(model).eval()
    check(model, "forward")


@pytest.mark.parametrize("cls", [Buffers, Shifts])
def test_is_state_in_other_methods(cls: type[nn.Module]) -> None:
    check(cls().eval(), "step")


def check(model: nn.Module, name: str) -> None:
    call = {"methods": {name: (XS[0],)}} if name != "forward" else {"args": (XS[0],)}
    graph = capture(model, **call).methods[name].graph
    eager, state = copy.deepcopy(model), {}
    for x in XS:
        want = pytree.tree_leaves(copy.deepcopy(getattr(eager, name)(x)))
        for g, w in zip(interpret(graph, [x.numpy()], state), want, strict=True):
            np.testing.assert_allclose(g, w.numpy(), rtol=1e-6)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize(
    ("cls", "wanted"),
    [
        (Become, "share memory"),
        (Grows, r"h to another buffer: it is a float32 \[3\] before and a float32 \[6\] after"),
        (FromNone, "it is None before"),
        (Swaps, "binds the submodule"),
        (Makes, "makes a buffer"),
    ],
)
def test_is_refused(cls: type[nn.Module], wanted: str, depth: int) -> None:
    model = Parent(cls()).eval() if depth else cls().eval()
    with pytest.raises(CaptureError, match=wanted):
        capture(model, (XS[0],))
