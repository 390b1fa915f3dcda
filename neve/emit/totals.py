"""Long sums: totals of totals, so that rounding errors grow with the depth, not with the length."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from neve.emit.expressions import Scope
from neve.emit.statements import Apply, Assign, Divides, IfThen, Let, Literal, Local, Size, Spread, Statement, Term
from neve.ir.index import Index, Var
from neve.ir.types import DType

VECTORS = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}
"""The kinds that have a vector form, and the function that adds a term."""
F32 = DType.float32
ZERO = Size(Index.of(0))

BLOCK = 64
"""So many terms are added up before their sum goes to a total, and so many of these to the next: rounding errors of
long sums grow with the depth, not with the length, as in ATen's cascade sum (ATen/native/cpu/SumKernel.cpp)."""


def after(name: str, step: int) -> Size:
    """A variable and a number."""
    return Size(Index.of(Var(name, Index.of(0))) + step)


class Totals:
    """The two levels of totals above the vectors that a long sum is added up in."""

    def __init__(self, names: Sequence[str], fresh: Callable[[], str], scope: Scope) -> None:
        self.names, self.first, self.second = names, [fresh() for _ in names], [fresh() for _ in names]
        self.count = fresh()
        scope.add(Let(self.count, "i", ZERO, constant=False))
        for t in (*self.first, *self.second):
            scope.add(Let(t, "v", Spread(Literal(0.0, F32)), constant=False))

    def flush(self, scope: Scope) -> None:
        """After a block of terms."""
        scope.add(*self._moved(self.names, self.first), Assign(self.count, after(self.count, 1)))
        scope.add(IfThen(Divides(Local(self.count), BLOCK), self._moved(self.first, self.second)))

    def flush_some(self, scope: Scope) -> None:
        """After few terms: once in BLOCK times."""
        outer = IfThen(Divides(Local(self.count), BLOCK * BLOCK), self._moved(self.first, self.second))
        moved = [*self._moved(self.names, self.first), outer]
        scope.add(Assign(self.count, after(self.count, 1)), IfThen(Divides(Local(self.count), BLOCK), moved))

    @staticmethod
    def _moved(names: Sequence[str], totals: Sequence[str]) -> list[Statement]:
        out: list[Statement] = []
        for n, t in zip(names, totals, strict=True):
            out += [Assign(t, added(Local(t), Local(n))), Assign(n, Spread(Literal(0.0, F32)))]
        return out

    def close(self, scope: Scope) -> None:
        """At the end: all in the vectors themselves."""
        for n, t, u in zip(self.names, self.first, self.second, strict=True):
            scope.add(Assign(n, added(Local(n), added(Local(t), Local(u)))))


def added(a: Term, b: Term, kind: str = "sum") -> Apply:
    """Two vectors of partial results as one."""
    return Apply(VECTORS[kind], "v", (a, b), F32)


def is_long(kind: str, extents: Iterable[Index]) -> bool:
    """Whether loops of these extents sum so many terms that they need totals."""
    sizes = [x.const for x in extents]
    return kind == "sum" and (None in sizes or math.prod(n for n in sizes if n is not None) > BLOCK)
