/* Vectors of doubles, the vd of vec.h.
 *
 * The functions are named as those of vec.h, with _f64 behind. Between vec_f64_names.h and vec_f64_end.h the names of vec.h mean these, so
 * that a header that is written for floats can be included for doubles as well. It has to write velem for their type.
 */
#ifndef NEVE_VEC_F64_H
#define NEVE_VEC_F64_H

#include "vec.h"

typedef double neve_vd_mem __attribute__((vector_size(NEVE_VL * 4), aligned(8), may_alias));

NEVE_INLINE vd vload_f64(const double *p) { return *(const neve_vd_mem *)p; }
NEVE_INLINE void vstore_f64(double *p, vd v) { *(neve_vd_mem *)p = v; }
NEVE_INLINE vd vset_f64(double x) { return (vd){NEVE_LANES_F64(x)}; }
NEVE_INLINE vd vload_n_f64(const double *p, int64_t cnt)
{
    vd v = {0};
    for (int64_t i = 0; i < cnt; i++)
        v[i] = p[i];
    return v;
}
NEVE_INLINE void vstore_n_f64(double *p, vd v, int64_t cnt)
{
    for (int64_t i = 0; i < cnt; i++)
        p[i] = v[i];
}

NEVE_INLINE vd vfma_f64(vd a, vd b, vd c)
{
#if NEVE_FMA && defined(__clang__)
    return __builtin_elementwise_fma(a, b, c);
#elif defined(NEVE_AVX512)
    return __builtin_ia32_vfmaddpd512_mask(a, b, c, -1, 4);
#elif defined(NEVE_AVX2)
    return __builtin_ia32_vfmaddpd256(a, b, c);
#elif defined(NEVE_NEON)
    return vfmaq_f64(c, a, b);
#else
    return a * b + c;
#endif
}

NEVE_INLINE void vtranspose_f64(vd *r)
{
    double to[NEVE_VD * NEVE_VD] NEVE_ALIGNED(64);
    for (int i = 0; i < NEVE_VD; i++)
        for (int j = 0; j < NEVE_VD; j++)
            to[j * NEVE_VD + i] = r[i][j];
    for (int i = 0; i < NEVE_VD; i++)
        r[i] = vload_f64(to + i * NEVE_VD);
}

#endif
