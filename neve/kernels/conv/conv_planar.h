/* conv_planar.h: direct 2-D convolution of an input with few channels and any strides, such as a stem that reads the
   caller's NCHW images or a patch embedding.

   A block of output rows copies the input rows under it, channel by channel and padded, into scratch; the tile then walks
   K = (c, kh, kw) through a table of offsets, its pixels a literal stride apart. Without padding and with XW = 1 it
   reads the input in place (CONV_INPLACE).

   Operands
     p[0]  input x[n][c][h][w], float32, any strides
     p[1]  weights, packed by `pack_planar` of direct.py: per panel of NR = CONV_NV * NEVE_VL output channels,
           [ic][kh][kw][NR]; the last panel holds only as many vectors as it needs
   Store   K_STORE(v, n, oh, ow, oc), K_STORE_N(v, cnt, n, oh, ow, oc); optional K_FETCH(n, oh, ow, oc) as in gemm_tile.h

   Macros (L: a literal, E: an expression, which may use s[])
     CONV_N CONV_H CONV_W          E  input sizes          CONV_C   L  input channels
     CONV_OH CONV_OW               E  output sizes         CONV_OC  L  output channels
     CONV_XN CONV_XC CONV_XH CONV_XW  E  input strides in elements
     CONV_KH CONV_KW CONV_SH CONV_SW CONV_DH CONV_DW CONV_PT CONV_PL  L  kernel, stride, dilation, padding
     CONV_NV L  vectors a panel    CONV_MR L  pixels a tile, 1..8
     CONV_RB CONV_WB  L  output rows and columns a block
     CONV_TYPE  L  type of the weights: 0 float32, 1 float16, 2 bfloat16
     CONV_INPLACE     L  1: read the input where it is; no window may reach outside it
   All of them, KN, K_STORE and K_STORE_N are undefined at the end.

   Scratch a thread: `planar_scratch` of direct.py, in bytes. */

#include "conv_weights.h"

#define CV_NR (CONV_NV * NEVE_VL)
#define CV_FULL (CONV_OC / CV_NR)
#define CV_REST (CONV_OC % CV_NR)
#define CV_RESTV ((CV_REST + NEVE_VL - 1) / NEVE_VL)
#define CV_PANELS (CV_FULL + (CV_REST != 0))
#define CV_K (CONV_C * CONV_KH * CONV_KW)
#define CV_ROWS ((CONV_RB - 1) * CONV_SH + (CONV_KH - 1) * CONV_DH + 1)
#define CV_COLS ((CONV_WB - 1) * CONV_SW + (CONV_KW - 1) * CONV_DW + 1)
#define CV_ALIGN(bytes) (((bytes) + 63) / 64 * 64)

typedef struct {
    const float *a; /* the first pixel's window */
    const int64_t *offset;
    const float *w;
    const char *ahead; /* what to prefetch, `pace` bytes a step of the sum */
    int64_t pace, tiles, n, oh, ow, oc;
} KN(job);

/* rows pixels x (nv vectors), `tiles` times along an output row. */
static inline __attribute__((always_inline)) void KN(tile)(void *const *p, const int64_t *s, const KN(job) * j,
                                                           const int rows, const int nv, const int rest) {
    const float *a = j->a;
    const char *ahead = j->ahead;
    int64_t ow = j->ow;
    for (int64_t tile = 0; tile < j->tiles; tile++, a += rows * CONV_SW, ow += rows) {
        vf acc[8][CONV_NV];
        const float *b = j->w;
        int64_t k = 0;
        const int64_t end = CV_K;
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[i][v] = vset(0.0f);
#ifdef K_FETCH
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < nv * NEVE_VL; v += 16) K_FETCH(j->n, j->oh, ow + i, j->oc + v);
#endif
#define TERMS_ROWS rows
#define TERMS_NV nv
#define TERMS_MOST_ROWS 8
#define TERMS_MOST_NV CONV_NV
#define TERMS_A(r) (a + j->offset[k] + (r) * CONV_SW)
#define TERMS_ADJACENT 0
#define TERMS_B b
#define TERMS_EACH                         \
    if (CV_K >= 128) vprefetch(ahead), ahead += j->pace
#include "../terms.h"
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) {
                if (v == nv - 1 && rest != 0)
                    K_STORE_N(acc[i][v], rest, j->n, j->oh, ow + i, j->oc + v * NEVE_VL);
                else
                    K_STORE(acc[i][v], j->n, j->oh, ow + i, j->oc + v * NEVE_VL);
            }
        }
    }
}

/* One function a tile height: inlined into the panel loop, the compilers spill the accumulators. */
#define CV_TILE(R)                                                                                                \
    static __attribute__((noinline, unused)) void KN(full##R)(void *const *p, const int64_t *s, const KN(job) * j) { \
        KN(tile)(p, s, j, R, CONV_NV, 0);                                                                         \
    }                                                                                                             \
    static __attribute__((noinline, unused)) void KN(last##R)(void *const *p, const int64_t *s, const KN(job) * j) { \
        KN(tile)(p, s, j, R, CV_RESTV, CV_REST % NEVE_VL);                                                        \
    }
#include "conv_heights.h"

