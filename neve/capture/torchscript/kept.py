"""Attributes of an archive that are read at run time: what `preserved_attrs` names, and what methods turned out to
write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from neve.capture.held import FIXED, Held, hold, leaves, part_of, unknown
from neve.capture.torchscript.forms import Component, Form, KnownForm, NumberForm, PartsForm, TensorForm
from neve.capture.torchscript.model import CONTENT, Model, Settled, tensor_key
from neve.capture.torchscript.pickles import Member, Obj, Unsupported
from neve.capture.torchscript.values import KINDS
from neve.capture.torchscript.variants import Variants
from neve.errors import CaptureError

MISSING = object()


def preserve(model: Model, settled: Settled, names: Sequence[str]) -> dict[str, tuple[Obj, str]]:
    """Settle that the named attributes are state, or all below a submodule; dotted path → the object and its
    attribute.

    CaptureError lists all names that the model does not have, and all that cannot vary.
    """
    found: dict[str, tuple[Obj, str]] = {}
    missing, reasons = [], []
    for name in names:
        owner, key, value = _find(model, name)
        try:
            if owner is not None and key in model.sources.cls(owner.cls).methods:
                raise CaptureError(f"{name} is a method: name it in methods=, with example inputs")
            if owner is None or value is MISSING:
                missing.append(name)
            elif isinstance(value, Obj) and value.packed is None:
                found |= _checked(dict(_below(value, name, set())))
            elif value is None or isinstance(value, (str, Member, Obj, Unsupported)):
                what = "packed" if isinstance(value, Obj) else repr(value)
                raise CaptureError(f"the attribute {name} is {what}, which {FIXED}")
            else:
                found |= _checked({name: (owner, key)})
        except CaptureError as error:
            reasons += error.all_reasons
    if missing or reasons:
        raise CaptureError(unknown(missing) + reasons)
    for owner, key in found.values():
        _settle(model, settled, owner, key, owner.attrs[key])
    return found


def _checked(found: dict[str, tuple[Obj, str]]) -> dict[str, tuple[Obj, str]]:
    """found; CaptureError for what cannot vary."""
    for path, (owner, key) in found.items():
        hold(owner.attrs[key], path, (), lambda _, x: torch.tensor(x, dtype=KINDS[type(x)]))
    return found


def _settle(model: Model, settled: Settled, owner: Any, key: Any, value: Any) -> None:
    """Tensors are written, numbers are state; a tuple with numbers in it is state as a whole."""
    place = (id(owner), key)
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()._cdata
        settled.written.add(tensor_key(value))
        settled.shared |= {storage} if len(set(model.tensors_of[storage])) > 1 else set()
    elif type(value) in KINDS or (isinstance(value, tuple) and any(type(v) in KINDS for v in _flat(value))):
        settled.state[place] = None
        settled.varying |= set(_numbers(value, model.path(place)))
    elif isinstance(value, tuple):
        for v in _flat(value):
            _settle(model, settled, owner, key, v)
    elif isinstance(value, (list, dict)):
        for k, v in list(value.items() if isinstance(value, dict) else enumerate(value)):
            _settle(model, settled, value, k, v)


def _flat(value: Any) -> Iterator[Any]:
    """What is in tuples in a tuple."""
    for v in value:
        yield from _flat(v) if isinstance(v, tuple) else [v]


def _numbers(value: Any, path: str) -> Iterator[str]:
    if type(value) in KINDS:
        yield path
    elif isinstance(value, (list, tuple, dict)):
        for k, v in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(v, f"{path}.{k}")


def attributes(variants: Variants, preserved: Mapping[str, tuple[Obj, str]]) -> tuple[dict[str, Any], frozenset[str]]:
    """Dotted path → what it holds: the preserved ones, numbers that methods write, and views of memory that they
    write. And the names of the state that is part of no attribute, as an attribute has another form at times.

    CaptureError if that is so of a preserved one.
    """
    return _Attributes(variants, preserved).made()


class _Attributes:
    def __init__(self, variants: Variants, preserved: Mapping[str, tuple[Obj, str]]) -> None:
        self.variants, self.preserved = variants, preserved
        self.model, self.settled, self.state = variants.model, variants.settled, variants.state
        self.names = variants.names()
        self.forms = {p: {s[p] for s in variants.signatures} for p in variants.state.initial}

    def made(self) -> tuple[dict[str, Any], frozenset[str]]:
        preserved = {path: self._attribute(path, *at) for path, at in self.preserved.items()}
        inside = {id(held.tensor) for value in preserved.values() for held in leaves(value)}
        own: dict[str, Any] = {}
        hidden = set()
        for c, name in self.names.items():
            if name != c[0]:
                hidden.add(name)
            elif isinstance(c[1], NumberForm):
                own[c[0]] = self._held(c)
        for path, t in self.model.tensors():
            if t.untyped_storage()._cdata in self.settled.shared and path not in self.names.values():
                own[path] = self._tensor(t, path)
        return {k: h for k, h in own.items() if id(h.tensor) not in inside} | preserved, frozenset(hidden)

    def _attribute(self, path: str, owner: Obj, key: str) -> Any:
        return self._value(owner.attrs[key], (id(owner), key), path)

    def _value(self, value: Any, place: tuple[int, Any], path: str) -> Any:
        """What an attribute or a part of it holds."""
        place = (id(value), CONTENT) if (id(value), CONTENT) in self.forms else place
        if place in self.forms:
            if len(self.forms[place]) > 1:
                forms = " and ".join(sorted(map(str, self.forms[place])))
                raise CaptureError(f"the attribute {path} cannot be preserved, as calls change what it is: {forms}")
            (form,) = self.forms[place]
            return self._form(form, self.model.path(place))
        if isinstance(value, torch.Tensor):
            return self._tensor(value, path)
        if isinstance(value, tuple):
            return tuple(self._value(v, (0, None), f"{path}.{k}") for k, v in enumerate(value))
        if isinstance(value, list):
            return [self._value(v, (id(value), k), f"{path}.{k}") for k, v in enumerate(value)]
        if isinstance(value, dict):
            return {k: self._value(v, (id(value), k), f"{path}.{k}") for k, v in value.items()}
        return value

    def _form(self, form: Form, path: str) -> Any:
        if isinstance(form, (TensorForm, NumberForm)):
            return self._held((path, form))
        if isinstance(form, KnownForm):
            return form.value
        assert isinstance(form, PartsForm)
        parts = [self._form(p, f"{path}.{k}") for k, p in zip(form.keys, form.parts, strict=True)]
        return dict(zip(form.keys, parts, strict=True)) if form.kind is dict else form.kind(parts)

    def _held(self, c: Component) -> Held:
        return Held(self.state.tensor(c), self.names[c], (), c[1].kind if isinstance(c[1], NumberForm) else None)

    def _tensor(self, t: torch.Tensor, path: str) -> Held:
        """A tensor that is not replaced; one that shares its memory with others as a view of the whole memory."""
        held = Held(t, path)
        return part_of(held) if t.untyped_storage()._cdata in self.settled.shared else held


def _find(model: Model, name: str) -> tuple[Obj | None, str, Any]:
    """(the object that has the attribute, its name there, its value); MISSING if there is none."""
    *folders, last = name.split(".")
    owner: Any = model.archive.root
    for part in folders:
        owner = owner.attrs.get(part) if isinstance(owner, Obj) else None
    return (owner, last, owner.attrs.get(last, MISSING)) if isinstance(owner, Obj) else (None, last, MISSING)


def _below(module: Obj, path: str, seen: set[int]) -> Iterator[tuple[str, tuple[Obj, str]]]:
    """All tensors and numbers of a module and of its submodules."""
    if id(module) in seen:
        return
    seen.add(id(module))
    for k, v in module.attrs.items():
        if isinstance(v, Obj) and v.packed is None:
            yield from _below(v, f"{path}.{k}", seen)
        elif (
            k != "training" and not k.startswith("_") and not isinstance(v, (Member, Obj, Unsupported, str, type(None)))
        ):
            yield f"{path}.{k}", (module, k)
