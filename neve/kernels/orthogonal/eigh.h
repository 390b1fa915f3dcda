/* Symmetric matrices A = V diag(w) V', w ascending: p[0] A (BATCH, N, N) of T, p[1] w (BATCH, N), p[2] V (BATCH, N, N) if VECTORS is 1.
 *
 * T float or double; UPPER 0 or 1: which triangle of A is read; VECTORS 0 or 1. BATCH and N may be expressions in s[].
 * A that is not finite gives NaN. Scratch: 2 * N * N + 4 * N doubles.
 * Method: Householder reflections to a tridiagonal matrix, implicit QL and QR iterations as LAPACK's dsteqr has them.
 */
#include "reflect.h"

#ifndef NEVE_ORTHOGONAL_EIGH_H
#define NEVE_ORTHOGONAL_EIGH_H

/* Symmetric a (n, n) to diagonal d and e beside it; reflection k is in row k from k + 1 on. w: n elements. */
NEVE_INLINE void neve_tridiagonalize(double *a, int64_t n, double *d, double *e, double *tau, double *w)
{
    for (int64_t k = 0; k + 1 < n; k++) {
        int64_t m = n - k - 1;
        double *v = a + k * n + k + 1, *b = a + (k + 1) * n + k + 1;
        d[k] = a[k * n + k];
        tau[k] = neve_reflect(v, m, 1);
        e[k] = v[0];
        if (tau[k] == 0)
            continue;
        v[0] = 1;
        for (int64_t j = 0; j < m; j++)
            w[j] = b[j];
        for (int64_t i = 1; i < m; i++)
            for (int64_t j = 0; j < m; j++)
                w[j] += v[i] * b[i * n + j];
        double dot = 0;
        for (int64_t j = 0; j < m; j++)
            dot += w[j] * v[j];
        dot *= tau[k] * tau[k] / 2;
        for (int64_t j = 0; j < m; j++)
            w[j] = tau[k] * w[j] - dot * v[j];
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < m; j++)
                b[i * n + j] -= v[i] * w[j] + w[i] * v[j];
    }
    d[n - 1] = a[n * n - 1];
}

/* LAPACK's dlaev2: eigenvalues of (a b; b c), the larger in absolute value first, and (cs, sn), its vector. */
NEVE_INLINE void neve_eigh2(double a, double b, double c, double *first, double *second, double *cs, double *sn)
{
    double sum = a + c, difference = a - c, width = neve_abs(difference), twice = b + b, ab = neve_abs(twice);
    double more = neve_abs(a) > neve_abs(c) ? a : c, less = neve_abs(a) > neve_abs(c) ? c : a;
    double root = width > ab ? width * neve_root64(1 + ab / width * (ab / width))
                  : ab > 0   ? ab * neve_root64(1 + width / ab * (width / ab))
                             : 0;
    int negative = sum < 0;
    if (sum == 0) {
        *first = root / 2;
        *second = -root / 2;
    } else {
        *first = (negative ? sum - root : sum + root) / 2;
        *second = more / *first * less - b / *first * b;
    }
    int low = difference < 0;
    double to = low ? difference - root : difference + root;
    if (neve_abs(to) > ab) {
        double t = -twice / to;
        *sn = 1 / neve_root64(1 + t * t);
        *cs = t * *sn;
    } else if (ab == 0) {
        *cs = 1, *sn = 0;
    } else {
        double t = -to / twice;
        *cs = 1 / neve_root64(1 + t * t);
        *sn = t * *cs;
    }
    if (negative == low) {
        double t = *cs;
        *cs = -*sn;
        *sn = t;
    }
}

/* One implicit step with Wilkinson's shift on d[l..m], e[l..m-1], from m to l (down 1), or from m, which is less, up to l (down 0). */
NEVE_INLINE void neve_chase(double *d, double *e, int64_t l, int64_t m, int down, double *z, int64_t columns)
{
    double *at = down ? e + l : e + l - 1; /* beside d[l] */
    double g = ((down ? d[l + 1] : d[l - 1]) - d[l]) / (2 * *at), r = neve_root64(g * g + 1);
    double s = 1, c = 1, p = 0;
    g = d[m] - d[l] + *at / (g + neve_sign(r, g));
    if (down)
        for (int64_t i = m - 1; i >= l; i--) {
            double f = s * e[i], b = c * e[i];
            r = neve_rotation(g, f, 1, &c, &s);
            if (i != m - 1)
                e[i + 1] = r;
            g = d[i + 1] - p;
            r = (d[i] - g) * s + 2 * c * b;
            p = s * r;
            d[i + 1] = g + p;
            g = c * r - b;
            neve_rotate(z + i * columns, z + (i + 1) * columns, columns, c, -s);
        }
    else
        for (int64_t i = m; i < l; i++) {
            double f = s * e[i], b = c * e[i];
            r = neve_rotation(g, f, 1, &c, &s);
            if (i != m)
                e[i - 1] = r;
            g = d[i] - p;
            r = (d[i + 1] - g) * s + 2 * c * b;
            p = s * r;
            d[i] = g + p;
            g = c * r - b;
            neve_rotate(z + i * columns, z + (i + 1) * columns, columns, c, s);
        }
    d[l] -= p;
    *at = g;
}

/* Eigenvalues of the unreduced block d[l..end], e[l..end-1] in place, if end < l the other way round; rows of z, of `columns` elements,
 * are rotated with them. The iterations that are left. */
