"""Section P: preparing, masks, squashing, converting, saving; torch.ao.pruning is the reference where it is right."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao import pruning as reference
from torch.nn.utils import parametrize

from neve import sparsity


class OwnLinear(nn.Linear):
    pass


class Model(nn.Module):
    """Linear layers at two depths, one of them of a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.block = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), OwnLinear(4, 4), nn.Conv2d(1, 1, 1))
        self.last = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.block[2](self.block[1](self.block[0](self.first(x)))))


def prepared(
    config: list[dict[str, Any]] | None = None, **arguments: Any
) -> tuple[Model, sparsity.WeightNormSparsifier]:
    torch.manual_seed(1)
    model = Model()
    sparsifier = sparsity.WeightNormSparsifier(**{"sparse_block_shape": (1, 2), **arguments})
    sparsifier.prepare(model, config)
    return model, sparsifier


def fqns(sparsifier: sparsity.BaseSparsifier) -> list[str]:
    return [g["tensor_fqn"] for g in sparsifier.groups]


def test_p1_configuration_of_a_model() -> None:
    with pytest.raises(TypeError, match="abstract"):
        sparsity.BaseSparsifier()  # type: ignore[abstract]
    _, sparsifier = prepared()
    torch.manual_seed(1)
    expected = reference.WeightNormSparsifier()
    expected.prepare(Model(), None)
    assert fqns(sparsifier) == fqns(expected) == ["first.weight", "last.weight", "block.0.weight"]
    for model, config in ((nn.Linear(2, 2), None), (Model(), [])):
        alone = sparsity.WeightNormSparsifier()
        alone.prepare(model, config)
        assert alone.groups == []


def test_p2_a_layer_with_two_parents_and_two_preparations() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared))
    sparsifier = sparsity.WeightNormSparsifier()
    sparsifier.prepare(model, None)
    assert fqns(sparsifier) == ["0.0.weight"]  # the path of its first place
    assert sparsifier.config == [{"tensor_fqn": "0.0.weight"}]
    assert len(shared.parametrizations.weight) == 1
    sparsifier.step()
    mask = sparsifier.state[fqns(sparsifier)[0]]["mask"].clone()
    assert mask.sum() == 8
    sparsifier.prepare(model, [{"tensor_fqn": "1.0.weight", "sparsity_level": 0.25}])
    assert len(sparsifier.groups) == 1 and sparsifier.groups[0]["sparsity_level"] == 0.25
    assert len(shared.parametrizations.weight) == 1
    assert torch.equal(shared.parametrizations.weight[0].mask, mask)


def test_p3_groups() -> None:
    defaults_entry = {"tensor_fqn": "block.0.weight", "sparsity_level": 0.9, "extra": "kept"}
    model, sparsifier = prepared([defaults_entry])
    assert sparsifier.groups == [
        {
            "sparsity_level": 0.9,
            "sparse_block_shape": (1, 2),
            "zeros_per_block": 2,
            "extra": "kept",
            "module_fqn": "block.0",
            "module": model.block[0],
            "tensor_name": "weight",
            "tensor_fqn": "block.0.weight",
        }
    ]
    sparsifier.defaults["list"] = [1]
    sparsifier.prepare(model, [{"tensor_fqn": "first.weight"}])
    assert sparsifier.groups[1]["list"] == [1] and sparsifier.groups[1]["list"] is not sparsifier.defaults["list"]


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ([nn.Linear(1, 1)], AssertionError, "config elements should be dicts not modules"),
        ([{"module_fqn": "first"}], AssertionError, "tensor_fqn is a required argument"),
        (
            [{"tensor_fqn": "first.weight", "module_fqn": "last"}],
            AssertionError,
            "Given both `module_fqn` and `tensor_fqn` in the config, it is expected them to agree!",
        ),
        ([{"tensor_fqn": "nowhere.weight"}], AttributeError, r"no tensor 'nowhere.weight'.*first.weight"),
        ([{"tensor_fqn": "first.wait"}], AttributeError, "no tensor 'first.wait'"),
        ([{"tensor_fqn": "first.weight", "mask": torch.ones(2)}], AssertionError, r"shape \[2\], wanted \[6, 8\]"),
    ],
)
def test_p4_errors_of_configurations(config: Any, error: type[Exception], message: str) -> None:
    model = Model()
    sparsifier = sparsity.WeightNormSparsifier()
    with pytest.raises(error, match=message):
        sparsifier.prepare(model, [{"tensor_fqn": "last.weight"}, *config])
    assert not parametrize.is_parametrized(model.last) and sparsifier.groups == []  # nothing was changed


