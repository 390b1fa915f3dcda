/* QR factorizations: p[0] A (BATCH, M, N) of T; if VECTORS is 1, p[1] Q (BATCH, M, K), p[2] R (BATCH, K, N), where K is M if
 * COMPLETE is 1; if VECTORS is 0, p[1] R.
 *
 * T float or double; BATCH, M, N and K = min(M, N) may be expressions in s[]. Scratch: M * N + M * (COMPLETE ? M : K) + K + M + N doubles.
 */
#include "reflect.h"

NEVE_INLINE void KN(matrix)(const T *x, T *q, T *r, double *a, const int64_t *s)
{
    (void)s;
    const int64_t m = M, n = N, k = K, rows = COMPLETE ? m : k;
    double *full = a + m * n, *tau = full + m * rows, *w = tau + k;
    for (int64_t i = 0; i < m * n; i++)
        a[i] = x[i];
    neve_triangularize(a, m, n, n, tau, w);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++)
            r[i * n + j] = i <= j ? (T)a[i * n + j] : 0;
    if (!VECTORS)
        return;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < rows; j++)
            full[i * rows + j] = i == j;
    for (int64_t i = k - 1; i >= 0; i--) /* columns before i are still those of the identity there */
        neve_apply(a + i * n + i, n, tau[i], full + i * rows + i, m - i, rows, rows - i, w);
    for (int64_t i = 0; i < m * rows; i++)
        q[i] = (T)full[i];
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    neve_range range = neve_share(BATCH, th);
    const int64_t rows = COMPLETE ? M : K;
    for (int64_t i = range.begin; i < range.end; i++)
        KN(matrix)((const T *)p[0] + i * M * N, VECTORS ? (T *)p[1] + i * M * rows : 0, (T *)p[1 + VECTORS] + i * rows * N, (double *)(void *)th->scratch, s);
}
