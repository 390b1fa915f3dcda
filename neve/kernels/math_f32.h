/* float32 functions of one element, sf_NAME(float), and of a vector, vf_NAME(vf), from one definition: math_f32_body.h.
 *
 * Without branches on the data but for the trigonometric functions of huge arguments. The functions at the end (pow, fmod, gamma and Bessel functions, …)
 * go through the double ones, lane by lane.
 */
#ifndef NEVE_MATH_F32_H
#define NEVE_MATH_F32_H

#include "math_f64.h"
#include "math_special.h"
#include "vec.h"

#define NEVE_HOT static inline __attribute__((always_inline, unused))
#define NEVE_FN static inline __attribute__((unused))
#if NEVE_FMA
#define NEVE_M_FUSED 1
#define NEVE_M_TRIG_LIMIT 100000.0f
#else
#define NEVE_M_TRIG_LIMIT 8192.0f
#endif

NEVE_HOT float neve_f32_of(int32_t i)
{
    union { int32_t i; float f; } u = {i};
    return u.f;
}
NEVE_HOT int32_t neve_f32_bits(float f)
{
    union { float f; int32_t i; } u = {f};
    return u.i;
}

#define T float
#define I int32_t
#define F(name) sf_##name
#define K(x) (x)
#define KI(x) (x)
#define BITS(x) neve_f32_bits(x)
#define FLT(i) neve_f32_of((int32_t)(i))
#define TO_F(i) ((float)(i))
#if NEVE_FMA
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
#define MAXF(a, b) neve_f32_max(a, b)
#define MINF(a, b) neve_f32_min(a, b)
#define ABS(x) __builtin_fabsf(x)
#define SQRT(x) neve_root32(x)
#define TRUNC(x) ((float)sd_trunc((double)(x)))
#define LT(a, b) (-(int32_t)((a) < (b)))
#define EQ(a, b) (-(int32_t)((a) == (b)))
#define EQI(a, b) (-(int32_t)((a) == (b)))
#define NONZERO(a) (a)
#define NEGATIVE(x) (BITS(x) >> 31)
#define SEL(m, a, b) ((m) ? (a) : (b))
#define SIGN_OF(x, y) FLT(BITS(y) | (BITS(x) & (int32_t)0x80000000u))
#define SHL(a, n) ((int32_t)((uint32_t)(a) << (n)))
#define WRAP_SUB(a, b) ((int32_t)((uint32_t)(a) - (uint32_t)(b)))
#define REPAIR(x, y, exact)                              \
    if (NEVE_UNLIKELY(!(ABS(x) < NEVE_M_TRIG_LIMIT)))    \
        y = (float)exact((double)x);

/* b if either is NaN. */
NEVE_HOT float neve_f32_max(float a, float b) { return a > b ? a : b; }
NEVE_HOT float neve_f32_min(float a, float b) { return a < b ? a : b; }

#include "math_f32_body.h"

#undef T
#undef I
#undef F
#undef K
#undef KI
#undef BITS
#undef FLT
#undef TO_F
#undef FMA
#undef MAXF
#undef MINF
#undef ABS
#undef SQRT
#undef TRUNC
#undef LT
#undef EQ
#undef EQI
#undef NONZERO
#undef NEGATIVE
#undef SEL
#undef SIGN_OF
#undef SHL
#undef WRAP_SUB
#undef REPAIR

typedef uint32_t neve_vu __attribute__((vector_size(NEVE_VL * 4)));

#define T vf
#define I vi
#define F(name) vf_##name
#define K(x) vset(x)
#define KI(x) vset_i(x)
#define BITS(x) vbits(x)
#define FLT(i) vfrombits(i)
#define TO_F(i) vcvt_f(i)
#define FMA(a, b, c) vfma(a, b, c)
#define MAXF(a, b) vmax_fast(a, b)
#define MINF(a, b) vmin_fast(a, b)
#define ABS(x) vabs(x)
#define SQRT(x) vsqrt(x)
#define TRUNC(x) vtrunc(x)
#define LT(a, b) ((vi)((a) < (b)))
#define EQ(a, b) ((vi)((a) == (b)))
#define EQI(a, b) ((vi)((a) == vset_i(b)))
#define NONZERO(a) ((vi)((a) != vset_i(0)))
#define NEGATIVE(x) (vbits(x) >> 31)
#define SEL(m, a, b) vselect(m, a, b)
#define SIGN_OF(x, y) vfrombits(vbits(y) | (vbits(x) & vset_i((int32_t)0x80000000u)))
#define SHL(a, n) ((vi)((neve_vu)(a) << (n)))
#define WRAP_SUB(a, b) ((vi)((neve_vu)(a) - (neve_vu)(b)))
#define REPAIR(x, y, exact)                                    \
    if (NEVE_UNLIKELY(!(vhmax(vabs(x)) < NEVE_M_TRIG_LIMIT)))  \
        for (int lane = 0; lane < NEVE_VL; lane++)             \
            if (!(ABS(x)[lane] < NEVE_M_TRIG_LIMIT))           \
                y[lane] = (float)exact((double)x[lane]);

