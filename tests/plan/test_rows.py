"""Row fusion takes in what makes a norm's operand only if the nest computes, and reads, all of it row by row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.export import Dim

import neve

MODELS: dict[str, Callable[[Tensor], tuple[Tensor, ...]]] = {
    "a norm of some rows": lambda y: (F.rms_norm(y[:3], (6,)), y[3:], y.neg()),
    "a softmax of some columns": lambda y: (y[:, :2].softmax(-1), y[:, 1:]),
    "other rows beside the norm": lambda y: (y.flip(0) / (F.rms_norm(y, (6,)).abs() + 1),),
    "the row before": lambda y: (y.roll(1, 1) * F.layer_norm(y, (6,)),),
    "one row for all": lambda y: (y[:, :1] - F.layer_norm(y, (6,)),),
    "rows of two norms": lambda y: (F.rms_norm(y[1:], (6,)) + F.layer_norm(y[:-1], (6,)),),
}


class Rows(nn.Module):
    def __init__(self, f: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.f(F.silu(x))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_every_row_is_computed(name: str, dynamic: bool) -> None:
    model, x = Rows(MODELS[name]), torch.randn(5, 4, 3, 6)
    shapes = ({0: Dim("n", min=4, max=9)},) if dynamic else None
    module = neve.compile(model, (x,), dynamic_shapes=shapes, verify=False)
    for n in (4, 5, 9) if dynamic else (5,):
        x = torch.randn(n, 4, 3, 6)
        torch.testing.assert_close(tuple(map(torch.as_tensor, module(x))), model(x), rtol=1e-4, atol=1e-5)
