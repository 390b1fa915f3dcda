/* Rows written to places that are data: p[0] x (OUTER, N, INNER) of T, p[1] index (OUTER, M) of int64_t, p[2] src (OUTER, M, INNER),
 * p[3] out (OUTER, N, INNER): x with src[o, m, :] reduced into row index[o, m]. Indices outside 0..N-1 are skipped.
 *
 * REDUCE 0 replace (the last wins), 1 sum, 2 product, 3 maximum, 4 minimum (NaN wins; IS_FLOAT says whether there is one).
 * INCLUDE_SELF 0: x takes no part where something is written; IDENTITY is then the reduction's neutral value. Sizes may be expressions in s[]. Integers wrap.
 */
#if IS_FLOAT
#define KN_NAN(a) ((a) != (a))
#define KN_SUM(a, b) ((a) + (b))
#define KN_PROD(a, b) ((a) * (b))
#else
#define KN_NAN(a) 0
#define KN_SUM(a, b) ((T)((uint64_t)(a) + (uint64_t)(b)))
#define KN_PROD(a, b) ((T)((uint64_t)(a) * (uint64_t)(b)))
#endif

NEVE_INLINE T KN(combine)(T a, T b)
{
#if REDUCE == 0
    (void)a;
    return b;
#elif REDUCE == 1
    return KN_SUM(a, b);
#elif REDUCE == 2
    return KN_PROD(a, b);
#elif REDUCE == 3
    return KN_NAN(a) || a > b ? a : b;
#else
    return KN_NAN(a) || a < b ? a : b;
#endif
}

/* The lanes begin..end-1 of one outer row; lanes are the inner axis. */
static void KN(lanes)(const T *x, const int64_t *index, const T *src, T *out, int64_t n, int64_t m, int64_t inner, int64_t begin, int64_t end)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = begin; k < end; k++)
            out[i * inner + k] = x[i * inner + k];
#if !INCLUDE_SELF
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = begin; k < end && index[i] >= 0 && index[i] < n; k++)
            out[index[i] * inner + k] = (T)IDENTITY;
#endif
    for (int64_t i = 0; i < m; i++) {
        int64_t to = index[i];
        if (to < 0 || to >= n)
            continue;
        for (int64_t k = begin; k < end; k++)
            out[to * inner + k] = KN(combine)(out[to * inner + k], src[i * inner + k]);
    }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    const T *x = (const T *)p[0], *src = (const T *)p[2];
    const int64_t *index = (const int64_t *)p[1];
    T *out = (T *)p[3];
    int64_t n = N, inner = INNER, m = M;
    neve_range r = neve_share((int64_t)(OUTER) * inner, th);
    for (int64_t i = r.begin; i < r.end;) {
        int64_t o = i / inner, begin = i - o * inner, end = neve_min(inner, begin + r.end - i);
        KN(lanes)(x + o * n * inner, index + o * m, src + o * m * inner, out + o * n * inner, n, m, inner, begin, end);
        i += end - begin;
    }
}
#undef KN_NAN
#undef KN_SUM
#undef KN_PROD
#undef T
#undef OUTER
#undef N
#undef INNER
#undef M
#undef REDUCE
#undef INCLUDE_SELF
#undef IDENTITY
#undef IS_FLOAT
