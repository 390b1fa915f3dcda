/* Where values go in sorted rows: p[0] sorted (ROWS, N) of T, p[1] values (ROWS, M), p[2] positions (ROWS, M) of int64_t.
 *
 * RIGHT 0: before, 1: after equal elements. NaN goes to the end. ROWS, N, M may be expressions in s[].
 */
static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    const T *sorted = (const T *)p[0], *values = (const T *)p[1];
    int64_t *out = (int64_t *)p[2], n = N, m = M;
    neve_range r = neve_share((int64_t)(ROWS) * m, th);
    for (int64_t i = r.begin; i < r.end; i++) {
        const T *row = sorted + i / m * n;
        int64_t low = 0, high = n;
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
#if RIGHT
            int beyond = row[middle] > values[i];
#else
            int beyond = row[middle] >= values[i];
#endif
            if (beyond)
                high = middle;
            else
                low = middle + 1;
        }
        out[i] = low;
    }
}
#undef T
#undef ROWS
#undef N
#undef M
#undef RIGHT
