/* Special functions in float64. Bessel functions, ndtri, digamma and zeta are derived from the Cephes library, in PyTorch's form:
 *
 * Copyright (c) 2018, Steven Moshier. All rights reserved.
 * Redistribution and use in source and binary forms, with or without modification, are permitted provided that the following conditions
 * are met: redistributions of source code must retain the above copyright notice, this list of conditions and the following disclaimer;
 * redistributions in binary form must reproduce them in the documentation and/or other materials provided with the distribution; neither
 * the name of the nor the names of its contributors may be used to endorse or promote products derived from this software without
 * specific prior written permission.
 * THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT
 * LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL Steven
 * Moshier BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO,
 * PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY
 * OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
 * THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
 */
#ifndef NEVE_MATH_SPECIAL_H
#define NEVE_MATH_SPECIAL_H

#include "math_f64_gamma.h"

/* Coefficients from the highest power down. */
NEVE_FN double nd_poly(double x, const double *c, int n)
{
    double r = 0;
    for (int i = 0; i < n; i++)
        r = r * x + c[i];
    return r;
}

NEVE_FN double nd_chebyshev(double x, const double *c, int n)
{
    double b0 = c[0], b1 = 0, b2 = 0;
    for (int i = 1; i < n; i++) {
        b2 = b1;
        b1 = b0;
        b0 = x * b1 - b2 + c[i];
    }
    return 0.5 * (b0 - b2);
}

/* exp(-|x|) I0(x), 5 ulp. */
NEVE_FN double sd_i0e(double x)
{
    static const double near[30] = {
        -4.41534164647933937950E-18, 3.33079451882223809783E-17, -2.43127984654795469359E-16, 1.71539128555513303061E-15,
        -1.16853328779934516808E-14, 7.67618549860493561688E-14, -4.85644678311192946090E-13, 2.95505266312963983461E-12,
        -1.72682629144155570723E-11, 9.67580903537323691224E-11, -5.18979560163526290666E-10, 2.65982372468238665035E-9,
        -1.30002500998624804212E-8, 6.04699502254191894932E-8, -2.67079385394061173391E-7, 1.11738753912010371815E-6,
        -4.41673835845875056359E-6, 1.64484480707288970893E-5, -5.75419501008210370398E-5, 1.88502885095841655729E-4,
        -5.76375574538582365885E-4, 1.63947561694133579842E-3, -4.32430999505057594430E-3, 1.05464603945949983183E-2,
        -2.37374148058994688156E-2, 4.93052842396707084878E-2, -9.49010970480476444210E-2, 1.71620901522208775349E-1,
        -3.04682672343198398683E-1, 6.76795274409476084995E-1};
    static const double far[25] = {
        -7.23318048787475395456E-18, -4.83050448594418207126E-18, 4.46562142029675999901E-17, 3.46122286769746109310E-17,
        -2.82762398051658348494E-16, -3.42548561967721913462E-16, 1.77256013305652638360E-15, 3.81168066935262242075E-15,
        -9.55484669882830764870E-15, -4.15056934728722208663E-14, 1.54008621752140982691E-14, 3.85277838274214270114E-13,
        7.18012445138366623367E-13, -1.79417853150680611778E-12, -1.32158118404477131188E-11, -3.14991652796324136454E-11,
        1.18891471078464383424E-11, 4.94060238822496958910E-10, 3.39623202570838634515E-9, 2.26666899049817806459E-8,
        2.04891858946906374183E-7, 2.89137052083475648297E-6, 6.88975834691682398426E-5, 3.36911647825569408990E-3,
        8.04490411014108831608E-1};
    x = __builtin_fabs(x);
    if (x <= 8.0)
        return nd_chebyshev(x / 2.0 - 2.0, near, 30);
    return nd_chebyshev(32.0 / x - 2.0, far, 25) / neve_root64(x);
}

