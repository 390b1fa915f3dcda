"""Structured pruners: the shrunk model computes what the masked one computed, and its layers are really smaller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from neve import sparsity


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 24, 3)
        self.back = nn.Conv2d(24, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        y = self.back(torch.relu(self.inner(x)))
        out: torch.Tensor = self.head((x[:, :, 1:-1, 1:-1] + y).mean((2, 3)))
        return out


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, batch_first=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.lstm(x)[0])
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.Sigmoid(), nn.Dropout(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))


CASES: dict[str, tuple[Callable[[], nn.Module], Any, list[str], tuple[int, ...], str, int]] = {
    "mlp_saliency": (mlp, sparsity.SaliencyPruner, ["0.weight", "3.weight"], (5, 8), "0", 16),
    "mlp_fpgm": (mlp, sparsity.FPGMPruner, ["0.weight"], (5, 8), "0", 16),
    "residual": (Residual, sparsity.SaliencyPruner, ["inner.weight"], (2, 3, 9, 9), "inner", 12),
    "lstm": (Recurrent, sparsity.LSTMSaliencyPruner, ["lstm.weight_ih_l0", "lstm.weight_hh_l0"], (2, 7, 6), "lstm", 5),
}


def size(layer: nn.Module) -> int:
    found = next(getattr(layer, n) for n in ("hidden_size", "out_channels", "out_features") if hasattr(layer, n))
    return int(found)


@pytest.mark.parametrize("case", sorted(CASES))
def test_pruned_layers_shrink_and_the_results_stay(case: str) -> None:
    torch.manual_seed(0)
    make, pruner_class, names, shape, layer, left = CASES[case]
    model, x = make().eval(), torch.randn(shape)
    if isinstance(model, Residual):
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2)
    plain = model(x).detach()
    pruner = pruner_class({"sparsity_level": 0.5} if pruner_class is not sparsity.FPGMPruner else 0.5)
    pruner.prepare(model, [{"tensor_fqn": name} for name in names])
    pruner.step()
    masked = model(x).detach()
    assert not torch.allclose(masked, plain, atol=1e-3)
    pruned = pruner.prune((x,))
    torch.testing.assert_close(pruned(x), masked, atol=1e-5, rtol=1e-4)
    assert size(pruned.get_submodule(layer)) == left
    assert not any("parametrizations" in name for name, _ in pruned.named_parameters())


def test_a_row_that_meets_an_unpruned_one_stays_and_is_told() -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(2, 3, 9, 9)
    pruner = sparsity.SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(model, [{"tensor_fqn": "back.weight"}])
    pruner.step()
    masked = model(x).detach()
    with pytest.warns(UserWarning, match="pruned rows that stay"):
        pruned = pruner.prune((x,))
    torch.testing.assert_close(pruned(x), masked, atol=1e-5, rtol=1e-4)
    assert size(pruned.get_submodule("back")) == 16
