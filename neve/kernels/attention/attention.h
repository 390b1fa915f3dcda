/* Scaled dot product attention, O[b, h, q, d] = sum over k of softmax over k (scale Q K^T + mask)[q, k] V[k, d].
 *
 *   p[0] Q (b, h, q, d)   p[1] K (b, h / GROUP, k, d)   p[2] V (b, h / GROUP, k, dv)   p[3] the mask (b, h, q, k) if there is one
 *
 *   KN K_STORE(v, b, h, q, d) K_STORE_N(v, cnt, b, h, q, d)
 *   ATT_B ATT_H ATT_SQ ATT_SK ATT_D ATT_DV     sizes; ATT_H counts query heads
 *   ATT_GROUP                                  query heads to a head of K and V
 *   ATT_QB ATT_QH ATT_QS, ATT_KB ATT_KH ATT_KS, ATT_VB ATT_VH ATT_VS    element strides over batch, head, row; 1 along d
 *   ATT_SCALE                                  float literal
 *   ATT_MASK                                   0 none, 1 float32 added to the scores, 2 bytes, 0 = masked
 *   ATT_MB ATT_MH ATT_MQ ATT_MK                the mask's strides, 0 to broadcast; ATT_MK is 0 or 1
 *   ATT_CAUSAL                                 1: query q sees keys 0..q + ATT_OFFSET
 *   ATT_OFFSET
 *   ATT_BLOCK                                  queries at a time, 1..128: their scores should stay in L2
 *   ATT_ROWS                                   bit r set if a tile of r rows is called (attention.py's tile_rows), so that the others
 *                                              need not be compiled: they trap; default all
 *
 * scratch bytes a thread: KN(scratch)(s), or attention.py's bound; shared: none.
 * Rows all of whose keys are masked (-inf) give 0, as eager's safe softmax; NaN scores give NaN.
 *
 * The keys of a head are packed once into panels of 2 VL columns, the values into panels of 2 VL (or VL) columns. Per block: scores,
 * softmax over rows without normalising, values times the reciprocal sum. Threads share (b, h, block).
 */
#ifndef ATT_ROWS
#define ATT_ROWS 126
#endif
#define ATT_KN(x) KN(x)
#define ATT_CAT2(a, b) a##b
#define ATT_CAT(a, b) ATT_CAT2(a, b)
#define ATT_NR (2 * NEVE_VL)
#define ATT_PANELS(n) (((n) + ATT_NR - 1) / ATT_NR)
/* Up to so many queries the keys are not packed. */
#define ATT_FEW 3

/* exp(x) for x <= 0, and 0 below -87.7: 1.5 ulp + |x| / 4 ulp. */
NEVE_INLINE vf KN(exp)(vf x)
{
    x = vmax_fast(vset(-88.0f), x);
    vf t = vfma(x, vset(1.44269504f), vset(12582912.0f + 127.0f));
    vf r = vfma(x, vset(1.44269504f), vset(12582912.0f + 127.0f) - t);
    vf p = vfma(vfma(vset(1.326472266e-03f), r, vset(9.671512991e-03f)), r, vset(5.550733581e-02f));
    p = vfma(vfma(vfma(p, r, vset(2.402224243e-01f)), r, vset(6.931470037e-01f)), r, vset(1.0f));
    return p * vfrombits(vbits(t) << 23);
}

/* Adds or applies VL elements of the mask from key k on; `cnt` of them exist. */
NEVE_INLINE vf KN(masked)(vf x, const void *mask, int64_t k, int64_t cnt)
{
#if ATT_MASK == 1
    const float *m = (const float *)mask;
    if (!(ATT_MK))
        return x + vset(m[0]);
    return x + (cnt >= NEVE_VL ? vload(m + k) : vload_n(m + k, cnt));
#elif ATT_MASK == 2
    const uint8_t *m = (const uint8_t *)mask;
    if (!(ATT_MK))
        return m[0] ? x : vset(-__builtin_inff());
    uint8_t rest[NEVE_VL] = {0};
    for (int64_t i = 0; cnt < NEVE_VL && i < cnt; i++)
        rest[i] = m[k + i];
    vi keep = vload_u8(cnt >= NEVE_VL ? m + k : rest);
    return vselect((vi)(keep != vset_i(0)), x, vset(-__builtin_inff()));
#else
    (void)mask, (void)k, (void)cnt;
    return x;
#endif
}

