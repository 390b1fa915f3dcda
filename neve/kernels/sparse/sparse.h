/* C[m, n] = sum over k of A[m, k] * W[n, k], where W is constant and most of it is zeros; handed to K_STORE(v, 0, m, n).
 *
 * A strip of rows of A is transposed into scratch, so that vectors run over rows: a weight is one broadcast for all of them. Only the
 * blocks of SPARSE_R outputs x 1 term that have a nonzero weight are stored and multiplied, in ascending order of k: with the sums in
 * one chain an output, as a dense product has them. Sums of a group of outputs stay in scratch until all chunks of terms are
 * added, and are transposed back where they are stored.
 *
 * 0 * x is NaN where x is infinite or NaN: a strip that has such a value is computed with every term (KN(exact)).
 *
 * Operands: p[0] = A, p[1] = W as `pack` of plan.py packs it, p[2] = the factors if SPARSE_SCALED. Contract macros, all undefined at
 * the end (literals, or expressions in s[] where "any" is said):
 *   KN(x), K_STORE(v, b, m, n), K_STORE_N(v, cnt, b, m, n)    vectors run along n; the entry is KN(run)
 *   K_STORE_LOOP         optional: defined if the epilogue is long: it is then compiled once, in a loop over the rows
 *   SPARSE_M, SPARSE_LDA any: rows of A, and the elements between them
 *   SPARSE_N, SPARSE_K   outputs and terms
 *   SPARSE_R             outputs a block
 *   SPARSE_NV            most vectors of rows a strip, 1..8
 *   SPARSE_WIDTHS        the set of strip widths that are compiled, bit v for v vectors
 *   SPARSE_KC            terms a chunk
 *   SPARSE_NG            outputs a group: a multiple of SPARSE_R and NEVE_VL
 *   SPARSE_SCALED        1: A[m, k] is multiplied by a factor for each k
 *   SPARSE_CONV          1: row m of A is what the kernel of a convolution sees of output pixel m, terms in the order [kh][kw][c]; p[0]
 *                        is an image whose channels are adjacent, and there are the macros CONV_... of conv.h but for the last five
 *
 * Scratch per thread, in bytes: 4 * (K + NG) * NV * VL, and of a convolution 4 * C more.
 *
 * Work is shared over threads in runs of groups, ordered by strip, group: which thread computes a group does not change it.
 */
#define SPARSE_GROUPS ((SPARSE_N + SPARSE_NG - 1) / SPARSE_NG)
#define SPARSE_CHUNKS ((SPARSE_K + SPARSE_KC - 1) / SPARSE_KC)
#define SPARSE_BLOCKS (SPARSE_NG / SPARSE_R)

/* The packed weights: in front of group g there are first[g] blocks; blocks of a run (a block row of outputs by a chunk of terms);
 * values block after block; the k of each block within its chunk. */
typedef struct {
    const uint32_t *first;
    const uint16_t *counts, *ks;
    const float *values;
} KN(packed);

NEVE_INLINE KN(packed) KN(unpack)(const void *packed)
{
    KN(packed) w;
    w.first = packed;
    w.values = (const float *)(w.first + SPARSE_GROUPS + 1);
    w.ks = (const uint16_t *)(w.values + (int64_t)w.first[SPARSE_GROUPS] * SPARSE_R);
    w.counts = w.ks + w.first[SPARSE_GROUPS];
    return w;
}

#if SPARSE_CONV
#define SPARSE_TAPS (CONV_KH * CONV_KW)
#define SPARSE_RUN CONV_C
#else
#define SPARSE_TAPS 1
#define SPARSE_RUN SPARSE_K
#endif

/* Where the terms of a tap lie for a vector of rows from m on; the last row again beyond the end. */
NEVE_INLINE void KN(point)(const float **row, void *const *p, const int64_t *s, const float *zeros, int64_t m, int64_t tap)
{
    const int64_t last = (SPARSE_M) - 1;
    (void)s, (void)zeros, (void)tap;
#if SPARSE_CONV
    const int64_t down = tap / CONV_KW * CONV_DH - CONV_PT, right = tap % CONV_KW * CONV_DW - CONV_PL;
    int64_t ow = m % (CONV_OW), oh = m / (CONV_OW) % (CONV_OH), n = m / (CONV_OW) / (CONV_OH);
    for (int i = 0; i < NEVE_VL; i++) {
        const int64_t ih = oh * CONV_SH + down, iw = ow * CONV_SW + right;
        const int inside = ih >= 0 && ih < (CONV_H) && iw >= 0 && iw < (CONV_W);
        row[i] = inside ? (const float *)p[0] + n * (CONV_XN) + ih * (CONV_XH) + iw * (CONV_XW) : zeros;
        if (m + i < last && ++ow == (CONV_OW)) {
            ow = 0;
            if (++oh == (CONV_OH))
                oh = 0, n++;
        }
    }
#else
    NEVE_UNROLL
    for (int i = 0; i < NEVE_VL; i++)
        row[i] = (const float *)p[0] + neve_min(m + i, last) * (int64_t)(SPARSE_LDA);
#endif
}

