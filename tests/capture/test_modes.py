"""Modules in training mode within a model that is in evaluation mode, at every way in: as in eager, or a refusal."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import neve
from neve.capture.export import capture
from neve.frozen.calls import in_evaluation
from neve.frozen.snapshot import snapshot
from tests.interpreted import Interpreted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

XS = [torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(k)) * (k + 1) - k for k in range(3)]


class Own(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 3 if self.training else x


PARTS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(4),
    "batch norm, no statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "dropout of nothing": lambda: nn.Dropout(0.0),
    "own": Own,
}


def mixed(part: nn.Module) -> nn.Module:
    """A model in evaluation mode but for one part, with a statistic that is no longer the initial one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), part, nn.ReLU())
    model(XS[2])
    model.eval()
    part.train()
    return model


def state_of(model: Any) -> dict[str, Any]:
    return {k: v for k, v in model.named_buffers() if k.startswith("2.")}


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("name", PARTS)
def test_what_is_in_training_mode_computes_so(name: str, script: bool) -> None:
    model = mixed(PARTS[name]())
    source: Any = torch.jit.script(copy.deepcopy(model)) if script else copy.deepcopy(model)
    flags, start = [m.training for m in source.modules()], state_of(copy.deepcopy(model))
    module = Interpreted(capture(source, (XS[0],)))
    assert [m.training for m in source.modules()] == flags
    with torch.no_grad():
        for x in XS:
            torch.testing.assert_close(module(x), model(x), rtol=1e-5, atol=1e-5)
            for path, value in state_of(model).items():
                kept = torch.as_tensor(module.attributes[path]) if path in module.attributes else start[path]
                torch.testing.assert_close(kept, value, rtol=1e-5, atol=1e-5)


def test_every_way_in_gives_the_same() -> None:
    model = mixed(nn.BatchNorm2d(4))
    ways: list[Callable[[Any], Any]] = [
        lambda m: neve.compile(m, (XS[0],), threads=1),
        lambda m: neve.freeze(m, example_inputs=(XS[0],)),
        lambda m: neve.optimize_for_mobile(m, example_inputs=(XS[0],)),
        lambda m: neve.optimize_for_inference(torch.jit.script(m), example_inputs=(XS[0],)),
    ]
    made = [way(copy.deepcopy(model)) for way in ways]
    with torch.no_grad():
        for x in XS:
            want = model(x)
            for module in made:
                torch.testing.assert_close(torch.as_tensor(module(x)), want, rtol=1e-5, atol=1e-5)


def test_a_model_in_training_mode_is_compiled_in_evaluation_mode() -> None:
    model = mixed(nn.BatchNorm2d(4)).train()
    for source in (model, torch.jit.script(copy.deepcopy(model))):
        module = Interpreted(capture(source, (XS[0],)))
        assert model.training
        want = copy.deepcopy(model).eval()
        with torch.no_grad():
            torch.testing.assert_close(module(XS[1]), want(XS[1]), rtol=1e-5, atol=1e-5)
    assert not any(m.training for m in in_evaluation(snapshot(model)).model.modules())


def test_random_numbers_in_training_mode() -> None:
    model = mixed(nn.Dropout(0.5))
    for source in (model, torch.jit.script(copy.deepcopy(model))):
        module = neve.compile(source, (XS[0],), threads=1)
        results = []
        for f in (source, module):
            torch.manual_seed(5)
            with torch.no_grad():
                results.append(f(XS[1]))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
