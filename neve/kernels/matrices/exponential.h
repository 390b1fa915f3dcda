/* Part of matrices.h: exponentials by Taylor's polynomial of degree 18 of A / 2^s, squared s times. */
#if FORM == 4

/* out = a b, (n, n) */
static void FF(multiply)(const E *a, const E *b, E *NEVE_RESTRICT out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        E *row = out + i * n;
        for (int64_t j = 0; j < n; j++)
            row[j] = a[i * n] * b[j];
        for (int64_t t = 1; t < n; t++)
            for (int64_t j = 0; j < n; j++)
                row[j] += a[i * n + t] * b[t * n + j];
    }
}

/* The largest sum of magnitudes of a column; NaN counts as none. */
NEVE_INLINE E FF(norm)(const E *a, int64_t n)
{
    E most = (E){0};
    for (int64_t j = 0; j < n; j++) {
        E sum = (E){0};
        for (int64_t i = 0; i < n; i++)
            sum += FF(magnitude)(a[i * n + j]);
        most = FF(select)(sum > most, sum, most);
    }
    return most;
}

/* sum += (c[0] + c[1] a + c[2] a2), of (n, n) */
NEVE_INLINE void FF(add_terms)(E *sum, const double *c, const E *a, const E *a2, int64_t n)
{
    for (int64_t i = 0; i < n * n; i++)
        sum[i] += (T)c[1] * a[i] + (T)c[2] * a2[i];
    for (int64_t i = 0; i < n; i++)
        sum[i * (n + 1)] += (T)c[0];
}

/* a (n, n) is overwritten, and so are four times as many elements after it; returns where the result is. The norms of A / 2^s are at
 * most that for which the polynomial is exact to rounding (Bader, Blanes, Casas, "Computing the matrix exponential with an optimized
 * Taylor polynomial approximation", 2019, table 2). Powers are grouped by three (Paterson and Stockmeyer). */
NEVE_INLINE E *FF(exponential)(E *a, int64_t n)
{
    static const double c[] = {1, 1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880, 1. / 3628800,
                               1. / 39916800, 1. / 479001600, 1. / 6227020800., 1. / 87178291200., 1. / 1307674368000.,
                               1. / 20922789888000., 1. / 355687428096000., 1. / 6402373705728000.};
    const T most = (T)(sizeof(T) == 4 ? 3.010066362817634 : 1.090863719290036);
    int64_t size = n * n;
    E *a2 = a + size, *a3 = a2 + size, *sum = a3 + size, *next = sum + size, norm = FF(norm)(a, n), scale = (E){0} + (T)1;
    I squarings = FF(integers)(0), more;
    while (FF(any)(more = (norm > most) & (norm - norm == 0))) {
        norm = FF(select)(more, norm * (T)0.5, norm);
        scale = FF(select)(more, scale * (T)0.5, scale);
        squarings = FF(select_integers)(more, squarings + 1, squarings);
    }
    for (int64_t i = 0; i < size; i++)
        a[i] *= scale;
    FF(multiply)(a, a, a2, n);
    FF(multiply)(a2, a, a3, n);
    for (int64_t i = 0; i < size; i++)
        sum[i] = (T)c[18] * a3[i];
    FF(add_terms)(sum, c + 15, a, a2, n);
    for (int64_t k = 12; k >= 0; k -= 3) {
        FF(multiply)(sum, a3, next, n);
        FF(add_terms)(next, c + k, a, a2, n);
        E *t = sum;
        sum = next, next = t;
    }
    for (TI step = 0; FF(any)(more = squarings > step); step++) {
        FF(multiply)(sum, sum, next, n);
        for (int64_t i = 0; i < size; i++)
            sum[i] = FF(select)(more, next[i], sum[i]);
    }
    return sum;
}
#endif
