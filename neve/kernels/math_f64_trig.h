/* float64 functions of one element, sd_NAME(double), within the ulp stated at each; NaN, infinities, zeros and denormals as libm.
 *
From FreeBSD's msun by way of musl, without the comments that derive the coefficients:
 *
 * Copyright (C) 1993, 2004 by Sun Microsystems, Inc. All rights reserved.
 * Developed at SunPro and SunSoft, Sun Microsystems, Inc. businesses.
 * Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is preserved.
  */
#ifndef NEVE_MATH_F64_TRIG_H
#define NEVE_MATH_F64_TRIG_H

#include "math_f64.h"

/* x = n pi/2 + y[0] + y[1], n modulo 4, for finite |x| >= 2^20 (Payne and Hanek): 192 bits of 2/pi from the first that matters modulo 4. */
NEVE_FN int nd_rem_pio2_large(double x, double *y)
{
    static const uint32_t table[42] = {
    0x00000000, 0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
    0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561, 0xb7246e3a, 0x424dd2e0,
    0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e, 0xe88235f5, 0x2ebb4484,
    0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b, 0xbdf9283b,
    0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7,
    0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea,
    0x6bfb5fb1, 0x1f8d5d08, 0x56033046, 0xfc7b6bab, 0xf0cfbc20, 0x9af4361d};
    uint64_t bits = nd_bits(x), m = (bits & 0xfffffffffffffu) | 0x10000000000000u;
    int start = (int)(bits >> 52 & 0x7ff) - 1075 + 62;
    uint32_t p[6], window[6];
    const uint32_t *from = table + start / 32;
    for (int i = 0; i < 6; i++)
        window[i] = (uint32_t)(((uint64_t)from[i] << 32 | from[i + 1]) >> (32 - start % 32));
    uint64_t carry = 0, low = m & 0xffffffffu, high = m >> 32;
    for (int i = 5; i >= 0; i--) {
        uint64_t a = low * window[i], b = i < 5 ? high * window[i + 1] : 0;
        uint64_t sum = (a & 0xffffffffu) + (b & 0xffffffffu) + (carry & 0xffffffffu);
        p[i] = (uint32_t)sum;
        carry = (sum >> 32) + (a >> 32) + (b >> 32) + (carry >> 32);
    }
    int n = (int)(p[0] >> 30);
    uint64_t f0 = ((uint64_t)p[0] << 34) | ((uint64_t)p[1] << 2) | (p[2] >> 30);
    uint64_t f1 = ((uint64_t)p[2] << 34) | ((uint64_t)p[3] << 2) | (p[4] >> 30);
    int negative = (int)(f0 >> 63);
    if (negative) {
        n++;
        f0 = ~f0;
        f1 = ~f1;
    }
    int shift = f0 ? __builtin_clzll(f0) : 63;
    if (shift)
        f0 = f0 << shift | f1 >> (64 - shift);
    f1 <<= shift;
    double a = (double)(f0 >> 38) * 0x1p-26, b = (double)((f0 >> 11) & 0x7ffffffu) * 0x1p-53;
    double c = (double)((f0 & 0x7ffu) << 32 | f1 >> 32) * 0x1p-96;
    double big = a * 0x1.921fb5p+0;
    double small = b * 0x1.921fb5p+0 + a * 0x1.110b46p-26 + (b * 0x1.110b46p-26 + a * 0x1.1a62633145c07p-54 + c * 0x1.921fb5p+0);
    double scale = nd_from((uint64_t)(0x3ff - shift) << 52);
    if ((bits >> 63) != (uint64_t)negative)
        scale = -scale;
    double sum = big + small;
    y[0] = sum * scale;
    y[1] = (small - (sum - big)) * scale;
    return bits >> 63 ? -n : n;
}

