"""Products of float64 whose results the kernel's store makes something else of: other types, masks, mixed operands."""

from __future__ import annotations

import torch
from torch import nn

import neve


class Stores(nn.Module):
    """One product for each form of a store; the columns fill vectors, and leave some over."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(33, 21, dtype=torch.float64) for _ in range(8))

    def forward(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a = [layer(x) for layer in self.layers]
        return (
            a[0],
            a[1].float(),
            (a[2].float() * 3).relu(),
            a[3].bfloat16(),
            (a[4] * 10).long(),
            a[5] > y,
            a[6] + y,
            torch.tanh(a[7]).transpose(0, 1).contiguous(),
            x @ w,
            (x @ w[:, ::2]).half(),
        )


def test_stores() -> None:
    torch.manual_seed(0)
    model, x = Stores().eval(), torch.randn(5, 33, dtype=torch.float64)
    inputs = x, torch.randn(5, 21), torch.randn(33, 40, dtype=torch.float64)
    with torch.no_grad():
        wanted = model(*inputs)
    made = neve.compile(model, inputs, threads=1, verify=False)
    terms = x.shape[1]
    order = terms * torch.finfo(torch.float64).eps * float((x.abs() @ inputs[2].abs()).max())  # of any two orders
    sites = made.artifact.extra["calls"]["forward"]
    assert sum("gemm" in s["label"] for s in sites) == len(wanted)
    for w, g in zip(wanted, made(*inputs), strict=True):
        assert g.dtype is w.dtype
        unit = torch.finfo(w.dtype).eps if w.dtype.is_floating_point else 0
        torch.testing.assert_close(g.double(), w.double(), atol=order if unit else 0, rtol=unit)
