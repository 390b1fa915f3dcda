"""freeze, optimize_for_inference, run_frozen_optimizations, optimize_for_mobile: what they take and what they give."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neve
from neve import MobileOptimizerType as Type
from tests.frozen.models import Block, Counter, Outer, close

X = torch.randn(2, 3, 8, 8)


def test_every_kind_of_model(tmp_path: Path) -> None:
    model = Block().eval()
    scripted = torch.jit.script(model)
    program = torch.export.export(model, (X,))
    torch.export.save(program, tmp_path / "m.pt2")
    torch.jit.save(scripted, tmp_path / "m.pt")
    scripted._save_for_lite_interpreter(str(tmp_path / "m.ptl"))
    want = model(X)
    kinds = (scripted, torch.jit.freeze(scripted), program, *(tmp_path / f"m.{s}" for s in ("pt2", "pt", "ptl")))
    for kind in (*kinds, neve.freeze(model), neve.optimize_for_mobile(model)):
        close(neve.freeze(kind)(X), want)
    model.head.weight.data.zero_()
    close(neve.freeze(program, example_inputs=(X,))(X), program.module()(X))


def test_nothing_reaches_the_frozen_module_and_nothing_the_original() -> None:
    model = Block()
    frozen, want = neve.optimize_for_inference(model), copy.deepcopy(model).eval()(X)
    assert model.training and model.drop.training
    model.head.weight.data.zero_()
    model.norm.running_mean.zero_()
    close(frozen(X), want)


def test_functions_around_the_model_are_copied_with_it() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.act = nn.Parameter(torch.ones(3)), lambda x: x * self.weight
            self.register_forward_hook(lambda module, args, result: result + self.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(x)

    model, x = Around().eval(), torch.randn(2, 3)
    frozen, want = neve.freeze(model), model(x)
    model.weight.data.zero_()
    close(frozen(x), want)
    close(frozen(x[:1]), want[:1])


@pytest.mark.parametrize("wrong", [3, lambda x: x, nn.Module, None])
def test_what_is_no_model(wrong: Any) -> None:
    for call in (neve.freeze, neve.optimize_for_inference, neve.optimize_for_mobile):
        with pytest.raises(TypeError, match=r"^Got <.*ScriptModule is expected"):
            call(wrong)
    with pytest.raises(TypeError):
        neve.run_frozen_optimizations(wrong)


def test_names_and_modes_that_are_refused() -> None:
    model = Outer()
    with pytest.raises(RuntimeError, match="in eval mode"):
        neve.freeze(model)
    model.eval()
    for name in ("nope", "", "inner.nope", "inner.linear.weight.nope"):
        with pytest.raises(RuntimeError, match=f"^Unknown name: {name}$"):
            neve.freeze(model, [name])
    for names in ("inner", b"inner", [1]):
        with pytest.raises(TypeError, match="preserved_attrs"):
            neve.freeze(model, names)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no method that is kept"):
        neve.freeze(model, example_inputs={"other": (X,)})
    with pytest.raises(TypeError, match="wanted a tuple"):
        neve.freeze(model, example_inputs={"forward": X})  # type: ignore[dict-item]


def test_a_frozen_module_has_no_more_than_was_kept() -> None:
    frozen: Any = neve.freeze(Outer().eval(), ["inner.step"])
    x = torch.ones(2, 3)
    close(frozen.inner.step(x), torch.full((3,), 4.0))
    for path in ("inner.scale", "inner.get", "inner.linear", "choice", "training"):
        with pytest.raises(AttributeError, match=path.rpartition(".")[2]):
            eval(f"frozen.{path}")
    with pytest.raises(AttributeError, match="folded into the code"):
        frozen.choice = "minus"
    assert frozen.eval() is frozen and frozen.training is False
    assert not [*frozen.parameters(), *frozen.buffers(), *frozen.children()] and frozen.state_dict() == {}
    assert [*frozen.modules()] == [frozen] and frozen.to("cpu") is frozen
    with pytest.raises(RuntimeError, match="convert the model"):
        frozen.to(torch.float64)
    with pytest.raises(TypeError):
        copy.deepcopy(frozen)


def test_graph_before_and_after_a_call() -> None:
    frozen = neve.freeze(Block().eval())
    assert "no graph yet" in frozen.graph
    frozen(X)
    assert frozen.graph.count("method forward") == 1 and "batch_norm" not in frozen.graph
    frozen(X[:1])
    assert frozen.graph.count("method forward") == 2


MARKS = {
    Type.CONV_BN_FUSION: ("= batch_norm(", True),
    Type.INSERT_FOLD_PREPACK_OPS: ("prepacked", False),
    Type.REMOVE_DROPOUT: ("= dropout(", True),
    Type.FUSE_ADD_RELU: ("= add_relu(", False),
    Type.HOIST_CONV_PACKED_PARAMS: ("@packed_params.", False),
}
"""What the graph has, or lacks, when an optimization is blocked."""


@pytest.mark.parametrize("blocked", [None, *Type], ids=str)
def test_each_member_of_the_blocklist_switches_off_its_pass_alone(blocked: Type | None) -> None:
    model = Block()
    frozen = neve.optimize_for_mobile(model, {blocked} if blocked else None, example_inputs=(X,))
    close(frozen(X), model.eval()(X))
    assert frozen.mobile_optimized is True
    for member, (text, when_blocked) in MARKS.items():
        hoist = member is Type.HOIST_CONV_PACKED_PARAMS and blocked is Type.INSERT_FOLD_PREPACK_OPS
        assert (text in frozen.graph) == (when_blocked if member is blocked or hoist else not when_blocked), member


def test_numerics_on_request() -> None:
    model = Block().eval()
    frozen = neve.freeze(model, None, False, example_inputs=(X,))
    assert "= batch_norm(" in frozen.graph and "= dropout(" not in frozen.graph
    close(frozen(X), model(X))
    assert neve.run_frozen_optimizations(frozen) is None
    frozen(X)
    assert "= batch_norm(" not in frozen.graph
    neve.run_frozen_optimizations(model)  # not frozen: nothing happens
    assert neve.optimize_for_inference(frozen) is frozen


@pytest.mark.parametrize("scripted", [False, True])
def test_saved_with_the_values_of_now(tmp_path: Path, scripted: bool) -> None:
    model = Counter().eval()
    frozen: Any = neve.freeze(torch.jit.script(model) if scripted else model, ["step", "get", "scale"])
    x = torch.randn(2, 3)
    frozen(x)
    with pytest.raises(neve.FreezeError, match="step and get cannot be saved"):
        frozen.save(tmp_path / "m.neve")
    frozen.step(x)
    frozen.scale = 0.5
    want = [frozen(x), frozen.get(), frozen.step(x)]
    frozen.save(tmp_path / "m.neve")
    again = neve.freeze(frozen, ["step", "get"])
    loaded = neve.load(tmp_path / "m.neve")
    for module in (loaded, again):
        close([module(x) - x.sum(0), module.get() - x.sum(0)], want[:2])
    with pytest.warns(UserWarning, match=r"a \.neve file"):
        frozen._save_for_lite_interpreter(tmp_path / "l.ptl")
    frozen.step(x)
    close(again.get(), loaded.get())


def test_optimizing_for_mobile_what_is_bundled() -> None:
    for model in (Block(), torch.jit.script(Block())):
        neve.bundled_inputs.augment_model_with_bundled_inputs(model, [(torch.zeros(1, 3, 4, 4),)])
        frozen = neve.optimize_for_mobile(model)
        assert frozen.specialisations == ["forward(float32[1, 3, 4, 4])"] and frozen.get_num_bundled_inputs() == 1
        close(frozen(*frozen.get_all_bundled_inputs()[0]), copy.deepcopy(model).eval()(torch.zeros(1, 3, 4, 4)))
        assert neve.generate_mobile_module_lints(frozen) == []


def test_arguments_of_optimize_for_mobile() -> None:
    model = Counter()
    for blocklist in ([Type.REMOVE_DROPOUT], {"REMOVE_DROPOUT"}):
        with pytest.raises(TypeError, match="wanted a set of MobileOptimizerType"):
            neve.optimize_for_mobile(model, blocklist)  # type: ignore[arg-type]
    message = "^The following methods to preserve do not exist in script_module: a, linear.weight$"
    with pytest.raises(AttributeError, match=message):
        neve.optimize_for_mobile(model, None, ["a", "get", "linear.weight"], "nonsense")
    with pytest.raises(TypeError, match="must be one of 'CPU', 'Vulkan' or 'Metal'"):
        neve.optimize_for_mobile(model, backend="nonsense")
    with pytest.raises(NotImplementedError, match="Vulkan"):
        neve.optimize_for_mobile(model, backend="VULKAN")
    frozen: Any = neve.optimize_for_mobile(model, set(), [b"get", "linear"], "cPu")
    close(frozen.get(), model.get())
    close(frozen.linear.weight, model.linear.weight)
