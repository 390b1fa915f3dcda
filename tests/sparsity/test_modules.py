"""Section S: modules by name, masks, replacement of modules; torch.ao.pruning is the reference where it is right."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.ao import pruning as reference
from torch.ao.pruning.sparsifier import utils as reference_utils
from torch.nn.utils import parametrize

from neve import sparsity


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.again = self.a
        self.scale = torch.ones(2)
        self.note = "no tensor"


def test_s1_fake_sparsity() -> None:
    mask = torch.tensor([[1.0, 0.0, 1.0]])
    layer = nn.Linear(3, 1)
    dense = layer.weight.detach().clone()
    fake = sparsity.FakeSparsity(mask)
    parametrize.register_parametrization(layer, "weight", fake)
    assert torch.equal(layer.weight, mask * dense)
    assert "mask" in dict(fake.named_buffers()) and fake.state_dict() == {}
    saved = layer.state_dict()
    assert set(saved) == {"bias", "parametrizations.weight.original"}
    with pytest.raises(RuntimeError, match=r"Missing key.*parametrizations\.weight\.0\.mask"):
        layer.load_state_dict(saved)
    layer.load_state_dict(saved, strict=False)
    assert torch.equal(fake.mask, mask)
    with pytest.raises(AssertionError, match=r"mask shape .*1, 3.* must match x shape .*3, 1"):
        fake(torch.ones(3, 1))


class Swapped(nn.Module):
    @classmethod
    def from_dense(cls, dense: nn.Module) -> Swapped:
        new = cls()
        new.weight = nn.Parameter(dense.weight.detach().clone())
        return new

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return x @ self.weight.t() * scale


def test_s2_swap_module() -> None:
    calls: list[str] = []
    layer = nn.Linear(2, 2)
    layer.register_forward_pre_hook(lambda m, args, kwargs: calls.append(f"before {kwargs}"), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, out: calls.append("after"))
    parametrize.register_parametrization(layer, "weight", sparsity.FakeSparsity(torch.eye(2)))
    new = sparsity.swap_module(layer, {nn.Linear: Swapped})
    assert type(new) is Swapped
    assert torch.equal(new(torch.eye(2), scale=2.0), 2 * layer.weight.t())
    assert calls == ["before {'scale': 2.0}", "after"]
    layer.register_forward_hook(lambda m, args, out: calls.append("always"), always_call=True)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        sparsity.swap_module(layer, {nn.Linear: Swapped})(torch.eye(3))
    assert calls[2:] == ["before {}", "always"]
    assert sparsity.swap_module(layer, {nn.Conv2d: Swapped}) is layer
    meta = nn.Linear(2, 2, device="meta")
    assert sparsity.swap_module(meta, {nn.Linear: Swapped}).weight.device.type == "meta"
    meta.register_buffer("extra", torch.zeros(1))
    with pytest.raises(AssertionError, match=r"swap_module only works with cpu or single-device CUDA modules, but got"):
        sparsity.swap_module(meta, {nn.Linear: Swapped})

    class Bare(nn.Module):
        @classmethod
        def from_dense(cls, dense: nn.Module) -> Bare:
            return cls()

        def to(self, *args: object) -> Bare:
            raise AssertionError("without tensors there is no device to move to")

    assert type(sparsity.swap_module(nn.ReLU(), {nn.ReLU: Bare})) is Bare


def test_s3_names() -> None:
    model = Nested()
    for module in (model, model.a, model.a[0], nn.Linear(1, 1)):
        assert sparsity.module_to_fqn(model, module) == reference_utils.module_to_fqn(model, module)
    assert sparsity.module_to_fqn(model, model.again[1]) == "a.1"
    for path in ("", "a", "again.1", "a.0.weight", "scale", "b", "a.7", "a.0.weight.x", ".a"):
        assert sparsity.fqn_to_module(model, path) is reference_utils.fqn_to_module(model, path)
    assert sparsity.fqn_to_module(model, "note") is None
    for path in ("a.0.weight", "weight", ".weight", ".a.weight", "b.c.weight", "a.0.nothing"):
        expected = reference_utils.get_arg_info_from_tensor_fqn(model, path)
        assert sparsity.get_arg_info_from_tensor_fqn(model, path) == expected
    assert sparsity.get_arg_info_from_tensor_fqn(model, "b.c") == {
        "module_fqn": "b",
        "module": None,
        "tensor_name": "c",
        "tensor_fqn": "b.c",
    }


def test_s4_module_contains_param() -> None:
    layer = nn.Linear(2, 2)
    assert not sparsity.module_contains_param(layer, sparsity.FakeSparsity)
    parametrize.register_parametrization(layer, "bias", nn.Identity())
    assert not sparsity.module_contains_param(layer, sparsity.FakeSparsity)
    parametrize.register_parametrization(layer, "bias", sparsity.FakeSparsity(torch.ones(2)))
    assert sparsity.module_contains_param(layer, sparsity.FakeSparsity)
    assert sparsity.module_contains_param(layer, nn.Module)
    assert not sparsity.module_contains_param(nn.Sequential(layer), sparsity.FakeSparsity)


def test_s5_mappings() -> None:
    assert sparsity.get_static_sparse_quantized_mapping() == reference.get_static_sparse_quantized_mapping()
    assert sparsity.get_dynamic_sparse_quantized_mapping() == reference.get_dynamic_sparse_quantized_mapping()
    assert list(sparsity.get_static_sparse_quantized_mapping()) == [nn.Linear]