NEVE_FN int nd_rem_pio2(double x, double *y)
{
    static const double
    toint   = 0x1.8p52,
    invpio2 = 6.36619772367581382433e-01,
    pio2_1  = 1.57079632673412561417e+00,
    pio2_1t = 6.07710050650619224932e-11,
    pio2_2  = 6.07710050630396597660e-11,
    pio2_2t = 2.02226624879595063154e-21,
    pio2_3  = 2.02226624871116645580e-21,
    pio2_3t = 8.47842766036889956997e-32;
    union {double f; uint64_t i;} u = {x};
    double z,w,t,r,fn;
    uint32_t ix;
    int sign, n, ex, ey;
    sign = u.i>>63;
    ix = u.i>>32 & 0x7fffffff;
    if (ix <= 0x400f6a7a) {
        if ((ix & 0xfffff) == 0x921fb)
            goto medium;
        if (ix <= 0x4002d97c) {
            if (!sign) {
                z = x - pio2_1;
                y[0] = z - pio2_1t;
                y[1] = (z-y[0]) - pio2_1t;
                return 1;
            } else {
                z = x + pio2_1;
                y[0] = z + pio2_1t;
                y[1] = (z-y[0]) + pio2_1t;
                return -1;
            }
        } else {
            if (!sign) {
                z = x - 2*pio2_1;
                y[0] = z - 2*pio2_1t;
                y[1] = (z-y[0]) - 2*pio2_1t;
                return 2;
            } else {
                z = x + 2*pio2_1;
                y[0] = z + 2*pio2_1t;
                y[1] = (z-y[0]) + 2*pio2_1t;
                return -2;
            }
        }
    }
    if (ix <= 0x401c463b) {
        if (ix <= 0x4015fdbc) {
            if (ix == 0x4012d97c)
                goto medium;
            if (!sign) {
                z = x - 3*pio2_1;
                y[0] = z - 3*pio2_1t;
                y[1] = (z-y[0]) - 3*pio2_1t;
                return 3;
            } else {
                z = x + 3*pio2_1;
                y[0] = z + 3*pio2_1t;
                y[1] = (z-y[0]) + 3*pio2_1t;
                return -3;
            }
        } else {
            if (ix == 0x401921fb)
                goto medium;
            if (!sign) {
                z = x - 4*pio2_1;
                y[0] = z - 4*pio2_1t;
                y[1] = (z-y[0]) - 4*pio2_1t;
                return 4;
            } else {
                z = x + 4*pio2_1;
                y[0] = z + 4*pio2_1t;
                y[1] = (z-y[0]) + 4*pio2_1t;
                return -4;
            }
        }
    }
    if (ix < 0x413921fb) {
medium:
        fn = (double)x*invpio2 + toint - toint;
        n = (int32_t)fn;
        r = x - fn*pio2_1;
        w = fn*pio2_1t;
        y[0] = r - w;
        u.f = y[0];
        ey = u.i>>52 & 0x7ff;
        ex = ix>>20;
        if (ex - ey > 16) {
            t = r;
            w = fn*pio2_2;
            r = t - w;
            w = fn*pio2_2t - ((t-r)-w);
            y[0] = r - w;
            u.f = y[0];
            ey = u.i>>52 & 0x7ff;
            if (ex - ey > 49) {
                t = r;
                w = fn*pio2_3;
                r = t - w;
                w = fn*pio2_3t - ((t-r)-w);
                y[0] = r - w;
            }
        }
        y[1] = (r - y[0]) - w;
        return n;
    }
    if (ix >= 0x7ff00000) {
        y[0] = y[1] = x - x;
        return 0;
    }
    return nd_rem_pio2_large(x, y);
}

NEVE_FN double nd_sin(double x, double y, int iy)
{
    static const double
    S1  = -1.66666666666666324348e-01,
    S2  =  8.33333333332248946124e-03,
    S3  = -1.98412698298579493134e-04,
    S4  =  2.75573137070700676789e-06,
    S5  = -2.50507602534068634195e-08,
    S6  =  1.58969099521155010221e-10;
    double z,r,v,w;
    z = x*x;
    w = z*z;
    r = S2 + z*(S3 + z*S4) + z*w*(S5 + z*S6);
    v = z*x;
    if (iy == 0)
        return x + v*(S1 + z*r);
    else
        return x - ((z*(0.5*y - v*r) - y) - v*S1);
}

