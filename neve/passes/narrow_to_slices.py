"""f(x)[…, a:b, …] = f(x[…, a:b, …]) where nothing else of f(x) is read: only what a slice reads is computed.

A classifier that reads the first token of its encoder's output, or a decoder that reads the last, needs the last block
for that token alone: attention for one query, one row of each linear. What must be computed of a value is followed from
the slices backwards; a slice stops where an op mixes positions along its axis, or where all of a value is needed too.
Exactness: EXACT: the elements that are left are computed as before.
"""

from __future__ import annotations

from dataclasses import dataclass

from neve.ir.graph import Graph, Node, Value
from neve.ir.types import Dim, same
from neve.ops.shape import Slice
from neve.passes.rewrite import Exactness, Log, Pass, Rewriter, rewrite


@dataclass(frozen=True)
class Cut:
    """The part start:stop:step of an axis."""

    axis: int
    start: Dim
    stop: Dim
    step: int

    def slice(self) -> Slice:
        return Slice(self.axis, self.start, self.stop, self.step)

    def on(self, axis: int) -> Cut:
        return Cut(axis, self.start, self.stop, self.step)


def run(graph: Graph, log: Log) -> Graph:
    wanted = _wanted(graph)
    made: dict[tuple[Value, Cut], Value] = {}

    def narrow(node: Node, rw: Rewriter) -> Value | None:
        for cut in wanted.get(node.outputs[0], ()) if node.outputs else ():
            axes = _along(node, cut)
            idle = isinstance(node.op, Slice) and (node.inputs[0], cut) not in made  # two slices would swap for ever
            if axes is not None and not idle:
                inputs = [v if a is None else _cut(v, cut.on(a), rw) for v, a in zip(node.inputs, axes, strict=True)]
                made[node.output, cut] = rw.emit(node.op.narrowed(cut.axis, cut.slice().length), *inputs)
        return made.get((node.inputs[0], _cut_of(node.op))) if isinstance(node.op, Slice) else None

    def _cut(v: Value, cut: Cut, rw: Rewriter) -> Value:
        return made[v, cut] if (v, cut) in made else rw.emit(cut.slice(), v)

    new = rewrite(graph, log, narrow)
    return new if new is graph else run(new, log)  # slices of several axes move one after the other


def _cut_of(op: Slice) -> Cut:
    return Cut(op.axis, op.start, op.stop, op.step)


def _along(node: Node, cut: Cut) -> tuple[int | None, ...] | None:
    return node.op.along(cut.axis, *(v.type for v in node.inputs)) if len(node.outputs) == 1 else None


def _wanted(graph: Graph) -> dict[Value, tuple[Cut, ...]]:
    """The cuts of each value outside of which nothing of it is read, the last in the graph first."""
    wanted: dict[Value, tuple[Cut, ...]] = dict.fromkeys(graph.outputs, ())
    for node in reversed(graph.nodes):
        needs: list[dict[Cut, None]] = [{} for _ in node.inputs]
        for cut in wanted.get(node.outputs[0], ()) if node.outputs else ():
            for need, axis in zip(needs, _along(node, cut) or (None,) * len(needs), strict=True):
                if axis is not None:
                    need[cut.on(axis)] = None
        if isinstance(node.op, Slice) and _narrows(node):
            needs[0][_cut_of(node.op)] = None
        for v, need in zip(node.inputs, needs, strict=True):
            wanted[v] = tuple(cut for cut in wanted.get(v, tuple(need)) if cut in need)
    return wanted


def _narrows(node: Node) -> bool:
    assert isinstance(node.op, Slice)
    size = node.inputs[0].shape[node.op.axis]
    return not same(size, 1) and not same(size, node.op.length)


PASS = Pass("narrow_to_slices", Exactness.EXACT, run)
