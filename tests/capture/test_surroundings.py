"""What a model asks of its surroundings is answered during capture as in eager."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neve.capture.export import capture
from neve.capture.surroundings import FALSE_IN_EAGER, READ, Answers, as_in_eager, false_in_eager
from neve.errors import CaptureError
from neve.ir.interpret import interpret

ASKS = dict(zip(FALSE_IN_EAGER, false_in_eager(), strict=True))
ASK: Any = None


class Asks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if ASK() else x + 5


class AsksAndBranches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2 if torch.jit.is_scripting() or torch.compiler.is_compiling() else x + 5
        if y.sum() > 0:
            y = y * 3
        return y


@pytest.mark.parametrize("name", FALSE_IN_EAGER)
def test_traced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ASK", ASKS[name])
    x = np.ones(3, np.float32)
    code = ASKS[name].__code__
    (got,) = interpret(capture(Asks(), (torch.ones(3),)).methods["forward"].graph, [x])
    np.testing.assert_array_equal(got, x + 5)
    assert ASKS[name].__code__ is code


def test_compiled_from_source() -> None:
    graph = capture(AsksAndBranches(), (torch.ones(3),)).methods["forward"].graph
    for x in (np.ones(3, np.float32), -np.full(3, 4, np.float32)):
        (got,) = interpret(graph, [x])
        np.testing.assert_array_equal(got, AsksAndBranches()(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("name", READ)
def test_torch_hears_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, flag = READ[name]
    monkeypatch.setattr(f"{module}.{flag}", True, raising=False)
    answers = Answers()
    with as_in_eager(answers):
        assert not ASKS[name]()
        assert _asked_in(torch.__file__, ASKS[name])
        assert not _asked_in("/lib/site-packages/some/model.py", ASKS[name]) and answers.asked
    with as_in_eager(Answers(as_traced=True)):
        assert _asked_in("/lib/site-packages/some/model.py", ASKS[name])
        assert not ASKS[name]()


def test_packages_are_traced_if_they_must_be() -> None:
    """A library's check of values is left out where it says so itself; a user's branch is not."""
    source = (
        "import torch\nclass Checks(torch.nn.Module):\n    def forward(self, x):\n"
        "        if not torch.compiler.is_compiling():\n            x.sum().item() // 0 if x.sum() > 1e9 else None\n"
        "        return x + 1"
    )
    for file, taken in (("/lib/site-packages/some/model.py", True), ("/home/me/model.py", False)):
        made: dict[str, Any] = {"__name__": "checks"}
        exec(compile(source, file, "exec"), made)
        if taken:
            assert capture(made["Checks"](), (torch.ones(3),))
        else:
            with pytest.raises(CaptureError):
                capture(made["Checks"](), (torch.ones(3),))


def _asked_in(file: str, function: Any) -> Any:
    """What code in that file hears."""
    return eval(compile("function()", file, "eval"), {"function": function})


def _depth(x: Tensor, scale: float) -> Tensor:
    return x * scale


torch.fx.wrap("_depth")


def test_a_function_that_fx_replaces_while_it_traces_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return _depth(x, 2.0)

    def other_way(*_: Any) -> None:
        pytest.fail("torch.export refused it")

    monkeypatch.setattr("neve.capture.scripting.route.capture_source", other_way)
    assert capture(Wrapped().eval(), (torch.ones(3),)).methods.keys() == {"forward"}
