"""Masks of torch.nn.utils.prune and of the sparsifiers, turned into one another.

torch.nn.utils.prune keeps `NAME_orig` (parameter) and `NAME_mask` (buffer) in a module and multiplies them before each
forward; a sparsifier's mask is a parametrization. Both are elementwise products, so nothing is lost either way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from neve.sparsity.masks import FakeSparsity
from neve.sparsity.modules import parametrizations
from neve.sparsity.structured.masks import FakeStructuredSparsity


def config_from_prune(model: nn.Module) -> list[dict[str, Any]]:
    """Take the masks of torch.nn.utils.prune off model, whose tensors become plain parameters with the values that they
    had before pruning, and return a configuration that puts them on again.

        sparsifier.prepare(model, config_from_prune(model))

    Entries have tensor_fqn and mask (of the tensor's shape and dtype); the list is empty if nothing is pruned.
    """
    config = []
    for path, module in model.named_modules():
        for hook in list(module._forward_pre_hooks.values()):
            if not isinstance(hook, prune.BasePruningMethod):
                continue
            name = hook._tensor_name
            original, mask = getattr(module, f"{name}_orig"), getattr(module, f"{name}_mask").detach().clone()
            values = original.detach().clone()  # remove() writes zeros into the original and makes it the parameter
            prune.remove(module, name)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                getattr(module, name).copy_(values)
            config.append({"tensor_fqn": f"{path}.{name}" if path else name, "mask": mask})
    return config


def masks_to_prune(model: nn.Module) -> list[str]:
    """Turn every mask of a sparsifier in model, also one of rows, into one of torch.nn.utils.prune; returns the paths
    of the tensors.

    The sparsifier that made them has none then: its step raises AttributeError. Tensors with other parametrizations
    beside the mask raise ValueError; nothing is changed then.
    """
    found: list[tuple[str, nn.Module, str, Tensor]] = []
    for path, module in model.named_modules():
        for name, chain in parametrizations(module).items():
            masks = [p.mask for p in chain if isinstance(p, (FakeSparsity, FakeStructuredSparsity))]
            if not masks:
                continue
            fqn = f"{path}.{name}" if path else name
            if len(masks) != len(chain):
                raise ValueError(
                    f"{fqn!r} has parametrizations beside its mask: {', '.join(type(p).__name__ for p in chain)}; "
                    "remove the others first"
                )
            original: Any = module.parametrizations[name].original
            whole = torch.ones_like(original.detach())
            for mask in masks:
                whole = whole * (mask if mask.shape == whole.shape else mask.reshape(-1, *(1 for _ in whole.shape[1:])))
            found.append((fqn, module, name, whole))
    for _, module, name, mask in found:
        parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        prune.custom_from_mask(module, name, mask)  # type: ignore[no-untyped-call]
    return [fqn for fqn, *_ in found]
