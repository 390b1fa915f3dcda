"""Magnitude pruning of data by blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from neve.sparsity.data.sparsifier import BaseDataSparsifier, Data
from neve.sparsity.masks import absolute, check_zeros_per_block, set_mask, square, whole_blocks, within_blocks


class DataNormSparsifier(BaseDataSparsifier):
    """Prunes the blocks of least L1 or L2 norm: round(sparsity_level * blocks) of them, none for a level below 0.

    The arguments are those of WeightNormSparsifier, but that norm is "L1" or "L2" (else AssertionError). Data of one
    dim count as one row; of more than two as their matrix if all dims but two are 1, else step raises ValueError, as
    for zeros_per_block below 0 or beyond the block. Masks are int8 after a step. The norm is that of the data without
    mask, so that what was pruned can come back.
    """

    def __init__(
        self,
        data_list: Iterable[tuple[str, Data]] | None = None,
        sparsity_level: float = 0.5,
        sparse_block_shape: tuple[int, int] = (1, 4),
        zeros_per_block: int | None = None,
        norm: str = "L1",
    ) -> None:
        if norm not in ("L1", "L2"):
            raise AssertionError(f"only L1 and L2 norm supported at the moment, got {norm!r}")
        if zeros_per_block is None:
            zeros_per_block = sparse_block_shape[0] * sparse_block_shape[1]
        self.norm = norm
        super().__init__(
            data_list,
            sparsity_level=sparsity_level,
            sparse_block_shape=sparse_block_shape,
            zeros_per_block=zeros_per_block,
        )

    def update_mask(self, name: str, data: Tensor, **config: Any) -> None:  # type: ignore[override] # as in the base
        level, block, zeros = (config[k] for k in ("sparsity_level", "sparse_block_shape", "zeros_per_block"))
        check_zeros_per_block(zeros, block)
        scores = (absolute if self.norm == "L1" else square)(_matrix(data, name))
        blocks = -(-scores.shape[0] // block[0]) * -(-scores.shape[1] // block[1])
        kept = whole_blocks(scores, block, max(0, min(blocks, round(level * blocks)))).bool()
        if zeros < block[0] * block[1]:
            kept |= within_blocks(scores, block, zeros).bool()
        set_mask(self.get_mask(name), kept.reshape(data.shape).to(torch.int8))


def _matrix(data: Tensor, name: str) -> Tensor:
    if data.dim() == 2:
        return data
    squeezed = data.squeeze()
    if squeezed.dim() > 2:
        raise ValueError(f"only supports 2-D at the moment: {name!r} has the shape {list(data.shape)}; reshape it")
    return squeezed if squeezed.dim() == 2 else squeezed.reshape(1, -1)
