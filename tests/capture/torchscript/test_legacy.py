"""Artifacts that optimize_for_mobile wrote when torch still could, on a torch that cannot load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neve
from neve.capture.examples import bundled_inputs
from neve.check.verify import flat_arrays

DATA = Path(__file__).parents[2] / "data" / "torchscript"
KINDS = (".pt", ".optimized.pt", ".optimized.ptl")


def recorded(name: str) -> dict[str, dict[str, Any]]:
    return torch.load(DATA / f"{name}.io.pt")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["small", "up", "two", "gate"])
def test_float_models_give_what_was_recorded(name: str, kind: str) -> None:
    io = recorded(name)
    module = neve.compile(str(DATA / f"{name}{kind}"), methods=io["inputs"])
    assert set(module.methods) == set(io["inputs"])
    for method, args in io["inputs"].items():
        module.reset()
        got = module.methods[method](*args)
        np.testing.assert_allclose(got.numpy(), io["outputs"][method].detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_kept_and_both_branches_run(kind: str) -> None:
    model = torch.jit.load(DATA / "gate.pt")
    x = recorded("gate")["inputs"]["forward"][0]
    module = neve.compile(str(DATA / f"gate{kind}"), (x,))
    for call in (x.abs(), -x.abs(), x.abs(), x, -x):
        np.testing.assert_allclose(module(call).numpy(), model(call).detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(module.state["seen"], model.seen.numpy())
    module.reset()
    assert module.state["seen"].item() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_turns_is_an_argument(kind: str) -> None:
    model = torch.jit.load(DATA / "two.pt")
    z = torch.randn(2, 8)
    module = neve.compile(str(DATA / f"two{kind}"), methods={"decode": (z, 3)})
    for steps in (3, 0, 1, 7):
        np.testing.assert_allclose(
            module.decode(z, steps).numpy(), model.decode(z, steps).detach().numpy(), rtol=1e-5, atol=1e-5
        )
    with pytest.raises(neve.InputError, match="steps"):
        module.decode(z, 2.5)


def test_bundled_inputs_are_the_examples() -> None:
    path = str(DATA / "small.optimized.ptl")
    module = neve.compile(path)
    ((x,),) = bundled_inputs(path)["forward"]
    assert torch.equal(torch.from_numpy(module.example_inputs[0]), x)
    (want,) = flat_arrays(torch.jit.load(DATA / "small.pt").eval()(x))
    np.testing.assert_allclose(module(x).numpy(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["quantized_qnnpack.optimized.ptl", "quantized_fbgemm.pt", "dynamic_quantized.optimized.pt"]
)
def test_quantized_models_are_refused(name: str) -> None:
    with pytest.raises(neve.CaptureError, match="quantized models are not supported yet"):
        neve.compile(str(DATA / name), (torch.ones(1, 3, 8, 8),))
