/* Rows written where they belong: p[0] index (M) of int64_t, p[1] src (OUTER, M, INNER) of T, p[2] x (OUTER, N, INNER), whose
 * row index[m] becomes src[o, m, :]; of several the last stays. Indices outside 0..N-1 are skipped. Sizes may be expressions in s[].
 */
static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    const int64_t *index = (const int64_t *)p[0];
    const T *src = (const T *)p[1];
    T *x = (T *)p[2];
    int64_t n = N, inner = INNER, m = M;
    neve_range r = neve_share((int64_t)(OUTER) * inner, th);
    for (int64_t i = r.begin; i < r.end;) {
        int64_t o = i / inner, begin = i - o * inner, end = neve_min(inner, begin + r.end - i);
        for (int64_t j = 0; j < m; j++) {
            if (index[j] < 0 || index[j] >= n)
                continue;
            for (int64_t k = begin; k < end; k++)
                x[(o * n + index[j]) * inner + k] = src[(o * m + j) * inner + k];
        }
        i += end - begin;
    }
}
#undef T
#undef OUTER
#undef N
#undef INNER
#undef M
