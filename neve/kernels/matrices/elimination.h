/* Part of matrices.h: factors, and systems of equations. */

/* y -= f x */
NEVE_INLINE void FF(subtract)(E *NEVE_RESTRICT y, const E *NEVE_RESTRICT x, E f, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        y[j] -= f * x[j];
}

/* Rows a and b of n elements exchanged in one lane. */
NEVE_INLINE void FF(exchange)(E *x, int64_t n, int64_t a, int64_t b, int64_t lane)
{
    T *y = (T *)x + lane;
    for (int64_t j = 0; a != b && j < n; j++) {
        T t = y[(a * n + j) * LANES];
        y[(a * n + j) * LANES] = y[(b * n + j) * LANES];
        y[(b * n + j) * LANES] = t;
    }
}

#if FORM == 0
/* a (m, n) in place; pivots of the matrices from `first` on, of `steps` each; returns info.
 *
 * Columns are multiplied by 1 / pivot, or divided by it, where MKL does, which is torch's LAPACK: each rounding decides what is found
 * singular. With at most 16 rows and columns the bits are MKL's. */
NEVE_INLINE I FF(lu)(E *a, int64_t m, int64_t n, int64_t steps, int32_t *pivots, int64_t first, int64_t count)
{
    I info = FF(integers)(0);
    for (int64_t k = 0; k < steps; k++) {
        E best = FF(magnitude)(a[k * n + k]);
        I at = FF(integers)((TI)k);
        for (int64_t i = k + 1; i < m; i++) {
            E x = FF(magnitude)(a[i * n + k]);
            I more = x > best;
            best = FF(select)(more, x, best);
            at = FF(select_integers)(more, FF(integers)((TI)i), at);
        }
        FF(write_integers)(at + 1, first, count, steps, pivots + k);
        const TI *other = (const TI *)&at;
        for (int64_t lane = 0; lane < LANES; lane++)
            FF(exchange)(a, n, k, other[lane], lane);
        I zero = a[k * n + k] == 0;
        info = FF(select_integers)(zero & (info == 0), FF(integers)((TI)(k + 1)), info);
        E pivot = a[k * n + k], inverse = (T)1 / pivot;
        I divided = FF(integers)(m == n && n <= 4 && k == n - 2 ? -1 : 0) | (FF(magnitude)(pivot) < KN_LEAST);
        int any = FF(any)(divided);
        for (int64_t i = k + 1; i < m; i++) {
            E *row = a + i * n + k, x = row[0] * inverse;
            if (any)
                x = FF(select)(divided, row[0] / pivot, x);
            row[0] = FF(select)(zero, row[0], x);
            FF(subtract)(row + 1, a + k * n + k + 1, row[0], n - k - 1);
        }
    }
    return info;
}
#endif

#if FORM == 1 || FORM == 2
/* Row i of x (n, k) minus the rows from begin to end, one after the other, each times its factor; sums in registers where that is
 * not a loop along rows of one matrix. */
NEVE_INLINE void FF(reduce)(const E *factors, E *x, int64_t k, int64_t i, int64_t begin, int64_t end)
{
    int64_t j = 0;
    E *row = x + i * k;
    for (; LANES > 1 && j + 4 <= k; j += 4) {
        E a = row[j], b = row[j + 1], c = row[j + 2], d = row[j + 3];
        for (int64_t t = begin; t < end; t++) {
            const E *other = x + t * k + j;
            a -= factors[t] * other[0], b -= factors[t] * other[1];
            c -= factors[t] * other[2], d -= factors[t] * other[3];
        }
        row[j] = a, row[j + 1] = b, row[j + 2] = c, row[j + 3] = d;
    }
    for (; (LANES > 1 || k < 8) && j < k; j++) {
        E a = row[j];
        for (int64_t t = begin; t < end; t++)
            a -= factors[t] * x[t * k + j];
        row[j] = a;
    }
    for (int64_t t = begin; j < k && t < end; t++)
        FF(subtract)(row, x + t * k, factors[t], k);
}

/* x (n, k), in place, of a x = right, where a triangle of a (n, n) counts. */
NEVE_INLINE void FF(substitute)(const E *a, int64_t n, E *x, int64_t k, int upper, int unit)
{
    for (int64_t step = 0; step < n; step++) {
        int64_t i = upper ? n - 1 - step : step;
        FF(reduce)(a + i * n, x, k, i, upper ? i + 1 : 0, upper ? n : i);
        for (int64_t j = 0; !unit && j < k; j++)
            x[i * k + j] /= a[i * n + i];
    }
}
#endif

#if FORM == 2
NEVE_INLINE void FF(transpose)(E *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) {
            E t = a[i * n + j];
            a[i * n + j] = a[j * n + i];
            a[j * n + i] = t;
        }
}
#endif

#if FORM == 1
/* The exchanges of `steps` pivots of the matrices from `first` on, the last one first if backwards, on x (n, k). Pivots outside of
 * the matrix count as its nearest row. */
NEVE_INLINE void FF(permute)(E *x, int64_t n, int64_t k, const int32_t *pivots, int64_t steps, int64_t first, int64_t count, int backwards)
{
    for (int64_t lane = 0; lane < count; lane++)
        for (int64_t step = 0; step < steps; step++) {
            int64_t i = backwards ? steps - 1 - step : step, other = pivots[(first + lane) * steps + i] - (int64_t)1;
            FF(exchange)(x, k, i, neve_max(0, neve_min(other, n - 1)), lane);
        }
}
#endif

#if FORM == 3
NEVE_INLINE E FF(root)(E x)
{
    T *y = (T *)&x;
    for (int64_t lane = 0; lane < LANES; lane++)
        y[lane] = sizeof(T) == 4 ? (T)neve_root32((float)y[lane]) : (T)neve_root64((double)y[lane]);
    return x;
}

/* a (n, n), of which the lower triangle counts, in place; column has n elements; returns info. */
NEVE_INLINE I FF(cholesky)(E *a, int64_t n, E *column)
{
    I info = FF(integers)(0);
    E nan = (E){0} + (T)__builtin_nanf("");
    for (int64_t k = 0; k < n; k++) {
        for (int64_t i = 0; i < k; i++)
            a[i * n + k] = (E){0};
        E pivot = a[k * n + k];
        I bad = FF(select_integers)(pivot > 0, FF(integers)(0), FF(integers)(-1));
        info = FF(select_integers)(bad & (info == 0), FF(integers)((TI)(k + 1)), info);
        E root = FF(select)(bad, nan, FF(root)(pivot));
        a[k * n + k] = root;
        for (int64_t i = k + 1; i < n; i++) {
            column[i] = a[i * n + k] /= root;
            FF(subtract)(a + i * n + k + 1, column + k + 1, column[i], i - k);
        }
    }
    return info;
}
#endif
