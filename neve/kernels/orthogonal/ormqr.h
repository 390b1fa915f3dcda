/* Products with Q = H_0 H_1 ..., of K reflections: p[0] these, below the diagonal of (BATCH, M, N), p[1] tau (BATCH, K), p[2] C (BATCH, M,
 * COLUMNS), p[3] Q C, or Q' C if TRANSPOSE is 1.
 *
 * T float or double; BATCH, M, N, K and COLUMNS may be expressions in s[]. Scratch: M * N + (M + 1) * COLUMNS doubles.
 */
#include "reflect.h"

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    neve_range range = neve_share(BATCH, th);
    const int64_t m = M, n = N, columns = COLUMNS;
    double *v = (double *)(void *)th->scratch, *c = v + m * n, *w = c + m * columns;
    for (int64_t b = range.begin; b < range.end; b++) {
        const T *x = (const T *)p[0] + b * m * n, *tau = (const T *)p[1] + b * K, *from = (const T *)p[2] + b * m * columns;
        T *to = (T *)p[3] + b * m * columns;
        for (int64_t i = 0; i < m * n; i++)
            v[i] = x[i];
        for (int64_t i = 0; i < m * columns; i++)
            c[i] = from[i];
        for (int64_t i = 0; i < K; i++) {
            int64_t k = TRANSPOSE ? i : K - 1 - i;
            neve_apply(v + k * n + k, n, tau[k], c + k * columns, m - k, columns, columns, w);
        }
        for (int64_t i = 0; i < m * columns; i++)
            to[i] = (T)c[i];
    }
}
