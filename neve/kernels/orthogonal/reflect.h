/* Householder reflections and Givens rotations of doubles, by LAPACK's formulas and with its signs; rows are contiguous.
 *
 * All arithmetic of this folder is in double, whatever the type of the matrices. The signs of the results, which mathematics leaves open,
 * follow from the order of operations, from where iterations end, and from the signs of rotations; all three are those of LAPACK as MKL
 * has it. neve/ops/orthogonal_reference.py and singular_reference.py say the same in Python.
 */
#ifndef NEVE_ORTHOGONAL_REFLECT_H
#define NEVE_ORTHOGONAL_REFLECT_H

#include "../rt.h"

#define NEVE_TINY 0x1p-1022
#define NEVE_SMALL 0x1p-900
#define NEVE_LARGE 0x1p600
#define NEVE_DIVIDED 25 /* LAPACK divides and conquers larger bidiagonal and tridiagonal matrices, which decides on signs */

NEVE_INLINE double neve_abs(double x) { return __builtin_fabs(x); }
NEVE_INLINE double neve_sign(double x, double of) { return __builtin_copysign(x, of); }
NEVE_INLINE double neve_larger(double a, double b) { return a > b ? a : b; }

/* The norm of n elements, inc apart. */
NEVE_NOINLINE double neve_norm(const double *x, int64_t n, int64_t inc)
{
    double sum = 0, most = 0, scaled = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i * inc] * x[i * inc];
    if (!(sum < 1e-250 || sum > 1e250))
        return neve_root64(sum);
    for (int64_t i = 0; i < n; i++)
        most = neve_larger(most, neve_abs(x[i * inc]));
    if (most == 0 || most > 1.7976931348623157e308)
        return most;
    for (int64_t i = 0; i < n; i++)
        scaled += x[i * inc] / most * (x[i * inc] / most);
    return most * neve_root64(scaled);
}

/* H = I - tau v v' with H x = (beta, 0, ...): x becomes v without its first element, which is 1, and beta before it. tau. Numbers that
 * are nearly denormal have too few bits for an orthogonal H: they are made larger meanwhile. */
NEVE_NOINLINE double neve_reflect(double *x, int64_t n, int64_t inc)
{
    double norm = n > 1 ? neve_norm(x + inc, n - 1, inc) : 0, back = 1;
    if (norm == 0)
        return 0;
    if (NEVE_UNLIKELY(norm < NEVE_SMALL && neve_abs(x[0]) < NEVE_SMALL)) {
        for (int64_t i = 0; i < n; i++)
            x[i * inc] *= NEVE_LARGE;
        norm = neve_norm(x + inc, n - 1, inc);
        back = 1 / NEVE_LARGE;
    }
    double alpha = x[0], both[2] = {alpha, norm}, beta = neve_norm(both, 2, 1);
    beta = alpha < 0 ? beta : -beta; /* -0 counts as positive */
    double by = alpha - beta;
    for (int64_t i = 1; i < n; i++)
        x[i * inc] /= by;
    x[0] = beta * back;
    return (beta - alpha) / beta;
}

/* H a, of n rows of count elements, ld apart; v as neve_reflect leaves it; w has count elements. */
NEVE_NOINLINE void neve_apply(const double *v, int64_t inc, double tau, double *a, int64_t n, int64_t ld, int64_t count, double *NEVE_RESTRICT w)
{
    if (tau == 0)
        return;
    for (int64_t j = 0; j < count; j++)
        w[j] = a[j];
    for (int64_t i = 1; i < n; i++)
        for (int64_t j = 0; j < count; j++)
            w[j] += v[i * inc] * a[i * ld + j];
    for (int64_t j = 0; j < count; j++) {
        w[j] *= tau;
        a[j] -= w[j];
    }
    for (int64_t i = 1; i < n; i++)
        for (int64_t j = 0; j < count; j++)
            a[i * ld + j] -= v[i * inc] * w[j];
}

/* Columns of a (m rows of n, ld apart) reduced to upper triangular form, the reflections below the diagonal; w: n elements. */
NEVE_INLINE void neve_triangularize(double *a, int64_t m, int64_t n, int64_t ld, double *tau, double *w)
{
    for (int64_t k = 0; k < neve_min(m, n); k++) {
        double *x = a + k * ld + k;
        tau[k] = neve_reflect(x, m - k, ld);
        neve_apply(x, ld, tau[k], x + 1, m - k, ld, n - k - 1, w);
    }
}

/* c f + s g = r, c g - s f = 0. r has the sign of f; if older, as LAPACK before 3.10 has it, that is so where |f| > |g|, else r > 0. */
NEVE_INLINE double neve_turn(double f, double g, double square, int older, double *c, double *s)
{
    double root = neve_root64(square), r = older && neve_abs(f) <= neve_abs(g) ? root : neve_sign(root, f);
    *c = f / r;
    *s = g / r;
    return r;
}

NEVE_INLINE double neve_rotation(double f, double g, int older, double *c, double *s)
{
    if (g == 0 || f == 0) {
        double sign = older || g == 0 ? 1 : neve_sign(1, g);
        *c = g == 0, *s = g == 0 ? 0 : sign;
        return g == 0 ? f : g * sign;
    }
    double square = f * f + g * g;
    if (NEVE_UNLIKELY(square < NEVE_SMALL)) {
        f *= NEVE_LARGE, g *= NEVE_LARGE;
        return 1 / NEVE_LARGE * neve_turn(f, g, f * f + g * g, older, c, s);
    }
    return neve_turn(f, g, square, older, c, s);
}

/* Rows (x, y) = (c x + s y, c y - s x). */
NEVE_NOINLINE void neve_rotate(double *x, double *y, int64_t n, double c, double s)
{
    for (int64_t i = 0; i < n; i++) {
        double a = x[i], b = y[i];
        x[i] = c * a + s * b;
        y[i] = c * b - s * a;
    }
}

NEVE_NOINLINE void neve_exchange(double *x, double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}

NEVE_INLINE void neve_negate(double *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = -x[i];
}

NEVE_INLINE void neve_identity(double *a, int64_t n)
{
    for (int64_t i = 0; i < n * n; i++)
        a[i] = 0;
    for (int64_t i = 0; i < n; i++)
        a[i * n + i] = 1;
}

/* n elements scaled by a power of two that brings the largest near 1, so that they can be squared; the power, 0 if one is not finite. */
NEVE_INLINE double neve_scale(double *a, int64_t n)
{
    double most = 0, scale = 1, wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        wrong += a[i] * 0;
        most = neve_larger(neve_abs(a[i]), most);
    }
    if (wrong != 0)
        return 0;
    if (most != 0) {
        uint64_t bits;
        __builtin_memcpy(&bits, &most, 8);
        bits = (uint64_t)neve_max(1, neve_min(2046 - (int64_t)(bits >> 52), 2000)) << 52;
        __builtin_memcpy(&scale, &bits, 8);
    }
    for (int64_t i = 0; i < n; i++)
        a[i] *= scale;
    return scale;
}

#endif
