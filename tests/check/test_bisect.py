"""A defect that is planted into capture, a pass, a kernel or the plan is named: with its node, line and place in a
branch or loop.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neve
from neve.capture import aten
from neve.emit import functions
from neve.ops.base import REGISTRY
from neve.passes import pipeline
from neve.passes.rewrite import Exactness, Rewriter, rules_pass
from neve.plan import schedule


def planted(x: Tensor) -> Tensor:
    return torch.tanh(x) + 0.5  # the planted op


class Straight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(planted(self.before(x)))  # type: ignore[no-any-return]


class Stateful(Straight):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("h", torch.zeros(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.h.copy_(planted(self.before(x) + self.h))
        return self.after(self.h)  # type: ignore[no-any-return]


class Branch(Straight):
    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.cond(x.sum() > 100, lambda t: t * 2, planted, (self.before(x),)))  # type: ignore[no-any-return]


class Loop(Straight):
    def forward(self, x: Tensor) -> Tensor:
        def body(i: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return i + 1, planted(t)

        _, y = torch.while_loop(lambda i, t: i < 3, body, (torch.tensor(0), self.before(x)))
        return self.after(y)  # type: ignore[no-any-return]


def in_capture(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(aten.table(), torch.ops.aten.tanh.default, aten.table()[torch.ops.aten.sigmoid.default])


def in_a_pass(patch: pytest.MonkeyPatch) -> None:
    def rule(node: Any, rw: Rewriter) -> Any:
        return rw.emit(REGISTRY["sigmoid"](), *node.inputs) if node.op.name == "tanh" else None

    patch.setattr(pipeline, "PIPELINE", (*pipeline.PIPELINE, rules_pass("plant_a_defect", Exactness.EXACT, rule)))


def in_a_kernel(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(functions.FUNCTIONS, "tanh", functions.FUNCTIONS["sigmoid"])


@dataclass(frozen=True)
class Defect:
    plant: Callable[[pytest.MonkeyPatch], Any]
    says: str


DEFECTS = {
    "capture": Defect(in_capture, "capture: the graph differs"),
    "pass": Defect(in_a_pass, "the pass plant_a_defect"),
    "kernel": Defect(in_a_kernel, "the kernel of tanh"),
}


@pytest.mark.parametrize("model", [Straight, Stateful, Branch, Loop], ids=lambda m: m.__name__)
@pytest.mark.parametrize("stage", DEFECTS)
def test_a_planted_defect_is_named(stage: str, model: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    DEFECTS[stage].plant(monkeypatch)
    with pytest.raises(neve.VerifyError) as caught:
        neve.compile(model().eval(), (torch.randn(3, 4),), threads=1)
    step, place = caught.value.step, INSIDE.get((stage, model), "")
    assert step.startswith(DEFECTS[stage].says), step
    assert place in step
    if stage == "kernel":
        assert "tanh" in step
        line = re.search(r"test_bisect\.py:(\d+)", step)
        assert line is not None
        assert any(
            int(line[1]) in range(first, first + len(text))
            for text, first in map(inspect.getsourcelines, (model.forward, planted))
        )
    with np.load(caught.value.inputs) as stored:
        assert stored["x"].shape == (3, 4)


INSIDE = {
    ("capture", Straight): "first in the module after (Linear)",
    ("kernel", Branch): "in the else of %",
    ("kernel", Loop): "in iteration 0 of %",
}


def test_sizes_that_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_kernel(monkeypatch)
    t = torch.export.Dim("t", min=2, max=9)
    with pytest.raises(neve.VerifyError, match="the kernel of tanh"):
        neve.compile(Straight().eval(), (torch.randn(3, 4),), dynamic_shapes=[{0: t}], threads=1)


def test_the_plan_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps in the wrong order; in the right one when there are more, as with all values among the outputs."""
    monkeypatch.delenv("NEVE_CHECK_PLANS", raising=False)  # which would find it first
    plain = schedule.group_rows

    def swapped(*args: Any) -> Any:
        steps = plain(*args)
        return steps[::-1] if len(steps) == 2 else steps

    monkeypatch.setattr(schedule, "group_rows", swapped)
    with pytest.raises(neve.VerifyError) as caught:
        neve.compile(Straight().eval(), (torch.randn(3, 4),), threads=1)
    assert caught.value.step.startswith("the plan (%")
