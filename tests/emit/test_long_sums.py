"""Sums of many terms are near to the exact ones, along lanes and across them, in every order of axes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import neve

SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "all": lambda x: x.sum(),
    "squares": lambda x: (x * x).mean(),
    "rows": lambda x: x.flatten(1).sum(1),
    "columns": lambda x: x.flatten(1).sum(0),
    "short rows": lambda x: x.reshape(-1, 4).mean((0, 1)),
    "the middle": lambda x: x.sum(1),
}


class Sums(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [f(x) for f in SUMS.values()]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("shape", [(3, 20_000, 4), (70_000, 2, 4)], ids=str)
def test_of_equal_terms(shape: tuple[int, ...], dynamic: bool) -> None:
    x = torch.full(shape, 0.1)
    shapes = ({0: Dim("n", min=1, max=70_000)},) if dynamic else None
    module = neve.compile(Sums(), (x,), dynamic_shapes=shapes, verify=False)
    for name, got, want in zip(SUMS, module(x), Sums()(x.double()), strict=True):
        error = ((torch.as_tensor(got).double() - want) / want).abs().max().item()
        assert error < 4e-6, f"{name}: {error:.1e}"
