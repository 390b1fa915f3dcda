/* Bessel, Airy and scaled error functions, and incomplete gamma functions, in float64: within 1e-12 (airy_ai 1e-9) of the largest nearby value.
 *
 * At the infinities as in eager, which gives NaN for J and Y.
 */
#ifndef NEVE_MATH_BESSEL_H
#define NEVE_MATH_BESSEL_H

#include "math_f64.h"
#include "math_f64_gamma.h"
#include "math_f64_trig.h"
#include "math_special.h"

#define NEVE_PI 3.141592653589793
#define NEVE_EULER 0.5772156649015329

/* Hankel's asymptotic series of order v at x: P and Q. */
NEVE_FN void neve_hankel(double v, double x, double *p, double *q)
{
    double mu = 4.0 * v * v, t = 1.0, sum[2] = {1.0, 0.0};
    for (int k = 1; k < 60; k++) {
        double next = t * (mu - (2.0 * k - 1.0) * (2.0 * k - 1.0)) / (8.0 * k * x);
        if (__builtin_fabs(next) > __builtin_fabs(t) || __builtin_fabs(next) < 1e-18)
            break;
        t = next;
        sum[k & 1] += k & 2 ? -t : t;
    }
    *p = sum[0];
    *q = sum[1];
}

/* J and Y of order 0 or 1 at x > 0: Miller's recurrence and Neumann's series (Abramowitz and Stegun 9.1.88) to 25, then Hankel's. */
NEVE_FN void neve_bessel_jy(int order, double x, double *j, double *y)
{
    if (x > 25.0) {
        double p, q, scale = sd_sqrt(2.0 / (NEVE_PI * x)), shift = order ? 2.356194490192345 : 0.7853981633974483;
        neve_hankel(order, x, &p, &q);
        double c = sd_cos(x), s = sd_sin(x), cs = sd_cos(shift), ss = sd_sin(shift);
        double cosine = c * cs + s * ss, sine = s * cs - c * ss;
        *j = scale * (p * cosine - q * sine);
        *y = scale * (p * sine + q * cosine);
        return;
    }
    int top = 24 + 2 * (int)x;
    double above = 0, here = 1e-300, norm = 0, y0 = 0, y1 = 0, j1 = 0;
    for (int n = top; n > 0; n--) {
        if (n % 2 == 0) {
            double term = here / (n / 2);
            norm += 2.0 * here;
            y0 += n / 2 % 2 ? -term : term;
        } else if (n > 1) {
            double k = n / 2;
            double term = here * n / (k * (k + 1.0));
            y1 += n / 2 % 2 ? -term : term;
        } else
            j1 = here;
        double below = 2.0 * n / x * here - above;
        above = here;
        here = below;
        if (__builtin_fabs(here) > 1e200) {
            double down = 1e-200;
            above *= down, here *= down, norm *= down, y0 *= down, y1 *= down, j1 *= down;
        }
    }
    norm = 1.0 / (norm + here);
    double log = sd_log(0.5 * x) + NEVE_EULER;
    *j = (order ? j1 : here) * norm;
    *y = order ? 2.0 / NEVE_PI * ((log - 1.0) * j1 - here / x - y1) * norm : 2.0 / NEVE_PI * (log * here - 2.0 * y0) * norm;
}

NEVE_FN double sd_bessel_j0(double x)
{
    double j, y, a = __builtin_fabs(x);
    if (!(a < __builtin_inf()))
        return __builtin_nan("");
    if (a < 1e-8)
        return 1.0;
    neve_bessel_jy(0, a, &j, &y);
    return j;
}

NEVE_FN double sd_bessel_j1(double x)
{
    double j, y, a = __builtin_fabs(x);
    if (!(a < __builtin_inf()))
        return __builtin_nan("");
    if (a < 1e-8)
        return 0.5 * x;
    neve_bessel_jy(1, a, &j, &y);
    return x < 0 ? -j : j;
}

NEVE_FN double neve_bessel_y(int order, double x)
{
    double j, y;
    if (!(x > 0.0))
        return x == 0.0 ? -__builtin_inf() : __builtin_nan("");
    if (x == __builtin_inf())
        return __builtin_nan("");
    if (x < 1e-8)
        return order ? -2.0 / (NEVE_PI * x) : 2.0 / NEVE_PI * (sd_log(0.5 * x) + NEVE_EULER);
    neve_bessel_jy(order, x, &j, &y);
    return y;
}
NEVE_FN double sd_bessel_y0(double x) { return neve_bessel_y(0, x); }
NEVE_FN double sd_bessel_y1(double x) { return neve_bessel_y(1, x); }

/* exp(x) K of order v at x > 0: the trapezoid rule on the integral of exp(-x (cosh t - 1)) cosh(v t), beyond 25 the asymptotic series. */
NEVE_FN double neve_bessel_k(double v, double x)
{
    if (x > 25.0) {
        double mu = 4.0 * v * v, t = 1.0, sum = 1.0;
        for (int k = 1; k < 50 && __builtin_fabs(t) > 1e-18; k++) {
            t *= (mu - (2.0 * k - 1.0) * (2.0 * k - 1.0)) / (8.0 * k * x);
            sum += t;
        }
        return sd_sqrt(NEVE_PI / (2.0 * x)) * sum;
    }
    double sum = 0.5, h = 0.1;
    for (int k = 1; k < 8000; k++) {
        double t = h * k, s = sd_sinh(0.5 * t), e = 2.0 * x * s * s;
        if (e > 745.0)
            break;
        sum += sd_exp(-e) * sd_cosh(v * t);
    }
    return h * sum;
}

