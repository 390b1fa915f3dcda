"""Values that a model's code reaches without its modules: globals, class attributes, defaults, closures.

torch.export runs that code once and keeps none of what it writes there. Only user code is looked at, and of the values
only data; what a library reaches through several of its own modules is not found.
"""

from __future__ import annotations

import functools
import inspect
import os
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from neve.capture.diagnose import INTERNAL, of_python
from neve.capture.fingerprints import NO_STATE, content, library_of

DATA = (bool, int, float, str, bytes, list, tuple, dict, set, deque, torch.Tensor, np.ndarray)
"""What is watched of the globals of installed packages that have no module of the model."""
MAX_FUNCTIONS = 4000
MISSING = object()
WORLD = (BuiltinMethodType, random.Random, os._Environ)
"""What is watched of the modules of libraries: random generators, among them those behind functions, and os.environ."""
CACHE = type(functools.lru_cache(lambda: None))


@dataclass(frozen=True)
class Source:
    """A variable outside of the model's modules: what it is called, and the dict, class or cell that holds it."""

    name: str
    holder: Any
    key: str

    def get(self) -> Any:
        """Its value; MISSING if it has none, or a module, which may have been imported meanwhile."""
        if isinstance(self.holder, CellType):
            return content(self.holder)
        found = (vars(self.holder) if isinstance(self.holder, type) else self.holder).get(self.key, MISSING)
        return MISSING if isinstance(found, ModuleType) else _without_fx(found)

    def put(self, value: Any) -> None:
        if isinstance(self.holder, CellType):
            self.holder.cell_contents = value
        elif isinstance(self.holder, type):
            delattr(self.holder, self.key) if value is MISSING else setattr(self.holder, self.key, value)
        elif value is MISSING:
            self.holder.pop(self.key, None)
        else:
            self.holder[self.key] = value


def _without_fx(value: Any) -> Any:
    """The function itself, for one that torch.fx.wrap has replaced while torch.fx traces."""
    of_fx = isinstance(value, FunctionType) and value.__code__.co_filename == torch.fx._symbolic_trace.__file__
    return getattr(value, "__wrapped__", value) if of_fx else value


def is_users(file: str) -> bool:
    """Whether a source file is neither Python's nor torch's nor neve's."""
    return not of_python(file) and not file.startswith(INTERNAL) and not file.startswith("<")


def outside(model: nn.Module) -> tuple[list[Source], list[Any]]:
    """All variables that the code of a model's modules names outside of them, also those that have no value yet; and
    the functions with functools.lru_cache that it names.
    """
    found: dict[tuple[int, str], Source] = {}
    walk: list[Any] = [v for m in model.modules() for v in (type(m), *_functions(m))]
    apart = {id(m) for m in model.modules()}
    own = {library_of(type(m)) for m in model.modules()}
    seen: dict[int, Any] = {}
    while walk and len(seen) < MAX_FUNCTIONS:
        thing = walk.pop()
        if id(thing) in seen or id(thing) in apart:
            continue
        seen[id(thing)] = thing
        named: Iterable[tuple[Source, Any]] = ()
        if isinstance(thing, type) and _is_users_class(thing):
            walk += [*thing.__bases__, type(thing)]
            named = _of_class(thing)
        elif isinstance(thing, FunctionType) and is_users(thing.__code__.co_filename):
            named = _of_function(thing)
        foreign = _is_installed(thing) and library_of(thing) not in own
        for source, value in named:
            walk += _code(value)
            if isinstance(value, DATA) or (not foreign and _may_change(value)):
                found[id(source.holder), source.key] = source
    return list(found.values()), [thing for thing in seen.values() if isinstance(thing, CACHE)]


def _functions(module: nn.Module) -> Iterator[Any]:
    for value in (*vars(module).values(), *module._forward_hooks.values(), *module._forward_pre_hooks.values()):
        yield from _code(value)


