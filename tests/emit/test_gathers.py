"""Reads at positions that data give, in vectors whose integers have 32 bits, give eager's bits on every x86-64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neve.build.target import AVX2, AVX512, X86_64, Target, runs_here
from neve.build.toolchain import build
from neve.capture.export import capture
from neve.emit import forms
from neve.emit.program import emit
from neve.passes.pipeline import optimize
from neve.runtime.loader import open_library
from tests.emit.programs import FAST

WIDTH, COUNT = 41, 77
"""The table's rows are WIDTH long; COUNT positions, no multiple of the lanes."""
EDGES = [0, -1, 1, 40, 41, -41, -42]
EDGES += [s * (2**b + d) for b in (30, 31, 32, 62) for s in (1, -1) for d in (-1, 0, 1)] + [2**63 - 1, -(2**63)]
FLOATS = [float("nan"), float("inf"), -float("inf"), -0.5, 0.999, 40.5, 1e9, -1e9, 2.0**31, -(2.0**31), 2.0**63, -1e30]


class Positions(nn.Module):
    """One read for each way in which positions are calculated."""

    def forward(self, x: torch.Tensor, i: torch.Tensor, f: torch.Tensor) -> dict[str, torch.Tensor]:
        flat, last, j = x.flatten(), WIDTH - 1, torch.arange(COUNT)
        clamped, three = i.clamp(0, last), (i.to(torch.uint8) % 3).long()
        return {
            "gather": x.gather(1, clamped),
            "along the other axis": x.t().contiguous().gather(0, clamped.t()),
            "from both ends": flat[i.clamp(-WIDTH, last)],
            "two": x[three.clamp(0, 2), clamped],
            "with the lane": x.repeat(1, 2)[three.clamp(max=2), j],
            "arithmetic": flat[clamped * 3 + three.clamp(0, 2) - 0],
            "wraps around": flat[(i + 1).clamp(0, last)],
            "chosen": flat[torch.where(i < 7, 7, torch.where(i > 30, 30, i))],
            "compared": torch.where(i >= 2**31, x[:, :1], x[:, 1:2]),
            "of floats": flat[f.long().clamp(0, last)],
            "of floats, 32 bits": flat[f.int().clamp(0, last)],
            "32 bits": flat[i.int().clamp(0, last)],
            "bytes": flat[i.to(torch.uint8).int()[:, ::2] % 64],
            "backwards": flat[clamped.flip(1)],
            "cut": f.int(),
            "cut to 64 bits": f.long(),
            "cut to bytes": (f * 3).nan_to_num().clamp(0, 255).to(torch.uint8),
            "sums": flat[clamped].sum(1),
        }


@pytest.mark.parametrize("target", [AVX512, AVX2, X86_64], ids=lambda t: t.name)
def test_positions(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    if runs_here(target):
        pytest.skip(runs_here(target))
    monkeypatch.setattr(forms, "PAYS", 0)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, WIDTH, generator=random)
    i = torch.randint(-60, 60, (3, COUNT), generator=random)
    i.flatten()[torch.randperm(3 * COUNT, generator=random)[: 4 * len(EDGES)]] = torch.tensor(EDGES * 4)
    f = torch.randn(3, COUNT, generator=random) * 30
    f.flatten()[torch.randperm(3 * COUNT, generator=random)[: 4 * len(FLOATS)]] = torch.tensor(FLOATS * 4)
    model = Positions()
    program, _ = optimize(capture(model, (x, i, f)))
    source = emit(program, target, "positions", 1).source
    library = build(source, target, extra=FAST)
    module = open_library(library.path, source.signature, source.weights, 1)
    for name, wanted in model(x, i, f).items():
        got = module(x, i, f)[name]
        tolerance = 1e-5 if name == "sums" else 0
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance, msg=name)
    vectors = sum(source.files["positions.c"].count(f"{read}(") for read in ("vgather", "vread"))
    assert vectors >= 10