NEVE_FN double nd_cos(double x, double y)
{
    static const double
    C1  =  4.16666666666666019037e-02,
    C2  = -1.38888888888741095749e-03,
    C3  =  2.48015872894767294178e-05,
    C4  = -2.75573143513906633035e-07,
    C5  =  2.08757232129817482790e-09,
    C6  = -1.13596475577881948265e-11;
    double hz,z,r,w;
    z  = x*x;
    w  = z*z;
    r  = z*(C1+z*(C2+z*C3)) + w*w*(C4+z*(C5+z*C6));
    hz = 0.5*z;
    w  = 1.0-hz;
    return w + (((1.0-w)-hz) + (z*r-x*y));
}

NEVE_FN double nd_tan(double x, double y, int odd)
{
    static const double T[] = {
                 3.33333333333334091986e-01,
                 1.33333333333201242699e-01,
                 5.39682539762260521377e-02,
                 2.18694882948595424599e-02,
                 8.86323982359930005737e-03,
                 3.59207910759131235356e-03,
                 1.45620945432529025516e-03,
                 5.88041240820264096874e-04,
                 2.46463134818469906812e-04,
                 7.81794442939557092300e-05,
                 7.14072491382608190305e-05,
                -1.85586374855275456654e-05,
                 2.59073051863633712884e-05,
    },
    pio4 =       7.85398163397448278999e-01,
    pio4lo =     3.06161699786838301793e-17;
    double z, r, v, w, s, a;
    double w0, a0;
    uint32_t hx;
    int big, sign;
    hx = nd_high(x);
    big = (hx&0x7fffffff) >= 0x3FE59428;
    if (big) {
        sign = hx>>31;
        if (sign) {
            x = -x;
            y = -y;
        }
        x = (pio4 - x) + (pio4lo - y);
        y = 0.0;
    }
    z = x * x;
    w = z * z;
    r = T[1] + w*(T[3] + w*(T[5] + w*(T[7] + w*(T[9] + w*T[11]))));
    v = z*(T[2] + w*(T[4] + w*(T[6] + w*(T[8] + w*(T[10] + w*T[12])))));
    s = z * x;
    r = y + z*(s*(r + v) + y) + s*T[0];
    w = x + r;
    if (big) {
        s = 1 - 2*odd;
        v = s - 2.0 * (x + (r - w*w/(w + s)));
        return sign ? -v : v;
    }
    if (!odd)
        return w;
    w0 = w;
    w0 = nd_clear_low(w0);
    v = r - (w0 - x);
    a0 = a = -1.0 / w;
    a0 = nd_clear_low(a0);
    return a0 + a*(1.0 + a0*w0 + a0*v);
}

/* 1 ulp. */
NEVE_FN double sd_sin(double x)
{
    double y[2];
    uint32_t ix;
    unsigned n;
    ix = nd_high(x);
    ix &= 0x7fffffff;
    if (ix <= 0x3fe921fb) {
        if (ix < 0x3e500000) {
            return x;
        }
        return nd_sin(x, 0.0, 0);
    }
    if (ix >= 0x7ff00000)
        return x - x;
    n = nd_rem_pio2(x, y);
    switch (n&3) {
    case 0: return  nd_sin(y[0], y[1], 1);
    case 1: return  nd_cos(y[0], y[1]);
    case 2: return -nd_sin(y[0], y[1], 1);
    default:
        return -nd_cos(y[0], y[1]);
    }
}

/* 1 ulp. */
NEVE_FN double sd_cos(double x)
{
    double y[2];
    uint32_t ix;
    unsigned n;
    ix = nd_high(x);
    ix &= 0x7fffffff;
    if (ix <= 0x3fe921fb) {
        if (ix < 0x3e46a09e) {
            return 1.0;
        }
        return nd_cos(x, 0);
    }
    if (ix >= 0x7ff00000)
        return x-x;
    n = nd_rem_pio2(x, y);
    switch (n&3) {
    case 0: return  nd_cos(y[0], y[1]);
    case 1: return -nd_sin(y[0], y[1], 1);
    case 2: return -nd_cos(y[0], y[1]);
    default:
        return  nd_sin(y[0], y[1], 1);
    }
}

/* 1 ulp. */
NEVE_FN double sd_tan(double x)
{
    double y[2];
    uint32_t ix;
    unsigned n;
    ix = nd_high(x);
    ix &= 0x7fffffff;
    if (ix <= 0x3fe921fb) {
        if (ix < 0x3e400000) {
            return x;
        }
        return nd_tan(x, 0.0, 0);
    }
    if (ix >= 0x7ff00000)
        return x - x;
    n = nd_rem_pio2(x, y);
    return nd_tan(y[0], y[1], n&1);
}

