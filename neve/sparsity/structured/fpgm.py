"""Filter pruning via geometric median."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neve.sparsity.structured.sparsifier import BaseStructuredSparsifier, pick


class FPGMPruner(BaseStructuredSparsifier):
    """Prunes round(sparsity_level * rows) rows that are nearest to all others, as those can stand in for them: He et
    al., https://arxiv.org/abs/1811.00250.

    dist: 1 (L1), 2 or None (L2), or a function from rows [n, elements] to distances [n, n]; other numbers raise
    NotImplementedError. A level of 0 or less keeps all rows, of 1 or more none; between, pruned rows stay so, and count
    as zero in the distances of the next step. step raises ValueError for a weight of one dim and for an LSTM's.
    """

    SUPPORTED_MODULES: ClassVar[frozenset[type[nn.Module]]] = frozenset({nn.Linear, nn.Conv2d})

    def __init__(self, sparsity_level: float = 0.5, dist: Callable[[Tensor], Tensor] | int | None = None) -> None:
        if not callable(dist) and dist not in (None, 1, 2):
            raise NotImplementedError(f"Distance function is not yet implemented: {dist!r}. Use 1, 2 or a function.")
        self.dist_fn: Callable[[Tensor], Tensor] = dist if callable(dist) else (_l1 if dist == 1 else _l2)
        super().__init__({"sparsity_level": sparsity_level})

    def update_mask(self, module: nn.Module, tensor_name: str, **config: Any) -> None:
        level, mask = config["sparsity_level"], self.mask(module, tensor_name)
        if level <= 0 or level >= 1:
            mask.fill_(level <= 0)
            return
        distances = self.dist_fn(self.rows(module, tensor_name).flatten(1)).abs().sum(1)
        mask[pick(distances, round(level * len(mask)))] = False


def _l1(rows: Tensor) -> Tensor:
    return torch.cdist(rows, rows, p=1)


def _l2(rows: Tensor) -> Tensor:
    return torch.cdist(rows, rows, p=2)
