"""Attributes of modules that torch.export must not see as they are, replaced while it runs by properties.

A property reads tensors that are registered as buffers of the root, each once: a Python number by `.item()`, so that
nothing of its value is known at capture, and a tensor that shares its memory with others as a view of all of that
memory, so that a write to one is a write to the others. torch.export knows of neither: it takes numbers for constants,
and refuses writes to memory that has two names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neve.capture.held import Held, key_of, leaves, located, part_of, storage_of


@dataclass(frozen=True, eq=False)
class Slot:
    """An attribute of a module, and what it holds (see Held)."""

    owner: nn.Module
    name: str
    value: Any


class SharedMemory:
    """The memories of a model's tensors that have several names: of one tensor, or of several that overlap.

    names: which of them count, by storage; None for all.
    """

    def __init__(self, model: nn.Module, only: set[int] | None = None) -> None:
        found: dict[int, list[tuple[str, nn.Module, str, torch.Tensor]]] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            for name, t in _tensors(module):
                entry = (f"{path}.{name}".lstrip("."), module, name, t)
                found.setdefault(storage_of(t), []).append(entry)
        self._parts: dict[int, bool] = {}
        self.slots: list[Slot] = []
        self.attributes: dict[str, Held] = {}
        for storage, entries in found.items():
            if len(entries) < 2 or not _replaceable(entries) or (only is not None and storage not in only):
                continue
            self._parts[storage] = len({key_of(t) for *_, t in entries}) > 1
            first = {key_of(t): path for path, _, _, t in reversed(entries)}
            for path, module, name, t in entries:
                self.attributes[path] = held = self.locate(Held(t.detach(), first[key_of(t)]))
                self.slots.append(Slot(module, name, held))

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return storage_of(tensor) in self._parts

    def locate(self, held: Held) -> Held:
        """The leaf, in its place in the memory if that is a shared one."""
        return part_of(held) if self._parts.get(storage_of(held.tensor)) else held


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    plain = {k: v for k, v in module.__dict__.items() if not k.startswith("_")}
    for name, t in {**plain, **module._parameters, **module._buffers}.items():
        if isinstance(t, torch.Tensor) and t.layout is torch.strided and t.device.type == "cpu" and t.numel():
            yield name, t


def _replaceable(entries: Sequence[tuple[str, nn.Module, str, torch.Tensor]]) -> bool:
    scripted = any(isinstance(m, torch.jit.ScriptModule) for _, m, _, _ in entries)
    return not scripted and len({t.dtype for *_, t in entries}) == 1


@contextmanager
def replaced(model: nn.Module, slots: Sequence[Slot], reasons: list[str]) -> Iterator[None]:
    """The model with properties for slots; reasons gets one for each that is assigned or changed."""
    owners = {id(s.owner): s.owner for s in slots}
    buffers = _Buffers(model)
    with ExitStack() as stack:
        stack.callback(buffers.remove)
        for owner in owners.values():
            values = {s.name: s.value for s in slots if s.owner is owner}
            stack.enter_context(_Replaced(owner, values, buffers, reasons))
        yield


class _Buffers:
    """Tensors as buffers of the model that it gets for a while."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._names = model, dict[Any, str]()

    def add(self, tensor: torch.Tensor) -> None:
        if key_of(tensor) not in self._names:
            name = f"value_{len(self._names)}"
            while hasattr(self._model, name):
                name += "_"
            self._model.register_buffer(name, tensor)
            self._names[key_of(tensor)] = name

    def read(self, held: Held) -> Any:
        tensor = self._model._buffers[self._names[key_of(held.tensor)]]
        assert tensor is not None
        if held.kind:
            return tensor.item()
        return tensor if held.view is None else tensor.as_strided(held.view[1], held.view[2], held.view[0])

    def remove(self) -> None:
        for name in self._names.values():
            self._model._buffers.pop(name, None)


class _Replaced:
    """One module with properties in place of attributes."""

    def __init__(self, module: nn.Module, values: Mapping[str, Any], buffers: _Buffers, reasons: list[str]) -> None:
        self.module, self.values, self.buffers, self.reasons = module, values, buffers, reasons
        self._class: Any = type(module)
        self._tables: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._handed: list[tuple[str, Any, Any]] = []

    def __enter__(self) -> None:
        names: dict[str, Any] = {"__module__": self._class.__module__, "__qualname__": self._class.__qualname__}
        tables: list[dict[str, Any]] = [self.module.__dict__, self.module._parameters, self.module._buffers]
        for table in tables:
            self._tables.append((table, {k: table.pop(k) for k in self.values if k in table}))
        for name, value in self.values.items():
            for held in leaves(value):
                self.buffers.add(held.tensor)
            names[name] = self._property(name, value)
        self.module.__class__ = type(self._class)(self._class.__name__, (self._class,), names)

    def __exit__(self, *_: object) -> None:
        for name, value, before in self._handed:
            if _skeleton(value) != before:
                self._refuse(f"forward changes the {type(value).__name__} {name}")
        self.module.__class__ = self._class
        for table, content in self._tables:
            table.update(content)

    def _refuse(self, what: str) -> None:
        self.reasons.append(f"{what}, which is preserved or shares memory: script the model, or copy what is shared")

    def _property(self, name: str, held: Any) -> property:
        def get(_: Any) -> Any:
            value = located(held, self.buffers.read)
            if isinstance(value, (list, tuple, dict)):
                self._handed.append((name, value, _skeleton(value)))
            return value

        def put(*_: Any) -> None:
            self._refuse(f"forward assigns the attribute {name}")
            raise AttributeError(self.reasons[-1])

        return property(get, put)


def _skeleton(value: Any) -> Any:
    """Containers with the identities of what is in them."""
    if isinstance(value, (list, tuple)):
        return [_skeleton(v) for v in value]
    return {k: _skeleton(v) for k, v in value.items()} if isinstance(value, dict) else id(value)
