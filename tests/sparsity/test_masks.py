"""Sections P8–P13: which elements a sparsifier prunes; torch.ao.pruning is the reference where it is right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.ao import pruning as reference

from neve import sparsity
from neve.build.target import BASES
from neve.errors import BuildError


def masks_of(make: Any, weight: torch.Tensor, steps: int = 1) -> torch.Tensor:
    """The mask that a sparsifier gives a weight."""
    model = nn.Sequential(nn.Linear(weight.shape[-1], weight.shape[0]))
    model[0].weight = nn.Parameter(weight.clone())
    sparsifier = make()
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    for _ in range(steps):
        sparsifier.step()
    return sparsifier.state["0.weight"]["mask"]


def both(name: str, weight: torch.Tensor, **arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The masks of neve and of torch."""
    return (
        masks_of(lambda: getattr(sparsity, name)(**arguments), weight),
        masks_of(lambda: getattr(reference, name)(**arguments), weight),
    )


@pytest.mark.parametrize("norm", [None, 1, 2, lambda w: w.abs() ** 3])
@pytest.mark.parametrize(
    ("block", "level"), [((1, 1), 0.3), ((1, 4), 0.5), ((2, 3), 0.37), ((4, 1), 0.9), ((8, 8), 0.5)]
)
def test_p8_whole_blocks(norm: Any, block: tuple[int, int], level: float) -> None:
    weight = torch.randn(12, 24, generator=torch.Generator().manual_seed(3))
    ours, theirs = both("WeightNormSparsifier", weight, sparsity_level=level, sparse_block_shape=block, norm=norm)
    assert torch.equal(ours, theirs) and 0 < ours.mean() < 1


def test_p8_partial_blocks_count_what_is_there() -> None:
    weight = torch.tensor([[1.0, 1.0, 0.9], [3.0, 3.0, 3.0]])  # blocks of means 1, 0.9, 3, 3
    ours, theirs = both("WeightNormSparsifier", weight, sparsity_level=0.25, sparse_block_shape=(1, 2), norm=1)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours, torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))


def test_p8_unknown_norms() -> None:
    with pytest.raises(NotImplementedError, match=r"L-3 is not yet implemented\."):
        sparsity.WeightNormSparsifier(norm=3)


@pytest.mark.parametrize(("zeros", "level"), [(1, 0.5), (2, 1.0), (3, 0.25)])
def test_p9_zeros_within_blocks(zeros: int, level: float) -> None:
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(4))
    arguments = {"sparsity_level": level, "sparse_block_shape": (2, 2), "zeros_per_block": zeros}
    ours, theirs = both("WeightNormSparsifier", weight, **arguments)
    assert torch.equal(ours, theirs) and ours.dtype == torch.bool
    assert (~ours).sum() == round(level * 32) * zeros


def test_p9_two_of_four() -> None:
    weight = torch.tensor([[4.0, 1.0, -2.0, 3.0, 0.1, 0.4, -0.3, 0.2]])
    mask = masks_of(lambda: sparsity.WeightNormSparsifier(1.0, (1, 4), 2), weight)
    assert mask.int().tolist() == [[1, 0, 0, 1, 0, 1, 1, 0]]


def test_p10_sides_that_are_no_multiples_of_the_block() -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(5))
    ours, theirs = both("WeightNormSparsifier", weight, sparsity_level=0.5, sparse_block_shape=(2, 4))
    assert torch.equal(ours, theirs) and ours.shape == (5, 7)
    for level in (0.5, 1.0):  # torch's masks have the padded shape
        mask = masks_of(lambda level=level: sparsity.WeightNormSparsifier(level, (1, 4), 2), weight)
        assert mask.shape == (5, 7)
        blocks = [(~mask[row, at : at + 4]).sum().item() for row in range(5) for at in (0, 4)]
        assert set(blocks) == ({2} if level == 1.0 else {0, 2})
        for row in range(5):
            kept, gone = weight[row, 4:][mask[row, 4:]].abs(), weight[row, 4:][~mask[row, 4:]].abs()
            assert not gone.numel() or gone.max() < kept.min()


