"""How far a compiled module may be from the original: by the least precise dtype that an output is computed in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neve.capture.export import capture
from neve.check.verify import TOLERANCE, computed_in, tolerance
from neve.passes.pipeline import optimize


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide, self.low = nn.Linear(3, 3), nn.Linear(3, 3).double(), nn.Linear(3, 3).bfloat16()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        wide = self.wide(x.double())
        return self.narrow(x).double() * 2, wide, self.low(x.bfloat16()).float(), wide.argmax(-1), x

    def branch(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda t: self.low(t.bfloat16()).float(), lambda t: t + 1, (x,))


def test_computed_in() -> None:
    x = torch.randn(2, 3)
    program, _ = optimize(capture(Mixed().eval(), (x,), methods={"branch": (x,)}))
    assert computed_in(program.methods["forward"].graph) == ["float32", "float64", "bfloat16", "float64", ""]
    assert computed_in(program.methods["branch"].graph) == ["bfloat16"]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tolerance_is_that_of_the_less_precise(dtype: str) -> None:
    assert tolerance(dtype) == tolerance(dtype, "float64") == TOLERANCE[dtype]
    assert tolerance(dtype, "bfloat16") == TOLERANCE["bfloat16"]
    assert tolerance("int64", dtype) == 0.0