#include "math_f32_body.h"

#undef T
#undef I
#undef F
#undef K
#undef KI
#undef BITS
#undef FLT
#undef TO_F
#undef FMA
#undef MAXF
#undef MINF
#undef ABS
#undef SQRT
#undef TRUNC
#undef LT
#undef EQ
#undef EQI
#undef NONZERO
#undef NEGATIVE
#undef SEL
#undef SIGN_OF
#undef SHL
#undef WRAP_SUB
#undef REPAIR

NEVE_HOT float sf_floor(float x) { return (float)sd_floor((double)x); }
NEVE_HOT float sf_ceil(float x) { return (float)sd_ceil((double)x); }
NEVE_HOT float sf_trunc(float x) { return (float)sd_trunc((double)x); }
/* Half to even. */
NEVE_HOT float sf_round(float x) { return (float)sd_round((double)x); }
NEVE_HOT vf vf_floor(vf x) { return vfloor(x); }
NEVE_HOT vf vf_ceil(vf x) { return vceil(x); }
NEVE_HOT vf vf_trunc(vf x) { return vtrunc(x); }
NEVE_HOT vf vf_round(vf x) { return vround(x); }

/* Through the double function: within 0.51 ulp of it. */
#define NEVE_M_UNARY(name)                                                     \
    NEVE_FN float sf_##name(float x) { return (float)sd_##name((double)x); }   \
    NEVE_FN vf vf_##name(vf x)                                                 \
    {                                                                          \
        vf y = x;                                                              \
        for (int lane = 0; lane < NEVE_VL; lane++)                             \
            y[lane] = sf_##name(x[lane]);                                      \
        return y;                                                              \
    }
#define NEVE_M_BINARY(name)                                                                           \
    NEVE_FN float sf_##name(float a, float b) { return (float)sd_##name((double)a, (double)b); }      \
    NEVE_FN vf vf_##name(vf a, vf b)                                                                  \
    {                                                                                                 \
        vf y = a;                                                                                     \
        for (int lane = 0; lane < NEVE_VL; lane++)                                                    \
            y[lane] = sf_##name(a[lane], b[lane]);                                                    \
        return y;                                                                                     \
    }
NEVE_M_UNARY(lgamma)
NEVE_M_UNARY(digamma)
NEVE_M_UNARY(trigamma)
NEVE_M_UNARY(erfinv)
NEVE_M_UNARY(ndtri)
NEVE_M_UNARY(log_ndtr)
NEVE_M_UNARY(ndtr)
NEVE_M_UNARY(i0)
NEVE_M_UNARY(i0e)
NEVE_M_UNARY(i1)
NEVE_M_UNARY(i1e)
NEVE_M_UNARY(sinc)
#ifndef NEVE_M_FUSED
NEVE_M_BINARY(pow)
#endif
/* The sign of a, as C's; exact. */
NEVE_FN float sf_fmod(float a, float b) { return (float)sd_fmod((double)a, (double)b); }
NEVE_FN vf vf_fmod(vf a, vf b)
{
    vf y = a;
#ifdef NEVE_M_FUSED
    vf u = vabs(a), v = vabs(b);
    /* Below 2^22 the quotient is off by one at most, and both remainders are exact. */
    vf q = vtrunc(u / v), r = vfma(-q, v, u);
    r = vselect((vi)(r < vset(0)), r + v, r);
    r = vselect((vi)(r >= v), r - v, r);
    y = vfrombits(vbits(r) | (vbits(a) & vset_i((int32_t)0x80000000u)));
    if (!NEVE_UNLIKELY(!(vhmax(q) < 4194304.0f) || !(vhmax(v) < __builtin_inff())))
        return y;
#endif
    for (int lane = 0; lane < NEVE_VL; lane++)
        y[lane] = sf_fmod(a[lane], b[lane]);
    return y;
}
/* The sign of b, as Python's %. */
NEVE_FN float sf_remainder(float a, float b) { return (float)sd_remainder((double)a, (double)b); }
NEVE_FN vf vf_remainder(vf a, vf b)
{
    vf r = vf_fmod(a, b);
    return vselect((vi)(r != vset(0)) & ((vi)(r < vset(0)) ^ (vi)(b < vset(0))), r + b, r);
}
/* 0 where x is 0 and y is not NaN, 2 ulp. */
NEVE_FN float sf_xlogy(float x, float y) { return y != y ? y : x == 0 ? 0 : x * sf_log(y); }
NEVE_FN vf vf_xlogy(vf x, vf y) { return vselect((vi)(x == vset(0)) & (vi)(y == y), vset(0), x * vf_log(y)); }
NEVE_FN float sf_xlog1py(float x, float y) { return y != y ? y : x == 0 ? 0 : x * sf_log1p(y); }
NEVE_FN vf vf_xlog1py(vf x, vf y) { return vselect((vi)(x == vset(0)) & (vi)(y == y), vset(0), x * vf_log1p(y)); }
NEVE_M_BINARY(floordiv)
#undef NEVE_M_UNARY
#undef NEVE_M_BINARY

#endif
