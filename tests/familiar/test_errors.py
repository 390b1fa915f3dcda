"""What the calls refuse, with the texts that they had, and what their results no longer have."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neve
from neve import MobileOptimizerType
from tests.familiar.calling import Kept
from tests.familiar.state import Inner, Settings, X

pytestmark = pytest.mark.filterwarnings("ignore")
BATCH = X.expand(2, 3)


@dataclass(frozen=True)
class Refused:
    """A call of a model, and the error that it raises."""

    behaviour: str
    call: Callable[[nn.Module], Any]
    error: type[Exception]
    text: str
    train: bool = False

    def __str__(self) -> str:
        return f"{self.behaviour}-{self.error.__name__}"


def mobile(**options: Any) -> Callable[[nn.Module], Any]:
    return lambda model: neve.optimize_for_mobile(model, **options)


def frozen(*names: str) -> Callable[[nn.Module], Any]:
    return lambda model: neve.freeze(model, list(names))


UNKNOWN = "The following methods to preserve do not exist in script_module: "
BACKEND = "Unknown backend, must be one of 'CPU', 'Vulkan' or 'Metal'"
REFUSED = [
    Refused(
        "A1", lambda _: neve.optimize_for_mobile([1]), TypeError, "Got <class 'list'>, but ScriptModule is expected."
    ),
    Refused(
        "A1",
        lambda _: neve.generate_mobile_module_lints(3),
        TypeError,
        "Got <class 'int'>, but ScriptModule is expected.",
    ),
    Refused("A3", mobile(optimization_blocklist=[MobileOptimizerType.REMOVE_DROPOUT]), TypeError, "wanted a set"),
    Refused("A3", mobile(optimization_blocklist={"REMOVE_DROPOUT"}), TypeError, "wanted a set of MobileOptimizerType"),
    Refused("A5", mobile(preserved_methods=["nope", "head", "nor"]), AttributeError, f"{UNKNOWN}nope, nor"),
    Refused("A5", mobile(preserved_methods=["nope"], backend="x"), AttributeError, f"{UNKNOWN}nope"),
    Refused("A6", mobile(preserved_methods=[b"nope"]), AttributeError, f"{UNKNOWN}nope"),
    Refused("A7", mobile(preserved_methods=["linear.weight"]), AttributeError, f"{UNKNOWN}linear.weight"),
    Refused("A10", mobile(backend="tpu"), TypeError, BACKEND),
    Refused("V1", mobile(backend="vulkan"), NotImplementedError, "Vulkan"),
    Refused("V6", mobile(backend="METAL"), NotImplementedError, "Metal"),
    Refused("F4", lambda _: neve.freeze(3), TypeError, "Got <class 'int'>"),
    Refused(
        "F4", neve.freeze, RuntimeError, "Freezing is currently only implemented for modules in eval mode.", train=True
    ),
    Refused("F4", lambda m: neve.freeze(m, "scale"), TypeError, "wanted a list of names"),
    Refused("F11", frozen("nope"), RuntimeError, "Unknown name: nope"),
    Refused("F11", frozen(""), RuntimeError, "Unknown name: "),
    Refused("F11", frozen("linear.nope"), RuntimeError, "Unknown name: linear.nope"),
    Refused("F13", lambda m: neve.freeze(m).head, AttributeError, "has no attribute|does not have"),
    Refused("F13", lambda m: neve.freeze(m).scale, AttributeError, "has no attribute|does not have"),
    Refused("F33", lambda m: neve.freeze(m).training, AttributeError, "training"),
    Refused("F35", lambda m: neve.freeze(m, optimize=False), TypeError, "optimize"),
    Refused("I1", lambda _: neve.optimize_for_inference(3), TypeError, "Got <class 'int'>"),
    Refused("I3", lambda m: neve.optimize_for_inference(m, ["nope"]), RuntimeError, "Unknown name: nope"),
    Refused("D5", lambda _: neve.run_frozen_optimizations(3), TypeError, "frozen module"),
]


@pytest.mark.parametrize("scripted", [False, True], ids=["module", "script"])
@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_is_refused(case: Refused, scripted: bool) -> None:
    model: Any = Kept().train(case.train)
    with pytest.raises(case.error, match=case.text):
        case.call(torch.jit.script(model) if scripted else model)


def test_a6_names_may_be_bytes() -> None:
    made = neve.optimize_for_mobile(Kept().eval(), preserved_methods=[b"scale"])
    assert made.scale == 2.0


@pytest.mark.parametrize("make", [neve.freeze, neve.optimize_for_inference, neve.optimize_for_mobile])
def test_f33_a_frozen_module_has_no_parameters(make: Any) -> None:
    made = make(Kept().eval())
    assert not [*made.parameters()] and not [*made.buffers()] and not made.state_dict()
    assert made.eval() is made and made.training is False


def test_a11_the_flag() -> None:
    assert neve.optimize_for_mobile(Kept().eval()).mobile_optimized is True


def test_f10_another_type_is_refused_and_the_original_stays() -> None:
    model = Settings().eval()
    made = neve.freeze(model, ["scale"])
    with pytest.raises((RuntimeError, TypeError), match="scale"):
        made.scale = "much"
    made.scale = 7.0
    assert model.scale == 2.0 and made.scale == 7.0


def test_f12_a_preserved_submodule_is_whole() -> None:
    model = Settings().eval()
    made = neve.freeze(model, ["child"], example_inputs=(X,))
    assert torch.equal(made.child.unused, model.child.unused) and made.child.gain == 1.5
    assert torch.equal(made.child.method(X), model.child.method(X))


class Picky(nn.Module):
    """Takes matrices of three columns."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 2:
            raise ValueError("a matrix: two dims are wanted")
        assert x.size(1) == 3, "three columns are wanted"
        return x + 1


