/* C[b, m, n] = sum over k of A[b, m, k] * B[b, k, n], handed to K_STORE(v, b, m, n). Sizes of 0 are fine; with K = 0 zeros are stored.
 *
 * Operands: p[0] = A, p[1] = B, p[2] = the factors if GEMM_B_SCALED. Contract macros, all undefined at the end (literals, or expressions in s[] where "any" is said):
 *   KN(x), K_STORE(v, b, m, n), K_STORE_N(v, cnt, b, m, n)    vectors run along n; the entry is KN(run)
 *   K_FETCH(b, m, n)     optional, see gemm_tile.h; the includer undefines it
 *   K_STORE_LOOP         optional: define it if the epilogue is long (see gemm_tile.h)
 *   GEMM_BATCH, GEMM_M   any
 *   GEMM_N, GEMM_K       any if B is a run-time matrix, else literal
 *   GEMM_LDA, GEMM_LDK   any: elements between rows of A, and between successive k of a row
 *   GEMM_A_BATCH(b)      any: elements before A of batch b
 *   GEMM_B_PACKED        1: B is a constant packed by `pack_weight` of tiles.py; 0: a run-time matrix
 *   GEMM_B_TYPE          of a packed B's elements: 0 velem, 1 float16, 2 bfloat16
 *   GEMM_LDB, GEMM_LDN   any: elements between successive k, and successive n, of a run-time B (one of them 1, or it is slow)
 *   GEMM_B_BATCH(b)      any: elements before B of batch b (of packed elements if packed)
 *   GEMM_B_SCALED        1: a packed B is multiplied by a factor for each k, panel by panel in scratch
 *   GEMM_B_WIDENED       1: a packed B of halves becomes float32, panel by panel in scratch: widened in the tiles it costs each of them
 *                        as many instructions, 14 to 22 % of a bfloat16 product
 *   GEMM_B_DIRECT        1: a run-time B with GEMM_LDN 1 is read in place but for the last panel (for few rows)
 *   GEMM_NV, GEMM_NV_LAST      literal: vectors of a panel of columns, and of the last panel
 *   GEMM_HALF            1: the last vector of the last panel is half of one (NEVE_VL 16, packed B, no GEMM_GEMV)
 *   GEMM_MR, GEMM_MR_LAST      literal: most rows of a tile for either
 *   GEMM_ROWS, GEMM_ROWS_LAST  literal: the set of row counts for which tiles are compiled, bit r for r rows
 *   GEMM_MB              literal: most rows of a block of A that stays in cache while the panels of B pass by; a multiple of GEMM_MR
 *   GEMM_KC              literal: most terms at once of a run-time B
 *   GEMM_K_SPLIT         1: K may exceed GEMM_KC (run-time B only)
 *   GEMM_A_PACK, GEMM_A_STRIDE  1: each block of A is first copied to scratch with its rows adjacent, k GEMM_A_STRIDE (>= MB) apart
 *   GEMM_GEMV            panels at once if M is 1 at run time (packed B, GEMM_NV * GEMM_GEMV <= 12), or 0
 *   GEMM_PREFETCH        1: while one panel is used, fetch the next
 *
 * A, sums and a B of type 0 are of velem, of vec.h or as gemm_f64.h has it.
 *
 * Scratch per thread, in bytes, each rounded up to 64: A pack e * K * GEMM_A_STRIDE; run-time, scaled or widened B e * KC * panel; K split e * MB * panel,
 * where e is sizeof(velem), panel = max(NV, NV_LAST) * VL and MB is rounded up to a multiple of GEMM_MR_LAST too.
 *
 * Work is shared over threads in runs of tiles, ordered by batch, block of rows, panel, tile: every output is computed by one tile
 * with one order of summation, so that results do not depend on which thread computes it.
 */
#define GEMM_NR (GEMM_NV * NEVE_VL)
#define GEMM_NL (GEMM_NV_LAST * NEVE_VL - GEMM_HALF * NEVE_VL / 2)
#define GEMM_WIDEST (GEMM_NR > GEMM_NL ? GEMM_NR : GEMM_NL)
#define GEMM_ROUND(n) (((n) + 63) / 64 * 64)
#define GEMM_B_COPIED (GEMM_B_SCALED || GEMM_B_WIDENED)

#if GEMM_B_TYPE
#include "../vec_half.h"
#define GEMM_BT uint16_t
#if GEMM_B_TYPE == 1
#define GEMM_LOADB vload_f16
#define GEMM_LOADB_N vload_f16_n
#else
#define GEMM_LOADB vload_bf16
#define GEMM_LOADB_N vload_bf16_n
#endif
#else
#define GEMM_BT velem
#define GEMM_LOADB vload
#define GEMM_LOADB_N vload_n
#endif
#define GEMM_LINES(n) ((n) * (int64_t)sizeof(GEMM_BT) / 64)

