"""Masks that keep the diagonals around the main one."""

from __future__ import annotations

from typing import Any

from torch import nn

from neve.sparsity.masks import near_diagonal, set_mask
from neve.sparsity.sparsifier import BaseSparsifier


class NearlyDiagonalSparsifier(BaseSparsifier):
    """Keeps the `nearliness` diagonals of a 2-D weight that are nearest to the main one: |row - column| <= nearliness
    // 2.

    nearliness is odd; a negative one keeps nothing. step raises ValueError if it is even or beyond the shorter side of
    the weight, and the mask is what it was (torch.ao.pruning's class has zeroed it by then).
    """

    def __init__(self, nearliness: int = 1) -> None:
        super().__init__({"nearliness": nearliness})

    def update_mask(self, module: nn.Module, tensor_name: str, **config: Any) -> None:
        mask = self.mask(module, tensor_name)
        set_mask(mask, near_diagonal(mask, config["nearliness"]))
