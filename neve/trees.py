"""The JSON trees of arguments, results and attributes, walked by kind; `neve.runtime.signature` has the grammar.

Keys of a dict are the model's own: they may be called like a kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def parts(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The trees right inside a well-formed one."""
    for kind, value in tree.items():
        if kind in ("tuple", "list"):
            yield from value
        elif kind == "dict":
            yield from value.values()
        elif kind == "object":
            yield from value["fields"].values()
        elif kind == "entries":
            yield value["each"]
        elif kind == "narrow":
            yield {"leaf": value["leaf"]}


def leaves(tree: Mapping[str, Any]) -> Iterator[int]:
    """The numbers of the leaves in order, without those that are the lengths of others."""
    if "leaf" in tree:
        yield tree["leaf"]
    for part in parts(tree):
        yield from leaves(part)
