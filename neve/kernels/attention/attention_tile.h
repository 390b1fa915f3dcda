/* Register tiles of attention.h for ATT_R rows (and, for values, ATT_NV vectors): functions of their own, as gcc spoils inlined ones.
 *
 * ATT_NV 0 makes the scores tile, 1 and 2 the values tile. The includer defines both; they are undefined again at the end.
 */
#if ATT_NV == 0
/* sc[r][0..2 VL) = sum over d of q[r][d] kp[d][0..2 VL). */
NEVE_NOINLINE void ATT_KN(ATT_CAT(scores_, ATT_R))(const float *q, const float *kp, float *sc, int64_t stride)
{
    if (!((ATT_ROWS) >> ATT_R & 1))
        __builtin_trap();
    vf acc[ATT_R][2];
    NEVE_UNROLL
    for (int r = 0; r < ATT_R; r++)
        acc[r][0] = acc[r][1] = vset(0);
    int64_t k = 0, end = ATT_D;
#define TERMS_ROWS ATT_R
#define TERMS_NV 2
#define TERMS_A(r) (q + (r) * (int64_t)(ATT_D) + k)
#define TERMS_ADJACENT 1
#define TERMS_B kp
#include "../terms.h"
    NEVE_UNROLL
    for (int r = 0; r < ATT_R; r++) {
        vstore(sc + r * stride, acc[r][0]);
        vstore(sc + r * stride + NEVE_VL, acc[r][1]);
    }
}
#else
/* O[b, h, row + r, column..] = inv[r] * sum over k < terms of weights[r][k] vp[k][0..NV VL); `width` of the columns are valid. */
NEVE_NOINLINE void ATT_KN(ATT_CAT(ATT_CAT(values_, ATT_NV), ATT_R))(void *const *p, const int64_t *s, const float *weights, int64_t stride, const float *vp, int64_t terms,
                                                                    const float *inv, int64_t b, int64_t h, int64_t row, int64_t column, int64_t width)
{
    if (!((ATT_ROWS) >> ATT_R & 1))
        __builtin_trap();
    vf acc[ATT_R][ATT_NV];
    (void)p, (void)s, (void)b, (void)h;
    NEVE_UNROLL
    for (int r = 0; r < ATT_R; r++)
        NEVE_UNROLL
        for (int j = 0; j < ATT_NV; j++)
            acc[r][j] = vset(0);
    int64_t k = 0, end = terms;
#define TERMS_ROWS ATT_R
#define TERMS_NV ATT_NV
#define TERMS_A(r) (weights + (r) * stride + k)
#define TERMS_ADJACENT 1
#define TERMS_B vp
#include "../terms.h"
    NEVE_UNROLL
    for (int r = 0; r < ATT_R; r++)
        NEVE_UNROLL
        for (int j = 0; j < ATT_NV; j++) {
            vf o = acc[r][j] * vset(inv[r]);
            if (width >= (j + 1) * NEVE_VL)
                K_STORE(o, b, h, row + r, column + j * NEVE_VL);
            else if (width > j * NEVE_VL)
                K_STORE_N(o, width - j * NEVE_VL, b, h, row + r, column + j * NEVE_VL);
        }
}
#endif
#undef ATT_R
#undef ATT_NV
