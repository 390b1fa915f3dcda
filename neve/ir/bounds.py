"""The least and the greatest value of a size expression over the ranges of its symbols."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import product

import numpy as np

from neve.ir.index import Atom, Div, Index, Mod, Sym, Var
from neve.ir.types import Range

Bounds = tuple[float, float]
"""Inclusive; ints, or infinite."""
Ranges = Mapping[Index, Range]

ALL = 1 << 13
"""So many combinations of sizes are tried one by one."""


def bounds(e: Index, ranges: Ranges) -> Bounds | None:
    """Inclusive bounds of e; infinite if unbounded, None if unknown. Tight where every symbol occurs with one sign, and
    where the combinations of sizes are few.
    """
    if not any(isinstance(a, (Div, Mod)) for a in e.atoms()):
        return _of_terms(e, ranges)
    everywhere = over_ranges(e, ranges)
    if everywhere is not None:
        return int(everywhere.min()), int(everywhere.max())
    known = (_of_terms(e, ranges), _of_positive_parts(e, ranges), _of_quotients(e, ranges))
    found = [b for b in known if b is not None]
    return (max(low for low, _ in found), min(high for _, high in found)) if found else None


def capacity(e: Index, most: Mapping[Index, Index]) -> Index | None:
    """The most that e may be while the symbols in `most`, each from 0 to what it says, have no value yet: in the other
    symbols alone. None if that is not known.
    """
    of_numbers = _capacity_of_numbers(e, most)
    if of_numbers is not None:
        return of_numbers
    for s in reversed(list(most)):
        if s in e.symbols:
            (atom,) = s.atoms()
            e = e.subs({atom: Index.of(Var(f"{s} up to {most[s]}", most[s] + 1))}).bound(upper=True)
            if e.vars:
                return None
    return e


def _capacity_of_numbers(e: Index, most: Mapping[Index, Index]) -> Index | None:
    """The most that e may be if no symbol has a part in it but those in `most`; None if it is not known."""
    ranges: dict[Index, Range] = {}
    for s, limit in most.items():
        if set(limit.symbols) <= set(ranges):
            found = bounds(limit, ranges)
            if found is not None and found[1] < math.inf:
                ranges[s] = Range(0, int(found[1]))
    found = bounds(e, ranges) if e.symbols and set(e.symbols) <= set(ranges) else None
    return Index.of(int(found[1])) if found is not None and found[1] < math.inf else None


def over_ranges(e: Index, ranges: Ranges) -> np.ndarray | None:
    """e at all combinations of its symbols' sizes; None if these are too many, or e has no value at one."""
    return _over(e, tuple((s, ranges.get(s, Range())) for s in sorted(e.symbols, key=str))) if e.symbols else None


@lru_cache(maxsize=4096)
def _over(e: Index, ranges: tuple[tuple[Index, Range], ...]) -> np.ndarray | None:
    count = math.prod(ALL + 1 if r.max is None else max(r.max - r.min + 1, 0) for _, r in ranges)
    if not 0 < count <= ALL:
        return None
    fits = magnitude(e, {s: r.max or 0 for s, r in ranges}) < 2**62
    sizes = (np.arange(r.min, (r.max or 0) + 1, dtype=np.int64 if fits else object) for _, r in ranges)
    grid = np.meshgrid(*sizes, indexing="ij")
    env = {str(s): g.ravel() for (s, _), g in zip(ranges, grid, strict=True)}
    try:
        with np.errstate(divide="raise"):
            return np.broadcast_to(e.value(env), (count,))
    except (FloatingPointError, ZeroDivisionError, OverflowError):
        return None


def magnitude(e: Index, most: Mapping[Index, int]) -> int:
    """What no number on the way to e's value is above or below."""

    def of(a: Atom) -> int:
        return sum(magnitude(x, most) for x in (a.num, a.den)) if isinstance(a, (Div, Mod)) else most[Index.of(a)]

    return sum(abs(c) * math.prod(max(of(a), 1) for a in k) for k, c in e.terms.items())


def _of_terms(e: Index, ranges: Ranges) -> Bounds | None:
    """By the bounds of each factor of each term."""
    low: float = 0
    high: float = 0
    for k, c in e.terms.items():
        ends: Bounds = c, c
        for a in k:
            factor = _of_atom(a, ranges)
            if factor is None:
                return None
            corners = [_times(x, y) for x, y in product(ends, factor)]
            ends = min(corners), max(corners)
        low, high = low + ends[0], high + ends[1]
    return low, high


