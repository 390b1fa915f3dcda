"""Reductions that are no vectors of float32, along every axis of rows longer than a block, give eager's values."""

from __future__ import annotations

import torch
from torch import nn

from neve.build.target import native
from neve.build.toolchain import build
from neve.capture.export import capture
from neve.emit.program import emit
from neve.passes.pipeline import optimize
from neve.runtime.loader import open_library
from tests.emit.programs import FAST

KINDS = {"sum": torch.sum, "amax": torch.amax, "amin": torch.amin, "any": torch.any, "all": torch.all}
CASES = [
    *[(kind, axes, dtype) for kind in ("sum", "amax") for axes in (0, (0, 1), 2) for dtype in ("float64", "int64")],
    *[("amin", 1, dtype) for dtype in ("float64", "int32", "uint8")],
    *[(kind, axis, "bool") for kind in ("any", "all", "sum") for axis in (0, 2)],
    *[("amax", 2, "float32"), ("sum", 2, "float32"), ("amax", (0, 2), "float32")],
]


class Reduced(nn.Module):
    def forward(self, x: torch.Tensor, short: torch.Tensor) -> list[torch.Tensor]:
        whole = x.nan_to_num(3.0)
        found = [KINDS[k]((x if d.startswith("float") else whole).to(getattr(torch, d)), axes) for k, axes, d in CASES]
        return [*found, short.amax(-1), short.sum(-1), short.double().amax(-1)]


def test_reductions() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randint(-1, 90, (4, 3, 530), generator=random) * (torch.rand(4, 3, 530, generator=random) > 0.7)
    x = x.float()
    x[1, 2, 7] = float("nan")
    short = torch.randn(40, 3, generator=random)
    model = Reduced()
    program, _ = optimize(capture(model, (x, short)))
    source = emit(program, native(), "reduced", 1).source
    module = open_library(build(source, extra=FAST).path, source.signature, source.weights, 1)
    for case, got, wanted in zip([*CASES, "max", "sum", "wide"], module(x, short), model(x, short), strict=True):
        torch.testing.assert_close(got, wanted, equal_nan=True, msg=str(case))
