"""Weights that the call computes: packed by its own steps, each time that they change."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import neve


class Computed(nn.Module):
    """A weight that is a sum and read twice; one of a branch and what follows; one that a loop changes; state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.randn(12, 12, 3, 3))

    def forward(self, x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        merged = w + (a @ b).reshape(w.shape)
        y = functional.conv2d(functional.conv2d(x, merged, padding=1).relu(), merged, padding=1)
        up = functional.conv_transpose2d(x, w.flip(2).transpose(0, 1), stride=2)
        z = functional.conv2d(x, self.kept, padding=1)
        self.kept.mul_(0.5)

        def again(k: Tensor, v: Tensor, y: Tensor) -> Tensor:
            return k < 3

        def turn(k: Tensor, v: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return k + 1, v * 0.5 + 0.01, functional.conv2d(y, v, padding=1)

        _, v, looped = torch.while_loop(again, turn, (torch.tensor(0), w * 0.1, x))
        given = w * 1.5
        side = torch.cond(x.sum() > 1e9, lambda x, w: convolved(x, w).sum(), lambda x, w: x.sum(), (x, given))
        return y, up, z, functional.conv2d(x, self.kept, padding=1), v, looped, side, convolved(x, given)


def convolved(x: Tensor, w: Tensor) -> Tensor:
    return functional.conv2d(x, w, padding=1)


def test_weights_that_the_call_computes() -> None:
    torch.manual_seed(0)
    model = Computed().eval()
    x, w, a, b = (
        torch.randn(1, 12, 7, 9),
        torch.randn(12, 12, 3, 3) * 0.1,
        torch.randn(12, 2),
        torch.randn(2, 108) * 0.1,
    )
    compiled = neve.compile(model, (x, w, a, b), verify=False)
    for _ in range(2):
        want = model(x, w, a, b)
        for got, y in zip(compiled(x, w, a, b), want, strict=True):
            torch.testing.assert_close(torch.as_tensor(got), y, rtol=1e-4, atol=1e-4)
