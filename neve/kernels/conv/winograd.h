/* winograd.h: convolution by Winograd's F(m, r) in each dimension, with stride 1, or with stride 2 by polyphase components.

   With N = m + r - 1 points a dimension, an output tile is A' [sum over k of (G g G') * (B' d B)] A. Points: 0, 1, -1, inf for
   N = 4, and 0, +-sqrt(1/2), +-sqrt(2), inf for N = 6 (Barabasz et al., Error analysis and improving the accuracy of Winograd
   convolution, 2020), whose constants are all of modest size. For a block of tiles: transform the inputs, for each point
   one matrix product (tiles x K) (K x oc), transform the outputs and store.

   Stride 2 (both ways): input and kernel fall into 2 x 2 phases, row 2 i + a and column 2 j + b, each a convolution with stride
   1 and r = ceil(kernel / 2) taps; the phases are just more channels: K = (a, b, ic). A kernel of one row (KH = 1) is
   transformed along the columns only.

   Operands
     p[0]  input x[n][c][h][w], float32; channel stride 1 with CONV_C a multiple of NEVE_VL if the stride is 2, or any strides
           with WINO_PLANAR
     p[1]  G g G', packed by `pack` of winograd.py: [point][panel][k][NR], NR = CONV_NV * NEVE_VL; the last panel
           holds only as many vectors as it needs
   Store   K_STORE(v, n, oh, ow, oc), K_STORE_N(v, cnt, n, oh, ow, oc)

   The transforms would spread a NaN over its tile and make NaN of infinities. So an input that is not finite counts as 0 in
   them, and its products are added to the outputs that it reaches, with weights that are computed back from G g G': NaN and
   infinities are where the definition has them (a weight below 1e-6 of its neighbours counts as 0).

   Macros (L: a literal, E: an expression, which may use s[])
     CONV_N CONV_H CONV_W CONV_OH CONV_OW  E  sizes       CONV_C CONV_OC  L  channels
     CONV_XN CONV_XC CONV_XH CONV_XW       E  input strides in elements
     CONV_KH CONV_KW CONV_SH CONV_SW CONV_PT CONV_PL  L  kernel, stride, padding (dilation and groups are 1)
     CONV_NV L  vectors a panel      CONV_MR L  tiles a register tile, 1..8
     WINO_N  L  points a dimension, 4 or 6                 WINO_M  L  outputs a dimension: N + 1 - ceil(KW / SW)
     WINO_T  L  tiles a block        WINO_PLANAR L  1: gather few channels from an input of any strides
     WINO_INVERSE  an initialiser {{..}, ..}: r rows of N numbers, G's inverse from the left
     CONV_SPLIT_OC  L  1: threads share the output channels (and the input transform), 0: they share the tiles
   All of them, KN, K_STORE and K_STORE_N are undefined at the end.

   Scratch a thread and shared scratch: `scratch` of winograd.py, in bytes. */

#define WN WINO_N
#define WN_DOWN (CONV_KH == 1 ? 1 : WINO_N) /* points, outputs and phases along the rows */
#define WM_DOWN (CONV_KH == 1 ? 1 : WINO_M)
#define WN_PHASES_DOWN (CONV_KH == 1 ? 1 : CONV_SH)
#define WN_POINTS (WN * WN_DOWN)
#define WN_UP(c) (((c) + NEVE_VL - 1) / NEVE_VL * NEVE_VL)
#define WN_K (WN_PHASES_DOWN * CONV_SW * CONV_C)
#define WN_IC WN_UP(WN_K)
#define WN_OC WN_UP(CONV_OC)
#define WN_ACROSS (((CONV_OW) + WINO_M - 1) / WINO_M)
#define WN_ROWS (((CONV_OH) + WM_DOWN - 1) / WM_DOWN)
#define WN_ZEROS (WINO_PLANAR ? WN_DOWN * (WINO_T * WINO_M + WN - WINO_M) * WN_IC : WN_UP(CONV_C))
#define WN_VSTEP (WINO_T * WN_IC + 16) /* a cache line more, lest all the points fall into one cache set */
#define WN_MSTEP (WINO_T * WN_OC + 16)
#define WN_POINT ((int64_t)WN_K * (CV_FULL * CV_NR + CV_RESTV * NEVE_VL)) /* floats of one point's weights */
#define CV_NR (CONV_NV * NEVE_VL)
#define CV_FULL (CONV_OC / CV_NR)
#define CV_REST (CONV_OC % CV_NR)
#define CV_RESTV ((CV_REST + NEVE_VL - 1) / NEVE_VL)
#define CV_PANELS (CV_FULL + (CV_REST != 0))

