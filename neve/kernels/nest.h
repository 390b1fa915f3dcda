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

#if NEVE_VL == 16
#define NEVE_EVERY_SECOND 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31
#elif NEVE_VL == 8
#define NEVE_EVERY_SECOND 0, 2, 4, 6, 9, 11, 13, 15
#else
#define NEVE_EVERY_SECOND 0, 2, 5, 7
#endif
NEVE_INLINE vf vload_strided(const float *p, int64_t stride)
{
    vf v;
    if (__builtin_constant_p(stride) && stride == 2) {
        vf low = vload(p), high = vload(p + NEVE_VL - 1); /* p[2 * NEVE_VL - 1] may not be there */
        return NEVE_SHUFFLE(low, high, NEVE_EVERY_SECOND);
    }
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

/* vgather by scalar loads: a third slower from L1 and L2, twice as fast from beyond (Zen 4), where the instruction waits for
 * each miss. The empty asm keeps gcc from taking the indices out of the register one by one. */
NEVE_INLINE vf vread(const float *base, vi index)
{
    int32_t at[NEVE_VL] NEVE_ALIGNED(NEVE_VL * 4);
    vf v;
    __builtin_memcpy(at, &index, sizeof at);
    __asm__("" : "+m"(at));
    NEVE_UNROLL
    for (int i = 0; i < NEVE_VL; i++)
        v[i] = base[at[i]];
    return v;
}

/* Of the first cnt lanes; the others are 0, and not read. */
NEVE_INLINE vf vread_n(const float *base, vi index, int64_t cnt)
{
    int32_t at[NEVE_VL] NEVE_ALIGNED(NEVE_VL * 4);
    float values[NEVE_VL] NEVE_ALIGNED(NEVE_VL * 4) = {0};
    __builtin_memcpy(at, &index, sizeof at);
    for (int64_t i = 0; i < cnt; i++)
        values[i] = base[at[i]];
    return vload(values);
}

/* Integers in lanes of 32 bits, clamped to -2^30..2^30: see emit/integers.py. */
#define NEVE_INTS_LIMIT (1 << 30)
NEVE_INLINE int32_t neve_ints_clamp(int64_t x) { return (int32_t)neve_max(neve_min(x, NEVE_INTS_LIMIT), -NEVE_INTS_LIMIT); }
NEVE_INLINE vi vints_set(int64_t x) { return vset_i(neve_ints_clamp(x)); }
NEVE_INLINE vi neve_ints_limited(vi v) { return vmax_i(vmin_i(v, vset_i(NEVE_INTS_LIMIT)), vset_i(-NEVE_INTS_LIMIT)); }

#define NEVE_INTS_LOAD(name, T)                                                                                          \
    NEVE_INLINE vi name##_n(const T *p, int64_t stride, int64_t cnt)                                                     \
    {                                                                                                                    \
        int32_t v[NEVE_VL] NEVE_ALIGNED(NEVE_VL * 4) = {0};                                                              \
        for (int64_t i = 0; i < cnt; i++)                                                                                \
            v[i] = neve_ints_clamp(p[i * stride]);                                                                       \
        return vload_i(v);                                                                                               \
    }                                                                                                                    \
    NEVE_INLINE vi neve_##name(const T *p, int64_t stride)                                                               \
    {                                                                                                                    \
        vi v;                                                                                                            \
        NEVE_UNROLL                                                                                                      \
        for (int i = 0; i < NEVE_VL; i++)                                                                                \
            v[i] = neve_ints_clamp(p[i * stride]);                                                                       \
        return v;                                                                                                        \
    }
NEVE_INTS_LOAD(vints_int64, int64_t)
NEVE_INTS_LOAD(vints_int32, int32_t)
NEVE_INTS_LOAD(vints_int16, int16_t)
NEVE_INTS_LOAD(vints_int8, int8_t)
NEVE_INTS_LOAD(vints_uint8, uint8_t)
#undef NEVE_INTS_LOAD

NEVE_INLINE vi vints_int64(const int64_t *p, int64_t stride)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    typedef long long wide __attribute__((vector_size(64), aligned(8), may_alias));
    typedef int half __attribute__((vector_size(32)));
    if (stride == 1) {
        union { half h[2]; vi v; } u;
        u.h[0] = (half)__builtin_ia32_pmovsqd512_mask(((const wide *)p)[0], (half){0}, (uint8_t)-1);
        u.h[1] = (half)__builtin_ia32_pmovsqd512_mask(((const wide *)p)[1], (half){0}, (uint8_t)-1);
        return neve_ints_limited(u.v);
    }
#endif
    return neve_vints_int64(p, stride);
}
NEVE_INLINE vi vints_int32(const int32_t *p, int64_t stride) { return stride == 1 ? neve_ints_limited(vload_i(p)) : neve_vints_int32(p, stride); }
NEVE_INLINE vi vints_int16(const int16_t *p, int64_t stride) { return neve_vints_int16(p, stride); }
NEVE_INLINE vi vints_int8(const int8_t *p, int64_t stride) { return neve_vints_int8(p, stride); }
NEVE_INLINE vi vints_uint8(const uint8_t *p, int64_t stride) { return stride == 1 ? vload_u8(p) : neve_vints_uint8(p, stride); }

