"""Integers in lanes of 32 bits: what is known of a lane whose value has 64.

Loads are clamped to -LIMIT..LIMIT: a position that is clamped into an axis afterwards comes out as it does in 64 bits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from neve.ir.index import Index
from neve.ir.types import DType

LIMIT = 1 << 30
MOST = (1 << 31) - 1


@dataclass(frozen=True)
class Window:
    """A lane is in low..high. Strictly between begin and end it is the value; a lane is at most begin exactly if the
    value is, and at least end exactly if the value is.
    """

    low: int
    high: int
    begin: float = -math.inf
    end: float = math.inf

    def has(self, x: float) -> bool:
        """Whether a comparison of the lane with x tells what one of the value would."""
        return self.begin < x < self.end

    @property
    def exact(self) -> bool:
        return self.begin == -math.inf and self.end == math.inf

    def tightened(self) -> Window | None:
        """Without bounds of exactness that the range never reaches; None if the range is too large for a lane."""
        if self.low < -MOST or self.high > MOST:
            return None
        begin = -math.inf if self.low > self.begin else self.begin
        return Window(self.low, self.high, begin, math.inf if self.high < self.end else self.end)


WIDE = Window(-LIMIT, LIMIT, -LIMIT, LIMIT)


def stored(dtype: DType) -> Window:
    """Elements of an integer type in memory, clamped where it is wide."""
    if dtype.size >= 4:
        return WIDE
    bits = 8 * dtype.size
    return Window(0, (1 << bits) - 1) if dtype is DType.uint8 else Window(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def fixed(low: int, high: int) -> Window | None:
    """Numbers that the plan bounds, as lanes hold them unclamped; None if they are too large."""
    return Window(low, high) if low >= -LIMIT and high <= LIMIT else None


def between(i: Index) -> Window | None:
    """An index, by the bounds of its variables; None if these are unknown or too large."""
    low, high = (i.bound(upper).const for upper in (False, True))
    return None if low is None or high is None else fixed(low, high)


def compared(a: Window, b: Window) -> bool:
    """Whether a comparison of lanes is one of values: either has to be exact and inside the other's window."""
    return any(x.exact and y.has(x.low) and y.has(x.high) for x, y in ((a, b), (b, a)))


def calculated(fn: str, args: Sequence[Window]) -> Window | None:
    """What fn of lanes knows, of `where` the two that it chooses from; None if it may differ from fn of the values."""
    a, b = args if len(args) == 2 else (args[0], args[0])
    if fn in ("maximum", "minimum"):
        pick = max if fn == "maximum" else min
        low, high = pick(a.low, b.low), pick(a.high, b.high)
    elif fn == "where":
        low, high = min(a.low, b.low), max(a.high, b.high)
    elif fn in ("add", "sub", "mul") and a.exact and b.exact:  # others may wrap around in 64 bits
        ends = [_ARITHMETIC[fn](x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
        low, high = min(ends), max(ends)
    else:
        return None
    return Window(low, high, max(a.begin, b.begin), min(a.end, b.end)).tightened()


_ARITHMETIC = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
