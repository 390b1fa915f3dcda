"""Magnitude pruning by blocks, N:M sparsity, and the blocks that compiled code skips best."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neve.build.target import parse_target
from neve.kernels import KERNELS
from neve.sparsity.masks import (
    Norm,
    check_zeros_per_block,
    norm_function,
    set_mask,
    whole_blocks,
    within_blocks,
)
from neve.sparsity.sparsifier import BaseSparsifier


def block_shape(target: str = "native") -> tuple[int, int]:
    """The (rows, columns) of pruned blocks with which a model compiled for this target is fastest.

    target: a name that `neve.compile` takes. For `sparse_block_shape` and for masks of one's own; layers that are
    pruned in other blocks, or element by element, are compiled to sparse code as well where that is faster than dense
    code, from more zeros on. Raises BuildError for an unknown target.
    """
    here = parse_target(target)
    return next(k.zeros(here) for k in KERNELS if k.zeros is not None)


class WeightNormSparsifier(BaseSparsifier):
    """Prunes the blocks of least norm of 2-D weights, and of those of convolutions of single pixels.

    sparsity_level: share of the blocks that are pruned, 0 to 1; round(level * blocks) of them, and at least one stays
        unless the level is 1 or more.
    sparse_block_shape: (rows, columns) of a block; blocks tile the weight [out, in] from element (0, 0). `block_shape`
        tells the one that is fastest.
    zeros_per_block: how many elements of a chosen block are pruned, those of least norm; by default all. Fewer give N:M
        sparsity: (1, 4) with 2 at level 1 is 2:4.
    norm: `masks.Norm`; a block's norm is the mean over its elements, in a partial one at the edge over what is there.

    All but norm are defaults, which an entry of the configuration may override. The norm is that of the masked weight:
    what is pruned stays pruned.

    step raises ValueError for zeros_per_block below 0 or beyond the block, and for a 1-D weight; RuntimeError for a
    weight of more dims whose kernel is not 1×1. The behaviour is that of torch.ao.pruning's class, but that N:M masks
    fit weights whose sides are no multiples of the block, and that 1×1 kernels are taken.
    """

    def __init__(
        self,
        sparsity_level: float = 0.5,
        sparse_block_shape: tuple[int, int] = (1, 4),
        zeros_per_block: int | None = None,
        norm: Norm = None,
    ) -> None:
        if zeros_per_block is None:
            zeros_per_block = sparse_block_shape[0] * sparse_block_shape[1]
        self.norm_fn = norm_function(norm)
        super().__init__(
            {
                "sparsity_level": sparsity_level,
                "sparse_block_shape": sparse_block_shape,
                "zeros_per_block": zeros_per_block,
            }
        )

    def update_mask(self, module: nn.Module, tensor_name: str, **config: Any) -> None:
        level, block, zeros = (config[k] for k in ("sparsity_level", "sparse_block_shape", "zeros_per_block"))
        check_zeros_per_block(zeros, block)
        mask = self.mask(module, tensor_name)
        whole = zeros == block[0] * block[1]
        if level <= 0 or zeros == 0:
            set_mask(mask, torch.ones_like(mask))
        elif level >= 1 and whole:
            set_mask(mask, torch.zeros_like(mask))
        else:
            scores = self.norm_fn(_matrix(getattr(module, tensor_name), tensor_name))
            kept = _kept_blocks(scores, block, level)
            chosen = kept if whole else torch.logical_or(kept, within_blocks(scores, block, zeros))
            set_mask(mask, chosen.reshape(mask.shape))


def _kept_blocks(scores: Tensor, block: tuple[int, int], level: float) -> Tensor:
    if level >= 1:
        return torch.zeros_like(scores)
    blocks = -(-scores.shape[0] // block[0]) * -(-scores.shape[1] // block[1])
    return whole_blocks(scores, block, max(0, min(blocks - 1, round(level * blocks))))


def _matrix(weight: Tensor, name: str) -> Tensor:
    if weight.dim() >= 2 and weight.shape.numel() == weight.shape[0] * weight.shape[1]:
        return weight.flatten(1)
    error = ValueError if weight.dim() < 2 else RuntimeError
    raise error(
        f"blocks are of 2-D weights, and '{name}' has the shape {list(weight.shape)}; leave it out of the "
        "configuration, or derive a sparsifier whose update_mask reshapes it"
    )
