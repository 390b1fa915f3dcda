"""The attributes that `preserved_attrs` names in an nn.Module: state, whether a method writes them or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from neve.capture.held import FIXED, NUMBERS, hold, unknown
from neve.capture.slots import Slot
from neve.errors import CaptureError


class Preserved:
    """The named attributes of an nn.Module; slots are those of them that are no parameters or buffers.

    numbers=False leaves out the numbers of submodules that are named as a whole: they stay as they are.
    CaptureError lists all names that the model does not have, and all that cannot vary.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], numbers: bool = True) -> None:
        self.attributes: dict[str, Any] = {}
        self.implied = False
        self._tensors: dict[tuple[Any, ...], torch.Tensor] = {}
        self.slots: list[Slot] = []
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
                reasons += error.all_reasons
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
            self.slots.append(Slot(owner, last, held))

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
