/* The tiles of one width, for every row count in a set, and the function that calls the one wanted.
 *
 *   TILES_RUN      name of that function: as of gemm_tile.h, with the number of rows before its arguments
 *   TILES_FN(r)    name of the tile of r rows     TILES_NV   literal vectors     TILES_MASK   bit r set: a tile of r rows, r = 1..12
 * All are undefined at the end; the other macros are those of gemm_tile.h.
 */
#if TILES_MASK & 2
#define TILE_FN TILES_FN(1)
#define TILE_MR 1
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 4
#define TILE_FN TILES_FN(2)
#define TILE_MR 2
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 8
#define TILE_FN TILES_FN(3)
#define TILE_MR 3
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 16
#define TILE_FN TILES_FN(4)
#define TILE_MR 4
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 32
#define TILE_FN TILES_FN(5)
#define TILE_MR 5
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 64
#define TILE_FN TILES_FN(6)
#define TILE_MR 6
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 128
#define TILE_FN TILES_FN(7)
#define TILE_MR 7
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 256
#define TILE_FN TILES_FN(8)
#define TILE_MR 8
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 512
#define TILE_FN TILES_FN(9)
#define TILE_MR 9
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 1024
#define TILE_FN TILES_FN(10)
#define TILE_MR 10
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 2048
#define TILE_FN TILES_FN(11)
#define TILE_MR 11
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif
#if TILES_MASK & 4096
#define TILE_FN TILES_FN(12)
#define TILE_MR 12
#define TILE_NV TILES_NV
#include "gemm_tile.h"
#endif

#ifdef TILE_PARTIAL
#define TILES_PASS p, s, a, b, terms, bi, m, n, cnt, pf, pfn, part, flags
#else
#define TILES_PASS p, s, a, b, terms, bi, m, n, cnt, pf, pfn
#endif
NEVE_INLINE void TILES_RUN(int64_t rows, void *const *p, const int64_t *s, const velem *a, const TILE_BT *b, int64_t terms, int64_t bi,
                           int64_t m, int64_t n, int64_t cnt, const float *pf, int64_t pfn
#ifdef TILE_PARTIAL
                           , velem *part, int flags
#endif
)
{
    (void)p, (void)s, (void)a, (void)b, (void)terms, (void)bi, (void)m, (void)n, (void)cnt, (void)pf, (void)pfn;
#ifdef TILE_PARTIAL
    (void)part, (void)flags;
#endif
    switch (rows) {
#if TILES_MASK & 2
    case 1: TILES_FN(1)(TILES_PASS); break;
#endif
#if TILES_MASK & 4
    case 2: TILES_FN(2)(TILES_PASS); break;
#endif
#if TILES_MASK & 8
    case 3: TILES_FN(3)(TILES_PASS); break;
#endif
#if TILES_MASK & 16
    case 4: TILES_FN(4)(TILES_PASS); break;
#endif
#if TILES_MASK & 32
    case 5: TILES_FN(5)(TILES_PASS); break;
#endif
#if TILES_MASK & 64
    case 6: TILES_FN(6)(TILES_PASS); break;
#endif
#if TILES_MASK & 128
    case 7: TILES_FN(7)(TILES_PASS); break;
#endif
#if TILES_MASK & 256
    case 8: TILES_FN(8)(TILES_PASS); break;
#endif
#if TILES_MASK & 512
    case 9: TILES_FN(9)(TILES_PASS); break;
#endif
#if TILES_MASK & 1024
    case 10: TILES_FN(10)(TILES_PASS); break;
#endif
#if TILES_MASK & 2048
    case 11: TILES_FN(11)(TILES_PASS); break;
#endif
#if TILES_MASK & 4096
    case 12: TILES_FN(12)(TILES_PASS); break;
#endif
    default: break;
    }
}
#undef TILES_PASS
#undef TILES_RUN
#undef TILES_FN
#undef TILES_NV
#undef TILES_MASK
