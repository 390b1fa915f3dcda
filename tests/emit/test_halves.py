"""Models of several types: autocast inside of a model, halves beside float32; and what the weights of halves take."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import neve
from neve.build.target import AVX512
from neve.capture.export import capture
from neve.emit.program import emit
from neve.passes.pipeline import optimize

HALVES = (torch.float16, torch.bfloat16)


class Mixed(nn.Module):
    """Layers under autocast, some of them switched back to float32, then an embedding and a layer kept in halves."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.conv, self.deep = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm, self.point = nn.BatchNorm2d(16), nn.Conv2d(16, 40, 1)
        self.first, self.layer_norm, self.last = nn.Linear(40, 33), nn.LayerNorm(33), nn.Linear(33, 40)
        self.table, self.narrow = nn.Embedding(11, 40, dtype=dtype), nn.Linear(40, 24, dtype=dtype)

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", dtype=self.dtype):
            y = F.silu(self.deep(F.relu(self.norm(self.conv(x)))))
            y = self.point(F.max_pool2d(y, 3, 2, 1)).flatten(2).mT
            with torch.autocast("cpu", enabled=False):
                mean = y.float().mean(1)
            y = self.last(self.layer_norm(self.first(y)))
            y = F.scaled_dot_product_attention(y[:, None], y[:, None], y[:, None])
        z = self.narrow(self.table(i))
        return y, mean, z, z.float() @ self.narrow.weight.float()


@pytest.mark.parametrize("dtype", HALVES)
def test_mixed(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Mixed(dtype).eval()
    x = torch.randn(2, 3, 9, 11), torch.randint(0, 11, (2, 30))
    with torch.no_grad():
        wanted = model(*x)
        got = neve.compile(model, x, threads=1, verify=False)(*x)
    unit = torch.finfo(dtype).eps
    for w, g in zip(wanted, got, strict=True):
        assert g.dtype is w.dtype
        torch.testing.assert_close(g.float(), w.float(), atol=4 * unit * float(w.abs().max()), rtol=0)


class Weighty(nn.Module):
    """Every kernel that keeps its weights as they are: convolutions of both layouts, products, recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.next = nn.Conv2d(3, 64, 4, 4), nn.Conv2d(64, 96, 2, 2)
        self.steps, self.out = nn.GRU(96, 64, batch_first=True), nn.Linear(64, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.steps(self.next(self.patches(x)).flatten(2).mT)[0])


def packed_bytes(dtype: torch.dtype) -> int:
    program = optimize(capture(Weighty().eval().to(dtype), (torch.randn(1, 3, 16, 16, dtype=dtype),)))[0]
    return int(emit(program, AVX512, "weights").source.weights.nbytes)


def test_weights_stay_halves() -> None:
    full = packed_bytes(torch.float32)
    for dtype in HALVES:
        assert packed_bytes(dtype) < 0.52 * full
