"""explain_state: folded, kept or unused, why, and the line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import neve
from tests.frozen import models
from tests.frozen.models import Counter, Outer

X = torch.randn(2, 3)


def line(text: str) -> str:
    """The place of the first line of models.py with that text."""
    with open(models.__file__) as file:
        return f"tests/frozen/models.py:{next(i for i, t in enumerate(file, 1) if text in t)}"


READ, ADDED = line("self.linear(x) * self.scale + self.total"), line("self.total += x.sum(0)")


@pytest.mark.parametrize("scripted", [False, True])
def test_fates_follow_the_methods_that_are_kept(scripted: bool) -> None:
    model: Any = torch.jit.script(Counter()) if scripted else Counter()
    alone = neve.explain_state(model, example_inputs=(X,))
    fates = {f.path: f.fate for f in alone if f.path in ("total", "scale", "title", "linear.weight", "linear.bias")}
    assert fates == dict.fromkeys(("total", "scale", "linear.weight", "linear.bias"), "folded") | {"title": "unused"}
    assert alone["total"].where == alone["linear.weight"].where == READ
    both = neve.explain_state(model, example_inputs={"forward": (X,), "step": (X,)})
    assert (both["total"].fate, both["total"].why, both["total"].where) == ("kept", "written by step", ADDED)
    assert f"total: kept, written by step  ({ADDED})" in str(both).splitlines()
    assert both[0] in list(both) and len(both) == len(alone)
    with pytest.raises(KeyError, match="no attribute 'nope'"):
        both["nope"]


def test_a_frozen_module_is_explained_with_its_own_calls() -> None:
    frozen = neve.freeze(Outer().eval(), ["inner.step", "inner.scale", "choice"])
    with pytest.raises(neve.FreezeError, match="give example_inputs"):
        neve.explain_state(frozen)
    frozen(X)
    frozen.inner.step(X)
    found = neve.explain_state(frozen)
    assert found["inner.total"].why == "written by inner.step"
    assert found["inner.scale"].why == found["choice"].why == "preserved by name: calls read it"
    assert found["inner.linear.bias"].fate == "folded" and found["inner.title"].fate == "unused"


def test_tied_unused_and_inner_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.extra = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.gru, self.table = nn.GRU(3, 3), {"a": torch.ones(3)}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.gru(x)[0]) + self.table["a"]

    found = neve.explain_state(Tied(), example_inputs=(X,))
    folded = {f.path for f in found if f.fate == "folded"}
    assert {"first.weight", "second.weight", "second.bias", "gru.weight_ih_l0", "table"} <= folded
    assert {found[p].fate for p in ("first.bias", "extra.weight", "extra.bias")} == {"unused"}
