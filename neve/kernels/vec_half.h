/* Vectors of float16 and bfloat16 in memory, of float32 in registers. NAME is f16 or bf16.
 *
 *   vload_NAME vstore_NAME          NEVE_VL adjacent elements; vload_NAME_n vstore_NAME_n the first cnt of them, the others load as 0
 *   vload_strided_NAME(p, stride)   and vstore_strided_NAME, _n as well: `stride` elements apart
 *   vround_NAME(v)                  what v is once it has been stored
 *   vwiden_NAME(to, from, n)        n elements as floats in `to`, which is the result
 *   vload_pair_bf16(p, r)           r[0] and r[1]: the even and the odd ones of 2 NEVE_VL adjacent elements, at two instructions for
 *                                   vload's four; vzip(r) puts what has been computed from them in order
 *
 * Widening is exact; narrowing rounds to nearest even and overflows to infinity; NaN stays NaN, with the same bits as in half.h.
 */
#ifndef NEVE_VEC_HALF_H
#define NEVE_VEC_HALF_H

#include "half.h"
#include "vec.h"

typedef uint16_t neve_vu16 __attribute__((vector_size(NEVE_VL * 2)));
typedef uint32_t neve_vu32 __attribute__((vector_size(NEVE_VL * 4)));
typedef neve_vu16 neve_vu16_mem __attribute__((aligned(2), may_alias));

NEVE_INLINE vf neve_widen_bf16(neve_vu16 b) { return (vf)(__builtin_convertvector(b, neve_vu32) << 16); }

/* Odd ones get one more than 0x7fff: halves round to even. A carry out of a NaN's bits would make it a number. */
NEVE_INLINE vf vround_bf16(vf v)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    uint16_t odd = __builtin_ia32_ptestmd512((vi)v, vset_i(0x10000), (uint16_t)-1);
    uint16_t number = __builtin_ia32_cmpps512_mask(v, v, 7, (uint16_t)-1, 4);
    vi up = (vi)((neve_vu32)v + 0x7fffu);
    up = __builtin_ia32_paddd512_mask(up, vset_i(1), up, odd);
    return (vf)__builtin_ia32_pandd512_mask(up, vset_i(-0x10000), vset_i(0x7fc00000), number);
#else
    neve_vu32 i = (neve_vu32)v, nan = (neve_vu32)(v != v);
    return (vf)(((i + 0x7fffu + ((i >> 16) & 1)) & 0xffff0000u & ~nan) | (nan & 0x7fc00000u));
#endif
}
NEVE_INLINE neve_vu16 neve_narrow_bf16(vf v)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    typedef uint16_t words __attribute__((vector_size(NEVE_VL * 4)));
    const words upper = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
    union { words whole; neve_vu16 half; } u = {__builtin_shuffle((words)vround_bf16(v), upper)};
    return u.half;
#else
    return __builtin_convertvector((neve_vu32)vround_bf16(v) >> 16, neve_vu16);
#endif
}

