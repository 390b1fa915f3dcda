"""The arithmetic and the memory traffic of a step, as expressions in the sizes: what a profile holds time against."""

from __future__ import annotations

from collections.abc import Iterable

from neve.ir.index import Atom, Div, Index, Mod, Sym, Var, show
from neve.ir.loops import Tensor
from neve.kernels.kernel import product
from neve.plan import select
from neve.plan.stages import Put, Reduce, loads
from neve.plan.steps import ExternCall, Kernel, Nest, Step

Text = int | str
"""A number, or an expression in the symbols' names as `neve.runtime.expressions` reads them."""


def text(i: Index) -> Text:
    """A size for reports."""

    def atom(a: Atom) -> str:
        if isinstance(a, (Sym, Var)):
            return a.name
        assert isinstance(a, (Div, Mod)), f"a size that depends on data: {a}"
        return f"{'FloorDiv' if isinstance(a, Div) else 'Mod'}({show(a.num, atom)}, {show(a.den, atom)})"

    return i.const if i.const is not None else show(i, atom)


def flops(step: Step) -> Text:
    """Multiplications and additions of a template, counted as its definition has them; 0 for what is no template.

    A kernel that needs fewer (Winograd's) is credited with all of them.
    """
    return text(select.flops(step.stage.op, step.stage.inputs, step.stage.results)) if isinstance(step, Kernel) else 0


def traffic(step: Step, array_bytes: int = 0) -> Text:
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
    once: dict[Tensor, Text] = {}
    for m in step.members:
        count = product([v.extent for v in m.stage.vars])
        if isinstance(m.stage, Reduce):
            count = count * product([v.extent for v in m.stage.rvars])
        for x in loads(m.stage.expr):
            if x.tensor not in written:
                once[x.tensor] = _least(text(count * x.tensor.dtype.size), _bytes(x.tensor))
    return _sum([*once.values(), *(_bytes(t) for t in written if t not in step.local)])


def _elements(t: Tensor) -> Index:
    return product(t.shape)


def _bytes(t: Tensor) -> Text:
    return text(_elements(t) * t.dtype.size)


def _least(a: Text, b: Text) -> Text:
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else f"Min({a}, {b})"


def _sum(terms: Iterable[Text]) -> Text:
    terms = list(terms)
    whole = sum(t for t in terms if isinstance(t, int))
    rest = sorted(t for t in terms if isinstance(t, str))
    return " + ".join([*rest, str(whole)]) if rest else whole