/* Rows m0 .. m0 + nv * VL of A as x[k][row]. Returns whether a value is infinite or NaN. */
NEVE_NOINLINE int KN(fill)(float *x, const float *zeros, void *const *p, const int64_t *s, int64_t m0, int64_t nv)
{
    const int64_t width = nv * NEVE_VL;
    vf wrong = vset(0);
    for (int64_t at = 0; at < width * SPARSE_TAPS; at += NEVE_VL) {
        const int64_t tap = at / width, j = at - tap * width;
        const float *row[NEVE_VL];
        KN(point)(row, p, s, zeros, m0 + j, tap);
        for (int64_t k = 0; k < SPARSE_RUN; k += NEVE_VL) {
            const int64_t terms = neve_min(NEVE_VL, SPARSE_RUN - k);
            vf r[NEVE_VL];
            if (terms == NEVE_VL) {
                NEVE_UNROLL
                for (int i = 0; i < NEVE_VL; i++)
                    r[i] = vload(row[i] + k);
            } else {
                NEVE_UNROLL
                for (int i = 0; i < NEVE_VL; i++)
                    r[i] = vload_n(row[i] + k, terms);
            }
#if SPARSE_SCALED
            const vf factor = terms == NEVE_VL ? vload((const float *)p[2] + k) : vload_n((const float *)p[2] + k, terms);
            NEVE_UNROLL
            for (int i = 0; i < NEVE_VL; i++)
                r[i] *= factor;
#endif
            vtranspose(r);
            float *to = x + (tap * SPARSE_RUN + k) * width + j;
            if (terms == NEVE_VL) {
                NEVE_UNROLL
                for (int i = 0; i < NEVE_VL; i++, to += width) {
                    wrong = vfma(r[i], vset(0), wrong);
                    vstore(to, r[i]);
                }
            } else {
                for (int64_t i = 0; i < terms; i++, to += width) {
                    wrong = vfma(r[i], vset(0), wrong);
                    vstore(to, r[i]);
                }
            }
        }
    }
    const float sum = vsum(wrong);
    return sum != sum;
}

/* What one group adds for one chunk of terms: sums[output][row] += . */
NEVE_INLINE void KN(tile)(float *sums, const float *x, const KN(packed) * at, int64_t blocks, int add, const int nv)
{
    const uint16_t *counts = at->counts, *ks = at->ks;
    const float *w = at->values;
    for (int64_t b = 0; b < blocks; b++, sums += SPARSE_R * nv * NEVE_VL) {
        vf acc[SPARSE_R][8];
        NEVE_UNROLL
        for (int r = 0; r < SPARSE_R; r++)
            NEVE_UNROLL
            for (int j = 0; j < nv; j++)
                acc[r][j] = add ? vload(sums + (r * nv + j) * NEVE_VL) : vset(0);
        for (const uint16_t *end = ks + counts[b]; ks < end; ks++, w += SPARSE_R) {
            const float *from = x + (int64_t)*ks * (nv * NEVE_VL);
            vf v[8];
            NEVE_UNROLL
            for (int j = 0; j < nv; j++)
                v[j] = vload(from + j * NEVE_VL);
            NEVE_UNROLL
            for (int r = 0; r < SPARSE_R; r++) {
                const vf weight = vset(w[r]);
                NEVE_UNROLL
                for (int j = 0; j < nv; j++)
                    acc[r][j] = vfma(weight, v[j], acc[r][j]);
            }
        }
        NEVE_UNROLL
        for (int r = 0; r < SPARSE_R; r++)
            NEVE_UNROLL
            for (int j = 0; j < nv; j++)
                vstore(sums + (r * nv + j) * NEVE_VL, acc[r][j]);
    }
}

