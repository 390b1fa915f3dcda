"""How Python arguments and results are made of tensors, as plain JSON.

A tree is one of
  {"leaf": i}: graph input or output i; with "as": "int", "float" or "bool" a 0-d tensor returned as that Python type,
  {"none": true}, {"const": number or string}, {"tuple": [tree, …]}, {"list": [tree, …]}, {"dict": {key: tree, …}},
  {"object": {"class": "pkg.Class", "fields": {name: tree, …}}},
and in results, where output j says how much of another one is meant,
  {"narrow": {"leaf": i, "axis": a, "length": j}}: the first part of output i along axis a,
  {"entries": {"each": tree, "length": j}}: a list, the leaves of whose entries are rows of outputs.
An in_tree is {"args": [tree, …], "kwargs": {name: tree, …}, "names": [parameter name of each positional argument, …],
"writes": [[i, k], …]}: the new content of input i, which the method writes in place, is output k; none may be missing.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from neve.capture.objects import Fields, Kind, plain
from neve.errors import CaptureError

Tree = dict[str, Any]
CLASSES: dict[str, Kind] = {}
"""The classes that trees have named, the latest of each name."""
DICTS = {dict: "builtins.dict", defaultdict: "builtins.dict", OrderedDict: "collections.OrderedDict"}


def tree_of(spec: Any, leaves: Iterator[Tree]) -> Tree:
    """The tree of a torch pytree spec, leaves taken in order. Raises CaptureError on an unknown container."""
    if spec.is_leaf():
        return next(leaves)
    kind, context = spec.type, spec.context
    children = (
        [tree_of(c, leaves) for c in spec.children()]
        if callable(getattr(spec, "children", None))
        else [tree_of(c, leaves) for c in spec.children_specs]
    )
    if kind is tuple or kind is list:
        return {kind.__name__: children}
    if kind in DICTS:
        return _dict(kind, context[1] if kind is defaultdict else context, children)
    if kind is Fields:
        made, names = context
        CLASSES[made.name] = made
        return _object(made.name, dict(zip(names, children, strict=True)))
    if kind is deque:
        return _object("collections.deque", _numbered(children) | {"maxlen": constant(context)})
    found = _field_names(kind, context, len(children))
    if found is None:
        raise CaptureError(
            f"a {kind.__module__}.{kind.__qualname__} among the arguments or results: tensors may be in "
            "tuples, lists, dicts, named tuples or dataclasses"
        )
    cls = context if isinstance(context, type) else kind  # of named tuples the kind is not their class
    name = f"{cls.__module__}.{cls.__qualname__}"
    CLASSES[name] = _kind(name, cls)
    present, absent = found
    return _object(name, dict(zip(present, children, strict=True)) | {k: {"none": True} for k in absent})


def constant(value: Any) -> Tree:
    """The tree of a value that does not vary. Raises CaptureError for one that no file can hold."""
    if value is None:
        return {"none": True}
    if isinstance(value, (bool, int, float, str)):
        return {"const": value}
    if isinstance(value, (torch.dtype, torch.device)):
        return {"const": str(value)}
    raise CaptureError(f"an argument or result of type {type(value).__name__}: pass tensors, numbers, strings or None")


def _object(name: str, fields: dict[str, Tree]) -> Tree:
    return {"object": {"class": name, "fields": fields}}


def _numbered(children: Sequence[Tree]) -> dict[str, Tree]:
    return {str(k): child for k, child in enumerate(children)}


def _dict(kind: Any, keys: Sequence[Any], children: Sequence[Tree]) -> Tree:
    """A dict; one with keys that are no strings as an object whose fields are its items."""
    if all(isinstance(k, str) for k in keys):
        found = dict(zip(keys, children, strict=True))
        return _object(DICTS[kind], found) if kind is OrderedDict else {"dict": found}
    items = {repr(k): {"tuple": [_key(k), child]} for k, child in zip(keys, children, strict=True)}
    if len(items) < len(keys):
        raise CaptureError(f"a dict with keys {list(keys)!r}, of which two look alike: give it other keys")
    return _object(f"{DICTS[kind]}.items", items)


def _key(key: Any) -> Tree:
    leaves, spec = pytree.tree_flatten(plain(key))
    if not all(type(x) in (bool, int, float, str, type(None)) for x in leaves):
        raise CaptureError(
            f"a dict with the key {key!r}: wanted strings, numbers, enumeration members or tuples of them"
        )
    return tree_of(spec, map(constant, leaves))


def _kind(name: str, cls: Any) -> Kind:
    """How objects of a class that torch's pytree knows are made of their fields."""
    if issubclass(cls, tuple) and not hasattr(cls, "_fields"):  # such as torch.return_types.max
        return Kind(name, lambda f: cls(f.values()), lambda v: dict(zip(cls.__match_args__, v, strict=True)))
    return Kind(name, lambda f: cls(**f), getattr(cls, "_asdict", vars))


def _field_names(kind: Any, context: Any, count: int) -> tuple[list[str], list[str]] | None:
    """Names of the children of a named tuple, dataclass or ModelOutput, and of the fields that are None."""
    if isinstance(context, type) and hasattr(context, "_fields"):
        return list(context._fields), []
    if hasattr(kind, "_fields") and len(kind._fields) == count:
        return list(kind._fields), []
    if issubclass(kind, tuple) and len(getattr(kind, "__match_args__", ())) == count:
        return list(kind.__match_args__), []
    if not isinstance(context, (list, tuple)):
        return None
    fields = dataclasses.is_dataclass(kind)
    if fields and len(context) == 2 and all(isinstance(c, (list, tuple)) for c in context) and len(context[0]) == count:
        return list(context[0]), list(context[1])
    if (fields or hasattr(kind, "to_tuple")) and len(context) == count and all(isinstance(c, str) for c in context):
        return list(context), []
    return None
