/* float64 functions of one element, sd_NAME(double), within the ulp stated at each; NaN, infinities, zeros and denormals as libm.
 *
From FreeBSD's msun by way of musl, without the comments that derive the coefficients:
 *
 * Copyright (C) 1993, 2004 by Sun Microsystems, Inc. All rights reserved.
 * Developed at SunPro and SunSoft, Sun Microsystems, Inc. businesses.
 * Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is preserved.
  */
#ifndef NEVE_MATH_F64_H
#define NEVE_MATH_F64_H

#include "rt.h"

#ifndef NEVE_HOT
#define NEVE_HOT static inline __attribute__((always_inline, unused))
#define NEVE_FN static inline __attribute__((unused))
#endif

NEVE_HOT uint64_t nd_bits(double x)
{
    union { double f; uint64_t i; } u = {x};
    return u.i;
}
NEVE_HOT double nd_from(uint64_t i)
{
    union { uint64_t i; double f; } u = {i};
    return u.f;
}
NEVE_HOT uint32_t nd_high(double x) { return (uint32_t)(nd_bits(x) >> 32); }
NEVE_HOT uint32_t nd_low(double x) { return (uint32_t)nd_bits(x); }
NEVE_HOT double nd_set_high(double x, uint32_t high) { return nd_from((uint64_t)high << 32 | nd_low(x)); }
NEVE_HOT double nd_clear_low(double x) { return nd_from(nd_bits(x) & 0xffffffff00000000u); }

/* x 2^n, rounded once. */
NEVE_FN double nd_scale(double x, int n)
{
    if (n > 1023) {
        x *= 0x1p1023;
        n -= 1023;
        if (n > 1023) {
            x *= 0x1p1023;
            n = n - 1023 > 1023 ? 1023 : n - 1023;
        }
    } else if (n < -1022) {
        x *= 0x1p-1022 * 0x1p53;
        n += 1022 - 53;
        if (n < -1022) {
            x *= 0x1p-1022 * 0x1p53;
            n = n + 1022 - 53 < -1022 ? -1022 : n + 1022 - 53;
        }
    }
    return x * nd_from((uint64_t)(0x3ff + n) << 52);
}

/* The integer nearest to x, half to even, by way of 2^52; the asm hides the trick from the optimiser. */
NEVE_HOT double sd_round(double x)
{
    double a = __builtin_fabs(x), t = a + 0x1p52;
    __asm__("" : "+m"(t));
    return a < 0x1p52 ? __builtin_copysign(t - 0x1p52, x) : x;
}
NEVE_HOT double sd_floor(double x)
{
    double r = sd_round(x);
    return r > x ? r - 1.0 : r;
}
NEVE_HOT double sd_ceil(double x)
{
    double r = sd_round(x);
    return r < x ? __builtin_copysign(r + 1.0, x) : r;
}
NEVE_HOT double sd_trunc(double x)
{
    return __builtin_copysign(sd_floor(__builtin_fabs(x)), x);
}

/* 1 ulp. */
NEVE_FN double sd_exp(double x)
{
    static const double
    half[2] = {0.5,-0.5},
    ln2hi = 6.93147180369123816490e-01,
    ln2lo = 1.90821492927058770002e-10,
    invln2 = 1.44269504088896338700e+00,
    P1   =  1.66666666666666019037e-01,
    P2   = -2.77777777770155933842e-03,
    P3   =  6.61375632143793436117e-05,
    P4   = -1.65339022054652515390e-06,
    P5   =  4.13813679705723846039e-08;
    double hi, lo, c, xx, y;
    int k, sign;
    uint32_t hx;
    hx = nd_high(x);
    sign = hx>>31;
    hx &= 0x7fffffff;
    if (hx >= 0x4086232b) {
        if (x != x)
            return x;
        if (x > 709.782712893383973096) {
            x *= 0x1p1023;
            return x;
        }
        if (x < -708.39641853226410622) {
            if (x < -745.13321910194110842)
                return 0;
        }
    }
    if (hx > 0x3fd62e42) {
        if (hx >= 0x3ff0a2b2)
            k = (int)(invln2*x + half[sign]);
        else
            k = 1 - sign - sign;
        hi = x - k*ln2hi;
        lo = k*ln2lo;
        x = hi - lo;
    } else if (hx > 0x3e300000)  {
        k = 0;
        hi = x;
        lo = 0;
    } else {
        return 1 + x;
    }
    xx = x*x;
    c = x - xx*(P1+xx*(P2+xx*(P3+xx*(P4+xx*P5))));
    y = 1 + (x*c/(2-c) - lo + hi);
    if (k == 0)
        return y;
    return nd_scale(y, k);
}

