/* depthwise.h: depthwise 2-D convolution of a channels-last input: each input channel has CONV_OC / CONV_C filters.

   A tile of CONV_MR x CONV_RW output pixels walks over the channels of a chunk, a vector of them at a time; an input vector is
   loaded once for all the taps that it meets. Rows in the padding are skipped, columns in the padding are read from the
   nearest column inside and masked to zero, in tiles at the border only.

   Operands
     p[0]  input x[n][c][h][w], float32, channel stride 1, the others any
     p[1]  weights, packed by `pack` of depthwise.py: [oc / NEVE_VL][kh][kw][NEVE_VL], zero-filled
   Store   K_STORE(v, n, oh, ow, oc), K_STORE_N(v, cnt, n, oh, ow, oc)

   Macros (L: a literal, E: an expression, which may use s[])
     CONV_N CONV_H CONV_W CONV_OH CONV_OW  E  sizes       CONV_C CONV_OC  L  channels
     CONV_XN CONV_XH CONV_XW               E  input strides in elements (CONV_XC is 1)
     CONV_KH CONV_KW CONV_SH CONV_SW CONV_DH CONV_DW CONV_PT CONV_PL  L  kernel, stride, dilation, padding
     CONV_MR CONV_RW  L  output rows and columns a tile
     CONV_KEEP        L  1: there are registers for the weights that an input row meets: they are loaded once a tile
     CONV_CB          L  channel vectors a chunk; threads share chunks x bands of CONV_MR rows
   All of them, KN, K_STORE and K_STORE_N are undefined at the end. No scratch. */

#define DW_MULT (CONV_OC / CONV_C)
#define DW_ROWS ((CONV_MR - 1) * CONV_SH + (CONV_KH - 1) * CONV_DH + 1)
#define DW_COLS ((CONV_RW - 1) * CONV_SW + (CONV_KW - 1) * CONV_DW + 1)
#define DW_VECTORS ((CONV_OC + NEVE_VL - 1) / NEVE_VL)
#define DW_CHUNKS ((DW_VECTORS + CONV_CB - 1) / CONV_CB)

typedef struct {
    const float *row[DW_ROWS]; /* input rows, null in the padding */
    int64_t col[DW_COLS];      /* offsets of the input columns, moved inside */
    vi keep[DW_COLS];          /* zero where the column is in the padding */
    int64_t n, oh, ow, cols;   /* first output pixel, columns to store */
} KN(place);

/* Input channels of outputs oc..: cnt of them, 0 means a whole vector. */
static inline __attribute__((always_inline)) vf KN(load)(const float *x, int64_t oc, const int cnt) {
    if (DW_MULT == 1) return cnt ? vload_n(x + oc, cnt) : vload(x + oc);
    int32_t channel[NEVE_VL];
    for (int i = 0; i < NEVE_VL; i++)
        channel[i] = (int32_t)((oc + i) / DW_MULT < CONV_C ? (oc + i) / DW_MULT : CONV_C - 1);
    return vgather(x, vload_i(channel));
}

#if CONV_KEEP
#define DW_WEIGHT(place, kh, kw) kept[place][kw]
#else
#define DW_WEIGHT(place, kh, kw) vload(w + ((kh) * CONV_KW + (kw)) * NEVE_VL)
#endif

/* The weights of a kernel row, for all the pixels of a tile. */
static inline __attribute__((always_inline)) void KN(keep)(const float *w, vf *kept) {
    (void)w, (void)kept;
    if (CONV_KEEP) {
#pragma GCC unroll 16
        for (int kw = 0; kw < CONV_KW; kw++) kept[kw] = vload(w + kw * NEVE_VL);
    }
}

static inline __attribute__((always_inline)) void KN(input_row)(const int64_t *s, const KN(place) * t, int64_t r, int64_t oc,
                                                                const float *w, vf (*kept)[CONV_KW],
                                                                vf acc[CONV_MR][CONV_RW], const int rows, const int border,
                                                                const int cnt) {
    (void)s, (void)w, (void)kept;
    const float *x = t->row[r];
    if (!x) return;
#pragma GCC unroll 64
    for (int c = 0; c < DW_COLS; c++) {
        if (CONV_DW > 1 || CONV_SW > CONV_KW) {
            int used = 0;
#pragma GCC unroll 16
            for (int j = 0; j < CONV_RW; j++)
                used |= c >= j * CONV_SW && (c - j * CONV_SW) % CONV_DW == 0 && (c - j * CONV_SW) / CONV_DW < CONV_KW;
            if (!used) continue;
        }
        vf v = KN(load)(x + (border ? t->col[c] : c * (CONV_XW)), oc, cnt);
        if (border) v = vfrombits(vbits(v) & t->keep[c]);
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            const int64_t kh = rows == 1 ? r / CONV_DH : (r - i * CONV_SH) / CONV_DH;
            if (rows > 1 && (r < i * CONV_SH || (r - i * CONV_SH) % CONV_DH || kh >= CONV_KH)) continue;
#pragma GCC unroll 16
            for (int j = 0; j < CONV_RW; j++) {
                const int kw = (c - j * CONV_SW) / CONV_DW;
                if (c < j * CONV_SW || (c - j * CONV_SW) % CONV_DW || kw >= CONV_KW) continue;
                acc[i][j] = vfma(v, DW_WEIGHT(rows == 1 ? 0 : kh, kh, kw), acc[i][j]);
            }
        }
    }
}

