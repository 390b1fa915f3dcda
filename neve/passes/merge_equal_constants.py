"""Constants of equal type and bits, of any method, become one: tied weights are stored once, whatever was folded into
them.

Exactness: EXACT.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neve.ir.graph import ConstTensor, Graph, Node, Program
from neve.ir.walk import constants, map_attributes, map_subgraphs
from neve.passes.rewrite import Exactness, Log, ProgramPass

_SAMPLE = 16


def run(program: Program, log: Log) -> Program:
    same = _equal(constants(program), log)
    return program.map(lambda graph: replaced(graph, same)) if same else program


def _equal(tensors: list[ConstTensor], log: Log) -> dict[ConstTensor, ConstTensor]:
    """The first tensor equal to each that is not the first."""
    groups: dict[Any, list[ConstTensor]] = {}
    found: dict[ConstTensor, ConstTensor] = {}
    for c in tensors:
        group = groups.setdefault((c.dtype, c.array.shape, _fingerprint(c.array)), [])
        first = next((d for d in group if np.array_equal(_bits(c.array), _bits(d.array))), None)
        if first is None:
            group.append(c)
        else:
            found[c] = first
            log.rewrite(f"@{c.name} is @{first.name}")
    return found


def _bits(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(a).reshape(-1).view(f"u{a.itemsize}")


def _fingerprint(a: np.ndarray) -> bytes:
    flat = a.reshape(-1) if a.flags.c_contiguous else np.ascontiguousarray(a).reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLE)].tobytes()


def replaced(graph: Graph, same: dict[ConstTensor, ConstTensor]) -> Graph:
    """The graph with other constants in the place of some; the same object if it has none of them."""
    nodes = []
    for n in graph.nodes:
        op = map_subgraphs(n.op, lambda g: replaced(g, same))
        op = map_attributes(op, lambda v: same.get(v, v) if isinstance(v, ConstTensor) else v)
        nodes.append(n if op is n.op else Node(op, n.inputs, n.outputs, n.origin))
    return (
        graph
        if all(a is b for a, b in zip(nodes, graph.nodes, strict=True))
        else Graph(graph.inputs, tuple(nodes), graph.outputs)
    )


PASS = ProgramPass("merge_equal_constants", Exactness.EXACT, run)
