"""Pruners that remove the rows of least L1 norm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from neve.sparsity.structured.sparsifier import BaseStructuredSparsifier, pick


class SaliencyPruner(BaseStructuredSparsifier):
    """Prunes int(rows * sparsity_level) rows of least L1 norm of weights with two or more dims.

    sparsity_level, 0 to 1, comes from the defaults or the configuration. The norm is that of the masked weight, and a
    row that is pruned stays so. step raises ValueError for a level beyond, a weight of one dim, and an LSTM's weight: a
    unit's rows lie in each of its four gates, and LSTMSaliencyPruner prunes them together.
    """

    SUPPORTED_MODULES: ClassVar[frozenset[type[nn.Module]]] = frozenset({nn.Linear, nn.Conv2d})

    def update_mask(self, module: nn.Module, tensor_name: str, **config: Any) -> None:
        mask, weight = self.mask(module, tensor_name), self.rows(module, tensor_name)
        count = int(len(mask) * _level(config))
        mask[pick(_saliency(weight), count)] = False


class LSTMSaliencyPruner(BaseStructuredSparsifier):
    """Prunes the units of least L1 norm of LSTMs: int(hidden_size * sparsity_level) in each layer and direction.

    A unit's norm is that of its rows in all four gates, in weight_ih and weight_hh together; they are pruned together.
    Both weights of a layer belong into the configuration, or no unit can be removed. Linear and Conv2d are pruned as by
    SaliencyPruner. torch.ao.pruning's class chooses rows gate by gate; what its prune() makes of them pairs the gates
    of different units.
    """

    def update_mask(self, module: nn.Module, tensor_name: str, **config: Any) -> None:
        mask, level = self.mask(module, tensor_name), _level(config)
        if not isinstance(module, nn.LSTM):
            mask[pick(_saliency(self.rows(module, tensor_name)), int(len(mask) * level))] = False
            return
        kind = tensor_name[: len("weight_ih")]
        if kind not in ("weight_ih", "weight_hh"):
            raise ValueError(f"units of an LSTM are rows of weight_ih and weight_hh, got {tensor_name!r}")
        both = [getattr(module, other + tensor_name[len(kind) :]) for other in ("weight_ih", "weight_hh")]
        units = sum((_saliency(w).view(4, -1).sum(0) for w in both), torch.zeros(()))
        mask.view(4, -1)[:, pick(units, int(module.hidden_size * level))] = False


def _saliency(weight: Tensor) -> Tensor:
    return weight.abs().flatten(1).sum(1)


def _level(config: dict[str, Any]) -> float:
    level: float = config["sparsity_level"]
    if not 0 <= level <= 1:
        raise ValueError(f"sparsity_level is a share of the rows, 0 to 1; got {level}")
    return level
