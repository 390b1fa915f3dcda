/* L D L' of symmetric matrices by the pivots of Bunch and Kaufman (LAPACK's sytf2 and sytrs, of the lower triangle), one at a time.
 *
 * T float or double; BATCH how many, N columns; these and K may be expressions in s[].
 * SOLVE 0: p[0] A (N, N) -> p[1] L and D, 0 above the diagonal, p[2] pivots (N) int32_t, p[3] info, int32_t: the step, from 1, of the
 *   first block of D that is 0, or 0. A pivot is the row, from 1, with which its own was exchanged; of a block of two both have that of
 *   the second, negative.
 * SOLVE 1: p[0] L and D, p[1] pivots, p[2] B (N, K) -> p[3] X with A X = B. Pivots outside of the matrix count as its nearest row.
 */
#if SOLVE == 0
NEVE_INLINE T KN(magnitude)(T x) { return x < 0 ? -x : x; }

NEVE_INLINE void KN(exchange)(T *a, T *b)
{
    T t = *a;
    *a = *b;
    *b = t;
}

/* Rows and columns kk and p, kk < p, of what is left of a symmetric matrix. */
static void KN(exchange_both)(T *a, int64_t n, int64_t kk, int64_t p)
{
    for (int64_t i = p + 1; i < n; i++)
        KN(exchange)(a + i * n + kk, a + i * n + p);
    for (int64_t i = kk + 1; i < p; i++)
        KN(exchange)(a + i * n + kk, a + p * n + i);
    KN(exchange)(a + kk * n + kk, a + p * n + p);
}

/* The row of the pivot for step k; *two: whether its block has two rows; *zero: whether there is none. */
static int64_t KN(pivot)(const T *a, int64_t n, int64_t k, int *two, int *zero)
{
    const T alpha = (T)0.6403882032022076; /* (1 + sqrt 17) / 8 */
    T own = KN(magnitude)(a[k * n + k]), most = 0, row = 0;
    int64_t best = k;
    for (int64_t i = k + 1; i < n; i++)
        if (i == k + 1 || KN(magnitude)(a[i * n + k]) > most)
            most = KN(magnitude)(a[i * n + k]), best = i;
    *two = 0, *zero = own != own || (own == 0 && most == 0);
    if (*zero || own >= alpha * most)
        return k;
    for (int64_t j = k; j < n; j++) {
        T x = KN(magnitude)(j < best ? a[best * n + j] : a[j * n + best]);
        if (j != best && x > row)
            row = x;
    }
    if (own >= alpha * most * (most / row))
        return k;
    *two = !(KN(magnitude)(a[best * n + best]) >= alpha * row);
    return best;
}

static void KN(eliminate_one)(T *a, int64_t n, int64_t k)
{
    T inverse = 1 / a[k * n + k];
    for (int64_t i = k + 1; i < n; i++)
        for (int64_t j = k + 1; j <= i; j++)
            a[i * n + j] -= inverse * a[i * n + k] * a[j * n + k];
    for (int64_t i = k + 1; i < n; i++)
        a[i * n + k] *= inverse;
}

static void KN(eliminate_two)(T *a, int64_t n, int64_t k)
{
    T off = a[(k + 1) * n + k], d11 = a[(k + 1) * n + k + 1] / off, d22 = a[k * n + k] / off, scale = 1 / (d11 * d22 - 1) / off;
    for (int64_t j = k + 2; j < n; j++) {
        T x = a[j * n + k], y = a[j * n + k + 1], w = scale * (d11 * x - y), v = scale * (d22 * y - x);
        for (int64_t i = j; i < n; i++)
            a[i * n + j] -= a[i * n + k] * w + a[i * n + k + 1] * v;
        a[j * n + k] = w, a[j * n + k + 1] = v;
    }
}

