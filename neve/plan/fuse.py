"""Fusion: producers are inlined into the loops that read them, and loops into the store of a kernel that they read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from neve.ir.index import Index, Substitution, Sym, Var, invert
from neve.ir.loops import Call, Const, Expr, FromIndex, Guard, Load, Tensor
from neve.ir.types import DType
from neve.plan.order import Order
from neve.plan.prologue import scale_weights
from neve.plan.stages import (
    Block,
    Branch,
    Compute,
    Epilogue,
    Extern,
    Loop,
    Move,
    Put,
    Reduce,
    Scan,
    Stage,
    Template,
    loads,
    rewrite,
)

HINT = 64
"""The size that a symbol is taken to have where a cost needs a number."""

HEAVY = frozenset(
    [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "tanh",
        "sigmoid",
        "erf",
        "erfc",
        "gelu",
        "gelu_tanh",
        "silu",
        "softplus",
        "mish",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "asinh",
        "acosh",
        "atanh",
        "pow",
        "atan2",
        "hypot",
        "lgamma",
        "digamma",
        "erfinv",
        "logsigmoid",
        "remainder",
        "fmod",
        "floor_divide",
    ]
)


def hint(i: Index) -> float:
    """i with every symbol at its hint: a number for costs only."""
    total = 0.0
    for k, c in i.terms.items():
        t = float(c)
        for a in k:
            t *= HINT if isinstance(a, Sym) else 1
        total += t
    return max(total, 0.0)


def volume(extents: list[Index]) -> float:
    n = 1.0
    for e in extents:
        n *= hint(e)
    return n


def cost(e: Expr) -> float:
    """Rough cost of evaluating e once, a cheap arithmetic operation being 1."""
    own = 0.0
    if isinstance(e, Call):
        own = 12 if e.fn in HEAVY else 4 if e.fn in ("div", "sqrt", "rsqrt") else 1
    elif isinstance(e, Guard):
        own = 2
    return own + sum(cost(c) for c in e.children)


@dataclass(eq=False)
class Fused:
    """A block after fusion. views are inlined views that a kernel reads as operands: in place if its strides allow."""

    stages: list[Stage]
    outputs: tuple[Tensor, ...]
    views: dict[Tensor, Compute]


def fuse(block: Block, mutable: frozenset[Tensor]) -> Fused:
    """Inline, then give templates epilogues and prologues. What reads mutable tensors stays put: those that
    Moves write, and those of Puts until the last one.
    """
    stages, views = _inline(block, mutable)
    required = set(block.outputs)
    stages = _epilogues(stages, views, required, mutable)
    readers: Counter[Tensor] = Counter(t for s in (*stages, *views.values()) for t in s.reads)
    return Fused(scale_weights(stages, readers, required, mutable), block.outputs, views)


def mutable_tensors(block: Block) -> frozenset[Tensor]:
    """What every Move and Put writes, in nested blocks too."""
    found: set[Tensor] = set()
    for s in block.stages:
        if isinstance(s, Move):
            found.add(s.target)
        elif isinstance(s, Put):
            found.update(s.writes)
        elif isinstance(s, Branch):
            found |= mutable_tensors(s.then) | mutable_tensors(s.orelse)
        elif isinstance(s, Loop):
            found |= mutable_tensors(s.cond) | mutable_tensors(s.body)
    return frozenset(found)


def _needs_memory(stage: Stage) -> bool:
    return not isinstance(stage, (Compute, Reduce, Scan))


def _inline(block: Block, mutable: frozenset[Tensor]) -> tuple[list[Stage], dict[Tensor, Compute]]:
    users: dict[Tensor, list[Stage]] = {}
    for s in block.stages:
        for t in s.reads:
            users.setdefault(t, []).append(s)
    required = set(block.outputs)
    kernel_results = {s.results[0] for s in block.stages if isinstance(s, Template)}
    inlined: dict[Tensor, Compute] = {}
    views: dict[Tensor, Compute] = {}
    out: list[Stage] = []

    def substitute(load: Load) -> Expr:
        c = inlined.get(load.tensor)
        return load if c is None else c.expr.subs(dict(zip(c.vars, load.index, strict=True)))

    last = {t: s for s in block.stages if isinstance(s, Put) for t in s.writes}
    for s in block.stages:
        mutable -= {t for t in s.writes if last.get(t) is s}
        if isinstance(s, (Compute, Reduce, Scan)):
            s = replace(s, expr=rewrite(s.expr, substitute))
        if isinstance(s, Compute) and not users.get(s.out) and s.out not in required:
            continue
        if (
            not isinstance(s, Compute)
            or s.out in required
            or not _worth_inlining(s, users[s.out], mutable, kernel_results)
        ):
            out.append(s)
            continue
        inlined[s.out] = s
        if any(_needs_memory(u) for u in users[s.out]):
            views[s.out] = s
    return out, views


def _worth_inlining(s: Compute, users: list[Stage], mutable: frozenset[Tensor], kernel_results: set[Tensor]) -> bool:
    read = list(loads(s.expr))
    if any(x.tensor in mutable for x in read):
        return False
    if isinstance(s.expr, Load):
        return all(not _needs_memory(u) or isinstance(u, (Template, Extern)) for u in users)
    if any(_needs_memory(u) for u in users):
        return False
    if isinstance(s.expr, (Const, FromIndex)):
        return True
    size = max(volume([v.extent for v in s.vars]), 1.0)
    if any(x.tensor in kernel_results for x in read):
        # as part of a larger loop it would be no kernel's epilogue, and evaluated again and again
        return len(users) == 1 and isinstance(users[0], Compute) and volume([v.extent for v in users[0].vars]) <= size
    evaluations = sum(_evaluations(u, s.out) for u in users) / size
    return evaluations <= 1.01 or cost(s.expr) * (evaluations - 1) <= 3


def _evaluations(user: Stage, t: Tensor) -> float:
    """How often user would evaluate t's expression: its loops down to the innermost one that the index depends on."""
    assert isinstance(user, (Compute, Reduce, Scan))
    vars = [*user.vars, *(user.rvars if isinstance(user, Reduce) else ())]
    total = 0.0
    for index, n in Counter(x.index for x in loads(user.expr) if x.tensor is t).items():
        used = frozenset().union(*(i.vars for i in index))
        last = max((k for k, v in enumerate(vars) if v in used), default=-1)
        total += volume([v.extent for v in vars[: last + 1]]) * min(n, 1)
    return total


