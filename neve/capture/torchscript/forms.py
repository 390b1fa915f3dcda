"""What an attribute is between calls, as far as the code of a method depends on it.

A tensor is its type, a number its kind, unless its value has to be known; anything else is known. The forms of all
attributes that methods change are the signature of a state: a method is captured once for each.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from neve.capture.torchscript.pickles import Member, Obj
from neve.capture.torchscript.source import Sources
from neve.capture.torchscript.values import (
    KINDS,
    Bound,
    Dim,
    Grown,
    Named,
    Names,
    Num,
    Refusal,
    Text,
    Uninitialized,
    Var,
    describe,
    entries_in,
    needs_of,
)


@dataclass(frozen=True)
class TensorForm:
    """A tensor of this type; its content is state."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self._dtype}{list(self.shape)}"

    @property
    def short(self) -> str:
        """For a name."""
        return "_".join([self._dtype, *(["x".join(map(str, self.shape))] if self.shape else [])])

    @property
    def _dtype(self) -> str:
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class NumberForm:
    """An int, float or bool whose value is state."""

    kind: type

    def __str__(self) -> str:
        return f"a run-time {self.kind.__name__}"

    @property
    def short(self) -> str:
        """For a name."""
        return self.kind.__name__


@dataclass(frozen=True)
class KnownForm:
    """A value that the code of a method may depend on."""

    text: str
    value: Any = field(compare=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class PartsForm:
    """A list, tuple or dict, or an object of a class of the archive, of these parts. kind: its type; cls: its class."""

    kind: type
    cls: str
    keys: tuple[Any, ...]
    parts: tuple[Form, ...]

    def __str__(self) -> str:
        name = self.cls.rpartition(".")[2] or self.kind.__name__
        shown = ", ".join(map(str, self.parts[:4])) + (", …" if len(self.parts) > 4 else "")
        return f"a {name} of {len(self.parts)} ({shown})" if self.parts else f"an empty {name}"


Form = TensorForm | NumberForm | KnownForm | PartsForm
Component = tuple[str, TensorForm | NumberForm]
"""Where a tensor or number is in the model (dotted), and what it is: a state variable."""


class Reader:
    """Forms of values. known: the paths of numbers whose values count. Collects leaves, and where containers are."""

    def __init__(self, sources: Sources, known: Container[str]) -> None:
        self.sources, self.known = sources, known
        self.leaves: dict[Component, Any] = {}
        self.containers: dict[int, str] = {}

    def form(self, value: Any, path: str) -> Form:
        """Refusal if a value cannot be state."""
        if isinstance(value, (torch.Tensor, Var)):
            return self._leaf(value, path, _tensor_form(value, path))
        if isinstance(value, (Num, Dim)) or type(value) in KINDS:
            return self._number(value, path)
        if isinstance(value, Grown) or entries_in(value) is not None:
            raise Refusal(
                f"the attribute {path} has a size after the call that the run decides: the size of state must follow "
                "from shapes and from what else is known",
                needs_of(value),
            )
        if isinstance(value, Obj) and getattr(self.sources.find(value.cls), "kind", "") == "Module":
            raise Refusal(f"the attribute {path} is another submodule after the call: bind submodules in __init__ only")
        parts = parts_of(value)
        if parts is not None:
            if isinstance(value, (list, dict, Obj)) and self.containers.setdefault(id(value), path) != path:
                raise Refusal(shared_message(self.containers[id(value)], path, f"one {type(value).__name__}"))
            keys = tuple(k for k, _ in parts)
            inner = tuple(self.form(v, f"{path}.{k}".lstrip(".")) for k, v in parts)
            return PartsForm(type(value), getattr(value, "cls", ""), keys, inner)
        if isinstance(value, (Bound, Text, Uninitialized)):
            raise Refusal(f"the attribute {path} is {describe(value)} after the call", needs_of(value))
        plain = value is None or isinstance(value, (str, Member, torch.device, torch.dtype))
        return KnownForm(repr(value) if plain else f"{type(value)} {id(value)}", value)

    def _leaf(self, value: Any, path: str, form: TensorForm | NumberForm) -> TensorForm | NumberForm:
        self.leaves[path, form] = value
        return form

    def _number(self, value: Any, path: str) -> Form:
        if path not in self.known:
            return self._leaf(value, path, NumberForm(value.kind if isinstance(value, (Num, Dim)) else type(value)))
        if isinstance(value, (Num, Dim)):
            raise Refusal(
                f"the attribute {path} decides what has to be known at capture, but the call leaves it at a value that "
                "only the run knows: let it not depend on the data, or keep it out of sizes and types",
                needs_of(value),
            )
        return KnownForm(f"{value!r}", value)


def shared_message(first: str, second: str, what: str) -> str:
    return (
        f"the attributes {first} and {second} are {what} after the call, so a write to one would change the other in "
        "later calls: copy what is assigned"
    )


def _tensor_form(value: Any, path: str) -> TensorForm:
    meta = value.meta if isinstance(value, Var) else value
    if not all(isinstance(d, int) for d in meta.shape):
        raise Refusal(
            f"the attribute {path} is a tensor {list(meta.shape)} after the call: the size of state must not vary with "
            "the inputs; leave the dim out of dynamic_shapes"
        )
    return TensorForm(meta.dtype, tuple(meta.shape))


def parts_of(value: Any) -> list[tuple[Any, Any]] | None:
    """(key, part) of a container or an object of the archive; None for all else."""
    if isinstance(value, Named):
        return list(zip(value.fields, value.items, strict=True))
    if isinstance(value, Obj):
        return list(value.attrs.items()) if value.packed is None else None
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else None


def build(form: Form, path: str, component: Callable[[Component], Any]) -> Any:
    """A value of the form; its tensors and numbers by component."""
    if isinstance(form, (TensorForm, NumberForm)):
        return component((path, form))
    if isinstance(form, KnownForm):
        return form.value
    parts = [build(p, f"{path}.{k}".lstrip("."), component) for k, p in zip(form.keys, form.parts, strict=True)]
    if form.kind is Obj:
        return Obj(form.cls, dict(zip(form.keys, parts, strict=True)))
    if form.kind is Named:
        return Named(form.cls, form.keys, tuple(parts))
    return dict(zip(form.keys, parts, strict=True)) if form.kind is dict else form.kind(parts)


def components(form: Form, path: str) -> Iterator[Component]:
    """The state variables that a value of the form needs."""
    if isinstance(form, (TensorForm, NumberForm)):
        yield path, form
    elif isinstance(form, PartsForm):
        for k, p in zip(form.keys, form.parts, strict=True):
            yield from components(p, f"{path}.{k}".lstrip("."))


def state_need(path: str) -> Names:
    """What a number that is state needs, should its value have to be known (see `Refusal`)."""
    return frozenset({f"self.{path}"})
