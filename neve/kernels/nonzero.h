/* Where a mask is true: p[0] bytes of 0 or 1 (N), p[1] int64_t (COUNT): the first COUNT positions in order, then -1.
 *
 * A thread counts what is true before its share of the mask, which is cheaper than to wait for what others have counted.
 * N and COUNT may be expressions in s[].
 */
static int64_t KN(count)(const uint8_t *mask, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += mask[i];
    return count;
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    const uint8_t *mask = (const uint8_t *)p[0];
    int64_t *out = (int64_t *)p[1];
    const int64_t n = N, count = COUNT;
    const neve_range r = neve_share(n, th);
    int64_t at = KN(count)(mask, r.begin), i = r.begin;
    for (; i + 8 <= r.end && at < count; i += 8) {
        uint64_t block;
        memcpy(&block, mask + i, 8);
        if (!block)
            continue;
        for (int64_t k = i; k < i + 8; k++)
            if (mask[k] && at < count)
                out[at++] = k;
    }
    for (; i < r.end && at < count; i++)
        if (mask[i])
            out[at++] = i;
    if (th->tid == th->nt - 1)
        for (; at < count; at++)
            out[at] = -1;
}
#undef N
#undef COUNT