typedef struct {
    const float *a, *w;
    const char *ahead; /* what to prefetch, `pace` bytes a step of the sum */
    float *to;
    int64_t pace, tiles;
} KN(job);

/* rows x (nv vectors) of one point's product, `tiles` times. */
static inline __attribute__((always_inline)) void KN(tile)(const KN(job) * j, const int rows, const int nv) {
    const float *a = j->a;
    const char *ahead = j->ahead;
    float *to = j->to;
    const int64_t pace = j->pace;
    for (int64_t tile = 0; tile < j->tiles; tile++, a += rows * WN_IC, to += rows * WN_OC) {
        vf acc[8][CONV_NV];
        const float *b = j->w;
        int64_t k = 0;
        const int64_t end = WN_K;
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[i][v] = vset(0.0f);
#define TERMS_ROWS rows
#define TERMS_NV nv
#define TERMS_MOST_ROWS 8
#define TERMS_MOST_NV CONV_NV
#define TERMS_A(r) (a + (r) * WN_IC + k)
#define TERMS_ADJACENT 1
#define TERMS_B b
#define TERMS_EACH                       \
    if (WN_K >= 32) vprefetch(ahead);    \
    ahead += pace
#include "../terms.h"
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) vstore(to + i * WN_OC + v * NEVE_VL, acc[i][v]);
    }
}

/* One function a tile height: inlined into the panel loop, the compilers spill the accumulators. */
#define CV_TILE(R)                                                                                                \
    static __attribute__((noinline, unused)) void KN(full##R)(void *const *p, const int64_t *s, const KN(job) * j) { \
        (void)p, (void)s;                                                                                         \
        KN(tile)(j, R, CONV_NV);                                                                                  \
    }                                                                                                             \
    static __attribute__((noinline, unused)) void KN(last##R)(void *const *p, const int64_t *s, const KN(job) * j) { \
        (void)p, (void)s;                                                                                         \
        KN(tile)(j, R, CV_RESTV);                                                                                 \
    }
#include "conv_heights.h"

/* B' d for one line of points. */
static inline __attribute__((always_inline)) void KN(forward)(const vf *d, vf *t, const int step) {
#if WINO_N == 4
    t[0] = d[0] - d[2], t[step] = d[1] + d[2], t[2 * step] = d[2] - d[1], t[3 * step] = d[1] - d[3];
#else
    const vf a = vset(0.70710678118654752f), b = vset(1.41421356237309505f), half = vset(-0.5f), two = vset(-2.0f);
    const vf mid = vset(-2.5f);
    vf ea = vfma(two, d[2], d[4]), oa = a * vfma(two, d[1], d[3]), eb = vfma(half, d[2], d[4]), ob = b * vfma(half, d[1], d[3]);
    t[0] = vfma(mid, d[2], d[0] + d[4]), t[step] = ea + oa, t[2 * step] = ea - oa;
    t[3 * step] = eb + ob, t[4 * step] = eb - ob, t[5 * step] = vfma(mid, d[3], d[1] + d[5]);
#endif
}

/* A' m for one line of points. */
static inline __attribute__((always_inline)) void KN(backward)(const vf *m, vf *t, const int step) {
#if WINO_N == 4
    const vf even = m[1] + m[2], odd = m[1] - m[2];
    t[0] = m[0] + even;
    t[step] = WINO_M == 2 ? odd - m[3] : odd;
    if (WINO_M == 3) t[2 * step] = even - m[3];
#else
    const vf a = vset(0.70710678118654752f), b = vset(1.41421356237309505f), half = vset(0.5f), two = vset(2.0f);
    const vf a3 = vset(0.35355339059327376f), b3 = vset(2.82842712474619010f);
    vf ea = m[1] + m[2], oa = m[1] - m[2], eb = m[3] + m[4], ob = m[3] - m[4];
    t[0] = m[0] + ea + eb, t[step] = vfma(a, oa, b * ob);
    if (WINO_M > 2) t[2 * step] = vfma(half, ea, two * eb);
    if (WINO_M > 3) t[3 * step] = vfma(a3, oa, b3 * ob);
    if (WINO_M > 4) t[4 * step] = vfma(vset(0.25f), ea, vset(4.0f) * eb);
    t[(WINO_M - 1) * step] = t[(WINO_M - 1) * step] + m[5];
#endif
}

