"""Submodules that a model's own code cannot reach by their names, since its class has the name: `self.parameters =
nn.ParameterList(…)` leaves `self.parameters` the method. torch.export and torch.jit would go by the name.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def renamed(model: nn.Module) -> Iterator[None]:
    """With other names for these, in the same order."""
    own = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    found = [(m, dict(m._modules)) for m in own if any(_is_hidden(m, name) for name in m._modules)]
    try:
        for m, children in found:
            names = {name: _free(m, name, children) if _is_hidden(m, name) else name for name in children}
            m._modules.clear()
            m._modules.update({names[name]: child for name, child in children.items()})
        yield
    finally:
        for m, children in found:
            m._modules.clear()
            m._modules.update(children)


def _is_hidden(module: nn.Module, name: str) -> bool:
    """Whether the name is of something else; a property of the class may give the submodule."""
    return hasattr(type(module), name) and getattr(module, name, None) is not module._modules[name]


def _free(module: nn.Module, name: str, taken: Container[str]) -> str:
    while hasattr(type(module), name):
        name += "_"
        while name in taken:
            name += "_"
    return name
