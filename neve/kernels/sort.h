/* Rows sorted, or their K best, stably: p[0] x (ROWS, N) of T, p[1] values (ROWS, K), p[2] positions (ROWS, K) of int64_t.
 *
 * T element type; DESCENDING 0 or 1; IS_FLOAT 0 or 1: NaN counts as the largest. ROWS, N, K may be expressions in s[].
 * 0 <= K <= N. Equal elements keep their order in both directions. Scratch: N * (2 * sizeof(T) + 16) + 64 bytes.
 * K below N / 16 keeps a heap of the K best; otherwise a merge sort of runs of 8 sorted by insertion.
 */
#if IS_FLOAT
#define KN_NAN(a) ((a) != (a))
#else
#define KN_NAN(a) 0
#endif

/* Whether a comes strictly before b. */
NEVE_INLINE int KN(before)(T a, T b)
{
#if DESCENDING
    return a > b || (KN_NAN(a) && !KN_NAN(b));
#else
    return a < b || (KN_NAN(b) && !KN_NAN(a));
#endif
}

NEVE_INLINE int KN(worse)(T a, int64_t i, T b, int64_t j)
{
    return KN(before)(b, a) || (!KN(before)(a, b) && i > j);
}

static void KN(sort)(const T *x, int64_t n, T *v, int64_t *at, T *v2, int64_t *at2, T **out, int64_t **out_at)
{
    for (int64_t begin = 0; begin < n; begin += 8)
        for (int64_t i = begin; i < neve_min(begin + 8, n); i++) {
            int64_t j = i;
            for (; j > begin && KN(before)(x[i], v[j - 1]); j--)
                v[j] = v[j - 1], at[j] = at[j - 1];
            v[j] = x[i], at[j] = i;
        }
    for (int64_t width = 8; width < n; width *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * width) {
            int64_t a = begin, middle = neve_min(begin + width, n), b = middle, end = neve_min(begin + 2 * width, n);
            for (int64_t i = begin; i < end; i++) {
                int64_t from = b >= end || (a < middle && !KN(before)(v[b], v[a])) ? a++ : b++;
                v2[i] = v[from], at2[i] = at[from];
            }
        }
        T *t = v;
        v = v2, v2 = t;
        int64_t *u = at;
        at = at2, at2 = u;
    }
    *out = v, *out_at = at;
}

/* Sinks entry i of a heap of n whose root is the worst. */
NEVE_INLINE void KN(sink)(T *v, int64_t *at, int64_t i, int64_t n)
{
    T x = v[i];
    int64_t where = at[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && KN(worse)(v[child + 1], at[child + 1], v[child], at[child]))
            child++;
        if (!KN(worse)(v[child], at[child], x, where))
            break;
        v[i] = v[child], at[i] = at[child];
    }
    v[i] = x, at[i] = where;
}

static void KN(select)(const T *x, int64_t n, int64_t k, T *v, int64_t *at)
{
    for (int64_t i = 0; i < k; i++)
        v[i] = x[i], at[i] = i;
    for (int64_t i = k / 2 - 1; i >= 0; i--)
        KN(sink)(v, at, i, k);
    for (int64_t i = k; i < n; i++)
        if (KN(before)(x[i], v[0])) {
            v[0] = x[i], at[0] = i;
            KN(sink)(v, at, 0, k);
        }
    for (int64_t left = k - 1; left > 0; left--) {
        T worst = v[0];
        int64_t where = at[0];
        v[0] = v[left], at[0] = at[left];
        v[left] = worst, at[left] = where;
        KN(sink)(v, at, 0, left);
    }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    const T *x = (const T *)p[0];
    T *values = (T *)p[1];
    int64_t *positions = (int64_t *)p[2], n = N, k = K;
    neve_range r = neve_share(ROWS, th);
    int64_t *at = (int64_t *)(void *)th->scratch;
    T *v = (T *)(void *)(at + 2 * n);
    for (int64_t row = r.begin; row < r.end && k > 0; row++) {
        if (k < n / 16) {
            KN(select)(x + row * n, n, k, values + row * k, positions + row * k);
            continue;
        }
        T *sorted;
        int64_t *order;
        KN(sort)(x + row * n, n, v, at, v + n, at + n, &sorted, &order);
        for (int64_t i = 0; i < k; i++)
            values[row * k + i] = sorted[i], positions[row * k + i] = order[i];
    }
}
#undef KN_NAN
#undef T
#undef ROWS
#undef N
#undef K
#undef DESCENDING
#undef IS_FLOAT
