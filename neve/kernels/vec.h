/* One vector interface: vf is NEVE_VL floats (velem), vi as many int32 (also the mask type: lanes all ones or zero). vd is NEVE_VD
 * doubles, for which vec_f64.h has functions.
 *
 * Both are GCC/Clang vector types: + - * / < <= == != & | ^ ~ << >> work on them directly. Intrinsics live in this file alone, as
 * compiler builtins: the intrinsic headers of gcc need a libc. AVX-512 16 lanes, AVX2 8, else 4 (NEON, WASM SIMD128, generic).
 *
 *   vload vstore              unaligned, whole
 *   vload_n vstore_n          the first cnt lanes (0 <= cnt <= NEVE_VL), the others load as 0; memory past them is not touched
 *   vset vset_i viota         broadcast, 0..VL-1          vmask_n(cnt) all ones in the first cnt lanes
 *   vload_i vstore_i          int32 lanes                 vload_u8 bytes, zero-extended to int32 lanes
 *   vfma(a,b,c)               a*b+c, one rounding where NEVE_FMA is 1
 *   vmax_fast vmin_fast       b if either is NaN          vmax vmin   NaN if either is NaN
 *   vmax_number vmin_number   NaN if a is, where b is known to be none: one instruction for vmax's four
 *   vselect(mask, a, b)       a where the mask is set
 *   vsum vhmax                over the lanes, in a fixed tree order; vhmax is NaN if a lane is
 *   vabs vsqrt vfloor vceil vtrunc vround (half to even)
 *   vcvt_i (truncates; in range only) vcvt_f; vbits vfrombits (reinterpret)
 *   vmax_i vmin_i             of int32 lanes
 *   vgather(base, index)      base[index] a lane; vgather_n(base, index, cnt) of the first cnt, the others 0 and not read
 *   vprefetch(p)  vprefetch_write(p)
 *   vh                        half a vector, where NEVE_VL is 16: vloadh vseth vfmah; vlow(v) the lower half, vwiden(h) as that, then 0
 *   vzip(r)                   r[0] and r[1] interleaved: the first VL lanes in r[0], the others in r[1]
 *   vtranspose(r)             r[0..VL-1] as the rows of a VL x VL matrix, in place
 */
#ifndef NEVE_VEC_H
#define NEVE_VEC_H

#include "rt.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
#define NEVE_AVX512 1
#define NEVE_VL 16
#elif defined(__AVX2__) && defined(__FMA__)
#define NEVE_AVX2 1
#define NEVE_VL 8
#else
#define NEVE_VL 4
#if defined(__aarch64__)
#define NEVE_NEON 1
#if !defined(__clang__)
#include <arm_neon.h>
#endif
#elif defined(__wasm_simd128__)
#define NEVE_WASM 1
#endif
#endif

#if defined(NEVE_AVX512) || defined(NEVE_AVX2) || defined(NEVE_NEON)
#define NEVE_FMA 1
#else
#define NEVE_FMA 0
#endif

/* Whether a multiply-add can take one lane of a vector as a factor. */
#if defined(NEVE_NEON)
#define NEVE_BY_LANE 1
#else
#define NEVE_BY_LANE 0
#endif

/* Whether clang may be asked for an elementwise rounding or square root without it calling libm. */
#if defined(__clang__) && (NEVE_FMA || defined(NEVE_WASM))
#define NEVE_ELEMENTWISE 1
#else
#define NEVE_ELEMENTWISE 0
#endif

typedef float vf __attribute__((vector_size(NEVE_VL * 4)));
typedef int32_t vi __attribute__((vector_size(NEVE_VL * 4)));
typedef float neve_vf_mem __attribute__((vector_size(NEVE_VL * 4), aligned(4), may_alias));
typedef int32_t neve_i_mem __attribute__((may_alias));
typedef int32_t neve_vi_mem __attribute__((vector_size(NEVE_VL * 4), aligned(4), may_alias));

typedef float velem;
typedef double vd __attribute__((vector_size(NEVE_VL * 4)));

