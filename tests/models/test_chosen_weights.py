"""Layers whose weights are rows of a constant that the run chooses, by indices or by a size: none may be packed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.export import Dim

import neve

BY_INDEX: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linear": lambda w, x, i: F.linear(x, F.embedding(i, w)),
    "linear on masked rows": lambda w, x, i: F.linear(x, w[i % 3]),
    "matmul": lambda w, x, i: x @ w[i].t(),
    "batched": lambda w, x, i: torch.bmm(x[None], w[i][None].transpose(1, 2)),
    "convolution": lambda w, x, i: F.conv1d(x.t()[None], w[i][:, :, None]),
    "2d": lambda w, x, i: F.conv2d(x[None, None], w[i].reshape(5, 1, 4, 2)),
    "depthwise": lambda w, x, i: F.conv1d(x.t()[None], w[i].reshape(-1)[:24].reshape(8, 1, 3), groups=8),
    "transposed": lambda w, x, i: F.conv_transpose1d(x.t()[None], w[i].t()[:, :, None].contiguous()),
    "attention": lambda w, x, i: F.scaled_dot_product_attention(x[None], w[i][None], w[i][None]),
    "norm": lambda w, x, i: F.layer_norm(x, (8,), w[i][0], w[i][1]),
    "cell": lambda w, x, i: torch.gru_cell(x, x, w[i].repeat(5, 1)[:24], w[i].repeat(5, 1)[:24]),
}
BY_SIZE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": lambda w, x: F.linear(x, w[: x.shape[0]]),
    "matmul": lambda w, x: w[: x.shape[0]].t() @ x,
    "product": lambda w, x: x * w[: x.shape[0]],
    "convolution": lambda w, x: F.conv1d(x.t()[None], w[x.shape[0] : x.shape[0] + 1][:, :, None]),
    "one row": lambda w, x: F.linear(x, w[x.shape[0] - 1][None]),
}


class Chosen(nn.Module):
    def __init__(self, f: Callable[..., Tensor]) -> None:
        super().__init__()
        self.w, self.f = nn.Parameter(torch.randn(10, 8)), f

    def forward(self, *args: Tensor) -> Tensor:
        return self.f(self.w, *args)


@pytest.mark.parametrize("name", BY_INDEX)
def test_by_index(name: str) -> None:
    model = Chosen(BY_INDEX[name])
    x, rows = torch.randn(4, 8), torch.arange(5)
    module = neve.compile(model, (x, rows), verify=False)
    for i in (rows, torch.tensor([9, 0, 9, 3, 3]), torch.tensor([-1, 2, -10, 4, 4]) % 10):
        torch.testing.assert_close(torch.as_tensor(module(x, i)), model(x, i), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BY_SIZE)
def test_by_size(name: str) -> None:
    model = Chosen(BY_SIZE[name])
    x = torch.randn(9, 8)
    module = neve.compile(model, (x,), dynamic_shapes=(({0: Dim("n", min=1, max=9)},),), verify=False)
    for n in (1, 4, 9):
        torch.testing.assert_close(torch.as_tensor(module(x[:n])), model(x[:n]), rtol=1e-4, atol=1e-5)