/* Turns scores 0..n of a row into exp(score - maximum), and those up to `end` into 0; returns the reciprocal of their sum. */
NEVE_NOINLINE float KN(softmax)(float *x, int64_t n, int64_t end, const void *mask)
{
    vf high = vset(-__builtin_inff()), total = vset(0);
    int64_t whole = n / NEVE_VL * NEVE_VL;
    for (int64_t k = 0; k < whole; k += NEVE_VL) {
        vf v = KN(masked)(vload(x + k), mask, k, NEVE_VL);
        if (ATT_MASK)
            vstore(x + k, v);
        high = vmax_fast(v, high);
    }
    if (whole < n) {
        vf v = KN(masked)(vload(x + whole), mask, whole, n - whole);
        v = vselect(vmask_n(n - whole), v, vset(-__builtin_inff()));
        vstore(x + whole, v);
        high = vmax_fast(v, high);
        whole += NEVE_VL;
    }
    float top = vhmax(high);
    if (top == -__builtin_inff()) {
        int nan = 0;
        for (int64_t k = 0; k < n; k++)
            nan |= x[k] != x[k];
        for (int64_t k = 0; k < end; k++)
            x[k] = 0;
        return nan ? __builtin_nanf("") : 1.0f;
    }
    for (int64_t k = 0; k < whole; k += NEVE_VL) {
        vf e = KN(exp)(vload(x + k) - vset(top));
        total = total + e;
        vstore(x + k, e);
    }
    for (int64_t k = whole; k < end; k++)
        x[k] = 0;
    return 1.0f / vsum(total);
}

/* Rows 0..n of K, transposed into panels of 2 VL keys; missing keys are 0. */
NEVE_NOINLINE void KN(pack_keys)(const float *k, float *to, const int64_t *s)
{
    int64_t n = (ATT_SK), stride = (ATT_KS);
    (void)s;
    for (int64_t j = 0; j < n; j += NEVE_VL) {
        float *out = to + j / ATT_NR * ATT_NR * (ATT_D) + j % ATT_NR;
        const float *from = k + j * stride;
        int64_t rows = neve_min(n - j, NEVE_VL), d = 0;
        if (rows == NEVE_VL)
            for (; d + NEVE_VL <= (ATT_D); d += NEVE_VL) {
                vf r[NEVE_VL];
                NEVE_UNROLL
                for (int i = 0; i < NEVE_VL; i++)
                    r[i] = vload(from + i * stride + d);
                vtranspose(r);
                NEVE_UNROLL
                for (int i = 0; i < NEVE_VL; i++)
                    vstore(out + (d + i) * ATT_NR, r[i]);
            }
        for (; d < (ATT_D); d++) {
            for (int64_t i = 0; i < rows; i++)
                out[d * ATT_NR + i] = from[i * stride + d];
            for (int64_t i = rows; i < NEVE_VL; i++)
                out[d * ATT_NR + i] = 0;
        }
    }
    if ((n + NEVE_VL - 1) / NEVE_VL % 2)
        for (int64_t d = 0; d < (ATT_D); d++)
            vstore(to + n / ATT_NR * ATT_NR * (ATT_D) + d * ATT_NR + NEVE_VL, vset(0));
}