/* NEVE_VD is a number: NEVE_VL may mean it, see vec_f64_names.h */
#if NEVE_VL == 16
#define NEVE_VD 8
#define NEVE_LANES_F64(x) x, x, x, x, x, x, x, x
#define NEVE_LANES(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
#define NEVE_IOTA 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif NEVE_VL == 8
#define NEVE_VD 4
#define NEVE_LANES_F64(x) x, x, x, x
#define NEVE_LANES(x) x, x, x, x, x, x, x, x
#define NEVE_IOTA 0, 1, 2, 3, 4, 5, 6, 7
#else
#define NEVE_VD 2
#define NEVE_LANES_F64(x) x, x
#define NEVE_LANES(x) x, x, x, x
#define NEVE_IOTA 0, 1, 2, 3
#endif

#if defined(__clang__)
#define NEVE_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define NEVE_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

NEVE_INLINE vf vload(const float *p) { return *(const neve_vf_mem *)p; }
NEVE_INLINE void vstore(float *p, vf v) { *(neve_vf_mem *)p = v; }
NEVE_INLINE vi vload_i(const int32_t *p) { return *(const neve_vi_mem *)p; }
NEVE_INLINE void vstore_i(int32_t *p, vi v) { *(neve_vi_mem *)p = v; }
NEVE_INLINE vi vload_u8(const uint8_t *p)
{
#if (defined(NEVE_AVX512) || defined(NEVE_AVX2)) && !defined(__clang__)
    /* gcc 12 makes a __builtin_convertvector to lanes four times as wide a scalar move each */
    typedef char bytes __attribute__((vector_size(16)));
#if defined(NEVE_AVX512)
    bytes b;
    __builtin_memcpy(&b, p, 16);
    return (vi)__builtin_ia32_pmovzxbd512_mask(b, (vi){0}, (uint16_t)-1);
#else
    typedef int64_t words __attribute__((vector_size(16)));
    int64_t word;
    __builtin_memcpy(&word, p, 8); /* copied into half of a vector it would go through memory twice */
    return (vi)__builtin_ia32_pmovzxbd256((bytes)(words){word, 0});
#endif
#else
    typedef uint8_t bytes __attribute__((vector_size(NEVE_VL)));
    bytes b;
    __builtin_memcpy(&b, p, NEVE_VL);
    return __builtin_convertvector(b, vi);
#endif
}
NEVE_INLINE vf vset(float x) { return (vf){NEVE_LANES(x)}; }
NEVE_INLINE vi vset_i(int32_t x) { return (vi){NEVE_LANES(x)}; }
NEVE_INLINE vi viota(void) { return (vi){NEVE_IOTA}; }
NEVE_INLINE vi vmask_n(int64_t cnt) { return viota() < vset_i((int32_t)cnt); }
NEVE_INLINE vi vbits(vf v) { return (vi)v; }
NEVE_INLINE vf vfrombits(vi v) { return (vf)v; }
NEVE_INLINE vi vcvt_i(vf v) { return __builtin_convertvector(v, vi); }
NEVE_INLINE vf vcvt_f(vi v) { return __builtin_convertvector(v, vf); }
NEVE_INLINE vf vabs(vf v) { return (vf)((vi)v & vset_i(0x7fffffff)); }
NEVE_INLINE void vprefetch(const void *p) { __builtin_prefetch(p, 0, 3); }
NEVE_INLINE void vprefetch_write(const void *p) { __builtin_prefetch(p, 1, 3); }

NEVE_INLINE vf vselect(vi mask, vf a, vf b)
{
#if defined(NEVE_AVX2) && !defined(__clang__)
    return __builtin_ia32_blendvps256(b, a, (vf)mask);
#elif defined(NEVE_NEON) && !defined(__clang__)
    return vbslq_f32((uint32x4_t)mask, a, b);
#else
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
#endif
}

NEVE_INLINE vi vmax_i(vi a, vi b)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    return (vi)__builtin_ia32_pmaxsd512_mask(a, b, a, (uint16_t)-1);
#elif defined(NEVE_AVX2) && !defined(__clang__)
    return __builtin_ia32_pmaxsd256(a, b);
