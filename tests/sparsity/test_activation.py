"""Section X4: sparse activations."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.pruning._experimental.activation_sparsifier.activation_sparsifier import ActivationSparsifier as Reference

from neve.sparsity import ActivationSparsifier


def add(a: Tensor, b: Tensor) -> Tensor:
    return a + b


def mean(x: Tensor) -> Tensor:
    return x.mean(dim=0)


def above(x: Tensor, bound: float = 0.0) -> Tensor:
    return (x > bound).to(x.dtype)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Identity(), nn.Conv1d(3, 2, 1))


def inputs(n: int = 3) -> Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(n))


def test_x4_whole_inputs() -> None:
    masks, results = [], []
    for cls in (ActivationSparsifier, Reference):
        net = model()
        sparsifier = cls(net, add, mean, above)
        sparsifier.register_layer(net[1], bound=0.2)
        with pytest.raises(ValueError, match="shape unknown, call layer"):
            sparsifier.get_mask("1")
        seen = [inputs(n) for n in range(2)]
        hidden = [net[0](x) for x in seen]
        for x in seen:
            net(x)
        assert sparsifier.get_mask(layer=net[1]).all()
        sparsifier.step()
        masks.append(sparsifier.get_mask("1"))
        assert torch.equal(masks[-1], above(mean(hidden[0] + hidden[1]), 0.2))  # aggregated from zeros
        with pytest.raises(KeyError):
            sparsifier.step()
        sparsifier.squash_mask()
        with torch.no_grad():
            results.append(net[:2](inputs()))
        assert torch.equal(results[-1], net[0](inputs()) * masks[-1])
    assert torch.equal(*masks) and torch.equal(*results) and 0 < masks[0].mean() < 1


def test_x4_features_leave_the_input_alone() -> None:
    results, masks = [], []
    for cls in (ActivationSparsifier, Reference):
        net = model()
        sparsifier = cls(net, add, mean, above, features=[0, 2], feature_dim=1)
        sparsifier.register_layer(net[2])
        net(inputs())
        sparsifier.step()
        masks.append(sparsifier.get_mask("2"))
        sparsifier.squash_mask()
        x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(9))
        given = x.clone()
        with torch.no_grad():
            results.append(net[2](given))
        if cls is ActivationSparsifier:
            assert torch.equal(given, x)  # torch's writes into it
            expected = x.clone()
            for i, mask in zip((0, 2), masks[0], strict=True):
                expected[:, i : i + 1] *= mask
            assert mask.shape == (1, 6)
            assert torch.equal(results[0], nn.functional.conv1d(expected, net[2].weight, net[2].bias))
    assert all(torch.equal(a, b) for a, b in zip(*masks, strict=True)) and torch.equal(*results)


def test_x4_further_arguments_pass() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + b

    net = nn.Sequential(Two())
    sparsifier = ActivationSparsifier(net, add, mean, torch.zeros_like)
    sparsifier.register_layer(net[0])
    net[0](torch.ones(2), torch.ones(2))
    sparsifier.step()
    sparsifier.squash_mask()
    assert net[0](torch.ones(2), torch.ones(2)).tolist() == [1, 1]


def test_x4_registering() -> None:
    net = model()
    sparsifier = ActivationSparsifier(net, add, mean)
    with pytest.raises(AssertionError, match="layer not found in the model"):
        sparsifier.register_layer(nn.Linear(1, 1), mask_fn=above)
    with pytest.raises(AssertionError, match="mask_fn must be callable, got None"):
        sparsifier.register_layer(net[0])
    with pytest.raises(AssertionError, match="need feature dim to select features"):
        sparsifier.register_layer(net[0], mask_fn=above, features=[1])
    assert sparsifier.data_groups == {} and not net[0]._forward_pre_hooks
    sparsifier.register_layer(net[0], mask_fn=above, bound=1)
    with pytest.warns(UserWarning, match="layer already attached to the sparsifier"):
        sparsifier.register_layer(net[0], mask_fn=above, bound=2)
    assert sparsifier.data_groups["0"]["sparse_config"] == {"bound": 2} and len(net[0]._forward_pre_hooks) == 1
    assert sparsifier.defaults["sparse_config"] == {}
    for arguments, error, message in (
        ({}, AssertionError, "Need at least name or layer"),
        ({"layer": nn.ReLU()}, AssertionError, "layer not found"),
        ({"name": "7"}, ValueError, "layer with the given name not found"),
    ):
        with pytest.raises(error, match=message):
            sparsifier.get_mask(**arguments)
    with pytest.raises(ValueError, match="shape unknown"):
        sparsifier.squash_mask()
    net(inputs())
    with pytest.raises(RuntimeError, match="must match the size"):
        net(torch.ones(5, 3, 4))  # plain sums want one batch size
    sparsifier.squash_mask(attach_sparsify_hook=False)
    assert not net[0]._forward_pre_hooks
    sparsifier.unregister_layer("0")
    assert sparsifier.state == sparsifier.data_groups == {}


def test_x4_saving() -> None:
    net = model()
    sparsifier = ActivationSparsifier(net, add, mean, above)
    sparsifier.register_layer(net[1])
    sparsifier.register_layer(net[2], features=[1], feature_dim=1)
    net(inputs())
    sparsifier.step()
    state = pickle.loads(pickle.dumps(sparsifier.state_dict()))
    assert state["state"]["1"]["mask"].layout == torch.sparse_coo
    assert not {"hook", "layer"} & set(state["data_groups"]["1"])

    def check(other: nn.Sequential, loaded: Any) -> None:
        assert torch.equal(loaded.get_mask("1"), sparsifier.get_mask("1"))
        assert torch.equal(loaded.get_mask("2")[0], sparsifier.get_mask("2")[0])
        assert [len(m._forward_pre_hooks) for m in other] == [0, 1, 1]
        other(inputs())
        loaded.step()
        loaded.squash_mask()
        with torch.no_grad():
            assert torch.equal(other[:2](inputs()), other[0](inputs()) * loaded.get_mask("1"))
        assert "data" not in sparsifier.data_groups["1"]  # it has seen nothing of this

    twin = model()
    loaded = ActivationSparsifier(twin)
    loaded.register_layer(twin[0], add, mean, above)
    loaded.load_state_dict(state)
    check(twin, loaded)
    check(*copy.deepcopy((net, sparsifier)))
    with pytest.raises(AssertionError, match="layer 1 not found in the model"):
        ActivationSparsifier(nn.Linear(1, 1)).load_state_dict(state)
    assert "hook_state: aggregate" in repr(sparsifier) and "mask_fn" not in repr(sparsifier)
