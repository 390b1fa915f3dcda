/* float16 and bfloat16 as bits in uint16_t: sh_to_f sf_to_h (IEEE half), sb_to_f sf_to_b (bfloat16).
 *
 * Widening is exact; narrowing rounds to nearest even and overflows to infinity, as PyTorch; NaN stays NaN.
 */
#ifndef NEVE_HALF_H
#define NEVE_HALF_H

#include "rt.h"

typedef union { float f; uint32_t i; } neve_half_word;

NEVE_INLINE float sb_to_f(uint16_t b)
{
    neve_half_word u = {.i = (uint32_t)b << 16};
    return u.f;
}

NEVE_INLINE uint16_t sf_to_b(float f)
{
    neve_half_word u = {f};
    if (f != f)
        return 0x7fc0;
    return (uint16_t)((u.i + 0x7fffu + ((u.i >> 16) & 1)) >> 16);
}

#if defined(__F16C__) && !defined(__clang__)
/* By the instructions' builtins, which not every clang has: gcc folds conversions by way of _Float16 into calls of its run-time library. */
typedef short neve_v8hi __attribute__((vector_size(16)));
typedef float neve_v4sf __attribute__((vector_size(16)));

NEVE_INLINE float sh_to_f(uint16_t h)
{
    neve_v4sf v = __builtin_ia32_vcvtph2ps((neve_v8hi){(short)h});
    return v[0];
}

NEVE_INLINE uint16_t sf_to_h(float f)
{
    neve_v8hi v = __builtin_ia32_vcvtps2ph((neve_v4sf){f}, 0);
    return (uint16_t)v[0];
}
#elif defined(__F16C__) || defined(__aarch64__)
NEVE_INLINE float sh_to_f(uint16_t h)
{
    union { uint16_t i; _Float16 f; } u = {h};
    return (float)u.f;
}

NEVE_INLINE uint16_t sf_to_h(float f)
{
    union { _Float16 f; uint16_t i; } u = {(_Float16)f};
    return u.i;
}
#else
/* The exponent is moved by a multiplication, which also makes denormals right. */
NEVE_INLINE float sh_to_f(uint16_t h)
{
    neve_half_word u = {.i = (uint32_t)(h & 0x7fff) << 13}, sign = {.i = (uint32_t)(h & 0x8000) << 16};
    if ((h & 0x7c00) == 0x7c00)
        u.i |= 0x7f800000;
    else
        u.f *= 0x1p112f;
    u.i |= sign.i;
    return u.f;
}

/* Adding 2^k with k ten bits above the last bit kept rounds there. */
NEVE_INLINE uint16_t sf_to_h(float f)
{
    neve_half_word u = {f}, magic;
    uint32_t sign = u.i >> 16 & 0x8000;
    u.i &= 0x7fffffff;
    if (u.i > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (u.i >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);
    if (u.i < 0x38800000) {
        magic.f = u.f + 0.5f;
        return (uint16_t)(sign | (magic.i - 0x3f000000));
    }
    u.i += 0xfffu + ((u.i >> 13) & 1);
    return (uint16_t)(sign | ((u.i - 0x38000000) >> 13));
}
#endif

#endif
