"""linear(x, w1, b1), linear(x, w2, b2), … = slices of linear(x, [w1; w2; …], [b1; b2; …]).

Done where x has few rows (at most ROWS), so that streaming one large weight beats several small ones, and where every
result is only viewed or attended, so that no epilogue is lost. Weights and biases are constants; a missing bias
counts as zeros. Exactness: EXACT: every output is the same sum of the same products.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neve.ir.graph import Graph, Node, Value
from neve.ir.types import numel
from neve.ops.attention import Attention
from neve.ops.matmul import Linear
from neve.ops.shape import Permute, Reshape, Slice
from neve.ops.source import Constant
from neve.passes.rewrite import Exactness, Log, Pass, Rewriter, rewrite

ROWS = 8


def run(graph: Graph, log: Log) -> Graph:
    producers = graph.producers()
    users = graph.users()
    by_input: dict[Value, list[Node]] = {}
    for n in graph.nodes:
        if isinstance(n.op, Linear) and all(_constant(v, producers) is not None for v in n.inputs[1:]):
            by_input.setdefault(n.inputs[0], []).append(n)
    merged = {
        n.output: group
        for group in by_input.values()
        if len(group) > 1 and _profitable(group, users, graph, log)
        for n in group
    }
    made: dict[Value, Value] = {}

    def concat(node: Node, rw: Rewriter) -> Value | None:
        group = merged.get(node.outputs[0]) if node.outputs else None
        if group is None:
            return None
        if group[0].output not in made:
            made[group[0].output] = _emit(group, node, producers, rw)
        start = sum(
            int(n.inputs[1].shape[0]) for n in group[: group.index(next(n for n in group if n.output is node.output))]
        )
        return rw.emit(
            Slice(node.output.type.rank - 1, start, start + int(node.inputs[1].shape[0])), made[group[0].output]
        )

    return rewrite(graph, log, concat)


def _constant(v: Value, producers: dict[Value, Node]) -> np.ndarray | None:
    n = producers.get(v)
    return n.op.tensor.array if n is not None and isinstance(n.op, Constant) else None


def _profitable(group: Sequence[Node], users: dict[Value, list[Node]], graph: Graph, log: Log) -> bool:
    rows = numel(group[0].inputs[0].shape[:-1])
    if not isinstance(rows, int) or rows > ROWS:
        log.miss(f"{len(group)} linears share an input of {rows} rows: enough work each", group[0].origin)
        return False
    if not all(isinstance(u.op, (Reshape, Permute, Slice, Attention)) for n in group for u in users[n.output]) or any(
        n.output in graph.outputs for n in group
    ):
        log.miss("linears share an input, but what follows fuses with each", group[0].origin)
        return False
    return True


def _emit(group: Sequence[Node], node: Node, producers: dict[Value, Node], rw: Rewriter) -> Value:
    weights = [_constant(n.inputs[1], producers) for n in group]
    biases = [
        _constant(n.inputs[2], producers) if len(n.inputs) == 3 else np.zeros(int(n.inputs[1].shape[0])) for n in group
    ]
    dtype, name = node.output.dtype, group[0].inputs[1].name
    inputs = [node.inputs[0], rw.constant(np.concatenate([w for w in weights if w is not None]), dtype, name)]
    if any(len(n.inputs) == 3 for n in group):
        inputs.append(rw.constant(np.concatenate([b for b in biases if b is not None]), dtype, f"{name}.bias"))
    return rw.emit(Linear(), *inputs)


PASS = Pass("concat_linears", Exactness.EXACT, run)