#include "gemm_pack.h"

#if GEMM_A_PACK
#define TILE_LDA 1
#define TILE_AK GEMM_A_STRIDE
#else
#define TILE_LDA GEMM_LDA
#define TILE_AK GEMM_LDK
#endif
#if GEMM_PREFETCH
#define TILE_SPREAD 32
#endif
#if GEMM_K_SPLIT
#define TILE_PARTIAL 1
#define GEMM_PARTIAL , part, flags
#else
#define GEMM_PARTIAL
#endif

#define TILE_BT GEMM_BT
#define TILE_LOADB GEMM_LOADB

#if GEMM_GEMV
/* Row 0 of as many panels side by side as GEMM_GEMV says. */
#define TILE_FN KN(gemv_tile)
#define TILE_MR 1
#define TILE_NV (GEMM_NV * GEMM_GEMV)
#define TILE_BS GEMM_NR
#define TILE_BV(j) ((j) / GEMM_NV * (int64_t)(GEMM_K) * GEMM_NR + (j) % GEMM_NV * NEVE_VL)
#define TILE_PAIRS (GEMM_B_TYPE == 2 && GEMM_NV % 2 == 0)
#include "gemm_tile.h"
#undef TILE_PAIRS
#undef TILE_BS
#undef TILE_BV
#if GEMM_B_WIDENED
#define GEMM_GEMV_ONE KN(gemv_one)
#define TILE_FN GEMM_GEMV_ONE
#define TILE_MR 1
#define TILE_NV GEMM_NV
#include "gemm_tile.h"
#else
#define GEMM_GEMV_ONE(...) KN(tile_last)(1, __VA_ARGS__)
#endif
#endif

/* A panel that is copied is copied to floats. */
#if GEMM_B_COPIED
#undef TILE_BT
#undef TILE_LOADB
#define TILE_BT velem
#define TILE_LOADB vload
#else
#define TILE_PAIRS (GEMM_B_TYPE == 2)
#endif

#undef TILE_HALF
#define TILE_HALF GEMM_HALF
#define TILES_RUN KN(tile_last)
#define TILES_FN(r) KN(last_##r)
#define TILES_NV GEMM_NV_LAST
#define TILES_MASK GEMM_ROWS_LAST
#include "gemm_tiles.h"
#undef TILE_HALF

#if GEMM_NV == GEMM_NV_LAST && GEMM_MR == GEMM_MR_LAST && !GEMM_B_DIRECT && !GEMM_HALF
#define GEMM_TILE_MAIN KN(tile_last)
#else
#define GEMM_TILE_MAIN KN(tile_main)
#if GEMM_B_DIRECT
#define TILE_BS (GEMM_LDB)
#endif
#define TILES_RUN KN(tile_main)
#define TILES_FN(r) KN(main_##r)
#define TILES_NV GEMM_NV
#define TILES_MASK GEMM_ROWS
#include "gemm_tiles.h"
#endif

/* A block of rows cut evenly into tiles of at most mr rows: `more` of base + 1 rows, then those of base. */
typedef struct {
    int64_t count, base, more;
} KN(cut_t);

NEVE_INLINE KN(cut_t) KN(cut)(int64_t rows, int64_t mr)
{
    int64_t count = neve_ceil_div(rows, mr);
    return (KN(cut_t)){count, rows / count, rows % count};
}

/* Tiles t0 .. t1 of one panel (n0 its first column, b its packed or direct data) over the block of rows that starts at m0. */
NEVE_INLINE void KN(tiles)(void *const *p, const int64_t *s, int last, const velem *a, const TILE_BT *b, int64_t k, int64_t bi,
                           int64_t m0, KN(cut_t) cut, int64_t t0, int64_t t1, int64_t n0, const float *next, int64_t lines,
                           velem *part, int flags)
{
    int64_t cnt = GEMM_N - n0;
    (void)part, (void)flags;
    for (int64_t t = t0; t < t1; t++) {
        int64_t row = t * cut.base + neve_min(t, cut.more), rows = cut.base + (t < cut.more);
        const velem *at = a + row * (int64_t)(TILE_LDA);
        const float *pf = next + 16 * (lines * t / cut.count);
        int64_t pfn = lines * (t + 1) / cut.count - lines * t / cut.count;
        if (last)
            KN(tile_last)(rows, p, s, at, b, k, bi, m0 + row, n0, cnt, pf, pfn GEMM_PARTIAL);
        else
            GEMM_TILE_MAIN(rows, p, s, at, b, k, bi, m0 + row, n0, GEMM_NR, pf, pfn GEMM_PARTIAL);
#if GEMM_K_SPLIT
        part += last ? GEMM_MR_LAST * GEMM_NL : GEMM_MR * GEMM_NR;
#endif
    }
}