/* exp(-|x|) I1(x), 5 ulp. */
NEVE_FN double sd_i1e(double x)
{
    static const double near[29] = {
        2.77791411276104639959E-18, -2.11142121435816608115E-17, 1.55363195773620046921E-16, -1.10559694773538630805E-15,
        7.60068429473540693410E-15, -5.04218550472791168711E-14, 3.22379336594557470981E-13, -1.98397439776494371520E-12,
        1.17361862988909016308E-11, -6.66348972350202774223E-11, 3.62559028155211703701E-10, -1.88724975172282928790E-9,
        9.38153738649577178388E-9, -4.44505912879632808065E-8, 2.00329475355213526229E-7, -8.56872026469545474066E-7,
        3.47025130813767847674E-6, -1.32731636560394358279E-5, 4.78156510755005422638E-5, -1.61760815825896745588E-4,
        5.12285956168575772895E-4, -1.51357245063125314899E-3, 4.15642294431288815669E-3, -1.05640848946261981558E-2,
        2.47264490306265168283E-2, -5.29459812080949914269E-2, 1.02643658689847095384E-1, -1.76416518357834055153E-1,
        2.52587186443633654823E-1};
    static const double far[25] = {
        7.51729631084210481353E-18, 4.41434832307170791151E-18, -4.65030536848935832153E-17, -3.20952592199342395980E-17,
        2.96262899764595013876E-16, 3.30820231092092828324E-16, -1.88035477551078244854E-15, -3.81440307243700780478E-15,
        1.04202769841288027642E-14, 4.27244001671195135429E-14, -2.10154184277266431302E-14, -4.08355111109219731823E-13,
        -7.19855177624590851209E-13, 2.03562854414708950722E-12, 1.41258074366137813316E-11, 3.25260358301548823856E-11,
        -1.89749581235054123450E-11, -5.58974346219658380687E-10, -3.83538038596423702205E-9, -2.63146884688951950684E-8,
        -2.51223623787020892529E-7, -3.88256480887769039346E-6, -1.10588938762623716291E-4, -9.76109749136146840777E-3,
        7.78576235018280120474E-1};
    double a = __builtin_fabs(x), r;
    if (a <= 8.0)
        r = nd_chebyshev(a / 2.0 - 2.0, near, 29) * a;
    else
        r = nd_chebyshev(32.0 / a - 2.0, far, 25) / neve_root64(a);
    return x < 0 ? -r : r;
}

NEVE_FN double sd_i0(double x) { return sd_exp(__builtin_fabs(x)) * sd_i0e(x); }
NEVE_FN double sd_i1(double x) { return sd_exp(__builtin_fabs(x)) * sd_i1e(x); }

/* The inverse of ndtr. */
NEVE_FN double sd_ndtri(double y0)
{
    static const double p0[5] = {
        -5.99633501014107895267E1, 9.80010754185999661536E1, -5.66762857469070293439E1, 1.39312609387279679503E1,
        -1.23916583867381258016E0};
    static const double q0[9] = {
        1.00000000000000000000E0, 1.95448858338141759834E0, 4.67627912898881538453E0, 8.63602421390890590575E1,
        -2.25462687854119370527E2, 2.00260212380060660359E2, -8.20372256168333339912E1, 1.59056225126211695515E1,
        -1.18331621121330003142E0};
    static const double p1[9] = {
        4.05544892305962419923E0, 3.15251094599893866154E1, 5.71628192246421288162E1, 4.40805073893200834700E1,
        1.46849561928858024014E1, 2.18663306850790267539E0, -1.40256079171354495875E-1, -3.50424626827848203418E-2,
        -8.57456785154685413611E-4};
    static const double q1[9] = {
        1.00000000000000000000E0, 1.57799883256466749731E1, 4.53907635128879210584E1, 4.13172038254672030440E1,
        1.50425385692907503408E1, 2.50464946208309415979E0, -1.42182922854787788574E-1, -3.80806407691578277194E-2,
        -9.33259480895457427372E-4};
    static const double p2[9] = {
        3.23774891776946035970E0, 6.91522889068984211695E0, 3.93881025292474443415E0, 1.33303460815807542389E0,
        2.01485389549179081538E-1, 1.23716634817820021358E-2, 3.01581553508235416007E-4, 2.65806974686737550832E-6,
        6.23974539184983293730E-9};
    static const double q2[9] = {
        1.00000000000000000000E0, 6.02427039364742014255E0, 3.67983563856160859403E0, 1.37702099489081330271E0,
        2.16236993594496635890E-1, 1.34204006088543189037E-2, 3.28014464682127739104E-4, 2.89247864745380683936E-6,
        6.79019408009981274425E-9};
    if (y0 == 0.0 || y0 == 1.0)
        return y0 == 0.0 ? -__builtin_inf() : __builtin_inf();
    if (!(y0 > 0.0 && y0 < 1.0))
        return __builtin_nan("");
    int upper = y0 > 1.0 - 0.13533528323661269189;
    double y = upper ? 1.0 - y0 : y0;
    if (y > 0.13533528323661269189) {
        y -= 0.5;
        double v = y * y;
        return (y + y * (v * nd_poly(v, p0, 5) / nd_poly(v, q0, 9))) * 2.50662827463100050242;
    }
    double x = neve_root64(-2.0 * sd_log(y)), z = 1.0 / x;
    double x0 = x - sd_log(x) / x;
    double x1 = x < 8.0 ? z * nd_poly(z, p1, 9) / nd_poly(z, q1, 9) : z * nd_poly(z, p2, 9) / nd_poly(z, q2, 9);
    return upper ? x0 - x1 : x1 - x0;
}

