"""Code is kept for each form of call; state and settings go from one to the other."""

from __future__ import annotations

import copy
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neve
from neve.frozen import specialise
from tests.familiar.state import Remembers
from tests.frozen.models import Block, Counter, Outer, close


def test_any_form_of_call_that_the_model_takes() -> None:
    model = Block().eval()
    frozen = neve.freeze(model)
    for shape in ((2, 3, 8, 8), (1, 3, 5, 9), (0, 3, 8, 8)):
        x = torch.randn(shape)
        for given in (x, x.clone().requires_grad_(), x.mT.contiguous().mT):
            close(frozen(given), model(given))
    assert frozen.specialisations == [f"forward(float32{list(s)})" for s in ((2, 3, 8, 8), (1, 3, 5, 9), (0, 3, 8, 8))]
    close(frozen(x=x), model(x))


@pytest.mark.parametrize("scripted", [False, True])
def test_what_a_method_writes_reaches_every_specialisation(scripted: bool) -> None:
    model = Counter().eval()
    eager: Any = copy.deepcopy(model)
    frozen = neve.freeze(torch.jit.script(model) if scripted else model, ["step", "get"])
    x = torch.randn(2, 3)
    close(frozen(x), eager(x))  # compiled before it is known that the buffer is written
    for given in (x, x[:1], x):
        close(frozen.step(given), eager.step(given))
        close(frozen(given), eager(given))
        close(frozen.get(), eager.get())
    assert not model.total.any()


def test_a_setting_is_read_at_each_call() -> None:
    model = Outer().eval()
    frozen, eager = neve.freeze(model, ["inner", "choice"]), copy.deepcopy(model)
    x = torch.randn(2, 3)
    weight = frozen.inner.linear.weight
    for change in ("none", "number", "tensor", "in place", "string", "string again"):
        if change == "number":
            frozen.inner.scale = eager.inner.scale = 0.5
        elif change == "tensor":
            frozen.inner.total = torch.ones(3)
            eager.inner.total = torch.ones(3)
        elif change == "in place":
            weight.mul_(3)
            eager.inner.linear.weight.data.mul_(3)
        elif change.startswith("string"):
            frozen.choice = eager.choice = "minus" if change == "string" else "plus"
        close(frozen(x), eager(x))
        close(frozen.inner(x[:1]), eager.inner(x[:1]))
    close(frozen.inner.step(x), eager.inner.step(x))
    close(frozen.inner.total, eager.inner.total)
    close(frozen(x), eager(x))
    assert model.inner.scale == 2.0 and model.choice == "plus" and not model.inner.total.any()
    with pytest.raises(RuntimeError, match="got str, wanted float"):
        frozen.inner.scale = "much"


@pytest.mark.parametrize("scripted", [False, True])
def test_entries_of_lists_and_dicts_are_carried_and_saved(scripted: bool, tmp_path: Path) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entries, self.named = [1, 2], {"a": torch.zeros(1)}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.entries[0] += self.entries[1]
            self.named["a"].add_(x.sum())
            return x * self.entries[0] + self.named["a"]

    model = Counts().eval()
    eager, frozen = copy.deepcopy(model), neve.freeze(torch.jit.script(model) if scripted else model)
    for rows in (1, 2, 1, 2):
        x = torch.randn(rows, 3)
        close(frozen(x), eager(x))
    frozen.save(tmp_path / "m.neve")
    again = neve.freeze(frozen)
    close(neve.load(tmp_path / "m.neve")(x), frozen(x))
    close(again(x), eager(x))


@pytest.mark.parametrize("scripted", [False, True])
def test_state_of_changing_form_stays_with_one_form_of_call(scripted: bool) -> None:
    model = Remembers().eval()
    eager, frozen = copy.deepcopy(model), neve.freeze(torch.jit.script(model) if scripted else model)
    for x in (torch.ones(3), torch.randn(3), torch.randn(3)):
        close(frozen(x), eager(x))
    for refused in (lambda: frozen(torch.ones(5)), lambda: neve.freeze(frozen), lambda: frozen.save("m.neve")):
        with pytest.raises(neve.FreezeError, match="type or size changes from call to call"):
            refused()


