"""Python attributes that a model writes while it runs: torch.export drops such writes, so they have to be refused."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, GeneratorType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from neve.capture.hidden import sources

REGISTERED = frozenset({"_parameters", "_buffers", "_modules", "training"})
DEPTH = 6
COPIED = frozenset({dict, OrderedDict, list, set, deque, np.ndarray})
HASHED = 2**20
"""Arrays of up to so many bytes are compared by their content."""


@contextmanager
def watch_attributes(model: nn.Module, root: nn.Module) -> Iterator[list[str]]:
    """Yields a list that gets a reason for every attribute of the model's modules that a call of root changes.

    What the modules hold counts as well, and variables that their code names elsewhere (see `hidden`). The comparison
    is made as root's forward returns, since torch.export restores most attributes afterwards; what is changed in place
    is restored here.
    """
    registered = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    prints = Fingerprints(registered)
    before = {
        path: (m, {k: (v, prints(v)) for k, v in m.__dict__.items() if _watched(k)})
        for path, m in model.named_modules()
    }
    elsewhere = [(s, v, prints(v)) for s in sources(model) for v in [s.get()]]
    reasons: list[str] = []

    def compare(*_: Any) -> None:
        after = Fingerprints()
        for path, (m, attributes) in before.items():
            for k, v in m.__dict__.items():
                if _watched(k) and not (isinstance(m, nn.RNNBase) and k.startswith("_flat_weight")):
                    old, print_ = attributes.get(k, (None, None))
                    if print_ != after(v):
                        reasons.append(_reason(path, k, prints.held(old), v))
        for s, old, print_ in elsewhere:
            if print_ != after(s.get()):
                reasons.append(_elsewhere(s.name, prints.held(old), s.get()))

    handle = root.register_forward_hook(compare)
    try:
        yield reasons
    finally:
        handle.remove()
        for m, attributes in before.values():
            for k in [k for k in m.__dict__ if _watched(k)]:
                if k not in attributes:
                    del m.__dict__[k]
            m.__dict__.update({k: v for k, (v, _) in attributes.items()})
        for s, old, _ in elsewhere:
            if s.get() is not old:
                s.put(old)
        prints.restore()


def _watched(name: str) -> bool:
    return name not in REGISTERED and "_hooks" not in name


class Fingerprints:
    """Of values: each changes if the value, or what a container or a plain object holds, does.

    To `restore` what values were, give the storages of those tensors that need not be: the others are copied.
    """

    def __init__(self, safe: set[int] | None = None) -> None:
        self._safe = safe
        self._objects: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._tensors: dict[int, tuple[torch.Tensor, int, torch.Tensor]] = {}
        self._known: dict[int, Any] = {}

    def __call__(self, value: Any, depth: int = DEPTH) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        kind = type(value).__name__
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return (kind, repr(value))
        if not depth:
            return (kind, id(value))
        if type(value) in COPIED and self._safe is not None:
            self._containers[id(value)] = (value, value.copy())
        if isinstance(value, dict):
            return (kind, [(_key(k), self(v, depth - 1)) for k, v in dict.items(value)])
        if isinstance(value, (list, tuple, deque)):
            return (kind, [self(v, depth - 1) for v in value])
        if isinstance(value, (set, frozenset)):
            return (kind, sorted(str(_key(v)) for v in value))
        if isinstance(value, np.ndarray):
            return (kind, id(value), value.shape, hash(value.tobytes()) if value.nbytes <= HASHED else None)
        if isinstance(value, GeneratorType):
            frame = value.gi_frame
            return (kind, id(value), frame and (frame.f_lasti, self(dict(frame.f_locals), 2)))
        if type(value).__module__ == "itertools":
            return (kind, id(value), repr(value))
        return (kind, id(value), self._object(value, depth) if _is_plain(value) else None)

    def held(self, value: Any) -> Any:
        """What a container held, or the value itself."""
        return self._containers[id(value)][1] if id(value) in self._containers else value

    def _tensor(self, value: torch.Tensor) -> Any:
        if value.is_inference() or value.layout is not torch.strided:
            return ("tensor", id(value))
        storage = value.untyped_storage()._cdata
        if self._safe is not None and storage not in self._safe and id(value) not in self._tensors:
            self._tensors[id(value)] = (value, value._version, value.detach().clone())
        return ("tensor", id(value), value._version, storage)

    def _object(self, value: Any, depth: int) -> Any:
        if id(value) not in self._known:
            self._known[id(value)] = None  # a cycle ends here
            self._objects[id(value)] = (value, dict(vars(value)))
            # the hooks of a module are torch's, and the one that compares is among them
            hooks = isinstance(value, nn.Module)
            held = {k: v for k, v in vars(value).items() if not (hooks and "_hooks" in k)}
            self._known[id(value)] = self(held, depth - 1) if depth > 1 else None
        return self._known[id(value)]

    def restore(self) -> None:
        """Give every container, tensor and plain object what it had."""
        for container, content in self._containers.values():
            if isinstance(container, np.ndarray):
                if container.flags.writeable:
                    container[...] = content
            elif Fingerprints()(container, 1) != Fingerprints()(content, 1):
                container.clear()
                container.extend(content) if isinstance(container, (list, deque)) else container.update(content)
        for tensor, version, elements in self._tensors.values():
            if tensor._version != version:
                with torch.no_grad():
                    tensor.detach().copy_(elements)
        for value, attributes in self._objects.values():
            if vars(value).keys() != attributes.keys() or any(vars(value)[k] is not v for k, v in attributes.items()):
                vars(value).clear()
                vars(value).update(attributes)


def _key(value: Any) -> Any:
    return repr(value) if isinstance(value, (str, int, float)) else id(value)


def _is_plain(value: Any) -> bool:
    """An instance of a class written in Python that is no function, class or part of torch; a module counts."""
    if isinstance(value, (type, ModuleType, FunctionType)) or not hasattr(value, "__dict__"):
        return False
    return isinstance(value, nn.Module) or type(value).__module__.partition(".")[0] not in (
        "torch",
        "numpy",
        "sympy",
        "builtins",
        "functools",
    )


def _reason(path: str, name: str, old: Any, new: Any) -> str:
    mend = (
        "register it as a buffer and write it in place"
        if isinstance(new, torch.Tensor)
        else "pass it as an argument and return it, or compute it anew"
    )
    what = f"self.{name}{f' of {path}' if path else ''} ({_show(old)} → {_show(new)})"
    return f"forward writes the attribute {what}, which would be lost: {mend}"


def _elsewhere(name: str, old: Any, new: Any) -> str:
    return (
        f"forward writes {name} ({_show(old)} → {_show(new)}), which would be lost: make it an attribute of the "
        "module, set in __init__ (a tensor: register_buffer)"
    )


def _show(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return "a tensor"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
