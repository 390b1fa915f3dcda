"""The model of an archive: its sources, where everything in it is, and what has been found out of it so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from neve.capture.torchscript.archive import Archive
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.source import Function, Sources
from neve.errors import CaptureError

StatePlace = tuple[int, Any]
"""(id of a container of the archive, key), or with CONTENT for all that a list or dict holds."""
CONTENT = object()


@dataclass
class Entry:
    """A method to capture and its example call. name: as the user calls it; method: the model's, if another one."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: Any = None
    method: str = ""

    def example(self, names: Sequence[str], name: str) -> Any:
        """The example value of a parameter; None if it has none. names: all parameters in order."""
        return {**dict(zip(names, self.args, strict=False)), **self.kwargs}.get(name)


@dataclass
class Settled:
    """What has been found out of the model and its methods so far; grows until nothing new is found.

    state: what a method leaves changed, or calls read at run time; known: paths of numbers in it whose values capture
    needs, and why; varying: of those that it must not know. written, shared: keys of tensors of the archive that are
    written in place, and storages with several tensors of which one is. overwritten, loose: paths of state tensors that
    are written in place, and of those whose strides are not known. sizes, fixed: for each method the number arguments
    that are size symbols, and those that keep their example value.
    """

    state: dict[StatePlace, None] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    varying: set[str] = field(default_factory=set)
    written: set[Any] = field(default_factory=set)
    shared: set[int] = field(default_factory=set)
    overwritten: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    ties: dict[str | int, set[str | int]] = field(default_factory=dict)
    fixed: dict[str, set[str]] = field(default_factory=dict)
    sizes: dict[str, set[str]] = field(default_factory=dict)

    def size(self) -> int:
        found = (self.written, self.shared, self.overwritten, self.loose, *self.fixed.values(), *self.sizes.values())
        return len(self.state) + len(self.known) + sum(map(len, found)) + sum(map(len, self.ties.values()))

    def tie(self, *members: str | int) -> None:
        """Note that these may be one memory between calls, and so with all that they are tied to."""
        group = set(members).union(*(self.ties.get(m, ()) for m in members))
        self.ties |= dict.fromkeys(group, group)


class Model:
    """An archive, its sources, and where everything in it is."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.sources = archive, Sources(archive.code, archive.debug)
        self.paths: dict[int, str] = {}
        self.containers: dict[int, Any] = {}
        self.holders: Counter[int] = Counter()
        self.tensors_of: dict[int, list[Any]] = {}
        self._name(archive.root, "")
        for k, c in enumerate(archive.constants):
            self._name(c, f"constant.{k}")

    def _name(self, value: Any, path: str) -> None:
        if isinstance(value, torch.Tensor):
            self.tensors_of.setdefault(value.untyped_storage()._cdata, []).append(tensor_key(value))
            self.paths.setdefault(id(value), path or "tensor")
            return
        if isinstance(value, (Obj, list, dict)):
            self.holders[id(value)] += 1
            if id(value) in self.paths:
                return
            self.paths[id(value)], self.containers[id(value)] = path, value
        for key, part in parts_of(value):
            self._name(part, f"{path}.{key}".lstrip("."))

    def path(self, place: StatePlace) -> str:
        """Where an entry of a container is, dotted."""
        owner, key = place
        return self.paths[owner] if key is CONTENT else f"{self.paths[owner]}.{key}".lstrip(".")

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor of the root, once for each dotted path, which of a submodule with two names is the first."""
        stack: list[tuple[str, Any]] = [("", self.archive.root)]
        seen: set[int] = set()
        while stack:
            path, value = stack.pop()
            if isinstance(value, torch.Tensor):
                yield path, value
            elif id(value) not in seen:
                seen |= {id(value)} if isinstance(value, (Obj, list, dict)) else set()
                stack += [(f"{path}.{key}".lstrip("."), part) for key, part in reversed(parts_of(value))]

    def initial(self, place: StatePlace) -> Any:
        """What is there in the archive."""
        owner, key = place
        return entry_of(self.containers[owner], key)

    def method(self, name: str) -> Function:
        """The method, which may be a submodule's ("encoder.embed"). CaptureError if the model has no such method."""
        above, _, last = name.rpartition(".")
        owner = part_at(self.archive.root, above)
        methods = self.sources.cls(owner.cls).methods if isinstance(owner, Obj) else {}
        if last not in methods:
            known = ", ".join(n for n in methods if not n.startswith("_"))
            raise CaptureError(f"the model has no method {name!r}; it has {known or 'none'}")
        return methods[last]


def part_at(root: Any, path: str) -> Any:
    """The object at a dotted path of modules; None if there is none."""
    for name in path.split(".") if path else ():
        root = root.attrs.get(name) if isinstance(root, Obj) else None
    return root


def entry_of(container: Any, key: Any) -> Any:
    """An entry of a list, dict or object; for CONTENT all of a list or dict."""
    if key is CONTENT:
        return container
    return container.attrs[key] if isinstance(container, Obj) else container[key]


def parts_of(value: Any) -> list[tuple[Any, Any]]:
    """(key, part) of a container, object or packed context."""
    if isinstance(value, Obj):
        packed = [(f"packed.{i}", v) for i, v in enumerate(value.packed)] if isinstance(value.packed, tuple) else []
        return [*value.attrs.items(), *packed]
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else []


def tensor_key(t: torch.Tensor) -> Any:
    return (t.untyped_storage()._cdata, t.storage_offset(), tuple(t.shape), tuple(t.stride()), t.dtype)