/* B' d B of one vector of channels; d[j * WN_DOWN + i] says where row i, column j of the patch is, `add` elements further.
   The lanes of the result are NaN where an element is not finite (the corners of B' d B depend on all of them), else 0. */
static inline __attribute__((always_inline)) vf KN(patch)(const float *const *d, int64_t add, const int cnt, float *v) {
    vf line[WN], t[WN_POINTS];
    const float *const corner = v;
    for (int j = 0; j < WN; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < WN_DOWN; i++)
            line[i] = cnt ? vload_n(d[j * WN_DOWN + i] + add, cnt) : vload(d[j * WN_DOWN + i] + add);
        if (WN_DOWN == 1) t[j] = line[0];
        else KN(forward)(line, t + j, WN);
    }
    for (int i = 0; i < WN_DOWN; i++, v += WN * WN_VSTEP) {
        KN(forward)(t + i * WN, line, 1);
#pragma GCC unroll 6
        for (int j = 0; j < WN; j++) vstore(v + j * WN_VSTEP, line[j]);
    }
    vf sum = vload(corner) + vload(corner + (WN - 1) * WN_VSTEP);
    if (WN_DOWN > 1) sum += vload(corner + (WN_POINTS - WN) * WN_VSTEP) + vload(corner + (WN_POINTS - 1) * WN_VSTEP);
    return sum - sum;
}

/* B' d B again, for all channels, with 0 for elements that are not finite. */
static __attribute__((noinline)) void KN(finite)(const float *const *d, int64_t channels, float *v) {
    float kept[WN_POINTS][NEVE_VL];
    const float *at[WN_POINTS];
    for (int64_t c = 0; c < channels; c += NEVE_VL) {
        for (int i = 0; i < WN_POINTS; i++) {
            at[i] = kept[i];
            for (int k = 0; k < NEVE_VL; k++) {
                const float x = c + k < channels ? d[i][c + k] : 0.0f;
                kept[i][k] = x - x == 0.0f ? x : 0.0f;
            }
        }
        KN(patch)(at, 0, 0, v + c);
    }
}

/* Weights of NEVE_VL output channels for row a, column b of a phase's kernel, from what they are at the points. */
static inline vf KN(weight)(const float *w, int64_t a, int64_t b) {
    static const float inverse[WN + 1 - WINO_M][WN] = WINO_INVERSE;
    vf g = vset(0.0f), size = vset(0.0f);
    for (int i = 0; i < WN_DOWN; i++)
        for (int j = 0; j < WN; j++) {
            const vf term = vset((WN_DOWN == 1 ? 1.0f : inverse[a][i]) * inverse[b][j]) * vload(w + (i * WN + j) * WN_POINT);
            g = g + term, size = size + vabs(term);
        }
    return vselect(vabs(g) > vset(1e-6f) * size, g, vset(0.0f));
}

/* Adds the products of inputs that are not finite to the outputs oc.. oc + NEVE_VL of columns ow.. ow + cols of row oh. */
static __attribute__((noinline)) void KN(restore)(void *const *p, const int64_t *s, int64_t n, int64_t oh, int64_t ow, int64_t cols,
                                                  int64_t oc, vf *m) {
    (void)s;
    const int64_t width = oc / CV_NR == CV_FULL ? CV_RESTV * NEVE_VL : CV_NR;
    const float *w = (const float *)p[1] + oc / CV_NR * WN_K * CV_NR + oc % CV_NR;
    for (int64_t j = 0; j < cols; j++) {
        int numbers = 1; /* whether a lane is not yet NaN */
        for (int64_t tap = 0; tap < CONV_KH * CONV_KW; tap++) {
            const int64_t a = tap / CONV_KW, b = tap % CONV_KW;
            const int64_t ih = oh * CONV_SH - CONV_PT + a, iw = (ow + j) * CONV_SW - CONV_PL + b;
            if (ih < 0 || ih >= (CONV_H) || iw < 0 || iw >= (CONV_W)) continue;
            const float *x = (const float *)p[0] + n * (CONV_XN) + ih * (CONV_XH) + iw * (CONV_XW);
            const int64_t phase = a % CONV_SH * CONV_SW + b % CONV_SW;
            for (int64_t k = 0; k < CONV_C && numbers; k++) {
                const float d = x[k * (CONV_XC)];
                if (d - d == 0.0f) continue;
                m[j] = m[j] + vset(d) * KN(weight)(w + (phase * CONV_C + k) * width, a / CONV_SH, b / CONV_SW);
                numbers = 0;
                for (int lane = 0; lane < NEVE_VL; lane++) numbers |= m[j][lane] == m[j][lane];
            }
        }
    }
}

