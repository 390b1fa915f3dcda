"""The module that torch.export is given: one method of a model, with buffers that it binds anew written in place.

`self.h = self.h * 0.5 + x` makes another tensor the buffer. torch.export sees that for a root module alone, and not
where the old tensor is still used; of submodules, and of a model behind another root, it silently drops it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from neve.capture.asserted import Asserted
from neve.capture.attributes import Watched
from neve.capture.composed import Composed
from neve.capture.held import storage_of
from neve.capture.hidden import MISSING
from neve.capture.known import Constants, KnownValues
from neve.capture.objects import plain, restored, strangers
from neve.capture.passed import Became, Passed, Place
from neve.capture.surroundings import Answers, as_in_eager
from neve.capture.swallowed import raised_again
from neve.capture.windows import Windows
from neve.errors import CaptureError

PREFIX = "model."
"""What stands before the name of every tensor and module of the model."""


class EntryModule(nn.Module):
    """A module whose forward is a model's method, with that method's signature, between values as `objects.plain` makes
    them.

    reasons gets what cannot be captured, writes what would be lost: the module is left as it was. answers is what the
    method hears when it asks whether it is traced, constants what of the model's tensors is known; entries gets what
    torch calls the sizes of the arguments, of each call, and became what arguments are after it. If any is another,
    forward gives a pair: what the method does, and a list of what is new in arguments.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        watched: Watched,
        answers: Answers,
        constants: Constants,
        reasons: dict[str, None],
        writes: dict[str, None],
        entries: list[Any],
        became: list[dict[Place, Became]],
    ) -> None:
        super().__init__()
        self.model = model
        method = method_of(model, name)

        def forward(*args: Any, **kwargs: Any) -> Any:
            changes: list[Binding] = []
            entries.append([entry_of(x) for x in pytree.tree_leaves((args, kwargs))])
            try:
                done = called(model, name, args, kwargs, watched, answers, constants, reasons)
                changes = done.changes
                became.append(done.became)
                writes.update(dict.fromkeys([b.reason for b in changes] + [c.reason for c in watched.changes()]))
            finally:
                left_as_before(watched, changes)
            return done.result

        function = method.forward if isinstance(method, nn.Module) else method
        forward.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        self.forward = forward
        self.training = False


class Entry(NamedTuple):
    """A size or an int: an int, or torch's expression of it before the model has run; and its value for the example."""

    size: Any
    hint: int


def entry_of(x: Any) -> Any:
    """Of an argument: a list of a tensor's sizes, a symbolic int, or None."""
    if isinstance(x, torch.Tensor):
        return list(map(_size, x.shape))
    return _size(x) if isinstance(x, torch.SymInt) else None


def _size(n: Any) -> Entry:
    return Entry(n.node.expr, n.node.hint) if isinstance(n, torch.SymInt) else Entry(n, n)


@dataclass(frozen=True)
class Done:
    """What a method gave, as `EntryModule` gives it; the buffers that it has made, or given another form; the memory of
    the tensors that it has bound other buffers to, which were then written into what these were before; and what
    arguments became.
    """

    result: Any
    changes: list[Binding]
    settled: set[Any]
    became: dict[Place, Became] = field(default_factory=dict)


def called(
    model: nn.Module,
    name: str,
    args: Any,
    kwargs: Any,
    watched: Watched,
    answers: Answers,
    constants: Constants,
    reasons: dict[str, None],
) -> Done:
    """A call of a method in a trace."""
    before = list(_bindings(model))
    windows = Windows((args, kwargs))
    args, kwargs = restored(args), restored(kwargs)
    passed = Passed(args, kwargs)
    values = KnownValues(model, constants)
    try:
        with raised_again(), as_in_eager(answers), Composed(), Asserted(), values, windows, watched.elsewhere.bound():
            result = plain(method_of(model, name)(*args, **kwargs))
        if found := strangers(result):
            raise CaptureError(found)
    except Exception:
        values.close()
        for b in (*before, *_appeared(model, before)):
            b.undo()
        raise
    became, more, moved = passed.became(result)
    reasons.update(dict.fromkeys(moved))
    done = _settled(model, before, (result, more) if became else result, reasons)
    values.close()
    return replace(done, became=became)


