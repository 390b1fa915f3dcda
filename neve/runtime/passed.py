"""Lists, dicts and objects among the arguments of a call, as the model leaves them.

What an argument becomes is a tree as of `neve.runtime.signature`, with {"input": i} for what the call got as input i.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import MutableMapping, MutableSequence, Sequence
from types import SimpleNamespace
from typing import Any

from neve.errors import InputError
from neve.runtime.signature import MethodSignature, Tree
from neve.runtime.trees import Struct, builder, fields_of, given, made, outputs_of
from neve.trees import leaves

FIXED = (tuple, frozenset, complex, enum.Enum)
"""What another value takes the place of, beside torch's own."""
_NONE = object()


def refuse_fixed(method: MethodSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """InputError if an argument that the model changes cannot be changed, as a tuple in the place of a list."""
    values = given(method, args, kwargs)
    for place, tree in method.becomes:
        _refuse_fixed(method, tree, values[place], place if isinstance(place, str) else f"argument {place}")


def _refuse_fixed(method: MethodSignature, tree: Tree, value: Any, where: str) -> None:
    (kind,) = tree
    if kind in ("list", "dict") and not isinstance(value, MutableSequence if kind == "list" else MutableMapping):
        raise InputError(f"{method.name}: {where}: got a {type(value).__name__}, wanted a {kind}: the model changes it")
    if kind == "object" and not (hasattr(value, "__dict__") or hasattr(value, "__slots__") or _of_items(value)):
        raise InputError(
            f"{method.name}: {where}: got a {type(value).__name__}, which cannot be changed as the model does"
        )
    for key, (part, old) in _parts(tree, value).items():
        if old is not _NONE and next(iter(part)) in ("tuple", "list", "dict", "object"):
            _refuse_fixed(method, part, old, f"{where}[{key!r}]")


def _of_items(value: Any) -> bool:
    return isinstance(value, (*FIXED, MutableMapping, deque, set)) or _is_torch_s(value)


def _is_torch_s(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def put_back(
    method: MethodSignature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Change the arguments of a call as the model has."""
    values = given(method, args, kwargs)
    for place, tree in method.becomes:
        _after(tree, values[place], inputs, outputs)


def changed(
    method: MethodSignature, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Sequence[Any]
) -> dict[int, Any]:
    """Output number → what a call has made of a part of its arguments, in order; inputs: the flat ones, before it."""
    found = {k: inputs[i] for i, k in method.writes}
    values = given(method, args, kwargs) if method.becomes else {}
    for place, tree in method.becomes:
        found |= outputs_of(tree, values[place])
    results = set(leaves(method.out_tree))
    return {k: found[k] for k in sorted(found) if k not in results}


def _parts(tree: Tree, value: Any) -> dict[Any, tuple[Tree, Any]]:
    """The parts of a container's tree, and what they are in the value now, or _NONE."""
    ((kind, parts),) = tree.items()
    if kind in ("tuple", "list"):
        now = dict(enumerate(value)) if isinstance(value, (tuple, MutableSequence)) else {}
        return {k: (part, now.get(k, _NONE)) for k, part in enumerate(parts)}
    if kind not in ("dict", "object"):
        return {}
    now = {} if value is _NONE else fields_of(parts["class"], value) if kind == "object" else value
    named = parts["fields"] if kind == "object" else parts
    return {k: (part, now.get(k, _NONE) if isinstance(now, dict) else _NONE) for k, part in named.items()}


def _after(tree: Tree, value: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """What a value is after the call: itself, changed, if it can be."""
    ((kind, parts),) = ((k, v) for k, v in tree.items() if k != "as")
    if kind == "input":
        return inputs[parts]
    if kind not in ("tuple", "list", "dict", "object"):
        return builder(tree)(outputs)
    new = {k: _after(part, old, inputs, outputs) for k, (part, old) in _parts(tree, value).items()}
    if kind == "tuple":
        return tuple(new.values())
    if kind == "list":
        return _refilled(value, list(new.values())) if value is not _NONE else list(new.values())
    if kind == "dict":
        return _refilled(value, new) if value is not _NONE else new
    fresh = made(parts["class"], new)
    if value is _NONE or isinstance(fresh, FIXED) or _is_torch_s(fresh):
        return fresh
    if type(fresh) is not type(value) and not isinstance(value, MutableMapping):
        fresh = SimpleNamespace(**new)  # what a caller passes who does not have the class
    return _refilled(value, fresh)


def _refilled(value: Any, content: Any) -> Any:
    """A container with other content."""
    if isinstance(value, MutableMapping):
        value.clear()
        value.update(content)
    elif isinstance(value, (list, deque)):
        value.clear()
        value.extend(content)
    elif isinstance(value, set):
        value.clear()
        value.update(content)
    elif isinstance(value, Struct) and isinstance(content, Struct):
        value.__dict__.clear()
        value.__dict__.update(content.__dict__)
    else:
        _set_attributes(value, content)
    return value


def _set_attributes(value: Any, content: Any) -> None:
    if hasattr(value, "__dict__"):
        value.__dict__.clear()
        value.__dict__.update(content.__dict__)
    for cls in type(content).__mro__:
        for name in getattr(cls, "__slots__", ()):
            if hasattr(content, name):
                object.__setattr__(value, name, getattr(content, name))