/* The same for a panel whose data is still to be found or packed. */
NEVE_INLINE void KN(strip)(void *const *p, const int64_t *s, neve_thread *th, int last, const velem *a, int64_t bi, int64_t m0,
                           KN(cut_t) cut, int64_t t0, int64_t t1, int64_t panel, int more)
{
    const int64_t K = GEMM_K, n0 = panel * GEMM_NR;
    const GEMM_BT *b = (const GEMM_BT *)p[1] + (GEMM_B_BATCH(bi));
    (void)th, (void)more;
#if GEMM_B_PACKED
    const float *next = (const float *)(last ? b : b + (n0 + GEMM_NR) * K);
    int64_t lines = GEMM_PREFETCH && more && cut.count > 1 ? GEMM_LINES((last ? GEMM_NR : GEMM_NL < GEMM_NR ? GEMM_NL : GEMM_NR) * K) : 0;
    b += n0 * K;
#if GEMM_B_COPIED
    velem *copied = (velem *)(th->scratch + (GEMM_A_PACK ? GEMM_ROUND((int64_t)sizeof(velem) * (GEMM_A_STRIDE) * K) : 0));
    if (last)
        KN(copy_b)(copied, b, GEMM_B_SCALED ? p[2] : 0, K, GEMM_NL);
    else
        KN(copy_b)(copied, b, GEMM_B_SCALED ? p[2] : 0, K, GEMM_NR);
    KN(tiles)(p, s, last, a, copied, K, bi, m0, cut, t0, t1, n0, next, lines, 0, 0);
#else
    KN(tiles)(p, s, last, a, b, K, bi, m0, cut, t0, t1, n0, next, lines, 0, 0);
#endif
#else
    if (GEMM_B_DIRECT && !last) {
        KN(tiles)(p, s, last, a, b + n0, K, bi, m0, cut, t0, t1, n0, (const float *)b, 0, 0, 0);
        return;
    }
    velem *packed = (velem *)(th->scratch + (GEMM_A_PACK ? GEMM_ROUND((int64_t)sizeof(velem) * (GEMM_A_STRIDE) * K) : 0));
    velem *part = packed + GEMM_ROUND((int64_t)sizeof(velem) * GEMM_KC * GEMM_WIDEST) / (int64_t)sizeof(velem);
    int64_t cnt = neve_min(GEMM_N - n0, last ? GEMM_NL : GEMM_NR), k0 = 0;
    do {
        int64_t kn = neve_min(K - k0, GEMM_KC);
        if (last)
            KN(pack_b)(packed, b, GEMM_LDB, GEMM_LDN, k0, kn, n0, cnt, GEMM_NV_LAST);
        else
            KN(pack_b)(packed, b, GEMM_LDB, GEMM_LDN, k0, kn, n0, cnt, GEMM_NV);
        KN(tiles)(p, s, last, a + k0 * (int64_t)(TILE_AK), packed, kn, bi, m0, cut, t0, t1, n0, (const float *)packed, 0, part,
                  (k0 > 0) + 2 * (k0 + kn < K));
        k0 += kn;
    } while (k0 < K);
#endif
}

#if GEMM_GEMV
NEVE_INLINE void KN(gemv)(void *const *p, const int64_t *s, neve_thread *th, int64_t panels)
{
    neve_range groups = neve_share(neve_ceil_div(panels, GEMM_GEMV), th);
    int64_t end = neve_min(panels, groups.end * GEMM_GEMV);
    for (int64_t bi = 0; bi < GEMM_BATCH; bi++) {
        const velem *a = (const velem *)p[0] + (GEMM_A_BATCH(bi));
        const GEMM_BT *b = (const GEMM_BT *)p[1] + (GEMM_B_BATCH(bi));
        int64_t i = groups.begin * GEMM_GEMV;
        for (; i + GEMM_GEMV <= end; i += GEMM_GEMV)
            KN(gemv_tile)(p, s, a, b + i * GEMM_NR * GEMM_K, GEMM_K, bi, 0, i * GEMM_NR, GEMM_N - i * GEMM_NR, (const float *)a, 0);
        for (; i < end; i++)
            GEMM_GEMV_ONE(p, s, a, b + i * GEMM_NR * GEMM_K, GEMM_K, bi, 0, i * GEMM_NR, GEMM_N - i * GEMM_NR, (const float *)a, 0);
    }
}
#endif

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    const int64_t M = GEMM_M, N = GEMM_N, batch = GEMM_BATCH;
    (void)p, (void)s;
    if (M <= 0 || N <= 0 || batch <= 0)
        return;
    const int64_t panels = N <= GEMM_NL ? 1 : 1 + neve_ceil_div(N - GEMM_NL, GEMM_NR);