#if defined(__F16C__) && defined(__clang__)
typedef _Float16 neve_vf16 __attribute__((vector_size(NEVE_VL * 2)));
NEVE_INLINE vf neve_widen_f16(neve_vu16 h) { return __builtin_convertvector((neve_vf16)h, vf); }
NEVE_INLINE neve_vu16 neve_narrow_f16(vf v) { return (neve_vu16)__builtin_convertvector(v, neve_vf16); }
#elif defined(__F16C__) && defined(NEVE_AVX512)
typedef short neve_vi16 __attribute__((vector_size(NEVE_VL * 2)));
NEVE_INLINE vf neve_widen_f16(neve_vu16 h) { return __builtin_ia32_vcvtph2ps512_mask((neve_vi16)h, (vf){0}, (uint16_t)-1, 4); }
NEVE_INLINE neve_vu16 neve_narrow_f16(vf v) { return (neve_vu16)__builtin_ia32_vcvtps2ph512_mask(v, 0, (neve_vi16){0}, (uint16_t)-1); }
#elif defined(__F16C__) && defined(NEVE_AVX2)
typedef short neve_vi16 __attribute__((vector_size(NEVE_VL * 2)));
NEVE_INLINE vf neve_widen_f16(neve_vu16 h) { return __builtin_ia32_vcvtph2ps256((neve_vi16)h); }
NEVE_INLINE neve_vu16 neve_narrow_f16(vf v) { return (neve_vu16)__builtin_ia32_vcvtps2ph256(v, 0); }
#else
NEVE_INLINE vf neve_widen_f16(neve_vu16 h)
{
    vf v;
    NEVE_UNROLL
    for (int i = 0; i < NEVE_VL; i++)
        v[i] = sh_to_f(h[i]);
    return v;
}
NEVE_INLINE neve_vu16 neve_narrow_f16(vf v)
{
    neve_vu16 h;
    NEVE_UNROLL
    for (int i = 0; i < NEVE_VL; i++)
        h[i] = sf_to_h(v[i]);
    return h;
}
#endif

NEVE_INLINE vf vround_f16(vf v) { return neve_widen_f16(neve_narrow_f16(v)); }

#define NEVE_HALF_MEMORY(NAME) \
    NEVE_INLINE vf vload_##NAME(const uint16_t *p) { return neve_widen_##NAME(*(const neve_vu16_mem *)p); } \
    NEVE_INLINE void vstore_##NAME(uint16_t *p, vf v) { *(neve_vu16_mem *)p = neve_narrow_##NAME(v); } \
    NEVE_INLINE vf vload_strided_##NAME##_n(const uint16_t *p, int64_t stride, int64_t cnt) \
    { \
        neve_vu16 h = {0}; \
        for (int64_t i = 0; i < cnt; i++) \
            h[i] = p[i * stride]; \
        return neve_widen_##NAME(h); \
    } \
    NEVE_INLINE vf vload_strided_##NAME(const uint16_t *p, int64_t stride) { return vload_strided_##NAME##_n(p, stride, NEVE_VL); } \
    NEVE_INLINE vf vload_##NAME##_n(const uint16_t *p, int64_t cnt) { return vload_strided_##NAME##_n(p, 1, cnt); } \
    NEVE_INLINE void vstore_strided_##NAME##_n(uint16_t *p, int64_t stride, vf v, int64_t cnt) \
    { \
        neve_vu16 h = neve_narrow_##NAME(v); \
        for (int64_t i = 0; i < cnt; i++) \
            p[i * stride] = h[i]; \
    } \
    NEVE_INLINE void vstore_strided_##NAME(uint16_t *p, int64_t stride, vf v) { vstore_strided_##NAME##_n(p, stride, v, NEVE_VL); } \
    NEVE_INLINE void vstore_##NAME##_n(uint16_t *p, vf v, int64_t cnt) { vstore_strided_##NAME##_n(p, 1, v, cnt); } \
    NEVE_INLINE const float *vwiden_##NAME(float *to, const uint16_t *from, int64_t n) \
    { \
        int64_t i = 0; \
        for (; i + NEVE_VL <= n; i += NEVE_VL) \
            vstore(to + i, vload_##NAME(from + i)); \
        if (i < n) \
            vstore_n(to + i, vload_##NAME##_n(from + i, n - i), n - i); \
        return to; \
    }

NEVE_INLINE void vload_pair_bf16(const uint16_t *p, vf *r)
{
    typedef neve_vu32 memory __attribute__((aligned(2), may_alias));
    neve_vu32 both = *(const memory *)p;
    r[0] = (vf)(both << 16), r[1] = (vf)(both & 0xffff0000u);
}

NEVE_HALF_MEMORY(f16)
NEVE_HALF_MEMORY(bf16)
#undef NEVE_HALF_MEMORY

#endif
