"""Attributes that calls read at run time: what `preserved_attrs` names in an nn.Module or an exported program.

A tensor of them becomes state. A Python number is put into a tensor, and for torch.export its attribute becomes a
property that reads it, so that nothing of its value is known at capture; likewise in lists, tuples and dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neve.errors import CaptureError

NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64}
FIXED = "is compiled in, it cannot vary at run time: preserve tensors, ints, floats, bools, lists, tuples or dicts"


@dataclass(frozen=True, eq=False)
class Held:
    """A leaf of an attribute: the tensor that becomes state, of a number its type, of a part of the tensor where it is
    (offset, shape and strides in elements). place: (id of the object, list or dict that has it, key, *path in tuples).
    """

    tensor: torch.Tensor
    name: str
    place: tuple[Any, ...] = ()
    kind: type | None = None
    view: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None


Attributes = Mapping[str, Any]
"""Dotted path → Held, or a list, tuple or dict of such, of None and of strings."""


def as_tree(value: Any, index: Callable[[torch.Tensor], int]) -> dict[str, Any]:
    """The JSON tree of an attribute (see `neve.runtime.signature`), index giving the number of a tensor's state."""
    if isinstance(value, Held):
        leaf: dict[str, Any] = {"leaf": index(value.tensor)}
        leaf |= {"as": value.kind.__name__} if value.kind else {}
        return leaf | ({"view": [value.view[0], *map(list, value.view[1:])]} if value.view else {})
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [as_tree(v, index) for v in value]}
    if isinstance(value, dict):
        return {"dict": {k: as_tree(v, index) for k, v in value.items()}}
    return {"none": True} if value is None else {"const": value}


