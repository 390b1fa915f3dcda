"""Branches on sizes that differ over the declared ranges: the model is exported once for each side.

What its Python code asks of sizes is recorded, with the answer for the example (`questions`). Where another answer is
possible and no error, sizes with that answer are found, the example is given these, and the model is exported again:
that makes a tree of questions with an export at each leaf. A leaf knows of its sizes what the answers on the way to it
say, and what is asserted of them is proved from that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import sympy
import torch
from torch.utils import _pytree as pytree

from neve.capture import diagnose, regions
from neve.capture.build import Exported
from neve.capture.dynamic import declared_axes, given_values, redeclared
from neve.capture.entry_module import entry_of
from neve.capture.guards import holds, written
from neve.capture.joined import Fork, Side, Sides, Tree
from neve.capture.passed import Became, Place
from neve.capture.questions import Question, matters, refusal, relation_of, where
from neve.capture.refusals import ModelRaises, of_sizes
from neve.capture.regions import Region
from neve.capture.symbols import Symbols, UnsupportedSize, identifier, in_sympy, plain_symbol
from neve.errors import CaptureError
from neve.ir.index import Index
from neve.ir.types import Range, size_at

MOST = 16
"""So many exports of one method are made."""


@dataclass
class Attempt:
    """An export: its arguments and dynamic_shapes, and what is known of it even if it fails: the names of the method's
    parameters, what was asked of sizes, and what torch calls the sizes of the flat inputs, of each time that the method
    ran (see `entry_module`), and what arguments became.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: Any
    names: Sequence[str] = ()
    asked: dict[Question, None] = field(default_factory=dict)
    entries: list[Any] = field(default_factory=list)
    became: list[dict[Place, Became]] = field(default_factory=list)


Export = Callable[[Attempt], Exported]


@dataclass(frozen=True)
class _Made:
    """An attempt, and what was exported or raised by the model in it."""

    asked: Sequence[Question]
    known: Mapping[sympy.Symbol, Index]
    exported: Exported | None
    raises: str = ""


def explored(attempt: Attempt, export: Export) -> Exported:
    """The method with its sides, if its code takes other branches for sizes in the declared ranges. Raises CaptureError
    if a side cannot be exported, or there are more than MOST.
    """
    first: Exported | None = None
    refused: CaptureError | None = None
    try:
        first = export(attempt)
    except CaptureError as error:
        if not attempt.asked or not of_sizes(error):
            raise
        refused = error
    if not attempt.asked:
        assert first is not None
        return first
    found = _Exploration(attempt, export).sides(first, refused)
    first = first or found.exported[0]
    return replace(first, sides=found) if isinstance(found.tree, Fork) else first