/* 2 ulp; exact for integers. */
NEVE_FN double sd_exp2(double x)
{
    if (!(x < 1025.0))
        return x > 0 ? x * 0x1p1023 : x;
    if (x < -1076.0)
        return 0;
    double n = sd_round(x), r = x - n;
    double high = nd_clear_low(r), low = r - high;
    double y = high * 0x1.62e42p-1, rest = low * 0x1.62e42p-1 + r * 0x1.fdf473de6af28p-22;
    double e = sd_exp(y);
    return nd_scale(e + e * (rest + 0.5 * rest * rest), (int)n);
}

/* 1 ulp. */
NEVE_FN double sd_expm1(double x)
{
    static const double
    o_threshold = 7.09782712893383973096e+02,
    ln2_hi      = 6.93147180369123816490e-01,
    ln2_lo      = 1.90821492927058770002e-10,
    invln2      = 1.44269504088896338700e+00,
    Q1 = -3.33333333333331316428e-02,
    Q2 =  1.58730158725481460165e-03,
    Q3 = -7.93650757867487942473e-05,
    Q4 =  4.00821782732936239552e-06,
    Q5 = -2.01099218183624371326e-07;
    double y,hi,lo,c,t,e,hxs,hfx,r1,twopk;
    union {double f; uint64_t i;} u = {x};
    uint32_t hx = u.i>>32 & 0x7fffffff;
    int k, sign = u.i>>63;
    if (hx >= 0x4043687A) {
        if (x != x)
            return x;
        if (sign)
            return -1;
        if (x > o_threshold) {
            x *= 0x1p1023;
            return x;
        }
    }
    if (hx > 0x3fd62e42) {
        if (hx < 0x3FF0A2B2) {
            if (!sign) {
                hi = x - ln2_hi;
                lo = ln2_lo;
                k =  1;
            } else {
                hi = x + ln2_hi;
                lo = -ln2_lo;
                k = -1;
            }
        } else {
            k  = invln2*x + (sign ? -0.5 : 0.5);
            t  = k;
            hi = x - t*ln2_hi;
            lo = t*ln2_lo;
        }
        x = hi-lo;
        c = (hi-x)-lo;
    } else if (hx < 0x3c900000) {
        return x;
    } else
        k = 0;
    hfx = 0.5*x;
    hxs = x*hfx;
    r1 = 1.0+hxs*(Q1+hxs*(Q2+hxs*(Q3+hxs*(Q4+hxs*Q5))));
    t  = 3.0-r1*hfx;
    e  = hxs*((r1-t)/(6.0 - x*t));
    if (k == 0)
        return x - (x*e-hxs);
    e  = x*(e-c) - c;
    e -= hxs;
    if (k == -1)
        return 0.5*(x-e) - 0.5;
    if (k == 1) {
        if (x < -0.25)
            return -2.0*(e-(x+0.5));
        return 1.0+2.0*(x-e);
    }
    u.i = (uint64_t)(0x3ff + k)<<52;
    twopk = u.f;
    if (k < 0 || k > 56) {
        y = x - e + 1.0;
        if (k == 1024)
            y = y*2.0*0x1p1023;
        else
            y = y*twopk;
        return y - 1.0;
    }
    u.i = (uint64_t)(0x3ff - k)<<52;
    if (k < 20)
        y = (x-e+(1-u.f))*twopk;
    else
        y = (x-(e+u.f)+1)*twopk;
    return y;
}

