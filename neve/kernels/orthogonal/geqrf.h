/* Householder reflections that make A upper triangular: p[0] A (BATCH, M, N) of T, p[1] R and below it the reflections (BATCH, M, N),
 * p[2] tau (BATCH, K).
 *
 * T float or double; BATCH, M, N and K = min(M, N) may be expressions in s[]. Scratch: M * N + K + N doubles.
 */
#include "reflect.h"

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    neve_range range = neve_share(BATCH, th);
    const int64_t m = M, n = N, k = K;
    double *a = (double *)(void *)th->scratch, *tau = a + m * n;
    for (int64_t b = range.begin; b < range.end; b++) {
        const T *x = (const T *)p[0] + b * m * n;
        T *y = (T *)p[1] + b * m * n, *t = (T *)p[2] + b * k;
        for (int64_t i = 0; i < m * n; i++)
            a[i] = x[i];
        neve_triangularize(a, m, n, n, tau, tau + k);
        for (int64_t i = 0; i < m * n; i++)
            y[i] = (T)a[i];
        for (int64_t i = 0; i < k; i++)
            t[i] = (T)tau[i];
    }
}
