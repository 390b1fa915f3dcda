"""Sizes: torch's symbolic expressions as plain sympy ones in renamed symbols, with the range of each symbol."""

from __future__ import annotations

import copy
import keyword
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import sympy

from neve.capture import float_sizes
from neve.ir.index import Index
from neve.ir.types import Dim, Range, dim, floored, symbol

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
        self.ranges: dict[sympy.Symbol, Range] = {}
        self._declared: dict[sympy.Symbol, Range] = {}
        self._anonymous = 0

    def method(self, constraints: Mapping[Any, Any], named: Mapping[sympy.Symbol, tuple[str, int]]) -> MethodSymbols:
        """The symbols of a method; constraints: its range_constraints; named: torch symbol → the
        user's name, and the least size that was declared.
        """
        return MethodSymbols(self, constraints, named)

    def define(self, wanted: str | None, range: Range) -> sympy.Symbol:
        """A symbol of that range; the same one again for the same name and range."""
        if wanted is None:
            while symbol(f"s{self._anonymous}") in self.ranges:
                self._anonymous += 1
            wanted = f"s{self._anonymous}"
        name, i = wanted, 1
        while self._declared.get(symbol(name), range) != range:
            name, i = f"{wanted}_{i}", i + 1
        self._declared[symbol(name)] = range
        self.ranges.setdefault(symbol(name), range)
        return symbol(name)

    def limit(self, s: sympy.Symbol, last: int) -> None:
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
        self._ours: dict[sympy.Symbol, sympy.Symbol] = {}
        self._numbers: set[sympy.Symbol] = set()
        self._extremes: dict[sympy.Expr, tuple[float, float]] = {}

    @property
    def ranges(self) -> Mapping[sympy.Symbol, Range]:
        return self._owner.ranges

    def of_two_or_more(self) -> MethodSymbols:
        """These symbols with the ranges that torch.export takes by default: without 0 and 1."""
        made = copy.copy(self)
        made._owner = copy.copy(self._owner)
        made._owner.ranges = {s: Range(max(r.min, 2), r.max) for s, r in self.ranges.items()}
        return made

    def introduce(self, expr: Any) -> None:
        """Define the symbols of an input's size, in order of appearance."""
        for s in sorted(_sympy(expr).free_symbols, key=str):
            self._symbol(s)

    def introduce_number(self, expr: Any, name: str) -> sympy.Symbol:
        """The symbol that an int argument of that name gives: it may be 0 or 1 as well, whatever torch assumes; greater
        than what the model's checks allow it is not.
        """
        s = _sympy(expr)
        if not isinstance(s, sympy.Symbol) or s in self._ours:
            raise UnsupportedSize(f"the int argument {name!r} is tied to another size")
        self._ours[s] = self._owner.define(identifier(name), Range(0, _range(self._constraints.get(s)).max))
        self._numbers.add(s)
        return self._ours[s]

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
        if isinstance(size, int) or not size.free_symbols & {self._ours[s] for s in self._numbers}:
            return False
        found = self.range(size)
        return found is None or found[0] < 0

    def knows(self, symbols: Iterable[sympy.Symbol]) -> bool:
        """Whether these torch symbols are all sizes of inputs (those of numbers that capture fixed are not)."""
        return all(s in self._ours for s in symbols)

    def dim(self, size: Any) -> Dim:
        """A torch size (int or SymInt or its expression) as a Dim. Raises UnsupportedSize."""
        if isinstance(size, int):
            return size
        e = self.rational(size)
        if not _is_integer_form(e):
            raise UnsupportedSize(f"the size {size} is no integer expression")
        return dim(e)

    def rational(self, size: Any) -> sympy.Expr:
        """A torch size expression as plain sympy; it may have fractions. Raises UnsupportedSize."""
        return self._convert(_sympy(size))

    def largest(self, *sizes: Dim) -> Dim:
        """The largest of sizes in our symbols. Raises UnsupportedSize."""
        return dim(self._extreme("Max", [sympy.sympify(n) for n in sizes]))

    def least(self, *sizes: Dim) -> Dim:
        """The least of sizes in our symbols. Raises UnsupportedSize."""
        return dim(self._extreme("Min", [sympy.sympify(n) for n in sizes]))

    def range(self, e: sympy.Expr) -> tuple[float, float] | None:
        """See `bounds`; tighter for what `largest` and `least` have given."""
        found, known = bounds(e, self._owner.ranges), self._extremes.get(sympy.expand(e))
        if found is None or known is None:
            return found or known
        return max(found[0], known[0]), min(found[1], known[1])

    def _symbol(self, s: sympy.Symbol) -> sympy.Symbol:
        if s not in self._ours:
            if re.match(r"(u|zuf|zf)\d", s.name):
                raise UnsupportedSize("a size that depends on the values of tensors")
            found = _range(self._constraints.get(s))
            if s in self._named:
                name, least = self._named[s]
                self._ours[s] = self._owner.define(identifier(name), Range(min(found.min, least), found.max))
            else:
                self._ours[s] = self._owner.define(None, found)
        return self._ours[s]

    def _convert(self, e: Any) -> sympy.Expr:
        if isinstance(e, sympy.Symbol):
            return self._symbol(e)
        if isinstance(e, sympy.Float):
            return sympy.Rational(float(e))
        if not e.args:
            return e
        name = type(e).__name__
        if name in float_sizes.ROUNDED and not float_sizes.exact(e):
            return self._rounded(e)
        args = [self._convert(a) for a in e.args]
        if name in FLOOR_DIVISIONS:
            return floored(sympy.expand(args[0]) / args[1])
        if name in REMAINDERS:
            return remainder(args[0], args[1])
        if name == "ModularIndexing":
            return remainder(sympy.floor(sympy.expand(args[0]) / args[1]), args[2])
        if name in ("IntTrueDiv", "FloatTrueDiv"):
            return args[0] / args[1]
        if name in TRANSPARENT:
            return args[0]
        if name in TRUNCATIONS:
            return floored(args[0])
        if name in ("CeilToInt", "ceiling"):
            return -floored(-args[0])
        if name in ("PowByNatural", "Pow"):
            return args[0] ** args[1]
        if name in ("Max", "Min"):
            return self._extreme(name, args)
        if isinstance(e, (sympy.Add, sympy.Mul, sympy.floor, sympy.Mod)):
            return e.func(*args)
        raise UnsupportedSize(f"the size expression {e} ({name})")

    def _rounded(self, e: Any) -> sympy.Expr:
        """A size that torch computes in doubles, of one symbol, as a floor division."""
        symbols = list(e.free_symbols)
        form = None
        if len(symbols) == 1:
            n = self._symbol(symbols[0])
            form = float_sizes.whole(e, symbols[0], self._owner.ranges.get(n, Range()))
        if form is None:
            raise UnsupportedSize(
                f"the size {e} is computed in floating point, and no whole-number formula gives it for every size in "
                "the declared range: declare a smaller range (torch.export.Dim with max), or compute it in integers, "
                "such as n * 7 // 10"
            )
        self._owner.limit(n, float_sizes.LARGEST)
        return form.subs(symbols[0], n)

    def check(self, node: Any) -> None:
        """Raises UnsupportedSize if torch simplified the doubles that an integer of the graph comes from, and so gives
        another integer than Python.
        """
        symbols = [self._symbol(s) for s in node.meta["val"].node.expr.free_symbols]
        n = symbols[0] if len(symbols) == 1 else None
        torchs = next(iter(node.meta["val"].node.expr.free_symbols)) if n is not None else None
        at = float_sizes.folded(node, torchs, Range() if n is None else self._owner.ranges[n])
        if at is not None:
            where = f", which is another integer where the size is {at}" if at >= 0 else ""
            raise UnsupportedSize(
                f"a size is computed in floating point in several steps, which torch simplifies to "
                f"{node.meta['val'].node.expr}{where}: multiply by one constant, or compute it in integers, such as "
                "n * 7 // 10"
            )

    def _extreme(self, name: str, args: list[sympy.Expr]) -> sympy.Expr:
        """max or min: where the ranges decide which, that one; else by `positive_part`."""
        found, choose = args[0], max if name == "Max" else min
        for a in args[1:]:
            first, second = self.range(found), self.range(a)
            found = found + self.positive_part(a - found) if name == "Max" else found - self.positive_part(found - a)
            found = sympy.expand(found)
            if found.has(sympy.floor) and first is not None and second is not None:
                self._extremes[found] = choose(first[0], second[0]), choose(first[1], second[1])
        return found

    def positive_part(self, e: sympy.Expr) -> sympy.Expr:
        """max(e, 0) as index arithmetic can hold it: e · floor((e + m) / m), for an m above |e|. Of e and −e the one
        whose first coefficient is positive is taken, so that equal sizes are equal expressions.
        """
        e = sympy.expand(e)
        found = self.range(e)
        if found is not None and found[0] >= 0:
            return e
        if found is not None and found[1] <= 0:
            return sympy.Integer(0)
        terms = [t.as_coeff_Mul() for t in sympy.Add.make_args(e) if t.free_symbols]
        if min(terms, key=lambda t: str(t[1]))[0] < 0:
            return sympy.expand(e + self.positive_part(-e))
        if not _is_integer_form(e):
            raise UnsupportedSize(f"max({e}, 0) of what is no integer")
        reach = max(abs(x) for x in found) if found is not None else float("inf")
        endless = {s for s in e.free_symbols if self.ranges[s].max is None}
        if reach == float("inf") and endless and endless <= {self._ours[s] for s in self._numbers}:
            for s in endless:
                self._owner.limit(s, GREATEST_INT)
            return self.positive_part(e)
        if reach == float("inf"):
            raise UnsupportedSize(f"whether {e} is below 0: declare the size's range (torch.export.Dim with max)")
        m = 1 << int(reach).bit_length()
        return sympy.expand(e * sympy.floor((e + m) / m))


