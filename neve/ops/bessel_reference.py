"""Bessel, Airy and incomplete gamma functions and polynomials for `eval`: power series in 80-digit decimals, beyond
40 asymptotic ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np

from neve.ops.special_reference import elementwise, erfc, f64

DIGITS, LIMIT = 80, 40.0
EULER = Decimal(
    "0.5772156649015328606065120900824024310421593359399235988057672348848677267776646709369470632917467495"
)


def _series(order: int, x: float, sign: int) -> tuple[Decimal, Decimal]:
    """(J or I of order 0 or 1, the part of Y or K without logarithm) at x; sign is -1 for J and Y, 1 for I and K."""
    half = Decimal(x) / 2
    term, first, second, k = half**order, Decimal(0), Decimal(0), 0
    harmonic = Decimal(0), sum((1 / Decimal(i) for i in range(1, order + 1)), Decimal(0))
    while k < 12 or abs(term) > Decimal(10) ** -DIGITS:
        first += term
        second += term * (harmonic[0] + harmonic[1])
        k += 1
        term *= sign * half * half / (k * (k + order))
        harmonic = harmonic[0] + 1 / Decimal(k), harmonic[1] + 1 / Decimal(k + order)
    return first, second


def _hankel(order: int, x: float) -> tuple[float, float]:
    """P and Q of Hankel's series for x > 40."""
    terms = [1.0]
    for k in range(1, 30):
        terms.append(terms[-1] * (4 * order * order - (2 * k - 1) ** 2) / (8 * k * x))
    return sum(t * (-1) ** i for i, t in enumerate(terms[0::2])), sum(t * (-1) ** i for i, t in enumerate(terms[1::2]))


def bessel_j(order: int) -> Callable[..., np.ndarray]:
    @elementwise
    def apply(x: float) -> float:
        a = abs(x)
        if math.isinf(a) or a != a:
            return math.nan
        if a == 0:
            return x if order else 1.0
        sign = -1.0 if order and x < 0 else 1.0
        if a > LIMIT:
            p, q = _hankel(order, a)
            t = a - math.pi / 4 - order * math.pi / 2
            return sign * math.sqrt(2 / (math.pi * a)) * (p * math.cos(t) - q * math.sin(t))
        with localcontext() as c:
            c.prec = DIGITS
            return sign * float(_series(order, a, -1)[0])

    return apply


def bessel_y(order: int) -> Callable[..., np.ndarray]:
    @elementwise
    def apply(x: float) -> float:
        if not x > 0:
            return -math.inf if x == 0 else math.nan
        if math.isinf(x):
            return math.nan
        if x > LIMIT:
            p, q = _hankel(order, x)
            t = x - math.pi / 4 - order * math.pi / 2
            return math.sqrt(2 / (math.pi * x)) * (p * math.sin(t) + q * math.cos(t))
        with localcontext() as c:
            c.prec = DIGITS
            j, rest = _series(order, x, -1)
            log = (Decimal(x) / 2).ln() + EULER
            total = 2 * log * j - rest - (2 / Decimal(x) if order else 0)
            return float(total) / math.pi

    return apply


def bessel_k(order: int, scaled: bool) -> Callable[..., np.ndarray]:
    @elementwise
    def apply(x: float) -> float:
        if not x > 0:
            return math.inf if x == 0 else math.nan
        if math.isinf(x):
            return 0.0
        if x > LIMIT:
            terms = [1.0]
            for k in range(1, 30):
                terms.append(terms[-1] * (4 * order * order - (2 * k - 1) ** 2) / (8 * k * x))
            return math.sqrt(math.pi / (2 * x)) * sum(terms) * (1.0 if scaled else math.exp(-x))
        with localcontext() as c:
            c.prec = DIGITS
            i, rest = _series(order, x, 1)
            log = (Decimal(x) / 2).ln() + EULER
            total = 1 / Decimal(x) + log * i - rest / 2 if order else rest / 2 - log * i
            return float(total * (Decimal(x).exp() if scaled else 1))

    return apply


