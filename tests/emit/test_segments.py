"""Loops that are cut where a guard changes along them give eager's bits, wherever the cut is in the row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.export import Dim

from neve.build.target import native
from neve.build.toolchain import build
from neve.capture.export import capture
from neve.emit.program import emit
from neve.passes.pipeline import optimize
from neve.runtime.loader import open_library
from tests.emit.programs import FAST


class Guarded(nn.Module):
    """One guard along a row for each kind: at its ends, inside of it, one that moves from row to row, several.

    fixed says that no size is a symbol, as a roll wants it.
    """

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, x: torch.Tensor, i: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "zeros": F.pad(x, (1, 2)),
            "cropped at one end": F.pad(x, (-2, 20)),
            "both axes": F.pad(x[None, None], (3, 1, 1, 2), value=-1.0),
            "reflected": F.pad(x[None], (5, 4), mode="reflect"),
            "from behind": F.pad(x, (3, 18)).flip(1),
            "edge": F.pad(x[None, None], (17, 3, 2, 0), mode="replicate"),
            "around": F.pad(x[None], (2, 3), mode="circular"),
            "rolled": x.roll((1, -7), (0, 1)) if self.fixed else x + 1,
            "below": x.tril(-1) + x.triu(3),
            "diagonal": torch.diag_embed(x, 1) * 2,
            "integers": F.pad(i, (4, 1), value=7),
            "rows of sums": F.pad(x.sum(1, keepdim=True) + x, (18, 1)),
            "halves": F.pad(x.half(), (1, 16)),
        }


@pytest.mark.parametrize("widths", [(7,), (61,), (8, 16, 45)], ids=str)
def test_segments(widths: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    inputs = [(torch.randn(11, w, generator=random), torch.randint(9, (11, w), generator=random)) for w in widths]
    width, model = {1: Dim("w", min=8, max=64)}, Guarded(len(widths) == 1)
    shapes = {"x": width, "i": width} if len(widths) > 1 else None
    program, _ = optimize(capture(model, inputs[-1], dynamic_shapes=shapes))
    source = emit(program, native(), "segments", 1).source
    library = build(source, extra=FAST)
    module = open_library(library.path, source.signature, source.weights, 1)
    for x, i in inputs:
        got = module(x, i)
        for name, wanted in model(x, i).items():
            tolerance = 1e-5 if "sums" in name else 0
            torch.testing.assert_close(got[name], wanted, rtol=0, atol=tolerance, msg=f"{name} of {x.shape[1]}")