#else
    vi mask = a > b;
    return (a & mask) | (b & ~mask);
#endif
}

NEVE_INLINE vi vmin_i(vi a, vi b)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    return (vi)__builtin_ia32_pminsd512_mask(a, b, a, (uint16_t)-1);
#elif defined(NEVE_AVX2) && !defined(__clang__)
    return __builtin_ia32_pminsd256(a, b);
#else
    vi mask = a < b;
    return (a & mask) | (b & ~mask);
#endif
}

NEVE_INLINE vf vload_n(const float *p, int64_t cnt)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    return __builtin_ia32_loadups512_mask(p, (vf){0}, (uint16_t)((1u << cnt) - 1));
#elif defined(NEVE_AVX512)
    return (vf)__builtin_ia32_loadups512_mask((const void *)p, (vf){0}, (uint16_t)((1u << cnt) - 1));
#elif defined(NEVE_AVX2) && defined(__clang__)
    return __builtin_ia32_maskloadps256((const vf *)p, vmask_n(cnt));
#elif defined(NEVE_AVX2)
    return __builtin_ia32_maskloadps256((const neve_vf_mem *)p, vmask_n(cnt));
#else
    vf v = vset(0);
    if (cnt > 0) v[0] = p[0];
    if (cnt > 1) v[1] = p[1];
    if (cnt > 2) v[2] = p[2];
    if (cnt > 3) v[3] = p[3];
    return v;
#endif
}

NEVE_INLINE void vstore_n(float *p, vf v, int64_t cnt)
{
#if defined(NEVE_AVX512)
    __builtin_ia32_storeups512_mask((void *)p, v, (uint16_t)((1u << cnt) - 1));
#elif defined(NEVE_AVX2) && defined(__clang__)
    __builtin_ia32_maskstoreps256((vf *)p, vmask_n(cnt), v);
#elif defined(NEVE_AVX2)
    __builtin_ia32_maskstoreps256((neve_vf_mem *)p, vmask_n(cnt), v);
#else
    /* as integers: of single floats clang would compute what gives v a second time, lane by lane, and spill what that needs */
    typedef int64_t words __attribute__((vector_size(16)));
    words w = (words)v;
    if (cnt > 3) {
        vstore(p, v);
        return;
    }
    if (cnt & 2) {
        __builtin_memcpy(p, &(int64_t){w[0]}, 8);
        p += 2;
        w[0] = w[1];
    }
    if (cnt & 1) *(neve_i_mem *)p = ((vi)w)[0];
#endif
}

NEVE_INLINE vf vfma(vf a, vf b, vf c)
{
#if defined(__clang__) && NEVE_FMA
    return __builtin_elementwise_fma(a, b, c);
#elif defined(NEVE_AVX512)
    return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4);
#elif defined(NEVE_AVX2)
    return __builtin_ia32_vfmaddps256(a, b, c);
#elif defined(NEVE_NEON)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

#if NEVE_VL == 16
typedef float vh __attribute__((vector_size(NEVE_VL * 2)));
typedef float neve_vh_mem __attribute__((vector_size(NEVE_VL * 2), aligned(4), may_alias));
NEVE_INLINE vh vloadh(const float *p) { return *(const neve_vh_mem *)p; }
NEVE_INLINE vh vseth(float x) { return (vh){x, x, x, x, x, x, x, x}; }
NEVE_INLINE vh vlow(vf v)
{
    union { vf whole; vh half[2]; } u = {v};
    return u.half[0];
}
NEVE_INLINE vf vwiden(vh h)
{
    union { vh half[2]; vf whole; } u = {{h, vseth(0)}};
    return u.whole;
}
#if defined(__clang__)
NEVE_INLINE vh vfmah(vh a, vh b, vh c) { return __builtin_elementwise_fma(a, b, c); }
#else
NEVE_INLINE vh vfmah(vh a, vh b, vh c) { return __builtin_ia32_vfmaddps256(a, b, c); }
#endif
#endif

