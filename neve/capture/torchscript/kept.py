"""Attributes of an archive that are read at run time: what `preserved_attrs` names, and what methods turned out to
write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from neve.capture.held import FIXED, Held, hold, leaves, located, part_of, unknown
from neve.capture.torchscript.model import Model, Place, Settled, tensor_key
from neve.capture.torchscript.pickles import Obj, Unsupported
from neve.capture.torchscript.values import KINDS
from neve.errors import CaptureError

MISSING = object()


def preserve(model: Model, settled: Settled, names: Sequence[str]) -> dict[str, Any]:
    """Settle that the named attributes are state, or all below a submodule; dotted path → what they hold.

    CaptureError lists all names that the model does not have, and all that cannot vary.
    """
    found: dict[str, Any] = {}
    missing, reasons = [], []
    for name in names:
        owner, key, value = _find(model, name)
        try:
            if owner is not None and key in model.sources.cls(owner.cls).methods:
                raise CaptureError(f"{name} is a method: name it in methods=, with example inputs")
            if owner is None or value is MISSING:
                missing.append(name)
            elif isinstance(value, Obj) and value.packed is None:
                found |= dict(_below(settled, value, name, set()))
            elif value is None or isinstance(value, (str, Obj, Unsupported)):
                what = "packed" if isinstance(value, Obj) else repr(value)
                raise CaptureError(f"the attribute {name} is {what}, which {FIXED}")
            else:
                found[name] = _hold(settled, owner, key, value, name)
        except CaptureError as error:
            reasons += error.reasons
    if missing or reasons:
        raise CaptureError(unknown(missing) + reasons)
    for held in (leaf for value in found.values() for leaf in leaves(value) if not leaf.kind):
        settled.written.add(tensor_key(held.tensor))
        if len(model.keys_by_storage[held.tensor.untyped_storage()._cdata]) > 1:
            settled.shared.add(held.tensor.untyped_storage()._cdata)
    return found


def attributes(model: Model, settled: Settled, preserved: dict[str, Any]) -> dict[str, Any]:
    """Dotted path → what it holds: the preserved ones, numbers that methods write, and views of memory that they
    write.
    """
    numbers = {
        model.path(place): Held(settled.state[place], model.path(place), place, kind)
        for place, kind in settled.kinds.items()
        if kind is not torch.Tensor
    }
    inside = {id(held.tensor) for value in preserved.values() for held in leaves(value)}
    views = {path: Held(t, path) for path, t in model.tensors() if t.untyped_storage()._cdata in settled.shared}
    own = {k: h for k, h in (numbers | views).items() if id(h.tensor) not in inside}

    def place(held: Held) -> Held:
        if settled.kinds.get(held.place) is torch.Tensor:
            return Held(settled.state[held.place], held.name, held.place)
        shared = not held.kind and held.tensor.untyped_storage()._cdata in settled.shared
        return part_of(held) if shared else held

    return {path: located(value, place) for path, value in (own | preserved).items()}


def _find(model: Model, name: str) -> tuple[Obj | None, str, Any]:
    """(the object that has the attribute, its name there, its value); MISSING if there is none."""
    *folders, last = name.split(".")
    owner: Any = model.archive.root
    for part in folders:
        owner = owner.attrs.get(part) if isinstance(owner, Obj) else None
    return (owner, last, owner.attrs.get(last, MISSING)) if isinstance(owner, Obj) else (None, last, MISSING)


def _hold(settled: Settled, owner: Obj, key: str, value: Any, path: str) -> Any:
    def number(place: Place, x: Any) -> torch.Tensor:
        settled.kinds[place] = type(x)
        return settled.state.setdefault(place, torch.tensor(x, dtype=KINDS[type(x)]))

    return hold(value, path, (id(owner), key), number)


def _below(settled: Settled, module: Obj, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """All tensors and numbers of a module and of its submodules."""
    if id(module) in seen:
        return
    seen.add(id(module))
    for k, v in module.attrs.items():
        if isinstance(v, Obj) and v.packed is None:
            yield from _below(settled, v, f"{path}.{k}", seen)
        elif k != "training" and not k.startswith("_") and not isinstance(v, (Obj, Unsupported, str, type(None))):
            yield f"{path}.{k}", _hold(settled, module, k, v, f"{path}.{k}")