/* The same with the terms whose weights are zero. */
NEVE_NOINLINE void KN(exact)(float *sums, const float *x, const KN(packed) * at, int64_t blocks, int add, int64_t width, int64_t terms)
{
    const uint16_t *counts = at->counts, *ks = at->ks;
    const float *w = at->values;
    for (int64_t b = 0; b < blocks; b++, sums += SPARSE_R * width) {
        const uint16_t *end = ks + counts[b];
        if (!add)
            for (int64_t i = 0; i < SPARSE_R * width; i += NEVE_VL)
                vstore(sums + i, vset(0));
        for (int64_t k = 0; k < terms; k++) {
            const int present = ks < end && *ks == k;
            for (int64_t r = 0; r < SPARSE_R; r++) {
                const vf weight = vset(present ? w[r] : 0);
                for (int64_t i = 0; i < width; i += NEVE_VL)
                    vstore(sums + r * width + i, vfma(weight, vload(x + k * width + i), vload(sums + r * width + i)));
            }
            ks += present;
            w += present ? SPARSE_R : 0;
        }
    }
}

#define SPARSE_TILE(NV)                                                                                                            \
    NEVE_NOINLINE void KN(tile##NV)(float *sums, const float *x, const KN(packed) * at, int64_t blocks, int add)                    \
    {                                                                                                                              \
        KN(tile)(sums, x, at, blocks, add, NV);                                                                                    \
    }
#if SPARSE_WIDTHS & 2
SPARSE_TILE(1)
#endif
#if SPARSE_WIDTHS & 4
SPARSE_TILE(2)
#endif
#if SPARSE_WIDTHS & 8
SPARSE_TILE(3)
#endif
#if SPARSE_WIDTHS & 16
SPARSE_TILE(4)
#endif
#if SPARSE_WIDTHS & 32
SPARSE_TILE(5)
#endif
#if SPARSE_WIDTHS & 64
SPARSE_TILE(6)
#endif
#if SPARSE_WIDTHS & 128
SPARSE_TILE(7)
#endif
#if SPARSE_WIDTHS & 256
SPARSE_TILE(8)
#endif

NEVE_INLINE void KN(tiles)(float *sums, const float *x, const KN(packed) * at, int64_t blocks, int add, int64_t nv)
{
    switch (nv) {
#if SPARSE_WIDTHS & 2
    case 1: KN(tile1)(sums, x, at, blocks, add); break;
#endif
#if SPARSE_WIDTHS & 4
    case 2: KN(tile2)(sums, x, at, blocks, add); break;
#endif
#if SPARSE_WIDTHS & 8
    case 3: KN(tile3)(sums, x, at, blocks, add); break;
#endif
#if SPARSE_WIDTHS & 16
    case 4: KN(tile4)(sums, x, at, blocks, add); break;
#endif
#if SPARSE_WIDTHS & 32
    case 5: KN(tile5)(sums, x, at, blocks, add); break;
#endif
#if SPARSE_WIDTHS & 64
    case 6: KN(tile6)(sums, x, at, blocks, add); break;
#endif
#if SPARSE_WIDTHS & 128
    case 7: KN(tile7)(sums, x, at, blocks, add); break;
#endif
#if SPARSE_WIDTHS & 256
    case 8: KN(tile8)(sums, x, at, blocks, add); break;
#endif
    default: break;
    }
}

/* Stores `outputs` from output n0 on, for rows m0 .. m1. */
NEVE_NOINLINE void KN(put)(void *const *p, const int64_t *s, const float *sums, int64_t width, int64_t m0, int64_t m1, int64_t n0,
                             int64_t outputs)
{
    (void)p, (void)s;
    for (int64_t m = m0; m < m1; m += NEVE_VL) {
        const int64_t rows = neve_min(NEVE_VL, m1 - m);
        for (int64_t n = 0; n < outputs; n += NEVE_VL) {
            const int64_t cnt = neve_min(NEVE_VL, outputs - n);
            const float *from = sums + n * width + m - m0;
            vf r[NEVE_VL];
            NEVE_UNROLL
            for (int i = 0; i < NEVE_VL; i++)
                r[i] = vload(from + i * width);
            vtranspose(r);
#ifndef K_STORE_LOOP
            if (rows == NEVE_VL && cnt == NEVE_VL) {
                NEVE_UNROLL
                for (int i = 0; i < NEVE_VL; i++)
                    K_STORE(r[i], 0, m + i, n0 + n);
                continue;
            }
#endif
            float by_row[NEVE_VL * NEVE_VL] NEVE_ALIGNED(64);
            NEVE_UNROLL
            for (int i = 0; i < NEVE_VL; i++)
                vstore(by_row + i * NEVE_VL, r[i]);
            NEVE_NO_UNROLL
            for (int64_t i = 0; i < rows; i++) {
                if (cnt == NEVE_VL)
                    K_STORE(vload(by_row + i * NEVE_VL), 0, m + i, n0 + n);
                else
                    K_STORE_N(vload(by_row + i * NEVE_VL), cnt, 0, m + i, n0 + n);
            }
        }
    }
}

/* Group g for the strip of nv vectors in x: rows m0 .. m1. */
NEVE_INLINE void KN(group)(void *const *p, const int64_t *s, const KN(packed) * all, float *sums, const float *x, int64_t nv,
                           int wrong, int64_t g, int64_t m0, int64_t m1)
{
    const int64_t n0 = g * SPARSE_NG, outputs = neve_min(SPARSE_NG, SPARSE_N - n0);
    const int64_t blocks = neve_ceil_div(outputs, SPARSE_R), width = nv * NEVE_VL;
    KN(packed) at = {0, all->counts + g * SPARSE_CHUNKS * SPARSE_BLOCKS, all->ks + all->first[g],
                      all->values + (int64_t)all->first[g] * SPARSE_R};
    for (int64_t k0 = 0; k0 < SPARSE_K; k0 += SPARSE_KC) {
        if (NEVE_UNLIKELY(wrong))
            KN(exact)(sums, x + k0 * width, &at, blocks, k0 > 0, width, neve_min(SPARSE_KC, SPARSE_K - k0));
        else
            KN(tiles)(sums, x + k0 * width, &at, blocks, k0 > 0, nv);
        int64_t used = 0;
        if (k0 + SPARSE_KC < SPARSE_K)
            for (int64_t b = 0; b < blocks; b++)
                used += at.counts[b];
        at.counts += blocks;
        at.ks += used;
        at.values += used * SPARSE_R;
    }
    KN(put)(p, s, sums, width, m0, m1, n0, outputs);
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    const int64_t M = SPARSE_M, vectors = neve_ceil_div(M, NEVE_VL);
    (void)s;
    if (M <= 0)
        return;
    const int64_t strips = neve_ceil_div(vectors, SPARSE_NV);
    const KN(packed) all = KN(unpack)(p[1]);
    float *x = (float *)th->scratch, *sums = x + (int64_t)SPARSE_K * SPARSE_NV * NEVE_VL;
    float *zeros = sums + SPARSE_NG * SPARSE_NV * NEVE_VL;
#if SPARSE_CONV
    for (int64_t c = 0; c < CONV_C; c++)
        zeros[c] = 0;
#endif
    /* a transposed strip should serve several groups */
    neve_work work = neve_work_of(strips * SPARSE_GROUPS, neve_min(SPARSE_GROUPS, 4), th);
    neve_range mine;
    int64_t filled = -1, wrong = 0;
    while (neve_take(&work, th, &mine))
        for (int64_t u = mine.begin; u < mine.end; u++) {
            /* strips differ by a vector at most */
            const int64_t strip = u / SPARSE_GROUPS, v0 = vectors * strip / strips, nv = vectors * (strip + 1) / strips - v0;
            if (strip != filled)
                wrong = KN(fill)(x, zeros, p, s, v0 * NEVE_VL, nv);
            filled = strip;
            KN(group)(p, s, &all, sums, x, nv, (int)wrong, u - strip * SPARSE_GROUPS, v0 * NEVE_VL, neve_min(M, (v0 + nv) * NEVE_VL));
        }
}

#if SPARSE_CONV
#include "../conv/conv_undef.h"
#endif
#undef SPARSE_CONV
#undef SPARSE_TAPS
#undef SPARSE_RUN
#undef SPARSE_GROUPS
#undef SPARSE_CHUNKS
#undef SPARSE_BLOCKS
#undef SPARSE_TILE
#undef SPARSE_M
#undef SPARSE_LDA
#undef SPARSE_N
#undef SPARSE_K
#undef SPARSE_R
#undef SPARSE_NV
#undef SPARSE_WIDTHS
#undef SPARSE_KC
#undef SPARSE_NG
#undef SPARSE_SCALED
#undef KN
#undef K_STORE
#undef K_STORE_N
#undef K_STORE_LOOP