NEVE_INLINE vf vmax_fast(vf a, vf b)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    return __builtin_ia32_maxps512_mask(a, b, a, -1, 4);
#elif defined(NEVE_AVX512)
    return __builtin_ia32_maxps512(a, b, 4);
#elif defined(NEVE_AVX2)
    return __builtin_ia32_maxps256(a, b);
#elif defined(__SSE__)
    return __builtin_ia32_maxps(a, b);
#else
    return vselect(a > b, a, b);
#endif
}

NEVE_INLINE vf vmin_fast(vf a, vf b)
{
#if defined(NEVE_AVX512) && !defined(__clang__)
    return __builtin_ia32_minps512_mask(a, b, a, -1, 4);
#elif defined(NEVE_AVX512)
    return __builtin_ia32_minps512(a, b, 4);
#elif defined(NEVE_AVX2)
    return __builtin_ia32_minps256(a, b);
#elif defined(__SSE__)
    return __builtin_ia32_minps(a, b);
#else
    return vselect(a < b, a, b);
#endif
}

NEVE_INLINE vf vmax(vf a, vf b)
{
#if defined(NEVE_NEON) && !defined(__clang__)
    return vmaxq_f32(a, b);
#elif defined(NEVE_NEON) && __has_builtin(__builtin_elementwise_maximum)
    return __builtin_elementwise_maximum(a, b);
#else
    return vselect(a != a, a, vmax_fast(a, b));
#endif
}

NEVE_INLINE vf vmin(vf a, vf b)
{
#if defined(NEVE_NEON) && !defined(__clang__)
    return vminq_f32(a, b);
#elif defined(NEVE_NEON) && __has_builtin(__builtin_elementwise_minimum)
    return __builtin_elementwise_minimum(a, b);
#else
    return vselect(a != a, a, vmin_fast(a, b));
#endif
}

/* x86 gives the second operand where one is NaN. */
NEVE_INLINE vf vmax_number(vf a, vf b)
{
#if defined(NEVE_NEON)
    return vmax(a, b);
#else
    return vmax_fast(b, a);
#endif
}

NEVE_INLINE vf vmin_number(vf a, vf b)
{
#if defined(NEVE_NEON)
    return vmin(a, b);
#else
    return vmin_fast(b, a);
#endif
}

NEVE_INLINE vf vsqrt(vf v)
{
#if NEVE_ELEMENTWISE
    return __builtin_elementwise_sqrt(v);
#elif defined(NEVE_AVX512)
    return __builtin_ia32_sqrtps512_mask(v, v, -1, 4);
#elif defined(NEVE_AVX2)
    return __builtin_ia32_sqrtps256(v);
#elif defined(NEVE_NEON)
    return vsqrtq_f32(v);
#else
    return (vf){neve_root32(v[0]), neve_root32(v[1]), neve_root32(v[2]), neve_root32(v[3])};
#endif
}

/* Round by adding and taking away 2^23; keeps the sign of zero, and leaves large values, infinities and NaN alone. */
NEVE_INLINE vf neve_round_generic(vf v)
{
    vi sign = (vi)v & vset_i((int32_t)0x80000000);
    vf magic = vset(8388608.0f), a = vabs(v), t = a + magic;
    vi bits = (vi)t;
    __asm__("" : "+m"(bits));
    return vselect(a < magic, (vf)((vi)((vf)bits - magic) | sign), v);
}

#define NEVE_ROUNDING(name, elementwise, neon, imm, generic)                                                             \
    NEVE_INLINE vf name(vf v) { return NEVE_ROUND_AS(elementwise, neon, imm, generic); }
