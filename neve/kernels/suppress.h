/* Non-maximum suppression: p[0] boxes (5, N) of T, rows x1, y1, x2, y2, class, the best box first; p[1] bytes (N), 1 for
 * those that stay. A box goes if its intersection with a better one of its class that stays is above LIMIT of their union.
 *
 * The inner loop has no branch, so that it runs in vectors. N may be an expression in s[]. Scratch: N * sizeof(T) bytes.
 * One thread works: each box that stays decides what the next one is.
 */
static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    if (th->tid != 0)
        return;
    const int64_t n = N;
    const T *x1 = (const T *)p[0], *y1 = x1 + n, *x2 = y1 + n, *y2 = x2 + n, *kind = y2 + n;
    T *area = (T *)th->scratch;
    uint8_t *stays = (uint8_t *)p[1];
    for (int64_t j = 0; j < n; j++) {
        area[j] = (x2[j] - x1[j]) * (y2[j] - y1[j]);
        stays[j] = 1;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!stays[i])
            continue;
        const T left = x1[i], top = y1[i], right = x2[i], bottom = y2[i], own = area[i];
        for (int64_t j = i + 1; j < n; j++) {
            const T w = (x2[j] < right ? x2[j] : right) - (left < x1[j] ? x1[j] : left);
            const T h = (y2[j] < bottom ? y2[j] : bottom) - (top < y1[j] ? y1[j] : top);
            const T both = (w > 0 ? w : 0) * (h > 0 ? h : 0);
            stays[j] &= kind[j] != kind[i] || !(both / (own + area[j] - both) > (T)(LIMIT));
        }
    }
}
#undef T
#undef N
#undef LIMIT
