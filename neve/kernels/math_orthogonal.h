/* Orthogonal polynomials of degree n (truncated to an integer), by their recurrences, as torch.special's: sd_NAME(x, n); 0 for n <= -1, infinity and NaN. */
#ifndef NEVE_MATH_ORTHOGONAL_H
#define NEVE_MATH_ORTHOGONAL_H

#include "math_f64.h"

/* Degrees above this are taken to be this: the time of a call is bounded. */
#define NEVE_MAX_DEGREE 1000000.0

NEVE_INLINE int64_t neve_degree(double n)
{
    return n > -1 && n < __builtin_inf() ? (int64_t)(n < NEVE_MAX_DEGREE ? n : NEVE_MAX_DEGREE) : -1;
}

/* p(0) = 1, p(1) = first, p(k + 1) = next of p = p(k - 1), q = p(k), k. */
#define NEVE_POLYNOMIAL(name, first, next)                                       \
    NEVE_FN double sd_##name(double x, double degree)                            \
    {                                                                            \
        int64_t n = neve_degree(degree);                                         \
        double p = 1.0, q = first, k = 1.0;                                      \
        if (n <= 0)                                                              \
            return n < 0 ? 0.0 : 1.0;                                            \
        for (; k < (double)n; k += 1.0) {                                        \
            double r = next;                                                     \
            p = q;                                                               \
            q = r;                                                               \
        }                                                                        \
        return q;                                                                \
    }
NEVE_POLYNOMIAL(chebyshev_polynomial_t, x, (x + x) * q - p)
NEVE_POLYNOMIAL(chebyshev_polynomial_u, x + x, (x + x) * q - p)
NEVE_POLYNOMIAL(chebyshev_polynomial_v, x + x - 1.0, (x + x) * q - p)
NEVE_POLYNOMIAL(chebyshev_polynomial_w, x + x + 1.0, (x + x) * q - p)
NEVE_POLYNOMIAL(hermite_polynomial_h, x + x, (x + x) * q - (k + k) * p)
NEVE_POLYNOMIAL(hermite_polynomial_he, x, x * q - k * p)
NEVE_POLYNOMIAL(laguerre_polynomial_l, 1.0 - x, ((k + k + 1.0 - x) * q - k * p) / (k + 1.0))
NEVE_POLYNOMIAL(legendre_polynomial_p, x, ((k + k + 1.0) * x * q - k * p) / (k + 1.0))
#undef NEVE_POLYNOMIAL

#endif
