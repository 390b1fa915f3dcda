"""Section X1–X3, X7: sparsifiers of data; torch.ao.pruning's are the reference where they are right."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.pruning._experimental.data_sparsifier import DataNormSparsifier as Reference
from torch.ao.pruning._experimental.data_sparsifier.quantization_utils import post_training_sparse_quantize as reference

from neve import sparsity


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(**arguments: Any) -> sparsity.DataNormSparsifier:
    """A sparsifier of a tensor, a parameter and an embedding."""
    embedding = nn.Embedding(6, 8)
    embedding.weight.data = random(6, 8, seed=2)
    data = [("tensor", random(4, 8)), ("parameter", nn.Parameter(random(8, 4, seed=1))), ("embedding", embedding)]
    return sparsity.DataNormSparsifier(data, **arguments)


class Plain(sparsity.BaseDataSparsifier):
    """Prunes the first row."""

    def update_mask(self, name: str, data: Tensor, **config: Any) -> None:
        self.get_mask(name)[0] = 0


def test_x1_adding_and_reading() -> None:
    with pytest.raises(TypeError, match="abstract"):
        sparsity.BaseDataSparsifier()  # type: ignore[abstract]
    tensor, bag = random(3, 4), nn.EmbeddingBag(5, 4)
    sparsifier = Plain([("tensor", tensor)], level=3)
    returned = sparsifier.add_data("bag", bag, level=4)
    assert torch.equal(returned, bag.weight)
    assert sparsifier.data_groups == {"tensor": {"level": 3}, "bag": {"level": 4}}
    assert sparsifier.get_data("tensor") is tensor  # the caller's memory
    assert sparsifier.get_data("bag").data_ptr() == bag.weight.data_ptr()
    sparsifier.step()
    assert torch.equal(sparsifier.get_data("tensor", return_original=False)[0], torch.zeros(4))
    assert torch.equal(sparsifier.get_data("tensor"), random(3, 4))
    with pytest.raises(AssertionError, match=r"specified data type:.*Linear.*not supported"):
        sparsifier.add_data("linear", nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="undefined for this class"):
        sparsifier.prepare(nn.Linear(1, 1), None)
    for get in (sparsifier.get_data, sparsifier.get_mask):
        with pytest.raises(ValueError, match="data with specified name does not exist"):
            get("nothing")


def test_x1_replacing() -> None:
    sparsifier = Plain([("a", random(3, 4))], level=3)
    sparsifier.step()
    with pytest.warns(UserWarning, match="Replacing existing data of the same name"):
        sparsifier.add_data("a", random(3, 4, seed=1), other=5)
    assert sparsifier.data_groups["a"] == {"level": 3, "other": 5}
    assert sparsifier.get_mask("a").sum() == 8 and torch.equal(sparsifier.get_data("a"), random(3, 4, seed=1))
    with pytest.warns(UserWarning, match="Replacing"), pytest.raises(AssertionError, match="to retain the old mask"):
        sparsifier.add_data("a", random(2, 2))
    assert torch.equal(sparsifier.get_data("a"), random(3, 4, seed=1))
    with pytest.warns(UserWarning, match="Replacing"):
        sparsifier.add_data("a", random(2, 2), reuse_mask=False)
    assert sparsifier.get_mask("a").all() and sparsifier.get_data("a").shape == (2, 2)


def test_x1_squashing() -> None:
    sparsifier = make()
    sparsifier.step()
    expected = sparsifier.get_data("embedding", return_original=False).clone()
    held = sparsifier.get_data("embedding")
    sparsifier.squash_mask(names=["embedding"])
    assert torch.equal(sparsifier.get_data("embedding", return_original=False), expected)
    assert torch.equal(held, expected) and (expected == 0).sum() == 24
    with pytest.raises(ValueError, match="mask squashed - original mask value does not exist"):
        sparsifier.get_data("embedding")
    with pytest.raises(ValueError, match="mask squashed"):
        sparsifier.step()
    assert sparsifier.get_data("tensor").all()
    sparsifier.squash_mask(names=["tensor"], leave_parametrized=False)
    assert sparsifier.get_data("tensor", return_original=False).all()
    with pytest.warns(UserWarning, match="Replacing"):
        sparsifier.add_data("embedding", random(6, 8))
    assert sparsifier.get_mask("embedding").sum() == 24


def test_x1_saving() -> None:
    sparsifier = make()
    sparsifier.step()
    sparsifier.squash_mask(names=["parameter"])
    state = sparsifier.state_dict()
    assert set(state) == {"state", "data_groups", "_container"}
    assert all(s["mask"].layout == torch.sparse_coo for s in state["state"].values())
    loaded = sparsity.DataNormSparsifier([("tensor", random(2, 2)), ("other", random(3, 3))], sparsity_level=0.1)
    loaded.load_state_dict(state, strict=False)
    assert set(loaded.data_groups) == {"tensor", "other", "parameter", "embedding"}
    loaded.load_state_dict(state)
    assert set(loaded.data_groups) == set(loaded.state) == {"tensor", "parameter", "embedding"}
    for name in loaded.data_groups:
        assert torch.equal(loaded.get_mask(name), sparsifier.get_mask(name))
        assert torch.equal(loaded.get_data(name, False), sparsifier.get_data(name, False))
    assert loaded.data_groups == sparsifier.data_groups and loaded.data_groups["tensor"]["sparsity_level"] == 0.5
    with pytest.raises(ValueError, match="mask squashed"):
        loaded.get_data("parameter")
    loaded.get_mask("tensor").zero_()
    assert sparsifier.get_mask("tensor").any()
    for key, lacking in (("data_groups", "configuration"), ("_container", "data")):
        broken = {**state, key: {}}
        with pytest.raises(RuntimeError, match=f"Error loading tensor: the state dict has no {lacking}"):
            loaded.load_state_dict(broken)
    assert len(loaded.data_groups) == 3


@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize(
    ("block", "zeros", "level", "shape"),
    [
        ((1, 4), None, 0.5, (4, 8)),
        ((2, 3), None, 0.3, (7, 10)),
        ((1, 4), 2, 0.7, (6, 16)),
        ((2, 2), 1, 1.0, (5, 7)),
        ((1, 1), None, 0.0, (3, 3)),
        ((1, 4), None, 1.0, (3, 8)),
        ((1, 4), None, 0.95, (1, 8)),
    ],
)
def test_x2_data_norm(
    norm: str, block: tuple[int, int], zeros: int | None, level: float, shape: tuple[int, int]
) -> None:
    found = []
    for cls in (sparsity.DataNormSparsifier, Reference):
        sparsifier = cls([("a", random(*shape))], level, block, zeros, norm)
        sparsifier.step()
        found.append(sparsifier.get_mask("a"))
    assert torch.equal(*found) and found[0].dtype == torch.int8


def test_x2_defects_of_the_reference() -> None:
    sparsifier = make(sparsity_level=-0.5)
    sparsifier.step()
    assert all(sparsifier.get_mask(name).all() for name in sparsifier.data_groups)
    for shape in ((8,), (8, 1), (2, 1, 8)):
        sparsifier = sparsity.DataNormSparsifier([("a", random(*shape))], 0.5)
        sparsifier.step()
        pruned = sparsifier.get_data("a", return_original=False)
        assert pruned.shape == shape and (pruned == 0).sum() == pruned.numel() // 2
    sparsifier = sparsity.DataNormSparsifier([("a", random(2, 3, 4))])
    with pytest.raises(ValueError, match="only supports 2-D at the moment"):
        sparsifier.step()
    with pytest.raises(AssertionError, match="only L1 and L2 norm supported"):
        sparsity.DataNormSparsifier(norm="L3")
    with pytest.raises(ValueError, match="cannot be more than the total number"):
        make(zeros_per_block=5).step()
    sparsifier = make(norm="L2")
    sparsifier.step()
    for twin in (pickle.loads(pickle.dumps(sparsifier)), copy.deepcopy(sparsifier)):
        assert twin.norm == "L2" and twin.enable_mask_update
        assert (
            torch.equal(twin.get_mask("tensor"), sparsifier.get_mask("tensor")) and twin.get_mask("tensor").sum() == 16
        )
        twin.data_groups["tensor"]["sparsity_level"] = 1.0
        twin.step()
        assert not twin.get_data("tensor", False).any() and sparsifier.get_data("tensor", False).any()


class Doubling(sparsity.BaseDataScheduler):
    def get_schedule_param(self) -> dict[str, Any]:
        return {name: value * 2**self.last_epoch for name, value in self.base_param.items() if value is not None}


def test_x3_schedules() -> None:
    sparsifier = make(sparsity_level=0.1)
    sparsifier.add_data("without", random(2, 4), zeros_per_block=1)
    del sparsifier.data_groups["without"]["sparsity_level"]
    scheduler = Doubling(sparsifier, "sparsity_level")
    assert scheduler.base_param == {"tensor": 0.1, "parameter": 0.1, "embedding": 0.1, "without": None}
    with pytest.warns(UserWarning, match=r"Detected call of `scheduler\.step\(\)` before `data_sparsifier\.step\(\)`"):
        scheduler.step()
    assert scheduler.get_last_param() == {"tensor": 0.2, "parameter": 0.2, "embedding": 0.2, "without": None}
    sparsifier = make(zeros_per_block=1)
    sparsifier.enable_mask_update = False
    scheduler = Doubling(sparsifier, "zeros_per_block")
    assert sparsifier.enable_mask_update
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsifier.step()
        scheduler.step()
    assert {c["zeros_per_block"] for c in sparsifier.data_groups.values()} == {2}
    other = Doubling(make(zeros_per_block=3), "zeros_per_block")
    other.load_state_dict(pickle.loads(pickle.dumps(scheduler.state_dict())))
    assert other.last_epoch == 1 and other.get_last_param()["tensor"] == 2
    with pytest.raises(TypeError, match=r"Sequential is not an instance of neve\.sparsity\.BaseDataSparsifier"):
        Doubling(nn.Sequential(), "sparsity_level")  # type: ignore[arg-type]


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Embedding(10, 16)
        self.inner = nn.Sequential(nn.EmbeddingBag(8, 16, mode="sum"))
        self.linear = nn.Linear(16, 4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("sparsify_first", [True, False])
@pytest.mark.parametrize("select", [True, False])
def test_x7_sparse_quantize(sparsify_first: bool, select: bool) -> None:
    torch.manual_seed(0)
    ours = Embeddings()
    theirs = copy.deepcopy(ours)
    for model, function, cls in (
        (ours, sparsity.post_training_sparse_quantize, sparsity.DataNormSparsifier),
        (theirs, reference, Reference),
    ):
        chosen = [model.first] if select else None
        function(model, cls, sparsify_first, chosen, sparsity_level=0.5, sparse_block_shape=(1, 4))
    names = ["first"] if select else ["first", "inner.0"]
    for name in names:
        a, b = (m.get_submodule(name).weight().dequantize() for m in (ours, theirs))
        step = (a.max() - a.min()) / 255  # rows are quantized with a real offset: 0 is met to half a step
        assert torch.equal(a, b) and (a.abs() <= step).float().mean() >= 0.4
    assert type(ours.linear) is nn.Linear and type(ours.inner[0]) is type(theirs.inner[0])


def test_x7_errors() -> None:
    model = Embeddings()
    for selected, message in (
        ((model.first,), "must be a list"),
        ([model.linear], "must be an embedding or embedding bags"),
        ([nn.Embedding(2, 2)], "must be part of input model"),
    ):
        with pytest.raises(AssertionError, match=message):
            sparsity.post_training_sparse_quantize(
                model,
                sparsity.DataNormSparsifier,
                select_embeddings=selected,  # type: ignore[arg-type]
            )