/* V in panels of 2 VL columns, the last one of VL if that is enough; missing columns are 0. */
NEVE_NOINLINE void KN(pack_values)(const float *v, float *to, const int64_t *s)
{
    int64_t n = (ATT_SK), stride = (ATT_VS);
    (void)s;
    for (int64_t c = 0; c < (ATT_DV); c += ATT_NR) {
        int64_t left = (ATT_DV) - c;
        for (int64_t k = 0; k < n; k++) {
            const float *from = v + k * stride + c;
            vstore(to, left >= NEVE_VL ? vload(from) : vload_n(from, left));
            to += NEVE_VL;
            if (left > NEVE_VL) {
                vstore(to, left >= ATT_NR ? vload(from + NEVE_VL) : vload_n(from + NEVE_VL, left - NEVE_VL));
                to += NEVE_VL;
            }
        }
    }
}

#define ATT_R 1
#define ATT_NV 0
#include "attention_tile.h"
#define ATT_R 2
#define ATT_NV 0
#include "attention_tile.h"
#define ATT_R 3
#define ATT_NV 0
#include "attention_tile.h"
#define ATT_R 4
#define ATT_NV 0
#include "attention_tile.h"
#define ATT_R 5
#define ATT_NV 0
#include "attention_tile.h"
#define ATT_R 6
#define ATT_NV 0
#include "attention_tile.h"
#define ATT_R 1
#define ATT_NV 1
#include "attention_tile.h"
#define ATT_R 2
#define ATT_NV 1
#include "attention_tile.h"
#define ATT_R 3
#define ATT_NV 1
#include "attention_tile.h"
#define ATT_R 4
#define ATT_NV 1
#include "attention_tile.h"
#define ATT_R 5
#define ATT_NV 1
#include "attention_tile.h"
#define ATT_R 6
#define ATT_NV 1
#include "attention_tile.h"
#define ATT_R 1
#define ATT_NV 2
#include "attention_tile.h"
#define ATT_R 2
#define ATT_NV 2
#include "attention_tile.h"
#define ATT_R 3
#define ATT_NV 2
#include "attention_tile.h"
#define ATT_R 4
#define ATT_NV 2
#include "attention_tile.h"
#define ATT_R 5
#define ATT_NV 2
#include "attention_tile.h"
#define ATT_R 6
#define ATT_NV 2
#include "attention_tile.h"