class _Exploration:
    def __init__(self, attempt: Attempt, export: Export) -> None:
        self.attempt, self.export, self.count = attempt, export, 1
        self.owner = Symbols()
        self.wanted: dict[Index, tuple[str | None, Range]] = {}
        self.near: regions.Sizes = {}
        self.shapes = self._declared()

    def sides(self, first: Exported | None, refused: CaptureError | None) -> Sides:
        a = self.attempt
        region = Region({s: r for s, (_, r) in self.wanted.items()})
        made = _Made(tuple(a.asked), self._known(a, first), first)
        if refused is not None:
            within = self._asked(made, region)
            if within.ranges == region.ranges:
                raise refused
            made = self._made(within, a.args, a.kwargs)
        return Sides(self.shapes, self.wanted, self._tree(made, region))

    # What is declared.

    def _declared(self) -> list[Any]:
        a = self.attempt
        dims = {(k, axis): d for k, axis, d in declared_axes(a.names, a.args, a.kwargs, a.dynamic)}
        ours: dict[Any, Index] = {}
        shapes: list[Any] = []
        for k, entry in enumerate(a.entries[-1]):
            if isinstance(entry, list):
                shapes.append(tuple(self._size(n, hint, dims.get((k, i)), ours) for i, (n, hint) in enumerate(entry)))
            elif entry is not None and isinstance(entry.size, sympy.Symbol):
                shapes.append(self._symbol(entry.size, entry.hint, self._name(k), Range(), ours))
            else:
                shapes.append(None)
        return shapes

    def _size(self, size: Any, hint: int, d: Any, ours: dict[Any, Index]) -> Any:
        if isinstance(size, int) or not size.free_symbols:
            return int(size)
        root = getattr(d, "root", d)
        name = getattr(root, "__name__", None)
        if name is None:
            return self._symbol(size, hint, None, Range(), ours)
        wanted = Range(int(root.min), None if float(root.max) >= 2**62 else int(root.max))
        a, b = (d.fn(2) - d.fn(1), 2 * d.fn(1) - d.fn(2)) if root is not d else (1, 0)
        return a * self._symbol(name, (hint - b) // a, identifier(name), wanted, ours) + b

    def _symbol(self, of: Any, hint: int, name: str | None, range: Range, ours: dict[Any, Index]) -> Index:
        if of not in ours:
            ours[of] = self.owner.define(name, range)
            self.wanted[ours[of]] = name, range
            self.near.setdefault(ours[of], hint)
        return ours[of]

    def _name(self, k: int) -> str:
        """Of an int argument."""
        a = self.attempt
        flat = pytree.tree_flatten_with_path((a.args, dict(a.kwargs)))[0]
        path: list[Any] = [getattr(key, "key", getattr(key, "idx", "")) for key in flat[k][0]]
        named = path[0] == 0 and path[1] < len(a.names)
        return identifier("_".join(map(str, (a.names[path[1]] if named else path[1], *path[2:]))))

    # The tree.

    def _asked(self, made: _Made, region: Region) -> Region:
        """The part of a region in which all answers are as in an attempt."""
        for question in made.asked:
            symbols = self.owner.side(made.known, region)
            with suppress(UnsupportedSize):
                relation = relation_of(question, symbols)
                if symbols.knows(question.relation.free_symbols) and not holds(question.relation, symbols):
                    region = region.where(relation)
        return region

    def _tree(self, made: _Made, region: Region) -> Tree:
        known = made.known
        for k, question in enumerate(made.asked):
            symbols = self.owner.side(known, region)
            try:
                relation = relation_of(question, symbols)
                if not symbols.knows(question.relation.free_symbols) or holds(question.relation, symbols):
                    continue
            except UnsupportedSize:
                continue  # refused as a question that is unanswered
            if not question.error:
                if not matters(question, symbols):
                    continue
                other = self._other(region.where(sympy.Not(relation)), question)
                if other is not None:
                    within, rest = region.where(relation), replace(made, asked=made.asked[k + 1 :])
                    then = self._other(within, question) if residue(relation) else self._tree(rest, within)
                    return Fork(region, relation, then or self._tree(rest, within), other)
            region = region.where(relation, check=bool(question.error))
        return Side(region, made.exported, known, made.raises)

    def _other(self, region: Region, question: Question) -> Tree | None:
        """The tree for a region; None if there are no such sizes."""
        sizes = None if region.empty else region.sample(self.near)
        if sizes is None:
            if region.empty:
                return None
            raise diagnose.NotTraceable(refusal(question, region.conditions[-1]))
        if self.count >= MOST:
            raise diagnose.NotTraceable(
                f"the model's Python code takes more than {MOST} ways, according to its sizes: "
                f"declare smaller ranges (torch.export.Dim with min and max){where(question)}"
            )
        self.count += 1
        return self._pinned(region, [sympy.Eq(plain_symbol(s), n) for s, n in sizes.items() if n < 2], sizes, question)

    def _pinned(self, region: Region, pins: Sequence[Any], sizes: regions.Sizes, question: Question) -> Tree:
        """The tree for a region, with exports of their own for sizes of 0 and 1, which torch.export takes as fixed."""
        if not pins:
            return self._tree(self._export(region, sizes, question), region)
        pin, *others = pins
        if region.implies(pin):
            return self._pinned(region, others, sizes, question)
        then = self._pinned(region.where(pin), others, sizes, question)
        rest = self._other(region.where(sympy.Not(pin)), question)
        return then if rest is None else Fork(region, pin, then, rest)

    def _export(self, region: Region, sizes: regions.Sizes, question: Question) -> _Made:
        leaves, spec = pytree.tree_flatten((self.attempt.args, dict(self.attempt.kwargs)))
        made = [_resized(x, shape, sizes) for x, shape in zip(leaves, self.shapes, strict=True)]
        try:
            return self._made(region, *pytree.tree_unflatten(made, spec))
        except CaptureError as error:
            at = written(region.conditions[-1])
            raise diagnose.NotTraceable([f"where {at}: {r}" for r in error.all_reasons]) from error

    def _made(self, region: Region, args: Any, kwargs: Any) -> _Made:
        """An export for the sizes of a region; or only for those with the same answers, if torch wants that."""
        a = self.attempt
        tried = Attempt(args, kwargs, redeclared(a.names, args, kwargs, a.dynamic, _Dims(region, self.shapes).change))
        try:
            exported = self.export(tried)
        except ModelRaises as error:
            return _Made(tuple(tried.asked), self._known(tried), None, error.said)
        except CaptureError as error:
            within = self._asked(_Made(tuple(tried.asked), self._known(tried), None), region)
            if not of_sizes(error) or within.ranges == region.ranges:
                raise
            return self._made(within, args, kwargs)
        return _Made(exported.asked, self._known(tried, exported), exported)

    def _known(self, attempt: Attempt, exported: Exported | None = None) -> dict[sympy.Symbol, Index]:
        """torch's symbols of an attempt → what they are in ours."""
        after = [] if exported is None else [[entry_of(v) for v in given_values(exported.program)]]
        return _known([*attempt.entries, *after], self.shapes)


def _resized(x: Any, shape: Any, sizes: regions.Sizes) -> Any:
    if isinstance(shape, Index):
        return sizes[shape]
    if not isinstance(x, torch.Tensor) or shape is None:
        return x
    wanted = [size_at(n, sizes) for n in shape]
    if 0 in x.shape:
        return x.new_zeros(wanted)
    for axis, n in enumerate(wanted):
        if n != x.shape[axis]:
            x = x.detach().index_select(axis, torch.arange(n) % x.shape[axis])
    return x


def residue(relation: regions.Relation) -> tuple[sympy.Symbol, int, int] | None:
    """(s, m, r) of what says that s is m · k + r."""
    if isinstance(relation, sympy.Ne) and isinstance(relation.lhs, sympy.Mod) and relation.lhs.args[1] == 2:
        relation = sympy.Eq(relation.lhs, 1 - relation.rhs)
    if not isinstance(relation, sympy.Eq) or not isinstance(relation.lhs, sympy.Mod) or not relation.rhs.is_Integer:
        return None
    s, m = relation.lhs.args
    return (s, int(m), int(relation.rhs)) if s.is_Symbol and m.is_Integer and m > 1 else None


def _known(entries: Iterable[Sequence[Any]], shapes: Sequence[Any]) -> dict[sympy.Symbol, Index]:
    """torch's symbols of the inputs → what they are in ours."""
    found: dict[sympy.Symbol, Index] = {}
    for entry in entries:
        for given, shape in zip(entry, shapes, strict=True):
            pairs: Any = zip(given, shape, strict=True) if isinstance(given, list) and isinstance(shape, tuple) else ()
            pairs = [(given, shape)] if isinstance(shape, Index) and given is not None else pairs
            for (size, _), wanted in pairs:
                theirs = list(getattr(size, "free_symbols", ()))
                if len(theirs) == 1 and not isinstance(wanted, int):
                    a, b = (sympy.expand(size).coeff(theirs[0], k) for k in (1, 0))
                    if a.is_Integer and a > 0 and size - a * theirs[0] == b:
                        found.setdefault(theirs[0], (wanted - int(b)) // int(a))
    return found


class _Dims:
    """The Dims of a region."""

    def __init__(self, region: Region, shapes: Sequence[Any]) -> None:
        self.shapes = shapes
        self.ranges = {plain_symbol(s): r for s, r in region.ranges.items()}
        self.fixed: dict[sympy.Symbol, Any] = {s: r.min for s, r in self.ranges.items() if r.min == r.max}
        for c in region.conditions:
            if isinstance(c, sympy.Eq) and c.lhs.is_Symbol and c.rhs.is_Symbol:
                self.fixed.setdefault(c.rhs, c.lhs)
            if (found := residue(c)) is not None and found[0] not in self.fixed:
                s, m, r = found
                part = sympy.Symbol(f"{s.name}_{m}", integer=True)
                own = self.ranges[s]
                last = None if own.max is None else (own.max - r) // m
                self.ranges = {**self.ranges, part: Range(-((r - own.min) // m), last)}
                self.fixed[s] = m * part + r
        self.made: dict[sympy.Symbol, Any] = {}

    def change(self, k: int, axis: int | None, d: Any) -> Any:
        size = self.shapes[k] if axis is None else self.shapes[k][axis]
        size = in_sympy(Index.of(size)).subs(self.fixed).subs(self.fixed)
        if size.is_number:
            return None
        if not hasattr(getattr(d, "root", d), "__name__"):
            return d
        (s,) = size.free_symbols
        made = self._dim(s)
        a, b = (int(size.coeff(s, n)) for n in (1, 0))
        made = made if a == 1 else a * made
        return made + b if b else made

    def _dim(self, s: sympy.Symbol) -> Any:
        if s not in self.made:
            r = self.ranges[s]
            for one, other in self.fixed.items():
                if other == s:
                    o = self.ranges[one]
                    r = Range(max(r.min, o.min), o.max if r.max is None else min(r.max, o.max or r.max))
            self.made[s] = torch.export.Dim(s.name, min=r.min, max=r.max)
        return self.made[s]