/* What neve_to_int64 or neve_to_int32 gives, limited; end is where these have no number any more. */
NEVE_INLINE vi neve_ints_of(vf x, float end)
{
    vf limit = vset((float)NEVE_INTS_LIMIT);
    return vcvt_i(vselect(x < vset(end), vmax_fast(vmin_fast(x, limit), -limit), -limit));
}
NEVE_INLINE vi vints_as_int64(vf x) { return neve_ints_of(x, 9223372036854775808.0f); }
NEVE_INLINE vi vints_as_int32(vf x) { return neve_ints_of(x, 2147483648.0f); }

/* Stores of truncated vectors: each lane is what neve_to_int32 gives, or neve_to_int64, cut to the element's bits. From 2^31 on
 * float32 has multiples of 256 alone: a byte of either is the same. */
NEVE_INLINE vi neve_truncated(vf x)
{
#if defined(NEVE_AVX512)
    return (vi)__builtin_ia32_cvttps2dq512_mask(x, (vi){0}, (uint16_t)-1, 4);
#elif defined(NEVE_AVX2)
    return (vi)__builtin_ia32_cvttps2dq256(x);
#elif defined(__SSE2__)
    return (vi)__builtin_ia32_cvttps2dq(x);
#else
    return (vi){neve_to_int32(x[0]), neve_to_int32(x[1]), neve_to_int32(x[2]), neve_to_int32(x[3])};
#endif
}

#define NEVE_TRUNCATING_STORE(T)                                                                                         \
    NEVE_INLINE void vstore_as_##T##_n(T##_t *p, vf x, int64_t cnt)                                                      \
    {                                                                                                                    \
        vi v = neve_truncated(x);                                                                                        \
        int32_t a[NEVE_VL] NEVE_ALIGNED(NEVE_VL * 4);                                                                    \
        vstore_i(a, v);                                                                                                  \
        for (int64_t i = 0; i < cnt; i++)                                                                                \
            p[i] = (T##_t)a[i];                                                                                          \
    }
NEVE_TRUNCATING_STORE(int32)
NEVE_TRUNCATING_STORE(uint8)
#undef NEVE_TRUNCATING_STORE
NEVE_INLINE void vstore_as_int32(int32_t *p, vf x) { vstore_i(p, neve_truncated(x)); }
NEVE_INLINE void vstore_as_uint8(uint8_t *p, vf x)
{
#if defined(NEVE_AVX512)
    typedef char bytes __attribute__((vector_size(16)));
    bytes b = (bytes)__builtin_ia32_pmovdb512_mask(neve_truncated(x), (bytes){0}, (uint16_t)-1);
    __builtin_memcpy(p, &b, sizeof b);
#else
    vstore_as_uint8_n(p, x, NEVE_VL);
#endif
}
NEVE_INLINE void vstore_as_int64_n(int64_t *p, vf x, int64_t cnt)
{
    float a[NEVE_VL] NEVE_ALIGNED(NEVE_VL * 4);
    vstore(a, x);
    for (int64_t i = 0; i < cnt; i++)
        p[i] = neve_to_int64(a[i]);
}
NEVE_INLINE void vstore_as_int64(int64_t *p, vf x)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    typedef long long wide __attribute__((vector_size(64)));
    union { vf whole; vh half[2]; } u = {x};
    for (int i = 0; i < 2; i++) {
        wide w = __builtin_ia32_cvttps2qq512_mask(u.half[i], (wide){0}, (uint8_t)-1, 4);
        __builtin_memcpy(p + 8 * i, &w, sizeof w);
    }
#else
    vstore_as_int64_n(p, x, NEVE_VL);
#endif
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
