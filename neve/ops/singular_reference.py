"""Singular values and vectors of one matrix of float64, as LAPACK has them: the specification of the kernel of
`neve.ops.orthogonal.Svd`. See `orthogonal_reference.py`.
"""

from __future__ import annotations

import math

import numpy as np

from neve.ops.orthogonal_reference import (
    DIVIDED,
    TINY,
    Rows,
    apply,
    orthogonal,
    reflect,
    rotate,
    rotation,
    scale,
    triangularize,
)


def svd(x: np.ndarray, full: bool, vectors: bool, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U (m, k), the singular values (k), descending, and Vᵀ (k, n), k = min(m, n), in U and V all of m and n if full;
    NaN of what is not finite.
    """
    wide = x.shape[0] < x.shape[1]
    a = np.array(x.T if wide else x)
    m, n = a.shape
    big, small, values = np.eye(m, m if full else n), np.eye(n), np.zeros(n)
    finite = bool(np.isfinite(a).all())
    if not finite or (n > 0 and not _decompose(a, big, small, values, wide, vectors, eps)):
        for t in (big, small, values):
            t[...] = math.nan
    return (small, values, big.T) if wide else (big, values, small.T)


def _decompose(
    a: np.ndarray, big: np.ndarray, small: np.ndarray, values: np.ndarray, wide: bool, vectors: bool, eps: float
) -> bool:
    """Of a (m, n), m ≥ n: identities become the left vectors (m, …) and the right ones (n, n), as columns. wide: a is
    the transpose of what is meant. Whether the iterations converge.
    """
    m, n = a.shape
    by = scale(float(np.abs(a).max()))
    a *= by
    b = a
    taus: list[float] = []
    if not wide and m > n and m >= 3 * n // 2:  # MKL's limit; LAPACK's is 11 n / 6
        taus = triangularize(a)
        b = np.triu(a[:n])
    d, e, lefts, rights = bidiagonalize(b)
    turns = []
    for i in range(n - 1 if wide else 0):  # what is meant has a lower bidiagonal matrix
        c, s, d[i] = rotation(d[i], e[i])
        e[i], d[i + 1] = s * d[i + 1], c * d[i + 1]
        turns.append((c, s))
    u, v = (np.eye(n) if vectors else np.zeros((n, 0)) for _ in range(2))
    if not _bidiagonal(d, e, u, v, eps):
        return False
    values[:] = np.array(d) / by
    if vectors:
        big[:n, :n], small[:] = (v.T, u.T) if wide else (u.T, v.T)
        for i, (c, s) in reversed(list(enumerate(turns))):
            rotate(small, i, c, -s)
        for k in reversed(range(n - 1)):
            apply(b[k, k + 1 :], rights[k], small[k + 1 :])
        orthogonal(b, lefts, big[: len(b)])
        orthogonal(a, taus, big)
    return True


def bidiagonalize(a: np.ndarray) -> tuple[list[float], list[float], list[float], list[float]]:
    """Diagonal, what is above it, and the factors of the reflections, which are below the diagonal and right of what is
    above it.
    """
    n = a.shape[1]
    d: list[float] = []
    e: list[float] = []
    lefts: list[float] = []
    rights: list[float] = []
    for k in range(n):
        lefts.append(reflect(a[k:, k]))
        d.append(float(a[k, k]))
        apply(a[k:, k], lefts[k], a[k:, k + 1 :])
        if k + 1 < n:
            rights.append(reflect(a[k, k + 1 :]))
            e.append(float(a[k, k + 1]))
            apply(a[k, k + 1 :], rights[k], a[k + 1 :, k + 1 :].T)
    return d, e, lefts, rights


def _bidiagonal(d: list[float], e: list[float], u: Rows, v: Rows, eps: float) -> bool:
    """d becomes the singular values, descending, with the rows of u and v; whether the iterations converge."""
    n = len(d)
    if n == 1:
        u *= math.copysign(1, d[0]) if d[0] else 1
        d[0] = abs(d[0])
        return True
    if not _iterate(d, e, u, v, eps):
        return False
    for i in range(n):
        if d[i] < 0:
            d[i] *= -1
            v[i] *= -1
    if n > DIVIDED and u.size:  # vectors that dlasd3 puts together from both halves
        positive = u[:, n // 2] > 0
        u[positive] *= -1
        v[positive] *= -1
    for to in range(n - 1, 0, -1):
        least = min(range(to + 1), key=lambda j: (d[j], -j))
        d[to], d[least] = d[least], d[to]
        for rows in (u, v):
            rows[[to, least]] = rows[[least, to]]
    return True


def _iterate(d: list[float], e: list[float], u: Rows, v: Rows, eps: float) -> bool:
    """dbdsqr's iterations: d becomes the singular values, which may be negative; whether they converge."""
    n = len(d)
    tol = eps * (10 if eps > 1e-10 else 98.7)  # eps^(-1/8), in 10..100
    least = mu = abs(d[0])
    for i in range(1, n):
        if least == 0:
            break
        mu = abs(d[i]) * (mu / (mu + abs(e[i - 1])))
        least = min(least, mu)
    threshold = max(tol * (least / math.sqrt(n)), 6 * n * (n * TINY))
    first, last, left, down, m = -1, -1, 6 * n * n, True, n - 1
    while m > 0:
        low, most = m, abs(d[m])
        while low > 0 and abs(e[low - 1]) > threshold:
            most = max(most, abs(d[low - 1]), abs(e[low - 1]))
            low -= 1
        if low > 0:
            e[low - 1] = 0
        if low == m:
            m -= 1
        elif low + 1 == m:
            d[m], d[low], right, lefts = svd2(d[low], e[low], d[m])
            e[low] = 0
            rotate(v, low, *right)
            rotate(u, low, *lefts)
            m -= 2
        else:
            if low > last or m < first:
                down = abs(d[low]) >= abs(d[m])
            bound = _bound(d, e, low, m, down, tol)
            if bound is None:
                continue
            first, last, shift = low, m, 0.0
            if n * tol * (bound / most) > max(eps, tol / 100):
                start, i = (abs(d[low]), m - 1) if down else (abs(d[m]), low)
                shift = smaller2(d[i], e[i], d[i + 1])
                if start > 0 and shift / start * (shift / start) < eps:
                    shift = 0.0
            left -= m - low
            if left <= 0:
                return False
            _sweep(d, e, low, m, down, shift, u, v)
            end = m - 1 if down else low
            if abs(e[end]) <= threshold:
                e[end] = 0
    return True


def _bound(d: list[float], e: list[float], low: int, m: int, down: bool, tol: float) -> float | None:
    """A lower bound of the block's singular values; None if an element of e is negligible, which is 0 then."""
    end, start, stop = (m - 1, low, m) if down else (low, m, low)
    if abs(e[end]) <= tol * abs(d[stop]):
        e[end] = 0
        return None
    bound = mu = abs(d[start])
    for i in range(low, m) if down else range(m - 1, low - 1, -1):
        if abs(e[i]) <= tol * mu:
            e[i] = 0
            return None
        mu = abs(d[i + 1 if down else i]) * (mu / (mu + abs(e[i])))
        bound = min(bound, mu)
    return bound


def _sweep(d: list[float], e: list[float], low: int, m: int, down: bool, shift: float, u: Rows, v: Rows) -> None:
    """One QR iteration with that shift, from low to m or back."""
    begin, end, step, beside = (low, m, 1, 0) if down else (m, low, -1, -1)
    first, second = (v, u) if down else (u, v)
    f = (abs(d[begin]) - shift) * (math.copysign(1, d[begin]) + shift / d[begin]) if shift else 0.0
    g, c1, c2, s2 = e[begin + beside], 1.0, 1.0, 0.0
    for i in range(begin, end, step):
        k, ahead = i + beside, i + step
        if shift == 0:
            c1, s1, r = rotation(d[i] * c1, e[k])
            if i != begin:
                e[k - step] = s2 * r
            c2, s2, d[i] = rotation(c2 * r, d[ahead] * s1)
        else:
            c1, s1, r = rotation(f, g)
            if i != begin:
                e[k - step] = r
            f, e[k] = c1 * d[i] + s1 * e[k], c1 * e[k] - s1 * d[i]
            g, d[ahead] = s1 * d[ahead], c1 * d[ahead]
            c2, s2, d[i] = rotation(f, g)
            f, d[ahead] = c2 * e[k] + s2 * d[ahead], c2 * d[ahead] - s2 * e[k]
            if ahead != end:
                g, e[k + step] = s2 * e[k + step], c2 * e[k + step]
        rotate(first, min(i, ahead), c1, s1 if down else -s1)
        rotate(second, min(i, ahead), c2, s2 if down else -s2)
    k = end + beside - step
    if shift == 0:
        h = d[end] * c1
        d[end], e[k] = h * c2, h * s2
    else:
        e[k] = f


def smaller2(f: float, g: float, h: float) -> float:
    """dlas2: the smaller singular value of (f g; 0 h)."""
    less, more, g = min(abs(f), abs(h)), max(abs(f), abs(h)), abs(g)
    if less == 0:
        return 0.0
    s, t = 1 + less / more, (more - less) / more
    if g < more:
        a = g / more * (g / more)
        return less * (2 / (math.sqrt(s * s + a) + math.sqrt(t * t + a)))
    a = more / g
    if a == 0:
        return less * more / g
    return 2 * (less * (1 / (math.sqrt(1 + s * a * (s * a)) + math.sqrt(1 + t * a * (t * a)))) * a)


def svd2(f: float, g: float, h: float) -> tuple[float, float, tuple[float, float], tuple[float, float]]:
    """dlasv2: the singular values of (f g; 0 h), the smaller first, with signs; cosine and sine of V and of U."""
    swap = abs(h) > abs(f)
    ft, ht = (h, f) if swap else (f, h)
    fa, ha, ga = abs(ft), abs(ht), abs(g)
    less, more, cl, cr, sl, sr = ha, fa, 1.0, 1.0, 0.0, 0.0
    if ga > fa and fa / ga < 2.0**-53:
        more, less = ga, fa / (ga / ha) if ha > 1 else fa / ga * ha
        sl, sr, cr = ht / g, 1.0, ft / g
    elif ga != 0:
        difference, m = fa - ha, g / ft
        part = 1.0 if difference == fa else difference / fa
        t = 2 - part
        s = math.sqrt(t * t + m * m)
        r = abs(m) if part == 0 else math.sqrt(part * part + m * m)
        a = (s + r) / 2
        less, more = ha / a, fa * a
        if m * m != 0:
            t = (m / (s + t) + m / (r + part)) * (1 + a)
        elif part == 0:
            t = math.copysign(2, ft) * math.copysign(1, g)
        else:
            t = g / math.copysign(difference, ft) + m / t
        root = math.sqrt(t * t + 4)
        cr, sr = 2 / root, t / root
        cl = (cr + sr * m) / a
        sl = ht / ft * sr / a
    right, left = ((sl, cl), (sr, cr)) if swap else ((cr, sr), (cl, sl))
    if ga > fa:
        signs = right[1], left[0], g
    elif swap:
        signs = right[1], left[1], h
    else:
        signs = right[0], left[0], f
    sign = math.copysign(1, signs[0]) * math.copysign(1, signs[1]) * math.copysign(1, signs[2])
    other = sign * math.copysign(1, f) * math.copysign(1, h)
    return math.copysign(less, other), math.copysign(more, sign), right, left
