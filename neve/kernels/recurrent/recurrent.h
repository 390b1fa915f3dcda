/* A recurrent layer in one direction over a sequence, once the products of its inputs are known.
 *
 *   p[0] gates of the inputs, x W_ih^T + b_ih: (t, b, gate * H + j), 1 along the last
 *   p[1] W_hh as packed by `pack_recurrent` of panels.py        p[2] b_hh (gate * H + j) if RNN_BIAS
 *   p[3] h0, p[4] c0 (LSTM) if RNN_INIT        p[5] final h, p[6] final c (LSTM) if RNN_FINAL, written; a slot not used may be null
 *
 *   KN K_STORE(v, t, b, j) K_STORE_N(v, cnt, t, b, j)    the output h at time t
 *   RNN_KIND     0 tanh, 1 relu, 2 GRU (gates r z n), 3 LSTM (gates i f g o); PyTorch's formulas
 *   RNN_T RNN_B RNN_H     steps, batch, hidden size; RNN_H literal
 *   RNN_XT RNN_XB         element strides of p[0] over time and batch
 *   RNN_SB                element stride of h0, c0 and the final states over the batch
 *   RNN_BIAS RNN_INIT RNN_FINAL    0 or 1
 *   RNN_REVERSE           1: from t = T - 1 down to 0
 *   RNN_NV                vectors of a gate in a panel of W_hh
 *   RNN_TYPE              type of W_hh: 0 float32, 1 float16, 2 bfloat16
 *
 * scratch: none; shared bytes: 4 * 3 * B * HP (2 instead of 3 but for LSTM), HP = RNN_H rounded up to panels of RNN_NV * VL.
 *
 * Threads share the panels, and wait for one another after each step. A step of one row reads two panels at once: one stream does not
 * reach the cache's bandwidth.
 */
#include "../math.h"

#define RNN_KN(x) KN(x)

#if RNN_KIND == 2
#define RNN_G 3
#elif RNN_KIND == 3
#define RNN_G 4
#else
#define RNN_G 1
#endif
/* Two adjacent vectors of W_hh as r[0] and r[1]; those of bfloat16 are to be zipped. RNN_G * RNN_NV is even. */
#if RNN_TYPE == 0
#define RNN_W float
#define RNN_LOAD(p, r) ((r)[0] = vload(p), (r)[1] = vload((p) + NEVE_VL))
#else
#include "../vec_half.h"
#define RNN_W uint16_t
#if RNN_TYPE == 1
#define RNN_LOAD(p, r) ((r)[0] = vload_f16(p), (r)[1] = vload_f16((p) + NEVE_VL))
#else
#define RNN_LOAD(p, r) vload_pair_bf16(p, r)
#endif
#endif
#define RNN_WIDTH ((RNN_NV) * NEVE_VL)
#define RNN_PANELS (((RNN_H) + RNN_WIDTH - 1) / RNN_WIDTH)
#define RNN_HP (RNN_PANELS * RNN_WIDTH)
#define RNN_PANEL ((int64_t)(RNN_H) * RNN_G * RNN_WIDTH)

/* From the sums of the gates to the next state of `cnt` units from j on. */
NEVE_INLINE void KN(finish)(void *const *p, const int64_t *s, const vf *sum, const float *h, float *next, float *c, int64_t t, int64_t b, int64_t j, int64_t cnt)
{
    const float *gates = (const float *)p[0] + t * (RNN_XT) + b * (RNN_XB) + j;
    vf x[RNN_G], y[RNN_G], out;
    (void)s, (void)h, (void)c;
    NEVE_UNROLL
    for (int g = 0; g < RNN_G; g++) {
        x[g] = cnt >= NEVE_VL ? vload(gates + g * (RNN_H)) : vload_n(gates + g * (RNN_H), cnt);
        y[g] = sum[g];
#if RNN_BIAS
        const float *bias = (const float *)p[2] + g * (RNN_H) + j;
        y[g] = y[g] + (cnt >= NEVE_VL ? vload(bias) : vload_n(bias, cnt));
#endif
    }
#if RNN_KIND == 0
    out = vf_tanh(x[0] + y[0]);
#elif RNN_KIND == 1
    out = vmax_fast(vset(0), x[0] + y[0]);
#elif RNN_KIND == 2
    vf r = vf_sigmoid(x[0] + y[0]), z = vf_sigmoid(x[1] + y[1]), n = vf_tanh(vfma(r, y[2], x[2]));
    out = vfma(z, vload(h) - n, n);
#else
    vf i = vf_sigmoid(x[0] + y[0]), f = vf_sigmoid(x[1] + y[1]), g = vf_tanh(x[2] + y[2]), o = vf_sigmoid(x[3] + y[3]);
    vf cell = vfma(f, vload(c), i * g);
    vstore(c, cell);
    out = o * vf_tanh(cell);
#endif
    vstore(next, out);
    if (cnt >= NEVE_VL)
        K_STORE(out, t, b, j);
    else
        K_STORE_N(out, cnt, t, b, j);
}

