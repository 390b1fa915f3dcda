/* Singular value decompositions A = U diag(S) V', S descending: p[0] A (BATCH, M, N) of T; if VECTORS is 1, p[1] U (BATCH, M, K),
 * p[2] S (BATCH, K), p[3] V' (BATCH, K, N), where K is M in U and N in V' if FULL is 1; if VECTORS is 0, p[1] S.
 *
 * T float or double; VECTORS and FULL 0 or 1. BATCH, M, N and K = min(M, N) may be expressions in s[]. A that is not finite gives NaN.
 * Scratch, with L = max(M, N): L * K + L * (FULL ? L : K) + 4 * K * K + 8 * L doubles.
 * Method: Householder reflections to a bidiagonal matrix, of tall ones after a QR factorization (MKL's limit, not LAPACK's), and implicit QR
 * iterations as LAPACK's dbdsqr has them.
 */
#include "bidiagonal.h"

/* S of one matrix, and U and V' if VECTORS. The work is done on A, or A' if that has more rows: m rows of n. */
NEVE_INLINE void KN(matrix)(const T *x, T *left, T *values, T *right, double *a, const int64_t *s)
{
    (void)s;
    const int64_t wide = M < N, m = wide ? N : M, n = wide ? M : N, columns = FULL ? m : n, vectors = VECTORS ? n : 0;
    const double eps = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
    double *big = a + m * n, *square = big + m * columns, *small = square + n * n, *u = small + n * n, *v = u + n * n;
    double *d = v + n * n, *e = d + m, *tau = e + m, *left_tau = tau + m, *right_tau = left_tau + m, *turn = right_tau + m, *w = turn + 2 * n;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            a[i * n + j] = wide ? x[j * m + i] : x[i * n + j];
    const double scale = neve_scale(a, m * n);
    const int factored = !wide && m > n && m >= 3 * n / 2;
    double *b = a;
    if (factored) {
        neve_triangularize(a, m, n, n, tau, w);
        b = square;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                b[i * n + j] = i <= j ? a[i * n + j] : 0;
    }
    const int64_t rows = factored ? n : m;
    neve_bidiagonalize(b, rows, n, d, e, left_tau, right_tau, w);
    if (wide) /* A's own matrix is lower bidiagonal: rotations from the left make it upper */
        neve_raise(d, e, n, turn);
    const int converged = scale != 0 && neve_singular(d, e, n, u, v, vectors, eps);
    for (int64_t i = 0; i < n; i++)
        values[i] = converged ? (T)(d[i] / scale) : (T)__builtin_nan("");
    if (!VECTORS)
        return;
    /* vectors as columns, taken back through the reflections */
    const double *of_big = wide ? v : u, *of_small = wide ? u : v;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < columns; j++)
            big[i * columns + j] = i < n && j < n ? of_big[j * n + i] : i == j;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            small[i * n + j] = of_small[j * n + i];
    for (int64_t i = n - 2; wide && i >= 0; i--)
        neve_rotate(small + i * n, small + (i + 1) * n, n, turn[2 * i], -turn[2 * i + 1]);
    for (int64_t k = n - 2; k >= 0; k--)
        neve_apply(b + k * n + k + 1, 1, right_tau[k], small + (k + 1) * n, n - k - 1, n, n, w);
    for (int64_t k = n - 1; k >= 0; k--)
        neve_apply(b + k * n + k, n, left_tau[k], big + k * columns, rows - k, columns, columns, w);
    for (int64_t k = n - 1; factored && k >= 0; k--)
        neve_apply(a + k * n + k, n, tau[k], big + k * columns, m - k, columns, columns, w);
    T *to_big = wide ? right : left, *to_small = wide ? left : right;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < columns; j++)
            to_big[wide ? j * m + i : i * columns + j] = converged ? (T)big[i * columns + j] : (T)__builtin_nan("");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            to_small[wide ? i * n + j : j * n + i] = converged ? (T)small[i * n + j] : (T)__builtin_nan("");
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    neve_range range = neve_share(BATCH, th);
    for (int64_t i = range.begin; i < range.end; i++) {
        T *left = VECTORS ? (T *)p[1] + i * M * (FULL ? M : K) : 0, *right = VECTORS ? (T *)p[1 + 2 * VECTORS] + i * N * (FULL ? N : K) : 0;
        KN(matrix)((const T *)p[0] + i * M * N, left, (T *)p[1 + VECTORS] + i * K, right, (double *)(void *)th->scratch, s);
    }
}