def test_p4_mask_and_parametrization_of_an_entry() -> None:
    class Inverse(sparsity.FakeSparsity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (1 - self.mask) * x

    mask = torch.zeros(6, 8)
    model, sparsifier = prepared([{"tensor_fqn": "first.weight", "mask": mask, "parametrization": Inverse}])
    assert sparsifier.state["first.weight"]["mask"] is mask
    assert torch.equal(model.first.weight, model.first.parametrizations.weight.original)


def test_p5_the_mask_is_the_buffer() -> None:
    model, sparsifier = prepared()
    mask = sparsifier.state["first.weight"]["mask"]
    assert torch.equal(mask, torch.ones(6, 8))
    sparsifier.step()
    assert mask.sum() == 24 and sparsifier.state["first.weight"]["mask"] is mask
    assert model.first.parametrizations.weight[0].mask is mask
    assert torch.equal(model.first.weight, mask * model.first.parametrizations.weight.original)


def test_p6_step() -> None:
    seen = []

    class Recorder(sparsity.BaseSparsifier):
        def update_mask(self, module: nn.Module, tensor_name: str, **config: Any) -> None:
            seen.append((module, tensor_name, config["level"], torch.is_grad_enabled()))

    model = Model()
    sparsifier = Recorder({"level": 3})
    sparsifier.prepare(model, None)
    sparsifier.enable_mask_update = False
    sparsifier.step()
    assert seen == []
    sparsifier.enable_mask_update = True
    sparsifier.step()
    assert seen == [(m, "weight", 3, False) for m in (model.first, model.last, model.block[0])]


def test_p7_repr() -> None:
    _, sparsifier = prepared([{"tensor_fqn": "first.weight"}])
    lines = repr(sparsifier).splitlines()
    assert lines[:2] == ["WeightNormSparsifier (", "\tGroup 0"] and lines[2].startswith("\t    module: Parametrized")
    keys = [line.strip().split(":")[0] for line in lines if line.startswith("\t    ")][1:]
    keys = [k for k in keys if k in sparsifier.groups[0]]
    assert keys == sorted(set(sparsifier.groups[0]) - {"module"})


def test_p12_what_is_pruned_stays_pruned() -> None:
    model, sparsifier = prepared(sparsity_level=0.5)
    sparsifier.step()
    mask = sparsifier.state["first.weight"]["mask"].clone()
    with torch.no_grad():
        model.first.parametrizations.weight.original[mask == 0] = 100.0
    sparsifier.step()
    assert torch.equal(sparsifier.state["first.weight"]["mask"], mask)


def test_p14_squash_mask() -> None:
    model, sparsifier = prepared(sparsity_level=0.5)
    sparsifier.step()
    masked = model.first.weight.detach().clone()
    with pytest.raises(KeyError, match="no such key"):
        sparsifier.squash_mask(params_to_keep=("no such key",))
    assert parametrize.is_parametrized(model.first)  # nothing was changed
    sparsifier.squash_mask(
        params_to_keep=("sparsity_level",),
        params_to_keep_per_layer={"first": ("zeros_per_block",), "nowhere": ("sparsity_level",)},
    )
    assert type(model.first) is nn.Linear and isinstance(model.first.weight, nn.Parameter)
    assert torch.equal(model.first.weight, masked) and (masked == 0).sum() == 24
    assert model.first.sparse_params == {"sparsity_level": 0.5, "zeros_per_block": 2}
    assert model.last.sparse_params == {"sparsity_level": 0.5}
    with pytest.raises(AttributeError, match="has no mask"):
        sparsifier.step()
    with pytest.raises(ValueError, match="squashed already"):
        sparsifier.squash_mask()
    sparsifier.prepare(model, None)  # and again
    sparsifier.step()
    assert (model.first.weight == 0).sum() == 24 and len(sparsifier.groups) == 3


def test_p15_convert() -> None:
    class Converted(nn.Module):
        @classmethod
        def from_dense(cls, dense: nn.Module) -> Converted:
            new = cls()
            new.weight = dense.weight.detach().clone()
            return new

    model, sparsifier = prepared([{"tensor_fqn": "block.0.weight"}], sparsity_level=0.5)
    sparsifier.step()
    model.again = model.block[0]
    with pytest.raises(NotImplementedError, match="Need to auto generate mapping "):
        sparsifier.convert(model)
    copied = sparsifier.convert(model, {nn.Linear: Converted})
    assert type(copied.first) is nn.Linear  # it has no mask
    assert type(copied.block[0]) is Converted and copied.again is copied.block[0]
    assert torch.equal(copied.block[0].weight, model.block[0].weight) and (copied.block[0].weight == 0).sum() == 12
    assert sparsity.module_contains_param(model.block[0], sparsity.FakeSparsity)
    assert sparsifier.convert(model, {nn.Linear: Converted}, inplace=True) is model
    assert type(model.block[0]) is Converted
    other, sparsifier = prepared([{"tensor_fqn": "first.weight"}])
    kept = sparsifier.convert(other, {nn.Linear: Converted}, parameterization=nn.Dropout)
    assert not any(isinstance(m, Converted) for m in kept.modules())


def test_p16_state_dict() -> None:
    _, sparsifier = prepared(sparsity_level=0.5)
    sparsifier.step()
    state = sparsifier.state_dict()
    assert set(state) == {"state", "groups"}
    assert state["state"]["first.weight"]["mask"] is sparsifier.state["first.weight"]["mask"]
    assert not {"module", "module_fqn", "tensor_name"} & set(state["groups"][0])
    before = copy.deepcopy(state)

    _, twin = prepared([{"tensor_fqn": "first.weight"}], sparsity_level=0.1)
    twin.load_state_dict(state)
    _, second = prepared(sparsity_level=0.1)
    second.load_state_dict(state)  # the first load must have left the masks in the dict
    for loaded in (twin, second):
        assert fqns(loaded) == fqns(sparsifier)
        for group in loaded.groups:
            mask = loaded.state[group["tensor_fqn"]]["mask"]
            assert torch.equal(mask, sparsifier.state[group["tensor_fqn"]]["mask"]) and mask.sum() < mask.numel()
            assert mask is group["module"].parametrizations.weight[0].mask
            assert len(group["module"].parametrizations.weight) == 1
            assert group["sparsity_level"] == 0.5 and "mask" not in group
    for s in twin.state.values():
        s["mask"].zero_()  # shares nothing
    for fqn, s in before["state"].items():
        assert torch.equal(state["state"][fqn]["mask"], s["mask"])
    twin.step()


def test_p16_errors_of_loading() -> None:
    _, sparsifier = prepared()
    state = sparsifier.state_dict()
    stranger = sparsity.WeightNormSparsifier()
    with pytest.raises(AttributeError, match="call prepare"):
        stranger.load_state_dict(state)
    model = nn.Sequential(nn.Linear(2, 2))
    stranger.prepare(model, None)
    with pytest.raises(RuntimeError, match=r"Error loading first\.weight into the model"):
        stranger.load_state_dict(state)
    with pytest.raises(AttributeError, match=r"first\.weight"):
        stranger.load_state_dict(state, strict=False)
    assert fqns(stranger) == ["0.weight"]


def test_p17_copies() -> None:
    model, sparsifier = prepared(sparsity_level=0.5, norm=1)
    scheduler = sparsity.CubicSL(sparsifier, total_t=1)
    sparsifier.groups[0]["sparsity_level"] = 0.5
    sparsifier.step()
    expected = sparsifier.state["first.weight"]["mask"].clone()
    assert scheduler.last_epoch == 0 and 0 < expected.mean() < 1

    twin_model, twin = copy.deepcopy((model, sparsifier))
    assert twin.groups[0]["module"] is twin_model.first and twin.model is twin_model
    assert twin.state["first.weight"]["mask"] is twin_model.first.parametrizations.weight[0].mask
    twin.groups[0]["sparsity_level"] = 1.0
    twin.step()
    assert not twin_model.first.weight.any() and torch.equal(sparsifier.state["first.weight"]["mask"], expected)

    loaded = pickle.loads(pickle.dumps(sparsifier))
    assert loaded.enable_mask_update and loaded.defaults == sparsifier.defaults
    other = Model()
    loaded.prepare(other, None)
    assert torch.equal(other.first.parametrizations.weight[0].mask, expected) and len(loaded.groups) == 3
    loaded.step()
    assert loaded.norm_fn(torch.tensor(-3.0)) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_p18_with_quantization() -> None:
    from torch.ao import quantization

    def make() -> tuple[nn.Module, sparsity.WeightNormSparsifier]:
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        return model, sparsity.WeightNormSparsifier(0.5, (1, 4))

    def sparse_share(model: nn.Module) -> float:
        weight = model[0].weight()
        return (weight.dequantize() == 0).float().mean().item()

    model, sparsifier = make()  # sparse first, then quantized
    sparsifier.prepare(model, None)
    sparsifier.step()
    sparsifier.squash_mask()
    first = quantization.quantize_dynamic(model, {nn.Linear}, inplace=False)
    assert sparse_share(first) >= 0.5

    model, sparsifier = make()  # observers first, masks then, converted without squash
    model.qconfig = quantization.default_qconfig
    quantization.prepare(model, inplace=True)
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    model(torch.randn(4, 8))
    pruned = model[0].weight == 0
    converted = quantization.convert(model, inplace=False)
    assert type(converted[0]) is type(converted[2]) is torch.ao.nn.quantized.Linear
    assert pruned.sum() == 32 and (converted[0].weight().dequantize()[pruned] == 0).all()

    model, sparsifier = make()  # trained with fake quantization
    model.qconfig = quantization.get_default_qat_qconfig("x86")
    sparsifier.prepare(model, None)
    sparsifier.step()
    sparsifier.squash_mask()
    pruned = model[0].weight == 0
    trained = quantization.prepare_qat(model.train(), inplace=False)
    trained(torch.randn(4, 8))
    weight = quantization.convert(trained.eval(), inplace=False)[0].weight().dequantize()
    assert (weight[pruned] == 0).all()

    fused = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval()
    quantization.fuse_modules(fused, [["0", "1"]], inplace=True)
    _, sparsifier = make()
    with pytest.raises(AttributeError, match=r"no tensor '0\.weight'.*0\.0\.weight"):
        sparsifier.prepare(fused, [{"tensor_fqn": "0.weight"}])  # fusion changes the path that is to be given
    sparsifier.prepare(fused, [{"tensor_fqn": "0.0.weight"}])
    sparsifier.step()
    assert (fused[0][0].weight == 0).sum() == 32