@elementwise
def airy_ai(x: float) -> float:
    """The power series; beyond 40 the asymptotic ones."""
    if math.isinf(x) or x != x:
        return math.nan
    if x > 40:
        zeta = 2 / 3 * x**1.5
        series = 1 - 5 / (72 * zeta) + 385 / (10368 * zeta**2)
        return float(math.exp(-zeta) / (2 * math.sqrt(math.pi) * x**0.25) * series)
    if x < -40:
        zeta = 2 / 3 * (-x) ** 1.5
        p, q = 1 - 385 / (10368 * zeta**2), 5 / (72 * zeta) - 85085 / (2239488 * zeta**3)
        t = zeta + math.pi / 4
        return float((math.sin(t) * p - math.cos(t) * q) / (math.sqrt(math.pi) * (-x) ** 0.25))
    with localcontext() as c:
        c.prec = DIGITS
        d = Decimal(x)
        even, odd, f, g, k = Decimal(1), d, Decimal(1), d, 3
        while k < 30 or abs(even) + abs(odd) > Decimal(10) ** -DIGITS:
            even, odd = even * d**3 / (k * (k - 1)), odd * d**3 / (k * (k + 1))
            f, g, k = f + even, g + odd, k + 3
        c1 = Decimal("0.35502805388781723926006318600418317639797917419917752405833265104")
        c2 = Decimal("0.25881940379280679840518356018920396347909113835493458221000181386")
        return float(c1 * f - c2 * g)


@f64
def erfcx(x: np.ndarray) -> np.ndarray:
    y = 1 / (x * x)
    far = (1 - y / 2 * (1 - 3 * y / 2 * (1 - 5 * y / 2 * (1 - 7 * y / 2)))) / (x * math.sqrt(math.pi))
    return np.asarray(np.where(x < 25, np.exp(x * x) * erfc(x), far))


@f64
def spherical_bessel_j0(x: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(x), 0, np.where(x == 0, 1, np.sin(x) / x))


def _lower_gamma(a: float, x: float) -> Decimal:
    """The integral of t^(a - 1) exp(-t) from 0 to x."""
    d, term, k = Decimal(x), 1 / Decimal(a), Decimal(a)
    total = term
    while term > total * Decimal(10) ** -DIGITS:
        k += 1
        term *= d / k
        total += term
    return total * (Decimal(a) * d.ln() - d).exp()


def igamma(upper: bool) -> Callable[..., np.ndarray]:
    """The regularized incomplete gamma function: by the lower one's power series; the whole integral ends far beyond
    a.
    """

    @elementwise
    def apply(a: float, x: float) -> float:
        if a < 0 or x < 0 or (a == 0 and not x > 0) or (math.isinf(a) and math.isinf(x)):
            return math.nan
        if x == 0 or math.isinf(a):
            return 1.0 if upper else 0.0
        if a == 0 or math.isinf(x):
            return 0.0 if upper else 1.0
        if a != a or x != x:
            return math.nan
        with localcontext() as c:
            c.prec = DIGITS
            lower = _lower_gamma(a, x) / _lower_gamma(a, max(4 * a, x) + 400)
            return float(1 - lower if upper else lower)

    return apply


def polynomial(
    first: Callable[[float], float], following: Callable[[float, float, float, float], float]
) -> Callable[..., np.ndarray]:
    """p(0) = 1, p(1) = first(x), p(k + 1) = following(x, k, p(k), p(k - 1)), at a degree that is truncated."""

    @elementwise
    def apply(x: float, degree: float) -> float:
        if not -1 < degree < math.inf:
            return 0.0
        n = int(min(degree, 1e6))
        p = [1.0, first(x)]
        for k in range(1, n):
            p.append(following(x, float(k), p[-1], p[-2]))
        return p[n]

    return apply