@pytest.mark.parametrize("weight", [torch.arange(24.0).reshape(3, 8)])
def test_p11_levels_at_the_ends(weight: torch.Tensor) -> None:
    for level, zeros, share in (
        (0, 4, 1),
        (-1, 4, 1),
        (0.5, 0, 1),
        (1.0, 4, 0),
        (7, 4, 0),
        (0.99, 4, 1 / 6),
        (0.25, 4, 2 / 3),
    ):
        arguments = {"sparsity_level": level, "zeros_per_block": zeros}
        ours, theirs = both("WeightNormSparsifier", weight, **arguments)
        assert torch.equal(ours, theirs)
        assert ours.float().mean().item() == pytest.approx(share)  # 0.25 of 6 blocks: round(1.5) is 2
    ours, theirs = both("WeightNormSparsifier", torch.arange(40.0).reshape(5, 8), sparsity_level=0.25)
    assert ours.sum() == theirs.sum() == 32  # round(2.5) is 2
    for zeros, message in ((5, "cannot be more than the total number"), (-1, "should be positive")):
        with pytest.raises(ValueError, match=message):
            masks_of(lambda zeros=zeros: sparsity.WeightNormSparsifier(zeros_per_block=zeros), weight)
    model = nn.Sequential(nn.Linear(2, 2), nn.Conv2d(2, 2, 3))
    for fqn, error in (("0.bias", ValueError), ("1.weight", RuntimeError)):
        sparsifier = sparsity.WeightNormSparsifier()
        sparsifier.prepare(model, [{"tensor_fqn": fqn}])
        with pytest.raises(error, match="blocks are of 2-D weights"):
            sparsifier.step()


@pytest.mark.parametrize("nearliness", [1, 3, 5, -1, -5])
def test_p13_nearly_diagonal(nearliness: int) -> None:
    ours, theirs = both("NearlyDiagonalSparsifier", torch.ones(4, 6), nearliness=nearliness)
    assert torch.equal(ours, theirs) and ours.any() == (nearliness > 0)


@pytest.mark.parametrize(
    ("nearliness", "message"),
    [
        (2, "nearliness can only be an odd number"),
        (0, "nearliness can only be an odd number"),
        (9, "nearliness cannot be larger than the dimensions of tensor.*at most 7"),
    ],
)
def test_p13_errors_leave_the_mask(nearliness: int, message: str) -> None:
    model = nn.Sequential(nn.Linear(6, 4))
    sparsifier = sparsity.NearlyDiagonalSparsifier(nearliness)
    sparsifier.prepare(model, None)
    with pytest.raises(ValueError, match=message):
        sparsifier.step()
    assert sparsifier.state["0.weight"]["mask"].all()


def test_a_convolution_of_single_pixels_is_pruned_as_a_matrix() -> None:
    weight = torch.randn(12, 8, 1, 1, generator=torch.Generator().manual_seed(3))
    flat = masks_of(lambda: sparsity.WeightNormSparsifier(0.6, (4, 1)), weight.flatten(1))
    model = nn.Sequential(nn.Conv2d(8, 12, 1))
    model[0].weight = nn.Parameter(weight)
    sparsifier = sparsity.WeightNormSparsifier(0.6, (4, 1))
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    assert torch.equal(sparsifier.state["0.weight"]["mask"], flat.reshape(weight.shape)) and 0 < flat.mean() < 1


@pytest.mark.parametrize("target", BASES)
def test_weights_are_pruned_in_the_blocks_of_a_target(target: str) -> None:
    rows, columns = sparsity.block_shape(target)
    mask = masks_of(lambda: sparsity.WeightNormSparsifier(0.5, (rows, columns)), torch.randn(8 * rows, 6 * columns))
    assert rows > 1 and columns == 1
    assert set(mask.reshape(8, rows, 6 * columns).mean(1).flatten().tolist()) == {0.0, 1.0}


def test_block_shape_of_an_unknown_target() -> None:
    with pytest.raises(BuildError, match="unknown target 'sparc'"):
        sparsity.block_shape("sparc")
