/* One register tile of gemm.h as a function of its own.
 *
 *     acc[r][j] = sum over k < terms of a[r * TILE_LDA + k * TILE_AK] * b[k * TILE_BS + j],   r < TILE_MR, j < TILE_NV * NEVE_VL
 *
 * Include once per tile. The includer defines, and keeps (not undefined here):
 *   K_STORE(v, b, m, n), K_STORE_N(v, cnt, b, m, n)   as in gemm.h; called with b = bi, m + r, n + column
 *   K_STORE_LOOP   optional: define it (as anything) if the epilogue is long (an exp, erf, division): it is then compiled once a vector
 *                  column, in a loop over the rows, not once a vector; faster and much smaller for GELU, slower for bias or ReLU
 *   K_FETCH(b, m, n)          optional: asks for the cache lines that the store of that row will touch from column n on. Without it the
 *                  stores of a result that is not in L1 hold up the next tile: 5 to 10 % of a product
 *   TILE_LDA, TILE_AK         elements between rows of A, and between successive k of a row
 * and may define:
 *   TILE_BS        elements between successive rows of B; default TILE_NV * NEVE_VL (a packed panel)
 *   TILE_BV(j)     offset of the j-th vector in a row of B; default (j) * NEVE_VL
 *   TILE_BT, TILE_LOADB(p)     type of B's elements, and what loads a vector of them; default float, vload
 *   TILE_PAIRS     1: vectors 2 i and 2 i + 1 of B are adjacent bfloat16: loaded as one, they come out as its even and its odd
 *                  elements, and sums are put in order at the end. Default 0
 *   TILE_HALF      1: the last vector of a row is half of one, in B and in registers (a half costs half a multiply-add where the units
 *                  are half a vector wide); default 0
 *   TILE_SPREAD    the prefetches are spread over the terms, some every TILE_SPREAD terms; default: all at
 *                  the start. A burst stalls the tile: 32 is 3 to 15 % faster where there is something to prefetch
 *   TILE_PARTIAL 1 adds the arguments `part` and `flags`: with flag 1 the sums start from part, with flag 2 they go back to it
 *                  instead of to the store; part holds TILE_MR * TILE_NV vectors
 * and, undefined again at the end of this file:
 *   TILE_FN        the function's name      TILE_MR, TILE_NV   literal rows and vectors
 * After the last tile of an instance, gemm_tile_end.h undefines all the others.
 *
 * The function:
 *   TILE_FN(p, s, a, b, terms, bi, m, n, cnt, pf, pfn [, part, flags])
 *     cnt          valid columns, 1..TILE_NV * NEVE_VL
 *     pf, pfn      address and number of 64-byte lines to prefetch: this tile's share of the next panel
 *
 * How many rows fit: rows_that_fit of terms.py. b is advanced, not indexed, and the function is not inlined:
 * else gcc folds the loads of B into every multiply, or lets constants of the store take the accumulators' registers.
 */
#ifndef TILE_SPREAD
#define TILE_SPREAD ((int64_t)1 << 40)
#endif
#ifndef TILE_HALF
#define TILE_HALF 0
#endif
#ifndef TILE_PAIRS
#define TILE_PAIRS 0
#endif
#ifndef TILE_BT
#define TILE_BT velem
#define TILE_LOADB vload
#endif
#define TILE_STORE(v, r, j) K_STORE(v, bi, m + (r), n + (j))
#define TILE_STORE_N(v, cnt, r, j) K_STORE_N(v, cnt, bi, m + (r), n + (j))
#ifndef TILE_BV
#define TILE_BV(j) ((j) * NEVE_VL)
#endif
#ifdef TILE_BS
#define TILE_B_STEP (TILE_BS)
#else
#define TILE_B_STEP (TILE_NV * NEVE_VL - TILE_HALF * NEVE_VL / 2)
#endif
#define TILE_WHOLE (TILE_NV - TILE_HALF)
#define TILE_PAIRED (TILE_PAIRS ? TILE_NV / 2 * 2 : 0)
#if TILE_PAIRS
#define TILE_LOAD_PAIRS(w)                       \
    NEVE_UNROLL                                  \
    for (int j = 0; j < TILE_PAIRED; j += 2)     \
        vload_pair_bf16(b + TILE_BV(j), (w) + j);
#else
#define TILE_LOAD_PAIRS(w)
#endif
#if TILE_HALF
#define TILE_LOAD_HALF wh = vloadh(b + TILE_WHOLE * NEVE_VL);
#else
#define TILE_LOAD_HALF
#endif

