"""Sizes that torch computes by way of doubles, such as TruncToInt(1.7·ToFloat(n)), in whole numbers.

int(n * 0.7) is the floor of the *rounded* product with the double next to 0.7; neither 7n // 10 nor the double's exact
fraction is that for every n. So the formula is evaluated over the declared range of n as torch evaluates it, and
(p·n + r) // q is taken where it gives all of these integers; else the size is refused. Of a size without an upper
bound the first LARGEST are tried, and the program then refuses greater ones.

torch's expression is not always what Python computes: sympy folds n * 0.7 * 0.3 into 0.21·n and n - n * 0.3 into 0.7·n,
which round elsewhere. The nodes of the graph still say it, and `folded` compares both.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import sympy
import torch

from neve.ir.types import Range

LARGEST = 1 << 22
"""Up to where a size without an upper bound is tried."""
SMALL = 1 << 14
PIECES = (1, 2, 4, 8, 16)
"""How many pieces a formula may have, fewest first; more than one only over a range of at most SMALL sizes."""

ROUNDED = {
    "TruncToInt": np.trunc,
    "FloorToInt": np.floor,
    "CeilToInt": np.ceil,
    "RoundToInt": np.rint,
    "floor": np.floor,
    "ceiling": np.ceil,
}
_DIVISIONS = ("IntTrueDiv", "FloatTrueDiv")
_DENOMINATORS = tuple(1 << k for k in range(19))


ARITHMETIC: dict[Any, Callable[..., Any]] = {
    operator.mul: np.multiply,
    operator.add: np.add,
    operator.sub: np.subtract,
    operator.truediv: np.true_divide,
    operator.neg: np.negative,
}
CONVERSIONS: dict[Any, Callable[..., Any]] = {
    torch.sym_float: np.asarray,
    torch.sym_int: np.trunc,
    math.trunc: np.trunc,
    math.floor: np.floor,
    math.ceil: np.ceil,
    round: np.rint,
}


def exact(e: Any) -> bool:
    """Whether no step of torch's expression rounds before its floor or ceiling, or only where that cannot matter.

    A product or a sum is exact while it is a multiple of 2^-10 below 2^43. Constants are multiples of 2^-10 of at most
    32 here, so the largest sizes for which a product may round are 2^38 elements; no memory holds a tensor with such
    an axis. A quotient of integers a / b, right below the floor, may round: where it is no integer, it is at least 1/b
    from the next one, more than the a / b · 2^-53 by which it is rounded, for a < 2^53.
    """
    if type(e).__name__ == "RoundToInt":
        return False
    below = e.args[0]
    parts = below.args if type(below).__name__ == "IntTrueDiv" else (below,)
    return all(map(_never_rounds, parts))


def _never_rounds(e: Any) -> bool:
    if type(e).__name__ in _DIVISIONS:
        return _never_rounds(e.args[0]) and e.args[1].is_number and _is_power_of_two(float(e.args[1]))
    if isinstance(e, sympy.Float):
        return _is_short(float(e))
    if type(e).__name__ in ROUNDED:
        return exact(e)
    return all(map(_never_rounds, e.args))


def compares_as_written(e: Any) -> bool:
    """Whether a side of a comparison is what Python computes: torch folds sums and products with floats."""
    if type(e).__name__ in ROUNDED:
        return True  # as `whole` has it
    if type(e).__name__ in _DIVISIONS:
        return _never_rounds(e) and not e.has(sympy.Float)
    if isinstance(e, sympy.Float):
        return _is_short(float(e))
    return not any(isinstance(a, sympy.Float) for a in e.args) and all(map(compares_as_written, e.args))


def _is_short(c: float) -> bool:
    return abs(c) <= 32 and (1024 * c) % 1 == 0


def _is_power_of_two(c: float) -> bool:
    return 1 <= abs(c) <= 1024 and math.frexp(c)[0] in (0.5, -0.5)


@lru_cache(maxsize=256)
def whole(e: Any, n: sympy.Symbol, range: Range) -> sympy.Expr | None:
    """e as a floor division in n that is equal to it for every n in the range; None if there is none."""
    at = _sizes(range)
    wanted = _evaluate(e, n, at.astype(np.float64))
    if not len(at) or wanted is None or not np.isfinite(wanted).all():
        return None
    k = wanted.astype(np.int64)
    slopes = list(_slopes(at, _evaluate(e.args[0], n, at.astype(np.float64)), k))
    for most in PIECES if len(at) <= SMALL else PIECES[:1]:
        for slope in slopes:
            pieces = _pieces(slope, at, k, most)
            if pieces is not None:
                return sympy.floor((slope.numerator * n + _steps_at(n, pieces, int(at[-1]))) / slope.denominator)
    return None


def _pieces(slope: Fraction, at: np.ndarray, k: np.ndarray, most: int) -> list[tuple[int, int]] | None:
    """[(first size, r)]: k = floor((p·n + r) / q) from that size on to the next. A piece is as long as it can be.

    More than one is needed as a product is rounded more coarsely from each power of two on: int(n * 0.7) is
    7n // 10 up to 89, and (7n - 1) // 10 from there to 91.
    """
    p, q = slope.numerator, slope.denominator
    low, high = k * q - p * at, (k + 1) * q - p * at - 1
    if most == 1 and low.max() > high.min():
        return None
    found: list[tuple[int, int]] = []
    i = 0
    while i < len(at):
        if len(found) == most:
            return None
        lows, highs = np.maximum.accumulate(low[i:]), np.minimum.accumulate(high[i:])
        apart = np.flatnonzero(lows > highs)
        end = i + int(apart[0]) if len(apart) else len(at)
        r = min(max(0, int(lows[end - i - 1])), int(highs[end - i - 1]))
        found.append((int(at[i]), r))
        i = end
    return found


def _steps_at(n: sympy.Symbol, pieces: list[tuple[int, int]], last: int) -> sympy.Expr:
    """The r of the piece that n is in: floor((n + m - a) / m) is 1 from a on, 0 before, for n and a below m."""
    m = last + 1
    steps = [(b - a) * sympy.floor((n + m - first) / sympy.Integer(m)) for (_, a), (first, b) in pairwise(pieces)]
    return sympy.Integer(pieces[0][1]) + sympy.Add(*steps)


def folded(node: torch.fx.Node, n: sympy.Symbol | None, range: Range) -> int | None:
    """A size n for which torch's expression for the integer that node gives is not what Python computes, -1 if that
    cannot be found out; None if there is no such size in the range. n: the expression's only symbol, None if there
    are more.
    """
    steps = list(_steps(node))
    arithmetic = [s for s in steps if s.target in ARITHMETIC]
    if len(arithmetic) < 2 or all(map(_step_never_rounds, arithmetic)):
        return None  # one operation: there is nothing to fold it with
    at = _sizes(range)
    if n is None or not len(at):
        return -1
    given = _evaluate(node.meta["val"].node.expr, n, at.astype(np.float64))
    wanted = _follow(node, n, at.astype(np.float64))
    if given is None or wanted is None:
        return -1
    differs = np.flatnonzero(given != wanted)
    return int(at[differs[0]]) if len(differs) else None


def _sizes(range: Range) -> np.ndarray:
    """All sizes of a range, none if these are too many to try."""
    last = LARGEST if range.max is None else range.max
    return np.arange(range.min, last + 1 if last <= LARGEST else range.min)


def _steps(node: torch.fx.Node) -> Iterator[torch.fx.Node]:
    """The nodes that compute in doubles what node makes an integer."""
    for a in node.all_input_nodes:
        if isinstance(a.meta.get("val"), torch.SymFloat):
            yield a
            yield from _steps(a)


def _step_never_rounds(step: torch.fx.Node) -> bool:
    numbers = [float(a) for a in step.args if isinstance(a, (int, float))]
    if step.target is operator.truediv:
        return isinstance(step.args[1], (int, float)) and _is_power_of_two(float(step.args[1]))
    return all(map(_is_short, numbers))


def _follow(a: Any, n: sympy.Symbol, at: np.ndarray) -> np.ndarray | None:
    """What Python computes for a node of the graph, or a number among its arguments, at sizes n."""
    if isinstance(a, (int, float)):
        return np.full(at.shape, float(a))
    if not isinstance(a, torch.fx.Node):
        return None
    doubles = any(isinstance(i.meta.get("val"), torch.SymFloat) for i in (a, *a.all_input_nodes))
    if not doubles:
        val = a.meta.get("val")
        return _evaluate(val.node.expr, n, at) if isinstance(val, torch.SymInt) else None
    args = [_follow(x, n, at) for x in a.args if x is not None]
    compute = ARITHMETIC.get(a.target) or CONVERSIONS.get(a.target)
    if compute is None or any(x is None for x in args):
        return None
    return np.asarray(compute(*args))


def _slopes(at: np.ndarray, *values: np.ndarray | None) -> Iterator[Fraction]:
    """Fractions near the growth of each of the values, simplest first."""
    if len(at) == 1:
        yield Fraction(0)
        return
    for v in values:
        if v is not None and np.isfinite(v).all():
            mean = Fraction(float(v[-1] - v[0])) / int(at[-1] - at[0])
            yield from dict.fromkeys(mean.limit_denominator(bound) for bound in _DENOMINATORS)


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
    if name in ("Add", "Mul") and (len(known) == 2 or e.is_integer):
        return np.asarray(sum(known) if name == "Add" else math.prod(known))
    return None
