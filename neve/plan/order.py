"""Order: what must run before what, by memory; whether items may become one; and an order that respects all of it.

a precedes b if b reads or writes memory that a writes, or writes memory that a reads. Whoever moves a stage or a step
(epilogues, prologues, row fusion) asks here, nobody keeps rules of his own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from neve.ir.buffers import Buffer
from neve.ir.loops import Tensor


class Item(Protocol):
    """A stage or a step."""

    @property
    def reads(self) -> tuple[Tensor, ...]: ...

    @property
    def writes(self) -> tuple[Tensor, ...]: ...

    @property
    def fails(self) -> bool: ...


Overlaps = Callable[[Tensor], Iterable[Tensor]]
"""The tensors that have memory in common with one, itself included."""


def sharing(buffers: Mapping[Tensor, Buffer]) -> Overlaps:
    """By buffers: a tensor shares memory with what it is a part of and with its parts, parts not with each other."""
    inside: dict[Buffer, list[Tensor]] = {}
    for t, b in buffers.items():
        base = b.base
        while base is not None:
            inside.setdefault(base, []).append(t)
            base = base.base

    def overlaps(t: Tensor) -> Iterable[Tensor]:
        yield t
        own = buffers.get(t)
        if own is not None:
            yield from inside.get(own, ())
            base = own.base
            while base is not None:
                yield base.tensor
                base = base.base

    return overlaps


def itself(t: Tensor) -> Iterable[Tensor]:
    """`Overlaps` before there are buffers: a concatenation is a stage then, which reads its parts."""
    return (t,)


class Order:
    """The precedence of items, given in an order that respects it; items are named by their position.

    An item that may leave the call (`fails`) comes after what writes state before it, and nothing after it runs first.
    """

    def __init__(
        self,
        items: Sequence[Item],
        overlaps: Overlaps = itself,
        state: Iterable[Tensor] = (),
    ) -> None:
        self.needs: list[int] = []  # of each item a bit set of those that precede it, itself included
        read: dict[Tensor, int] = {}
        written: dict[Tensor, int] = {}
        failed, kept = 0, tuple(state)
        for k, s in enumerate(items):
            bits = 1 << k | failed
            for t in (*s.reads, *(kept if s.fails else ())):
                for x in overlaps(t):
                    bits |= written.get(x, 0)
            for t in s.writes:
                for x in overlaps(t):
                    bits |= written.get(x, 0) | read.get(x, 0)
            self.needs.append(bits)
            for t in s.reads:
                read[t] = read.get(t, 0) | bits
            for t in s.writes:
                written[t] = written.get(t, 0) | bits
            if s.fails:
                failed = bits

    def mergeable(self, members: Iterable[int]) -> bool:
        """Whether they can run as one: nothing outside needs one of them and is needed by another."""
        chosen = needed = 0
        for k in members:
            chosen |= 1 << k
            needed |= self.needs[k]
        outside = needed & ~chosen
        while outside:
            low = (outside & -outside).bit_length() - 1
            if self.needs[low] & chosen:
                return False
            outside &= outside - 1
        return True

    def merge(self, members: Iterable[int]) -> None:
        """They run as one from now on: what needs one of them needs all that any of them needs."""
        chosen = needed = 0
        for k in members:
            chosen |= 1 << k
            needed |= self.needs[k]
        for k, bits in enumerate(self.needs):
            if bits & chosen:
                self.needs[k] = bits | needed

    def sort(self, units: Sequence[Iterable[int]]) -> list[int]:
        """Positions of units (the merged items of each, every item in one) so that precedence holds.

        Otherwise the units stay as they are.
        """
        own, needs = [], []
        for members in units:
            chosen = needed = 0
            for k in members:
                chosen |= 1 << k
                needed |= self.needs[k]
            own.append(chosen)
            needs.append(needed & ~chosen)
        out: list[int] = []
        pending = list(range(len(own)))
        done = 0
        while pending:
            u = next(u for u in pending if not needs[u] & ~done)
            pending.remove(u)
            done |= own[u]
            out.append(u)
        return out
