"""Distances between rows, in the way that eager takes for few and for many of them."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

import neve
from neve.errors import CaptureError


class Distances(torch.nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.cdist(a, b, p=self.p)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("limits", [(1, 25), (26, 60)])
def test_cdist_over_a_range_of_rows(p: float, limits: tuple[int, int]) -> None:
    n = Dim("n", min=limits[0], max=limits[1])
    model = Distances(p)
    b = torch.randn(2, 7, 3)
    module = neve.compile(model, (torch.randn(2, limits[1], 3), b), dynamic_shapes=({1: n}, None), verify=False)
    for rows in limits:
        a = torch.cat([torch.randn(2, rows - 1, 3), b[:, :1]], 1)  # a row of each that is equal
        torch.testing.assert_close(module(a, b), model(a, b), rtol=1e-4, atol=2e-3 if p == 2 else 1e-5)


def test_a_range_over_which_eager_changes_its_way_is_refused() -> None:
    args = torch.randn(8, 3), torch.randn(8, 3)
    with pytest.raises(CaptureError, match="max=25"):
        neve.compile(Distances(2.0), args, dynamic_shapes=({0: Dim("n", min=1, max=99)}, None))
