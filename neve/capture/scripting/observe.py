"""What a model does in Python: the results of example calls, and the types of arguments and variables on the way."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

from neve.capture.hidden import is_users

PLAIN = {int: "int", float: "float", bool: "bool", str: "str", torch.device: "Device", torch.dtype: "int"}
DEPTH = 4
SAMPLE = 64
MAX_TYPES = 4
UNKNOWN = "?"


@dataclass
class Seen:
    """Of a function: the types of its arguments and, at its end, of its variables; the modules it was a method of.

    counts: how many values *args had; keys: the names that **kwargs had.
    """

    arguments: dict[str, set[str]] = field(default_factory=dict)
    variables: dict[str, set[str]] = field(default_factory=dict)
    owners: dict[int, nn.Module] = field(default_factory=dict)
    counts: dict[str, set[int]] = field(default_factory=dict)
    keys: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)

    def argument(self, name: str) -> str | None:
        """The TorchScript type that fits all values of an argument; None if there is none."""
        return common(self.arguments.get(name, set()))

    def variable(self, name: str) -> str | None:
        """The TorchScript type that fits all values that a variable ended with; None if there is none."""
        return common(self.variables.get(name, set()))


Observations = dict[CodeType, Seen]
"""Of every function that ran and is not torch's or neve's."""


@contextmanager
def observed(found: Observations) -> Iterator[None]:
    """Note in `found` what Python functions do meanwhile in this thread."""
    watched: dict[CodeType, bool] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if code not in watched:
            watched[code] = is_users(code.co_filename)
        if not watched[code] or event not in ("call", "return"):
            return
        seen = found.setdefault(code, Seen())
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        values = frame.f_locals
        if event == "call":
            for name in names:
                _add(seen.arguments, name, values.get(name))
            _add_rest(seen, code, values)
            if names and isinstance(values.get(names[0]), nn.Module):
                seen.owners[id(values[names[0]])] = values[names[0]]
        else:
            for name, value in values.items():
                _add(seen.variables, name, value)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def _add_rest(seen: Seen, code: CodeType, values: Mapping[str, Any]) -> None:
    """Note what *args and **kwargs are."""
    rest = list(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
    if code.co_flags & inspect.CO_VARARGS:
        name = rest.pop(0)
        seen.counts.setdefault(name, set()).add(len(values[name]))
        _add(seen.arguments, name, values[name])
    if code.co_flags & inspect.CO_VARKEYWORDS:
        name = rest.pop(0)
        seen.keys.setdefault(name, set()).add(tuple(values[name]))
        for key, value in values[name].items():
            _add(seen.arguments, key, value)


def _add(types: dict[str, set[str]], name: str, value: Any) -> None:
    known = types.setdefault(name, set())
    if len(known) < MAX_TYPES:
        known.add(type_of(value))


def type_of(value: Any, depth: int = DEPTH) -> str:
    """A value's type as TorchScript writes it; "?" stands for none, and for what an empty container holds."""
    if isinstance(value, torch.Tensor):
        return "Tensor"
    if value is None:
        return "None"
    if isinstance(value, torch.Size):
        return "List[int]"
    if type(value) in PLAIN:
        return PLAIN[type(value)]
    if depth and type(value) in (list, tuple, dict):
        inner: Callable[[Any], str] = lambda v: type_of(v, depth - 1)  # noqa: E731
        if type(value) is tuple:
            return f"Tuple[{', '.join(map(inner, value))}]" if value and len(value) <= SAMPLE else UNKNOWN
        if type(value) is list:
            return f"List[{common(set(map(inner, value[:SAMPLE]))) or UNKNOWN}]"
        keys, values = (common(set(map(inner, list(x)[:SAMPLE]))) or UNKNOWN for x in (value.keys(), value.values()))
        return f"Dict[{keys}, {values}]"
    return UNKNOWN


def common(types: set[str]) -> str | None:
    """The one type that values of several have in TorchScript; None if there is none."""
    known = {t for t in types if UNKNOWN not in t}
    empty = {t.partition("[")[0] for t in types - known}
    if not known or UNKNOWN in types or empty - {t.partition("[")[0] for t in known}:
        return None
    if len(known) == 1:
        return next(iter(known))
    if len(known) == 2 and "None" in known:
        return f"Optional[{next(iter(known - {'None'}))}]"
    return None
