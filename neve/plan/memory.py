"""Memory: offsets in one arena from lifetimes, static sizes exactly, symbolic ones by slots that fit for every size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from neve.ir.index import Index
from neve.ir.loops import Tensor
from neve.plan.buffers import Buffer
from neve.plan.group import step_reads, step_writes

LINE = 64


@dataclass(frozen=True)
class Interval:
    """A buffer and the first and last step that touch it."""

    buffer: Buffer
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """Byte offset of every arena buffer, and the bytes in all."""

    offsets: Mapping[Buffer, Index]
    size: Index


def rounded(n: Index) -> Index:
    """n rounded up to whole cache lines."""
    return (n + (LINE - 1)) // Index.of(LINE) * LINE


def lifetimes(steps: Iterable[Any], buffers: Mapping[Tensor, Buffer]) -> list[Interval]:
    """The arena buffers that steps touch, by position in the order of execution."""
    spans: dict[Buffer, tuple[int, int]] = {}
    _walk(steps, buffers, spans, 0)
    return [Interval(b, first, last) for b, (first, last) in spans.items()]


def _walk(steps: Iterable[Any], buffers: Mapping[Tensor, Buffer], spans: dict[Buffer, tuple[int, int]], at: int) -> int:
    for s in steps:
        start = at
        blocks = [getattr(s, n) for n in ("then", "orelse", "cond", "body") if hasattr(s, n)]
        if blocks:
            for name in ("pred", "test"):
                if hasattr(s, name) and name == "pred":
                    _touch(buffers.get(s.pred), spans, at)
            for b in blocks:
                at = _walk(b, buffers, spans, at + 1)
            if hasattr(s, "test"):
                _touch(buffers.get(s.test), spans, at)
                # what the loop finds on entry it must find in every round
                for b, (first, last) in list(spans.items()):
                    if first < start <= last:
                        spans[b] = first, at
            at += 1
            continue
        for t in step_reads(s) | step_writes(s):
            _touch(buffers.get(t), spans, at)
        at += 1
    return at


def _touch(buffer: Buffer | None, spans: dict[Buffer, tuple[int, int]], at: int) -> None:
    if buffer is not None and buffer.root.place == "arena":
        root = buffer.root
        first, last = spans.get(root, (at, at))
        spans[root] = min(first, at), max(last, at)


def assign(intervals: list[Interval]) -> Arena:
    """Offsets such that buffers alive at the same time do not overlap.

    The largest first, each as low as it fits; then the symbolic ones.
    """
    static = [i for i in intervals if i.buffer.bytes.const is not None]
    placed: list[tuple[Interval, int, int]] = []
    offsets: dict[Buffer, Index] = {}
    for i in sorted(static, key=lambda i: (-(i.buffer.bytes.const or 0), i.first)):
        size = rounded(i.buffer.bytes).const or 0
        at = 0
        for other, begin, end in sorted(placed, key=lambda p: p[1]):
            if other.first <= i.last and i.first <= other.last:
                if at + size <= begin:
                    break
                at = max(at, end)
        placed.append((i, at, at + size))
        offsets[i.buffer] = Index.of(at)
    total = Index.of(max((end for *_, end in placed), default=0))
    slots: list[tuple[Index, Index, int]] = []
    for i in sorted((i for i in intervals if i.buffer.bytes.const is None), key=lambda i: i.first):
        need = rounded(i.buffer.bytes)
        fit = next((k for k, (_, room, busy) in enumerate(slots) if busy < i.first and (room - need).nonnegative), None)
        if fit is None:
            slots.append((total, need, i.last))
            offsets[i.buffer] = total
            total = total + need
        else:
            offsets[i.buffer] = slots[fit][0]
            slots[fit] = (slots[fit][0], slots[fit][1], i.last)
    return Arena(offsets, total)
