"""Example tensors that are one: given twice, views of one memory, or the model's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.interpret import interpret

X, MEMORY, PLAIN = torch.randn(3), torch.randn(6), torch.randn(3)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.register_buffer("mean", torch.randn(3))
        self.plain = torch.randn(3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - 2 * b + 3 * self.weight + 5 * self.mean + 7 * self.plain + 11 * PLAIN

    def in_dict(self, d: Any) -> Any:
        return self.forward(d["a"], d["b"][0])

    def several(self, *given: Any) -> Any:
        return self.forward(*given)


class Branching(Model):
    """Captured from its source."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if a.sum() > b.sum():
            return a - 2 * b + self.mean
        return b - 3 * a


class Writing(Model):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a.add_(1)
        return a + b + self.mean


PAIRS: dict[str, Callable[[Model], tuple[Any, Any]]] = {
    "twice": lambda m: (X, X),
    "detached": lambda m: (X, X.detach()),
    "views": lambda m: (MEMORY[:3], MEMORY[3:]),
    "overlap": lambda m: (MEMORY[:3], MEMORY[1:4]),
    "expanded": lambda m: (MEMORY[:1].expand(3), MEMORY[:1].expand(3)),
    "strided": lambda m: (MEMORY[::2], MEMORY[::2]),
    "gradients": lambda m: (m.weight, m.weight),
    "buffer": lambda m: (m.mean, X),
    "view of a buffer": lambda m: (X, m.mean[:]),
    "attribute": lambda m: (m.plain, X),
    "global": lambda m: (PLAIN, X),
}


def check(program: Any, model: Model, name: str = "forward") -> None:
    a, b = torch.randn(3), torch.randn(3)
    for x, y in ((a, b), (b, a)):
        with torch.no_grad():
            want = model(x.clone(), y.clone())
        got = interpret(program.methods[name].graph, [x.numpy(), y.numpy()])
        np.testing.assert_allclose(got[0], want.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pair", PAIRS)
def test_inputs_stay_apart(pair: str) -> None:
    model = Model().eval()
    a, b = PAIRS[pair](model)
    methods = {"in_dict": ({"a": a, "b": [b]},), "several": (a, b)}
    program = capture(model, (a, b), methods=methods)
    for name in program.methods:
        check(program, model, name)
        example = program.methods[name].examples[0]
        assert all(np.array_equal(x, y.detach()) for x, y in zip(example, (a, b), strict=True))


@pytest.mark.parametrize("pair", ["twice", "buffer"])
@pytest.mark.parametrize("kind", [Branching, Writing])
def test_other_routes(pair: str, kind: type[Model]) -> None:
    model = kind().eval()
    check(capture(model, PAIRS[pair](model)), model)


def test_scripted() -> None:
    model = Writing().eval()
    check(capture(torch.jit.script(model), (X, X)), model)


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(("pair", "refused"), [("twice", True), ("buffer", True), ("views", False)])
def test_exported(tmp_path: Path, pair: str, refused: bool, saved: bool) -> None:
    model = Model().eval()
    program: Any = torch.export.export(model, PAIRS[pair](model), strict=False)
    if saved:
        path = str(tmp_path / "model.pt2")
        torch.export.save(program, path)
        program = path
    if refused:
        with pytest.raises(CaptureError, match=r"exported with .* export it again"):
            capture(program)
    else:
        check(capture(program), model)


def test_an_input_that_nothing_reads_is_no_alias() -> None:
    class Ignores(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a * 2

    program = torch.export.export(Ignores(), (torch.ones(3), torch.ones(3)), strict=False)
    assert len(capture(program).methods["forward"].graph.inputs) == 2