/* 1 ulp. */
static const double
nd_as_pio2_hi = 1.57079632679489655800e+00,
nd_as_pio2_lo = 6.12323399573676603587e-17,
nd_as_pS0 =  1.66666666666666657415e-01,
nd_as_pS1 = -3.25565818622400915405e-01,
nd_as_pS2 =  2.01212532134862925881e-01,
nd_as_pS3 = -4.00555345006794114027e-02,
nd_as_pS4 =  7.91534994289814532176e-04,
nd_as_pS5 =  3.47933107596021167570e-05,
nd_as_qS1 = -2.40339491173441421878e+00,
nd_as_qS2 =  2.02094576023350569471e+00,
nd_as_qS3 = -6.88283971605453293030e-01,
nd_as_qS4 =  7.70381505559019352791e-02;
NEVE_FN double nd_asin_ratio(double z)
{
    double p, q;
    p = z*(nd_as_pS0+z*(nd_as_pS1+z*(nd_as_pS2+z*(nd_as_pS3+z*(nd_as_pS4+z*nd_as_pS5)))));
    q = 1.0+z*(nd_as_qS1+z*(nd_as_qS2+z*(nd_as_qS3+z*nd_as_qS4)));
    return p/q;
}
NEVE_FN double sd_asin(double x)
{
    double z,r,s;
    uint32_t hx,ix;
    hx = nd_high(x);
    ix = hx & 0x7fffffff;
    if (ix >= 0x3ff00000) {
        uint32_t lx;
        lx = nd_low(x);
        if (((ix - 0x3ff00000) | lx) == 0)
            return x*nd_as_pio2_hi + 0x1p-120f;
        return (x - x)/(x - x);
    }
    if (ix < 0x3fe00000) {
        if (ix < 0x3e500000 && ix >= 0x00100000)
            return x;
        return x + x*nd_asin_ratio(x*x);
    }
    z = (1 - __builtin_fabs(x))*0.5;
    s = neve_root64(z);
    r = nd_asin_ratio(z);
    if (ix >= 0x3fef3333) {
        x = nd_as_pio2_hi-(2*(s+s*r)-nd_as_pio2_lo);
    } else {
        double f,c;
        f = s;
        f = nd_clear_low(f);
        c = (z-f*f)/(s+f);
        x = 0.5*nd_as_pio2_hi - (2*s*r - (nd_as_pio2_lo-2*c) - (0.5*nd_as_pio2_hi-2*f));
    }
    if (hx >> 31)
        return -x;
    return x;
}

NEVE_FN double sd_acos(double x)
{
    double z,w,s,c,df;
    uint32_t hx,ix;
    hx = nd_high(x);
    ix = hx & 0x7fffffff;
    if (ix >= 0x3ff00000) {
        uint32_t lx;
        lx = nd_low(x);
        if (((ix - 0x3ff00000) | lx) == 0) {
            if (hx >> 31)
                return 2*nd_as_pio2_hi + 0x1p-120f;
            return 0;
        }
        return (x - x)/(x - x);
    }
    if (ix < 0x3fe00000) {
        if (ix <= 0x3c600000)
            return nd_as_pio2_hi + 0x1p-120f;
        return nd_as_pio2_hi - (x - (nd_as_pio2_lo-x*nd_asin_ratio(x*x)));
    }
    if (hx >> 31) {
        z = (1.0+x)*0.5;
        s = neve_root64(z);
        w = nd_asin_ratio(z)*s-nd_as_pio2_lo;
        return 2*(nd_as_pio2_hi - (s+w));
    }
    z = (1.0-x)*0.5;
    s = neve_root64(z);
    df = s;
    df = nd_clear_low(df);
    c = (z-df*df)/(s+df);
    w = nd_asin_ratio(z)*s+c;
    return 2*(df+w);
}

