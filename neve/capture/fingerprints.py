"""What values hold, in a form that can be compared later, and given back to them."""

from __future__ import annotations

import functools
import random
import sys
import types
import warnings
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn

DEPTH = 60
MAX_VALUES = 200_000
COPIED = frozenset({dict, OrderedDict, list, set, deque, np.ndarray, array, bytearray})
RANDOM = (np.random.RandomState, np.random.Generator, np.random.BitGenerator)
NO_STATE = frozenset({"torch", "sympy", "logging", "typing"})
"""Top modules whose objects are not looked into."""
REPRESENTED = (torch.dtype, torch.device, torch.layout, torch.memory_format)
"""Of those, what is the same if it is written in the same way."""


class Fingerprints:
    """Of values: each changes if the value, or what it holds, does: containers, objects, functions, iterators, random
    generators.

    To `restore` what values were, give the storages of those tensors that need not be: the others are copied.
    Iterators cannot be given back what they gave. apart: ids of objects that are not looked into.
    """

    def __init__(self, safe: set[int] | None = None, apart: Container[int] = ()) -> None:
        self._safe, self._apart = safe, apart
        self._known: dict[int, tuple[Any, Any]] = {}
        self._old: dict[int, Any] = {}
        self._undo: list[Callable[[], None]] = []

    def __call__(self, value: Any, depth: int = DEPTH) -> Any:
        kind = type(value).__name__
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return (kind, repr(value))
        if id(value) in self._known:
            return self._known[id(value)][1]
        if not depth or len(self._known) >= MAX_VALUES or id(value) in self._apart:
            return (kind, id(value))
        self._known[id(value)] = value, kind  # a cycle ends here
        print_ = (kind, self._tensor(value) if isinstance(value, torch.Tensor) else self._inside(value, depth - 1))
        self._known[id(value)] = value, print_  # kept: no other value may get its id meanwhile
        return print_

    def held(self, value: Any) -> Any:
        """What a container held, or the value itself."""
        return self._old.get(id(value), value)

    def of(self, value: Any) -> Any:
        """The fingerprint that was taken of a tensor, container or object; None if none was."""
        known, print_ = self._known.get(id(value), (None, None))
        return print_[1] if known is value and isinstance(print_, tuple) else None

    def restore(self) -> None:
        """Give every container, tensor and plain object what it had."""
        for undo in self._undo:
            undo()

    def _inside(self, value: Any, depth: int) -> Any:
        inner = functools.partial(self, depth=depth)
        if value is sys.modules:  # what a call imports stays
            return id(value), None
        if type(value) in COPIED and self._safe is not None:
            self._old[id(value)] = old = value[:] if isinstance(value, (array, bytearray)) else value.copy()
            self._undo.append(lambda: _refill(value, old))
        if isinstance(value, dict):
            return [(self._key(k), inner(v)) for k, v in dict.items(value)]
        if isinstance(value, (list, tuple, deque)):
            return [inner(v) for v in value]
        if isinstance(value, (set, frozenset)):
            return sorted(str(self._key(v)) for v in value)
        if isinstance(value, np.ndarray):
            # tobytes() of a masked array fills it in, and may write what it fills in with
            masked = hash(np.ma.getmaskarray(value).tobytes()) if isinstance(value, np.ma.MaskedArray) else None
            return self._identity(value), value.shape, hash(np.asarray(value).tobytes()), masked
        if isinstance(value, (array, bytearray)):
            return self._identity(value), bytes(value)
        if isinstance(value, types.FunctionType):
            return self._identity(value), self._function(value, inner)
        if isinstance(value, functools.partial):
            return self._identity(value), [inner(v) for v in (value.func, value.args, value.keywords)]
        if isinstance(value, (types.MethodType, types.BuiltinMethodType)):
            owner = getattr(value, "__self__", None)
            return value.__name__, None if isinstance(owner, types.ModuleType) else inner(owner)
        if isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            return id(value), frame and (frame.f_lasti, inner(dict(frame.f_locals)))
        if isinstance(value, (random.Random, *RANDOM)):
            return id(value), self._random(value)
        if isinstance(value, ContextVar):
            return id(value), inner(value.get(None))
        if isinstance(value, Iterator) and type(value).__module__ in ("builtins", "itertools"):
            return id(value), repr(value), inner(_position(value))
        return (self._identity(value), self._object(value, inner)) if is_plain(value) else self._other(value)

    def _identity(self, value: Any) -> Any:
        return id(value)

    def _key(self, value: Any) -> Any:
        """Of what is a key of a dict, or in a set."""
        return repr(value) if isinstance(value, (str, int, float)) else id(value)

    def _other(self, value: Any) -> Any:
        """Of what is not looked into."""
        return id(value), None

    def _tensor(self, value: torch.Tensor) -> Any:
        if value.is_inference() or value.layout is not torch.strided:
            return id(value)
        storage, version = value.untyped_storage()._cdata, value._version
        if self._safe is not None and storage not in self._safe:
            old = value.detach().clone()
            self._undo.append(lambda: _rewrite(value, old, version))
        return id(value), version, storage

    def _function(self, value: types.FunctionType, inner: Callable[[Any], Any]) -> Any:
        """What a function of the user holds."""
        from neve.capture.hidden import is_users

        if not is_users(value.__code__.co_filename):
            return None
        cells = [(cell, content(cell)) for cell in value.__closure__ or ()]
        if self._safe is not None:
            self._undo += [functools.partial(_fill, cell, old) for cell, old in cells]
        held = [old for _, old in cells], value.__defaults__, value.__kwdefaults__, vars(value)
        return [inner(v) for v in held]

    def _random(self, value: Any) -> Any:
        if isinstance(value, random.Random):
            state = value.getstate()
            self._undo.append(lambda: value.setstate(state))
            return hash(state)
        if isinstance(value, np.random.RandomState):
            words = value.get_state(legacy=False)
            self._undo.append(lambda: value.set_state(words))
            return repr(words), hash(words["state"]["key"].tobytes())
        bits: Any = value.bit_generator if isinstance(value, np.random.Generator) else value
        old = bits.state
        self._undo.append(lambda: setattr(bits, "state", old))
        return repr(old)

    def _object(self, value: Any, inner: Callable[[Any], Any]) -> Any:
        slots = {k: getattr(value, k) for k in _slots(type(value)) if hasattr(value, k)}
        found = getattr(value, "__dict__", {})
        if not isinstance(found, Mapping):  # a library of C, which has what it is asked for
            return id(value)
        names = dict(found)
        if self._safe is not None:
            self._undo.append(lambda: _reset(value, names, slots))
        # the hooks of a module are torch's, and the one that compares is among them
        hooks = isinstance(value, nn.Module)
        held = {k: v for k, v in names.items() if not (hooks and "_hooks" in k)}
        return [(k, inner(v)) for k, v in (held | slots).items()]


