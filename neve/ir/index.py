"""Integer index expressions: polynomials over loop variables, size symbols, floor divisions and remainders.

Simplification is exact. Loop variables are known to be in 0..extent-1, sizes to be >= 0; floor division and remainder
are Python's. An Index is an immutable value: equal expressions in normal form are equal. str() of one is Python code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Union

import numpy as np

IndexLike = Union["Index", int]


@dataclass(frozen=True)
class Var:
    """A loop variable, 0 <= v < extent."""

    name: str
    extent: Index


@dataclass(frozen=True)
class Sym:
    """A size symbol."""

    name: str


@dataclass(frozen=True)
class Div:
    """floor(num / den), den > 0."""

    num: Index
    den: Index


@dataclass(frozen=True)
class Mod:
    """num - den * floor(num / den), den > 0."""

    num: Index
    den: Index


@dataclass(frozen=True)
class Data:
    """An index read from data: an integer-valued scalar expression, promised to be in 0..extent-1."""

    expr: Any
    extent: Index


Atom = Var | Sym | Div | Mod | Data
Substitution = Mapping[Any, IndexLike]
"""What stands for atoms. The key is Any because a Mapping is invariant in it: a mapping of Vars alone is one too."""


@lru_cache(maxsize=1 << 15)
def _order(a: Atom) -> str:
    """A text to sort by: the same in every process."""
    return f"{type(a).__name__} {a}" if not isinstance(a, Data) else f"Data {a.expr!r}"


class Index:
    """A polynomial with integer coefficients over atoms; supports + - * // % with Index and int."""

    __slots__ = ("__dict__", "_hash", "terms")

    def __init__(self, terms: Mapping[tuple[Atom, ...], int]) -> None:
        self.terms = {k: c for k, c in terms.items() if c}
        self._hash: int | None = None

    @staticmethod
    def of(x: Any) -> Index:
        """x (int, Index or atom) as an Index. Raises TypeError for anything else."""
        if isinstance(x, Index):
            return x
        if isinstance(x, (int, np.integer)):
            return Index({(): int(x)})
        if isinstance(x, (Var, Sym, Div, Mod, Data)):
            return Index({(x,): 1})
        raise TypeError(f"wanted an integer or an Index, got {type(x).__name__}: {x}")

    def __hash__(self) -> int:
        """That of the int for a constant, which is equal to it."""
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()) if self.const is None else self.const)
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int):
            return self.const == other
        return isinstance(other, Index) and self.terms == other.terms

    @cached_property
    def const(self) -> int | None:
        """The value if it is a constant, else None."""
        if not self.terms:
            return 0
        return self.terms[()] if len(self.terms) == 1 and () in self.terms else None

    def __index__(self) -> int:
        """The value of a constant. Raises TypeError for anything else."""
        if self.const is None:
            raise TypeError(f"the size {self} is not known here")
        return self.const

    def __add__(self, other: IndexLike) -> Index:
        out = dict(self.terms)
        for k, c in Index.of(other).terms.items():
            out[k] = out.get(k, 0) + c
        return Index(out)

    def __neg__(self) -> Index:
        return Index({k: -c for k, c in self.terms.items()})

    def __sub__(self, other: IndexLike) -> Index:
        return self + -Index.of(other)

    def __rsub__(self, other: IndexLike) -> Index:
        return Index.of(other) - self

    def __mul__(self, other: IndexLike) -> Index:
        out: dict[tuple[Atom, ...], int] = {}
        for k, c in self.terms.items():
            for k2, c2 in Index.of(other).terms.items():
                key = tuple(sorted(k + k2, key=_order)) if k and k2 else k + k2
                out[key] = out.get(key, 0) + c * c2
        return Index(out)

    __radd__, __rmul__ = __add__, __mul__

    def __floordiv__(self, other: IndexLike) -> Index:
        return divmod_(self, Index.of(other))[0]

    def __mod__(self, other: IndexLike) -> Index:
        return divmod_(self, Index.of(other))[1]

    def __rfloordiv__(self, other: int) -> Index:
        return Index.of(other) // self

    def __rmod__(self, other: int) -> Index:
        return Index.of(other) % self

    def __pow__(self, exponent: int) -> Index:
        return math.prod([self] * exponent, start=Index.of(1))

    @cached_property
    def vars(self) -> frozenset[Var]:
        """Every loop variable, also inside divisions and data."""
        return frozenset(v for k in self.terms for a in k for v in _atom_vars(a))

    @cached_property
    def inside(self) -> frozenset[Atom]:
        """Every atom, also inside divisions; what is inside data does not count."""
        own = frozenset(a for k in self.terms for a in k)
        return own.union(*(part.inside for a in own if isinstance(a, (Div, Mod)) for part in (a.num, a.den)))

    @cached_property
    def symbols(self) -> frozenset[Index]:
        """Every size symbol, each as an Index, also inside divisions; what is inside data does not count."""
        return frozenset(Index.of(a) for a in self.inside if isinstance(a, Sym))

    @property
    def is_symbol(self) -> bool:
        """Whether this is a size symbol and nothing else."""
        (k, c), *rest = self.terms.items() or [((), 0)]
        return not rest and c == 1 and len(k) == 1 and isinstance(k[0], Sym)

    def at(self, sizes: Mapping[Index, int]) -> int:
        """The value for the values of its symbols. Raises KeyError if one is missing, ZeroDivisionError."""
        return int(self.value({str(s): sizes[s] for s in self.symbols}))

    def atoms(self) -> Iterator[Atom]:
        for k in self.terms:
            yield from k

    def affine(self, v: Var) -> tuple[Index, Index] | None:
        """(stride, rest) with self = stride * v + rest and neither containing v; None if there is no such form."""
        stride: dict[tuple[Atom, ...], int] = {}
        rest: dict[tuple[Atom, ...], int] = {}
        for k, c in self.terms.items():
            n = k.count(v)
            others = tuple(a for a in k if a != v)
            if n > 1 or any(v in _atom_vars(a) for a in others):
                return None
            (stride if n else rest)[others] = c
        return Index(stride), Index(rest)

    def subs(self, values: Substitution) -> Index:
        """With atoms replaced, everywhere, and simplified again."""
        if not any(v in values for v in self.vars) and not any(a in values for a in self.inside):
            return self
        out = Index.of(0)
        for k, c in self.terms.items():
            t = Index.of(c)
            for a in k:
                t = t * _subs_atom(a, values)
            out = out + t
        return out

    def bound(self, upper: bool) -> Index:
        """An upper (or lower) bound in size symbols alone, tight for affine forms; atoms of unknown bound stay."""
        out = Index.of(0)
        for k, c in self.terms.items():
            t = Index.of(c)
            # of a product with what may be below 0, the bounds of its factors tell nothing
            known = len(k) == 1 or not any(isinstance(a, Div) and not a.num.nonnegative for a in k)
            for a in k:
                t = t * (_atom_bound(a, upper == (c > 0)) if known else Index.of(a))
            out = out + t
        return out

    @property
    def nonnegative(self) -> bool:
        """Provably >= 0."""
        low = self.bound(upper=False)
        return all(c >= 0 and all(isinstance(a, Sym) for a in k) for k, c in low.terms.items())

    def multiple_of(self, n: int) -> bool:
        return all(c % n == 0 for c in self.terms.values())

    def value(self, env: Mapping[str, Any], data: Callable[[Any], Any] | None = None) -> Any:
        """The value for variables and symbols by name (ints or numpy arrays); data evaluates scalar expressions."""
        total: Any = 0
        for k, c in self.terms.items():
            t: Any = c
            for a in k:
                t = t * _atom_value(a, env, data)
            total = total + t
        return total

    def __repr__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return show(self)

    def __str__(self) -> str:
        return python(self)


