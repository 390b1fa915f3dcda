"""Dropout in evaluation mode: torch drops it on the way; kept, it shows in the graph until `remove_dropout`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

OPS = tuple(
    getattr(torch.ops.aten, name).default
    for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
)


@contextmanager
def visible_dropout(root: torch.fx.GraphModule) -> Iterator[tuple[Any, ...]]:
    """Yields the dropout ops, if all in an exported program can be kept as ops with results of their own, else none.

    Dropout that is off returns its input itself: where the input or the result is written in place afterwards, the
    other one has to change as well. torch's decomposition copies instead, so inside the block such a dropout is an
    alias.
    """
    graphs = [m.graph for m in root.modules() if isinstance(m, torch.fx.GraphModule)]
    if not any(_written_after(g) for g in graphs):
        yield OPS
        return
    off = [n for g in graphs for n in g.nodes if n.target in OPS and not (n.args[1] and n.args[2])]
    before = [(n, n.target, n.args) for n in off]
    for n in off:
        n.target, n.args = torch.ops.aten.alias.default, n.args[:1]
    try:
        yield ()
    finally:
        for n, target, args in before:
            n.target, n.args = target, args


def _written_after(graph: torch.fx.Graph) -> bool:
    """Whether memory that a dropout gives or takes is written behind it."""
    shared: dict[int, set[int]] = {}
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.target in OPS:
            both = {_memory(node), _memory(node.args[0])}
            both = both.union(*(shared[m] for m in both if m in shared))
            shared.update(dict.fromkeys(both, both))
        elif schema is not None and schema.is_mutable:
            for value, argument in zip(node.args, schema.arguments, strict=False):
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, torch.fx.Node) and _memory(value) in shared:
                    return True
            if any(isinstance(v, torch.fx.Node) and _memory(v) in shared for v in node.kwargs.values()):
                return True
    return False


def _memory(node: torch.fx.Node) -> int:
    val = node.meta.get("val")
    return val.untyped_storage()._cdata if isinstance(val, torch.Tensor) else -1