def _times(x: float, y: float) -> float:
    return x * y if x and y else 0  # of a size that has no bound: 0 · ∞ is 0


def _of_atom(a: Atom, ranges: Ranges) -> Bounds | None:
    if isinstance(a, Sym):
        r = ranges.get(Index.of(a), Range())
        return r.min, math.inf if r.max is None else r.max
    if not isinstance(a, (Div, Mod)):
        return None
    den = bounds(a.den, ranges)
    if den is None or den[0] < 1:
        return None
    num = bounds(a.num, ranges)
    if isinstance(a, Mod):
        return num if num is not None and num[0] >= 0 and num[1] < den[0] else (0, den[1] - 1)
    if num is None:
        return None
    corners = [_divided(x, y) for x, y in product(num, den)]
    return min(corners), max(corners)


def _divided(x: float, y: float) -> float:
    """⌊x / y⌋, or what it tends to."""
    if math.isinf(y):
        return -1 if x < 0 else 0
    return x if math.isinf(x) else x // y


def _of_positive_parts(e: Index, ranges: Ranges) -> Bounds | None:
    """Of an expression with what `positive_part` makes: for |x| < m, x · ((x + m) // m) is max(x, 0), and x · (x // m)
    is max(x, 0) − x; and max(x, 0) is x + max(−x, 0).
    """
    for step in sorted({a for a in e.atoms() if isinstance(a, Div) and a.den.const}, key=str):
        linear = {k: c for k, c in e.terms.items() if k.count(step) == 1}
        rest = Index({k: c for k, c in e.terms.items() if k not in linear})
        factor = Index({tuple(a for a in k if a != step): c for k, c in linear.items()})
        found = _part(factor, step) if factor.symbols and step not in rest.inside else None
        if found is None:
            continue
        part, times, m, whole = found
        inner = bounds(part, ranges)
        if inner is None or max(map(abs, inner)) >= m:
            continue
        either = []
        for sign in (1, -1):
            outer = bounds(rest + (whole - 1 + (sign < 0)) * factor, ranges)
            ends = sorted(times * max(sign * x, 0) for x in inner)
            either += [] if outer is None else [(outer[0] + ends[0], outer[1] + ends[1])]
        if either:
            return max(low for low, _ in either), min(high for _, high in either)
    return None


def _part(factor: Index, step: Div) -> tuple[Index, int, int, int] | None:
    """(x, t, m, w): factor = t · x and step = (x + w · m) // m for a w of 0 or 1; None if they are no such pair."""
    most = math.gcd(*factor.terms.values())
    scales = [1, *(a.den.const for a in factor.atoms() if isinstance(a, Div) and a.den.const)]
    for times in (most, -most):
        part = Index({k: c // times for k, c in factor.terms.items()})
        for scale in scales:
            m, left = divmod(step.den.const or 0, scale)
            whole = (Index.of(step) - part // m).const if not left and m else None
            if whole in (0, 1):
                return part, times, m, whole
    return None


def _of_quotients(e: Index, ranges: Ranges) -> Bounds | None:
    """With each n // m as (n − r) / m, 0 <= r < m: what cancels n."""
    quotients = sorted({a for a in e.inside if isinstance(a, Div)}, key=str)
    values: dict[Atom, tuple[Index, int]] = {}
    left = dict(ranges)
    for i, a in enumerate(quotients):
        if not a.den.const or any(isinstance(x, (Div, Mod)) for x in a.num.inside):
            return None
        rest = Index.of(Sym(f"_rest{i}"))
        left[rest] = Range(0, a.den.const - 1)
        values[a] = a.num - rest, a.den.const
    scale = math.lcm(*(math.prod(values[a][1] for a in k if a in values) for k in e.terms)) if values else 1
    total = Index.of(0)
    for k, c in e.terms.items():
        term = Index.of(c * scale)
        for x in k:
            term = term // values[x][1] * values[x][0] if x in values else term * Index.of(x)
        total = total + term
    found = _of_terms(total, left) if values else None
    return None if found is None else (-_divided(-found[0], scale), _divided(found[1], scale))
