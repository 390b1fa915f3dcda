"""Registered tensors of a model that plain objects which its modules hold (a cache, a list of layers) have as well.

torch.export puts its own tensors in place of registered ones while it runs a model's code, in the modules alone: what
the code writes by another name would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neve.capture.fingerprints import is_plain
from neve.capture.held import key_of

DEPTH = 8
MOST = 10_000


class Elsewhere:
    """The places of a model's registered tensors in plain objects; `bound` has there what the modules have."""

    def __init__(self, model: nn.Module) -> None:
        self._registered: dict[Any, tuple[dict[str, Any], str]] = {}
        self._places: list[tuple[Any, Any, torch.Tensor]] = []
        self._seen: dict[int, Any] = {}
        for module in model.modules():
            for table in (module._parameters, module._buffers):
                for name, t in table.items():
                    if t is not None and t.layout is torch.strided and t.numel():
                        self._registered.setdefault(key_of(t), (table, name))
        for module in model.modules():
            for name, value in module.__dict__.items():
                if not name.startswith("_") and not isinstance(value, torch.Tensor):
                    self._look(value, DEPTH)

    def _look(self, value: Any, depth: int) -> None:
        if id(value) in self._seen or not depth or len(self._seen) > MOST or isinstance(value, nn.Module):
            return
        holder = value if isinstance(value, (dict, list, tuple)) else getattr(value, "__dict__", None)
        if holder is None or not (holder is value or is_plain(value)):
            return
        self._seen[id(value)] = value
        for key, inner in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            if not isinstance(inner, torch.Tensor):
                self._look(inner, depth - 1)
            elif not isinstance(holder, tuple) and inner.layout is torch.strided and key_of(inner) in self._registered:
                self._places.append((holder, key, inner))

    @contextmanager
    def bound(self) -> Iterator[None]:
        """While torch.export runs the model's code. What the code puts in such a place itself stays there."""
        now = []
        for holder, key, tensor in self._places:
            table, name = self._registered[key_of(tensor)]
            holder[key] = table[name]
            now.append(holder[key])
        try:
            yield
        finally:
            for (holder, key, tensor), shown in zip(self._places, now, strict=True):
                there = holder.get(key) if isinstance(holder, dict) else holder[key] if key < len(holder) else None
                if there is shown:
                    holder[key] = tensor