/* 1 ulp. */
NEVE_FN double sd_atan(double x)
{
    static const double atanhi[] = {
      4.63647609000806093515e-01,
      7.85398163397448278999e-01,
      9.82793723247329054082e-01,
      1.57079632679489655800e+00,
    };
    static const double atanlo[] = {
      2.26987774529616870924e-17,
      3.06161699786838301793e-17,
      1.39033110312309984516e-17,
      6.12323399573676603587e-17,
    };
    static const double aT[] = {
      3.33333333333329318027e-01,
     -1.99999999998764832476e-01,
      1.42857142725034663711e-01,
     -1.11111104054623557880e-01,
      9.09088713343650656196e-02,
     -7.69187620504482999495e-02,
      6.66107313738753120669e-02,
     -5.83357013379057348645e-02,
      4.97687799461593236017e-02,
     -3.65315727442169155270e-02,
      1.62858201153657823623e-02,
    };
    double w,s1,s2,z;
    uint32_t ix,sign;
    int id;
    ix = nd_high(x);
    sign = ix >> 31;
    ix &= 0x7fffffff;
    if (ix >= 0x44100000) {
        if (x != x)
            return x;
        z = atanhi[3] + 0x1p-120f;
        return sign ? -z : z;
    }
    if (ix < 0x3fdc0000) {
        if (ix < 0x3e400000) {
            return x;
        }
        id = -1;
    } else {
        x = __builtin_fabs(x);
        if (ix < 0x3ff30000) {
            if (ix < 0x3fe60000) {
                id = 0;
                x = (2.0*x-1.0)/(2.0+x);
            } else {
                id = 1;
                x = (x-1.0)/(x+1.0);
            }
        } else {
            if (ix < 0x40038000) {
                id = 2;
                x = (x-1.5)/(1.0+1.5*x);
            } else {
                id = 3;
                x = -1.0/x;
            }
        }
    }
    z = x*x;
    w = z*z;
    s1 = z*(aT[0]+w*(aT[2]+w*(aT[4]+w*(aT[6]+w*(aT[8]+w*aT[10])))));
    s2 = w*(aT[1]+w*(aT[3]+w*(aT[5]+w*(aT[7]+w*aT[9]))));
    if (id < 0)
        return x - x*(s1+s2);
    z = atanhi[id] - (x*(s1+s2) - atanlo[id] - x);
    return sign ? -z : z;
}

/* 1 ulp. */
NEVE_FN double sd_atan2(double y, double x)
{
    static const double
    pi     = 3.1415926535897931160E+00,
    pi_lo  = 1.2246467991473531772E-16;
    double z;
    uint32_t m,lx,ly,ix,iy;
    if (x != x || y != y)
        return x+y;
    ix = (int32_t)nd_high(x), lx = nd_low(x);
    iy = (int32_t)nd_high(y), ly = nd_low(y);
    if (((ix - 0x3ff00000) | lx) == 0)
        return sd_atan(y);
    m = ((iy>>31)&1) | ((ix>>30)&2);
    ix = ix & 0x7fffffff;
    iy = iy & 0x7fffffff;
    if ((iy|ly) == 0) {
        switch(m) {
        case 0:
        case 1: return y;
        case 2: return  pi;
        case 3: return -pi;
        }
    }
    if ((ix|lx) == 0)
        return m&1 ? -pi/2 : pi/2;
    if (ix == 0x7ff00000) {
        if (iy == 0x7ff00000) {
            switch(m) {
            case 0: return  pi/4;
            case 1: return -pi/4;
            case 2: return  3*pi/4;
            case 3: return -3*pi/4;
            }
        } else {
            switch(m) {
            case 0: return  0.0;
            case 1: return -0.0;
            case 2: return  pi;
            case 3: return -pi;
            }
        }
    }
    if (ix+(64<<20) < iy || iy == 0x7ff00000)
        return m&1 ? -pi/2 : pi/2;
    if ((m&2) && iy+(64<<20) < ix)
        z = 0;
    else
        z = sd_atan(__builtin_fabs(y/x));
    switch (m) {
    case 0: return z;
    case 1: return -z;
    case 2: return pi - (z-pi_lo);
    default:
        return (z-pi_lo) - pi;
    }
}

