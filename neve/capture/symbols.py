"""Sizes: torch's symbolic expressions in sympy → dims in renamed symbols, with the range of each symbol."""

from __future__ import annotations

import copy
import keyword
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, product
from typing import TYPE_CHECKING, Any

import sympy

from neve.capture import float_sizes
from neve.ir.bounds import Bounds, bounds
from neve.ir.index import Div, Index, Mod
from neve.ir.types import Dim, Range, dim, symbol

if TYPE_CHECKING:
    from neve.capture.regions import Region

FLOOR_DIVISIONS = frozenset({"FloorDiv", "CleanDiv", "IntTrueDiv_floor"})
REMAINDERS = frozenset({"Mod", "PythonMod"})
TRANSPARENT = frozenset({"ToFloat", "Identity"})
TRUNCATIONS = frozenset({"TruncToInt", "FloorToInt"})
RESERVED = frozenset(
    {
        "int",
        "float",
        "char",
        "double",
        "long",
        "short",
        "void",
        "const",
        "static",
        "if",
        "else",
        "for",
        "while",
        "do",
        "return",
        "switch",
        "case",
        "break",
        "register",
        "p",
        "s",
        "i",
        "th",
    }
)


OF_DATA = re.compile(r"(u|zuf|zf)\d")
"""The names of torch's symbols for numbers that it reads from tensors."""

GREATEST_INT = 2**31 - 1
"""Of an int argument that a size depends on by way of min or max; the program refuses greater ones."""


class UnsupportedSize(ValueError):
    """A size expression that index arithmetic cannot hold."""


class Symbols:
    """The size symbols of a Program: torch's (one set per exported method) → ours, and their ranges.

    names holds what is taken by earlier methods, so that anonymous symbols of two methods differ, while dims
    that the user named alike are one symbol.
    """

    def __init__(self) -> None:
        self.ranges: dict[Index, Range] = {}
        self._declared: dict[Index, Range] = {}

    def method(self, constraints: Mapping[Any, Any], named: Mapping[sympy.Symbol, tuple[str, int]]) -> MethodSymbols:
        """The symbols of a method; constraints: its range_constraints; named: torch symbol → the
        user's name, and the least size that was declared.
        """
        return MethodSymbols(self, constraints, named)

    def side(self, known: Mapping[sympy.Symbol, Index], region: Region) -> MethodSymbols:
        """The symbols of a method that was captured for a region of the sizes; known: torch symbol →
        what it is in the Program's.
        """
        made = MethodSymbols(self, {}, {})
        made._ours, made.region = dict(known), region
        return made

    def define(self, wanted: str | None, range: Range, letter: str = "s") -> Index:
        """A symbol of that range; the same one again for the same name and range. letter: what one without a name is
        called.
        """
        if wanted is None:
            number = next(n for n in count() if symbol(f"{letter}{n}") not in self.ranges)
            wanted = f"{letter}{number}"
        name, i = wanted, 1
        while self._declared.get(symbol(name), range) != range:
            name, i = f"{wanted}_{i}", i + 1
        self._declared[symbol(name)] = range
        self.ranges.setdefault(symbol(name), range)
        return symbol(name)

    def limit(self, s: Index, last: int) -> None:
        """Give a symbol without an upper bound this one."""
        if self.ranges[s].max is None:
            self.ranges[s] = Range(self.ranges[s].min, last)


