/* conv.h: direct 2-D convolution of a channels-last input, as a matrix product over row pointers.

   No matrix of patches is built: for each output pixel and each tap a pointer says where the run of channels lies; a tap
   that falls into the padding points at zeros. So any stride, dilation, padding and group count costs the same, and sizes
   may be known only at run time.

   Operands
     p[0]  input x[n][c][h][w], float32, channel stride 1, the others any
     p[1]  weights, packed by `pack_direct` of direct.py: per group, per panel of NR = CONV_NV * NEVE_VL output
           channels, [kh][kw][ic][NR]; the last panel of a group holds only as many vectors as it needs
   Store   K_STORE(v, n, oh, ow, oc), K_STORE_N(v, cnt, n, oh, ow, oc); optional K_FETCH(n, oh, ow, oc) as in gemm_tile.h

   Macros (L: a literal, E: an expression, which may use s[])
     CONV_N CONV_H CONV_W          E  input sizes          CONV_C   L  input channels
     CONV_OH CONV_OW               E  output sizes         CONV_OC  L  output channels
     CONV_XN CONV_XH CONV_XW       E  input strides in elements (CONV_XC is 1)
     CONV_KH CONV_KW CONV_SH CONV_SW CONV_DH CONV_DW CONV_PT CONV_PL CONV_G   L  kernel, stride, dilation, padding, groups
     CONV_NV    L  vectors a panel                         CONV_MR  L  pixels a tile, 1..8
     CONV_MB    L  pixels a block: all the panels pass over a block before the next one
     CONV_ROWS  L  1: a run is a whole kernel row (KW * C elements; needs G = 1, DW = 1, XW = C), 0: a run is one tap
     CONV_TYPE  L  type of the weights: 0 float32, 1 float16, 2 bfloat16
     CONV_SPLIT_OC  L  1: threads share the output channels, 0: they share the pixels
   All of them, KN, K_STORE and K_STORE_N are undefined at the end.

   Scratch a thread: `direct_scratch` of direct.py, in bytes. */

#include "conv_weights.h"

#define CV_NR (CONV_NV * NEVE_VL)
#define CV_ICG (CONV_C / CONV_G)
#define CV_OCG (CONV_OC / CONV_G)
#define CV_FULL (CV_OCG / CV_NR)
#define CV_REST (CV_OCG % CV_NR)
#define CV_RESTV ((CV_REST + NEVE_VL - 1) / NEVE_VL)
#define CV_PANELS (CV_FULL + (CV_REST != 0))
#define CV_TAPS (CONV_ROWS ? CONV_KH : CONV_KH * CONV_KW)
#define CV_RUN (CONV_ROWS ? CONV_KW * CONV_C : CV_ICG)
#define CV_K (CV_TAPS * CV_RUN)
#define CV_ZEROS (CONV_G == 1 ? CV_RUN : CONV_C)
#define CV_ALIGN(bytes) (((bytes) + 63) / 64 * 64)

typedef struct {
    const float *const *at; /* pointers of the tile's first pixel: CV_TAPS a pixel */
    const float *w;         /* the panel */
    const char *ahead;      /* what to prefetch, `lines` cache lines a tap */
    int64_t lines, pixel, oc, channel;
} KN(job);

