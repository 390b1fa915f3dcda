"""Masks to torch.nn.utils.prune and back; sparse models in the compiler."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import neve
from neve import sparsity

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def test_masks_round_trip() -> None:
    net = model()
    original = net[0].weight.detach().clone()
    prune.l1_unstructured(net[0], "weight", 0.5)
    prune.ln_structured(net[2], "weight", 0.25, n=2, dim=0)
    prune.random_unstructured(net[2], "bias", 2)
    expected, masks = net(X), [net[0].weight_mask.clone(), net[2].weight_mask.clone(), net[2].bias_mask.clone()]

    config = sparsity.config_from_prune(net)
    assert [c["tensor_fqn"] for c in config] == ["0.weight", "2.weight", "2.bias"]
    assert all(torch.equal(c["mask"], m) for c, m in zip(config, masks, strict=True))
    assert not prune.is_pruned(net) and torch.equal(net[0].weight, original)  # nothing of the original is lost
    assert sparsity.config_from_prune(net) == []

    sparsifier = sparsity.WeightNormSparsifier(0.75, (1, 1))
    sparsifier.prepare(net, config)
    assert torch.equal(net(X), expected)
    sparsifier.groups = sparsifier.groups[:1]
    sparsifier.step()  # goes on from there
    assert (net[0].weight == 0).sum() == 96 and ((net[0].weight == 0) | (masks[0] == 1)).all()
    expected = net(X)

    assert sparsity.masks_to_prune(net) == ["0.weight", "2.weight", "2.bias"]
    assert prune.is_pruned(net) and not parametrize.is_parametrized(net[0])
    assert torch.equal(net(X), expected) and torch.equal(net[2].bias_mask, masks[2])
    assert torch.equal(net[0].weight_orig, original)
    with pytest.raises(AttributeError, match="has no mask"):
        sparsifier.step()


def test_masks_of_rows_and_of_the_root() -> None:
    net = model()
    pruner = sparsity.SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(net, None)
    pruner.step()
    expected = net(X)
    assert sparsity.masks_to_prune(net) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert torch.equal(net(X), expected) and net[0].weight_mask.shape == (16, 8)
    layer = nn.Linear(8, 2)
    prune.l1_unstructured(layer, "weight", 3)
    assert [c["tensor_fqn"] for c in sparsity.config_from_prune(layer)] == ["weight"]
    parametrize.register_parametrization(layer, "weight", sparsity.FakeSparsity(torch.zeros(2, 8)))
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    with pytest.raises(ValueError, match="'weight' has parametrizations beside its mask: FakeSparsity, Identity"):
        sparsity.masks_to_prune(layer)
    assert not layer.weight.any()


@pytest.mark.parametrize("squash", [True, False])
def test_density_reaches_the_compiler(squash: bool) -> None:
    """Masked weights, squashed or not, are sparse constants of the program, whose text tells their density."""
    net = model()
    sparsifier = sparsity.WeightNormSparsifier(0.75)
    sparsifier.prepare(net, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    if squash:
        sparsifier.squash_mask()
    module = neve.compile(net, (X,))
    torch.testing.assert_close(module(X), net(X), rtol=1e-5, atol=1e-6)
    weights = re.findall(r"^const @(\S+): float32\[16, 8\](.*)$", str(module.graph), re.MULTILINE)
    assert [comment for _, comment in weights] == ["  # density 0.25"]
    assert str(module.graph).count("# density") == 1  # the other weight is dense


def test_shrunk_model_compiles() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    pruner = sparsity.SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(net, [{"tensor_fqn": "0.weight"}])
    pruner.step()
    x = torch.randn(1, 3, 8, 8)
    expected = net(x)
    module = neve.compile(pruner.prune(), (x,))
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)
    assert "float32[4, 144]" in str(module.graph)


def test_the_package_is_imported_when_asked_for() -> None:
    script = (
        "import sys, neve\n"
        "assert 'torch' not in sys.modules\n"
        "assert neve.sparsity.FakeSparsity and 'torch' in sys.modules\n"
        "try: neve.nothing\n"
        "except AttributeError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "module 'neve' has no attribute 'nothing'\n"
    assert all(hasattr(sparsity, name) for name in sparsity.__all__)