def _congruent(e: sympy.Expr, m: sympy.Expr) -> sympy.Expr:
    """e, or what differs from it by multiples of m: without remainders of m in its sums and products."""
    if isinstance(e, sympy.Mod) and e.args[1] == m:
        return e.args[0]
    return e.func(*(_congruent(a, m) for a in e.args)) if isinstance(e, (sympy.Add, sympy.Mul)) else e


def remainder(e: sympy.Expr, m: sympy.Expr) -> sympy.Expr:
    """e modulo m. That of −n is m ⌈n/m⌉ − n, so that n and the padding of n to a multiple of m are such a multiple."""
    e = sympy.expand(_congruent(sympy.expand(e), m))
    terms = [t.as_coeff_Mul() for t in sympy.Add.make_args(e)]
    if not m.is_Integer or m <= 0 or not all(c.is_Integer for c, _ in terms) or not _is_integer_form(e):
        return sympy.Mod(e, m)
    near = sympy.Add(*(((c + (m - 1) // 2) % m - (m - 1) // 2) * t for c, t in terms))
    varying = [t.as_coeff_Mul() for t in sympy.Add.make_args(near) if t.free_symbols]
    if not varying or min(varying, key=lambda t: str(t[1]))[0] > 0:
        return sympy.Mod(near, m)
    return sympy.expand(m * sympy.floor((m - 1 - near) / m) + near)


ALL = 1 << 13
"""So many combinations of sizes are tried one by one."""


@lru_cache(maxsize=4096)
def _over(e: sympy.Expr, ranges: tuple[tuple[sympy.Symbol, Range], ...]) -> np.ndarray | None:
    count = 1
    for _, r in ranges:
        count *= ALL + 1 if r.max is None else max(r.max - r.min + 1, 0)
    terms = [t.as_coeff_Mul() for t in sympy.Add.make_args(sympy.expand(e))]
    if not 0 < count <= ALL or not all(c.is_Rational for c, _ in terms):
        return None
    scale = math.lcm(*(int(c.q) for c, _ in terms))
    whole = sympy.Add(*(c * scale * t for c, t in terms))
    if not _is_integer_form(whole):
        return None
    grid = np.meshgrid(*(np.arange(r.min, r.max + 1) for _, r in ranges if r.max is not None), indexing="ij")
    env = {s.name: g.ravel() for (s, _), g in zip(ranges, grid, strict=True)}
    with np.errstate(all="ignore"):
        return np.broadcast_to(Index.of(whole).value(env), (count,)) / scale


def over_ranges(e: sympy.Expr, ranges: Mapping[sympy.Symbol, Range]) -> np.ndarray | None:
    """e at all combinations of its symbols' sizes; None if these are too many, or e is no integer arithmetic."""
    of = tuple((s, ranges.get(s, Range())) for s in sorted(e.free_symbols, key=str))
    try:
        return _over(e, of) if of else None
    except (ValueError, ZeroDivisionError):
        return None


def bounds(e: sympy.Expr, ranges: Mapping[sympy.Symbol, Range]) -> tuple[float, float] | None:
    """Inclusive bounds of e; inf if unbounded, None if unknown. Tight where every symbol occurs with one sign, and
    where the combinations of sizes are few.
    """
    e = sympy.expand(e)
    if not e.has(sympy.floor, sympy.Mod):
        return _term_bounds(e, ranges)
    everywhere = over_ranges(e, ranges)
    if everywhere is not None:
        return float(everywhere.min()), float(everywhere.max())
    found = [
        b for b in (_term_bounds(e, ranges), _part_bounds(e, ranges), _quotient_bounds(e, ranges)) if b is not None
    ]
    return (max(low for low, _ in found), min(high for _, high in found)) if found else None


def _part_bounds(e: sympy.Expr, ranges: Mapping[sympy.Symbol, Range]) -> tuple[float, float] | None:
    """Of an expression with what `positive_part` makes: for |x| < m, x · ⌊x/m + 1⌋ is max(x, 0), and x · ⌊x/m⌋ is
    max(x, 0) − x; and max(x, 0) is x + max(−x, 0).
    """
    for step in sorted(e.atoms(sympy.floor), key=str):
        factor, quotient = e.coeff(step), sympy.expand(step.args[0])
        rest = sympy.expand(e - factor * step)
        m = math.lcm(*(int(t.as_coeff_Mul()[0].q) for t in sympy.Add.make_args(quotient)))
        for whole in (1, 0):
            part = sympy.expand((quotient - whole) * m)
            times = sympy.cancel(factor / part) if factor.free_symbols and part != 0 else None
            if times is None or not times.is_Integer or rest.has(step):
                continue
            inner = bounds(part, ranges)
            if inner is None or max(map(abs, inner)) >= m:
                continue
            found = []
            for sign in (1, -1):
                outer = bounds(sympy.expand(rest + (whole - 1 + (sign < 0)) * factor), ranges)
                ends = sorted(float(times) * max(sign * x, 0.0) for x in inner)
                found += [] if outer is None else [(outer[0] + ends[0], outer[1] + ends[1])]
            if found:
                return max(low for low, _ in found), min(high for _, high in found)
    return None


def _quotient_bounds(e: sympy.Expr, ranges: Mapping[sympy.Symbol, Range]) -> tuple[float, float] | None:
    """With each floor(n/m) as (n − r)/m, 0 <= r < m: what cancels n."""
    left: dict[sympy.Symbol, Range] = dict(ranges)
    values = {}
    for k, quotient in enumerate(sorted(e.atoms(sympy.floor), key=str)):
        terms = [t.as_coeff_Mul() for t in sympy.Add.make_args(sympy.expand(quotient.args[0]))]
        if not all(c.is_Rational for c, _ in terms) or quotient.args[0].has(sympy.floor, sympy.Mod):
            return None
        m = math.lcm(*(int(c.q) for c, _ in terms))
        rest = sympy.Symbol(f"_rest{k}", integer=True, nonnegative=True)
        left[rest] = Range(0, m - 1)
        values[quotient] = quotient.args[0] - rest / m
    return _term_bounds(sympy.expand(e.subs(values)), left) if values else None


def _term_bounds(e: sympy.Expr, ranges: Mapping[sympy.Symbol, Range]) -> tuple[float, float] | None:
    low: Any = 0
    high: Any = 0
    for term in sympy.Add.make_args(e):
        c, rest = term.as_coeff_Mul()
        lo: Any = 1
        hi: Any = 1
        for factor in sympy.Mul.make_args(rest):
            b = _factor_bounds(factor, ranges)
            if b is None:
                return None
            lo, hi = lo * b[0], hi * b[1] if b[1] and hi else 0
        low, high = (low + c * lo, high + c * hi) if c > 0 else (low + c * hi if hi else low, high + c * lo)
    return float(low), float(high)


def _factor_bounds(f: sympy.Expr, ranges: Mapping[sympy.Symbol, Range]) -> tuple[float, float] | None:
    if f.is_Integer:
        return (int(f), int(f)) if f >= 0 else None
    if isinstance(f, sympy.Symbol):
        r = ranges.get(f, Range())
        return r.min, float("inf") if r.max is None else r.max
    if isinstance(f, sympy.floor):
        b = bounds(f.args[0], ranges)
        return None if b is None or b[0] < 0 else (b[0] // 1, b[1] if b[1] == float("inf") else b[1] // 1)
    if isinstance(f, sympy.Mod) and f.args[1].is_Integer and f.args[1] > 0:
        return 0, int(f.args[1]) - 1
    if isinstance(f, sympy.Pow) and f.exp.is_Integer and f.exp > 0:
        b = _factor_bounds(f.base, ranges)
        return None if b is None or b[0] < 0 else (b[0] ** int(f.exp), b[1] ** int(f.exp))
    return None


def identifier(name: str) -> str:
    """The user's name as one that C and Python accept."""
    name = re.sub(r"\W", "_", name).strip("_") or "size"
    if name[0].isdigit() or keyword.iskeyword(name) or name in RESERVED:
        name = f"size_{name}"
    return name


def points(symbols: Iterable[sympy.Symbol], ranges: Mapping[sympy.Symbol, Range]) -> list[dict[sympy.Symbol, int]]:
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


def _sympy(size: Any) -> sympy.Expr:
    node = getattr(size, "node", None)
    return sympy.sympify(size if node is None else node.expr)


def _is_integer_form(e: sympy.Expr) -> bool:
    """Whether index arithmetic can hold e: an integer polynomial over symbols, floors and remainders."""
    for term in sympy.Add.make_args(sympy.expand(e)):
        for f in sympy.Mul.make_args(term):
            if f.is_Integer or isinstance(f, (sympy.Symbol, sympy.floor, sympy.Mod)):
                continue
            base = f.base if isinstance(f, sympy.Pow) and f.exp.is_Integer and f.exp > 0 else None
            if isinstance(base, (sympy.Symbol, sympy.floor)):
                continue
            return False
    return True


def _range(constraint: Any) -> Range:
    if constraint is None:
        return Range()
    low, high = constraint.lower, constraint.upper
    return Range(
        max(0, int(low)) if low.is_Integer else 0,
        int(high) if getattr(high, "is_Integer", False) and high < 2**62 else None,
    )