/* The normal distribution function, erfc(-x / sqrt 2) / 2. */
NEVE_FN double sd_ndtr(double x) { return 0.5 * sd_erfc(x * -0.70710678118654752440); }

/* Its logarithm, without underflow of the lower tail. */
NEVE_FN double sd_log_ndtr(double x)
{
    if (x > -1.0)
        return sd_log1p(-0.5 * sd_erfc(x * 0.70710678118654752440));
    if (x > -37.0)
        return sd_log(sd_ndtr(x));
    double s = 1.0 / (x * x);
    return -0.5 * x * x - sd_log(-x) - 0.91893853320467274178 + sd_log1p(-s * (1 - 3 * s * (1 - 5 * s * (1 - 7 * s * (1 - 9 * s)))));
}

/* As in PyTorch: a rational start and two steps of Newton. */
NEVE_FN double sd_erfinv(double y)
{
    double a = __builtin_fabs(y), x;
    if (!(a <= 1.0))
        return __builtin_nan("");
    if (a == 1.0)
        return __builtin_copysign(__builtin_inf(), y);
    if (a <= 0.7) {
        double z = y * y;
        x = y * (((-0.140543331 * z + 0.914624893) * z - 1.645349621) * z + 0.886226899)
            / ((((0.012229801 * z - 0.329097515) * z + 1.442710462) * z - 2.118377725) * z + 1.0);
    } else {
        double z = neve_root64(-sd_log((1.0 - a) / 2.0));
        x = ((1.641345311 * z + 3.429567803) * z - 1.624906493) * z - 1.970840454;
        x = __builtin_copysign(x, y) / ((1.637067800 * z + 3.543889200) * z + 1.0);
    }
    for (int i = 0; i < 2; i++)
        x -= (sd_erf(x) - y) / (1.12837916709551257390 * sd_exp(-x * x));
    return x;
}

NEVE_FN double sd_digamma(double x)
{
    static const double a[7] = {
        8.33333333333333333333E-2, -2.10927960927960927961E-2, 7.57575757575757575758E-3, -4.16666666666666666667E-3,
        3.96825396825396825397E-3, -8.33333333333333333333E-3, 8.33333333333333333333E-2};
    double reflected = 0;
    if (x == 0)
        return __builtin_copysign(__builtin_inf(), -x);
    if (x < 0) {
        double whole = sd_trunc(x);
        if (x == whole)
            return __builtin_nan("");
        reflected = -3.14159265358979323846 / sd_tan(3.14159265358979323846 * (x - whole));
        x = 1 - x;
    }
    double r = 0;
    for (; x < 10; x += 1)
        r -= 1 / x;
    double z = 1 / (x * x);
    double y = x < 1e17 ? z * nd_poly(z, a, 7) : 0;
    r = x == 10 ? r + 2.25175258906672110764 : r + sd_log(x) - 0.5 / x - y;
    return r + reflected;
}

