/* Part of matrices.h, for elements E of LANES matrices: what is done for each. */
#include "lanes.h"
#include "elimination.h"
#include "exponential.h"

/* Everything for count matrices from `first` on. */
static void FF(matrices)(void *const *p, const int64_t *s, int64_t first, int64_t count, E *a)
{
    (void)s;
#if FORM == 0
    int64_t m = M, n = N;
    FF(read)((const T *)p[0], first, count, TRANSPOSED ? n : m, TRANSPOSED ? m : n, a, TRANSPOSED);
    I info = FF(lu)(a, m, n, STEPS, (int32_t *)p[2], first, count);
    FF(write)(a, first, count, m * n, (T *)p[1]);
    FF(write_integers)(info, first, count, 1, (int32_t *)p[3]);
#elif FORM == 1
    int64_t n = N, k = K;
    const int32_t *pivots = (const int32_t *)p[1];
    E *x = a + n * n;
    FF(read)((const T *)p[0], first, count, n, n, a, ADJOINT);
    FF(read)((const T *)p[2], first, count, n, k, x, 0);
    if (!ADJOINT)
        FF(permute)(x, n, k, pivots, M, first, count, 0);
    FF(substitute)(a, n, x, k, 0, !ADJOINT);
    FF(substitute)(a, n, x, k, 1, ADJOINT);
    if (ADJOINT)
        FF(permute)(x, n, k, pivots, M, first, count, 1);
    FF(write)(x, first, count, n * k, (T *)p[3]);
#elif FORM == 2
    int64_t n = N, k = K;
    E *x = a + n * n;
    FF(read)((const T *)p[0], first, count, n, n, a, TRANSPOSED);
    FF(read)((const T *)p[1], first, count, n, k, x, 0);
    FF(substitute)(a, n, x, k, UPPER, UNIT);
    if (SQUARED) {
        FF(transpose)(a, n);
        FF(substitute)(a, n, x, k, !UPPER, UNIT);
    }
    FF(write)(x, first, count, n * k, (T *)p[2]);
#elif FORM == 3
    int64_t n = N;
    FF(read)((const T *)p[0], first, count, n, n, a, 0);
    I info = FF(cholesky)(a, n, a + n * n);
    FF(write)(a, first, count, n * n, (T *)p[1]);
    FF(write_integers)(info, first, count, 1, (int32_t *)p[2]);
#else
    int64_t n = N;
    FF(read)((const T *)p[0], first, count, n, n, a, 0);
    FF(write)(FF(exponential)(a, n), first, count, n * n, (T *)p[1]);
#endif
}
