"""x.data: read, written into, assigned; against eager, state included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neve
from neve.capture.export import capture

X = torch.linspace(-1, 1, 6).reshape(2, 3)


class Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))
        self.register_buffer("b", torch.ones(3))


class Weight(Root):
    def forward(self, x):
        self.w.data.add_(x.data.sum(0))
        return x * self.w


class Buffer(Root):
    def forward(self, x):
        old = self.b.data
        self.b.data[0] += 2
        old.mul_(self.w.data + 1)
        return x * self.b, old.clone()


class Between(Root):
    def forward(self, x):
        y = x * 2
        y[:, 0].data.fill_(7)
        return y + self.w.data


class Assigned(Root):
    def forward(self, x):
        self.w.data = self.w.data + x.sum()
        return x * self.w


@pytest.mark.parametrize("cls", [Weight, Buffer, Between])
def test_as_in_eager(cls: type[nn.Module]) -> None:
    module, eager = neve.compile(cls().eval(), (X,), threads=1), cls().eval()
    with torch.no_grad():
        for x in (X, -X, X + 1):
            for got, want in zip([*module(x)], [*eager(x)], strict=True):
                np.testing.assert_allclose(np.asarray(got), want.numpy(), rtol=1e-6, atol=1e-6)


def test_assigned() -> None:
    model = Assigned().eval()
    with pytest.raises(neve.CaptureError, match=r"copy_.*test_data_attribute.py:\d+: self.w.data = self.w.data"):
        capture(model, (X,))
    assert torch.equal(model.w, torch.ones(3))
