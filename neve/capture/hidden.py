"""Values that a model's code reaches without its modules: globals, class attributes, defaults, closures.

torch.export runs that code once and keeps none of what it writes there. Only user code is looked at, and of the values
only data; what a library reaches through several of its own modules is not found.
"""

from __future__ import annotations

import inspect
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from neve.capture.diagnose import INTERNAL

DATA = (bool, int, float, str, bytes, list, tuple, dict, set, deque, torch.Tensor, np.ndarray)
MAX_FUNCTIONS = 4000
STDLIB = os.path.dirname(os.__file__) + os.sep


@dataclass(frozen=True)
class Source:
    """A variable outside of the model's modules: what it is called, and the dict, class or cell that holds it."""

    name: str
    holder: Any
    key: str

    def get(self) -> Any:
        if isinstance(self.holder, CellType):
            return self.holder.cell_contents
        return vars(self.holder).get(self.key) if isinstance(self.holder, type) else self.holder.get(self.key)

    def put(self, value: Any) -> None:
        if isinstance(self.holder, CellType):
            self.holder.cell_contents = value
        elif isinstance(self.holder, type):
            setattr(self.holder, self.key, value)
        else:
            self.holder[self.key] = value


def is_users(file: str) -> bool:
    """Whether a source file is neither Python's nor torch's nor neve's."""
    library = file.startswith(STDLIB) and "-packages" not in file
    return not library and not file.startswith(INTERNAL) and not file.startswith("<")


def sources(model: nn.Module) -> list[Source]:
    """All variables that the code of a model's modules names outside of them."""
    found: dict[tuple[int, str], Source] = {}
    walk: list[Any] = [v for m in model.modules() for v in (type(m), *_functions(m))]
    seen: set[int] = set()
    while walk and len(seen) < MAX_FUNCTIONS:
        thing = walk.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        named: Iterable[tuple[Source, Any]] = ()
        if isinstance(thing, type) and _is_users_class(thing):
            walk.extend(thing.__bases__)
            named = _of_class(thing)
        elif isinstance(thing, FunctionType) and is_users(thing.__code__.co_filename):
            named = _of_function(thing)
        for source, value in named:
            if isinstance(value, DATA):
                found[id(source.holder), source.key] = source
            else:
                walk.append(_function(value))
    return list(found.values())


def _functions(module: nn.Module) -> Iterator[Any]:
    for value in (*vars(module).values(), *module._forward_hooks.values(), *module._forward_pre_hooks.values()):
        if callable(value):
            yield _function(value)
            yield type(value)


def _function(value: Any) -> Any:
    """The function in a method or a property; a class, or anything else, as it is."""
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        value = value.__func__
    return inspect.unwrap(value) if isinstance(value, FunctionType) else value


def _is_users_class(cls: type) -> bool:
    top = cls.__module__.partition(".")[0]
    return top not in ("torch", "builtins", "numpy", "typing", "collections", "abc", "enum")


def _of_class(cls: type) -> Iterator[tuple[Source, Any]]:
    for name, value in list(vars(cls).items()):
        if not name.startswith("__") or name == "__call__":
            yield Source(f"the class attribute {cls.__name__}.{name}", cls, name), value


def _of_function(fn: FunctionType) -> Iterator[tuple[Source, Any]]:
    """The variables, and their values, that a function names or holds."""
    for name in _names(fn.__code__) & fn.__globals__.keys():
        yield Source(f"the global variable {name}", fn.__globals__, name), fn.__globals__[name]
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=False):
        if name != "__class__" and _is_filled(cell):
            yield Source(f"the variable {name} of an outer function", cell, ""), cell.cell_contents
    for name, value in vars(fn).items():
        yield Source(f"the attribute {fn.__qualname__}.{name}", vars(fn), name), value
    for name, value in _defaults(fn).items():
        yield Source(f"the default value of {name} of {fn.__qualname__}", {name: value}, name), value


def _defaults(fn: FunctionType) -> dict[str, Any]:
    """The default values that a function could change."""
    names = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    given = fn.__defaults__ or ()
    values = dict(zip(names[len(names) - len(given) :], given, strict=True)) | (fn.__kwdefaults__ or {})
    return {name: v for name, v in values.items() if isinstance(v, (list, dict, set))}


def _names(code: CodeType) -> set[str]:
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