/* 1 ulp. */
NEVE_FN double sd_log(double x)
{
    static const double
    ln2_hi = 6.93147180369123816490e-01,
    ln2_lo = 1.90821492927058770002e-10,
    Lg1 = 6.666666666666735130e-01,
    Lg2 = 3.999999999940941908e-01,
    Lg3 = 2.857142874366239149e-01,
    Lg4 = 2.222219843214978396e-01,
    Lg5 = 1.818357216161805012e-01,
    Lg6 = 1.531383769920937332e-01,
    Lg7 = 1.479819860511658591e-01;
    union {double f; uint64_t i;} u = {x};
    double hfsq,f,s,z,R,w,t1,t2,dk;
    uint32_t hx;
    int k;
    hx = u.i>>32;
    k = 0;
    if (hx < 0x00100000 || hx>>31) {
        if (u.i<<1 == 0)
            return -1/(x*x);
        if (hx>>31)
            return (x-x)/0.0;
        k -= 54;
        x *= 0x1p54;
        u.f = x;
        hx = u.i>>32;
    } else if (hx >= 0x7ff00000) {
        return x;
    } else if (hx == 0x3ff00000 && u.i<<32 == 0)
        return 0;
    hx += 0x3ff00000 - 0x3fe6a09e;
    k += (int)(hx>>20) - 0x3ff;
    hx = (hx&0x000fffff) + 0x3fe6a09e;
    u.i = (uint64_t)hx<<32 | (u.i&0xffffffff);
    x = u.f;
    f = x - 1.0;
    hfsq = 0.5*f*f;
    s = f/(2.0+f);
    z = s*s;
    w = z*z;
    t1 = w*(Lg2+w*(Lg4+w*Lg6));
    t2 = z*(Lg1+w*(Lg3+w*(Lg5+w*Lg7)));
    R = t2 + t1;
    dk = k;
    return s*(hfsq+R) + dk*ln2_lo - hfsq + f + dk*ln2_hi;
}

/* 1 ulp. */
NEVE_FN double sd_log2(double x)
{
    static const double
    ivln2hi = 1.44269504072144627571e+00,
    ivln2lo = 1.67517131648865118353e-10,
    Lg1 = 6.666666666666735130e-01,
    Lg2 = 3.999999999940941908e-01,
    Lg3 = 2.857142874366239149e-01,
    Lg4 = 2.222219843214978396e-01,
    Lg5 = 1.818357216161805012e-01,
    Lg6 = 1.531383769920937332e-01,
    Lg7 = 1.479819860511658591e-01;
    union {double f; uint64_t i;} u = {x};
    double hfsq,f,s,z,R,w,t1,t2,y,hi,lo,val_hi,val_lo;
    uint32_t hx;
    int k;
    hx = u.i>>32;
    k = 0;
    if (hx < 0x00100000 || hx>>31) {
        if (u.i<<1 == 0)
            return -1/(x*x);
        if (hx>>31)
            return (x-x)/0.0;
        k -= 54;
        x *= 0x1p54;
        u.f = x;
        hx = u.i>>32;
    } else if (hx >= 0x7ff00000) {
        return x;
    } else if (hx == 0x3ff00000 && u.i<<32 == 0)
        return 0;
    hx += 0x3ff00000 - 0x3fe6a09e;
    k += (int)(hx>>20) - 0x3ff;
    hx = (hx&0x000fffff) + 0x3fe6a09e;
    u.i = (uint64_t)hx<<32 | (u.i&0xffffffff);
    x = u.f;
    f = x - 1.0;
    hfsq = 0.5*f*f;
    s = f/(2.0+f);
    z = s*s;
    w = z*z;
    t1 = w*(Lg2+w*(Lg4+w*Lg6));
    t2 = z*(Lg1+w*(Lg3+w*(Lg5+w*Lg7)));
    R = t2 + t1;
    hi = f - hfsq;
    u.f = hi;
    u.i &= (uint64_t)-1<<32;
    hi = u.f;
    lo = f - hi - hfsq + s*(hfsq+R);
    val_hi = hi*ivln2hi;
    val_lo = (lo+hi)*ivln2lo + lo*ivln2hi;
    y = k;
    w = y + val_hi;
    val_lo += (y - w) + val_hi;
    val_hi = w;
    return val_lo + val_hi;
}

