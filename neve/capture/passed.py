"""Lists, dicts and objects among the arguments that a call changes, such as a cache that goes from call to call.

What they are afterwards is a result more; the run time puts it into the caller's own.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.utils import _pytree as pytree

from neve.capture import trees
from neve.capture.objects import CONSTANTS, SCALARS, kind_of, plain, strangers

Place = int | str
"""An argument: its number, or its name if it is given by that."""
FIXED = (torch.dtype, torch.device, torch.Size, enum.Enum, frozenset, complex)
"""Objects that do not change."""
MOVED = (
    "it puts another list, dict or object in the place of one among its arguments, which its caller may hold: change "
    "the one that is there, or return the new one"
)


@dataclass(frozen=True)
class Became:
    """What an argument is after a call: a pytree's spec, and for each leaf a constant, the argument's leaf that it
    was, or the flat result that it is.
    """

    spec: Any
    leaves: tuple[tuple[str, Any], ...]


class Passed:
    """The arguments of a call, before it."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        named: dict[Place, Any] = {name: value for name, value in kwargs.items()}  # noqa: C416 - its keys' type is wider
        self._arguments = dict[Place, Any](enumerate(args)) | named
        self._before = {place: pytree.tree_flatten(plain(v)) for place, v in self._arguments.items()}
        self._containers = dict(_containers(self._arguments, ()))

    def became(self, result: Any) -> tuple[dict[Place, Became], list[Any], list[str]]:
        """After it: the arguments that are others, the tensors and sizes in them that neither the arguments nor the
        plain result have, which are to follow it as results, and reasons to refuse it.
        """
        results = pytree.tree_leaves(result)
        known: dict[int, tuple[str, Any]] = {id(x): ("result", k) for k, x in enumerate(results)}
        more: list[Any] = []
        found: dict[Place, Became] = {}
        reasons: list[str] = []
        for place, (leaves, spec) in self._before.items():
            after, now = pytree.tree_flatten(plain(self._arguments[place]))
            if now == spec and all(map(is_same, leaves, after)):
                continue
            own: dict[int, tuple[str, Any]] = {id(x): ("input", (place, k)) for k, x in enumerate(leaves)}
            parts: list[tuple[str, Any]] = []
            for x in after:
                if type(x) in CONSTANTS:
                    parts.append(("const", x))
                    continue
                if id(x) not in own and id(x) not in known:
                    known[id(x)] = "result", len(results) + len(more)
                    more.append(x)
                parts.append(own.get(id(x)) or known[id(x)])
            found[place] = Became(now, tuple(parts))
        if found and not self._in_place():
            reasons.append(MOVED)
        return found, more, reasons + strangers(more)

    def _in_place(self) -> bool:
        """Whether each list, dict or object is the one that was at its place, or is new at a new one: the caller may
        hold those that were.
        """
        was = {id(c): path for path, c in self._containers.items()}
        now = dict(_containers(self._arguments, ()))
        return all(was.get(id(c), path) == path and self._containers.get(path, c) is c for path, c in now.items())


def _containers(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What is in a value and may change, by where it is."""
    for key, part in (_parts(value) or {}).items():
        if _parts(part) is not None and not isinstance(part, tuple):
            yield (*path, key), part
        yield from _containers(part, (*path, key))


def _parts(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, (torch.Tensor, *FIXED)) or type(value) in SCALARS:
        return None
    if isinstance(value, (list, tuple, deque)):
        return dict(enumerate(value))
    if isinstance(value, dict):
        return value
    kind = kind_of(value)
    if kind is not None:
        return dict(kind.fields(value))
    if type(value) in pytree.SUPPORTED_NODES:
        return dict(enumerate(pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)[0]))
    return None


def is_same(a: Any, b: Any) -> bool:
    """Whether two leaves are one tensor, or equal numbers or strings."""
    return a is b or (type(a) in CONSTANTS and type(a) is type(b) and a == b)


def becomes(
    found: Mapping[Place, Became], in_spec: Any, given: Sequence[trees.Tree], results: Sequence[trees.Tree]
) -> list[list[Any]]:
    """As an in_tree has it; given: the trees of the flat inputs, results: of the flat results."""
    args, kwargs = _children(in_spec)
    parts = [*enumerate(_children(args)), *zip(kwargs.context, _children(kwargs), strict=True)]
    ends = accumulate((spec.num_leaves for _, spec in parts), initial=0)
    offsets: dict[Place, int] = {place: at for (place, _), at in zip(parts, ends, strict=False)}

    def leaf(kind: str, what: Any) -> trees.Tree:
        if kind == "input":
            place, k = what
            tree = given[offsets[place] + k]
            return {"input": tree["leaf"]} if "leaf" in tree else tree
        return trees.constant(what) if kind == "const" else results[what]

    return [[place, trees.tree_of(b.spec, iter([leaf(*x) for x in b.leaves]))] for place, b in found.items()]


def _children(spec: Any) -> list[Any]:
    return list(spec.children()) if callable(getattr(spec, "children", None)) else list(spec.children_specs)
