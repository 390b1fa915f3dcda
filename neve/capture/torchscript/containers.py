"""Lists, dicts, tuples and strings of TorchScript's code. Their lengths are known, what they hold may not be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neve.capture.torchscript.numbers import binary, is_number, kind_of
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import Named, Num, Raised, Refusal, Text, Var, describe, needs_of

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

LONGEST = 1_000_000
SHORT = 10_000
"""Of strings that methods are called on, and of what these get."""


def bounded(length: int, value: int) -> int:
    """value, if a list of that length is not absurd."""
    if length > LONGEST:
        raise Refusal(f"a list or string of {length} entries is too long")
    return value


def refuse_length(n: Any) -> Any:
    raise Refusal(f"a list whose length is {describe(n)} is not supported", needs_of(n))


def position(container: Any, i: Any) -> int:
    """A known index within a container, from 0."""
    if type(i) is not int:
        raise Refusal(f"the index {describe(i)} of {describe(container)} depends on the inputs", needs_of(i))
    if not -len(container) <= i < len(container):
        raise Raised("list index out of range")
    return i % len(container)


def key_of(value: Any) -> Any:
    """A known key of a dict."""
    if not isinstance(value, (bool, int, float, str)):
        raise Refusal(f"the key {describe(value)} of a dict depends on the inputs", needs_of(value))
    return value


def _entry(c: dict[Any, Any], key: Any) -> Any:
    """The key of an entry that is there."""
    if key_of(key) not in c:
        raise Raised(f"KeyError: {key}")
    return key


def getitem(m: Machine, c: Any, i: Any) -> Any:
    """c[i]."""
    if isinstance(c, dict):
        return c[_entry(c, i)]
    if isinstance(c, Named):
        return c.items[position(c.items, i)]
    if isinstance(c, (list, tuple)) and isinstance(i, Num):
        return _at_run_time(m, c, i)
    if isinstance(c, (list, tuple, str)):
        return c[position(c, i)]
    if isinstance(c, Var):
        return m.torch("select", [c, 0, i], {})
    raise Refusal(f"{describe(c)} cannot be indexed")


def _at_run_time(m: Machine, c: Any, i: Num) -> Any:
    """An entry of a list of numbers, or of tensors of one type, whose index the run decides."""
    numbers = c and all(is_number(v) and kind_of(v) is kind_of(c[0]) for v in c)
    equal = c and all(
        isinstance(v, Var) and v.meta.shape == c[0].meta.shape and v.meta.dtype is c[0].meta.dtype for v in c
    )
    if not (numbers or equal):
        raise Refusal(f"the index of {describe(c)} depends on the inputs, and its entries are not alike", i.needs)
    parts = [m.tape.number(v, kind_of(v)) if numbers else v for v in c]
    picked = m.tape.call(ATEN.clone.default, m.torch("select", [m.tape.call(ATEN.stack.default, parts), 0, i], {}))
    if numbers:
        return Num(kind_of(c[0]), picked)
    m.tape.may_share(picked, c)
    return picked


def setitem(m: Machine, c: Any, i: Any, value: Any) -> Any:
    m.heap.touch(c)
    if isinstance(c, dict):
        c[key_of(i)] = value
    elif isinstance(c, list):
        c[position(c, i)] = value
    else:
        raise Refusal(f"{describe(c)} cannot be assigned into")
    return c


def append(m: Machine, c: list[Any], value: Any) -> Any:
    m.heap.touch(c)
    c.append(value)
    return c


def extend(m: Machine, c: list[Any], values: Any) -> Any:
    if isinstance(values, Var):
        raise Refusal("extending a list by a tensor is not supported")
    bounded(len(c) + len(values), 0)
    m.heap.touch(c)
    c.extend(values)
    return c


def _pop(m: Machine, c: Any, *args: Any) -> Any:
    m.heap.touch(c)
    if isinstance(c, dict):
        return c.pop(key_of(args[0]), args[1]) if len(args) > 1 else c.pop(_entry(c, args[0]))
    if not c:
        raise Raised("pop from empty list")
    return c.pop(position(c, args[0] if args else -1))


def _insert(m: Machine, c: list[Any], i: Any, value: Any) -> None:
    if type(i) is not int:
        raise Refusal("the place of an insert depends on the inputs", needs_of(i))
    m.heap.touch(c)
    c.insert(i, value)


def _delete(m: Machine, c: Any, i: Any) -> None:
    m.heap.touch(c)
    del c[_entry(c, i) if isinstance(c, dict) else position(c, i)]


def _clear(m: Machine, c: Any) -> None:
    m.heap.touch(c)
    c.clear()


def _reverse(m: Machine, c: list[Any]) -> None:
    m.heap.touch(c)
    c.reverse()


def _plain(c: Any, what: str) -> Any:
    """A list of known numbers or strings."""
    if not all(isinstance(v, (bool, int, float, str)) for v in c):
        raise Refusal(f"{what} of a list whose entries depend on the inputs", needs_of(*c))
    return c


def _sort(m: Machine, c: list[Any], reverse: bool = False) -> None:
    m.heap.touch(c)
    _plain(c, "sort").sort(reverse=reverse)


def _slice(m: Machine, c: Any, start: Any = None, stop: Any = None, step: Any = 1) -> Any:
    if not all(v is None or type(v) is int for v in (start, stop, step)):
        raise Refusal("the bounds of a slice of a list depend on the inputs", needs_of(start, stop, step))
    return c[slice(start, stop, step)]


def _contains(m: Machine, c: Any, value: Any) -> Any:
    if isinstance(c, str) or (isinstance(c, dict) and isinstance(value, (str, int, float, bool))):
        return value in c
    result: Any = False
    for item in list(c):
        equal = m.torch("eq", [item, value], {}) if type(item) is not str or type(value) is not str else item == value
        if isinstance(equal, Var):
            raise Refusal("a search for a tensor in a list is not supported")
        result = binary(m.tape, "__or__", result, equal)
    return result


def _remove(m: Machine, c: list[Any], value: Any) -> None:
    _plain([*c, value], "remove")
    if value not in c:
        raise Raised("list.remove(x): x not in list")
    m.heap.touch(c)
    c.remove(value)


def _index(m: Machine, c: list[Any], value: Any) -> int:
    _plain([*c, value], "index")
    if value not in c:
        raise Raised(f"{value} is not in list")
    return c.index(value)


def _sum(m: Machine, c: list[Any]) -> Any:
    total: Any = 0
    for v in c:
        if isinstance(v, Var):
            return NotImplemented
        total = binary(m.tape, "add", total, v)
    return total


def _truth(combine: str, start: bool) -> Callable[..., Any]:
    def every(m: Machine, c: list[Any]) -> Any:
        result: Any = start
        for v in c:
            result = binary(m.tape, combine, result, m.torch("Bool", [v], {}))
        return result

    return every


def _get(m: Machine, c: dict[Any, Any], key: Any, default: Any = None) -> Any:
    return c.get(key_of(key), default)


def _set_default(m: Machine, c: dict[Any, Any], key: Any, default: Any) -> Any:
    if key_of(key) not in c:
        m.heap.touch(c)
        c[key] = default
    return c[key]


def _update(m: Machine, c: dict[Any, Any], other: dict[Any, Any]) -> None:
    m.heap.touch(c)
    c.update(other)


def _dict(m: Machine, c: Any = ()) -> dict[Any, Any]:
    return {key_of(k): v for k, v in (c.items() if isinstance(c, dict) else c)}


def _list(m: Machine, c: Any) -> list[Any]:
    return list(c)


def _mul(m: Machine, c: list[Any], n: Any) -> Any:
    return c * bounded(len(c) * max(n, 0), n) if type(n) is int else refuse_length(n)


def _text(name: str) -> Callable[..., Any]:
    def method(m: Machine, s: Any, *args: Any) -> Any:
        if not isinstance(s, str) or not all(isinstance(a, (str, int, list)) for a in args):
            raise Refusal(f"{name} of a string that depends on the inputs")
        if any(a > SHORT if isinstance(a, int) else len(a) > SHORT for a in (s, *args)):
            raise Refusal(f"{name} of a string of more than {SHORT} characters")
        try:
            return getattr(s, name)(*args)
        except (ValueError, TypeError) as error:
            raise Raised(str(error)) from error

    return method


STRING_METHODS = (
    "upper", "lower", "strip", "lstrip", "rstrip", "split", "splitlines", "join", "replace", "startswith", "endswith",
    "find", "rfind", "isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "capitalize", "title", "zfill",
    "partition", "rpartition", "center", "ljust", "rjust",
)  # fmt: skip
METHODS: dict[str, Callable[..., Any]] = {name: _text(name) for name in STRING_METHODS} | {
    "len": lambda m, c: len(c),
    "append": append,
    "extend": extend,
    "insert": _insert,
    "pop": _pop,
    "remove": _remove,
    "index": _index,
    "count": lambda m, c, v: _plain([*c, v], "count")[:-1].count(v),
    "reverse": _reverse,
    "clear": _clear,
    "copy": lambda m, c: c.copy(),
    "sort": _sort,
    "sorted": lambda m, c: sorted(_plain(c, "sorted")),
    "slice": _slice,
    "_set_item": setitem,
    "__contains__": _contains,
    "Delete": _delete,
    "__delitem__": _delete,
    "keys": lambda m, c: list(c),
    "values": lambda m, c: list(c.values()),
    "items": lambda m, c: list(c.items()),
    "get": _get,
    "setdefault": _set_default,
    "update": _update,
    "list": _list,
    "dict": _dict,
    "sum": _sum,
    "any": _truth("__or__", False),
    "all": _truth("__and__", True),
    "mul": _mul,
    "ord": lambda m, s: ord(s),
}


def shown(value: Any) -> Any:
    """A value as a string; Text if the run decides it."""
    if isinstance(value, (str, Text)):
        return value
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int)):
        return str(value)
    if isinstance(value, (list, tuple)):
        parts = [shown(v) for v in value]
        text = ", ".join(p.text if isinstance(p, Text) else p for p in parts)
        text = f"[{text}]" if isinstance(value, list) else f"({text})"
        return Text(text, needs_of(*parts)) if any(isinstance(p, Text) for p in parts) else text
    return Text("…", needs_of(value))
