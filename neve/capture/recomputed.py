"""Tensors that torch's own pre-hooks compute anew before each call of a module: weight_norm, spectral_norm, prune.

Such a hook is an object that assigns a plain attribute. What it assigned is not state, if nothing of a call reads the
attribute before it is assigned.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neve.capture.fingerprints import library_of


@dataclass(eq=False)
class Recomputed:
    """An attribute of a module, by its path, and what a call has done with it."""

    path: str
    module: nn.Module
    name: str
    value: Any
    written: bool = False
    read_first: bool = False

    @property
    def lost(self) -> bool:
        """Whether what a call assigns would be read by the next."""
        return self.written and self.read_first

    def seen(self) -> property:
        """The attribute, as one of the module's class."""

        def get(_: Any) -> Any:
            self.read_first |= not self.written
            return self.value

        def put(_: Any, value: Any) -> None:
            self.written, self.value = True, value

        return property(get, put)


@contextmanager
def recomputed(model: nn.Module) -> Iterator[list[Recomputed]]:
    """The attributes that such hooks may assign, watched; they and their values are as before afterwards."""
    found = [
        Recomputed(path, m, k, v)
        for path, m in model.named_modules()
        for k, v in m.__dict__.items()
        if isinstance(v, torch.Tensor) and k in _named(m)
    ]
    before = [(r, type(r.module), r.value) for r in found]
    try:
        for r in found:
            del r.module.__dict__[r.name]  # so that nothing reads it unseen
        for module in {id(r.module): r.module for r in found}.values():
            cls: Any = type(module)
            names: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
            names |= {r.name: r.seen() for r in found if r.module is module}
            module.__class__ = type(cls)(cls.__name__, (cls,), names)
        yield found
    finally:
        for r, cls, value in before:
            r.module.__class__ = cls
            r.module.__dict__[r.name] = value


def _named(module: nn.Module) -> set[str]:
    """The strings in the hooks of a module that are objects of torch: what they assign is named there."""
    if isinstance(module, torch.jit.ScriptModule):
        return set()
    hooks = [h for h in module._forward_pre_hooks.values() if library_of(type(h)) == "torch"]
    return {v for h in hooks for v in vars(h).values() if isinstance(v, str)}