#if WINO_PLANAR
#include "winograd_planar.h"
#else
/* The inputs of tiles begin..end (counted over the batch), at places begin - first.. of every point's matrix; behind the
   matrices, whether a tile has inputs that are not finite. */
static void KN(input)(void *const *p, const int64_t *s, int64_t first, int64_t begin, int64_t end, float *zeros, float *to) {
    (void)s;
    for (int64_t tile = begin; tile < end; tile++) {
        float *odd = to + WN_POINTS * WN_VSTEP + (tile - first);
        *odd = 0.0f;
        for (int64_t phase = 0; phase < WN_PHASES_DOWN * CONV_SW; phase++) {
            const int64_t top = tile / WN_ACROSS % WN_ROWS * WM_DOWN * CONV_SH - CONV_PT + phase / CONV_SW;
            const int64_t left = tile % WN_ACROSS * WINO_M * CONV_SW - CONV_PL + phase % CONV_SW;
            const float *image = (const float *)p[0] + tile / WN_ACROSS / WN_ROWS * (CONV_XN), *at[WN_POINTS];
            float *v = to + (tile - first) * WN_IC + phase * CONV_C;
            for (int64_t i = 0; i < WN_DOWN; i++)
                for (int64_t j = 0; j < WN; j++) {
                    const int64_t ih = top + i * CONV_SH, iw = left + j * CONV_SW;
                    const int inside = ih >= 0 && ih < (CONV_H) && iw >= 0 && iw < (CONV_W);
                    at[j * WN_DOWN + i] = inside ? image + ih * (CONV_XH) + iw * (CONV_XW) : zeros;
                }
            int64_t c = 0;
            vf found = vset(0.0f);
            for (; c + NEVE_VL <= CONV_C; c += NEVE_VL) found += KN(patch)(at, c, 0, v + c);
            if (CONV_C % NEVE_VL) found += KN(patch)(at, c, CONV_C % NEVE_VL, v + c);
            if (NEVE_UNLIKELY(vsum(found) != 0.0f)) KN(finite)(at, CONV_C, v), *odd = 1.0f;
        }
    }
}
#endif

/* Panels of all the points: from (point, tile, ic) to (point, tile, oc), `count` tiles. */
static void KN(multiply)(void *const *p, const int64_t *s, const float *from, float *to, int64_t count, neve_range panels) {
    const int64_t heights = (count + CONV_MR - 1) / CONV_MR;
    KN(job) j;
    j.pace = CV_NR * 4 / heights;
    for (int64_t xi = 0; xi < WN_POINTS; xi++)
        for (int64_t panel = panels.begin; panel < panels.end; panel++) {
            j.w = (const float *)p[1] + xi * WN_POINT + panel * WN_K * CV_NR;
            j.ahead = (const char *)(panel + 1 < panels.end ? j.w + WN_K * CV_NR
                                     : xi + 1 < WN_POINTS   ? (const float *)p[1] + (xi + 1) * WN_POINT + panels.begin * WN_K * CV_NR
                                                           : j.w);
            j.a = from + xi * WN_VSTEP, j.to = to + xi * WN_MSTEP + panel * CV_NR;
            /* the first tiles are one row higher than the rest */
            const int64_t rows = count / heights, higher = count % heights;
            j.tiles = higher;
            if (higher) KN(dispatch)(p, s, &j, rows + 1, panel == CV_FULL);
            j.a += higher * (rows + 1) * WN_IC, j.to += higher * (rows + 1) * WN_OC, j.ahead += higher * j.pace * WN_K;
            j.tiles = heights - higher;
            KN(dispatch)(p, s, &j, rows, panel == CV_FULL);
        }
}

