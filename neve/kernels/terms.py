"""Register tiles whose inner loop is terms.h: how many rows the registers hold, and what a term costs."""

from __future__ import annotations

from neve.build.target import Core, Target

LOOP = 3
"""Instructions of the loop beyond its loads and multiply-adds."""


def rows_that_fit(nv: int, target: Target, most: int) -> int:
    """The most rows of a tile of nv vectors whose sums, B vectors and part of A leave a register spare.

    Of A, there is one broadcast, or a vector of terms for each row.
    """
    by_lane = target.core.lane_terms > 1
    fit = (target.registers - 1 - nv - (not by_lane)) // (nv + by_lane)
    return max(1, min(fit, most))


def term_cycles(rows: int, nv: float, core: Core) -> float:
    """Cycles of one term of a tile: of its multiply-adds, loads, instructions and one chain, whatever takes longest."""
    elements = rows / core.lane_terms
    return max(
        core.multiply * rows * nv,
        core.element * elements + core.vector * nv,
        core.instruction * (rows * nv + elements + nv + LOOP / core.lane_terms),
        core.chain,
    )
