"""State that several names reach, or that overlaps: as in eager mode over any order of calls, or refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from neve.capture.export import capture
from neve.errors import CaptureError, InputError
from tests.capture.aliases import CASES, Expanded, Rows
from tests.interpreted import Interpreted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("how", ["eager", "script"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_calls_in_any_order_give_what_eager_gives(case: Any, how: str) -> None:
    torch.manual_seed(0)
    eager = case().eval()
    torch.manual_seed(0)
    model = case().eval()
    methods = [m for m in ("forward", "other", "third") if hasattr(case, m)]
    x = torch.randn(3)
    if how in case.refused:
        with pytest.raises((CaptureError, RuntimeError), match=case.refused[how]):
            capture(torch.jit.script(model) if how == "script" else model, methods=dict.fromkeys(methods, (x,)))
        return
    module = Interpreted(
        capture(torch.jit.script(model) if how == "script" else model, methods=dict.fromkeys(methods, (x,)))
    )
    order = random.Random(0)
    for name in [*methods, *methods, *(order.choice(methods) for _ in range(6))]:
        x = torch.randn(3)
        with torch.no_grad():
            wanted = pytree.tree_map(lambda t: t.clone(), getattr(eager, name)(x.clone()))
        torch.testing.assert_close(module.call(name, x), wanted, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("how", ["eager", "script"])
@pytest.mark.parametrize("preserved", [(), ("r",)])
def test_attributes_that_overlap_are_read_and_set_in_place(how: str, preserved: tuple[str, ...]) -> None:
    eager, model, x = Rows(), Rows(), torch.randn(3)
    source = torch.jit.script(model) if how == "script" else model
    module = Interpreted(capture(source, (x,), preserved_attrs=preserved))
    assert set(module.attributes) == {"m", "r", "c"}
    for _ in range(2):
        eager(x), module(x)
        torch.testing.assert_close(dict(module.attributes), {k: getattr(eager, k) for k in "mrc"})
        module.attributes["r"] = torch.full((3,), 7.0)
        module.attributes["c"][2] = -1.0
        eager.r.fill_(7.0)
        eager.c[2] = -1.0
    torch.testing.assert_close(module.attributes["m"], eager.m)


def test_an_attribute_that_repeats_elements_cannot_be_set() -> None:
    module = Interpreted(capture(Expanded(), (torch.ones(3),)))
    assert module.attributes["e"].shape == (4, 3)
    with pytest.raises(InputError, match="repeats elements"):
        module.attributes["e"] = torch.ones(4, 3)


class Nested(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.t, self.n = torch.zeros(3), 1
        self.nested = {"a": [torch.ones(3), 2], "b": [[1]]}

    def forward(self, x):
        self.t.add_(x)
        self.n += 1
        self.nested["a"][0].mul_(2)
        self.nested["a"][1] = 5
        self.nested["b"][0].append(7)
        return self.t * 1


def test_a_model_that_changes_itself_is_left_as_it_was() -> None:
    model = Nested()
    nested = model.nested["a"]
    with pytest.raises(CaptureError, match="nested is a dict"):
        capture(model, (torch.ones(3),))
    assert torch.equal(model.t, torch.zeros(3)) and model.n == 1
    assert model.nested["a"] is nested and torch.equal(nested[0], torch.ones(3)) and nested[1] == 2
    assert model.nested["b"] == [[1]]
