"""Python attributes that a model writes while it runs: torch.export drops such writes. See `repeated` for which of them
may be dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neve.capture.elsewhere import Elsewhere
from neve.capture.fingerprints import Fingerprints
from neve.capture.held import storage_of
from neve.capture.hidden import MISSING, Source, outside
from neve.capture.recomputed import Recomputed, recomputed

REGISTERED = frozenset({"_parameters", "_buffers", "_modules", "training"})


@dataclass(frozen=True)
class Change:
    """What a call has changed: its name, the value that is there now, and why that would be lost."""

    name: str
    value: Any
    reason: str


class Watched:
    """What the modules of a model hold beside parameters, buffers and submodules, and variables that their code names
    elsewhere (see `hidden`), as they are before a call.

    torch.export restores most attributes after it has run a model, so `changes` is to be asked, and `restore` called,
    as the model's forward returns.
    """

    def __init__(self, model: nn.Module, apart: Sequence[Recomputed] = ()) -> None:
        registered = {storage_of(t) for t in (*model.parameters(), *model.buffers())}
        self.modules = {id(m) for m in model.modules()}
        self.elsewhere = Elsewhere(model)
        self.prints = Fingerprints(registered, self.modules)
        self._attributes = {
            path: (m, {k: (v, self.prints(v)) for k, v in m.__dict__.items() if _watched(k)})
            for path, m in model.named_modules()
        }
        self._apart = [(r, Source(f"the attribute {r.name} of {r.path}", {"": r.value}, "")) for r in apart]
        variables, cached = outside(model)
        held = (*variables, *(s for _, s in self._apart))
        self._elsewhere = [(s, v, self.prints(v)) for s in held for v in [s.get()]]
        self._cached = [(function, function.cache_info().misses) for function in cached]

    def changes(self) -> list[Change]:
        after = Fingerprints(apart=self.modules)
        found = []
        for path, (m, attributes) in self._attributes.items():
            now = {k: v for k, v in m.__dict__.items() if _watched(k)}
            for k in (*now, *(attributes.keys() - now.keys())):
                if isinstance(m, nn.RNNBase) and k.startswith("_flat_weight"):
                    continue
                (old, print_), new = attributes.get(k, (MISSING, None)), now.get(k, MISSING)
                if print_ != after(new):
                    found.append(Change(f"{path}.{k}", new, _reason(path, k, self.prints.held(old), new)))
        for s, old, print_ in self._elsewhere:
            if print_ != after(new := s.get()):
                found.append(Change(s.name, new, _elsewhere(s.name, self.prints.held(old), new)))
        return found

    def lost(self) -> list[str]:
        """Reasons of what torch's hooks assign (see `recomputed`), where a call reads it first."""
        return [_reason(r.path, r.name, s.get(), r.value) for r, s in self._apart if r.lost]

    def restore(self) -> None:
        for m, attributes in self._attributes.values():
            for k in [k for k in m.__dict__ if _watched(k) and k not in attributes]:
                del m.__dict__[k]
            m.__dict__.update({k: v for k, (v, _) in attributes.items()})
        for source, old, _ in self._elsewhere:
            if source.get() is not old:
                source.put(old)
        self.prints.restore()
        for function, misses in self._cached:
            if function.cache_info().misses != misses:  # it may hold tensors of torch.export
                function.cache_clear()


@contextmanager
def watched(model: nn.Module) -> Iterator[Watched]:
    """What a model holds, given back to it afterwards; of what each call assigns before it reads it see
    `recomputed`.
    """
    with recomputed(model) as apart:
        held = Watched(model, apart)
        try:
            yield held
        finally:
            held.restore()


def _watched(name: str) -> bool:
    return name not in REGISTERED and "_hooks" not in name


def _reason(path: str, name: str, old: Any, new: Any) -> str:
    fix = (
        "register it as a buffer and write it in place"
        if isinstance(new, torch.Tensor)
        else "make it in the call, or pass it as an argument and return it"
    )
    what = f"self.{name}{f' of {path}' if path else ''} ({_show(old)} → {_show(new)})"
    return f"forward writes the attribute {what}, which would be lost: {fix}"


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
    return text if len(text) <= 40 and " object at 0x" not in text else f"a {type(value).__name__}"
