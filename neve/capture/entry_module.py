"""The module that torch.export is given: one method of a model, with buffers that it binds anew written in place.

`self.h = self.h * 0.5 + x` makes another tensor the buffer. torch.export sees that for a root module alone, and not
where the old tensor is still used; of submodules, and of a model behind another root, it silently drops it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from neve.capture.objects import CONSTANTS, plain, restored, strangers
from neve.capture.surroundings import Answers, as_in_eager
from neve.errors import CaptureError

PREFIX = "model."
"""What stands before the name of every tensor and module of the model."""


class EntryModule(nn.Module):
    """A module whose forward is a model's method, with that method's signature, between values as `objects.plain` makes
    them.

    reasons gets what cannot be captured; torch.export restores what a call does to attributes, so it is none. answers
    is what the method hears when it asks whether it is traced.
    """

    def __init__(self, model: nn.Module, name: str, reasons: dict[str, None], answers: Answers) -> None:
        super().__init__()
        self.model = model
        method = method_of(model, name)

        def forward(*args: Any, **kwargs: Any) -> Any:
            before = list(_bindings(model))
            args, kwargs = restored(args), restored(kwargs)
            given = contents_of(*plain((args, kwargs)))
            with as_in_eager(answers):
                result = plain(method(*args, **kwargs))
            if found := strangers(result):
                raise CaptureError(found)
            reasons.update(dict.fromkeys(rearranged(given, *plain((args, kwargs)))))
            return _settled(model, before, result, reasons)

        called = method.forward if isinstance(method, nn.Module) else method
        forward.__signature__ = inspect.signature(called)  # type: ignore[attr-defined]
        self.forward = forward
        self.training = False


def method_of(model: nn.Module, name: str) -> Any:
    """What to call for the method of that name, which may be a submodule's ("encoder.embed"); None if there is none.

    For forward it is the module itself, so that hooks run.
    """
    above, _, last = name.rpartition(".")
    try:
        owner = model.get_submodule(above)
    except AttributeError:
        return None
    found = owner if last == "forward" else getattr(owner, last, None)
    return found if callable(found) else None


def contents_of(args: Any, kwargs: Any) -> tuple[list[Any], Any]:
    """What is in the arguments, and how, for `rearranged`."""
    leaves, spec = pytree.tree_flatten((list(args), dict(kwargs)))
    return leaves, spec


def rearranged(before: tuple[list[Any], Any], args: Any, kwargs: Any) -> list[str]:
    """A reason if a call has put other entries into lists and dicts among its arguments."""
    leaves, spec = contents_of(args, kwargs)
    if spec == before[1] and all(map(_is_same, before[0], leaves)):
        return []
    what = (
        "it changes which entries a list or dict among its arguments has, or an attribute of an object among them, "
        "which its caller would not see"
    )
    return [f"{what}: return the new one, or write into the tensors that are in it"]


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (type(a) in CONSTANTS and type(a) is type(b) and a == b)


@dataclass(frozen=True)
class Binding:
    """An entry of a module's parameters, buffers or submodules before a call."""

    path: str
    kind: str
    table: dict[str, Any]
    name: str
    was: Any
    memory: Any

    @property
    def now(self) -> Any:
        return self.table.get(self.name)

    def refused(self) -> str:
        """Why the new value cannot be written into the old one; "" if it can."""
        what = f"forward binds the {self.kind} {self.path} to another {self.kind}"
        if self.kind != "buffer":
            return f"{what}, which would be lost: choose by a condition, torch.where or an index instead"
        old, new = self.was, self.now
        if not (isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor)):
            return f"{what}: it is {_shown(old)} before and {_shown(new)} after: register it in its final form"
        if old.shape != new.shape or old.dtype is not new.dtype:
            return f"{what}: it is {_shown(old)} before and {_shown(new)} after: state must keep its shape and type"
        return ""


def _settled(model: nn.Module, before: list[Binding], result: Any, reasons: dict[str, None]) -> Any:
    """The result, after what buffers were bound to has been written into the tensors that they were before."""
    changed = [b for b in before if b.now is not b.was]
    found = [r for b in changed if (r := b.refused())] + _appeared(model, before) + _ties(before) + _moved(before)
    reasons |= dict.fromkeys(found)
    if found or not changed:
        return result
    # copies: the result, or a new value, may be the old tensor or a part of it
    result = pytree.tree_map_only(torch.Tensor, torch.clone, result)
    for b, new in [(b, b.now.clone()) for b in changed]:
        b.was.copy_(new)
        b.table[b.name] = b.was
    return result


def _bindings(model: nn.Module) -> Iterator[Binding]:
    for path, m in model.named_modules():
        tables: dict[str, dict[str, Any]] = {
            "parameter": m._parameters,
            "buffer": m._buffers,
            "submodule": m._modules,
        }
        for kind, table in tables.items():
            for name, value in table.items():
                memory = _memory(value) if isinstance(value, torch.Tensor) else None
                yield Binding(f"{path}.{name}".lstrip("."), kind, table, name, value, memory)


def _appeared(model: nn.Module, before: list[Binding]) -> list[str]:
    known = {(id(b.table), b.name) for b in before}
    return [
        f"forward makes a {b.kind} {b.path}, which would be lost: make it with the module"
        for b in _bindings(model)
        if (id(b.table), b.name) not in known
    ]


def _moved(before: list[Binding]) -> list[str]:
    return [
        f"forward gives the {b.kind} {b.path} other memory (by .data or set_), which would be lost: write it in place "
        "(copy_)"
        for b in before
        if isinstance(b.was, torch.Tensor) and b.now is b.was and _memory(b.was) != b.memory
    ]


def _ties(before: list[Binding]) -> list[str]:
    """A reason for every two tensors that are one before or after the call, but not both."""
    tensors = [b for b in before if isinstance(b.was, torch.Tensor) and isinstance(b.now, torch.Tensor)]
    reasons = []
    for i, a in enumerate(tensors):
        for b in tensors[:i]:
            if a.now is a.was and b.now is b.was:
                continue
            if _memory(a.was) == _memory(b.was) or _memory(a.now) == _memory(b.now):
                reasons.append(
                    f"the buffers {b.path} and {a.path} share memory before or after a call that binds them anew, so "
                    "that a write to one would be, or no longer be, one to the other: copy what is assigned (clone)"
                )
    return reasons


def _memory(tensor: torch.Tensor) -> Any:
    return StorageWeakRef(tensor.untyped_storage()).cdata  # type: ignore[no-untyped-call]


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return repr(value)