/* Output channels oc_begin.. oc_end of tiles first.. first + count; odd: which have inputs that are not finite. */
static void KN(output)(void *const *p, const int64_t *s, int64_t first, int64_t count, const float *from, const float *odd,
                       int64_t oc_begin, int64_t oc_end) {
    for (int64_t tile = first; tile < first + count; tile++, from += WN_OC, odd++) {
        const int64_t n = tile / WN_ACROSS / WN_ROWS, oh = tile / WN_ACROSS % WN_ROWS * WM_DOWN, ow = tile % WN_ACROSS * WINO_M;
        const int64_t rows = (CONV_OH) - oh < WM_DOWN ? (CONV_OH) - oh : WM_DOWN;
        const int64_t cols = (CONV_OW) - ow < WINO_M ? (CONV_OW) - ow : WINO_M;
        for (int64_t c = oc_begin; c < oc_end; c += NEVE_VL) {
            vf m[WN], t[WM_DOWN * WN];
            for (int j = 0; j < WN; j++) {
#pragma GCC unroll 6
                for (int i = 0; i < WN_DOWN; i++) m[i] = vload(from + (i * WN + j) * WN_MSTEP + c);
                if (WN_DOWN == 1) t[j] = m[0];
                else KN(backward)(m, t + j, WN);
            }
            for (int64_t i = 0; i < rows; i++) {
                KN(backward)(t + i * WN, m, 1);
                if (NEVE_UNLIKELY(*odd != 0.0f)) {
                    vf whole[WINO_M];
#pragma GCC unroll 5
                    for (int j = 0; j < WINO_M; j++) whole[j] = m[j];
                    KN(restore)(p, s, n, oh + i, ow, cols, c, whole);
#pragma GCC unroll 5
                    for (int j = 0; j < WINO_M; j++) m[j] = whole[j];
                }
#pragma GCC unroll 5
                for (int j = 0; j < WINO_M; j++) {
                    if (j >= cols) break;
                    if (CONV_OC % NEVE_VL && c + NEVE_VL > CONV_OC) K_STORE_N(m[j], CONV_OC % NEVE_VL, n, oh + i, ow + j, c);
                    else K_STORE(m[j], n, oh + i, ow + j, c);
                }
            }
        }
    }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th) {
    float *zeros = (float *)th->scratch, *products = zeros + WN_ZEROS + 16;
    float *inputs = CONV_SPLIT_OC ? (float *)th->shared : products + WN_POINTS * WN_MSTEP;
    const neve_range panels = CONV_SPLIT_OC ? neve_share(CV_PANELS, th) : (neve_range){0, CV_PANELS};
    const int64_t all = (int64_t)(CONV_N) * WN_ROWS * WN_ACROSS, fewest = neve_ceil_div(all, WINO_T);
    const int64_t blocks = CONV_SPLIT_OC ? fewest : neve_min(all, neve_ceil_div(fewest, th->nt) * th->nt); /* as many for each thread */
    const int64_t last = panels.end * CV_NR < CONV_OC ? panels.end * CV_NR : CONV_OC;
    for (int64_t c = 0; c < WN_ZEROS; c++) zeros[c] = 0.0f;
    neve_work work = neve_work_of(blocks, 1, th);
    neve_range mine = {0, blocks};
    while (CONV_SPLIT_OC ? mine.begin < mine.end : neve_take(&work, th, &mine))
        for (; mine.begin < mine.end; mine.begin++) {
            const int64_t begin = all * mine.begin / blocks, end = all * (mine.begin + 1) / blocks;
            if (CONV_SPLIT_OC) {
                const neve_range own = neve_share(end - begin, th);
                if (mine.begin > 0) neve_barrier(th);
                KN(input)(p, s, begin, begin + own.begin, begin + own.end, zeros, inputs);
                neve_barrier(th);
            } else
                KN(input)(p, s, begin, begin, end, zeros, inputs);
            KN(multiply)(p, s, inputs, products, end - begin, panels);
            KN(output)(p, s, begin, end - begin, products, inputs + WN_POINTS * WN_VSTEP, panels.begin * CV_NR, last);
        }
}

#undef WN
#undef WN_DOWN
#undef WM_DOWN
#undef WN_PHASES_DOWN
#undef WN_POINTS
#undef WN_K
#undef WN_ACROSS
#undef WN_ROWS
#undef WN_ZEROS
#undef WN_UP
#undef WN_IC
#undef WN_OC
#undef WN_VSTEP
#undef WN_MSTEP
#undef WN_POINT
#undef CV_NR
#undef CV_FULL
#undef CV_REST
#undef CV_RESTV
#undef CV_PANELS
#undef WINO_N
#undef WINO_M
#undef WINO_PLANAR
#undef WINO_T
#undef WINO_INVERSE
#undef KN
#undef K_STORE
#undef K_STORE_N
#include "conv_undef.h"
