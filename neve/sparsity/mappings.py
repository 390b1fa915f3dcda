"""Which module a sparse layer becomes when it is converted: torch's sparse quantized ones."""

from __future__ import annotations

from torch import nn


def get_static_sparse_quantized_mapping() -> dict[type[nn.Module], type[nn.Module]]:
    """For models with observers: activations are quantized with scales fixed beforehand."""
    from torch.ao.nn.sparse import quantized

    return {nn.Linear: quantized.Linear}


def get_dynamic_sparse_quantized_mapping() -> dict[type[nn.Module], type[nn.Module]]:
    """For models that quantize activations at each call."""
    from torch.ao.nn.sparse import quantized

    return {nn.Linear: quantized.dynamic.Linear}
