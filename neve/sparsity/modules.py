"""Modules and tensors of a model by dotted name, questions about their parametrizations, and their replacement.

The behaviour is that of `torch.ao.pruning.sparsifier.utils` (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, TypedDict

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations


class ArgInfo(TypedDict):
    """A tensor's place: `tensor_fqn` is `module_fqn` and `tensor_name`, with a dot unless the module is the root."""

    module_fqn: str
    module: nn.Module | None
    tensor_name: str
    tensor_fqn: str


def module_to_fqn(model: nn.Module, module: nn.Module) -> str | None:
    """The dotted path of module in model, the first one if it has several; "" for model itself, None for a stranger."""
    return next((name for name, m in model.named_modules(remove_duplicate=False) if m is module), None)


def fqn_to_module(model: nn.Module, path: str) -> nn.Module | torch.Tensor | None:
    """The module or tensor (parameter, buffer, tensor attribute) at a dotted path; "" is model itself, and None is
    returned if any step of the path is missing or leads to something else.
    """
    found: Any = model
    for name in path.split(".") if path else ():
        found = getattr(found, name, None) if isinstance(found, nn.Module) else None
    return found if isinstance(found, (nn.Module, torch.Tensor)) else None


def get_arg_info_from_tensor_fqn(model: nn.Module, tensor_fqn: str) -> ArgInfo:
    """The path of a tensor, split, and the module that owns it: None if there is no such module. Whether the module has
    the tensor is not looked at. A leading dot is part of the path: ".weight" is the root's, ".a.weight" nobody's.
    """
    module_fqn, _, tensor_name = tensor_fqn.rpartition(".")
    module = fqn_to_module(model, module_fqn)
    return {
        "module_fqn": module_fqn,
        "module": module if isinstance(module, nn.Module) else None,
        "tensor_name": tensor_name,
        "tensor_fqn": tensor_fqn,
    }


def module_contains_param(module: nn.Module, parametrization: type[nn.Module]) -> bool:
    """Whether any tensor of module itself (not of its children) has a parametrization of that type."""
    return any(isinstance(p, parametrization) for chain_ in parametrizations(module).values() for p in chain_)


def parametrizations(module: nn.Module) -> Mapping[str, list[nn.Module]]:
    """The parametrizations of each parametrized tensor of module, in the order of their application."""
    if not is_parametrized(module):
        return {}
    lists: Any = module.parametrizations
    return {name: list(chain_) for name, chain_ in lists.items()}


def swap_module(mod: nn.Module, mapping: Mapping[type[nn.Module], type[nn.Module]]) -> nn.Module:
    """`mapping[type].from_dense(mod)` if the mapping has mod's type (that before parametrization), else mod itself.

    The new module gets mod's forward hooks and pre-hooks with their flags, and moves to mod's device, if mod has
    tensors. Raises AssertionError if they are on several devices, before anything is made.
    """
    target: Any = mapping.get(type_before_parametrizations(mod))
    if target is None:
        return mod
    devices = {t.device for t in chain(mod.parameters(), mod.buffers())}
    if len(devices) > 1:
        raise AssertionError(
            f"swap_module only works with cpu or single-device CUDA modules, but got devices {devices}; "
            "move the module to one of them first"
        )
    new: nn.Module = target.from_dense(mod)
    _copy_hooks(mod, new)
    for device in devices:
        new.to(device)
    return new


def _copy_hooks(old: nn.Module, new: nn.Module) -> None:
    for key, before in old._forward_pre_hooks.items():
        new.register_forward_pre_hook(before, with_kwargs=key in old._forward_pre_hooks_with_kwargs)
    for key, after in old._forward_hooks.items():
        new.register_forward_hook(
            after,
            with_kwargs=key in old._forward_hooks_with_kwargs,
            always_call=key in old._forward_hooks_always_called,
        )