static inline __attribute__((always_inline)) void KN(cell)(void *const *p, const int64_t *s, const KN(place) * t, int64_t oc,
                                                           const int rows, const int border, const int cnt) {
    const float *w = (const float *)p[1] + oc * (CONV_KH * CONV_KW);
    vf acc[CONV_MR][CONV_RW];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 16
        for (int j = 0; j < CONV_RW; j++) acc[i][j] = vset(0.0f);
    if (rows == 1) {
        for (int64_t r = 0; r < CONV_KH; r++) {
            vf kept[1][CONV_KW];
            KN(keep)(w + r * CONV_KW * NEVE_VL, kept[0]);
            KN(input_row)(s, t, r * CONV_DH, oc, w, kept, acc, rows, border, cnt);
        }
    } else {
        vf kept[CONV_KH][CONV_KW];
#pragma GCC unroll 32
        for (int r = 0; r < DW_ROWS; r++) {
            if (r % CONV_DH == 0 && r / CONV_DH < CONV_KH) KN(keep)(w + r / CONV_DH * CONV_KW * NEVE_VL, kept[r / CONV_DH]);
            KN(input_row)(s, t, r, oc, w, kept, acc, rows, border, cnt);
        }
    }
    const int64_t n = t->n, oh = t->oh, ow = t->ow, cols = border ? t->cols : CONV_RW;
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 16
        for (int j = 0; j < CONV_RW; j++) {
            if (border && j >= cols) break;
            if (cnt) K_STORE_N(acc[i][j], cnt, n, oh + i, ow + j, oc);
            else K_STORE(acc[i][j], n, oh + i, ow + j, oc);
        }
}

/* A tile over the channel vectors begin..end; the last vector of all may be a part. */
#define DW_TILE(name, rows, border)                                                                              \
    static __attribute__((noinline, unused)) void KN(name)(void *const *NEVE_RESTRICT p, const int64_t *NEVE_RESTRICT s, \
                                                           const KN(place) * t, int64_t begin, int64_t end) {    \
        const int64_t whole = end * NEVE_VL > CONV_OC ? end - 1 : end;                                           \
        for (int64_t v = begin; v < whole; v++) KN(cell)(p, s, t, v * NEVE_VL, rows, border, 0);                 \
        if (CONV_OC % NEVE_VL && whole < end)                                                                    \
            KN(cell)(p, s, t, whole * NEVE_VL, rows, border, CONV_OC % NEVE_VL);                                 \
    }
DW_TILE(inner, CONV_MR, 0)
DW_TILE(border, CONV_MR, 1)
#if CONV_MR > 1
DW_TILE(inner_one, 1, 0)
DW_TILE(border_one, 1, 1)
#define DW_CALL(kind) (rows == CONV_MR ? KN(kind)(p, s, &t, begin, end) : KN(kind##_one)(p, s, &t, begin, end))
#else
#define DW_CALL(kind) KN(kind)(p, s, &t, begin, end)
#endif
#undef DW_TILE

/* Output rows oh..oh+rows-1 (1 or CONV_MR of them) of image n, channel vectors begin..end. */
static void KN(band)(void *const *p, const int64_t *s, int64_t n, int64_t oh, int64_t rows, int64_t begin, int64_t end) {
    KN(place) t;
    t.n = n, t.oh = oh;
    (void)rows;
    const float *image = (const float *)p[0] + n * (CONV_XN);
    for (int64_t ow = 0; ow < (CONV_OW); ow += CONV_RW) {
        const int64_t left = ow * CONV_SW - CONV_PL, top = oh * CONV_SH - CONV_PT;
        const int inside = left >= 0 && left + DW_COLS <= (CONV_W) && ow + CONV_RW <= (CONV_OW);
        for (int64_t r = 0; r < DW_ROWS; r++)
            t.row[r] = top + r >= 0 && top + r < (CONV_H) ? image + (top + r) * (CONV_XH) + (inside ? left * (CONV_XW) : 0) : 0;
        t.ow = ow;
        if (inside) {
            DW_CALL(inner);
            continue;
        }
        t.cols = (CONV_OW) - ow < CONV_RW ? (CONV_OW) - ow : CONV_RW;
        for (int64_t c = 0; c < DW_COLS; c++) {
            const int64_t iw = left + c, in = iw < 0 ? 0 : iw < (CONV_W) ? iw : (CONV_W) - 1;
            t.col[c] = in * (CONV_XW), t.keep[c] = vset_i(in == iw ? -1 : 0);
        }
        DW_CALL(border);
    }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th) {
    const int64_t bands = ((CONV_OH) + CONV_MR - 1) / CONV_MR;
    neve_work work = neve_work_of((int64_t)(CONV_N) * DW_CHUNKS * bands, 1, th);
    neve_range u;
    while (neve_take(&work, th, &u))
        for (int64_t i = u.begin; i < u.end; i++) {
            const int64_t oh = i % bands * CONV_MR, chunk = i / bands % DW_CHUNKS, n = i / bands / DW_CHUNKS;
            const int64_t begin = chunk * CONV_CB, end = begin + CONV_CB < DW_VECTORS ? begin + CONV_CB : DW_VECTORS;
            if (oh + CONV_MR <= (CONV_OH)) KN(band)(p, s, n, oh, CONV_MR, begin, end);
            else
                for (int64_t r = oh; r < (CONV_OH); r++) KN(band)(p, s, n, r, 1, begin, end);
        }
}

#undef DW_MULT
#undef DW_ROWS
#undef DW_COLS
#undef DW_VECTORS
#undef DW_CHUNKS
#undef DW_CALL
#undef DW_WEIGHT
#undef CONV_RW
#undef CONV_KEEP
#undef CONV_CB
#undef KN
#undef K_STORE
#undef K_STORE_N
#include "conv_undef.h"