static inline __attribute__((always_inline)) void KN(tile)(void *const *p, const int64_t *s, const KN(job) * j,
                                                           const int rows, const int nv, const int rest) {
    vf acc[8][CONV_NV];
    const float *b = j->w;
    const char *ahead = j->ahead;
    const float *const *at = j->at;
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[i][v] = vset(0.0f);
    int64_t ow = j->pixel % (CONV_OW), oh = j->pixel / (CONV_OW) % (CONV_OH), n = j->pixel / (CONV_OW) / (CONV_OH);
#ifdef K_FETCH
    for (int64_t i = 0, fw = ow, fh = oh, fn = n; i < rows; i++) {
        for (int v = 0; v < nv * NEVE_VL; v += 16) K_FETCH(fn, fh, fw, j->oc + v);
        if (++fw == (CONV_OW)) {
            fw = 0;
            if (++fh == (CONV_OH)) fh = 0, fn++;
        }
    }
#endif
    for (int64_t tap = 0; tap < CV_TAPS; tap++, at++) {
        const float *a[8];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) a[i] = at[i * CV_TAPS] + (CONV_G == 1 ? 0 : j->channel);
        for (int64_t l = 0; l < j->lines; l++, ahead += 64) vprefetch(ahead);
        int64_t k = 0;
        const int64_t end = CV_RUN;
#define TERMS_ROWS rows
#define TERMS_NV nv
#define TERMS_MOST_ROWS 8
#define TERMS_MOST_NV CONV_NV
#define TERMS_A(r) (a[r] + k)
#define TERMS_ADJACENT 1
#define TERMS_B b
#include "../terms.h"
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) {
            if (v == nv - 1 && rest != 0)
                K_STORE_N(acc[i][v], rest, n, oh, ow, j->oc + v * NEVE_VL);
            else
                K_STORE(acc[i][v], n, oh, ow, j->oc + v * NEVE_VL);
        }
        if (++ow == (CONV_OW)) {
            ow = 0;
            if (++oh == (CONV_OH)) oh = 0, n++;
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

/* A kernel row that the padding cuts, copied with its zeros. In explicit vectors: gcc 12 at -O3 gets a conditional load in here wrong. */
static const float *KN(edge)(const int64_t *s, const float *row, int64_t iw, float *to) {
    (void)s;
    for (int64_t kw = 0; kw < CONV_KW; kw++, iw++, to += CONV_C) {
        const float *from = iw >= 0 && iw < (CONV_W) ? row + iw * (CONV_XW) : 0;
        int64_t c = 0;
        for (; c + NEVE_VL <= CONV_C; c += NEVE_VL) vstore(to + c, from ? vload(from + c) : vset(0.0f));
        if (c < CONV_C) vstore_n(to + c, from ? vload_n(from + c, CONV_C - c) : vset(0.0f), CONV_C - c);
    }
    return to - CONV_KW * CONV_C;
}

/* The pointers of `count` pixels from `pixel` on. */
static void KN(point)(void *const *p, const int64_t *s, int64_t pixel, int64_t count, const float **at,
                      const float *zeros, float *edge) {
    (void)s;
    int64_t ow = pixel % (CONV_OW), oh = pixel / (CONV_OW) % (CONV_OH), n = pixel / (CONV_OW) / (CONV_OH);
    for (int64_t i = 0; i < count; i++) {
        const float *image = (const float *)p[0] + n * (CONV_XN);
        const int64_t top = oh * CONV_SH - CONV_PT, left = ow * CONV_SW - CONV_PL;
        for (int64_t kh = 0; kh < CONV_KH; kh++) {
            const int64_t ih = top + kh * CONV_DH;
            const int inside = ih >= 0 && ih < (CONV_H);
            const float *row = image + (inside ? ih * (CONV_XH) : 0);
            if (CONV_ROWS) {
                if (!inside) *at++ = zeros;
                else if (left >= 0 && left + CONV_KW <= (CONV_W)) *at++ = row + left * (CONV_XW);
                else *at++ = KN(edge)(s, row, left, edge + (i * CONV_KH + kh) * CV_RUN);
            } else {
                for (int64_t kw = 0; kw < CONV_KW; kw++) {
                    const int64_t iw = left + kw * CONV_DW;
                    *at++ = inside && iw >= 0 && iw < (CONV_W) ? row + iw * (CONV_XW) : zeros;
                }
            }
        }
        if (++ow == (CONV_OW)) {
            ow = 0;
            if (++oh == (CONV_OH)) oh = 0, n++;
        }
    }
}

static inline const CV_W *KN(panel)(void *const *p, int64_t panel) {
    const int64_t g = panel / CV_PANELS, group = (int64_t)CV_K * (CV_FULL * CV_NR + CV_RESTV * NEVE_VL);
    return (const CV_W *)p[1] + g * group + (panel - g * CV_PANELS) * CV_K * CV_NR;
}

/* The panels of `panels` for the pixels of `pixels`, in blocks. */
static void KN(part)(void *const *p, const int64_t *s, neve_range pixels, neve_range panels, const float *zeros, const float **at, float *edge, float *floats) {
    (void)floats;
    const int64_t all = pixels.end - pixels.begin, blocks = (all + CONV_MB - 1) / CONV_MB;
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t begin = pixels.begin + all * b / blocks, end = pixels.begin + all * (b + 1) / blocks;
        const int64_t tiles = (end - begin + CONV_MR - 1) / CONV_MR;
        KN(point)(p, s, begin, end - begin, at, zeros, edge);
        for (int64_t panel = panels.begin; panel < panels.end; panel++) {
            const int64_t g = panel / CV_PANELS, col = panel - g * CV_PANELS;
            const int64_t next = panel + 1 < panels.end ? panel + 1 : panels.begin;
            KN(job) j = {at, CV_FLOATS(KN(panel)(p, panel), floats, CV_K * (col == CV_FULL ? CV_RESTV * NEVE_VL : CV_NR)),
                         (const char *)KN(panel)(p, next), (CV_LINES(CV_RUN * CV_NR) + tiles - 1) / tiles, begin, g * CV_OCG + col * CV_NR, g * CV_ICG};
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t rows = (end - begin) / tiles + (t < (end - begin) % tiles);
                KN(dispatch)(p, s, &j, rows, col == CV_FULL);
                j.at += rows * CV_TAPS, j.pixel += rows, j.ahead += j.lines * CV_TAPS * 64;
            }
        }
    }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th) {
    float *zeros = (float *)th->scratch;
    const float **at = (const float **)(th->scratch + CV_ALIGN(CV_ZEROS * 4));
    float *edge = (float *)((char *)at + CV_ALIGN(CONV_MB * CV_TAPS * 8));
    float *floats = (float *)((char *)edge + CV_ALIGN(CONV_ROWS ? 4 * CONV_MB * CONV_KH * CV_RUN : 0));
    const neve_range pixels = {0, (int64_t)(CONV_N) * (CONV_OH) * (CONV_OW)}, panels = {0, CONV_G * CV_PANELS};
    for (int64_t c = 0; c < CV_ZEROS; c++) zeros[c] = 0.0f;
    const int split = CONV_SPLIT_OC && th->nt <= panels.end;
    neve_work work = neve_work_of(split ? panels.end : pixels.end, split ? 1 : CONV_MB, th);
    neve_range mine;
    while (neve_take(&work, th, &mine)) KN(part)(p, s, split ? pixels : mine, split ? mine : panels, zeros, at, edge, floats);
}

#undef CV_NR
#undef CV_ICG
#undef CV_OCG
#undef CV_FULL
#undef CV_REST
#undef CV_RESTV
#undef CV_PANELS
#undef CV_TAPS
#undef CV_RUN
#undef CV_K
#undef CV_ZEROS
#undef CV_ALIGN
#undef KN
#undef K_STORE
#undef K_STORE_N
#include "conv_undef.h"