NEVE_FN double sd_trigamma(double x)
{
    double sign = 1, r = 0;
    if (x < 0.5) {
        double s = sd_sin(3.14159265358979323846 * x);
        sign = -1;
        r = -9.86960440108935861883 / (s * s);
        x = 1 - x;
    }
    for (; x < 12; x += 1)
        r += 1 / (x * x);
    double v = 1 / (x * x);
    double tail = 1. / 6 + v * (-1. / 30 + v * (1. / 42 + v * (-1. / 30 + v * (5. / 66 + v * (-691. / 2730 + v * (7. / 6))))));
    r += (1 + 0.5 / x + v * tail) / x;
    return sign * r;
}

/* The Hurwitz zeta function. */
NEVE_FN double sd_zeta(double x, double q)
{
    static const double c[12] = {
        12.0, -720.0, 30240.0, -1209600.0, 47900160.0, -1.8924375803183791606e9, 7.47242496e10, -2.950130727918164224e12,
        1.1646782814350067249e14, -4.5979787224074726105e15, 1.8152105401943546773e17, -7.1661652561756670113e18};
    if (x == 1.0)
        return __builtin_inf();
    if (x < 1.0)
        return __builtin_nan("");
    if (q <= 0.0) {
        if (q == sd_floor(q))
            return __builtin_inf();
        if (x != sd_floor(x))
            return __builtin_nan("");
    }
    double s = sd_pow(q, -x), a = q, b = 0;
    for (int i = 0; i < 9 || a <= 9.0; i++) {
        a += 1.0;
        b = sd_pow(a, -x);
        s += b;
        if (-0x1p-53 * s < b && b < 0x1p-53 * s)
            return s;
    }
    double w = a, k = 0;
    s += b * w / (x - 1.0) - 0.5 * b;
    a = 1.0;
    for (int i = 0; i < 12; i++, k += 2.0) {
        a *= x + k;
        b /= w;
        double t = a * b / c[i];
        s += t;
        if (__builtin_fabs(t / s) < 0x1p-53)
            return s;
        a *= x + k + 1.0;
        b /= w;
    }
    return s;
}

/* The n-th derivative of digamma, n >= 0. */
NEVE_FN double sd_polygamma(double n, double x)
{
    if (n == 0.0)
        return sd_digamma(x);
    if (n == 1.0)
        return sd_trigamma(x);
    double r = sd_exp(sd_lgamma(n + 1.0)) * sd_zeta(n + 1.0, x);
    return sd_trunc(n / 2.0) * 2.0 == n ? -r : r;
}

/* The sign of x; exact. */
NEVE_FN double sd_fmod(double x, double y)
{
    union {double f; uint64_t i;} ux = {x}, uy = {y};
    int ex = ux.i>>52 & 0x7ff;
    int ey = uy.i>>52 & 0x7ff;
    int sx = ux.i>>63;
    uint64_t i;
    uint64_t uxi = ux.i;
    if (uy.i<<1 == 0 || y != y || ex == 0x7ff)
        return (x*y)/(x*y);
    if (uxi<<1 <= uy.i<<1) {
        if (uxi<<1 == uy.i<<1)
            return 0*x;
        return x;
    }
    if (!ex) {
        for (i = uxi<<12; i>>63 == 0; ex--, i <<= 1);
        uxi <<= -ex + 1;
    } else {
        uxi &= -1ULL >> 12;
        uxi |= 1ULL << 52;
    }
    if (!ey) {
        for (i = uy.i<<12; i>>63 == 0; ey--, i <<= 1);
        uy.i <<= -ey + 1;
    } else {
        uy.i &= -1ULL >> 12;
        uy.i |= 1ULL << 52;
    }
    for (; ex > ey; ex--) {
        i = uxi - uy.i;
        if (i >> 63 == 0) {
            if (i == 0)
                return 0*x;
            uxi = i;
        }
        uxi <<= 1;
    }
    i = uxi - uy.i;
    if (i >> 63 == 0) {
        if (i == 0)
            return 0*x;
        uxi = i;
    }
    for (; uxi>>52 == 0; uxi <<= 1, ex--);
    if (ex > 0) {
        uxi -= 1ULL << 52;
        uxi |= (uint64_t)ex << 52;
    } else {
        uxi >>= -ex + 1;
    }
    uxi |= (uint64_t)sx << 63;
    ux.i = uxi;
    return ux.f;
}

