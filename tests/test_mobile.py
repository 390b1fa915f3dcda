"""Section L of the specification: lints; torch.utils.mobile_optimizer is the reference where it is right."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import mobile_optimizer as reference

import neve
from neve import LintCode, bundled_inputs, generate_mobile_module_lints

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(x)))


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout2d(x, 0.5, False)
        return functional.alpha_dropout(functional.dropout(x, 0.5, False), 0.5, False)

    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, torch.zeros(3), torch.ones(3))


X = torch.randn(1, 3, 8, 8)


def names(model: Any, **options: Any) -> list[str]:
    return [lint["name"] for lint in generate_mobile_module_lints(model, **options)]


def own_class(model: nn.Module) -> Any:
    """Scripted, with a class that no other module shares."""
    out = io.BytesIO()
    torch.jit.save(torch.jit.script(model), out)
    return torch.jit.load(io.BytesIO(out.getvalue()))


def test_l1_the_form_and_the_codes_are_those_of_the_reference() -> None:
    assert {c.name: c.value for c in LintCode} == {c.name: c.value for c in reference.LintCode}
    model = torch.jit.script(Net())
    mine, theirs = generate_mobile_module_lints(model), reference.generate_mobile_module_lints(model)
    assert [x["name"] for x in mine] == [x["name"] for x in theirs]
    assert all(set(x) == {"name", "message"} and x["name"] in LintCode.__members__ for x in mine)


@pytest.mark.parametrize("model", [3, None, torch.relu, {"a": 1}])
def test_l1_what_is_no_model_is_a_type_error(model: Any) -> None:
    with pytest.raises(TypeError, match=r"Got <class '.*'>, but ScriptModule is expected."):
        generate_mobile_module_lints(model)


def test_l2_the_missing_inputs_come_first() -> None:
    model = own_class(Net())
    assert names(model)[0] == "BUNDLED_INPUT"
    bundled_inputs.augment_model_with_bundled_inputs(model, [(torch.zeros(1, 3, 8, 8),)])
    assert "BUNDLED_INPUT" not in names(model) and names(model)[0] == "REQUIRES_GRAD"
    other = own_class(Functional())
    bundled_inputs.augment_many_model_functions_with_bundled_inputs(other, {other.other: [(torch.ones(2, 3),)]})
    assert names(other)[0] == "BUNDLED_INPUT"  # inputs of other methods do not count


def test_l3_parameters_with_gradients_each_by_name() -> None:
    model = torch.jit.script(Net())
    wanted = [n for n, _ in model.named_parameters()]
    found = [x["message"] for x in generate_mobile_module_lints(model) if x["name"] == "REQUIRES_GRAD"]
    assert [text.split()[1] for text in found] == wanted and len(wanted) == 4
    assert all(
        text.startswith(f"Param {n} requires grad, please set torch.no_grad()")
        for text, n in zip(found, wanted, strict=True)
    )
    model.conv.weight.requires_grad_(False)
    assert names(model).count("REQUIRES_GRAD") == 3


def test_l4_one_lint_a_distinct_operator_in_the_order_of_names() -> None:
    model = torch.jit.script(Functional())
    found = [x for x in generate_mobile_module_lints(model) if x["name"] in ("DROPOUT", "BATCHNORM")]
    ops = [x["message"].split()[1] for x in found]
    assert ops == sorted(set(ops)) and ops[0] == "aten::alpha_dropout" and "aten::batch_norm" in ops
    assert [x["name"] for x in found] == ["BATCHNORM" if "norm" in op else "DROPOUT" for op in ops]
    assert all(
        x["message"].startswith(f"Operator {op} exists, remember to call eval() ")
        for x, op in zip(found, ops, strict=True)
    )


def test_l4_branches_that_are_never_taken_do_not_count() -> None:
    class Drops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.5, self.training)

    model = torch.jit.script(Drops())
    assert names(model).count("DROPOUT") == 1
    assert [x["name"] for x in reference.generate_mobile_module_lints(model)].count("DROPOUT") == 2


@pytest.mark.parametrize("how", ["example_inputs", "exported", "bundled", "scripted"])
def test_l4_modules_and_captured_programs_have_the_same_operators(how: str) -> None:
    model = Net().eval()
    given: Any = model
    options: dict[str, Any] = {"example_inputs": (X,)} if how == "example_inputs" else {}
    if how == "exported":
        given = torch.export.export(model, (X,))
    if how == "bundled":
        given = bundled_inputs.bundle_inputs(model, [(torch.zeros(1, 3, 8, 8),)])
    wanted = ["REQUIRES_GRAD"] * 4 + ["BATCHNORM", "DROPOUT"]
    assert names(given, **options) == (["BUNDLED_INPUT"] if how == "scripted" else []) + wanted


def test_l4_operators_that_cannot_be_found_are_an_error() -> None:
    class Odd(nn.Module):
        def forward(self, x):
            return {"a": x}["a"].numpy().dtype

    with pytest.raises(neve.NeveError, match=r"operators of Odd are unknown: .* give example_inputs"):
        generate_mobile_module_lints(Odd())


def test_l5_the_mode_silences_nothing_and_optimization_does() -> None:
    model = torch.jit.script(Net())
    assert names(model) == names(model.eval())
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(model), ["forward"])
    assert "DROPOUT" not in names(frozen) and "REQUIRES_GRAD" not in names(frozen)
    assert names(neve.compile(Net().eval(), (X,))) == []


def test_l6_an_optimized_module_with_bundled_inputs_has_inputs() -> None:
    model = own_class(Net().eval())
    bundled_inputs.augment_model_with_bundled_inputs(model, [(torch.zeros(1, 3, 8, 8),)])
    kept = ["get_all_bundled_inputs", "get_num_bundled_inputs", "get_all_bundled_inputs_for_forward"]
    frozen = torch.jit.freeze(model, preserved_attrs=[*kept, "get_bundled_inputs_functions_and_info"])
    assert not hasattr(frozen, "_generate_bundled_inputs_for_forward")
    assert reference.generate_mobile_module_lints(frozen)[0]["name"] == "BUNDLED_INPUT"  # its defect
    assert "BUNDLED_INPUT" not in names(frozen)
    np.testing.assert_array_equal(frozen.get_all_bundled_inputs()[0][0], 0)
