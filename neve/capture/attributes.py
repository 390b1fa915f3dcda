"""Python attributes that a model writes while it runs: torch.export drops such writes, so they have to be refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neve.capture.fingerprints import Fingerprints
from neve.capture.hidden import MISSING, Source, sources
from neve.capture.recomputed import recomputed

REGISTERED = frozenset({"_parameters", "_buffers", "_modules", "training"})


@contextmanager
def watch_attributes(model: nn.Module, root: nn.Module) -> Iterator[list[str]]:
    """Yields a list that gets a reason for every attribute of the model's modules that a call of root changes.

    What the modules hold counts as well, and variables that their code names elsewhere (see `hidden`). The comparison
    is made as root's forward returns, since torch.export restores most attributes afterwards; what is changed in place
    is restored here. What each call assigns before it reads it (see `recomputed`) does not count.
    """
    with recomputed(model) as watched:
        held = [Source(f"the attribute {r.name} of {r.path}", {"": r.value}, "") for r in watched]
        with _compared(model, root, held) as reasons:
            yield reasons
            reasons += [_reason(r.path, r.name, h.get(), r.value) for r, h in zip(watched, held, strict=True) if r.lost]


@contextmanager
def _compared(model: nn.Module, root: nn.Module, apart: Sequence[Source]) -> Iterator[list[str]]:
    registered = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    modules = {id(m) for m in model.modules()}
    prints = Fingerprints(registered, modules)
    before = {
        path: (m, {k: (v, prints(v)) for k, v in m.__dict__.items() if _watched(k)})
        for path, m in model.named_modules()
    }
    elsewhere = [(s, v, prints(v)) for s in (*sources(model), *apart) for v in [s.get()]]
    reasons: list[str] = []

    def compare(*_: Any) -> None:
        after = Fingerprints(apart=modules)
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
        for source, old, _ in elsewhere:
            if source.get() is not old:
                source.put(old)
        prints.restore()


def _watched(name: str) -> bool:
    return name not in REGISTERED and "_hooks" not in name


def _reason(path: str, name: str, old: Any, new: Any) -> str:
    mend = (
        "register it as a buffer and write it in place"
        if isinstance(new, torch.Tensor)
        else "make it in the call, or pass it as an argument and return it"
    )
    what = f"self.{name}{f' of {path}' if path else ''} ({_show(old)} → {_show(new)})"
    return f"forward writes the attribute {what}, which would be lost: {mend}"


def _elsewhere(name: str, old: Any, new: Any) -> str:
    return (
        f"forward writes {name} ({_show(old)} → {_show(new)}), which would be lost: make it an attribute of the "
        "module, set in __init__ (a tensor: register_buffer)"
    )


def _show(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    if isinstance(value, torch.Tensor):
        return "a tensor"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