/* The sign of b, as Python's %. */
NEVE_FN double sd_remainder(double a, double b)
{
    double r = sd_fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

/* floor(a / b) of the exact quotient, as torch.floor_divide. */
NEVE_FN double sd_floordiv(double a, double b)
{
    if (b == 0)
        return a / b;
    double r = sd_fmod(a, b), q = (a - r) / b;
    if (r != 0 && (b < 0) != (r < 0))
        q -= 1;
    if (q == 0)
        return __builtin_copysign(0.0, a / b);
    double whole = sd_floor(q);
    return q - whole > 0.5 ? whole + 1 : whole;
}

NEVE_FN double sd_xlogy(double x, double y) { return y != y ? y : x == 0 ? 0 : x * sd_log(y); }
NEVE_FN double sd_xlog1py(double x, double y) { return y != y ? y : x == 0 ? 0 : x * sd_log1p(y); }
/* sin(pi x) / (pi x). */
NEVE_FN double sd_sinc(double x)
{
    double p = 3.14159265358979323846 * x;
    return x == 0 ? 1 : sd_sin(p) / p;
}

NEVE_FN double sd_sigmoid(double x)
{
    double e = sd_exp(-__builtin_fabs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}
NEVE_FN double sd_softplus(double x) { return (x > 0 ? x : x == x ? 0 : x) + sd_log1p(sd_exp(-__builtin_fabs(x))); }
NEVE_FN double sd_logsigmoid(double x) { return -sd_softplus(-x); }
NEVE_FN double sd_silu(double x) { return x * sd_sigmoid(x); }
/* By erfc, so that the negative tail keeps its relative accuracy. */
NEVE_FN double sd_gelu(double x) { return 0.5 * x * sd_erfc(x * -0.70710678118654752440); }
NEVE_FN double sd_gelu_tanh(double x)
{
    return x * sd_sigmoid(1.59576912160573071176 * (x + 0.044715 * x * x * x));
}
NEVE_FN double sd_mish(double x)
{
    double w = sd_exp(x < 40 ? x : x == x ? 40 : x), n = w * (w + 2);
    return x * (n / (n + 2));
}
NEVE_HOT double sd_sqrt(double x) { return neve_root64(x); }
NEVE_HOT double sd_rsqrt(double x) { return 1 / neve_root64(x); }
NEVE_HOT double sd_recip(double x) { return 1 / x; }
#if NEVE_FMA
NEVE_HOT double sd_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
NEVE_HOT double sd_fma(double a, double b, double c) { return a * b + c; }
#endif
NEVE_HOT double sd_abs(double x) { return __builtin_fabs(x); }
/* -1, 0 or 1; 0 for NaN, as torch.sign. */
NEVE_HOT double sd_sign(double x) { return (double)((x > 0) - (x < 0)); }
/* NaN if either is. */
NEVE_HOT double sd_maximum(double a, double b) { return a != a ? a : a > b ? a : b; }
NEVE_HOT double sd_minimum(double a, double b) { return a != a ? a : a < b ? a : b; }
/* The other one if one is NaN. */
NEVE_HOT double sd_fmax(double a, double b) { return b != b ? a : a > b ? a : b; }
NEVE_HOT double sd_fmin(double a, double b) { return b != b ? a : a < b ? a : b; }

/* 2 ulp; infinite if either is, even beside NaN. */
NEVE_FN double sd_hypot(double x, double y)
{
    double a = __builtin_fabs(x), b = __builtin_fabs(y), high = a > b ? a : b;
    if (a == __builtin_inf() || b == __builtin_inf())
        return __builtin_inf();
    if (a != a || b != b)
        return a + b;
    uint64_t e = nd_bits(high) >> 52;
    e = e < 1 ? 1 : e > 2045 ? 2045 : e;
    double down = nd_from((2046 - e) << 52), u = a * down, v = b * down;
    return neve_root64(u * u + v * v) * nd_from(e << 52);
}

#endif
