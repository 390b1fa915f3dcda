"""Householder reflections and symmetric eigenproblems of one matrix of float64, as LAPACK has them: the meaning of the
ops of `orthogonal.py`. Their kernels have the same order of operations, which decides on signs, and on bases where a
matrix has no full rank: the results are the same bits.

eps: half the distance from 1 to the next number of the type that the matrix is of; iterations end by it.
"""

from __future__ import annotations

import math

import numpy as np

Rows = np.ndarray
"""Vectors as rows, which rotations mix."""
DIVIDED = 25
"""LAPACK divides and conquers larger bidiagonal and tridiagonal matrices, which decides on signs."""
TINY, SMALL, LARGE = 2.0**-1022, 2.0**-900, 2.0**600


def total(x: np.ndarray) -> float:
    """The sum, in order."""
    found = 0.0
    for value in x.tolist():
        found += value
    return found


def combined(v: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Σ v[i] · rows[i], in order."""
    found: np.ndarray = v[0] * rows[0]
    for i in range(1, len(v)):
        found += v[i] * rows[i]
    return found


def norm(x: np.ndarray) -> float:
    square = total(x * x)
    if not (square < 1e-250 or square > 1e250):
        return math.sqrt(square)
    most = float(np.abs(x).max(initial=0))
    return most if most in (0, math.inf) else most * math.sqrt(total(x / most * (x / most)))


def reflect(x: np.ndarray) -> float:
    """H = I - tau v vᵀ with H x = (beta, 0, …): x becomes beta, then v without its first element, which is 1; tau."""
    rest, back = norm(x[1:]), 1.0
    if rest == 0:
        return 0.0
    if rest < SMALL and abs(x[0]) < SMALL:  # nearly denormal: too few bits for an orthogonal H
        x *= LARGE
        rest, back = norm(x[1:]), 1 / LARGE
    alpha = float(x[0])
    beta = norm(np.array([alpha, rest]))
    beta = beta if alpha < 0 else -beta  # -0 counts as positive
    x[1:] /= alpha - beta
    x[0] = beta * back
    return float(np.float64(beta - alpha) / beta)


def apply(v: np.ndarray, tau: float, a: np.ndarray) -> None:
    """a = H a; v as `reflect` leaves it."""
    if tau != 0:
        v = np.concatenate([[1.0], v[1:]])
        a -= v[:, None] * (combined(v, a) * tau)


def triangularize(a: np.ndarray) -> list[float]:
    """R in and above the diagonal, the reflections below it; their factors."""
    taus = []
    for k in range(min(a.shape)):
        taus.append(reflect(a[k:, k]))
        apply(a[k:, k], taus[k], a[k:, k + 1 :])
    return taus


def orthogonal(a: np.ndarray, taus: list[float], c: np.ndarray) -> np.ndarray:
    """H₀ H₁ … c, of the reflections in the columns of a."""
    for k in reversed(range(len(taus))):
        apply(a[k:, k], taus[k], c[k:])
    return c


def rotation(f: float, g: float, older: bool = False) -> tuple[float, float, float]:
    """c, s and r with c f + s g = r, c g − s f = 0. r has the sign of f; if older, as LAPACK before 3.10 has it and
    MKL's dsteqr, that is so where |f| > |g|, else r > 0.
    """
    if g == 0:
        return 1.0, 0.0, f
    if f == 0:
        return (0.0, 1.0, g) if older else (0.0, math.copysign(1, g), abs(g))
    square, back = f * f + g * g, 1.0
    if square < SMALL:
        f, g, back = f * LARGE, g * LARGE, 1 / LARGE
        square = f * f + g * g
    root = math.sqrt(square)
    r = root if older and abs(f) <= abs(g) else math.copysign(root, f)
    return f / r, g / r, r * back


def rotate(rows: Rows, i: int, c: float, s: float) -> None:
    """Rows i and i + 1."""
    a, b = rows[i].copy(), rows[i + 1].copy()
    rows[i], rows[i + 1] = c * a + s * b, c * b - s * a


def scale(most: float) -> float:
    """A power of two that brings it near 1."""
    exponent = math.frexp(most)[1] + 1022 if most else 0
    return 2.0 ** (max(1, min(2046 - exponent, 2000)) - 1023) if most else 1.0


def eigh(x: np.ndarray, upper: bool, vectors: bool, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (n), ascending, and vectors (n, n) as columns, of the matrix in one triangle of x; NaN of what is not
    finite.
    """
    n = len(x)
    a = np.tril(x[::-1, ::-1] if upper else x)
    a = a + np.tril(a, -1).T
    most = float(np.abs(a).max(initial=0))
    nothing = np.full(n, math.nan), np.full((n, n), math.nan)
    if not math.isfinite(most) or n == 0:
        return nothing
    by = scale(most)
    a *= by
    d, e, taus = tridiagonalize(a)
    if upper:
        d, e = d[::-1], e[::-1]
    z = np.eye(n) if vectors else np.zeros((n, 0))
    if not _tridiagonal(d, e, z, eps):
        return nothing
    v = z.T[::-1].copy() if upper else z.T.copy()
    for k in reversed(range(n - 1 if vectors else 0)):
        apply(a[k, k + 1 :], taus[k], v[k + 1 :])
    return np.array(d) / by, v[::-1] if upper else v


def tridiagonalize(a: np.ndarray) -> tuple[list[float], list[float], list[float]]:
    """Diagonal, what is beside it, and the factors of the reflections, which are right of the diagonal of a."""
    n = len(a)
    d: list[float] = []
    e: list[float] = []
    taus: list[float] = []
    for k in range(n - 1):
        d.append(float(a[k, k]))
        v, b = a[k, k + 1 :], a[k + 1 :, k + 1 :]
        tau = reflect(v)
        e.append(float(v[0]))
        taus.append(tau)
        if tau != 0:
            v[0] = 1
            w = combined(v, b)
            w = tau * w - total(w * v) * (tau * tau / 2) * v
            b -= v[:, None] * w + w[:, None] * v
    return [*d, float(a[-1, -1])], e, taus


def _tridiagonal(d: list[float], e: list[float], z: Rows, eps: float) -> bool:
    """d becomes the eigenvalues, ascending, with the rows of z; whether the iterations converge."""
    n, begin, left = len(d), 0, 30 * len(d)
    while begin < n:
        end = begin
        while end + 1 < n and abs(e[end]) > math.sqrt(abs(d[end])) * math.sqrt(abs(d[end + 1])) * eps:
            end += 1
        if end + 1 < n:
            e[end] = 0
        size = end - begin + 1
        half = begin + size // 2
        across = e[half - 1] if size > 1 else 0.0
        low, high = (end, begin) if abs(d[end]) < abs(d[begin]) else (begin, end)
        left = _diagonalize(d, e, low, high, z, eps, left)
        if left < 0:
            return False
        if size > DIVIDED and z.size:  # a vector that dlaed3 puts together from both halves
            crossing = z[begin : end + 1, half - 1] + math.copysign(1, across) * z[begin : end + 1, half]
            z[begin : end + 1][crossing > 0] *= -1
        begin = end + 1
    for i in range(n - 1):
        least = min(range(i, n), key=d.__getitem__)
        d[i], d[least] = d[least], d[i]
        z[[i, least]] = z[[least, i]]
    return True


def _diagonalize(d: list[float], e: list[float], at: int, end: int, z: Rows, eps: float, left: int) -> int:
    """dsteqr's iterations on an unreduced block, from `at` to end; how many are left of all."""
    down = end > at
    step = 1 if down else -1
    while at <= end if down else at >= end:
        m = at
        while m != end:
            k = m if down else m - 1
            if e[k] * e[k] <= eps * eps * abs(d[m]) * abs(d[m + step]) + TINY:
                e[k] = 0
                break
            m += step
        if m == at:
            at += step
        elif m == at + step:
            i = min(at, m)
            d[i], d[i + 1], c, s = eigh2(d[i], e[i], d[i + 1])
            e[i] = 0
            rotate(z, i, c, s)
            at += 2 * step
        elif left > 0:
            left -= 1
            _chase(d, e, at, m, down, z)
        else:
            return -1
    return left


def _chase(d: list[float], e: list[float], at: int, m: int, down: bool, z: Rows) -> None:
    """One implicit step with Wilkinson's shift, from m back to `at`."""
    beside, step = (at, 1) if down else (at - 1, -1)
    g = (d[at + step] - d[at]) / (2 * e[beside])
    g = d[m] - d[at] + e[beside] / (g + math.copysign(math.sqrt(g * g + 1), g))
    s, c, p = 1.0, 1.0, 0.0
    for k in range(m, at, -step):
        i = min(k, k - step)  # of the rotation, and of e between d[k] and d[k - step]
        f, b = s * e[i], c * e[i]
        c, s, r = rotation(g, f, older=True)
        if k != m:
            e[i + step] = r
        g = d[k] - p
        r = (d[k - step] - g) * s + 2 * c * b
        p = s * r
        d[k] = g + p
        g = c * r - b
        rotate(z, i, c, -s if down else s)
    d[at] -= p
    e[beside] = g


def eigh2(a: float, b: float, c: float) -> tuple[float, float, float, float]:
    """dlaev2: the eigenvalues of (a b; b c), the larger in absolute value first, and cosine and sine of its vector."""
    total, difference, twice = a + c, a - c, b + b
    width, ab = abs(difference), abs(twice)
    more, less = (a, c) if abs(a) > abs(c) else (c, a)
    root = 0.0
    if width > ab:
        root = width * math.sqrt(1 + ab / width * (ab / width))
    elif ab > 0:
        root = ab * math.sqrt(1 + width / ab * (width / ab))
    if total == 0:
        first, second = root / 2, -root / 2
    else:
        first = (total - root if total < 0 else total + root) / 2
        second = more / first * less - b / first * b
    to = difference - root if difference < 0 else difference + root
    if abs(to) > ab:
        t = -twice / to
        sine = 1 / math.sqrt(1 + t * t)
        cosine = t * sine
    elif ab == 0:
        cosine, sine = 1.0, 0.0
    else:
        t = -to / twice
        cosine = 1 / math.sqrt(1 + t * t)
        sine = t * cosine
    return (first, second, -sine, cosine) if (total < 0) == (difference < 0) else (first, second, cosine, sine)