#if NEVE_ELEMENTWISE
#define NEVE_ROUND_AS(elementwise, neon, imm, generic) elementwise(v)
#elif defined(NEVE_AVX512)
#define NEVE_ROUND_AS(elementwise, neon, imm, generic) __builtin_ia32_rndscaleps_mask(v, imm, v, -1, 4)
#elif defined(NEVE_AVX2)
#define NEVE_ROUND_AS(elementwise, neon, imm, generic) __builtin_ia32_roundps256(v, imm)
#elif defined(NEVE_NEON)
#define NEVE_ROUND_AS(elementwise, neon, imm, generic) neon(v)
#else
#define NEVE_ROUND_AS(elementwise, neon, imm, generic) generic
#endif
/* vround(v) differs from the wanted integer by at most 1; the sign of v stays on a zero. */
NEVE_INLINE vf neve_with_sign(vf magnitude, vf v)
{
    return (vf)(((vi)magnitude & vset_i(0x7fffffff)) | ((vi)v & vset_i((int32_t)0x80000000)));
}
NEVE_INLINE vf neve_minus1_where(vi mask, vf r) { return vselect(mask, r - vset(1.0f), r); }
NEVE_INLINE vf neve_plus1_where(vi mask, vf r) { return vselect(mask, r + vset(1.0f), r); }
NEVE_INLINE vf neve_floor_generic(vf v) { vf r = neve_round_generic(v); return neve_minus1_where(r > v, r); }
NEVE_INLINE vf neve_ceil_generic(vf v) { vf r = neve_round_generic(v); return vselect(r < v, neve_with_sign(r + vset(1.0f), v), r); }
NEVE_INLINE vf neve_trunc_generic(vf v) { return neve_with_sign(neve_floor_generic(vabs(v)), v); }
NEVE_ROUNDING(vround, __builtin_elementwise_roundeven, vrndnq_f32, 8, neve_round_generic(v))
NEVE_ROUNDING(vfloor, __builtin_elementwise_floor, vrndmq_f32, 9, neve_floor_generic(v))
NEVE_ROUNDING(vceil, __builtin_elementwise_ceil, vrndpq_f32, 10, neve_ceil_generic(v))
NEVE_ROUNDING(vtrunc, __builtin_elementwise_trunc, vrndq_f32, 11, neve_trunc_generic(v))
#undef NEVE_ROUNDING
#undef NEVE_ROUND_AS

NEVE_INLINE vf vgather(const float *base, vi index)
{
#if defined(NEVE_AVX512)
    return __builtin_ia32_gathersiv16sf((vf){0}, base, index, (uint16_t)-1, 4);
#elif defined(NEVE_AVX2) && defined(__clang__)
    return __builtin_ia32_gatherd_ps256((vf){0}, base, index, (vf)vset_i(-1), 4);
#elif defined(NEVE_AVX2)
    return __builtin_ia32_gathersiv8sf((vf){0}, (const void *)base, index, (vf)vset_i(-1), 4);
#else
    return (vf){base[index[0]], base[index[1]], base[index[2]], base[index[3]]};
#endif
}

NEVE_INLINE vf vgather_n(const float *base, vi index, int64_t cnt)
{
#if defined(NEVE_AVX512)
    return __builtin_ia32_gathersiv16sf((vf){0}, base, index, (uint16_t)((1u << cnt) - 1), 4);
#elif defined(NEVE_AVX2) && defined(__clang__)
    return __builtin_ia32_gatherd_ps256((vf){0}, base, index, (vf)vmask_n(cnt), 4);
#elif defined(NEVE_AVX2)
    return __builtin_ia32_gathersiv8sf((vf){0}, (const void *)base, index, (vf)vmask_n(cnt), 4);
#else
    vf v = vset(0);
    if (cnt > 0) v[0] = base[index[0]];
    if (cnt > 1) v[1] = base[index[1]];
    if (cnt > 2) v[2] = base[index[2]];
    if (cnt > 3) v[3] = base[index[3]];
    return v;
#endif
}

#if NEVE_VL == 16
#define NEVE_FOLD8(v) NEVE_SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define NEVE_FOLD4(v) NEVE_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define NEVE_FOLD2(v) NEVE_SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define NEVE_FOLD1(v) NEVE_SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#elif NEVE_VL == 8
#define NEVE_FOLD4(v) NEVE_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#define NEVE_FOLD2(v) NEVE_SHUFFLE(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
#define NEVE_FOLD1(v) NEVE_SHUFFLE(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
#else
#define NEVE_FOLD2(v) NEVE_SHUFFLE(v, v, 2, 3, 0, 1)
#define NEVE_FOLD1(v) NEVE_SHUFFLE(v, v, 1, 0, 3, 2)
#endif