NEVE_INLINE int64_t neve_diagonalize(double *d, double *e, int64_t l, int64_t end, double *z, int64_t columns, double eps, int64_t left)
{
    int down = end > l;
    int64_t step = down ? 1 : -1;
    while (down ? l <= end : l >= end) {
        int64_t m = l;
        for (; m != end; m += step) {
            double *at = down ? e + m : e + m - 1;
            if (*at * *at <= eps * eps * neve_abs(d[m]) * neve_abs(d[m + step]) + NEVE_TINY) {
                *at = 0;
                break;
            }
        }
        if (m == l) {
            l += step;
        } else if (m == l + step) {
            int64_t i = neve_min(l, m);
            double c, s, first, second;
            neve_eigh2(d[i], e[i], d[i + 1], &first, &second, &c, &s);
            d[i] = first, d[i + 1] = second, e[i] = 0;
            neve_rotate(z + i * columns, z + (i + 1) * columns, columns, c, s);
            l += 2 * step;
        } else if (left-- > 0) {
            neve_chase(d, e, l, m, down, z, columns);
        } else {
            return -1;
        }
    }
    return left;
}

/* Eigenvalues of the tridiagonal matrix in d, ascending, and its vectors in the rows of z, (n, columns); columns 0: none. 0 if an
 * iteration does not converge. */
NEVE_NOINLINE int neve_tridiagonal(double *d, double *e, int64_t n, double *z, int64_t columns, double eps)
{
    int64_t left = 30 * n;
    for (int64_t begin = 0, end; begin < n; begin = end + 1) {
        for (end = begin; end + 1 < n; end++)
            if (neve_abs(e[end]) <= neve_root64(neve_abs(d[end])) * neve_root64(neve_abs(d[end + 1])) * eps)
                break;
        if (end + 1 < n)
            e[end] = 0;
        int64_t size = end - begin + 1, half = begin + size / 2;
        double across = size > 1 ? e[half - 1] : 0;
        int from_end = neve_abs(d[end]) < neve_abs(d[begin]);
        left = neve_diagonalize(d, e, from_end ? end : begin, from_end ? begin : end, z, columns, eps, left);
        if (left < 0)
            return 0;
        /* where dlaed3 puts a vector together from both halves, its sign is such that what crosses between them is negative */
        for (int64_t j = begin; columns && size > NEVE_DIVIDED && j <= end; j++)
            if (z[j * columns + half - 1] + neve_sign(1, across) * z[j * columns + half] > 0)
                neve_negate(z + j * columns, columns);
    }
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t least = i;
        for (int64_t j = i + 1; j < n; j++)
            least = d[j] < d[least] ? j : least;
        if (least != i) {
            double t = d[i];
            d[i] = d[least], d[least] = t;
            neve_exchange(z + i * columns, z + least * columns, columns);
        }
    }
    return 1;
}

#endif

/* Element (i, j) of the upper triangle lies at (N - 1 - i, N - 1 - j): LAPACK's reduction of the upper triangle is that of the lower one
 * of the matrix the other way round. */
NEVE_INLINE void KN(matrix)(const T *x, T *values, T *vectors, double *a, const int64_t *s)
{
    (void)s;
    const int64_t n = N;
    double *z = a + n * n, *d = z + n * n, *e = d + n, *tau = e + n, *w = tau + n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double v = UPPER ? x[(n - 1 - i) * n + n - 1 - j] : x[i * n + j];
            a[i * n + j] = a[j * n + i] = v;
        }
    const double scale = neve_scale(a, n * n);
    neve_tridiagonalize(a, n, d, e, tau, w);
    for (int64_t i = 0; UPPER && i < n / 2; i++) {
        double t = d[i];
        d[i] = d[n - 1 - i], d[n - 1 - i] = t;
    }
    for (int64_t i = 0; UPPER && i < (n - 1) / 2; i++) {
        double t = e[i];
        e[i] = e[n - 2 - i], e[n - 2 - i] = t;
    }
    if (VECTORS)
        neve_identity(z, n);
    int converged = scale != 0 && neve_tridiagonal(d, e, n, z, VECTORS ? n : 0, sizeof(T) == 4 ? 0x1p-24 : 0x1p-53);
    for (int64_t i = 0; i < n; i++)
        values[i] = converged ? (T)(d[i] / scale) : (T)__builtin_nan("");
    if (!VECTORS)
        return;
    /* the vectors as columns, in the order of the reflections' rows; these lie above the diagonal of a */
    double *v = z;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++) {
            double t = z[i * n + j];
            z[i * n + j] = z[j * n + i], z[j * n + i] = t;
        }
    for (int64_t i = 0; UPPER && i < n / 2; i++)
        neve_exchange(v + i * n, v + (n - 1 - i) * n, n);
    for (int64_t k = n - 2; k >= 0; k--)
        neve_apply(a + k * n + k + 1, 1, tau[k], v + (k + 1) * n, n - k - 1, n, n, w);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            vectors[i * n + j] = converged ? (T)v[(UPPER ? n - 1 - i : i) * n + j] : (T)__builtin_nan("");
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    neve_range range = neve_share(BATCH, th);
    const T *x = (const T *)p[0];
    T *values = (T *)p[1], *vectors = VECTORS ? (T *)p[1 + VECTORS] : 0;
    for (int64_t k = range.begin; N > 0 && k < range.end; k++)
        KN(matrix)(x + k * N * N, values + k * N, VECTORS ? vectors + k * N * N : 0, (double *)(void *)th->scratch, s);
}