/* 1 ulp. */
NEVE_FN double sd_pow(double x, double y)
{
    static const double
    bp[]   = {1.0, 1.5,},
    dp_h[] = { 0.0, 5.84962487220764160156e-01,},
    dp_l[] = { 0.0, 1.35003920212974897128e-08,},
    two53  =  9007199254740992.0,
    huge   =  1.0e300,
    tiny   =  1.0e-300,
    L1 =  5.99999999999994648725e-01,
    L2 =  4.28571428578550184252e-01,
    L3 =  3.33333329818377432918e-01,
    L4 =  2.72728123808534006489e-01,
    L5 =  2.30660745775561754067e-01,
    L6 =  2.06975017800338417784e-01,
    P1 =  1.66666666666666019037e-01,
    P2 = -2.77777777770155933842e-03,
    P3 =  6.61375632143793436117e-05,
    P4 = -1.65339022054652515390e-06,
    P5 =  4.13813679705723846039e-08,
    lg2     =  6.93147180559945286227e-01,
    lg2_h   =  6.93147182464599609375e-01,
    lg2_l   = -1.90465429995776804525e-09,
    ovt     =  8.0085662595372944372e-017,
    cp      =  9.61796693925975554329e-01,
    cp_h    =  9.61796700954437255859e-01,
    cp_l    = -7.02846165095275826516e-09,
    ivln2   =  1.44269504088896338700e+00,
    ivln2_h =  1.44269502162933349609e+00,
    ivln2_l =  1.92596299112661746887e-08;
    double z,ax,z_h,z_l,p_h,p_l;
    double y1,t1,t2,r,s,t,u,v,w;
    int32_t i,j,k,yisint,n;
    int32_t hx,hy,ix,iy;
    uint32_t lx,ly;
    hx = (int32_t)nd_high(x), lx = nd_low(x);
    hy = (int32_t)nd_high(y), ly = nd_low(y);
    ix = hx & 0x7fffffff;
    iy = hy & 0x7fffffff;
    if ((iy|ly) == 0)
        return 1.0;
    if (hx == 0x3ff00000 && lx == 0)
        return 1.0;
    if (ix > 0x7ff00000 || (ix == 0x7ff00000 && lx != 0) ||
        iy > 0x7ff00000 || (iy == 0x7ff00000 && ly != 0))
        return x + y;
    yisint = 0;
    if (hx < 0) {
        if (iy >= 0x43400000)
            yisint = 2;
        else if (iy >= 0x3ff00000) {
            k = (iy>>20) - 0x3ff;
            if (k > 20) {
                uint32_t j = ly>>(52-k);
                if ((j<<(52-k)) == ly)
                    yisint = 2 - (j&1);
            } else if (ly == 0) {
                uint32_t j = iy>>(20-k);
                if ((j<<(20-k)) == (uint32_t)iy)
                    yisint = 2 - (j&1);
            }
        }
    }
    if (ly == 0) {
        if (iy == 0x7ff00000) {
            if (((ix-0x3ff00000)|lx) == 0)
                return 1.0;
            else if (ix >= 0x3ff00000)
                return hy >= 0 ? y : 0.0;
            else
                return hy >= 0 ? 0.0 : -y;
        }
        if (iy == 0x3ff00000) {
            if (hy >= 0)
                return x;
            y = 1/x;
            return y;
        }
        if (hy == 0x40000000)
            return x*x;
        if (hy == 0x3fe00000) {
            if (hx >= 0)
                return neve_root64(x);
        }
    }
    ax = __builtin_fabs(x);
    if (lx == 0) {
        if (ix == 0x7ff00000 || ix == 0 || ix == 0x3ff00000) {
            z = ax;
            if (hy < 0)
                z = 1.0/z;
            if (hx < 0) {
                if (((ix-0x3ff00000)|yisint) == 0) {
                    z = (z-z)/(z-z);
                } else if (yisint == 1)
                    z = -z;
            }
            return z;
        }
    }
    s = 1.0;
    if (hx < 0) {
        if (yisint == 0)
            return (x-x)/(x-x);
        if (yisint == 1)
            s = -1.0;
    }
    if (iy > 0x41e00000) {
        if (iy > 0x43f00000) {
            if (ix <= 0x3fefffff)
                return hy < 0 ? huge*huge : tiny*tiny;
            if (ix >= 0x3ff00000)
                return hy > 0 ? huge*huge : tiny*tiny;
        }
        if (ix < 0x3fefffff)
            return hy < 0 ? s*huge*huge : s*tiny*tiny;
        if (ix > 0x3ff00000)
            return hy > 0 ? s*huge*huge : s*tiny*tiny;
        t = ax - 1.0;
        w = (t*t)*(0.5 - t*(0.3333333333333333333333-t*0.25));
        u = ivln2_h*t;
        v = t*ivln2_l - w*ivln2;
        t1 = u + v;
        t1 = nd_clear_low(t1);
        t2 = v - (t1-u);
    } else {
        double ss,s2,s_h,s_l,t_h,t_l;
        n = 0;
        if (ix < 0x00100000) {
            ax *= two53;
            n -= 53;
            ix = nd_high(ax);
        }
        n += ((ix)>>20) - 0x3ff;
        j = ix & 0x000fffff;
        ix = j | 0x3ff00000;
        if (j <= 0x3988E)
            k = 0;
        else if (j < 0xBB67A)
            k = 1;
        else {
            k = 0;
            n += 1;
            ix -= 0x00100000;
        }
        ax = nd_set_high(ax, (uint32_t)(ix));
        u = ax - bp[k];
        v = 1.0/(ax+bp[k]);
        ss = u*v;
        s_h = ss;
        s_h = nd_clear_low(s_h);
        t_h = 0.0;
        t_h = nd_set_high(t_h, (uint32_t)(((ix>>1)|0x20000000) + 0x00080000 + (k<<18)));
        t_l = ax - (t_h-bp[k]);
        s_l = v*((u-s_h*t_h)-s_h*t_l);
        s2 = ss*ss;
        r = s2*s2*(L1+s2*(L2+s2*(L3+s2*(L4+s2*(L5+s2*L6)))));
        r += s_l*(s_h+ss);
        s2 = s_h*s_h;
        t_h = 3.0 + s2 + r;
        t_h = nd_clear_low(t_h);
        t_l = r - ((t_h-3.0)-s2);
        u = s_h*t_h;
        v = s_l*t_h + t_l*ss;
        p_h = u + v;
        p_h = nd_clear_low(p_h);
        p_l = v - (p_h-u);
        z_h = cp_h*p_h;
        z_l = cp_l*p_h+p_l*cp + dp_l[k];
        t = (double)n;
        t1 = ((z_h + z_l) + dp_h[k]) + t;
        t1 = nd_clear_low(t1);
        t2 = z_l - (((t1 - t) - dp_h[k]) - z_h);
    }
    y1 = y;
    y1 = nd_clear_low(y1);
    p_l = (y-y1)*t1 + y*t2;
    p_h = y1*t1;
    z = p_l + p_h;
    j = (int32_t)nd_high(z), i = nd_low(z);
    if (j >= 0x40900000) {
        if (((j-0x40900000)|i) != 0)
            return s*huge*huge;
        if (p_l + ovt > z - p_h)
            return s*huge*huge;
    } else if ((j&0x7fffffff) >= 0x4090cc00) {
        if (((j-0xc090cc00)|i) != 0)
            return s*tiny*tiny;
        if (p_l <= z - p_h)
            return s*tiny*tiny;
    }
    i = j & 0x7fffffff;
    k = (i>>20) - 0x3ff;
    n = 0;
    if (i > 0x3fe00000) {
        n = j + (0x00100000>>(k+1));
        k = ((n&0x7fffffff)>>20) - 0x3ff;
        t = 0.0;
        t = nd_set_high(t, (uint32_t)(n & ~(0x000fffff>>k)));
        n = ((n&0x000fffff)|0x00100000)>>(20-k);
        if (j < 0)
            n = -n;
        p_h -= t;
    }
    t = p_l + p_h;
    t = nd_clear_low(t);
    u = t*lg2_h;
    v = (p_l-(t-p_h))*lg2 + t*lg2_l;
    z = u + v;
    w = v - (z-u);
    t = z*z;
    t1 = z - t*(P1+t*(P2+t*(P3+t*(P4+t*P5))));
    r = (z*t1)/(t1-2.0) - (w + z*w);
    z = 1.0 - (r-z);
    j = nd_high(z);
    j += (int32_t)((uint32_t)n << 20);
    if ((j>>20) <= 0)
        z = nd_scale(z,n);
    else
        z = nd_set_high(z, (uint32_t)(j));
    return s*z;
}

#endif
