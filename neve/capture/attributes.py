"""Python attributes that a model writes while it runs: torch.export drops such writes, so they have to be refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

REGISTERED = frozenset({"_parameters", "_buffers", "_modules", "training"})
DEPTH = 4


@contextmanager
def watch_attributes(model: nn.Module, root: nn.Module) -> Iterator[list[str]]:
    """Yields a list that gets a reason for every attribute of the model's modules that a call of root changes.

    Attributes of plain objects that the modules hold count as well. The comparison is made as root's forward returns,
    since torch.export restores most attributes afterwards; containers and objects that are changed in place are
    restored here.
    """
    prints = Fingerprints()
    before = {
        path: (m, {k: (v, prints(v), _copy(v)) for k, v in m.__dict__.items() if _watched(k)})
        for path, m in model.named_modules()
    }
    reasons: list[str] = []

    def compare(*_: Any) -> None:
        after = Fingerprints()
        for path, (m, attributes) in before.items():
            for k, v in m.__dict__.items():
                if _watched(k) and not (isinstance(m, nn.RNNBase) and k.startswith("_flat_weight")):
                    old, print_, _ = attributes.get(k, (None, None, None))
                    if print_ != after(v):
                        reasons.append(_reason(path, k, old, v))

    handle = root.register_forward_hook(compare)
    try:
        yield reasons
    finally:
        handle.remove()
        for m, attributes in before.values():
            for k in [k for k in m.__dict__ if _watched(k)]:
                if k not in attributes:
                    del m.__dict__[k]
            for k, (v, _, content) in attributes.items():
                m.__dict__[k] = _restored(v, content)
        prints.restore()


def _watched(name: str) -> bool:
    return name not in REGISTERED and "_hooks" not in name


class Fingerprints:
    """Of values: each changes if the value, or what a container or a plain object holds, does."""

    def __init__(self) -> None:
        self._objects: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._known: dict[int, Any] = {}

    def __call__(self, value: Any, depth: int = DEPTH) -> Any:
        if isinstance(value, torch.Tensor):
            return ("tensor", id(value), 0 if value.is_inference() else value._version)
        kind = type(value).__name__
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return (kind, repr(value))
        if not depth:
            return (kind, id(value))
        if isinstance(value, dict):
            return (kind, [(_key(k), self(v, depth - 1)) for k, v in value.items()])
        if isinstance(value, (list, tuple)):
            return (kind, [self(v, depth - 1) for v in value])
        if isinstance(value, (set, frozenset)):
            return (kind, sorted(str(_key(v)) for v in value))
        return (kind, id(value), self._object(value, depth) if _is_plain(value) else None)

    def _object(self, value: Any, depth: int) -> Any:
        if id(value) not in self._known:
            self._known[id(value)] = None  # a cycle ends here
            self._objects[id(value)] = (value, dict(vars(value)))
            self._known[id(value)] = self(dict(vars(value)), depth - 1)
        return self._known[id(value)]

    def restore(self) -> None:
        """Give every plain object the attributes it had."""
        for value, attributes in self._objects.values():
            if vars(value).keys() != attributes.keys() or any(vars(value)[k] is not v for k, v in attributes.items()):
                vars(value).clear()
                vars(value).update(attributes)


def _key(value: Any) -> Any:
    return repr(value) if isinstance(value, (str, int, float)) else id(value)


def _is_plain(value: Any) -> bool:
    """An instance of a class written in Python that is no module, function, class or part of torch."""
    if isinstance(value, (nn.Module, type, ModuleType)) or callable(value) or not hasattr(value, "__dict__"):
        return False
    return type(value).__module__.partition(".")[0] not in ("torch", "numpy", "sympy", "builtins", "functools")


def _copy(value: Any) -> Any:
    return value.copy() if type(value) in (dict, list, set) else None


def _restored(value: Any, content: Any) -> Any:
    """The container with its former content."""
    if content is not None and Fingerprints()(value, 1) != Fingerprints()(content, 1):
        value.clear()
        value.extend(content) if isinstance(value, list) else value.update(content)
    return value


def _reason(path: str, name: str, old: Any, new: Any) -> str:
    mend = (
        "register it as a buffer and write it in place"
        if isinstance(new, torch.Tensor)
        else "pass it as an argument and return it, or compute it anew"
    )
    what = f"self.{name}{f' of {path}' if path else ''} ({_show(old)} → {_show(new)})"
    return f"forward writes the attribute {what}, which would be lost: {mend}"


def _show(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "a tensor"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
