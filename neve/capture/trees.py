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
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any

from neve.errors import CaptureError

Tree = dict[str, Any]
CLASSES: dict[str, type] = {}
"""The classes that trees have named, the latest of each name."""


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
    if kind in (dict, OrderedDict, defaultdict):
        keys = context[1] if kind is defaultdict else context
        if not all(isinstance(k, str) for k in keys):
            raise CaptureError(f"a dict with keys {list(keys)!r}: only strings can be keys of arguments and results")
        found = dict(zip(keys, children, strict=True))
        return (
            {"object": {"class": "collections.OrderedDict", "fields": found}}
            if kind is OrderedDict
            else {"dict": found}
        )
    names = _field_names(kind, context, len(children))
    if names is None:
        raise CaptureError(
            f"a {kind.__module__}.{kind.__qualname__} among the arguments or results: tensors may be in "
            "tuples, lists, dicts, named tuples or dataclasses"
        )
    made = context if isinstance(context, type) else kind  # of named tuples the kind is not their class
    name = f"{made.__module__}.{made.__qualname__}"
    CLASSES[name] = made
    present, absent = names
    fields = dict(zip(present, children, strict=True)) | {k: {"none": True} for k in absent}
    return {"object": {"class": name, "fields": fields}}


def _field_names(kind: Any, context: Any, count: int) -> tuple[list[str], list[str]] | None:
    """Names of the children of a named tuple, dataclass or ModelOutput, and of the fields that are None."""
    if isinstance(context, type) and hasattr(context, "_fields"):
        return list(context._fields), []
    if hasattr(kind, "_fields") and len(kind._fields) == count:
        return list(kind._fields), []
    if not isinstance(context, (list, tuple)):
        return None
    fields = dataclasses.is_dataclass(kind)
    if fields and len(context) == 2 and all(isinstance(c, (list, tuple)) for c in context) and len(context[0]) == count:
        return list(context[0]), list(context[1])
    if (fields or hasattr(kind, "to_tuple")) and len(context) == count and all(isinstance(c, str) for c in context):
        return list(context), []
    return None