/* The padded input rows under output rows oh.. and columns ow.. of one image: [c][CV_ROWS][CV_COLS]. */
static void KN(copy)(void *const *p, const int64_t *s, int64_t n, int64_t oh, int64_t ow, float *to) {
    (void)s;
    const int64_t top = oh * CONV_SH - CONV_PT, left = ow * CONV_SW - CONV_PL;
    const int64_t begin = left < 0 ? (-left < CV_COLS ? -left : CV_COLS) : 0;
    int64_t end = (CONV_W) - left < CV_COLS ? (CONV_W) - left : CV_COLS;
    if (end < begin) end = begin;
    for (int64_t c = 0; c < CONV_C; c++) {
        const float *plane = (const float *)p[0] + n * (CONV_XN) + c * (CONV_XC);
        for (int64_t r = 0; r < CV_ROWS; r++, to += CV_COLS) {
            const int64_t ih = top + r, stop = ih >= 0 && ih < (CONV_H) ? end : 0;
            const float *row = plane + (stop ? ih * (CONV_XH) + left * (CONV_XW) : 0);
            int64_t i = 0;
            for (; i < begin; i++) to[i] = 0.0f;
            for (; i + NEVE_VL <= stop && (CONV_XW) == 1; i += NEVE_VL) vstore(to + i, vload(row + i));
            for (; i < stop; i++) to[i] = row[i * (CONV_XW)];
            for (; i < CV_COLS; i++) to[i] = 0.0f;
        }
    }
}

/* Output rows oh..oh+rows-1, columns ow..ow+cols-1 of image n: all panels. */
static void KN(block)(void *const *p, const int64_t *s, const float *a, int64_t pitch, const int64_t *offset, float *floats,
                      int64_t n, int64_t oh, int64_t rows, int64_t ow, int64_t cols) {
    (void)floats;
    const int64_t tiles = (cols + CONV_MR - 1) / CONV_MR;
    for (int64_t panel = 0; panel < CV_PANELS; panel++) {
        const float *w = CV_FLOATS((const CV_W *)p[1] + panel * CV_K * CV_NR, floats,
                                   CV_K * (panel == CV_FULL ? CV_RESTV * NEVE_VL : CV_NR));
        const CV_W *next = (const CV_W *)p[1] + (panel + 1 < CV_PANELS ? panel + 1 : 0) * CV_K * CV_NR;
        const int64_t height = cols / tiles, higher = cols % tiles; /* the first tiles are one pixel higher than the rest */
        KN(job) j = {a, offset, w, (const char *)next, CV_NR * (int64_t)sizeof(CV_W) / (tiles * rows), 0, n, oh, ow, panel * CV_NR};
        for (int64_t r = 0; r < rows; r++, j.oh++) {
            j.ow = ow, j.a = a + r * pitch, j.tiles = higher;
            if (higher) KN(dispatch)(p, s, &j, height + 1, panel == CV_FULL);
            j.ow += higher * (height + 1), j.a += higher * (height + 1) * CONV_SW, j.ahead += higher * j.pace * CV_K;
            j.tiles = tiles - higher;
            KN(dispatch)(p, s, &j, height, panel == CV_FULL);
            j.ahead += j.tiles * j.pace * CV_K;
        }
    }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th) {
    int64_t *offset = (int64_t *)th->scratch, *o = offset;
    float *rows = (float *)(th->scratch + CV_ALIGN(CV_K * 8));
    float *floats = (float *)((char *)rows + CV_ALIGN(CONV_INPLACE ? 0 : 4 * CONV_C * CV_ROWS * CV_COLS));
    const int64_t channel = CONV_INPLACE ? (CONV_XC) : CV_ROWS * CV_COLS, pitch = CONV_INPLACE ? (CONV_XH) : CV_COLS;
    for (int64_t c = 0; c < CONV_C; c++)
        for (int64_t h = 0; h < CONV_KH; h++)
            for (int64_t w = 0; w < CONV_KW; w++) *o++ = c * channel + h * CONV_DH * pitch + w * CONV_DW;
    /* units are output rows of one column block, ordered (n, column block, row) */
    const int64_t blocks = ((CONV_OW) + CONV_WB - 1) / CONV_WB;
    neve_work work = neve_work_of((int64_t)(CONV_N) * blocks * (CONV_OH), CONV_RB, th);
    neve_range u;
    while (neve_take(&work, th, &u))
        while (u.begin < u.end) {
            const int64_t oh = u.begin % (CONV_OH), ow = u.begin / (CONV_OH) % blocks * CONV_WB;
            const int64_t n = u.begin / (CONV_OH) / blocks;
            const int64_t cols = (CONV_OW) - ow < CONV_WB ? (CONV_OW) - ow : CONV_WB;
            int64_t count = (CONV_OH) - oh < u.end - u.begin ? (CONV_OH) - oh : u.end - u.begin;
            if (count > CONV_RB) count = CONV_RB;
            const float *a = rows;
            if (CONV_INPLACE)
                a = (const float *)p[0] + n * (CONV_XN) + (oh * CONV_SH - CONV_PT) * (CONV_XH) + (ow * CONV_SW - CONV_PL);
            else KN(copy)(p, s, n, oh, ow, rows);
            KN(block)(p, s, a, pitch * CONV_SH, offset, floats, n, oh, count, ow, cols);
            u.begin += count;
        }
}

#undef CV_NR
#undef CV_FULL
#undef CV_REST
#undef CV_RESTV
#undef CV_PANELS
#undef CV_K
#undef CV_ROWS
#undef CV_COLS
#undef CV_ALIGN
#undef CONV_RB
#undef CONV_WB
#undef CONV_INPLACE
#undef KN
#undef K_STORE
#undef K_STORE_N
#include "conv_undef.h"
