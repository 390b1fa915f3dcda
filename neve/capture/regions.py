"""Regions of the declared sizes: those for which a model's Python code has given the same answers to what it asks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy

from neve.capture.symbols import UnsupportedSize, in_sympy, in_whole_numbers, plain_symbol
from neve.ir.bounds import ALL, bounds, magnitude
from neve.ir.index import Index
from neve.ir.types import Dim, Range, symbol

Relation = Any
"""A sympy relation, or And, Or, Not of such, in the `plain_symbol`s of the Program."""
Sizes = dict[Index, int]
COMPARE: dict[Any, Any] = {
    sympy.Eq: np.equal,
    sympy.Ne: np.not_equal,
    sympy.Lt: np.less,
    sympy.Le: np.less_equal,
    sympy.Gt: np.greater,
    sympy.Ge: np.greater_equal,
}
FAR = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 2, 4, 16, 64, 1024)
"""So many times the example's size is tried where the range is too wide to try all of it."""


@dataclass(frozen=True)
class Region:
    """The sizes in declared ranges for which all conditions hold; checked: those of them that the code for the region
    has to check, since it raises elsewhere.
    """

    declared: Mapping[Index, Range] = field(hash=False)
    conditions: tuple[Relation, ...] = ()
    checked: frozenset[Relation] = frozenset()

    def where(self, relation: Relation, check: bool = False) -> Region:
        """The part in which a relation holds."""
        checked = self.checked | {relation} if check else self.checked - {relation}
        return replace(self, conditions=(*self.conditions, relation), checked=checked)

    @property
    def unchecked(self) -> Region:
        """All sizes with which the code for the region is called."""
        return Region(self.declared, tuple(c for c in self.conditions if c not in self.checked))

    @cached_property
    def ranges(self) -> dict[Index, Range]:
        """The declared ranges without sizes at their ends that are not in the region."""
        found = dict(self.declared)
        everywhere = self._all(self._symbols(self.conditions))
        if everywhere is not None:
            for s, sizes in everywhere.items():
                found[s] = Range(int(sizes.min()), int(sizes.max())) if len(sizes) else found[s]
            return found
        parts = [p for c in self.conditions for p in (c.args if isinstance(c, sympy.And) else (c,))]
        for _ in range(2):  # what is not equal to an end may follow from a condition after it
            for part in parts:
                _narrow(part, found)
        return found

    def has(self, sizes: Mapping[Index, int]) -> bool:
        """Whether no condition on these symbols alone is false for these sizes."""
        plain = {plain_symbol(s): n for s, n in sizes.items()}
        known = [c for c in self.conditions if c.free_symbols and c.free_symbols <= plain.keys()]
        return all(c.subs(plain) != sympy.false for c in known)

    def implies(self, relation: Relation) -> bool:
        """Whether a relation is certain to hold in all of the region."""
        if relation in (sympy.true, sympy.false):
            return bool(relation) or self.empty
        if relation in self.conditions:
            return True
        if isinstance(relation, sympy.And):
            return all(map(self.implies, relation.args))
        if isinstance(relation, sympy.Or) and any(map(self.implies, relation.args)):
            return True
        if isinstance(relation, sympy.core.relational.Relational):
            wanted = least(relation)
            known: list[Index | int] = [0, *(e for c in self.conditions for e in least(c))]
            if wanted and all(any(_nonnegative(e - p, self.ranges) for p in known) for e in wanted):
                return True
        everywhere = self._all(self._symbols((*self.conditions, relation)))
        try:
            return everywhere is not None and bool(_truth(relation, everywhere).all())
        except ValueError:
            return False

    @property
    def empty(self) -> bool:
        """Whether it is certain that there are no such sizes."""
        everywhere = self._all(self._symbols(self.conditions))
        if everywhere is not None:
            return not len(next(iter(everywhere.values()), [0]))
        return any(r.max is not None and r.max < r.min for r in self.ranges.values()) or any(
            replace(self, conditions=self.conditions[:k]).implies(sympy.Not(c)) for k, c in enumerate(self.conditions)
        )

    def sample(self, near: Mapping[Index, int]) -> Sizes | None:
        """Sizes of the region, of 2 or more and different from each other where that is possible, near these; None if
        none are found.
        """
        symbols = self._symbols(self.conditions)
        found = self._all(symbols)
        if found is None:
            tried = _grid({s: list(_telling(s, self.conditions, self.ranges[s], near[s])) for s in symbols})
            try:
                keep = np.logical_and.reduce([_truth(c, tried) for c in self.conditions])
            except ValueError:
                return None
            found = {s: v[keep] for s, v in tried.items()}
        count = len(next(iter(found.values()), ()))
        if not count:
            return dict(near) if not symbols else None
        none = np.zeros(count)
        small = sum(((v < 2).astype(int) + (v < 4) for v in found.values()), none)
        equal = sum(((a == b).astype(int) for a, b in itertools.combinations(found.values(), 2)), none)
        far = sum((np.abs(np.log2((v + 1.0) / (near[s] + 1.0))) for s, v in found.items()), none)
        best = np.lexsort((far, equal, small))[0]
        return {**near, **{s: int(v[best]) for s, v in found.items()}}

    def _symbols(self, relations: Iterable[Relation]) -> list[Index]:
        return [symbol(name) for name in sorted({s.name for r in relations for s in r.free_symbols})]

    def _all(self, symbols: list[Index]) -> Mapping[Index, np.ndarray] | None:
        """The sizes of these symbols for which the conditions hold; None if there are too many to try, or data decide
        one of them.
        """
        if any(s not in self.declared for s in symbols):
            return None
        ranges = [self.declared[s] for s in symbols]
        if math.prod(ALL + 1 if r.max is None else max(r.max - r.min + 1, 0) for r in ranges) > ALL:
            return None
        grid = _grid({s: range(r.min, (r.max or 0) + 1) for s, r in zip(symbols, ranges, strict=True)})
        try:
            keep = [_truth(c, grid) for c in self.conditions if set(self._symbols([c])) <= set(symbols)]
        except ValueError:
            return None
        mask = np.logical_and.reduce(keep) if keep else slice(None)
        return {s: v[mask] for s, v in grid.items()}