NEVE_INLINE float vsum(vf v)
{
#if NEVE_VL == 16
    v = v + NEVE_FOLD8(v);
#endif
#if NEVE_VL >= 8
    v = v + NEVE_FOLD4(v);
#endif
    v = v + NEVE_FOLD2(v);
    v = v + NEVE_FOLD1(v);
    return v[0];
}

NEVE_INLINE float vhmax(vf v)
{
#if NEVE_VL == 16
    v = vmax(v, NEVE_FOLD8(v));
#endif
#if NEVE_VL >= 8
    v = vmax(v, NEVE_FOLD4(v));
#endif
    v = vmax(v, NEVE_FOLD2(v));
    v = vmax(v, NEVE_FOLD1(v));
    return v[0];
}

/* Exchange the off-diagonal blocks of step x step lanes between rows i and i + step. */
#if NEVE_VL == 16
#define NEVE_LOW1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define NEVE_HIGH1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define NEVE_LOW2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define NEVE_HIGH2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define NEVE_LOW4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define NEVE_HIGH4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define NEVE_LOW8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define NEVE_HIGH8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#elif NEVE_VL == 8
#define NEVE_LOW1 0, 8, 2, 10, 4, 12, 6, 14
#define NEVE_HIGH1 1, 9, 3, 11, 5, 13, 7, 15
#define NEVE_LOW2 0, 1, 8, 9, 4, 5, 12, 13
#define NEVE_HIGH2 2, 3, 10, 11, 6, 7, 14, 15
#define NEVE_LOW4 0, 1, 2, 3, 8, 9, 10, 11
#define NEVE_HIGH4 4, 5, 6, 7, 12, 13, 14, 15
#else
#define NEVE_LOW1 0, 4, 2, 6
#define NEVE_HIGH1 1, 5, 3, 7
#define NEVE_LOW2 0, 1, 4, 5
#define NEVE_HIGH2 2, 3, 6, 7
#endif
#define NEVE_TRANSPOSE_STEP(r, step)                                                                                     \
    NEVE_UNROLL                                                                                                          \
    for (int i = 0; i < NEVE_VL; i++)                                                                                    \
        if (!(i & step)) {                                                                                               \
            vf low = NEVE_SHUFFLE(r[i], r[i + step], NEVE_LOW##step), high = NEVE_SHUFFLE(r[i], r[i + step], NEVE_HIGH##step); \
            r[i] = low;                                                                                                  \
            r[i + step] = high;                                                                                          \
        }
NEVE_INLINE void vzip(vf *r)
{
#if NEVE_VL == 16
    vf low = NEVE_SHUFFLE(r[0], r[1], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    r[1] = NEVE_SHUFFLE(r[0], r[1], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif NEVE_VL == 8
    vf low = NEVE_SHUFFLE(r[0], r[1], 0, 8, 1, 9, 2, 10, 3, 11);
    r[1] = NEVE_SHUFFLE(r[0], r[1], 4, 12, 5, 13, 6, 14, 7, 15);
#else
    vf low = NEVE_SHUFFLE(r[0], r[1], 0, 4, 1, 5);
    r[1] = NEVE_SHUFFLE(r[0], r[1], 2, 6, 3, 7);
#endif
    r[0] = low;
}

NEVE_INLINE void vtranspose(vf *r)
{
    NEVE_TRANSPOSE_STEP(r, 1)
    NEVE_TRANSPOSE_STEP(r, 2)
#if NEVE_VL >= 8
    NEVE_TRANSPOSE_STEP(r, 4)
#endif
#if NEVE_VL == 16
    NEVE_TRANSPOSE_STEP(r, 8)
#endif
}

#endif
