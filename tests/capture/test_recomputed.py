"""Weights that torch's own pre-hooks compute before each call: weight_norm, spectral_norm, prune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import neve
from neve.capture.export import capture
from neve.ir.interpret import interpret

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
X = torch.linspace(-1, 1, 16).reshape(2, 8)


def made() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.utils.weight_norm(nn.Linear(8, 6))
    second = nn.utils.spectral_norm(nn.Linear(6, 6))
    third = nn.Linear(6, 4)
    prune.l1_unstructured(third, "weight", 0.5)
    prune.random_unstructured(third, "weight", 0.3)
    model = nn.Sequential(first, second, third).eval()
    with torch.no_grad():
        first.weight_g *= 3  # so that the weights that the modules hold are not those of the next call
        second.weight_orig *= torch.linspace(1, 2, 6)
        third.weight_orig += 1
    return model


def test_computed_in_each_call(tmp_path: Path) -> None:
    model = made()
    held = [m.weight for m in model]
    capture(model, (X,))
    assert all(m.weight is w and type(m) is nn.Linear for m, w in zip(model, held, strict=True))
    module = neve.compile(model, (X,), threads=1)
    module.save(tmp_path / "model.neve")
    for x in (X, -2 * X):
        want = model(x).detach().numpy()
        for got in (module(x), neve.load(tmp_path / "model.neve")(x)):
            np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5, atol=1e-5)


class Reads(nn.Module):
    """Reads the weight of the call before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.utils.weight_norm(nn.Linear(8, 8))

    def forward(self, x):
        before = self.inner.weight.sum()
        return self.inner(x) + before


class Adds(Reads):
    """Changes the weight in place and never computes it."""

    def forward(self, x):
        self.inner.weight.add_(1)
        return x @ self.inner.weight


class Peeks(Reads):
    def forward(self, x):
        before = vars(self.inner)["weight"].sum()
        return self.inner(x) + before


class Uses(Reads):
    """A weight that no call computes is the one that is there."""

    def forward(self, x):
        return x @ self.inner.weight


@pytest.mark.parametrize("cls", [Reads, Adds, Peeks])
def test_what_a_call_reads_first_is_state(cls: Any) -> None:
    with torch.no_grad():
        model = cls().eval()
    with pytest.raises(neve.CaptureError, match="weight"):
        capture(model, (X,))


def test_never_computed() -> None:
    model = Uses().eval()
    with torch.no_grad():
        model.inner.weight_g *= 3
        (got,) = interpret(capture(model, (X,)).methods["forward"].graph, [X.numpy()])
        np.testing.assert_allclose(got, model(X).numpy(), rtol=1e-5, atol=1e-5)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.utils.weight_norm(nn.Linear(8, 8))

    def forward(self, x):
        if x.sum() > 0:
            return self.inner(x)
        return x


def test_a_hook_that_torch_jit_does_not_compile() -> None:
    with torch.no_grad():
        model = Branches().eval()
    with pytest.raises(neve.CaptureError, match="remove_weight_norm"):
        capture(model, (X,))
