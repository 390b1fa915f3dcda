"""The arithmetic and the memory traffic of a step, as trees of sizes: what a profile holds time against."""

from __future__ import annotations

from collections.abc import Iterable

from neve.ir.index import Index, Tree, tree
from neve.ir.loops import Tensor
from neve.kernels.kernel import product
from neve.plan import select
from neve.plan.stages import Put, Reduce, loads
from neve.plan.steps import ExternCall, Kernel, Nest, Step


def flops(step: Step) -> Tree:
    """Multiplications and additions of a template, counted as its definition has them; 0 for what is no template.

    A kernel that needs fewer (Winograd's) is credited with all of them.
    """
    return tree(select.flops(step.stage.op, step.stage.inputs, step.stage.results)) if isinstance(step, Kernel) else 0


def traffic(step: Step, array_bytes: int = 0) -> Tree:
    """Bytes that a step reads and writes if each element passes once; array_bytes are those of its packed weights.

    Rows that a nest keeps for itself do not count, nor do elements that a gather leaves out.
    """
    if isinstance(step, Kernel):
        stage = step.stage
        sizes = [_bytes(t) for t in (*stage.inputs[:1], *stage.outputs)]
        if array_bytes == 0:
            sizes += [_bytes(t) for t in stage.inputs[1:]]
        if stage.epilogue is not None:
            read = {x.tensor for x in loads(stage.epilogue.expr)} - {stage.results[0]}
            sizes += [_bytes(t) for t in sorted(read, key=lambda t: t.name)]
        return _sum([array_bytes, *sizes])
    if isinstance(step, ExternCall):
        stored = step.stage.inputs[1:] if isinstance(step.stage, Put) else step.stage.results
        return _sum([_bytes(t) for t in (*step.stage.inputs, *stored)])
    assert isinstance(step, Nest)
    written = {m.stage.out for m in step.members}
    once: dict[Tensor, Tree] = {}
    for m in step.members:
        count = product([v.extent for v in m.stage.vars])
        if isinstance(m.stage, Reduce):
            count = count * product([v.extent for v in m.stage.rvars])
        for x in loads(m.stage.expr):
            if x.tensor not in written:
                once[x.tensor] = _least(tree(count * x.tensor.dtype.size), _bytes(x.tensor))
    return _sum([*once.values(), *(_bytes(t) for t in written if t not in step.local)])


def _elements(t: Tensor) -> Index:
    return product(t.shape)


def _bytes(t: Tensor) -> Tree:
    return tree(_elements(t) * t.dtype.size)


def _least(a: Tree, b: Tree) -> Tree:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else a if a == b else ["min", a, b]


def _sum(terms: Iterable[Tree]) -> Tree:
    terms = list(terms)
    whole = sum(t for t in terms if isinstance(t, int))
    rest = sorted((t for t in terms if not isinstance(t, int)), key=str)
    return ["+", *rest, whole] if rest else whole