@pytest.mark.parametrize("form", [torch.nn.Module.eval, torch.jit.script], ids=["module", "script"])
def test_f25_errors_have_the_types_that_the_model_raises(form: Any) -> None:
    made = neve.freeze(form(Picky().eval()))
    with pytest.raises(ValueError, match=r"^a matrix: two dims are wanted$"):
        made(torch.ones(3))
    with pytest.raises(AssertionError, match=r"^three columns are wanted"):
        made(torch.ones(1, 4))
    assert torch.equal(made(torch.ones(1, 3)), torch.full((1, 3), 2.0))


def test_f34_f13_freezing_again_keeps_state_and_drops_methods() -> None:
    once = neve.freeze(Kept().eval(), ["head"], example_inputs={"forward": (BATCH,), "head": (BATCH,)})
    twice = neve.freeze(once, example_inputs=(BATCH,))
    assert torch.equal(once(BATCH), twice(BATCH))
    with pytest.raises(AttributeError, match="head"):
        _ = twice.head


def test_f8_f20_copies_are_independent() -> None:
    model = Inner().eval()
    made = neve.freeze(model, example_inputs=(X,))
    before = made(X)
    with torch.no_grad():
        model.w.zero_()
    model.gain = 0.0
    assert torch.equal(made(X), before)


def test_a14_saved_and_loaded(tmp_path: Path) -> None:
    made = neve.optimize_for_mobile(Kept().eval(), preserved_methods=["head"],
                                    example_inputs={"forward": (BATCH,), "head": (BATCH,)})  # fmt: skip
    made.save(tmp_path / "m.neve")
    loaded = neve.load(tmp_path / "m.neve")
    assert torch.equal(loaded(BATCH), made(BATCH)) and torch.equal(loaded.head(BATCH), made.head(BATCH))
    with pytest.warns(UserWarning, match=r"a \.neve file is written"):
        made._save_for_lite_interpreter(tmp_path / "l.neve")
    assert torch.equal(neve.load(tmp_path / "l.neve")(BATCH), made(BATCH))


def test_the_first_call_says_that_it_compiles(caplog: pytest.LogCaptureFixture) -> None:
    made = neve.freeze(Inner().eval())
    with caplog.at_level(logging.WARNING, "neve.frozen"):
        made(X)
        made(X)
    assert len([r for r in caplog.records if re.search("compiling forward", r.getMessage())]) == 1


@pytest.mark.parametrize("member", MobileOptimizerType)
def test_a3_a_blocked_pass_changes_the_graph_alone(member: MobileOptimizerType) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout()).eval()
    x = torch.randn(1, 3, 5, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = neve.optimize_for_mobile(model, {member}, example_inputs=(x,))
    assert torch.allclose(made(x), model(x), atol=1e-5)
    present = {
        MobileOptimizerType.INSERT_FOLD_PREPACK_OPS: ("= convolution(", "prepacked"),
        MobileOptimizerType.REMOVE_DROPOUT: ("= dropout(", "= convolution("),
        MobileOptimizerType.CONV_BN_FUSION: ("= batch_norm(", "= dropout("),
    }
    if member in present:
        there, gone = present[member]
        assert there in made.graph and gone not in made.graph, made.graph