class MethodSymbols:
    """Translates the sizes of one exported method."""

    def __init__(
        self, owner: Symbols, constraints: Mapping[Any, Any], named: Mapping[sympy.Symbol, tuple[str, int]]
    ) -> None:
        self._owner, self._named = owner, named
        self._constraints = {k: v for k, v in constraints.items() if isinstance(k, sympy.Symbol)}
        self._ours: dict[sympy.Symbol, Index] = {}
        self._numbers: set[sympy.Symbol] = set()
        self.most: dict[Index, Index] = {}
        self.equal: dict[sympy.Symbol, set[sympy.Symbol]] = {}
        self.region: Region | None = None
        self._extremes: dict[Index, Bounds] = {}

    @property
    def ranges(self) -> Mapping[Index, Range]:
        if self.region is None:
            return self._owner.ranges
        found = dict(self._owner.ranges)
        for s, r in self.region.ranges.items():
            most = [m for m in (r.max, found[s].max) if m is not None]
            found[s] = Range(r.min, min(most, default=None))
        return found

    def points(self, symbols: Iterable[Index]) -> Iterator[Mapping[Index, int]]:
        """See `points`; those of the region."""
        return (at for at in points(symbols, self.ranges) if self.region is None or self.region.has(at))

    def of_two_or_more(self) -> MethodSymbols:
        """These symbols with the ranges that torch.export takes by default: without 0 and 1."""
        made = copy.copy(self)
        made._owner = copy.copy(self._owner)
        made._owner.ranges = {s: Range(max(r.min, 2), r.max) for s, r in self.ranges.items()}
        made.region = None if self.region is None else replace(self.region, declared=made._owner.ranges)
        return made

    def narrowed(self, constraints: Mapping[Any, Any]) -> Iterator[Any]:
        """What torch's range_constraints say of the sizes of a region that does not follow from it."""
        for s, constraint in constraints.items() if self.region is not None else ():
            found = _range(constraint)
            if s in self._ours and found.max is not None:
                yield in_sympy(self._ours[s]) <= found.max
            if s in self._ours and found.min > 2:  # below, torch's own
                yield in_sympy(self._ours[s]) >= found.min

    def clamps(self) -> dict[Index, Index]:
        """For sizes of which a region has less than is declared, what is equal to them there and in the region's range
        everywhere. Raises UnsupportedSize.
        """
        assert self.region is not None
        found: dict[Index, Index] = {}
        for s, own in self.region.ranges.items():
            if own == self._owner.ranges[s]:
                continue
            self._owner.limit(s, float_sizes.LARGEST)
            whole, declared = MethodSymbols(self._owner, {}, {}), self._owner.ranges[s]
            e = s
            if own.min > declared.min:
                e = own.min + whole.positive_part(e - own.min)
            if own.max is not None and own.max < (declared.max or 0):
                e = e - whole.positive_part(e - own.max)
            found[s] = e
        return found

    def introduce(self, expr: Any) -> None:
        """Define the symbols of an input's size, in order of appearance."""
        for s in sorted(_sympy(expr).free_symbols, key=str):
            self._symbol(s)

    def introduce_number(self, expr: Any, name: str) -> Index:
        """The symbol that an int argument of that name gives: it may be 0 or 1 as well, whatever torch assumes; greater
        than what the model's checks allow it is not.
        """
        s = _sympy(expr)
        if self.region is not None and s in self._ours:
            self._numbers.add(s)
            return self._ours[s]
        if not isinstance(s, sympy.Symbol) or s in self._ours:
            raise UnsupportedSize(f"the int argument {name!r} is tied to another size")
        self._ours[s] = self._owner.define(identifier(name), Range(0, _range(self._constraints.get(s)).max))
        self._numbers.add(s)
        return self._ours[s]

    def measured(self, size: Any, most: Dim | None) -> Index:
        """A symbol for a size that data decide, 0 to `most`; size: what it is for torch, None if that has none."""
        bound = None if most is None else self.range(most)
        made = self._owner.define(None, Range(0, None if bound is None or bound[1] == math.inf else int(bound[1])), "u")
        if size is not None:
            self._ours[_sympy(size)] = made
        return made

    def known(self, size: Any) -> Dim | None:
        """A size that data decide for torch as it is known already: a number, measured before, or equal to one that was
        as torch asserts: from now on both are one symbol. None if it is not.
        """
        if isinstance(size, int):
            return size
        s = None if size is None else _sympy(size)
        others = self.equal.get(s, set()) & self._ours.keys()
        if s not in self._ours and others:
            self._ours[s] = self._ours[min(others, key=str)]
        return self._ours.get(s)

    @contextmanager
    def branch(self) -> Iterator[None]:
        """What is measured inside has no value elsewhere, though torch may have one symbol for both."""
        before = set(self._ours)
        yield
        for s in [s for s in self._ours if s not in before and OF_DATA.match(s.name)]:
            del self._ours[s]

    def identify(self, size: Any, found: Dim) -> None:
        """Note what a size is for which torch has a symbol of its own, as for the results of a branch."""
        s = _sympy(size)
        if isinstance(found, Index) and s not in self._ours and OF_DATA.match(str(s)):
            self._ours[s] = found

    def axis_of_data(self, shape: Sequence[Any]) -> int | None:
        """The only axis whose size is a number that torch reads from tensors."""
        found = [a for a, n in enumerate(shape) if OF_DATA.match(str(_sympy(n)))]
        return found[0] if len(found) == 1 else None

    def is_torch_minimum(self, relation: Any) -> bool:
        """Whether a guard is only torch's own rule that symbolic ints are 2 or more, or what it asks of memory for that
        reason: no shape here depends on it (`squeeze` asks for itself).
        """
        if not relation.free_symbols & self._numbers:
            return False
        if isinstance(relation, sympy.And):
            return all(self.is_torch_minimum(r) for r in relation.args)
        if not isinstance(relation, sympy.core.relational.Relational):
            return False
        coefficient, rest = relation.lhs.as_coeff_Mul()
        product = bool(coefficient > 0) and all(f.is_Symbol for f in sympy.Mul.make_args(rest))
        bounds = {sympy.Ne: (0, 1), sympy.Ge: (2,), sympy.Gt: (1,)}
        return product and relation.rhs in bounds.get(relation.func, ())

    def may_be_negative(self, size: Dim) -> bool:
        """Whether a size that an int argument takes part in may come out below 0 for a small one."""
        if isinstance(size, int) or not size.symbols & self._of_numbers:
            return False
        found = self.range(size)
        return found is None or found[0] < 0

    @property
    def _of_numbers(self) -> set[Index]:
        """Symbols that int arguments give."""
        return {s for number in self._numbers for s in self._ours[number].symbols}

    def knows(self, symbols: Iterable[sympy.Symbol]) -> bool:
        """Whether these torch symbols are all sizes of inputs (those of numbers that capture fixed are not)."""
        return all(s in self._ours for s in symbols)

    def dim(self, size: Any) -> Dim:
        """A torch size (int or SymInt or its expression) as a Dim. Raises UnsupportedSize."""
        if isinstance(size, int):
            return size
        made = in_whole_numbers(self.rational(size))
        if made is None or made[1] != 1:
            raise UnsupportedSize(f"the size {size} is no integer expression")
        return dim(made[0])

    def rational(self, size: Any) -> sympy.Expr:
        """A torch size expression as plain sympy in the Program's symbols; it may have fractions. Raises
        UnsupportedSize.
        """
        return self._convert(_sympy(size))

    def largest(self, *sizes: Dim) -> Dim:
        """The largest of sizes in our symbols. Raises UnsupportedSize."""
        return dim(self._extreme("Max", [Index.of(n) for n in sizes]))

    def least(self, *sizes: Dim) -> Dim:
        """The least of sizes in our symbols. Raises UnsupportedSize."""
        return dim(self._extreme("Min", [Index.of(n) for n in sizes]))

    def range(self, size: Dim) -> Bounds | None:
        """See `bounds`; tighter for what `largest` and `least` have given."""
        e = Index.of(size)
        found, known = bounds(e, self.ranges), self._extremes.get(e)
        if found is None or known is None:
            return found or known
        return max(found[0], known[0]), min(found[1], known[1])

    def _symbol(self, s: sympy.Symbol) -> Index:
        if s not in self._ours:
            if OF_DATA.match(s.name):
                raise UnsupportedSize("a size that depends on the values of tensors")
            if self.region is not None:
                raise UnsupportedSize("a size that no input has")
            found = _range(self._constraints.get(s))
            if s in self._named:
                name, least = self._named[s]
                self._ours[s] = self._owner.define(identifier(name), Range(min(found.min, least), found.max))
            else:
                self._ours[s] = self._owner.define(None, found)
        return self._ours[s]

    def _convert(self, e: Any) -> sympy.Expr:
        if isinstance(e, sympy.Symbol):
            return in_sympy(self._symbol(e))
        if isinstance(e, sympy.Float):
            return sympy.Rational(float(e))
        if not e.args:
            return e
        name = type(e).__name__
        if name in float_sizes.ROUNDED and not float_sizes.exact(e):
            return self._rounded(e)
        args = [self._convert(a) for a in e.args]
        if name in FLOOR_DIVISIONS:
            return sympy.floor(sympy.expand(args[0]) / args[1])
        if name in REMAINDERS:
            return remainder(args[0], args[1])
        if name == "ModularIndexing":
            return remainder(sympy.floor(sympy.expand(args[0]) / args[1]), args[2])
        if name in ("IntTrueDiv", "FloatTrueDiv"):
            return args[0] / args[1]
        if name in TRANSPARENT:
            return args[0]
        if name in TRUNCATIONS:
            return sympy.floor(args[0])
        if name in ("CeilToInt", "ceiling"):
            return -sympy.floor(-args[0])
        if name in ("PowByNatural", "Pow"):
            return args[0] ** args[1]
        if name in ("Max", "Min"):
            return self._chosen(name, args)
        if isinstance(e, (sympy.Add, sympy.Mul, sympy.floor, sympy.Mod)):
            return e.func(*args)
        raise UnsupportedSize(f"the size expression {e} ({name})")

    def _rounded(self, e: Any) -> sympy.Expr:
        """A size that torch computes in doubles, of one symbol, as a floor division."""
        symbols = list(e.free_symbols)
        form = None
        if len(symbols) == 1:
            n = self._symbol(symbols[0])
            form = float_sizes.whole(e, symbols[0], _limits(self.range(n)))
        if form is None:
            raise UnsupportedSize(
                f"the size {e} is computed in floating point, and no whole-number formula gives it for every size in "
                "the declared range: declare a smaller range (torch.export.Dim with max), or compute it in integers, "
                "such as n * 7 // 10"
            )
        for s in n.symbols:
            self._owner.limit(s, float_sizes.LARGEST)
        return form.subs(symbols[0], in_sympy(n))

    def check(self, node: Any) -> None:
        """Raises UnsupportedSize if torch simplified the doubles that an integer of the graph comes from, and so gives
        another integer than Python.
        """
        symbols = list(node.meta["val"].node.expr.free_symbols)
        found = [self.range(self._symbol(s)) for s in symbols]
        torchs = symbols[0] if len(symbols) == 1 else None
        at = float_sizes.folded(node, torchs, Range() if torchs is None else _limits(found[0]))
        if at is not None:
            where = f", which is another integer where the size is {at}" if at >= 0 else ""
            raise UnsupportedSize(
                f"a size is computed in floating point in several steps, which torch simplifies to "
                f"{node.meta['val'].node.expr}{where}: multiply by one constant, or compute it in integers, such as "
                "n * 7 // 10"
            )

    def _chosen(self, name: str, args: list[sympy.Expr]) -> sympy.Expr:
        made = [m for m in map(in_whole_numbers, args) if m is not None]
        if len(made) < len(args):
            raise UnsupportedSize(f"{name} of {', '.join(map(str, args))}")
        scale = math.lcm(*(n for _, n in made))
        found = self._extreme(name, [e * (scale // n) for e, n in made])
        chosen = in_sympy(found) / scale
        whole = in_whole_numbers(chosen)  # as `range` will be asked: sympy may know a simpler form
        if whole is not None and whole[1] == scale and found in self._extremes:
            self._extremes[whole[0]] = self._extremes[found]
        return chosen

    def _extreme(self, name: str, args: list[Index]) -> Index:
        """max or min: where the ranges decide which, that one; else by `positive_part`."""
        found, choose = args[0], max if name == "Max" else min
        for a in args[1:]:
            first, second = self.range(found), self.range(a)
            found = found + self.positive_part(a - found) if name == "Max" else found - self.positive_part(found - a)
            if any(isinstance(x, Div) for x in found.inside) and first is not None and second is not None:
                self._extremes[found] = choose(first[0], second[0]), choose(first[1], second[1])
        return found

    def positive_part(self, e: Index) -> Index:
        """max(e, 0) as index arithmetic can hold it: e · floor((e + m) / m), for an m above |e|. Of e and −e the one
        whose first coefficient is positive is taken, so that equal sizes are equal expressions.
        """
        found = self.range(e)
        if found is not None and found[0] >= 0:
            return e
        if found is not None and found[1] <= 0:
            return Index.of(0)
        first = min((k for k in e.terms if k), key=lambda k: str(Index({k: 1})))
        if e.terms[first] < 0:
            return e + self.positive_part(-e)
        reach = max(map(abs, found)) if found is not None else math.inf
        endless = {s for s in e.symbols if self.ranges[s].max is None}
        if reach == math.inf and endless and endless <= self._of_numbers:
            for s in endless:
                self._owner.limit(s, GREATEST_INT)
            return self.positive_part(e)
        if reach == math.inf:
            raise UnsupportedSize(f"whether {e} is below 0: declare the size's range (torch.export.Dim with max)")
        m = 1 << int(reach).bit_length()
        return e * ((e + m) // m)


def plain_symbol(s: Index) -> sympy.Symbol:
    """A size symbol of the Program for sympy."""
    return sympy.Symbol(str(s), integer=True, nonnegative=True)


def in_whole_numbers(e: sympy.Expr) -> tuple[Index, int] | None:
    """A plain expression times the least n that leaves no fraction outside of floors, and n; None if index arithmetic
    cannot hold it.
    """
    if isinstance(e, sympy.Symbol):
        return symbol(e.name), 1
    if e.is_Rational:
        return Index.of(int(e.p)), int(e.q)
    parts = [in_whole_numbers(a) for a in (e.args[0].as_numer_denom() if isinstance(e, sympy.floor) else e.args)]
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        return None
    scale = math.lcm(*(n for _, n in known))
    numbers = [x * (scale // n) for x, n in known]
    if isinstance(e, sympy.Add):
        return _reduced(sum(numbers, Index.of(0)), scale)
    if isinstance(e, sympy.Mul):
        return _reduced(math.prod((x for x, _ in known), start=Index.of(1)), math.prod(n for _, n in known))
    if isinstance(e, sympy.Pow) and e.exp.is_Integer and e.exp > 0:
        return known[0][0] ** int(e.exp), known[0][1] ** int(e.exp)
    if isinstance(e, sympy.floor) and numbers[1] != 0:
        return numbers[0] // numbers[1], 1
    if isinstance(e, sympy.Mod) and numbers[1] != 0:
        return _reduced(numbers[0] % numbers[1], scale)
    return None


def _reduced(e: Index, n: int) -> tuple[Index, int]:
    g = math.gcd(n, *e.terms.values())
    return Index({k: c // g for k, c in e.terms.items()}), n // g


def in_sympy(e: Index) -> sympy.Expr:
    """An Index of sizes as plain sympy."""

    def of(a: Any) -> sympy.Expr:
        if isinstance(a, Div):
            return sympy.floor(in_sympy(a.num) / in_sympy(a.den))
        return sympy.Mod(in_sympy(a.num), in_sympy(a.den)) if isinstance(a, Mod) else plain_symbol(Index.of(a))

    return sympy.Add(*(sympy.Mul(c, *map(of, k)) for k, c in e.terms.items()))


def _congruent(e: sympy.Expr, m: sympy.Expr) -> sympy.Expr:
    """e, or what differs from it by multiples of m: without remainders of m in its sums and products."""
    if isinstance(e, sympy.Mod) and e.args[1] == m:
        return e.args[0]
    return e.func(*(_congruent(a, m) for a in e.args)) if isinstance(e, (sympy.Add, sympy.Mul)) else e


def remainder(e: sympy.Expr, m: sympy.Expr) -> sympy.Expr:
    """e modulo m. That of −n is m ⌈n/m⌉ − n, so that n and the padding of n to a multiple of m are such a multiple."""
    e = sympy.expand(_congruent(sympy.expand(e), m))
    terms = [t.as_coeff_Mul() for t in sympy.Add.make_args(e)]
    if not m.is_Integer or m <= 0 or not all(c.is_Integer for c, _ in terms) or in_whole_numbers(e) is None:
        return sympy.Mod(e, m)
    near = sympy.Add(*(((c + (m - 1) // 2) % m - (m - 1) // 2) * t for c, t in terms))
    varying = [t.as_coeff_Mul() for t in sympy.Add.make_args(near) if t.free_symbols]
    if not varying or min(varying, key=lambda t: str(t[1]))[0] > 0:
        return sympy.Mod(near, m)
    return sympy.expand(m * sympy.floor((m - 1 - near) / m) + near)


def identifier(name: str) -> str:
    """The user's name as one that C and Python accept."""
    name = re.sub(r"\W", "_", name).strip("_") or "size"
    if name[0].isdigit() or keyword.iskeyword(name) or name in RESERVED:
        name = f"size_{name}"
    return name


def points(symbols: Iterable[Index], ranges: Mapping[Index, Range]) -> list[dict[Index, int]]:
    """A few assignments of sizes within the ranges, for checks of what algebra cannot decide: all combinations of the
    least two of each of up to three symbols, and some that grow at different rates.
    """
    ordered = sorted(symbols, key=str)
    near = [steps for steps in product((0, 1), repeat=len(ordered)) if len(ordered) <= 3 and len(set(steps)) > 1]
    far = [tuple(k * (j + 1) for j in range(len(ordered))) for k in (2, 5, 11, 30, 97)]
    same = [(0,) * len(ordered), (1,) * len(ordered)]
    least = [ranges.get(s, Range()) for s in ordered]
    return [
        {
            s: r.min + k if r.max is None else min(r.min + k, r.max)
            for s, r, k in zip(ordered, least, steps, strict=True)
        }
        for steps in (*same, *near, *far)
    ]


def _limits(found: Bounds | None) -> Range:
    low, high = found or (0, math.inf)
    return Range(int(low), None if high == math.inf else int(high))


def _sympy(size: Any) -> sympy.Expr:
    node = getattr(size, "node", None)
    return sympy.sympify(size if node is None else node.expr)


def _range(constraint: Any) -> Range:
    if constraint is None:
        return Range()
    low, high = constraint.lower, constraint.upper
    return Range(
        max(0, int(low)) if low.is_Integer else 0,
        int(high) if getattr(high, "is_Integer", False) and high < 2**62 else None,
    )
