"""Column panels: the form in which kernels read a matrix (terms, columns) of weights.

A panel holds some columns, term after term: [panel][term][column]. The last one may be narrower, and has zeros where it
has more columns than are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neve.ir.index import Index
from neve.ir.loops import Expr
from neve.ir.packing import Packing, dense, zero

Axes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Panels:
    """`columns` in `full` panels of `width` columns, and a last one of `last` (0: there is none)."""

    columns: int
    width: int
    full: int
    last: int

    @staticmethod
    def by_vectors(columns: int, width: int, lanes: int) -> Panels:
        """As many full panels as there are, then the vectors of lanes that are left."""
        return Panels(columns, width, columns // width, -(-(columns % width) // lanes) * lanes)

    def size(self, terms: int) -> int:
        """Elements in all."""
        return (self.full * self.width + self.last) * terms

    def put(
        self,
        p: Packing,
        lead: Axes,
        terms: Sequence[int],
        fn: Callable[[Sequence[Index], Index], Expr],
        offset: int = 0,
    ) -> None:
        """Matrices side by side: lead has their number and distance, along several axes. terms are the extents of what
        a matrix' first axis counts; fn((*lead, *terms), column) is an element.
        """
        rows, outer = math.prod(terms), len(lead)
        panel = (self.full, rows * self.width)
        p.put(
            offset,
            [*lead, panel, *dense(terms, self.width), (self.width, 1)],
            lambda *i: fn((*i[:outer], *i[outer + 1 : -1]), i[outer] * self.width + i[-1]),
        )
        first, offset = self.full * self.width, offset + self.full * self.width * rows
        left = self.columns - first
        tail = [*lead, *dense(terms, self.last)]
        p.put(offset, [*tail, (left, 1)], lambda *i: fn(i[:-1], i[-1] + first))
        p.put(offset + left, [*tail, (self.last - left, 1)], lambda *i: zero(p.array.dtype))