def _grid(values: Mapping[Index, Any]) -> dict[Index, np.ndarray]:
    made = np.meshgrid(*(np.array(list(v), dtype=np.int64) for v in values.values()), indexing="ij")
    return {s: g.ravel() for s, g in zip(values, made, strict=True)}


def _truth(relation: Relation, sizes: Mapping[Index, np.ndarray]) -> np.ndarray:
    """Whether a relation holds at each of the sizes. ValueError: no integer arithmetic, or no value at one."""
    if relation in (sympy.true, sympy.false):
        return np.full(len(next(iter(sizes.values()), [0])), bool(relation))
    if isinstance(relation, sympy.Not):
        return ~_truth(relation.args[0], sizes)
    if isinstance(relation, sympy.And | sympy.Or):
        join = np.logical_and if isinstance(relation, sympy.And) else np.logical_or
        return join.reduce([_truth(a, sizes) for a in relation.args])  # type: ignore[no-any-return]
    e = whole(relation.lhs - relation.rhs)
    fits = magnitude(e, {s: int(v.max(initial=0)) for s, v in sizes.items()}) < 2**62
    try:
        with np.errstate(divide="raise"):
            value = e.value({str(s): v if fits else v.astype(object) for s, v in sizes.items()})
    except (FloatingPointError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{e} has no value for some of the sizes") from None
    return np.asarray(COMPARE[type(relation)](value, 0)) & np.ones(len(next(iter(sizes.values()))), bool)


def related(kind: Any, one: Dim, other: Dim) -> Relation:
    """A relation of that kind (sympy.Eq, …) between two sizes."""
    return kind(*(in_sympy(Index.of(d)) for d in (one, other)))


def whole(e: sympy.Expr) -> Index:
    """A plain expression times the least number that leaves no fraction in it. Raises UnsupportedSize."""
    found = in_whole_numbers(e)
    if found is None:
        raise UnsupportedSize(f"{e} is no integer arithmetic")
    return found[0]


def least(relation: Relation) -> list[Index]:
    """Expressions that are >= 0 where the relation holds, and only there; none for what has no such form."""
    if not isinstance(relation, sympy.core.relational.Relational) or isinstance(relation, sympy.Ne):
        return []
    try:
        e = whole(relation.lhs - relation.rhs)
    except ValueError:
        return []
    forms = {sympy.Ge: [e], sympy.Gt: [e - 1], sympy.Le: [-e], sympy.Lt: [-e - 1], sympy.Eq: [e, -e]}
    return forms[type(relation)]


def _nonnegative(e: Index, ranges: Mapping[Index, Range]) -> bool:
    found = bounds(e, ranges)
    return found is not None and found[0] >= 0


def _linear(e: Index) -> tuple[Index, int, int] | None:
    """(s, a, b) of a·s + b."""
    rest = e.terms.get((), 0)
    ((k, a), *others) = (e - rest).terms.items() or [((), 0)]
    s = Index({k: 1})
    return (s, a, rest) if s.is_symbol and not others else None


def _compared(relation: Relation) -> tuple[Index, int, int] | None:
    """(s, a, b) of a relation between a·s + b and 0."""
    found = None
    if isinstance(relation, sympy.core.relational.Relational):
        found = in_whole_numbers(relation.lhs - relation.rhs)
    return None if found is None else _linear(found[0])


def _narrow(relation: Relation, ranges: dict[Index, Range]) -> None:
    found = _compared(relation)
    if found is None:
        return
    s, a, b = found
    r = ranges[s]
    if isinstance(relation, sympy.Ne):
        at = -b // a if -b % a == 0 else None
        low, high = r.min + (at == r.min), r.max if r.max is None or at != r.max else r.max - 1
    else:
        low, high = r.min, r.max
        for e in least(relation):
            c, d = e.terms[tuple(s.atoms())], e.terms.get((), 0)
            if c > 0:
                low = max(low, -(d // c))
            else:
                high = d // -c if high is None else min(high, d // -c)
    ranges[s] = Range(low, high)


def _telling(s: Index, relations: Iterable[Relation], r: Range, near: int) -> Iterator[int]:
    """Sizes of a range that is too wide to try all of it, at which relations may begin or end to hold."""
    seen = set()
    parts = [p for c in relations for p in sympy.preorder_traversal(c) if plain_symbol(s) in p.free_symbols]
    found = map(_compared, parts)
    roots = [-f[2] // f[1] + k for f in found if f is not None for k in (-1, 0, 1, 2)]
    times = [int(near * k) for k in FAR]
    for n in (near, r.min, r.min + 1, r.min + 2, 2, 3, *roots, *times, *(x * 2 for x in roots), r.max):
        if n is not None and n not in seen and r.min <= n and (r.max is None or n <= r.max):
            seen.add(n)
            yield n