#define RNN_FN pair
#define RNN_R 1
#define RNN_NP 2
#include "recurrent_tile.h"
#define RNN_FN one
#define RNN_R 1
#define RNN_NP 1
#include "recurrent_tile.h"
#define RNN_FN two_rows
#define RNN_R 2
#define RNN_NP 1
#include "recurrent_tile.h"

/* Columns begin..end of the states from p[3] and p[4], or zeros; those past RNN_H are zeros. */
NEVE_INLINE void KN(start)(void *const *p, const int64_t *s, float *h, float *c, int64_t begin, int64_t end)
{
    (void)p, (void)s, (void)c;
    for (int64_t b = 0; b < (RNN_B); b++)
        for (int64_t j = begin; j < end; j++) {
#if RNN_INIT
            h[b * RNN_HP + j] = j < (RNN_H) ? ((const float *)p[3])[b * (RNN_SB) + j] : 0;
#else
            h[b * RNN_HP + j] = 0;
#endif
#if RNN_KIND == 3 && RNN_INIT
            c[b * RNN_HP + j] = j < (RNN_H) ? ((const float *)p[4])[b * (RNN_SB) + j] : 0;
#elif RNN_KIND == 3
            c[b * RNN_HP + j] = 0;
#endif
        }
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    const RNN_W *w = (const RNN_W *)p[1];
    int64_t state = (int64_t)(RNN_B) * RNN_HP;
    float *h = (float *)th->shared, *next = h + state, *c = next + state;
    neve_range mine = neve_share(RNN_PANELS, th);
    (void)s;
#if RNN_KIND != 3
    c = h;
#endif
    KN(start)(p, s, h, c, mine.begin * RNN_WIDTH, mine.end * RNN_WIDTH);
    for (int64_t step = 0; step < (RNN_T); step++) {
        int64_t t = (RNN_REVERSE) ? (RNN_T) - 1 - step : step;
        neve_barrier(th);
        for (int64_t q = mine.begin; q < mine.end;) {
            const RNN_W *panel = w + q * RNN_PANEL;
            int64_t b = 0, j = q * RNN_WIDTH;
            if ((RNN_B) == 1 && q + 1 < mine.end) {
                KN(pair)(p, s, panel, h, next, c, t, 0, j);
                q += 2;
                continue;
            }
            for (; b + 2 <= (RNN_B); b += 2)
                KN(two_rows)(p, s, panel, h + b * RNN_HP, next + b * RNN_HP, c + b * RNN_HP, t, b, j);
            if (b < (RNN_B))
                KN(one)(p, s, panel, h + b * RNN_HP, next + b * RNN_HP, c + b * RNN_HP, t, b, j);
            q++;
        }
        float *swap = h;
        h = next;
        next = swap;
    }
#if RNN_FINAL
    for (int64_t b = 0; b < (RNN_B); b++)
        for (int64_t j = mine.begin * RNN_WIDTH; j < neve_min((RNN_H), mine.end * RNN_WIDTH); j++) {
            ((float *)p[5])[b * (RNN_SB) + j] = h[b * RNN_HP + j];
#if RNN_KIND == 3
            ((float *)p[6])[b * (RNN_SB) + j] = c[b * RNN_HP + j];
#endif
        }
#endif
}

#undef RNN_KN
#undef RNN_G
#undef RNN_W
#undef RNN_LOAD
#undef RNN_WIDTH
#undef RNN_PANELS
#undef RNN_HP
#undef RNN_PANEL
#undef KN
#undef K_STORE
#undef K_STORE_N
#undef RNN_KIND
#undef RNN_T
#undef RNN_B
#undef RNN_H
#undef RNN_XT
#undef RNN_XB
#undef RNN_SB
#undef RNN_BIAS
#undef RNN_INIT
#undef RNN_FINAL
#undef RNN_REVERSE
#undef RNN_NV
#undef RNN_TYPE