/* 1 ulp. */
NEVE_FN double sd_log10(double x)
{
    static const double
    ivln10hi  = 4.34294481878168880939e-01,
    ivln10lo  = 2.50829467116452752298e-11,
    log10_2hi = 3.01029995663611771306e-01,
    log10_2lo = 3.69423907715893078616e-13,
    Lg1 = 6.666666666666735130e-01,
    Lg2 = 3.999999999940941908e-01,
    Lg3 = 2.857142874366239149e-01,
    Lg4 = 2.222219843214978396e-01,
    Lg5 = 1.818357216161805012e-01,
    Lg6 = 1.531383769920937332e-01,
    Lg7 = 1.479819860511658591e-01;
    union {double f; uint64_t i;} u = {x};
    double hfsq,f,s,z,R,w,t1,t2,dk,y,hi,lo,val_hi,val_lo;
    uint32_t hx;
    int k;
    hx = u.i>>32;
    k = 0;
    if (hx < 0x00100000 || hx>>31) {
        if (u.i<<1 == 0)
            return -1/(x*x);
        if (hx>>31)
            return (x-x)/0.0;
        k -= 54;
        x *= 0x1p54;
        u.f = x;
        hx = u.i>>32;
    } else if (hx >= 0x7ff00000) {
        return x;
    } else if (hx == 0x3ff00000 && u.i<<32 == 0)
        return 0;
    hx += 0x3ff00000 - 0x3fe6a09e;
    k += (int)(hx>>20) - 0x3ff;
    hx = (hx&0x000fffff) + 0x3fe6a09e;
    u.i = (uint64_t)hx<<32 | (u.i&0xffffffff);
    x = u.f;
    f = x - 1.0;
    hfsq = 0.5*f*f;
    s = f/(2.0+f);
    z = s*s;
    w = z*z;
    t1 = w*(Lg2+w*(Lg4+w*Lg6));
    t2 = z*(Lg1+w*(Lg3+w*(Lg5+w*Lg7)));
    R = t2 + t1;
    hi = f - hfsq;
    u.f = hi;
    u.i &= (uint64_t)-1<<32;
    hi = u.f;
    lo = f - hi - hfsq + s*(hfsq+R);
    val_hi = hi*ivln10hi;
    dk = k;
    y = dk*log10_2hi;
    val_lo = dk*log10_2lo + (lo+hi)*ivln10lo + lo*ivln10hi;
    w = y + val_hi;
    val_lo += (y - w) + val_hi;
    val_hi = w;
    return val_lo + val_hi;
}

/* 1 ulp. */
NEVE_FN double sd_log1p(double x)
{
    static const double
    ln2_hi = 6.93147180369123816490e-01,
    ln2_lo = 1.90821492927058770002e-10,
    Lg1 = 6.666666666666735130e-01,
    Lg2 = 3.999999999940941908e-01,
    Lg3 = 2.857142874366239149e-01,
    Lg4 = 2.222219843214978396e-01,
    Lg5 = 1.818357216161805012e-01,
    Lg6 = 1.531383769920937332e-01,
    Lg7 = 1.479819860511658591e-01;
    union {double f; uint64_t i;} u = {x};
    double hfsq,f = 0,c = 0,s,z,R,w,t1,t2,dk;
    uint32_t hx,hu;
    int k;
    hx = u.i>>32;
    k = 1;
    if (hx < 0x3fda827a || hx>>31) {
        if (hx >= 0xbff00000) {
            if (x == -1)
                return x/0.0;
            return (x-x)/0.0;
        }
        if (hx<<1 < 0x3ca00000<<1) {
            return x;
        }
        if (hx <= 0xbfd2bec4) {
            k = 0;
            c = 0;
            f = x;
        }
    } else if (hx >= 0x7ff00000)
        return x;
    if (k) {
        u.f = 1 + x;
        hu = u.i>>32;
        hu += 0x3ff00000 - 0x3fe6a09e;
        k = (int)(hu>>20) - 0x3ff;
        if (k < 54) {
            c = k >= 2 ? 1-(u.f-x) : x-(u.f-1);
            c /= u.f;
        } else
            c = 0;
        hu = (hu&0x000fffff) + 0x3fe6a09e;
        u.i = (uint64_t)hu<<32 | (u.i&0xffffffff);
        f = u.f - 1;
    }
    hfsq = 0.5*f*f;
    s = f/(2.0+f);
    z = s*s;
    w = z*z;
    t1 = w*(Lg2+w*(Lg4+w*Lg6));
    t2 = z*(Lg1+w*(Lg3+w*(Lg5+w*Lg7)));
    R = t2 + t1;
    dk = k;
    return s*(hfsq+R) + (dk*ln2_lo+c) - hfsq + f + dk*ln2_hi;
}