NEVE_NOINLINE void TILE_FN(void *const *NEVE_RESTRICT p, const int64_t *NEVE_RESTRICT s, const velem *a, const TILE_BT *b,
                           int64_t terms, int64_t bi, int64_t m, int64_t n, int64_t cnt, const float *pf, int64_t pfn
#ifdef TILE_PARTIAL
                           , velem *part, int flags
#endif
)
{
    vf acc[TILE_MR][TILE_NV];
    (void)p, (void)s, (void)bi, (void)m, (void)n;
#ifdef TILE_PARTIAL
    if (flags & 1) {
        NEVE_UNROLL
        for (int r = 0; r < TILE_MR; r++)
            NEVE_UNROLL
            for (int j = 0; j < TILE_NV; j++)
                acc[r][j] = vload(part + (r * TILE_NV + j) * NEVE_VL);
    } else
#endif
    {
        NEVE_UNROLL
        for (int r = 0; r < TILE_MR; r++)
            NEVE_UNROLL
            for (int j = 0; j < TILE_NV; j++)
                acc[r][j] = vset(0);
    }
#if TILE_HALF
    vh half[TILE_MR];
    NEVE_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        half[r] = vseth(0);
#endif
#ifdef K_FETCH
    NEVE_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        NEVE_UNROLL
        for (int j = 0; j < TILE_NV * NEVE_VL; j += 16)
            K_FETCH(bi, m + r, n + j);
#endif
    const velem *row[TILE_MR];
    NEVE_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        row[r] = a + r * (int64_t)(TILE_LDA);
    int64_t chunks = terms / TILE_SPREAD + 1, per = (pfn + chunks - 1) / chunks;
    for (int64_t k = 0; k < terms;) {
        int64_t end = neve_min(terms, k + TILE_SPREAD);
        for (int64_t now = neve_min(per, pfn); now > 0; now--, pfn--, pf += 16)
            vprefetch(pf);
#define TERMS_ROWS TILE_MR
#define TERMS_NV TILE_WHOLE
#define TERMS_A(r) (row[r] + k * (TILE_AK))
#define TERMS_ADJACENT (TILE_AK) == 1
#define TERMS_HALF TILE_HALF
#define TERMS_LOAD_B(w)                              \
    NEVE_UNROLL                                      \
    for (int j = TILE_PAIRED; j < TILE_WHOLE; j++)   \
        w[j] = TILE_LOADB(b + TILE_BV(j));           \
    TILE_LOAD_PAIRS(w)                               \
    TILE_LOAD_HALF                                   \
    b += TILE_B_STEP
#include "../terms.h"
    }
#if TILE_HALF
    NEVE_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        acc[r][TILE_WHOLE] = vwiden(half[r]);
#endif
#if TILE_PAIRS
    NEVE_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        NEVE_UNROLL
        for (int j = 0; j < TILE_PAIRED; j += 2)
            vzip(acc[r] + j);
#endif
#ifdef TILE_PARTIAL
    if (flags & 2) {
        NEVE_UNROLL
        for (int r = 0; r < TILE_MR; r++)
            NEVE_UNROLL
            for (int j = 0; j < TILE_NV; j++)
                vstore(part + (r * TILE_NV + j) * NEVE_VL, acc[r][j]);
        return;
    }
#endif
#ifdef K_STORE_LOOP
    velem sums[TILE_MR * TILE_NV * NEVE_VL] NEVE_ALIGNED(64);
    NEVE_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        NEVE_UNROLL
        for (int j = 0; j < TILE_NV; j++)
            vstore(sums + (r * TILE_NV + j) * NEVE_VL, acc[r][j]);
    NEVE_NO_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        NEVE_UNROLL
        for (int j = 0; j < TILE_NV; j++) {
            vf v = vload(sums + (r * TILE_NV + j) * NEVE_VL);
            if (cnt >= (j + 1) * NEVE_VL)
                TILE_STORE(v, r, j * NEVE_VL);
            else if (cnt > j * NEVE_VL)
                TILE_STORE_N(v, cnt - j * NEVE_VL, r, j * NEVE_VL);
        }
#else
    if (cnt >= TILE_NV * NEVE_VL) {
        NEVE_UNROLL
        for (int r = 0; r < TILE_MR; r++)
            NEVE_UNROLL
            for (int j = 0; j < TILE_NV; j++)
                TILE_STORE(acc[r][j], r, j * NEVE_VL);
        return;
    }
    NEVE_UNROLL
    for (int r = 0; r < TILE_MR; r++)
        NEVE_UNROLL
        for (int j = 0; j < TILE_NV; j++) {
            if (cnt >= (j + 1) * NEVE_VL)
                TILE_STORE(acc[r][j], r, j * NEVE_VL);
            else if (cnt > j * NEVE_VL)
                TILE_STORE_N(acc[r][j], cnt - j * NEVE_VL, r, j * NEVE_VL);
        }
#endif
}

#undef TILE_FN
#undef TILE_MR
#undef TILE_NV
#undef TILE_B_STEP
#undef TILE_WHOLE
#undef TILE_PAIRED
#undef TILE_LOAD_PAIRS
#undef TILE_LOAD_HALF
#undef TILE_STORE
#undef TILE_STORE_N