def leaves(value: Any) -> Iterator[Held]:
    """Every Held in an attribute."""
    if isinstance(value, Held):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from leaves(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from leaves(v)


def hold(value: Any, path: str, place: tuple[Any, ...], number: Callable[[tuple[Any, ...], Any], torch.Tensor]) -> Any:
    """value, which is at a place (see Held), with every tensor and number in it Held; number gives the tensor for one.

    CaptureError for what cannot vary.
    """
    if isinstance(value, torch.Tensor):
        return Held(value, path, place)
    if type(value) in NUMBERS:
        return Held(number(place, value), path, place, type(value))
    if type(value) is tuple:
        return tuple(hold(v, f"{path}.{i}", (*place, i), number) for i, v in enumerate(value))
    if type(value) is list:
        return [hold(v, f"{path}.{i}", (id(value), i), number) for i, v in enumerate(value)]
    if type(value) is dict and all(isinstance(k, str) for k in value):
        return {k: hold(v, f"{path}.{k}", (id(value), k), number) for k, v in value.items()}
    if value is None or isinstance(value, str):
        return value
    what = "a dict with keys that are no strings" if isinstance(value, dict) else f"a {type(value).__name__}"
    raise CaptureError(f"the attribute {path} is {what}, which {FIXED}")


def unknown(names: Sequence[str]) -> list[str]:
    return [f"Unknown name: {name}" for name in names]


def of_program(program: Any, names: Sequence[str]) -> dict[str, Any]:
    """The named tensors of an ExportedProgram, or all below a name. CaptureError lists what it does not have."""
    tensors = {**program.constants, **program.state_dict}
    found: dict[str, Any] = {}
    missing = []
    for name in names:
        mine = [k for k in tensors if name and (k == name or k.startswith(f"{name}."))]
        missing += [] if mine else [name]
        found |= {k: Held(tensors[k], k) for k in mine if isinstance(tensors[k], torch.Tensor)}
    if missing:
        raise CaptureError(unknown(missing))
    return found


class Preserved:
    """The named attributes of an nn.Module, and the module as torch.export should see it.

    numbers=False leaves out the numbers of submodules that are named as a whole: they stay as they are.
    CaptureError lists all names that the model does not have, and all that cannot vary.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], numbers: bool = True) -> None:
        self.attributes: dict[str, Any] = {}
        self.implied = False
        self._tensors: dict[tuple[Any, ...], torch.Tensor] = {}
        self._places: dict[tuple[int, str], tuple[nn.Module, str, Any]] = {}
        self._numbers = numbers
        missing, reasons = [], []
        for name in names:
            owner, last, found = _find(model, name)
            try:
                if found is MISSING or owner is None:
                    missing.append(name)
                elif isinstance(owner, torch.jit.ScriptModule) or isinstance(found, torch.jit.ScriptModule):
                    reasons.append(f"{name} belongs to a scripted submodule: script the whole model to preserve it")
                elif isinstance(found, nn.Module):
                    self._module(found, name)
                else:
                    self._explicit(owner, last, found, name)
            except CaptureError as error:
                reasons += error.reasons
        if missing or reasons:
            raise CaptureError(unknown(missing) + reasons)

    def _explicit(self, owner: nn.Module, last: str, value: Any, path: str) -> None:
        if value is None or isinstance(value, str):
            raise CaptureError(f"the attribute {path} is {value!r}, which {FIXED}")
        if callable(value) and not isinstance(value, torch.Tensor):
            raise CaptureError(f"{path} is a method: name it in methods=, with example inputs")
        self._add(owner, last, value, path)

    def _add(self, owner: nn.Module, last: str, value: Any, path: str) -> None:
        def number(place: tuple[Any, ...], x: Any) -> torch.Tensor:
            return self._tensors.setdefault(place, torch.tensor(x, dtype=NUMBERS[type(x)]))

        held = hold(value, path, (id(owner), last), number)
        self.attributes[path] = held
        if last not in owner._parameters and last not in owner._buffers:
            self._places[id(owner), last] = owner, last, held

    def _module(self, module: nn.Module, path: str) -> None:
        """All tensors of a module and of its submodules, and the numbers that code of the user put there."""
        for m_path, m in module.named_modules(prefix=path):
            for k, v in (*m._parameters.items(), *m._buffers.items()):
                if v is not None:
                    self._add(m, k, v, f"{m_path}.{k}")
            for k, v in m.__dict__.items():
                own = not k.startswith("_") and k != "training" and not type(m).__module__.startswith("torch.nn.")
                if not own or k in getattr(m, "__constants__", ()):
                    continue
                is_number = type(v) in NUMBERS or (type(v) in (list, tuple, dict) and bool(list(_numbers(v))))
                self.implied |= is_number
                if isinstance(v, torch.Tensor) or (is_number and self._numbers):
                    self._add(m, k, v, f"{m_path}.{k}")

    @contextmanager
    def seen(self, reasons: list[str]) -> Iterator[None]:
        """The module with the attributes as buffers and properties; reasons gets one for each write to them."""
        with ExitStack() as stack:
            for owner in {id(m): m for m, _, _ in self._places.values()}.values():
                held = {k: v for m, k, v in self._places.values() if m is owner}
                stack.enter_context(_Replaced(owner, held, reasons))
            yield


MISSING = object()


def _find(model: nn.Module, name: str) -> tuple[nn.Module | None, str, Any]:
    """(the module that has the attribute, its name there, its value); MISSING if there is none."""
    *folders, last = name.split(".")
    owner: Any = model
    for part in folders:
        owner = getattr(owner, part, MISSING) if part else MISSING
        if not isinstance(owner, nn.Module):
            return None, last, MISSING
    return owner, last, getattr(owner, last, MISSING) if last else MISSING


def _numbers(value: Any) -> Iterator[Any]:
    if type(value) in NUMBERS or isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _numbers(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from _numbers(v)


class _Replaced:
    """A module with properties for attributes, on buffers that it gets for as long as this is entered."""

    def __init__(self, module: nn.Module, attributes: Mapping[str, Any], reasons: list[str]) -> None:
        self.module, self.attributes, self.reasons = module, attributes, reasons
        self._class: Any = type(module)
        self._old = {k: v for k, v in module.__dict__.items() if k in attributes}
        self._added: list[str] = []
        self._handed: list[tuple[str, Any, Any]] = []

    def __enter__(self) -> None:
        names: dict[str, Any] = {"__module__": self._class.__module__, "__qualname__": self._class.__qualname__}
        for name, held in self.attributes.items():
            self.module.__dict__.pop(name, None)
            names[name] = self._property(name, self._register(held, f"{name}_value"))
        self.module.__class__ = type(self._class)(self._class.__name__, (self._class,), names)

    def __exit__(self, *_: object) -> None:
        for name, value, before in self._handed:
            if _skeleton(value) != before:
                self._refuse(f"forward changes the {type(value).__name__} {name}")
        self.module.__class__ = self._class
        for name in self._added:
            del self.module._buffers[name]
        self.module.__dict__.update(self._old)

    def _refuse(self, what: str) -> None:
        self.reasons.append(f"{what}, which is preserved: script the model, there the write becomes state")

    def _register(self, held: Any, name: str) -> Any:
        """The attribute with the names of its buffers."""
        if isinstance(held, Held):
            while name in self.module._buffers or hasattr(self.module, name):
                name += "_"
            self.module.register_buffer(name, held.tensor)
            self._added.append(name)
            return Held(held.tensor, name, held.place, held.kind)
        if isinstance(held, (list, tuple)):
            return type(held)(self._register(h, f"{name}_{i}") for i, h in enumerate(held))
        if isinstance(held, dict):
            return {k: self._register(h, f"{name}_{i}") for i, (k, h) in enumerate(held.items())}
        return held

    def _read(self, held: Any) -> Any:
        if isinstance(held, Held):
            tensor = self.module._buffers[held.name]
            assert tensor is not None
            return tensor.item() if held.kind else tensor
        if isinstance(held, (list, tuple)):
            return type(held)(self._read(h) for h in held)
        return {k: self._read(h) for k, h in held.items()} if isinstance(held, dict) else held

    def _property(self, name: str, held: Any) -> property:
        def get(_: Any) -> Any:
            value = self._read(held)
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
