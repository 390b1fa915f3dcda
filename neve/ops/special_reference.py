"""Special functions in plain numpy float64, for `eval`: independent of kernels/math.h, within about 1e-13, slow."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

SQRT2 = math.sqrt(2)


def elementwise(f: Callable[..., float]) -> Callable[..., np.ndarray]:
    """A scalar function on arrays, in float64."""
    g = np.vectorize(f, otypes=[np.float64])

    def apply(*x: np.ndarray) -> np.ndarray:
        x = tuple(np.asarray(v, np.float64) for v in x)
        return np.asarray(g(*x)) if np.broadcast(*x).size else np.zeros(np.broadcast(*x).shape)

    return apply


def f64(f: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """f with its arguments as float64 arrays and without warnings."""

    def apply(*x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(f(*(np.asarray(v, np.float64) for v in x)))

    return apply


erf = elementwise(math.erf)
erfc = elementwise(math.erfc)


@elementwise
def lgamma(x: float) -> float:
    return math.inf if math.isinf(x) or (x <= 0 and x == math.floor(x)) else math.lgamma(x)


@elementwise
def digamma(x: float) -> float:
    """Reflection below 0, recurrence up to 12, then the asymptotic series."""
    if x == 0:
        return math.copysign(math.inf, -x)
    if x < 0:
        if math.isinf(x) or x == math.floor(x):
            return math.nan
        r = x - round(x)
        return float(digamma(np.float64(1 - x))) - math.pi / math.tan(math.pi * r)
    if math.isinf(x):
        return math.inf
    total = 0.0
    while x < 12:
        total -= 1 / x
        x += 1
    y = 1 / (x * x)
    return (
        total
        + math.log(x)
        - 0.5 / x
        - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * 691 / 32760)))))
    )


def _erf_inverse(y: np.ndarray, q: np.ndarray) -> np.ndarray:
    """x >= 0 with erf(x) = y, q = 1 - y given apart for accuracy near 1: Winitzki's guess, then Halley steps."""
    log = np.log(q * (1 + y))
    t = 2 / (math.pi * 0.147) + log / 2
    x = np.sqrt(np.maximum(np.sqrt(t * t - log / 0.147) - t, 0))
    for _ in range(4):
        error = np.where(y < 0.5, erf(x) - y, q - erfc(x))
        step = error / (2 / math.sqrt(math.pi) * np.exp(-x * x))
        x = np.where(np.isfinite(step), x - step / (1 + x * step), x)
    return np.asarray(np.where(q == 0, np.inf, x))


@f64
def erfinv(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) > 1, np.nan, np.copysign(_erf_inverse(np.abs(x), 1 - np.abs(x)), x))


@f64
def ndtri(p: np.ndarray) -> np.ndarray:
    """The argument at which the normal distribution reaches p."""
    q = 2 * np.minimum(p, 1 - p)
    return np.where((p < 0) | (p > 1), np.nan, np.where(p < 0.5, -SQRT2, SQRT2) * _erf_inverse(1 - q, q))


@f64
def ndtr(x: np.ndarray) -> np.ndarray:
    return 0.5 * erfc(-x / SQRT2)


@f64
def log_ndtr(x: np.ndarray) -> np.ndarray:
    y = 1 / (x * x)
    tail = -x * x / 2 - np.log(-x) - 0.5 * math.log(2 * math.pi) + np.log1p(-y * (1 - y * (3 - y * (15 - y * 105))))
    return np.where(x < -35, tail, np.where(x > 5, np.log1p(-0.5 * erfc(x / SQRT2)), np.log(0.5 * erfc(-x / SQRT2))))


def _bessel_scaled(order: int, x: np.ndarray) -> np.ndarray:
    """exp(-|x|) I_order(|x|): the trapezoid rule on its integral (exponentially exact), beyond 300 the asymptotic
    series.
    """
    a, points = np.abs(x), 400
    total = (1 + (-1) ** order * np.exp(-2 * a)) / 2
    for k in range(1, points):
        theta = math.pi * k / points
        total = total + np.exp(a * (math.cos(theta) - 1)) * math.cos(order * theta)
    mu, z = 4.0 * order * order, 8 * a
    series = 1 - (mu - 1) / z * (1 - (mu - 9) / (2 * z) * (1 - (mu - 25) / (3 * z) * (1 - (mu - 49) / (4 * z))))
    return np.asarray(np.where(a > 300, series / np.sqrt(2 * math.pi * a), total / points))


@f64
def i0e(x: np.ndarray) -> np.ndarray:
    return _bessel_scaled(0, x)


@f64
def i1e(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0, x, np.copysign(_bessel_scaled(1, x), x))


@f64
def i0(x: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(x), np.nan, _bessel_scaled(0, x) * np.exp(np.abs(x)))


@f64
def i1(x: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(x), np.nan, i1e(x) * np.exp(np.abs(x)))


@elementwise
def zeta(x: float, q: float) -> float:
    """Hurwitz zeta by Euler and Maclaurin; the edges as in Cephes' zeta, which PyTorch has."""
    if x == 1:
        return math.inf
    if x < 1 or math.isnan(q):
        return math.nan
    if q <= 0 and (math.isinf(q) or q == math.floor(q)):
        return math.inf
    if math.isnan(x) or math.isinf(q) or (q < 0 and x != math.floor(x)):
        return math.nan
    if math.isinf(x):
        return 1.0 if q == 1 else math.nan if q > 1 else math.inf
    total = 0.0
    for _ in range(12):
        total += q**-x
        q += 1
    while q <= 12:
        total += q**-x
        q += 1
    power = q**-x
    total += power * q / (x - 1) + power / 2
    factor, term = x, power / q
    for k, bernoulli in enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)):
        total += bernoulli * factor * term / math.factorial(2 * k + 2)
        factor *= (x + 2 * k + 1) * (x + 2 * k + 2)
        term /= q * q
    return float(total)


def polygamma(n: int) -> Callable[[np.ndarray], np.ndarray]:
    """The n-th derivative of digamma; n = 1 reflects for negative x."""
    if n == 0:
        return digamma

    @f64
    def apply(x: np.ndarray) -> np.ndarray:
        if n > 1:
            return np.asarray((-1) ** (n + 1) * math.factorial(n) * zeta(np.float64(n + 1), x))
        mirrored = (math.pi / np.sin(math.pi * x)) ** 2 - zeta(np.float64(2), 1 - x)
        return np.where(x < 0.5, mirrored, np.where(x == np.inf, 0, zeta(np.float64(2), x)))

    return apply


@f64
def sinc(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0, 1, np.sin(math.pi * x) / (math.pi * x))


@f64
def xlogy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(y), np.nan, np.where(x == 0, 0, x * np.log(y)))


@f64
def xlog1py(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(y), np.nan, np.where(x == 0, 0, x * np.log1p(y)))
