"""The search finds what the example does not show, and takes no ill-conditioned model for a difference.

A module is compiled from a model; its original is the same model, but for one kind of input on which it gives something
else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace as Namespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import neve
from neve.api import _compile
from neve.artifact import open_module
from neve.build.target import native
from neve.check import condition
from neve.check.prove import Original, search
from neve.check.search import THOROUGH_TRIALS, TRIALS, Counterexample, Search, Tried
from neve.ir.types import Range, symbol

Off = Callable[..., Tensor]
"""A bool that says for which inputs the original gives something else."""


class Plain(nn.Module):
    def __init__(self, off: Off | None = None) -> None:
        super().__init__()
        self.off = off
        self.layer, self.table = nn.Linear(8, 8), nn.Embedding(10, 8)
        self.register_buffer("seen", torch.zeros(()))

    def give(self, y: Tensor, *inputs: Tensor) -> Tensor:
        return y if self.off is None else torch.where(self.off(*inputs), y + 1, y)


class Floats(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.give(self.layer(x).relu(), x)


class Masked(Plain):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.give(self.layer(x) * mask, mask)


class Ids(Plain):
    def forward(self, ids: Tensor) -> Tensor:
        return self.give(self.table(ids), ids)


class Stateful(Plain):
    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return self.give(x + self.seen, self.seen)


class Raises(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if self.off is not None and self.off(x):
            raise ValueError("not these")
        return self.layer(x)


@dataclass(frozen=True)
class Problem:
    """A model, its example, when the original is another one, and a word of the trial that shows it."""

    model: type[Plain]
    args: tuple[Any, ...]
    off: Off
    shown_by: str
    dynamic: Any = None
    trials: int = TRIALS


def large(x: Tensor) -> Tensor:
    return (x.abs().max() > 40) & ((2 * x - (2 * x).round()).abs() > 1e-3).any()


X, FULL, IDS = torch.randn(4, 8), torch.ones(4, 8, dtype=torch.bool), torch.tensor([[1, 2, 3]])
T = Dim("t", min=1, max=33)
SIZED: dict[str, Any] = {"dynamic": [{0: T}]}
PROBLEMS = {
    "other values": Problem(Floats, (X,), lambda x: ~(x == X).all(), "redrawn"),
    "large": Problem(Floats, (X,), large, "large"),
    "small": Problem(Floats, (X,), lambda x: x.abs().max() < 1e-2, "tiny"),
    "zeros": Problem(Floats, (X,), lambda x: (x == 0).all(), "zeros"),
    "negative": Problem(Floats, (X.abs(),), lambda x: (x < 0).all(), "negated"),
    "ties": Problem(Floats, (X,), lambda x: len(x.unique()) * torch.tensor(2) < x.numel(), "ties"),
    "whole": Problem(Floats, (X,), lambda x: ((x == x.round()) & (x != 0)).any(), "boundaries"),
    "no mask": Problem(Masked, (X, FULL ^ (X > 0)), lambda m: m.all(), "masks all true"),
    "all masked": Problem(Masked, (X, FULL), lambda m: ~m.any(), "masks all false"),
    "mixed mask": Problem(Masked, (X, FULL), lambda m: m.any() & ~m.all(), "values redrawn"),
    "a mask of floats": Problem(Masked, (X, FULL.float()), lambda m: (m == 0).all(), "masks all false"),
    "the last row": Problem(Ids, (IDS,), lambda i: (i == 9).any(), "integers"),
    "the first row": Problem(Ids, (IDS,), lambda i: (i == 0).all(), "integers"),
    "least size": Problem(Floats, (X,), lambda x: torch.tensor(x.shape[0] == 1), "t=1", **SIZED),
    "least size + 1": Problem(Floats, (X,), lambda x: torch.tensor(x.shape[0] == 2), "t=2", **SIZED),
    "greatest size": Problem(Floats, (X,), lambda x: torch.tensor(x.shape[0] == 33), "t=33", **SIZED),
    "odd sizes": Problem(
        Floats, (X,), lambda x: torch.tensor(x.shape[0] % 2 == 1 and 1 < x.shape[0] < 33), "t=", **SIZED
    ),
    "one size of many": Problem(
        Floats, (X,), lambda x: torch.tensor(x.shape[0] == 20), "t=20", trials=THOROUGH_TRIALS, **SIZED
    ),
    "the third call": Problem(Stateful, (X,), lambda seen: seen == 3, "redrawn"),
    "what it refuses": Problem(Raises, (X,), large, "large"),
}


def run(
    model: nn.Module, args: tuple[Any, ...], original: nn.Module, trials: int = TRIALS, dynamic: Any = None
) -> tuple[list[Tried], Counterexample | None]:
    """A search of a module that is compiled from one model, for a difference from another one."""
    made = _compile(
        model, args, None, dynamic_shapes=dynamic, methods=None, preserved_attrs=(), target=native(),
        optimize_numerics=True, disable=(), prepack=False, tune=0.0, name="model", compiler=None, progress=None,
        threads=1,
    )  # fmt: skip
    other = Original(original, made.original.examples, made.original.program, made.original.options)
    return search(open_module(made.artifact, threads=1), other, 60.0, trials=trials)


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_the_example_does_not_show_is_found(name: str) -> None:
    torch.manual_seed(1)
    p = PROBLEMS[name]
    model, other = p.model().eval(), p.model(p.off).eval()
    other.load_state_dict(model.state_dict())
    _, found = run(model, p.args, other, p.trials, p.dynamic)
    assert found is not None
    assert p.shown_by in found.trial.what, str(found)


@pytest.mark.parametrize("kind", [Floats, Masked, Stateful])
def test_the_model_itself_does_not_differ(kind: type[Plain]) -> None:
    model = kind().eval()
    args = (X, FULL) if kind is Masked else (X,)
    tried, found = run(model, args, model)
    assert found is None, str(found)
    assert len(tried) == TRIALS + 1
    assert max(t.error for t in tried) < 1e-5


class Cancels(nn.Module):
    """What is left of a sum after its largest part is taken away: rounding of the inputs, times a million."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight
        return (y - y.detach().mean() * 1.0000001) * 1e6 % 1.0


