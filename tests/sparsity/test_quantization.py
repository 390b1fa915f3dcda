"""P18: sparsity beside torch's quantization in FX mode, in either order, with masks squashed or not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.ao.quantization import get_default_qat_qconfig_mapping, get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx

from neve import sparsity

pytestmark = pytest.mark.filterwarnings("ignore")
X = (torch.randn(4, 16, generator=torch.Generator().manual_seed(0)),)
LAYERS = ("0", "2")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)).eval()


def prepared(model: nn.Module, how: str) -> nn.Module:
    if how == "qat":
        made = prepare_qat_fx(model.train(), get_default_qat_qconfig_mapping("fbgemm"), X)
    else:
        made = prepare_fx(model, get_default_qconfig_mapping("fbgemm"), X)
    made(*X)
    return made.eval()


def sparse(model: nn.Module, names: tuple[str, ...]) -> tuple[sparsity.WeightNormSparsifier, list[torch.Tensor]]:
    """The sparsifier after a step, and its masks."""
    made = sparsity.WeightNormSparsifier(sparsity_level=0.5, sparse_block_shape=(1, 1), zeros_per_block=1)
    made.prepare(model, [{"tensor_fqn": f"{n}.weight"} for n in names])
    made.step()
    return made, [g["module"].parametrizations.weight[0].mask.bool().clone() for g in made.groups]


def weight(model: nn.Module, name: str) -> torch.Tensor:
    """What a layer multiplies with, quantized or not."""
    found = model.get_submodule(name).weight
    return found().dequantize() if callable(found) else found


@pytest.mark.parametrize("how", ["static", "qat"])
@pytest.mark.parametrize("squash", [True, False], ids=["squashed", "masked"])
@pytest.mark.parametrize("first", ["sparsity", "quantization"])
def test_p18_masks_survive_quantization(first: str, squash: bool, how: str) -> None:
    model = net()
    if first == "sparsity":
        sparsifier, masks = sparse(model, LAYERS)
        if squash:
            sparsifier.squash_mask()
        model = prepared(copy.deepcopy(model), how)
    else:
        model = prepared(model, how)
        # linear and ReLU are one module now, which changes the name of the weight unless training is simulated
        sparsifier, masks = sparse(model, LAYERS if how == "qat" else ("0.0", "2"))
        model(*X)
        if squash:
            sparsifier.squash_mask()
    made = convert_fx(model)
    assert made(*X).shape == (4, 8)
    for name, mask in zip(LAYERS, masks, strict=True):
        assert 0.4 < (~mask).float().mean() < 0.6
        assert (weight(made, name)[~mask] == 0).all()
        assert (weight(made, name)[mask] != 0).float().mean() > 0.9
