"""Memory: offsets in one arena from lifetimes, static sizes exactly, symbolic ones by slots that fit for every size.

A result takes over the memory of an operand that is not needed afterwards where the step reads each of its elements
just before it writes the one at the same address: a residual addition in an epilogue, a loop over elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neve.ir.bounds import capacity
from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var
from neve.ir.loops import Expr, Tensor
from neve.plan.stages import Compute, loads
from neve.plan.steps import BranchStep, Kernel, LoopStep, Nest, Step

LINE = 64


@dataclass(frozen=True)
class Interval:
    """A buffer, the first and last step that touch it, and the buffers that take over its memory in that time."""

    buffer: Buffer
    first: int
    last: int
    heirs: tuple[Buffer, ...] = ()


@dataclass(frozen=True)
class Arena:
    """Byte offset of every arena buffer, and the bytes in all."""

    offsets: Mapping[Buffer, Index]
    size: Index


def rounded(n: Index) -> Index:
    """n rounded up to whole cache lines."""
    return (n + (LINE - 1)) // Index.of(LINE) * LINE


def greatest(n: Index, most: Mapping[Index, Index]) -> Index:
    """What n bytes may come to, see `neve.ir.bounds.capacity`: capture refuses shapes for which that is not known."""
    found = capacity(n, most)
    assert found is not None, f"no bound of {n} is known, where {most}"
    return found


def lifetimes(steps: Iterable[Step], buffers: Mapping[Tensor, Buffer]) -> list[Interval]:
    """The arena buffers that steps touch, by position in the order of execution."""
    spans: dict[Buffer, tuple[int, int]] = {}
    places: dict[int, Step] = {}
    _walk(steps, buffers, spans, places, 0)
    chains: dict[Buffer, list[Buffer]] = {}
    for b, (first, _) in spans.items():
        owner = _inherits(places[first], buffers, spans, b, first) if first in places else None
        if owner is not None:
            chains.setdefault(owner, []).append(b)
    heirs = {b for found in chains.values() for b in found}
    found = []
    for b, (first, _) in spans.items():
        if b not in heirs:
            chain = [b]
            for x in chain:
                chain += chains.get(x, ())
            found.append(Interval(b, first, max(spans[x][1] for x in chain), tuple(chain[1:])))
    return found


def _inherits(
    step: Step, buffers: Mapping[Tensor, Buffer], spans: Mapping[Buffer, tuple[int, int]], made: Buffer, at: int
) -> Buffer | None:
    """The buffer whose memory `made`, first written by this step, may take over; None if there is none."""
    found = _elementwise(step)
    if found is None:
        return None
    out, vars, index, expr = found
    if buffers[out] is not made:
        return None
    first = {v: Index.of(0) for v in vars if v.extent.const == 1}

    def address(b: Buffer, index: Sequence[Index]) -> Index:
        return b.address([i.subs(first) for i in index])

    target, taken, own = address(made, index), set(), None
    if isinstance(step, Kernel):
        taken = {p.buffer.root for p in step.pointers}
        own = step.stage.results[0]
    fits: dict[Buffer, bool] = {}
    for x in loads(expr):
        if x.tensor is own:
            continue
        if x.tensor not in buffers:
            return None  # what it is a view of could be any of these
        b = buffers[x.tensor]
        fits[b.root] = fits.get(b.root, True) and b is b.root and address(b, x.index) == target
    for b, fit in fits.items():
        same = b.place == "arena" and b.dtype is made.dtype and b.bytes == made.bytes
        if fit and same and b not in taken and b is not made and spans[b][0] < at == spans[b][1]:
            return b
    return None


def _elementwise(step: Step) -> tuple[Tensor, tuple[Var, ...], tuple[Index, ...], Expr] | None:
    """(out, vars, index, expr) of a step that does out[index] = expr, once for each element."""
    if isinstance(step, Nest):
        stage = step.members[0].stage
        if len(step.members) == 1 and isinstance(stage, Compute) and stage.out not in step.local:
            return stage.out, stage.vars, tuple(map(Index.of, stage.vars)), stage.expr
    elif isinstance(step, Kernel) and step.stage.epilogue is not None:
        e = step.stage.epilogue
        return e.out, e.vars, e.index, e.expr
    return None


def _walk(
    steps: Iterable[Step],
    buffers: Mapping[Tensor, Buffer],
    spans: dict[Buffer, tuple[int, int]],
    places: dict[int, Step],
    at: int,
) -> int:
    for s in steps:
        if isinstance(s, BranchStep):
            _touch(buffers.get(s.pred), spans, at)
        elif not isinstance(s, LoopStep):
            places[at] = s
            for t in (*s.reads, *s.writes):
                _touch(buffers.get(t), spans, at)
        start = at
        for b in s.blocks:
            at = _walk(b, buffers, spans, places, at + 1)
        if isinstance(s, LoopStep):
            _touch(buffers.get(s.test), spans, at)
            # what the loop finds on entry it must find in every iteration
            for buffer, (first, last) in list(spans.items()):
                if first < start <= last:
                    spans[buffer] = first, at
        at += 1
    return at


def _touch(buffer: Buffer | None, spans: dict[Buffer, tuple[int, int]], at: int) -> None:
    if buffer is not None and buffer.root.place == "arena":
        root = buffer.root
        first, last = spans.get(root, (at, at))
        spans[root] = min(first, at), max(last, at)


def assign(intervals: list[Interval], most: Mapping[Index, Index] | None = None) -> Arena:
    """Offsets such that buffers alive at the same time do not overlap. most: of the sizes that data decide.

    The largest first, each as low as it fits; then the symbolic ones.
    """
    sizes = {i: greatest(i.buffer.bytes, most or {}) for i in intervals}
    static = [i for i in intervals if sizes[i].const is not None]
    placed: list[tuple[Interval, int, int]] = []
    offsets: dict[Buffer, Index] = {}
    for i in sorted(static, key=lambda i: (-(sizes[i].const or 0), i.first)):
        size = rounded(sizes[i]).const or 0
        at = 0
        for other, begin, end in sorted(placed, key=lambda p: p[1]):
            if other.first <= i.last and i.first <= other.last:
                if at + size <= begin:
                    break
                at = max(at, end)
        placed.append((i, at, at + size))
        offsets |= dict.fromkeys((i.buffer, *i.heirs), Index.of(at))
    total = Index.of(max((end for *_, end in placed), default=0))
    slots: list[tuple[Index, Index, int]] = []
    for i in sorted((i for i in intervals if sizes[i].const is None), key=lambda i: i.first):
        need = rounded(sizes[i])
        free = (k for k, (_, size, busy) in enumerate(slots) if busy < i.first and (size - need).nonnegative)
        fit = next(free, None)
        if fit is None:
            slots.append((total, need, i.last))
            offsets |= dict.fromkeys((i.buffer, *i.heirs), total)
            total = total + need
        else:
            offsets |= dict.fromkeys((i.buffer, *i.heirs), slots[fit][0])
            slots[fit] = (slots[fit][0], slots[fit][1], i.last)
    return Arena(offsets, total)