def _code(value: Any) -> list[Any]:
    """The functions and classes in or behind a value."""
    if isinstance(value, property):
        return [f for f in (value.fget, value.fset) if f]
    if isinstance(value, functools.cached_property):
        return [value.func]
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        return [*_code(value.__func__), *([type(value.__self__)] if isinstance(value, MethodType) else [])]
    if isinstance(value, functools.partial):
        return _code(value.func)
    if isinstance(value, (FunctionType, CACHE)):
        return [value, inspect.unwrap(value)]
    return [value] if isinstance(value, type) else [type(value)]


def _may_change(value: Any) -> bool:
    """Whether a value, or what it holds, may be another after a call; classes and functions are walked instead."""
    if isinstance(value, (type, ModuleType, CodeType, property)):
        return False
    if isinstance(value, BuiltinMethodType):
        return not isinstance(value.__self__, (ModuleType, type, type(None)))
    return isinstance(value, torch.Tensor) or library_of(type(value)) not in NO_STATE


def _is_installed(thing: Any) -> bool:
    """Whether a class or function is of an installed package."""
    module = sys.modules.get(str(getattr(thing, "__module__", "")))
    return "-packages" in (getattr(module, "__file__", None) or "")


def _is_users_class(cls: type) -> bool:
    return library_of(cls) not in ("torch", "builtins", "numpy", "typing", "collections", "abc", "enum")


def _of_class(cls: type) -> Iterator[tuple[Source, Any]]:
    held = dict(vars(cls))
    for name, value in held.items():
        if not name.startswith("__") or name == "__call__":
            yield Source(f"the class attribute {cls.__name__}.{name}", cls, name), value
    for name in set().union(*(_names(v.__code__) for v in held.values() if isinstance(v, FunctionType))) - held.keys():
        if not hasattr(cls, name):
            yield Source(f"the class attribute {cls.__name__}.{name}", cls, name), MISSING


def _of_function(fn: FunctionType) -> Iterator[tuple[Source, Any]]:
    """The variables, and their values, that a function names or holds."""
    names = _names(fn.__code__)
    modules: dict[int, ModuleType] = {}
    for name in names:
        value = fn.__globals__.get(name, MISSING)
        yield Source(f"the global variable {name}", fn.__globals__, name), value
        for module in (value, sys.modules.get(name)):
            if isinstance(module, ModuleType):
                modules[id(module)] = module
    yield from _of_modules(modules, names)
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        if name != "__class__":
            yield Source(f"the variable {name} of an outer function", cell, ""), content(cell)
    yield Source(f"an attribute of the function {fn.__qualname__}", {"": vars(fn)}, ""), vars(fn)
    for name, value in _defaults(fn).items():
        yield Source(f"the default value of {name} of {fn.__qualname__}", {name: value}, name), value


def _of_modules(modules: dict[int, ModuleType], names: set[str]) -> Iterator[tuple[Source, Any]]:
    """What the names may be of modules, and of modules in them."""
    walk = list(modules.values())
    while walk:
        module = walk.pop()
        held = vars(module)
        users = is_users(getattr(module, "__file__", None) or "<")
        for name in names if users else names & held.keys():
            value = held.get(name, MISSING)
            if not isinstance(value, ModuleType):
                if users or isinstance(value, WORLD):
                    yield Source(f"the variable {name} of the module {module.__name__}", held, name), value
            elif id(value) not in modules:
                modules[id(value)] = value
                walk.append(value)


def _defaults(fn: FunctionType) -> dict[str, Any]:
    """The default values of a function's arguments."""
    names = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    given = fn.__defaults__ or ()
    return dict(zip(names[len(names) - len(given) :], given, strict=True)) | (fn.__kwdefaults__ or {})


def _names(code: CodeType) -> set[str]:
    """What code names, by itself or in a string (getattr, globals())."""
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    texts = {c for c in code.co_consts if isinstance(c, str) and c.isidentifier()}
    return set(code.co_names).union(texts, *map(_names, inner))