def divmod_(e: Index, d: Index) -> tuple[Index, Index]:
    """(e // d, e % d), simplified: what divides exactly leaves, a rest in 0..d-1 vanishes."""
    if d.const == 1:
        return e, Index.of(0)
    if d.const == 0:  # positions in an empty axis, which nothing asks for; as a size it has no value
        return Index.of(Div(e, d)), Index.of(Mod(e, d))
    if d.const is not None and d.const < 0:
        quotient, m = divmod_(-e, -d)
        return quotient, -m
    if e.const is not None and d.const:
        return Index.of(e.const // d.const), Index.of(e.const % d.const)
    whole: dict[tuple[Atom, ...], int] = {}
    rest: dict[tuple[Atom, ...], int] = {}
    for k, c in e.terms.items():
        q = _exact(k, c, d)
        if q is None and d.const and not k:
            whole[k] = whole.get(k, 0) + c // d.const
            rest[k] = c % d.const
        elif q is None:
            rest[k] = c
        else:
            whole[q[0]] = whole.get(q[0], 0) + q[1]
    w, r = Index(whole), Index(rest)
    if not r.terms or (r.nonnegative and (d - 1 - r.bound(upper=True)).nonnegative):
        return w, r
    # (g·x + n) // (g·d) is (x + n // g) // d, where n is a number; without one, g may have symbols
    n = r.terms.get((), 0) if d.const else 0
    g = _common(r - n, d)
    if g.const != 1:
        quotient, m = divmod_(_over(r - n, g) + n // (g.const or 1), _over(d, g))
        return w + quotient, m * g + n % (g.const or 1)
    if d.const and len(r.terms) == 1:
        ((k, c),) = r.terms.items()
        if len(k) == 1 and c == 1 and isinstance(k[0], Mod) and k[0].den.const and k[0].den.const % d.const == 0:
            return w + Index.of(Div(r, d)), k[0].num % d
    return w + _quotient(r, d), Index.of(Mod(r, d))


def _quotient(r: Index, d: Index) -> Index:
    """r // d, where (u // a + n) // d is (u + n * a) // (a * d) for numbers a and d above 0."""
    for k, c in r.terms.items() if d.const else ():
        inner = k[0] if len(k) == 1 and c == 1 else None
        if isinstance(inner, Div) and inner.den.const:
            return (inner.num + (r - Index.of(inner)) * inner.den) // (inner.den * d)
    return Index.of(Div(r, d))


def _common(r: Index, d: Index) -> Index:
    """The greatest monomial above 0 that divides every term of both."""
    terms = [*r.terms, *d.terms]
    shared = [a for a in dict.fromkeys(terms[0]) if not isinstance(a, Div)]
    powers = {a: min(k.count(a) for k in terms) for a in shared}
    shared = [a for a, n in powers.items() for _ in range(n)]
    return Index({tuple(shared): math.gcd(*r.terms.values(), *d.terms.values())})


def _over(e: Index, g: Index) -> Index:
    """e divided by a monomial that divides all of its terms."""
    return Index(dict(q for k, c in e.terms.items() if (q := _exact(k, c, g)) is not None))


def _exact(k: tuple[Atom, ...], c: int, d: Index) -> tuple[tuple[Atom, ...], int] | None:
    """c * k divided by the monomial d, if exact."""
    if len(d.terms) != 1:
        return None
    ((dk, dc),) = d.terms.items()
    if c % dc:
        return None
    left = list(k)
    for a in dk:
        if a not in left:
            return None
        left.remove(a)
    return tuple(left), c // dc


def _atom_vars(a: Atom) -> frozenset[Var]:
    if isinstance(a, Var):
        return frozenset((a,))
    if isinstance(a, (Div, Mod)):
        return a.num.vars | a.den.vars
    return a.expr.vars if isinstance(a, Data) else frozenset()


def _subs_atom(a: Atom, values: Substitution) -> Index:
    if a in values:
        return Index.of(values[a])
    if isinstance(a, Div):
        return a.num.subs(values) // a.den.subs(values)
    if isinstance(a, Mod):
        return a.num.subs(values) % a.den.subs(values)
    if isinstance(a, Data):
        return Index.of(Data(a.expr.subs(values), a.extent))
    return Index.of(a)


@lru_cache(maxsize=1 << 15)
def _atom_bound(a: Atom, upper: bool) -> Index:
    if isinstance(a, (Var, Data)):
        return a.extent - 1 if upper else Index.of(0)
    if isinstance(a, Mod):
        if not upper:
            return Index.of(0)
        return a.den - 1
    if isinstance(a, Div):
        b = a.num.bound(upper)
        if b.const is not None and a.den.const:
            return Index.of(b.const // a.den.const)
        if not upper and a.num.nonnegative:
            return Index.of(0)
        return (
            b // a.den
            if all(isinstance(x, Sym) for x in b.atoms()) and all(isinstance(x, Sym) for x in a.den.atoms())
            else Index.of(a)
        )
    return Index.of(a)


def _atom_value(a: Atom, env: Mapping[str, Any], data: Callable[[Any], Any] | None) -> Any:
    if isinstance(a, (Var, Sym)):
        return env[a.name]
    if isinstance(a, Data):
        assert data is not None
        return data(a.expr)
    num, den = a.num.value(env, data), a.den.value(env, data)
    return num // den if isinstance(a, Div) else num % den


def show(e: Index, atom: Callable[[Atom], str] | None = None) -> str:
    """e as a C (and Python) expression, but for divisions, which `atom` may print its own way."""

    def default(a: Atom) -> str:
        if isinstance(a, (Var, Sym)):
            return a.name
        if isinstance(a, Data):
            return f"[{a.expr}]"
        return f"({show(a.num, atom)} {'/' if isinstance(a, Div) else '%'} {_paren(show(a.den, atom))})"

    parts = []
    for k, c in sorted(e.terms.items(), key=lambda t: (len(t[0]) == 0, [_order(a) for a in t[0]])):
        factors = [(atom or default)(a) for a in k]
        if abs(c) != 1 or not factors:
            factors.append(str(abs(c)))
        sign = "-" if c < 0 else "+"
        parts.append(f" {sign} " + " * ".join(factors))
    text = "".join(parts) or " + 0"
    return text[3:] if text.startswith(" + ") else "-" + text[3:]


def data_atoms(e: Index) -> Iterator[Data]:
    """What e reads from data, in the order of its text."""
    for k, _ in sorted(e.terms.items(), key=lambda t: (len(t[0]) == 0, [_order(a) for a in t[0]])):
        for a in k:
            if isinstance(a, Data):
                yield a
            elif isinstance(a, (Div, Mod)):
                yield from data_atoms(a.num)
                yield from data_atoms(a.den)


def _paren(text: str) -> str:
    return text if text.isalnum() else f"({text})"


def _ordered(e: Index) -> list[tuple[tuple[Atom, ...], int]]:
    """Terms of the highest degree first, what is subtracted not before all others."""
    terms = sorted(e.terms.items(), key=lambda t: (-len(t[0]), _python_term(t[0])))
    first = next((t for t in terms if t[1] > 0), None)
    return terms if first is None else [first, *(t for t in terms if t is not first)]


Tree = int | str | list[Any]


def tree(e: Index) -> Tree:
    """A size as JSON: an integer, a symbol's name or [operator, operand, …] (see `neve.runtime.expressions`)."""

    def atom(a: Atom) -> Tree:
        assert not isinstance(a, Data), f"a size that depends on data: {e}"
        if isinstance(a, (Div, Mod)):
            return ["//" if isinstance(a, Div) else "%", tree(a.num), tree(a.den)]
        return a.name

    def joined(operator: str, parts: list[Tree]) -> Tree:
        return [operator, *parts] if len(parts) > 1 else parts[0]

    terms = [joined("*", [*([c] if c != 1 or not k else []), *map(atom, k)]) for k, c in _ordered(e)]
    return joined("+", terms or [0])


def python(e: Index) -> str:
    """e as Python code."""
    text = ""
    for k, c in _ordered(e):
        factors, alone = _python_term(k)
        sign = (" - " if c < 0 else " + ") if text else "-" if c < 0 else ""
        number = "" if abs(c) == 1 and factors else str(abs(c))
        product = factors if alone and not number and sign != "-" else f"({factors})" if alone else factors
        text += sign + "*".join(filter(None, (number, product)))
    return text or "0"


def _python_term(k: tuple[Atom, ...]) -> tuple[str, bool]:
    """The product of atoms as Python code, and whether a factor before it needs brackets around it."""
    if len(k) == 1 and isinstance(k[0], (Div, Mod)):
        return _python_atom(k[0]), True
    counted = {a: k.count(a) for a in k}
    texts = [(f"({_python_atom(a)})" if isinstance(a, (Div, Mod)) else _python_atom(a), n) for a, n in counted.items()]
    return "*".join(text if n == 1 else f"{text}**{n}" for text, n in texts), False


def _python_atom(a: Atom) -> str:
    if isinstance(a, (Var, Sym)):
        return a.name
    if isinstance(a, Data):
        return f"[{a.expr}]"
    num, den = (text if text.isidentifier() or text.isdigit() else f"({text})" for text in map(python, (a.num, a.den)))
    return f"{num} {'//' if isinstance(a, Div) else '%'} {den}"


def recombine(e: Index) -> Index:
    """e with d * (n // d) + n % d replaced by n wherever the pair occurs, so that split and merged axes cancel."""
    for k, c in e.terms.items():
        for a in k:
            if not isinstance(a, Mod):
                continue
            rest = list(k)
            rest.remove(a)
            others = Index({tuple(rest): c})
            pair = others * a.den * (a.num // a.den)
            if pair.terms and all(e.terms.get(pk) == pc for pk, pc in pair.terms.items()):
                return recombine(e - pair - Index({k: c}) + others * a.num)
    return e


def lane_stride(e: Index, v: Var, lanes: int) -> Index | None:
    """s with e(v + l) = e(v) + s * l for all l in 0..lanes-1 and every v that is a multiple of lanes.

    None if that is not provable. The whole block v..v+lanes-1 is promised to be in v's range.
    """
    form = e.affine(v)
    if form is not None:
        return form[0]
    total = Index.of(0)
    for k, c in e.terms.items():
        with_v = [a for a in k if v in _atom_vars(a)]
        if not with_v:
            continue
        if len(with_v) > 1:
            return None
        rest = list(k)
        rest.remove(with_v[0])
        s = _atom_lane_stride(with_v[0], v, lanes)
        if s is None:
            return None
        total = total + s * Index({tuple(rest): c})
    return total


def _atom_lane_stride(a: Atom, v: Var, lanes: int) -> int | None:
    if a == v:
        return 1
    if not isinstance(a, (Div, Mod)) or a.den.const is None or v in a.den.vars:
        return None
    form = a.num.affine(v)
    if form is None or form[0].const != 1 or a.den.const % lanes or not form[1].multiple_of(lanes):
        return None
    return 0 if isinstance(a, Div) else 1


def invert(
    images: list[Index], shape: list[Index], vars: tuple[Var, ...], axes: list[Index]
) -> dict[Var, Index] | None:
    """Solve images(vars) == axes for vars: each var as an Index in the axes.

    None unless the map is a provable bijection onto shape. images has one Index an axis of the target, in vars; axes
    are the expressions to put in place of the target's indexes.
    """
    solved: dict[Var, Index] = {v: Index.of(0) for v in vars if v.extent.const == 1}
    k = 0
    while k < len(images):
        for end in range(k + 1, len(images) + 1):
            flat, place, size = Index.of(0), Index.of(0), Index.of(1)
            for j in reversed(range(k, end)):
                flat, place = flat + images[j] * size, place + axes[j] * size
                size = size * shape[j]
            part = _radix(recombine(flat), size, vars, solved)
            if part is not None:
                solved.update({v: (place // c) % v.extent if not last else place // c for v, c, last in part})
                k = end
                break
        else:
            return None
    return solved if len(solved) == len(vars) else None


def _radix(
    flat: Index, size: Index, vars: tuple[Var, ...], solved: Mapping[Var, Index]
) -> list[tuple[Var, Index, bool]] | None:
    """flat as a mixed-radix number over vars that counts 0..size-1: digits (var, place value, whether it leads)."""
    if size.const == 1:
        return [] if flat.const == 0 else None
    digits: list[tuple[Var, Index, bool]] = []
    place, left = Index.of(1), flat
    while left.terms:
        found = next(
            (
                v
                for v in vars
                if v not in solved
                and all(v != d for d, _, _ in digits)
                and (f := left.affine(v)) is not None
                and f[0] == place
            ),
            None,
        )
        if found is None:
            return None
        left = left - place * Index.of(found)
        digits.append((found, place, False))
        place = place * found.extent
    if place != size or not digits:
        return None
    return [*digits[:-1], (digits[-1][0], digits[-1][1], True)]
