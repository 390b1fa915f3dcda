"""The places in which an iteration of a loop can leave another value, and values with others in such places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from neve.capture.torchscript.grown import capacity, difference
from neve.capture.torchscript.values import Entries, Grown, Heap, Named, entries_in, pieces, put_together

LENGTH = -1
"""The key of the length among the parts of what grows."""


Spot = tuple[Any, ...]
"""("local", name, *path) or ("entry", id of a container, key, *path); the path goes through tuples and new lists."""


def parts_of(old: Any, new: Any) -> Iterator[tuple[Any, Any, Any]] | None:
    """(key, old, new) of the parts of containers of one shape; None for anything else."""
    if isinstance(old, Named) and isinstance(new, Named) and old.cls != new.cls:
        return None
    if isinstance(old, Grown) and isinstance(new, Grown) and old.axis != new.axis:
        return None
    if isinstance(old, Entries) and isinstance(new, Entries) and old.template != new.template:
        return None
    x, y = pieces(old), pieces(new)
    if x is not None and y is not None and type(old) is type(new) and len(x) == len(y):
        keys = [*range(len(x) - 1), LENGTH] if isinstance(old, (Grown, Entries)) else range(len(x))
        return iter(list(zip(keys, x, y, strict=True)))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return iter([(i, x, y) for i, (x, y) in enumerate(zip(old, new, strict=True))])
    if isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        return iter([(k, old[k], new[k]) for k in old])
    return None


def value_at(value: Any, path: Spot) -> Any:
    for key in path:
        value = (value if isinstance(value, (list, dict)) else pieces(value) or ())[key]
    return value


def with_parts(heap: Heap, value: Any, parts: Mapping[Spot, Any]) -> Any:
    """The value with the parts at these paths replaced."""
    if () in parts:
        return parts[()]
    inner: dict[Any, dict[Spot, Any]] = {}
    for path, new in parts.items():
        inner.setdefault(path[0], {})[path[1:]] = new
    if not inner:
        return value
    if isinstance(value, dict):
        held = {k: with_parts(heap, v, inner[k]) if k in inner else v for k, v in value.items()}
        heap.may_share(held, value)
        return held
    made = list(value if isinstance(value, list) else pieces(value) or ())
    for key, replaced in inner.items():
        made[key] = with_parts(heap, made[key], replaced)
    if isinstance(value, list):
        heap.may_share(made, value)
        return made
    return put_together(value, made)


def outgrown(old: Any, new: Any) -> bool:
    """Whether a list or tensor has, after an iteration, no longer the space that it had."""
    if isinstance(old, Grown) and isinstance(new, Grown):
        return old.axis == new.axis and difference(capacity(old), capacity(new)) != 0
    if isinstance(old, list) and isinstance(new, list):
        a, b = entries_in(old), entries_in(new)
        if a is None or b is None:
            return len(old) != len(new) or a is not b
        return difference(capacity(a), capacity(b)) != 0
    return False


def label(root: Spot) -> str:
    return str(root[1]) if root[0] == "local" else f"the entry {root[2]!r}"
