"""Sizes that torch computes by way of doubles, such as TruncToInt(1.7·ToFloat(n)), in whole numbers.

int(n * 0.7) is the floor of the *rounded* product with the double next to 0.7; neither 7n // 10 nor the double's exact
fraction is that for every n. So the formula is evaluated over the declared range of n as torch evaluates it, and
(p·n + r) // q is taken where it gives all of these integers; else the size is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import sympy

from neve.ir.types import Range

LARGEST = 1 << 22
"""Up to where a size without an upper bound is tried."""

ROUNDED = {
    "TruncToInt": np.trunc,
    "FloorToInt": np.floor,
    "CeilToInt": np.ceil,
    "RoundToInt": np.rint,
    "floor": np.floor,
    "ceiling": np.ceil,
}
_DIVISIONS = ("IntTrueDiv", "FloatTrueDiv")
_DENOMINATORS = (1, 4, 16, 64, 256, 1024, 4096, 1 << 14, 1 << 16, 1 << 18)


def inexact(e: Any) -> bool:
    """Whether torch's expression multiplies by, or adds, a double that is not a multiple of 1/1024."""
    return any((1024 * float(x)) % 1 != 0 for x in e.atoms(sympy.Float))


@lru_cache(maxsize=256)
def whole(e: Any, n: sympy.Symbol, range: Range) -> tuple[int, int, int] | None:
    """(p, r, q) with e = floor((p·n + r) / q) for every n in the range; None if there are none."""
    last = LARGEST if range.max is None else min(range.max, LARGEST)
    if last < range.min or (range.max is not None and range.max > LARGEST):
        return None
    at = np.arange(range.min, last + 1)
    wanted = _evaluate(e, n, at.astype(np.float64))
    if wanted is None or not np.isfinite(wanted).all():
        return None
    k = wanted.astype(np.int64)
    for slope in _slopes(at, k):
        p, q = slope.numerator, slope.denominator
        low, high = int((k * q - p * at).max()), int(((k + 1) * q - p * at).min())
        if low < high:
            return p, min(max(0, low), high - 1), q
    return None


def _slopes(at: np.ndarray, k: np.ndarray) -> Iterator[Fraction]:
    """Fractions near the growth of k, simplest first."""
    if len(at) == 1:
        yield Fraction(0)
        return
    i = len(at) - 1
    mean = Fraction(int(k[i] - k[0]), int(at[i] - at[0]))
    for bound in _DENOMINATORS:
        yield mean.limit_denominator(bound)


def _evaluate(e: Any, n: sympy.Symbol, at: np.ndarray) -> np.ndarray | None:
    """e over sizes as Python evaluates it: in doubles, each step rounded. None for what is not known here."""
    if e == n:
        return at
    if e.is_number and not e.args:
        return np.full(at.shape, float(e))
    name = type(e).__name__
    args = [_evaluate(a, n, at) for a in e.args]
    if any(a is None for a in args) or not args:
        return None
    known: list[np.ndarray] = [a for a in args if a is not None]
    if name in ("ToFloat", "Identity"):
        return known[0]
    if name in ROUNDED:
        return np.asarray(ROUNDED[name](known[0]))
    if name in _DIVISIONS:
        return np.asarray(known[0] / known[1])
    if name == "FloorDiv":
        return np.asarray(np.floor_divide(known[0], known[1]))
    if name in ("Add", "Mul") and len(known) == 2:
        return np.asarray(known[0] + known[1] if name == "Add" else known[0] * known[1])
    return None