static int32_t KN(factor)(T *a, int64_t n, int32_t *pivots)
{
    int32_t info = 0;
    for (int64_t k = 0; k < n;) {
        int two, zero;
        int64_t p = KN(pivot)(a, n, k, &two, &zero), kk = k + two;
        if (p != kk) {
            KN(exchange_both)(a, n, kk, p);
            if (two)
                KN(exchange)(a + (k + 1) * n + k, a + p * n + k);
        }
        if (zero)
            info = info ? info : (int32_t)(k + 1);
        else if (two)
            KN(eliminate_two)(a, n, k);
        else
            KN(eliminate_one)(a, n, k);
        for (int64_t i = k; i <= kk; i++)
            pivots[i] = (int32_t)(two ? -(p + 1) : p + 1);
        k = kk + 1;
    }
    return info;
}
#else
NEVE_INLINE void KN(exchange_rows)(T *x, int64_t n, int64_t k, int64_t row, int64_t other)
{
    other = neve_max(0, neve_min(other, n - 1));
    for (int64_t j = 0; j < k; j++) {
        T t = x[row * k + j];
        x[row * k + j] = x[other * k + j];
        x[other * k + j] = t;
    }
}

NEVE_INLINE void KN(subtract)(T *NEVE_RESTRICT y, const T *NEVE_RESTRICT x, T f, int64_t k)
{
    for (int64_t j = 0; j < k; j++)
        y[j] -= f * x[j];
}

/* Rows i and i + 1 of x, over the block of D there. */
static void KN(divide_by_two)(const T *a, int64_t n, T *x, int64_t k, int64_t i)
{
    T off = a[(i + 1) * n + i], first = a[i * n + i] / off, second = a[(i + 1) * n + i + 1] / off, d = first * second - 1;
    for (int64_t j = 0; j < k; j++) {
        T u = x[i * k + j] / off, v = x[(i + 1) * k + j] / off;
        x[i * k + j] = (second * u - v) / d;
        x[(i + 1) * k + j] = (first * v - u) / d;
    }
}

static void KN(solve)(const T *a, int64_t n, const int32_t *pivots, T *x, int64_t k)
{
    for (int64_t i = 0, two; i < n; i += 1 + two) {
        two = pivots[i] < 0 && i + 1 < n;
        KN(exchange_rows)(x, n, k, i + two, (pivots[i] < 0 ? -(int64_t)pivots[i] : pivots[i]) - 1);
        for (int64_t t = i + 1 + two; t < n; t++)
            for (int64_t own = i; own <= i + two; own++)
                KN(subtract)(x + t * k, x + own * k, a[t * n + own], k);
        if (two)
            KN(divide_by_two)(a, n, x, k, i);
        else
            for (int64_t j = 0; j < k; j++)
                x[i * k + j] /= a[i * n + i];
    }
    for (int64_t i = n - 1, two; i >= 0; i -= 1 + two) {
        two = pivots[i] < 0 && i > 0;
        for (int64_t own = i; own >= i - two; own--)
            for (int64_t t = i + 1; t < n; t++)
                KN(subtract)(x + own * k, x + t * k, a[t * n + own], k);
        KN(exchange_rows)(x, n, k, i, (pivots[i] < 0 ? -(int64_t)pivots[i] : pivots[i]) - 1);
    }
}
#endif

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    neve_range range = neve_share(BATCH, th);
    int64_t n = N;
    for (int64_t b = range.begin; b < range.end; b++) {
        const T *from = (const T *)p[0] + b * n * n;
#if SOLVE
        const T *right = (const T *)p[2] + b * n * K;
        T *x = (T *)p[3] + b * n * K;
        for (int64_t i = 0; i < n * K; i++)
            x[i] = right[i];
        KN(solve)(from, n, (const int32_t *)p[1] + b * n, x, K);
#else
        T *a = (T *)p[1] + b * n * n;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] = j <= i ? from[i * n + j] : 0;
        ((int32_t *)p[3])[b] = KN(factor)(a, n, (int32_t *)p[2] + b * n);
#endif
    }
}
#undef T
#undef BATCH
#undef N
#undef K
#undef SOLVE