def test_tied_settings_stay_one_tensor() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(3, 3) for _ in range(3))
            self.b.weight = self.c.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x) * self.b(x) + self.c(x)

    model, x = Tied().eval(), torch.randn(2, 3)
    frozen = neve.freeze(model, ["a", "b.weight"])
    close(frozen(x), model(x))
    for path in ("a", "b"):
        getattr(frozen, path).weight.add_(1)
        model.a.weight.data.add_(1)
        close(frozen(x), model(x))
    with pytest.raises(neve.FreezeError, match=r"a.weight shares memory with b.weight, c.weight"):
        frozen.a.weight = torch.ones(3, 3)
    frozen.a.bias = torch.ones(3)
    model.a.bias.data.fill_(1)
    close(frozen(x), model(x))


def test_numbers_that_are_compiled_in_get_code_of_their_own() -> None:
    class Repeat(nn.Module):
        def forward(self, x: torch.Tensor, times: int, scale: float = 1.0) -> torch.Tensor:
            return x.repeat(times, 1) * scale

    model = Repeat()
    frozen, x = neve.freeze(model.eval()), torch.randn(1, 3)
    for times in (2, 0, 3, 2):
        close(frozen(x, times), model(x, times))
        close(frozen(x, times, 2.0), model(x, times, 2.0))


def test_a_setting_that_a_size_depends_on_gets_code_of_its_own() -> None:
    class Repeat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.times, self.scale = 2, torch.ones(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.expand(self.times, 3) * self.scale

    model = Repeat()
    frozen, x = neve.freeze(model.eval(), ["times", "scale"]), torch.randn(1, 3)
    for times in (2, 4, 1, 4):
        frozen.times = model.times = times
        frozen.scale.fill_(times)
        model.scale.fill_(times)
        close(frozen(x), model(x))
    assert len(frozen.specialisations) == 3


def test_the_least_recently_used_goes_with_its_state_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specialise, "MOST", 2)
    model = Counter().eval()
    eager, frozen = copy.deepcopy(model), neve.freeze(model, ["step"])
    for rows in (1, 2, 1, 3, 2):
        x = torch.randn(rows, 3)
        close(frozen.step(x), eager.step(x))
    assert frozen.specialisations == ["step(float32[3, 3])", "step(float32[2, 3])"]
    monkeypatch.setattr(specialise, "MOST_BYTES", 0)
    close(frozen.step(torch.ones(4, 3)), eager.step(torch.ones(4, 3)))
    assert frozen.specialisations == ["step(float32[4, 3])"]


def test_errors_are_those_of_the_model() -> None:
    model = Block().eval()
    frozen = neve.freeze(model)
    for wrong in ((torch.randn(1, 4, 8, 8),), (torch.randn(1, 3, 8, 8).double(),), (), (None,), ("text",)):
        with pytest.raises(Exception) as told:  # noqa: PT011
            model(*wrong)
        with pytest.raises(told.type) as found:
            frozen(*wrong)
        assert str(found.value).splitlines()[0] == str(told.value).splitlines()[0]
    assert frozen.specialisations == []


def test_the_first_call_says_that_it_compiles(caplog: pytest.LogCaptureFixture) -> None:
    model = Counter().eval()
    with caplog.at_level(logging.WARNING, "neve.frozen"):
        given = neve.freeze(model, example_inputs=(torch.randn(2, 3),))
        assert given.specialisations == ["forward(float32[2, 3])"] and not caplog.records
        frozen = neve.freeze(model)
        frozen(torch.randn(2, 3))
        frozen(torch.randn(3, 3))
    assert [r.getMessage() for r in caplog.records] == [
        "compiling forward(float32[2, 3]): the first call does it, as no example_inputs were given"
    ]


def test_calls_from_threads_take_turns() -> None:
    model = Counter().eval()
    frozen, xs = neve.freeze(model, ["step"]), [torch.full((n, 3), 1.0) for n in (1, 2)]
    threads = [threading.Thread(target=lambda x=x: [frozen.step(x) for _ in range(20)]) for x in xs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    close(frozen.step(torch.zeros(1, 3)), torch.full((3,), 2.0 * 20 * 3))