class Form(Fingerprints):
    """Of what calls in one trace have left behind: without the ids of what they have made; tensors, numbers and sizes
    of the trace are numbered, and in `leaves`.

    before: the fingerprints of what was there before the first call. lasting: what the calls have changed for good, if
    only once: tensors that were there and are written in place, random generators.
    """

    def __init__(self, before: Fingerprints, apart: Container[int] = ()) -> None:
        super().__init__(apart=apart)
        self._before = before
        self._order: dict[int, int] = {}
        self.leaves: list[Any] = []
        self.lasting = False

    def __call__(self, value: Any, depth: int = DEPTH) -> Any:
        if isinstance(value, (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool)):
            return self._leaf(value)
        inner = super().__call__(value, depth)
        return (self._identity(value), inner) if type(value) in COPIED else inner

    def _leaf(self, value: Any) -> Any:
        old = self._before.of(value)
        if old is not None:
            self.lasting |= old != self._before._tensor(value)
            return id(value)
        if id(value) not in self._order:
            self._order[id(value)] = len(self._order)
            self.leaves.append(value)
        return ("leaf", self._order[id(value)])

    def _identity(self, value: Any) -> Any:
        known = self._before.of(value) is not None
        return id(value) if known else ("made", self._order.setdefault(id(value), len(self._order)))

    def _key(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._key, value))
        return repr(value) if isinstance(value, (bytes, type(None), *REPRESENTED)) else super()._key(value)

    def _other(self, value: Any) -> Any:
        return repr(value) if isinstance(value, REPRESENTED) else super()._other(value)

    def _random(self, value: Any) -> Any:
        self.lasting = True


def library_of(thing: Any) -> str:
    """The top module that a class or function is of."""
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def content(cell: types.CellType) -> Any:
    """What a variable of an outer function holds; None if nothing."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _position(value: Any) -> Any:
    """Where an iterator is, without a step of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return value.__reduce__()
        except TypeError:
            return None


def _refill(container: Any, old: Any) -> None:
    if isinstance(container, np.ndarray):
        if container.flags.writeable:
            container[...] = old
    elif isinstance(container, (list, array, bytearray)):
        if len(container) != len(old) or any(a is not b for a, b in zip(container, old, strict=True)):
            container[:] = old
    elif isinstance(container, deque):
        container.clear()
        container.extend(old)
    elif _identities(container) != _identities(old):
        container.clear()
        container.update(old)


def _identities(container: Any) -> Any:
    return [(id(k), id(v)) for k, v in container.items()] if isinstance(container, dict) else set(map(id, container))


def _rewrite(tensor: torch.Tensor, old: torch.Tensor, version: int) -> None:
    if tensor._version != version:
        with torch.no_grad():
            tensor.detach().copy_(old)


def _fill(cell: types.CellType, old: Any) -> None:
    if content(cell) is not old:
        cell.cell_contents = old


def _reset(value: Any, names: dict[str, Any], slots: dict[str, Any]) -> None:
    if hasattr(value, "__dict__"):
        now = vars(value)
        if now.keys() != names.keys() or any(now[k] is not v for k, v in names.items()):
            now.clear()
            now.update(names)
    for k, v in slots.items():
        if getattr(value, k, None) is not v:
            object.__setattr__(value, k, v)


def _slots(cls: type) -> list[str]:
    made = [c for c in cls.__mro__ if "__slots__" in vars(c)]
    return [k for c in made for k, v in vars(c).items() if isinstance(v, types.MemberDescriptorType)]


def is_plain(value: Any) -> bool:
    """An instance of a class written in Python that is no class or part of torch; a module of a model counts."""
    if isinstance(value, nn.Module):
        return True
    if isinstance(value, (type, types.ModuleType)) or library_of(type(value)) in NO_STATE:
        return False
    return hasattr(value, "__dict__") or bool(_slots(type(value)))