def left_as_before(watched: Watched, changes: Iterable[Binding]) -> None:
    """Undo what calls have changed."""
    for binding in changes:
        binding.undo()
    watched.restore()


@contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """With an nn.Module whose calls may change it or variables that its code names: both are as before afterwards."""
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        yield
        return
    before, watched = list(_bindings(model)), Watched(model)
    try:
        yield
    finally:
        left_as_before(watched, [*before, *_appeared(model, before)])


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

    @property
    def value(self) -> Any:
        """As of `Change`."""
        return self.table.get(self.name, MISSING)

    def undo(self) -> None:
        if self.was is not MISSING:
            self.table[self.name] = self.was
        else:
            self.table.pop(self.name, None)

    @property
    def reason(self) -> str:
        """Why the new value cannot be written into the old one; "" if it can."""
        if self.was is MISSING:
            return f"forward makes a {self.kind} {self.path}, which would be lost: make it with the module"
        what = f"forward binds the {self.kind} {self.path} to another {self.kind}"
        if self.kind != "buffer":
            return f"{what}, which would be lost: choose by a condition, torch.where or an index instead"
        old, new = self.was, self.now
        if not (isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor)):
            return f"{what}: it is {_shown(old)} before and {_shown(new)} after: register it in its final form"
        if old.shape != new.shape or old.dtype is not new.dtype:
            return f"{what}: it is {_shown(old)} before and {_shown(new)} after: state must keep its shape and type"
        return ""


def _settled(model: nn.Module, before: list[Binding], result: Any, reasons: dict[str, None]) -> Done:
    changed = [b for b in before if b.value is not b.was] + _appeared(model, before)
    refused = [b for b in changed if b.reason]
    found = [b.reason for b in refused if b.kind != "buffer"] + _ties(before) + _moved(before)
    reasons |= dict.fromkeys(found)
    kept = [] if found else [(b, b.now) for b in changed if not b.reason]
    if kept:
        # copies: the result, or a new value, may be the old tensor or a part of it
        result = pytree.tree_map_only(torch.Tensor, torch.clone, result)
        for b, new in [(b, new.clone()) for b, new in kept]:
            b.was.copy_(new)
            b.table[b.name] = b.was
    return Done(result, [b for b in refused if b.kind == "buffer"], {memory_of(new) for _, new in kept})


def _bindings(model: nn.Module) -> Iterator[Binding]:
    for path, m in model.named_modules():
        tables: dict[str, dict[str, Any]] = {
            "parameter": m._parameters,
            "buffer": m._buffers,
            "submodule": m._modules,
        }
        for kind, table in tables.items():
            for name, value in table.items():
                memory = memory_of(value) if isinstance(value, torch.Tensor) else None
                yield Binding(f"{path}.{name}".lstrip("."), kind, table, name, value, memory)


def _appeared(model: nn.Module, before: list[Binding]) -> list[Binding]:
    known = {(id(b.table), b.name) for b in before}
    return [replace(b, was=MISSING) for b in _bindings(model) if (id(b.table), b.name) not in known]


def _moved(before: list[Binding]) -> list[str]:
    return [
        f"forward gives the {b.kind} {b.path} other memory (by .data or set_), which would be lost: write it in place "
        "(copy_)"
        for b in before
        if isinstance(b.was, torch.Tensor) and b.now is b.was and memory_of(b.was) != b.memory
    ]


def _ties(before: list[Binding]) -> list[str]:
    """A reason for every two tensors that are one before or after the call, but not both."""
    tensors = [b for b in before if isinstance(b.was, torch.Tensor) and isinstance(b.now, torch.Tensor)]
    reasons = []
    for i, a in enumerate(tensors):
        for b in tensors[:i]:
            if a.now is a.was and b.now is b.was:
                continue
            if memory_of(a.was) == memory_of(b.was) or memory_of(a.now) == memory_of(b.now):
                reasons.append(
                    f"the buffers {b.path} and {a.path} share memory before or after a call that binds them anew, so "
                    "that a write to one would be, or no longer be, one to the other: copy what is assigned (clone)"
                )
    return reasons


def memory_of(tensor: torch.Tensor) -> Any:
    if tensor.layout is not torch.strided:
        return storage_of(tensor)
    return StorageWeakRef(tensor.untyped_storage()).cdata  # type: ignore[no-untyped-call]


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return repr(value)
