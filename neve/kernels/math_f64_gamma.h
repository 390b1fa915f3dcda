/* float64 functions of one element, sd_NAME(double), within the ulp stated at each; NaN, infinities, zeros and denormals as libm.
 *
From FreeBSD's msun by way of musl, without the comments that derive the coefficients:
 *
 * Copyright (C) 1993, 2004 by Sun Microsystems, Inc. All rights reserved.
 * Developed at SunPro and SunSoft, Sun Microsystems, Inc. businesses.
 * Permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is preserved.
  */
#ifndef NEVE_MATH_F64_GAMMA_H
#define NEVE_MATH_F64_GAMMA_H

#include "math_f64_trig.h"

static const double
nd_er_erx  = 8.45062911510467529297e-01,
nd_er_efx8 =  1.02703333676410069053e+00,
nd_er_pp0  =  1.28379167095512558561e-01,
nd_er_pp1  = -3.25042107247001499370e-01,
nd_er_pp2  = -2.84817495755985104766e-02,
nd_er_pp3  = -5.77027029648944159157e-03,
nd_er_pp4  = -2.37630166566501626084e-05,
nd_er_qq1  =  3.97917223959155352819e-01,
nd_er_qq2  =  6.50222499887672944485e-02,
nd_er_qq3  =  5.08130628187576562776e-03,
nd_er_qq4  =  1.32494738004321644526e-04,
nd_er_qq5  = -3.96022827877536812320e-06,
nd_er_pa0  = -2.36211856075265944077e-03,
nd_er_pa1  =  4.14856118683748331666e-01,
nd_er_pa2  = -3.72207876035701323847e-01,
nd_er_pa3  =  3.18346619901161753674e-01,
nd_er_pa4  = -1.10894694282396677476e-01,
nd_er_pa5  =  3.54783043256182359371e-02,
nd_er_pa6  = -2.16637559486879084300e-03,
nd_er_qa1  =  1.06420880400844228286e-01,
nd_er_qa2  =  5.40397917702171048937e-01,
nd_er_qa3  =  7.18286544141962662868e-02,
nd_er_qa4  =  1.26171219808761642112e-01,
nd_er_qa5  =  1.36370839120290507362e-02,
nd_er_qa6  =  1.19844998467991074170e-02,
nd_er_ra0  = -9.86494403484714822705e-03,
nd_er_ra1  = -6.93858572707181764372e-01,
nd_er_ra2  = -1.05586262253232909814e+01,
nd_er_ra3  = -6.23753324503260060396e+01,
nd_er_ra4  = -1.62396669462573470355e+02,
nd_er_ra5  = -1.84605092906711035994e+02,
nd_er_ra6  = -8.12874355063065934246e+01,
nd_er_ra7  = -9.81432934416914548592e+00,
nd_er_sa1  =  1.96512716674392571292e+01,
nd_er_sa2  =  1.37657754143519042600e+02,
nd_er_sa3  =  4.34565877475229228821e+02,
nd_er_sa4  =  6.45387271733267880336e+02,
nd_er_sa5  =  4.29008140027567833386e+02,
nd_er_sa6  =  1.08635005541779435134e+02,
nd_er_sa7  =  6.57024977031928170135e+00,
nd_er_sa8  = -6.04244152148580987438e-02,
nd_er_rb0  = -9.86494292470009928597e-03,
nd_er_rb1  = -7.99283237680523006574e-01,
nd_er_rb2  = -1.77579549177547519889e+01,
nd_er_rb3  = -1.60636384855821916062e+02,
nd_er_rb4  = -6.37566443368389627722e+02,
nd_er_rb5  = -1.02509513161107724954e+03,
nd_er_rb6  = -4.83519191608651397019e+02,
nd_er_sb1  =  3.03380607434824582924e+01,
nd_er_sb2  =  3.25792512996573918826e+02,
nd_er_sb3  =  1.53672958608443695994e+03,
nd_er_sb4  =  3.19985821950859553908e+03,
nd_er_sb5  =  2.55305040643316442583e+03,
nd_er_sb6  =  4.74528541206955367215e+02,
nd_er_sb7  = -2.24409524465858183362e+01;
NEVE_FN double nd_erfc1(double x)
{
    double s,P,Q;
    s = __builtin_fabs(x) - 1;
    P = nd_er_pa0+s*(nd_er_pa1+s*(nd_er_pa2+s*(nd_er_pa3+s*(nd_er_pa4+s*(nd_er_pa5+s*nd_er_pa6)))));
    Q = 1+s*(nd_er_qa1+s*(nd_er_qa2+s*(nd_er_qa3+s*(nd_er_qa4+s*(nd_er_qa5+s*nd_er_qa6)))));
    return 1 - nd_er_erx - P/Q;
}
NEVE_FN double nd_erfc2(uint32_t ix, double x)
{
    double s,R,S;
    double z;
    if (ix < 0x3ff40000)
        return nd_erfc1(x);
    x = __builtin_fabs(x);
    s = 1/(x*x);
    if (ix < 0x4006db6d) {
        R = nd_er_ra0+s*(nd_er_ra1+s*(nd_er_ra2+s*(nd_er_ra3+s*(nd_er_ra4+s*(
             nd_er_ra5+s*(nd_er_ra6+s*nd_er_ra7))))));
        S = 1.0+s*(nd_er_sa1+s*(nd_er_sa2+s*(nd_er_sa3+s*(nd_er_sa4+s*(
             nd_er_sa5+s*(nd_er_sa6+s*(nd_er_sa7+s*nd_er_sa8)))))));
    } else {
        R = nd_er_rb0+s*(nd_er_rb1+s*(nd_er_rb2+s*(nd_er_rb3+s*(nd_er_rb4+s*(
             nd_er_rb5+s*nd_er_rb6)))));
        S = 1.0+s*(nd_er_sb1+s*(nd_er_sb2+s*(nd_er_sb3+s*(nd_er_sb4+s*(
             nd_er_sb5+s*(nd_er_sb6+s*nd_er_sb7))))));
    }
    z = x;
    z = nd_clear_low(z);
    return sd_exp(-z*z-0.5625)*sd_exp((z-x)*(z+x)+R/S)/x;
}
NEVE_FN double sd_erf(double x)
{
    double r,s,z,y;
    uint32_t ix;
    int sign;
    ix = nd_high(x);
    sign = ix>>31;
    ix &= 0x7fffffff;
    if (ix >= 0x7ff00000) {
        return 1-2*sign + 1/x;
    }
    if (ix < 0x3feb0000) {
        if (ix < 0x3e300000) {
            return 0.125*(8*x + nd_er_efx8*x);
        }
        z = x*x;
        r = nd_er_pp0+z*(nd_er_pp1+z*(nd_er_pp2+z*(nd_er_pp3+z*nd_er_pp4)));
        s = 1.0+z*(nd_er_qq1+z*(nd_er_qq2+z*(nd_er_qq3+z*(nd_er_qq4+z*nd_er_qq5))));
        y = r/s;
        return x + x*y;
    }
    if (ix < 0x40180000)
        y = 1 - nd_erfc2(ix,x);
    else
        y = 1 - 0x1p-1022;
    return sign ? -y : y;
}
NEVE_FN double sd_erfc(double x)
{
    double r,s,z,y;
    uint32_t ix;
    int sign;
    ix = nd_high(x);
    sign = ix>>31;
    ix &= 0x7fffffff;
    if (ix >= 0x7ff00000) {
        return 2*sign + 1/x;
    }
    if (ix < 0x3feb0000) {
        if (ix < 0x3c700000)
            return 1.0 - x;
        z = x*x;
        r = nd_er_pp0+z*(nd_er_pp1+z*(nd_er_pp2+z*(nd_er_pp3+z*nd_er_pp4)));
        s = 1.0+z*(nd_er_qq1+z*(nd_er_qq2+z*(nd_er_qq3+z*(nd_er_qq4+z*nd_er_qq5))));
        y = r/s;
        if (sign || ix < 0x3fd00000) {
            return 1.0 - (x+x*y);
        }
        return 0.5 - (x - 0.5 + x*y);
    }
    if (ix < 0x403c0000) {
        return sign ? 2 - nd_erfc2(ix,x) : nd_erfc2(ix,x);
    }
    return sign ? 2 - 0x1p-1022 : 0x1p-1022*0x1p-1022;
}

