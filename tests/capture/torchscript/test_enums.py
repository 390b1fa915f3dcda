"""Enumerations in archives (attributes, defaults, lists, comparison, choice by the run), against torch.jit."""

from __future__ import annotations

import enum

import pytest
import torch
from torch import nn

from neve.capture.export import capture
from neve.errors import CaptureError
from tests.capture.torchscript.compared import as_torch_jit, scripted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.tensor([1.0, 0.5, -0.2])


class Mode(enum.Enum):
    A = 1
    B = 2


class Name(enum.Enum):
    X = "x"
    Y = "y"


class Scale(enum.Enum):
    LOW = 0.5
    HIGH = 1.5


class Known(nn.Module):
    def __init__(self):
        super().__init__()
        self.mode, self.modes, self.pair = Mode.A, [Mode.A, Mode.B], (Name.X, 2)

    def forward(self, x, m: Mode = Mode.B, k: Name = Name.X):
        if self.mode == Mode.A and m != Mode.A:
            x = x * 2
        if k.value == "x" and m.name == "B":
            x = x + 1
        for q in Mode:
            x = x + q.value
        for q in [Name.X, Name.Y]:
            if q == k:
                x = x + 3
        for q in self.modes:
            x = x * q.value
        if self.pair[0] == Name.X and k is not Name.Y:
            x = x - self.pair[1]
        return x * Scale.HIGH.value if Scale.LOW.value < 1 else x


class Chosen(nn.Module):
    def forward(self, x):
        m = Mode.A
        if bool(x.sum() > 0):
            m = Mode.B
        return x * 2 if m == Mode.A else x * m.value


class State(nn.Module):
    def __init__(self):
        super().__init__()
        self.mode = Mode.A

    def forward(self, x):
        if self.mode == Mode.A:
            self.mode = Mode.B
            return x * 2
        self.mode = Mode.A
        return x


class ByIdentity(nn.Module):
    """torch makes a copy of a member for each place, so that `is` is false of equal ones."""

    def forward(self, x, m: Mode = Mode.B):
        return x * 2 if m is Mode.B else x


@pytest.mark.parametrize("model", [Known(), Chosen()], ids=lambda m: type(m).__name__)
def test_members_are_as_in_torch_jit(model: nn.Module) -> None:
    as_torch_jit(model, (X,), [(X,), (-X,)])


def test_a_member_is_state() -> None:
    assert len(capture(scripted(State()), (X,)).state) == 1


def test_identity_of_members_is_refused() -> None:
    with pytest.raises(CaptureError, match="are one"):
        capture(scripted(ByIdentity()), (X,))