NEVE_FN double neve_bessel_k_edge(double order, double x, int scaled)
{
    if (!(x > 0.0))
        return x == 0.0 ? __builtin_inf() : __builtin_nan("");
    if (x < 1e-290)
        return order > 0.0 ? 1.0 / x : -(sd_log(0.5 * x) + NEVE_EULER);
    return neve_bessel_k(order, x) * (scaled ? 1.0 : sd_exp(-x));
}
NEVE_FN double sd_modified_bessel_k0(double x) { return neve_bessel_k_edge(0.0, x, 0); }
NEVE_FN double sd_modified_bessel_k1(double x) { return neve_bessel_k_edge(1.0, x, 0); }
NEVE_FN double sd_scaled_modified_bessel_k0(double x) { return neve_bessel_k_edge(0.0, x, 1); }
NEVE_FN double sd_scaled_modified_bessel_k1(double x) { return neve_bessel_k_edge(1.0, x, 1); }

NEVE_FN double sd_spherical_bessel_j0(double x)
{
    double a = __builtin_fabs(x);
    if (a == __builtin_inf())
        return 0.0;
    return a < 1e-3 ? 1.0 - x * x / 6.0 * (1.0 - x * x / 20.0) : sd_sin(x) / x;
}

/* Ai: by K of order 1/3 for x > 1, its power series to -7, below that its asymptotic series. NaN at the infinities, as in torch. */
NEVE_FN double sd_airy_ai(double x)
{
    double a = __builtin_fabs(x);
    if (!(a < __builtin_inf()))
        return __builtin_nan("");
    double zeta = 2.0 / 3.0 * a * sd_sqrt(a);
    if (x > 1.0)
        return sd_sqrt(x / 3.0) / NEVE_PI * neve_bessel_k(1.0 / 3.0, zeta) * sd_exp(-zeta);
    if (x < -7.0) {
        double u = 1.0, sum[2] = {1.0, 0.0};
        for (int k = 1; k < 20; k++) {
            double next = u * (6.0 * k - 5.0) * (6.0 * k - 1.0) / (72.0 * k * zeta);
            if (next > u)
                break;
            u = next;
            sum[k & 1] += k & 2 ? -u : u;
        }
        double t = zeta + 0.7853981633974483;
        return (sd_sin(t) * sum[0] - sd_cos(t) * sum[1]) / (sd_sqrt(NEVE_PI) * sd_sqrt(sd_sqrt(a)));
    }
    double f = 1.0, g = x, even = 1.0, odd = x, cube = x * x * x;
    for (double k = 3.0; k < 150.0; k += 3.0) {
        even *= cube / (k * (k - 1.0));
        odd *= cube / (k * (k + 1.0));
        f += even;
        g += odd;
    }
    return 0.355028053887817239 * f - 0.258819403792806798 * g;
}

/* exp(x x) erfc(x). */
NEVE_FN double sd_erfcx(double x)
{
    if (x < 25.0)
        return sd_exp(x * x) * sd_erfc(x);
    double y = 1.0 / (x * x);
    return (1.0 - 0.5 * y * (1.0 - 1.5 * y * (1.0 - 2.5 * y * (1.0 - 3.5 * y)))) / (x * 1.772453850905516);
}

/* The regularized incomplete gamma functions, lower if !upper: power series below a + 1, else Lentz' continued fraction. */
NEVE_FN double neve_igamma(double a, double x, int upper)
{
    double inf = __builtin_inf(), one = upper ? 0.0 : 1.0;
    if (a < 0.0 || x < 0.0 || (a == 0.0 && !(x > 0.0)) || (a == inf && x == inf))
        return __builtin_nan("");
    if (x == 0.0 || a == inf)
        return 1.0 - one;
    if (a == 0.0 || x == inf)
        return one;
    if (a != a || x != x)
        return a + x;
    double scale = sd_exp(a * sd_log(x) - x - sd_lgamma(a));
    if (x < a + 1.0) {
        double term = 1.0 / a, sum = term;
        for (double k = a + 1.0; k < a + 100000.0 && term > 1e-17 * sum; k += 1.0) {
            term *= x / k;
            sum += term;
        }
        return upper ? 1.0 - scale * sum : scale * sum;
    }
    double b = x + 1.0 - a, c = 1e300, d = 1.0 / b, h = d;
    for (double k = 1.0; k < 100000.0; k += 1.0) {
        double n = -k * (k - a);
        b += 2.0;
        d = 1.0 / (n * d + b);
        c = b + n / c;
        h *= c * d;
        if (__builtin_fabs(c * d - 1.0) < 1e-16)
            break;
    }
    return upper ? scale * h : 1.0 - scale * h;
}
NEVE_FN double sd_igamma(double a, double x) { return neve_igamma(a, x, 0); }
NEVE_FN double sd_igammac(double a, double x) { return neve_igamma(a, x, 1); }

/* x = mantissa 2^exponent with 0.5 <= |mantissa| < 1; x itself and 0 for 0, NaN and the infinities. */
NEVE_FN double sd_frexp_exponent(double x)
{
    union { double f; uint64_t i; } u = {x};
    int e = (int)(u.i >> 52 & 0x7ff);
    if (x == 0.0 || e == 0x7ff)
        return 0.0;
    if (e == 0) {
        u.f = x * 0x1p54;
        return (double)(int)(u.i >> 52 & 0x7ff) - 1022.0 - 54.0;
    }
    return (double)e - 1022.0;
}

NEVE_FN double sd_frexp_mantissa(double x)
{
    union { double f; uint64_t i; } u = {x};
    int e = (int)(u.i >> 52 & 0x7ff);
    if (x == 0.0 || e == 0x7ff)
        return x;
    if (e == 0)
        u.f = x * 0x1p54;
    u.i = (u.i & 0x800fffffffffffffu) | 0x3fe0000000000000u;
    return u.f;
}

#undef NEVE_PI
#undef NEVE_EULER

#endif
