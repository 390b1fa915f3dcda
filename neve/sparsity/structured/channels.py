"""Channels of the values in a model: which of them are one and the same, which are constant, which must stay.

Every row of a layer makes a channel. Where values meet element by element (a residual sum, a gate) their channels are
tied: they go together or not at all. A channel whose row is pruned is constant, 0 or the row's bias, and so it is
behind an activation or a norm; a layer that reads a constant channel needs it no longer once the constant is in its own
bias. Whatever must be left as it is pins the channels that it reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


class Channels:
    """Sets of tied channels, as a union-find forest over their numbers."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._pins: dict[int, str] = {}
        self._read: set[int] = set()

    def new(self, n: int) -> tuple[int, ...]:
        """n channels, each for itself."""
        first = len(self._parent)
        self._parent += range(first, first + n)
        return tuple(range(first, first + n))

    def find(self, i: int) -> int:
        """The channel that stands for those tied to i."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def tie(self, a: Iterable[int], b: Iterable[int]) -> None:
        """Tie channels in pairs."""
        for i, j in zip(a, b, strict=True):
            low, high = self.find(i), self.find(j)
            if low != high:
                self._parent[high] = low
                if high in self._pins:
                    self._pins.setdefault(low, self._pins[high])
                if high in self._read:
                    self._read.add(low)

    def pin(self, ids: Iterable[int], reason: str) -> None:
        """Keep channels; the first reason is the one that is reported."""
        for i in ids:
            self._pins.setdefault(self.find(i), reason)

    def read(self, flow: Flow, reader: str, foldable: bool = True) -> None:
        """Note that something reads the flow: what is not constant stays, and what is not zero unless the reader can
        take a constant over (foldable).
        """
        for i, c in zip(flow.ids, flow.const.tolist(), strict=True):
            self._read.add(self.find(i))
            if c != c:
                self.pin([i], f"{reader} reads it")
            elif c != 0 and not foldable:
                self.pin([i], f"{reader} reads a constant other than zero, which it pads, spreads or has no bias for")

    def pinned(self, i: int) -> str | None:
        """Why a channel stays; None if it can go. What nothing reads stays, as nothing is known of it."""
        root = self.find(i)
        return self._pins.get(root) or (None if root in self._read else "nothing reads it")

    def kept(self, ids: Iterable[int]) -> Tensor:
        """A bool for each channel: whether it stays."""
        return torch.tensor([self.pinned(i) is not None for i in ids], dtype=torch.bool)


@dataclass(frozen=True)
class Flow:
    """The channels of a value in a traced model.

    ids: the channel at each position along the axis, counted from the last dim (-1); rank: number of dims.
    const [len(ids)]: what every element of a channel is, whatever the model's input; NaN if that varies.
    spread: after a flatten each channel covers a run of neighbours, of a length not known yet (see `over`).
    """

    ids: tuple[int, ...]
    const: Tensor
    axis: int
    rank: int
    spread: bool = False

    def dim(self, d: int) -> int:
        """A dim counted from the end."""
        return d if d < 0 else d - self.rank

    def with_const(self, const: Tensor) -> Flow:
        return replace(self, const=const)

    def over(self, size: int) -> Flow | None:
        """The flow over an axis of that size: runs of a spread flow get their length. None if it does not fit."""
        n = len(self.ids)
        if not self.spread or n == 0:
            return self if size == n else None
        if size % n:
            return None
        run = size // n
        return replace(
            self,
            ids=tuple(i for i in self.ids for _ in range(run)),
            const=self.const.repeat_interleave(run),
            spread=False,
        )