static const double
nd_lg_pi  =  3.14159265358979311600e+00,
nd_lg_a0  =  7.72156649015328655494e-02,
nd_lg_a1  =  3.22467033424113591611e-01,
nd_lg_a2  =  6.73523010531292681824e-02,
nd_lg_a3  =  2.05808084325167332806e-02,
nd_lg_a4  =  7.38555086081402883957e-03,
nd_lg_a5  =  2.89051383673415629091e-03,
nd_lg_a6  =  1.19270763183362067845e-03,
nd_lg_a7  =  5.10069792153511336608e-04,
nd_lg_a8  =  2.20862790713908385557e-04,
nd_lg_a9  =  1.08011567247583939954e-04,
nd_lg_a10 =  2.52144565451257326939e-05,
nd_lg_a11 =  4.48640949618915160150e-05,
nd_lg_tc  =  1.46163214496836224576e+00,
nd_lg_tf  = -1.21486290535849611461e-01,
nd_lg_tt  = -3.63867699703950536541e-18,
nd_lg_t0  =  4.83836122723810047042e-01,
nd_lg_t1  = -1.47587722994593911752e-01,
nd_lg_t2  =  6.46249402391333854778e-02,
nd_lg_t3  = -3.27885410759859649565e-02,
nd_lg_t4  =  1.79706750811820387126e-02,
nd_lg_t5  = -1.03142241298341437450e-02,
nd_lg_t6  =  6.10053870246291332635e-03,
nd_lg_t7  = -3.68452016781138256760e-03,
nd_lg_t8  =  2.25964780900612472250e-03,
nd_lg_t9  = -1.40346469989232843813e-03,
nd_lg_t10 =  8.81081882437654011382e-04,
nd_lg_t11 = -5.38595305356740546715e-04,
nd_lg_t12 =  3.15632070903625950361e-04,
nd_lg_t13 = -3.12754168375120860518e-04,
nd_lg_t14 =  3.35529192635519073543e-04,
nd_lg_u0  = -7.72156649015328655494e-02,
nd_lg_u1  =  6.32827064025093366517e-01,
nd_lg_u2  =  1.45492250137234768737e+00,
nd_lg_u3  =  9.77717527963372745603e-01,
nd_lg_u4  =  2.28963728064692451092e-01,
nd_lg_u5  =  1.33810918536787660377e-02,
nd_lg_v1  =  2.45597793713041134822e+00,
nd_lg_v2  =  2.12848976379893395361e+00,
nd_lg_v3  =  7.69285150456672783825e-01,
nd_lg_v4  =  1.04222645593369134254e-01,
nd_lg_v5  =  3.21709242282423911810e-03,
nd_lg_s0  = -7.72156649015328655494e-02,
nd_lg_s1  =  2.14982415960608852501e-01,
nd_lg_s2  =  3.25778796408930981787e-01,
nd_lg_s3  =  1.46350472652464452805e-01,
nd_lg_s4  =  2.66422703033638609560e-02,
nd_lg_s5  =  1.84028451407337715652e-03,
nd_lg_s6  =  3.19475326584100867617e-05,
nd_lg_r1  =  1.39200533467621045958e+00,
nd_lg_r2  =  7.21935547567138069525e-01,
nd_lg_r3  =  1.71933865632803078993e-01,
nd_lg_r4  =  1.86459191715652901344e-02,
nd_lg_r5  =  7.77942496381893596434e-04,
nd_lg_r6  =  7.32668430744625636189e-06,
nd_lg_w0  =  4.18938533204672725052e-01,
nd_lg_w1  =  8.33333333333329678849e-02,
nd_lg_w2  = -2.77777777728775536470e-03,
nd_lg_w3  =  7.93650558643019558500e-04,
nd_lg_w4  = -5.95187557450339963135e-04,
nd_lg_w5  =  8.36339918996282139126e-04,
nd_lg_w6  = -1.63092934096575273989e-03;
NEVE_FN double nd_sin_pi(double x)
{
    int n;
    x = 2.0*(x*0.5 - sd_floor(x*0.5));
    n = (int)(x*4.0);
    n = (n+1)/2;
    x -= n*0.5f;
    x *= nd_lg_pi;
    switch (n) {
    default:
    case 0: return nd_sin(x, 0.0, 0);
    case 1: return nd_cos(x, 0.0);
    case 2: return nd_sin(-x, 0.0, 0);
    case 3: return -nd_cos(x, 0.0);
    }
}
NEVE_FN double sd_lgamma(double x)
{
    union {double f; uint64_t i;} u = {x};
    double t,y,z,nadj = 0,p,p1,p2,p3,q,r,w;
    uint32_t ix;
    int sign,i;
    sign = u.i>>63;
    ix = u.i>>32 & 0x7fffffff;
    if (ix >= 0x7ff00000)
        return x*x;
    if (ix < (0x3ff-70)<<20) {
        if (sign)
            x = -x;
        return -sd_log(x);
    }
    if (sign) {
        x = -x;
        t = nd_sin_pi(x);
        if (t == 0.0)
            return 1.0/(x-x);
        t = __builtin_fabs(t);
        nadj = sd_log(nd_lg_pi/(t*x));
    }
    if ((ix == 0x3ff00000 || ix == 0x40000000) && (uint32_t)u.i == 0)
        r = 0;
    else if (ix < 0x40000000) {
        if (ix <= 0x3feccccc) {
            r = -sd_log(x);
            if (ix >= 0x3FE76944) {
                y = 1.0 - x;
                i = 0;
            } else if (ix >= 0x3FCDA661) {
                y = x - (nd_lg_tc-1.0);
                i = 1;
            } else {
                y = x;
                i = 2;
            }
        } else {
            r = 0.0;
            if (ix >= 0x3FFBB4C3) {
                y = 2.0 - x;
                i = 0;
            } else if(ix >= 0x3FF3B4C4) {
                y = x - nd_lg_tc;
                i = 1;
            } else {
                y = x - 1.0;
                i = 2;
            }
        }
        switch (i) {
        case 0:
            z = y*y;
            p1 = nd_lg_a0+z*(nd_lg_a2+z*(nd_lg_a4+z*(nd_lg_a6+z*(nd_lg_a8+z*nd_lg_a10))));
            p2 = z*(nd_lg_a1+z*(nd_lg_a3+z*(nd_lg_a5+z*(nd_lg_a7+z*(nd_lg_a9+z*nd_lg_a11)))));
            p = y*p1+p2;
            r += (p-0.5*y);
            break;
        case 1:
            z = y*y;
            w = z*y;
            p1 = nd_lg_t0+w*(nd_lg_t3+w*(nd_lg_t6+w*(nd_lg_t9 +w*nd_lg_t12)));
            p2 = nd_lg_t1+w*(nd_lg_t4+w*(nd_lg_t7+w*(nd_lg_t10+w*nd_lg_t13)));
            p3 = nd_lg_t2+w*(nd_lg_t5+w*(nd_lg_t8+w*(nd_lg_t11+w*nd_lg_t14)));
            p = z*p1-(nd_lg_tt-w*(p2+y*p3));
            r += nd_lg_tf + p;
            break;
        case 2:
            p1 = y*(nd_lg_u0+y*(nd_lg_u1+y*(nd_lg_u2+y*(nd_lg_u3+y*(nd_lg_u4+y*nd_lg_u5)))));
            p2 = 1.0+y*(nd_lg_v1+y*(nd_lg_v2+y*(nd_lg_v3+y*(nd_lg_v4+y*nd_lg_v5))));
            r += -0.5*y + p1/p2;
        }
    } else if (ix < 0x40200000) {
        i = (int)x;
        y = x - (double)i;
        p = y*(nd_lg_s0+y*(nd_lg_s1+y*(nd_lg_s2+y*(nd_lg_s3+y*(nd_lg_s4+y*(nd_lg_s5+y*nd_lg_s6))))));
        q = 1.0+y*(nd_lg_r1+y*(nd_lg_r2+y*(nd_lg_r3+y*(nd_lg_r4+y*(nd_lg_r5+y*nd_lg_r6)))));
        r = 0.5*y+p/q;
        z = 1.0;
        for (int k = i; k > 2; k--)
            z *= y + (k - 1);
        if (i > 2)
            r += sd_log(z);
    } else if (ix < 0x43900000) {
        t = sd_log(x);
        z = 1.0/x;
        y = z*z;
        w = nd_lg_w0+z*(nd_lg_w1+y*(nd_lg_w2+y*(nd_lg_w3+y*(nd_lg_w4+y*(nd_lg_w5+y*nd_lg_w6)))));
        r = (x-0.5)*(t-1.0)+w;
    } else
        r =  x*(sd_log(x)-1.0);
    if (sign)
        r = nadj - r;
    return r;
}

#endif
