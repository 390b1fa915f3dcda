/* Functions on the bits of numbers, exact: nextafter, sign, absolute value, shifts as PyTorch's, greatest common divisor. */
#ifndef NEVE_MATH_BITS_H
#define NEVE_MATH_BITS_H

#include "rt.h"

/* The next number after x towards y; NaN if either is. */
#define NEVE_NEXTAFTER(name, T, I)                                               \
    NEVE_INLINE T name(T x, T y)                                                 \
    {                                                                            \
        union { T f; I i; } u = {x}, sign = {y};                                 \
        if (x != x || y != y)                                                    \
            return x + y;                                                        \
        if (x == y)                                                              \
            return y;                                                            \
        if (x == 0) {                                                            \
            u.i = (I)1 | (sign.i & ((I)1 << (sizeof(I) * 8 - 1)));               \
            return u.f;                                                          \
        }                                                                        \
        u.i += (x < y) == (x > 0) ? (I)1 : (I)-1;                                \
        return u.f;                                                              \
    }
NEVE_NEXTAFTER(sf_nextafter, float, uint32_t)
NEVE_NEXTAFTER(sd_nextafter, double, uint64_t)
#undef NEVE_NEXTAFTER

/* -1, 0 or 1. */
NEVE_INLINE int64_t si64_sign(int64_t a) { return (a > 0) - (a < 0); }

/* Wraps around for the smallest. */
NEVE_INLINE int64_t si64_abs(int64_t a) { return a < 0 ? (int64_t)(0 - (uint64_t)a) : a; }

/* a << n in an integer of that many bits; 0 if n is negative or too large. */
NEVE_INLINE int64_t si64_shift_left(int64_t a, int64_t n, int64_t bits)
{
    return n < 0 || n >= bits ? 0 : (int64_t)((uint64_t)a << n);
}

/* a >> n; 0, or -1 for negative a, if n is negative or too large. */
NEVE_INLINE int64_t si64_shift_right(int64_t a, int64_t n, int64_t bits)
{
    return a >> (n < 0 || n >= bits ? 63 : n);
}

/* >= 0. */
NEVE_INLINE int64_t si64_gcd(int64_t a, int64_t b)
{
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    while (y) {
        uint64_t r = x % y;
        x = y;
        y = r;
    }
    return (int64_t)x;
}

#endif
