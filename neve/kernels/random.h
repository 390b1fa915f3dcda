/* Random numbers of torch's CPU generator (see neve/ops/random.py): p[0] state, 5056 bytes; of some kinds an operand of P; then out (N)
 * of T; the advanced state.
 *
 * KIND 0 uniform [A, B), 1 normal by blocks of 16, 2 normal by pairs, 3 log-normal, 4 exponential, 5 cauchy, 6 geometric, 7 bernoulli,
 * 8 bernoulli of the operand, 9 integers LOW + word % SPAN, 10 words of LOW bits % SPAN, 11 permutation, 12 multinomial: N places in
 * rows of COLUMNS weights, SAMPLES of each, 13 rrelu. WIDE: T is double, which takes two words a number in kinds 0 and 1;
 * HALF: it is rounded to 16 bits later, for which kind 1 draws whole blocks only. Thread 0 draws, in order; the
 * pairs of kind 1 are shared. Scratch: 2816 bytes, and 8 for each of COLUMNS.
 */
typedef struct {
    uint32_t *key; /* 624 words */
    int64_t used;
    double kept;
    int32_t has, drawn;
} KN(words);

NEVE_INLINE uint32_t KN(mix)(uint32_t a, uint32_t b) { return ((a & 0x80000000u) | (b & 0x7fffffffu)) >> 1 ^ ((0u - (b & 1u)) & 0x9908b0dfu); }

NEVE_NOINLINE void KN(refill)(KN(words) *g)
{
    uint32_t *k = g->key;
    for (int i = 0; i < 227; i++)
        k[i] = k[i + 397] ^ KN(mix)(k[i], k[i + 1]);
    for (int i = 227; i < 623; i++)
        k[i] = k[i - 227] ^ KN(mix)(k[i], k[i + 1]);
    k[623] = k[396] ^ KN(mix)(k[623], k[0]);
    g->used = 0;
}

NEVE_INLINE uint32_t KN(temper)(uint32_t y)
{
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ y >> 18;
}

NEVE_INLINE uint32_t KN(word)(KN(words) *g)
{
    if (g->used >= 624)
        KN(refill)(g);
    g->drawn = 1;
    return KN(temper)(g->key[g->used++]);
}

NEVE_INLINE uint64_t KN(word64)(KN(words) *g)
{
    uint64_t high = KN(word)(g);
    return high << 32 | KN(word)(g);
}

NEVE_INLINE double KN(real)(KN(words) *g) { return (double)(int64_t)(KN(word64)(g) & 0x1fffffffffffffu) * 0x1p-53; }
NEVE_INLINE float KN(real32)(KN(words) *g) { return (float)(int32_t)(KN(word)(g) & 0xffffffu) * 0x1p-24f; }

NEVE_FN double KN(normal)(KN(words) *g)
{
    if (g->has) {
        g->has = 0;
        return g->kept;
    }
    double u1 = KN(real)(g), u2 = KN(real)(g);
    double radius = neve_root64(-2.0 * sd_log1p(-u2)), angle = 2.0 * 0x1.921fb54442d18p+1 * u1;
    g->kept = radius * sd_sin(angle);
    g->has = 1;
    return radius * sd_cos(angle);
}

/* n numbers in [0, 1) */
NEVE_FN void KN(reals)(KN(words) *g, T *out, int64_t n)
{
#if WIDE
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)KN(real)(g);
#else
    for (int64_t i = 0; i < n;) {
        if (g->used >= 624)
            KN(refill)(g);
        int64_t many = neve_min(n - i, 624 - g->used);
        const uint32_t *k = g->key + g->used;
        for (int64_t j = 0; j < many; j++)
            out[i + j] = (T)((float)(int32_t)(KN(temper)(k[j]) & 0xffffffu) * 0x1p-24f);
        g->used += many;
        g->drawn = 1;
        i += many;
    }
#endif
}

#if KIND == 1
/* Numbers in [0, 1) become normal ones: pairs are 8 apart in blocks of 16. */
NEVE_FN void KN(pairs)(T *x, int64_t blocks)
{
#if WIDE
    for (int64_t k = 0; k < blocks; k++, x += 16)
        for (int j = 0; j < 8; j++) {
            double radius = neve_root64(-2.0 * sd_log(1.0 - x[j])), angle = 2.0 * 0x1.921fb54442d18p+1 * x[j + 8];
            x[j] = radius * sd_cos(angle) * (B) + (A);
            x[j + 8] = radius * sd_sin(angle) * (B) + (A);
        }
#else
    enum { TOGETHER = NEVE_VL > 8 ? NEVE_VL / 8 : 1, LANES = 8 * TOGETHER };
    float u[LANES], v[LANES];
    for (int64_t k = 0; k < blocks; k += TOGETHER) {
        float *at = x + 16 * k;
        int some = (int)neve_min(TOGETHER, blocks - k);
        for (int j = 0; j < LANES; j++) {
            u[j] = j < 8 * some ? at[j / 8 * 16 + j % 8] : 0.0f;
            v[j] = j < 8 * some ? at[j / 8 * 16 + 8 + j % 8] : 0.0f;
        }
        for (int j = 0; j < LANES; j += NEVE_VL) {
            vf radius = vsqrt(vset(-2.0f) * vf_log(vset(1.0f) - vload(u + j))), angle = vset(0x1.921fb6p+2f) * vload(v + j);
            vstore(u + j, vfma(radius * vf_cos(angle), vset((float)(B)), vset((float)(A))));
            vstore(v + j, vfma(radius * vf_sin(angle), vset((float)(B)), vset((float)(A))));
        }
        for (int j = 0; j < 8 * some; j++) {
            at[j / 8 * 16 + j % 8] = u[j];
            at[j / 8 * 16 + 8 + j % 8] = v[j];
        }
    }
#endif
}
#endif