def _epilogues(
    stages: list[Stage], views: dict[Tensor, Compute], required: set[Tensor], mutable: frozenset[Tensor]
) -> list[Stage]:
    readers: Counter[Tensor] = Counter(t for s in (*stages, *views.values()) for t in s.reads)
    position = {s: k for k, s in enumerate(stages)}
    order = Order(stages, lambda t: (t, *views[t].reads) if t in views else (t,), mutable)
    units = {s: [k] for k, s in enumerate(stages)}
    template: dict[Tensor, Template] = {s.results[0]: s for s in stages if isinstance(s, Template)}
    result: dict[Stage, Stage] = {}
    for s in stages:
        if not isinstance(s, Compute) or any(x.tensor in mutable for x in loads(s.expr)):
            continue
        candidates = [t for t in s.reads if t in template and readers[t] == 1 and t not in required]
        for t in sorted(candidates, key=lambda t: -position[template[t]]):
            fused = _merge(template[t], s)
            both = [position[template[t]], position[s]]
            still = not any(x in mutable for x in template[t].reads)
            ends = _based(s.reads, views) & set(template[t].results[1:])  # written when the kernel has run
            if fused is not None and still and not ends and order.mergeable(both):
                result[s] = fused
                units[s] += units.pop(template[t])
                order.merge(both)
                break
    left = list(units)
    return [result.get(left[u], left[u]) for u in order.sort(list(units.values()))]


def _based(tensors: Iterable[Tensor], views: dict[Tensor, Compute]) -> set[Tensor]:
    """The tensors, and what they are views of."""
    found: set[Tensor] = set()
    todo = list(tensors)
    while todo:
        t = todo.pop()
        if t not in found:
            found.add(t)
            todo += views[t].reads if t in views else ()
    return found


def _merge(t: Template, c: Compute) -> Template | None:
    """t with c as its epilogue; None unless c reads t's result one to one."""
    result = t.results[0]
    indexes = {x.index for x in loads(c.expr) if x.tensor is result}
    if len(indexes) != 1:
        return None
    (index,) = indexes
    axes = tuple(Var(f"{v}x", Index.of(d)) for v, d in zip(_names(len(index)), result.shape, strict=True))
    places = [Index.of(0) if a.extent.const == 1 else Index.of(a) for a in axes]
    solved = invert(list(index), [Index.of(d) for d in result.shape], c.vars, places)
    if solved is None:
        return None
    values = {v: solved[v] for v in c.vars}
    own = Load(result, tuple(places))
    expr = rewrite(c.expr, lambda x: _Hole(own) if x.tensor is result else x).subs(values)
    expr = _fill(expr)
    out_index = tuple(Index.of(0) if v.extent.const == 1 else values[v] for v in c.vars)
    return replace(t, epilogue=Epilogue(axes, c.out, out_index, expr), origin=t.origin, label=f"{t.label}+{c.label}")


@dataclass(frozen=True)
class _Hole(Expr):
    """Stands for the template's own element while its surroundings are rewritten."""

    own: Load

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.own.dtype

    def subs(self, values: Substitution) -> Expr:
        return self


def _fill(e: Expr) -> Expr:
    if isinstance(e, _Hole):
        return e.own
    if isinstance(e, Call):
        return Call(e.fn, tuple(_fill(a) for a in e.args), e.dtype)
    if isinstance(e, Guard):
        return Guard(e.conditions, _fill(e.then), _fill(e.other))
    return e


def _names(n: int) -> list[str]:
    return [f"a{k}" for k in range(n)]
