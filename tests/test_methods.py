"""Several methods in one artifact: weights stored once, state that all share, examples of each; against eager."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neve
from neve import bundled_inputs
from neve.cli.app import run
from neve.errors import CaptureError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Coder(nn.Module):
    """encode and decode share a large weight and a running state; decode calls encode; there is no forward."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.drop = nn.Linear(64, 96), nn.Dropout(0.5)
        self.down = nn.Linear(96, 64)
        self.down.weight.data = self.up.weight.data.t().contiguous()
        self.register_buffer("seen", torch.zeros(96))

    @torch.jit.export
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(self.drop(self.up(x)))
        self.seen.add_(z.sum(0))
        return z + self.seen

    @torch.jit.export
    def decode(self, z: torch.Tensor, steps: int) -> torch.Tensor:
        x = torch.tanh(self.down(z))
        for _ in range(steps):
            x = torch.tanh(self.down(self.encode(x)))
        return x


def sources(model: nn.Module, how: str, folder: Path) -> Any:
    if how == "eager":
        return model
    scripted = torch.jit.script(copy.deepcopy(model))
    if how == "archive":
        scripted.save(str(folder / "m.pt"))
        return str(folder / "m.pt")
    return scripted


@pytest.mark.parametrize("how", ["eager", "script", "archive"])
def test_methods_share_weights_and_state(how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Coder()
    x, z = torch.randn(2, 64), torch.randn(2, 96)
    module = neve.compile(sources(model, how, tmp_path), methods={"encode": (x,), "decode": (z, 1)}, name="coder")
    assert set(module.methods) == {"encode", "decode"} and not hasattr(module, "forward")
    weights = sum(p.numel() * 4 for p in model.parameters()) + model.seen.numel() * 4
    assert weights <= module.artifact.weights.nbytes < 1.1 * weights
    header = module.artifact.sources["coder.h"]
    assert all(f"int coder_{m}(coder *ctx" in header for m in ("encode", "decode"))
    eager = copy.deepcopy(model).eval()
    order = random.Random(1)
    for _ in range(6):
        x, z, steps = torch.randn(2, 64), torch.randn(2, 96), 1 if how == "eager" else order.randrange(3)
        name = order.choice(("encode", "decode"))
        args = (x,) if name == "encode" else (z, steps)
        with torch.no_grad():
            torch.testing.assert_close(module.methods[name](*args), getattr(eager, name)(*args), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(module.state["seen"], eager.seen.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["eager", "script", "archive"])
def test_all_bundled_inputs_of_all_methods_are_examples(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = Coder().eval()
    rows = {"encode": [(torch.full((2, 64), v),) for v in (0.5, -1.0, 2.0)], "decode": [(torch.ones(2, 96), 1)]}
    source = model if how == "eager" else torch.jit.script(model)
    source = bundled_inputs.bundle_inputs(source, {getattr(source, k): v for k, v in rows.items()})
    if how == "archive":
        source.save(str(tmp_path / "m.ptl"))
        source = str(tmp_path / "m.ptl")
    module = neve.compile(source)
    module.save(tmp_path / "m.neve")
    for name, given in rows.items():
        stored = module.artifact.examples[name]
        assert len(stored) == len(given)
        for example, args in zip(stored, given, strict=True):
            with torch.no_grad():
                want = getattr(copy.deepcopy(model), name)(*args)
            np.testing.assert_array_equal(example.inputs[0], args[0].numpy())
            np.testing.assert_allclose(example.outputs[0], want.numpy(), rtol=1e-6, atol=1e-6)
    assert run(["verify", str(tmp_path / "m.neve")]) == 0
    assert capsys.readouterr().out.count("right") == 4
    (only,) = neve.compile(source, methods=["decode"]).methods
    assert only == "decode"


def test_examples_that_do_not_fit_are_left_out_with_a_warning() -> None:
    model, x = nn.Linear(4, 2), torch.randn(3, 4)
    with pytest.warns(UserWarning, match=r"example 2 of forward is left out: .*\[5, 4\]"):
        module = neve.compile(model, methods={"forward": [(x,), (x * 2,), (torch.randn(5, 4),)]})
    assert len(module.artifact.examples["forward"]) == 2


def test_methods_without_inputs_are_named() -> None:
    with pytest.raises(CaptureError) as caught:
        neve.compile(Coder(), methods=["encode", "decode"])
    assert len(caught.value.reasons) == 2
    assert "encode has no bundled inputs" in caught.value.reasons[0]
    with pytest.raises(TypeError, match="methods: got the str"):
        neve.compile(Coder(), methods="encode")


def test_bfloat16_examples_are_their_bits(tmp_path: Path) -> None:
    neve.compile(nn.Linear(4, 2).bfloat16(), (torch.randn(3, 4).bfloat16(),)).save(tmp_path / "b.neve")
    assert run(["verify", str(tmp_path / "b.neve")]) == 0


class NamedAsTheHost(nn.Module):
    """Methods whose names the C interface and the Python module have as well."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(3))

    def state(self, x: torch.Tensor) -> torch.Tensor:
        self.n.add_(x)
        return self.n * 1

    def reset(self, x: torch.Tensor) -> torch.Tensor:
        self.n.copy_(x)
        return self.n + 1


def test_methods_may_be_called_state_and_reset() -> None:
    module, eager, x = NamedAsTheHost(), NamedAsTheHost(), torch.arange(3.0)
    made = neve.compile(module, methods={"state": (x,), "reset": (x,)})
    for name in ("state", "reset", "state", "state"):
        torch.testing.assert_close(made.methods[name](x), getattr(eager, name)(x).clone())
    made.reset()
    assert not made.state["n"].any()


class Named(nn.Module):
    """Keys that are called like the kinds of `neve.runtime.signature`'s trees."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, torch.Tensor] = {"leaf": torch.zeros(2), "none": torch.ones(2)}

    def forward(self, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.kept["leaf"] = self.kept["leaf"] + x["dict"]
        return {"narrow": self.kept["leaf"] * x["leaf"], "leaf": x["dict"] + 1, "entries": x["leaf"] * 2}


def test_keys_may_be_called_like_the_kinds_of_trees(tmp_path: Path) -> None:
    from neve.check.lint import lint_artifact

    args = ({"leaf": torch.randn(2), "dict": torch.randn(2)},)
    compiled = neve.compile(torch.jit.script(Named()), args, preserved_attrs=["kept"])
    compiled.save(tmp_path / "m.neve")
    module = neve.load(tmp_path / "m.neve")
    assert lint_artifact(module.artifact) == []
    model = Named()
    for _ in range(2):
        torch.testing.assert_close(module(*args), model(*args))
        torch.testing.assert_close(module.kept, model.kept)
