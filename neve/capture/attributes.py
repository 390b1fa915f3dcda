"""Python attributes that a model writes while it runs: torch.export drops such writes, so they have to be refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

REGISTERED = frozenset({"_parameters", "_buffers", "_modules", "training"})
DEPTH = 4


@contextmanager
def watch_attributes(root: nn.Module) -> Iterator[list[str]]:
    """Yields a list that gets a reason for every attribute of root's modules that a call of root changes.

    The comparison is made as root's forward returns, since torch.export restores most attributes afterwards; containers
    that are changed in place are restored here.
    """
    before = {
        path: (m, {k: (v, _fingerprint(v), _copy(v)) for k, v in m.__dict__.items() if _watched(k)})
        for path, m in root.named_modules()
    }
    reasons: list[str] = []

    def compare(*_: Any) -> None:
        for path, (m, attributes) in before.items():
            for k, v in m.__dict__.items():
                if _watched(k):
                    old, print_, _ = attributes.get(k, (None, None, None))
                    if print_ != _fingerprint(v) and not (isinstance(m, nn.RNNBase) and k.startswith("_flat_weight")):
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


def _watched(name: str) -> bool:
    return name not in REGISTERED and "_hooks" not in name


def _fingerprint(value: Any, depth: int = DEPTH) -> Any:
    """Changes if the value, or what a container holds, does."""
    if isinstance(value, torch.Tensor):
        return ("tensor", id(value), 0 if value.is_inference() else value._version)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return (type(value).__name__, repr(value))
    if depth and isinstance(value, dict):
        return (
            "dict",
            [(repr(k) if isinstance(k, (str, int)) else id(k), _fingerprint(v, depth - 1)) for k, v in value.items()],
        )
    if depth and isinstance(value, (list, tuple)):
        return (type(value).__name__, [_fingerprint(v, depth - 1) for v in value])
    if depth and isinstance(value, (set, frozenset)):
        return (
            type(value).__name__,
            sorted(repr(v) if isinstance(v, (str, int, float)) else str(id(v)) for v in value),
        )
    return (type(value).__name__, id(value))


def _copy(value: Any) -> Any:
    return value.copy() if type(value) in (dict, list, set) else None


def _restored(value: Any, content: Any) -> Any:
    """The container with its former content."""
    if content is not None and _fingerprint(value, 1) != _fingerprint(content, 1):
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