#if GEMM_GEMV
    if (M == 1) {
        KN(gemv)(p, s, th, panels);
        return;
    }
#endif
    const int64_t blocks = neve_ceil_div(M, GEMM_MB);
    const int64_t block_rows = neve_ceil_div(neve_ceil_div(M, blocks), GEMM_MR) * GEMM_MR;
    const int64_t used = neve_ceil_div(M, block_rows), rest = M - (used - 1) * block_rows;
    const int64_t whole = (panels - 1) * neve_ceil_div(block_rows, GEMM_MR) + neve_ceil_div(block_rows, GEMM_MR_LAST);
    const int64_t partial = (panels - 1) * neve_ceil_div(rest, GEMM_MR) + neve_ceil_div(rest, GEMM_MR_LAST);
    const int64_t each = (used - 1) * whole + partial;
    /* what is packed for a panel serves all of its tiles */
    const int64_t least = GEMM_B_PACKED && !GEMM_B_COPIED ? 1 : neve_ceil_div(block_rows, GEMM_MR);
    neve_work work = neve_work_of(batch * each, least, th);
    neve_range mine;
    int64_t packed_a = -1;
    (void)packed_a;
    while (neve_take(&work, th, &mine))
        for (int64_t u = mine.begin; u < mine.end;) {
            int64_t bi = u / each, at = u - bi * each;
            int64_t block = neve_min(at / whole, used - 1), m0 = block * block_rows, rows = block == used - 1 ? rest : block_rows;
            const KN(cut_t) inner = KN(cut)(rows, GEMM_MR), edge = KN(cut)(rows, GEMM_MR_LAST);
            at -= block * whole;
            int64_t panel = neve_min(at / inner.count, panels - 1), t0 = at - panel * inner.count;
            int last = panel == panels - 1, more = !last || block + 1 < used;
            int64_t t1 = neve_min(last ? edge.count : inner.count, t0 + mine.end - u);
            const velem *a = (const velem *)p[0] + (GEMM_A_BATCH(bi));
#if GEMM_A_PACK
            if (packed_a != bi * used + block)
                KN(pack_a)((velem *)th->scratch, a, GEMM_LDA, GEMM_LDK, m0, rows, GEMM_K);
            packed_a = bi * used + block;
            a = (const velem *)th->scratch;
#else
            a += m0 * (int64_t)(GEMM_LDA);
#endif
            if (last)
                KN(strip)(p, s, th, 1, a, bi, m0, edge, t0, t1, panels - 1, more);
            else
                KN(strip)(p, s, th, 0, a, bi, m0, inner, t0, t1, panel, more);
            u += t1 - t0;
        }
}

#include "gemm_tile_end.h"
#undef GEMM_NR
#undef GEMM_NL
#undef GEMM_WIDEST
#undef GEMM_ROUND
#undef GEMM_PARTIAL
#undef GEMM_BT
#undef GEMM_LOADB
#undef GEMM_LOADB_N
#undef GEMM_LINES
#undef GEMM_TILE_MAIN
#undef GEMM_BATCH
#undef GEMM_M
#undef GEMM_N
#undef GEMM_K
#undef GEMM_LDA
#undef GEMM_LDK
#undef GEMM_A_BATCH
#undef GEMM_B_PACKED
#undef GEMM_LDB
#undef GEMM_LDN
#undef GEMM_B_BATCH
#undef GEMM_B_SCALED
#undef GEMM_B_WIDENED
#undef GEMM_B_COPIED
#undef GEMM_GEMV_ONE
#undef GEMM_B_TYPE
#undef GEMM_B_DIRECT
#undef GEMM_NV
#undef GEMM_NV_LAST
#undef GEMM_HALF
#undef GEMM_MR
#undef GEMM_MR_LAST
#undef GEMM_ROWS
#undef GEMM_ROWS_LAST
#undef GEMM_MB
#undef GEMM_KC
#undef GEMM_K_SPLIT
#undef GEMM_A_PACK
#undef GEMM_A_STRIDE
#undef GEMM_GEMV
#undef GEMM_PREFETCH
#undef KN
#undef K_STORE
#undef K_STORE_N
#undef K_STORE_LOOP