#define ATT_SCORES(r) \
    case r: KN(scores_##r)(q, kp, sc, stride); break;
NEVE_INLINE void KN(scores)(int64_t rows, const float *q, const float *kp, float *sc, int64_t stride)
{
    switch (rows) { ATT_SCORES(1) ATT_SCORES(2) ATT_SCORES(3) ATT_SCORES(4) ATT_SCORES(5) ATT_SCORES(6) }
}
#define ATT_VALUES(nv, r) \
    case r: KN(values_##nv##r)(p, s, w, stride, vp, terms, inv, b, h, row, column, width); break;
NEVE_INLINE void KN(values)(int64_t rows, void *const *p, const int64_t *s, const float *w, int64_t stride, const float *vp, int64_t terms, const float *inv,
                            int64_t b, int64_t h, int64_t row, int64_t column, int64_t width)
{
    if (width > NEVE_VL)
        switch (rows) { ATT_VALUES(2, 1) ATT_VALUES(2, 2) ATT_VALUES(2, 3) ATT_VALUES(2, 4) ATT_VALUES(2, 5) ATT_VALUES(2, 6) }
    else
        switch (rows) { ATT_VALUES(1, 1) ATT_VALUES(1, 2) ATT_VALUES(1, 3) ATT_VALUES(1, 4) ATT_VALUES(1, 5) ATT_VALUES(1, 6) }
}

/* Keys that query q sees. */
NEVE_INLINE int64_t KN(seen)(int64_t q, const int64_t *s)
{
    (void)q, (void)s;
#if ATT_CAUSAL
    return neve_max(0, neve_min((ATT_SK), q + (ATT_OFFSET) + 1));
#else
    return (ATT_SK);
#endif
}

NEVE_INLINE const void *KN(mask_row)(void *const *p, const int64_t *s, int64_t b, int64_t h, int64_t q)
{
    (void)p, (void)s, (void)b, (void)h, (void)q;
#if ATT_MASK == 1
    return (const float *)p[3] + b * (ATT_MB) + h * (ATT_MH) + q * (ATT_MQ);
#elif ATT_MASK == 2
    return (const uint8_t *)p[3] + b * (ATT_MB) + h * (ATT_MH) + q * (ATT_MQ);
#else
    return 0;
#endif
}

/* Floats between rows of the scores: not a multiple of a page, whole vectors, space for the last panel. */
NEVE_INLINE int64_t KN(stride)(const int64_t *s)
{
    (void)s;
    return ATT_PANELS(ATT_SK) * ATT_NR + 16;
}

/* Bytes of scratch that a thread needs. */
NEVE_INLINE int64_t KN(scratch)(const int64_t *s)
{
    return 4 * ((ATT_PANELS(ATT_SK) * ATT_NR) * ((ATT_D) + ATT_PANELS(ATT_DV) * ATT_NR) + (ATT_BLOCK) * (KN(stride)(s) + (ATT_D) + 1));
}

/* Queries from..till of a head whose keys and values are packed. */
NEVE_NOINLINE void KN(block)(void *const *p, const int64_t *s, int64_t b, int64_t h, int64_t from, int64_t till, const float *kp, const float *vp, float *own)
{
    int64_t n = till - from, stride = KN(stride)(s), end = KN(seen)(till - 1, s);
    float *q = own, *sc = own + (ATT_BLOCK) * (ATT_D), *inv = sc + (ATT_BLOCK) * stride;
    const float *q0 = (const float *)p[0] + b * (ATT_QB) + h * (ATT_QH) + from * (ATT_QS);
    for (int64_t r = 0; r < n; r++)
        for (int64_t d = 0; d < (ATT_D); d++)
            q[r * (ATT_D) + d] = q0[r * (ATT_QS) + d] * (ATT_SCALE);
    int64_t groups = neve_ceil_div(n, 6);
    for (int64_t k = 0; k < end; k += ATT_NR)
        for (int64_t g = 0; g < groups; g++) {
            int64_t r = g * n / groups;
            KN(scores)((g + 1) * n / groups - r, q + r * (ATT_D), kp + k * (ATT_D), sc + r * stride + k, stride);
        }
    for (int64_t r = 0; r < n; r++)
        inv[r] = KN(softmax)(sc + r * stride, KN(seen)(from + r, s), end, KN(mask_row)(p, s, b, h, from + r));
    for (int64_t c = 0; c < (ATT_DV); c += ATT_NR) {
        int64_t width = neve_min((ATT_DV) - c, ATT_NR);
        for (int64_t g = 0; g < groups; g++) {
            int64_t r = g * n / groups;
            KN(values)((g + 1) * n / groups - r, p, s, sc + r * stride, stride, vp + c * (ATT_SK), end, inv + r, b, h, from + r, c, width);
        }
    }
}

/* One query: scores by inner products over rows of K, values as a sum of rows of V. */
NEVE_NOINLINE void KN(single)(void *const *p, const int64_t *s, int64_t b, int64_t h, int64_t row, const float *k0, const float *v0, float *own)
{
    const float *q = (const float *)p[0] + b * (ATT_QB) + h * (ATT_QH) + row * (ATT_QS);
    int64_t end = KN(seen)(row, s);
    (void)s;
    for (int64_t k = 0; k < end; k += NEVE_VL) {
        vf r[NEVE_VL];
        for (int64_t i = 0; i < NEVE_VL; i++) {
            const float *from = k0 + neve_min(k + i, end - 1) * (ATT_KS);
            vf acc = vset(0);
            int64_t d = 0;
            for (; d + NEVE_VL <= (ATT_D); d += NEVE_VL)
                acc = vfma(vload(q + d), vload(from + d), acc);
            if (d < (ATT_D))
                acc = vfma(vload_n(q + d, (ATT_D) - d), vload_n(from + d, (ATT_D) - d), acc);
            r[i] = acc;
        }
        vtranspose(r);
        vf total = r[0];
        NEVE_UNROLL
        for (int i = 1; i < NEVE_VL; i++)
            total = total + r[i];
        vstore(own + k, total * vset(ATT_SCALE));
    }
    vf inv = vset(KN(softmax)(own, end, end, KN(mask_row)(p, s, b, h, row)));
    for (int64_t c = 0; c < (ATT_DV); c += 4 * NEVE_VL) {
        vf acc[4] = {vset(0), vset(0), vset(0), vset(0)};
        int64_t left = (ATT_DV) - c;
        if (left >= 4 * NEVE_VL)
            for (int64_t k = 0; k < end; k++)
                NEVE_UNROLL
                for (int j = 0; j < 4; j++)
                    acc[j] = vfma(vset(own[k]), vload(v0 + k * (ATT_VS) + c + j * NEVE_VL), acc[j]);
        else
            for (int64_t k = 0; k < end; k++)
                NEVE_UNROLL
                for (int j = 0; j < 4; j++)
                    if (left > j * NEVE_VL)
                        acc[j] = vfma(vset(own[k]), vload_n(v0 + k * (ATT_VS) + c + j * NEVE_VL, neve_min(left - j * NEVE_VL, NEVE_VL)), acc[j]);
        NEVE_UNROLL
        for (int j = 0; j < 4; j++)
            if (left >= (j + 1) * NEVE_VL)
                K_STORE(acc[j] * inv, b, h, row, c + j * NEVE_VL);
            else if (left > j * NEVE_VL)
                K_STORE_N(acc[j] * inv, left - j * NEVE_VL, b, h, row, c + j * NEVE_VL);
    }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    int64_t blocks = (ATT_SQ) <= ATT_FEW ? (ATT_SQ) : neve_ceil_div((ATT_SQ), (ATT_BLOCK)), packed = -1;
    if (blocks == 0)
        return;
    float *kp = (float *)th->scratch, *vp = kp + ATT_PANELS(ATT_SK) * ATT_NR * (ATT_D), *own = vp + ATT_PANELS(ATT_DV) * ATT_NR * (ATT_SK);
    neve_work work = neve_work_of((ATT_B) * (ATT_H) * blocks, blocks, th);
    neve_range mine;
    (void)s;
    while (neve_take(&work, th, &mine))
        for (int64_t i = mine.begin; i < mine.end; i++) {
            int64_t b = i / blocks / (ATT_H), h = i / blocks % (ATT_H), block = i % blocks, kh = h / (ATT_GROUP), head = b * (ATT_H) + kh;
            const float *k0 = (const float *)p[1] + b * (ATT_KB) + kh * (ATT_KH), *v0 = (const float *)p[2] + b * (ATT_VB) + kh * (ATT_VH);
            if ((ATT_SQ) <= ATT_FEW) {
                KN(single)(p, s, b, h, block, k0, v0, (float *)th->scratch);
                continue;
            }
            if (head != packed) {
                KN(pack_keys)(k0, kp, s);
                KN(pack_values)(v0, vp, s);
                packed = head;
            }
            KN(block)(p, s, b, h, block * (ATT_SQ) / blocks, (block + 1) * (ATT_SQ) / blocks, kp, vp, own);
        }
}

#undef ATT_KN
#undef ATT_CAT
#undef ATT_CAT2
#undef ATT_NR
#undef ATT_PANELS
#undef ATT_FEW
#undef ATT_SCORES
#undef ATT_VALUES
#undef KN
#undef K_STORE
#undef K_STORE_N
#undef ATT_B
#undef ATT_H
#undef ATT_SQ
#undef ATT_SK
#undef ATT_D
#undef ATT_DV
#undef ATT_GROUP
#undef ATT_QB
#undef ATT_QH
#undef ATT_QS
#undef ATT_KB
#undef ATT_KH
#undef ATT_KS
#undef ATT_VB
#undef ATT_VH
#undef ATT_VS
#undef ATT_SCALE
#undef ATT_MASK
#undef ATT_MB
#undef ATT_MH
#undef ATT_MQ
#undef ATT_MK
#undef ATT_CAUSAL
#undef ATT_OFFSET
#undef ATT_BLOCK
#undef ATT_ROWS