def test_an_ill_conditioned_model_is_no_difference() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 8)
    x = torch.randn(4, 64)
    tried, found = run(Cancels(weight), (x,), Cancels(condition.nudged(weight, torch.Generator().manual_seed(3))))
    assert found is None, str(found)
    assert any(t.explained for t in tried)


class Rest(nn.Module):
    """What tanh leaves of small numbers: their cube, by a difference of nearly equal numbers."""

    def __init__(self, other: bool) -> None:
        super().__init__()
        self.other = other

    def forward(self, x: Tensor) -> Tensor:
        e = torch.expm1(2 * x)
        return x - (e / (e + 2) if self.other else torch.tanh(x))


def test_what_cancels_within_the_model_is_no_difference() -> None:
    tried, found = run(Rest(False), (torch.randn(4, 8),), Rest(True))
    assert found is None, str(found)
    assert any(t.explained for t in tried)


class Even(nn.Module):
    """A norm of equal elements: zero, or what rounding left of their mean, divided by next to nothing."""

    def __init__(self, other: bool, off: float = 0.0) -> None:
        super().__init__()
        self.other, self.off = other, off

    def forward(self, x: Tensor) -> Tensor:
        m = x.amax(-1, keepdim=True).expand(-1, 4)
        y = m * 30.1
        apart = y - y.mean(-1, keepdim=True)
        if self.other:  # the product is not rounded before the difference, as in one fused step
            apart = apart + (m.double() * 30.1 - y.double()).float()
        return apart / (apart.square().mean(-1, keepdim=True) + 1e-5).sqrt() + self.off * (x[:, :1] > 1)


@pytest.mark.parametrize("off", [0.0, 3.0])
def test_a_step_that_is_exact_by_chance_is_no_difference(off: float) -> None:
    _, found = run(Even(True), (torch.randn(64, 8),), Even(False, off))
    assert (found is not None) == bool(off)


class Length(nn.Module):
    """Its squares overflow unless the scale is taken out of them."""

    def __init__(self, scale: float, off: float = 0.0) -> None:
        super().__init__()
        self.scale, self.off = scale, off

    def forward(self, x: Tensor) -> Tensor:
        length = (x * self.scale).square().sum(-1, keepdim=True).sqrt() / self.scale
        return length + self.off * (x > 1.5)


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_what_overflows_on_the_way_is_undetermined_and_no_more(off: float) -> None:
    _, found = run(Length(1.0), (torch.randn(4, 8),), Length(1e18, off))
    assert (found is not None) == bool(off)


class Bins(nn.Module):
    scale: float = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return (x / self.scale).floor()


class OtherBins(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * (1 / 0.3)).floor()


def test_no_rounding_excuses_a_step_that_the_inputs_determine() -> None:
    _, found = run(Bins(), (torch.rand(100) * 100,), OtherBins())
    assert found is not None
    assert "boundaries" in found.trial.what


def test_the_original_keeps_its_state_and_caches() -> None:
    model = Stateful().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run(model, (X,), model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("example", [1, 3, 4000])
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_the_sizes_to_try_come_to_an_end_whatever_time_is_left(seconds: float, example: int) -> None:
    batch, steps = symbol("batch"), symbol("steps")
    domain = Namespace(shape=(batch, steps))
    subject: Any = Namespace(
        name="forward",
        domains=[domain],
        ranges={batch: Range(1, 4000), steps: Range(1, None)},
        example={batch: example, steps: 5},
    )
    run = Search(cast(Any, None), seconds, TRIALS)
    run.spent["forward"] = {example * 5: 1.0}
    assert bool(list(run.sizes(subject))) == bool(seconds)


def test_random_numbers_of_the_caller_are_left_alone() -> None:
    state = torch.get_rng_state()
    model = Floats().eval()
    after = torch.get_rng_state()
    run(model, (X,), model)
    assert torch.equal(torch.get_rng_state(), after)
    torch.set_rng_state(state)


class Fused(torch.nn.Module):
    """What ATen rounds once or twice, by the processor, on values around steps."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = torch.add(x, y, alpha=0.1)
        return torch.floor(z), z > 0.3, torch.floor(torch.sqrt(x.abs()) * 10)


def test_a_sum_that_aten_fuses_is_not_determined() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-20, 20, (4000,), generator=g) for _ in range(2))
    neve.compile(Fused(), (x / 10, y.float()))
