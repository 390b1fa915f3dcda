/* What generated loop nests need beyond vec.h and math.h: floor division, strided vectors, masks from bytes, conversions, row reductions. */
#ifndef NEVE_NEST_H
#define NEVE_NEST_H

#include "vec_half.h"

NEVE_INLINE int64_t neve_floor_div(int64_t a, int64_t b)
{
    int64_t q = a / b;
    return q - (a % b != 0 && ((a < 0) != (b < 0)));
}

NEVE_INLINE int64_t neve_floor_mod(int64_t a, int64_t b)
{
    int64_t r = a % b;
    return r + (r != 0 && ((r < 0) != (b < 0)) ? b : 0);
}

/* Truncation as x86 converts: what does not fit, NaN included, gives the smallest integer. */
NEVE_INLINE int64_t neve_to_int64(double x) { return x >= -9223372036854775808.0 && x < 9223372036854775808.0 ? (int64_t)x : INT64_MIN; }
NEVE_INLINE int32_t neve_to_int32(double x) { return x > -2147483649.0 && x < 2147483648.0 ? (int32_t)x : INT32_MIN; }

/* log(exp(a) + exp(b)) without overflow; NaN if either is, the infinity if both are the same one. */
NEVE_INLINE double sd_logaddexp(double a, double b)
{
    if (a == b)
        return a + 0.69314718055994530942;
    double high = sd_maximum(a, b), low = sd_minimum(a, b);
    return high + sd_log1p(sd_exp(low - high));
}

NEVE_INLINE vf vload_strided_n(const float *p, int64_t stride, int64_t cnt)
{
    vf v = vset(0.0f);
    for (int64_t i = 0; i < cnt; i++)
        v[i] = p[i * stride];
    return v;
}

NEVE_INLINE vf vload_strided(const float *p, int64_t stride)
{
    vf v;
    NEVE_UNROLL
    for (int i = 0; i < NEVE_VL; i++)
        v[i] = p[i * stride];
    return v;
}

NEVE_INLINE void vstore_strided_n(float *p, int64_t stride, vf v, int64_t cnt)
{
    for (int64_t i = 0; i < cnt; i++)
        p[i * stride] = v[i];
}

NEVE_INLINE void vstore_strided(float *p, int64_t stride, vf v)
{
    NEVE_UNROLL
    for (int i = 0; i < NEVE_VL; i++)
        p[i * stride] = v[i];
}

NEVE_INLINE vi vmask_set(int on) { return vset(on ? 1.0f : 0.0f) != vset(0.0f); }

NEVE_INLINE vi vmask_load_n(const uint8_t *p, int64_t stride, int64_t cnt)
{
    vf v = vset(0.0f);
    for (int64_t i = 0; i < cnt; i++)
        v[i] = p[i * stride] ? 1.0f : 0.0f;
    return v != vset(0.0f);
}

NEVE_INLINE vi vmask_load(const uint8_t *p, int64_t stride)
{
    return stride == 1 ? (vi)(vload_u8(p) != vset_i(0)) : vmask_load_n(p, stride, NEVE_VL);
}

/* The first cnt lanes of a, the others of b. */
NEVE_INLINE vf vfirst(vf a, int64_t cnt, vf b) { return vselect(vmask_n(cnt), a, b); }

NEVE_INLINE float vred_sum(vf a) { return vsum(a); }

NEVE_INLINE float vred_prod(vf a)
{
    float r = a[0];
    for (int i = 1; i < NEVE_VL; i++)
        r *= a[i];
    return r;
}

NEVE_INLINE float vred_max(vf a)
{
    float r = a[0];
    for (int i = 1; i < NEVE_VL; i++)
        r = sf_maximum(r, a[i]);
    return r;
}

NEVE_INLINE float vred_min(vf a)
{
    float r = a[0];
    for (int i = 1; i < NEVE_VL; i++)
        r = sf_minimum(r, a[i]);
    return r;
}
#endif