NEVE_NOINLINE void KN(draw)(KN(words) *g, const void *operand, T *out, int64_t n, int64_t columns, int64_t samples, char *capacity)
{
    (void)operand;
    (void)columns;
    (void)samples;
    (void)capacity;
#if KIND == 0
    const T low = (T)(A), high = (T)(B);
    KN(reals)(g, out, n);
    for (int64_t i = 0; i < n; i++) {
        T x = out[i] * (high - low) + low;
        out[i] = x == high ? low : x;
    }
#elif KIND == 2 || KIND == 1
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)(KN(normal)(g) * (B) + (A));
#elif KIND == 3
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)sd_exp(KN(normal)(g) * (B) + (A));
#elif KIND == 4
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)(-1.0 / (A) * sd_log1p(-KN(real)(g)));
#elif KIND == 5
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)((A) + (B) * sd_tan(0x1.921fb54442d18p+1 * (KN(real)(g) - 0.5)));
#elif KIND == 6
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)sd_ceil(sd_log(KN(real)(g)) / sd_log1p(-(A)));
#elif KIND == 7
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)(KN(real)(g) < (A));
#elif KIND == 8
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)((sizeof(P) == 8 ? (P)KN(real)(g) : (P)KN(real32)(g)) < ((const P *)operand)[i]);
#elif KIND == 9
    for (int64_t i = 0; i < n; i++) {
        uint64_t x = (SPAN >= UINT64_C(1) << 28 ? KN(word64)(g) : KN(word)(g)) % SPAN;
        out[i] = (T)(int64_t)(x + LOW);
    }
#elif KIND == 10
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)(int64_t)((LOW == 64 ? KN(word64)(g) : KN(word)(g)) % SPAN);
#elif KIND == 11
    for (int64_t i = 0; i < n; i++)
        out[i] = (T)i;
    for (int64_t i = 0; i < n - 1; i++) {
        int64_t k = i + (int64_t)(KN(word)(g) % (uint64_t)(n - i));
        T x = out[i];
        out[i] = out[k];
        out[k] = x;
    }
#elif KIND == 12
    P *sums = (P *)capacity;
    for (int64_t row = 0; row < n / samples; row++) {
        const P *weights = (const P *)operand + row * columns;
        P total = 0;
        for (int64_t j = 0; j < columns; j++)
            sums[j] = total += weights[j];
        for (int64_t j = 0; j < columns; j++)
            sums[j] /= total;
        sums[columns - 1] = 1;
        for (int64_t i = 0; i < samples; i++) {
            double x = KN(real)(g);
            int64_t from = 0, to = columns;
            while (from < to) {
                int64_t middle = from + (to - from) / 2;
                if ((double)sums[middle] < x)
                    from = middle + 1;
                else
                    to = middle;
            }
            out[row * samples + i] = (T)from;
        }
    }
#elif KIND == 13
    for (int64_t i = 0; i < n; i++)
        out[i] = ((const P *)operand)[i] <= 0 ? (T)(KN(real)(g) * ((B) - (A)) + (A)) : (T)1;
#endif
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    const char *before = (const char *)p[0];
    const void *operand = KIND == 8 || KIND >= 12 ? p[1] : 0;
    T *out = (T *)p[KIND == 8 || KIND >= 12 ? 2 : 1];
    char *after = (char *)p[KIND == 8 || KIND >= 12 ? 3 : 2];
    const int64_t n = N, columns = COLUMNS;
    T *last = (T *)(th->scratch + 2560); /* the 16 numbers that the last ones are made of anew */
    if (th->tid == 0) {
        KN(words) g = {(uint32_t *)th->scratch, 0, 0, 0, 0};
        int32_t left;
        memcpy(after, before, 5056);
        memcpy(&left, before + 8, 4);
        memcpy(&g.used, before + 16, 8);
        memcpy(&g.kept, before + 5024, 8);
        memcpy(&g.has, before + 5040, 4);
        g.used = left == 1 ? 624 : g.used;
        for (int i = 0; i < 624; i++) {
            uint64_t word;
            memcpy(&word, before + 24 + 8 * i, 8);
            g.key[i] = (uint32_t)word;
        }
        if (KIND == 1 && n >= 16) {
            KN(reals)(&g, out, HALF ? n / 16 * 16 : n);
            if (n % 16)
                KN(reals)(&g, last, 16);
        } else {
            KN(draw)(&g, operand, out, n, columns, SAMPLES, th->scratch + 2816);
        }
        if (g.drawn) {
            left = (int32_t)(625 - g.used);
            memcpy(after + 8, &left, 4);
            memcpy(after + 16, &g.used, 8);
            for (int i = 0; i < 624; i++) {
                uint64_t word = g.key[i];
                memcpy(after + 24 + 8 * i, &word, 8);
            }
        }
        g.kept = g.has ? g.kept : 0;
        memcpy(after + 5024, &g.kept, 8);
        memcpy(after + 5040, &g.has, 4);
    }
#if KIND == 1
    if (n < 16)
        return;
    neve_barrier(th);
    neve_range r = neve_share(n / 16, th);
    KN(pairs)(out + 16 * r.begin, r.end - r.begin);
    if (n % 16 == 0)
        return;
    neve_barrier(th);
    if (th->tid == 0) {
        KN(pairs)(last, 1);
        memcpy(out + n - 16, last, 16 * sizeof(T));
    }
#else
    (void)last;
#endif
}
#undef KIND
#undef T
#undef P
#undef WIDE
#undef HALF
#undef N
#undef A
#undef B
#undef LOW
#undef SPAN
#undef COLUMNS
#undef SAMPLES