static const int k = 2043;
static const double kln2 = 0x1.62066151add8bp+10;
NEVE_FN double nd_expo2(double x)
{
    double scale;
    scale = nd_from((uint64_t)(uint32_t)((uint32_t)(0x3ff + k/2) << 20) << 32);
    return sd_exp(x - kln2) * scale * scale;
}

/* 2 ulp. */
NEVE_FN double sd_sinh(double x)
{
    union {double f; uint64_t i;} u = {.f = x};
    uint32_t w;
    double t, h, absx;
    h = 0.5;
    if (u.i >> 63)
        h = -h;
    u.i &= (uint64_t)-1/2;
    absx = u.f;
    w = u.i >> 32;
    if (w < 0x40862e42) {
        t = sd_expm1(absx);
        if (w < 0x3ff00000) {
            if (w < 0x3ff00000 - (26<<20))
                return x;
            return h*(2*t - t*t/(t+1));
        }
        return h*(t + t/(t+1));
    }
    t = 2*h*nd_expo2(absx);
    return t;
}

/* 2 ulp. */
NEVE_FN double sd_cosh(double x)
{
    union {double f; uint64_t i;} u = {.f = x};
    uint32_t w;
    double t;
    u.i &= (uint64_t)-1/2;
    x = u.f;
    w = u.i >> 32;
    if (w < 0x3fe62e42) {
        if (w < 0x3ff00000 - (26<<20)) {
            return 1;
        }
        t = sd_expm1(x);
        return 1 + t*t/(2*(1+t));
    }
    if (w < 0x40862e42) {
        t = sd_exp(x);
        return 0.5*(t + 1/t);
    }
    t = nd_expo2(x);
    return t;
}

/* 2 ulp. */
NEVE_FN double sd_tanh(double x)
{
    union {double f; uint64_t i;} u = {.f = x};
    uint32_t w;
    int sign;
    double t;
    sign = u.i >> 63;
    u.i &= (uint64_t)-1/2;
    x = u.f;
    w = u.i >> 32;
    if (w > 0x3fe193ea) {
        if (w > 0x40340000) {
            t = 1 - 0/x;
        } else {
            t = sd_expm1(2*x);
            t = 1 - 2/(t+2);
        }
    } else if (w > 0x3fd058ae) {
        t = sd_expm1(2*x);
        t = t/(t+2);
    } else if (w >= 0x00100000) {
        t = sd_expm1(-2*x);
        t = -t/(t+2);
    } else {
        t = x;
    }
    return sign ? -t : t;
}

/* 2 ulp. */
NEVE_FN double sd_asinh(double x)
{
    union {double f; uint64_t i;} u = {.f = x};
    unsigned e = u.i >> 52 & 0x7ff;
    unsigned s = u.i >> 63;
    u.i &= (uint64_t)-1/2;
    x = u.f;
    if (e >= 0x3ff + 26) {
        x = sd_log(x) + 0.693147180559945309417232121458176568;
    } else if (e >= 0x3ff + 1) {
        x = sd_log(2*x + 1/(neve_root64(x*x+1)+x));
    } else if (e >= 0x3ff - 26) {
        x = sd_log1p(x + x*x/(neve_root64(x*x+1)+1));
    }
    return s ? -x : x;
}

/* 2 ulp. */
NEVE_FN double sd_acosh(double x)
{
    union {double f; uint64_t i;} u = {.f = x};
    unsigned e = u.i >> 52 & 0x7ff;
    if (!(x >= 1))
        return __builtin_nan("");
    if (e < 0x3ff + 1)
        return sd_log1p(x-1 + neve_root64((x-1)*(x-1)+2*(x-1)));
    if (e < 0x3ff + 26)
        return sd_log(2*x - 1/(x+neve_root64(x*x-1)));
    return sd_log(x) + 0.693147180559945309417232121458176568;
}

/* 2 ulp. */
NEVE_FN double sd_atanh(double x)
{
    union {double f; uint64_t i;} u = {.f = x};
    unsigned e = u.i >> 52 & 0x7ff;
    unsigned s = u.i >> 63;
    double y;
    u.i &= (uint64_t)-1/2;
    y = u.f;
    if (e < 0x3ff - 1) {
        if (e >= 0x3ff - 32)
            y = 0.5*sd_log1p(2*y + 2*y*y/(1-y));
    } else {
        y = 0.5*sd_log1p(2*(y/(1-y)));
    }
    return s ? -y : y;
}

#endif
