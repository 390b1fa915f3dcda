/* Integer arithmetic as PyTorch's on tensors, without traps or undefined behaviour: results wrap around.
 *
 * A division or remainder by zero, where eager raises, gives 0.
 */
#ifndef NEVE_MATH_INT_H
#define NEVE_MATH_INT_H

#include "rt.h"

#define NEVE_INT_FUNCTIONS(p, S, U)                                              \
    /* Rounded towards minus infinity. */                                        \
    NEVE_INLINE S p##_floordiv(S a, S b)                                         \
    {                                                                            \
        if (b == 0)                                                              \
            return 0;                                                            \
        if (b == -1)                                                             \
            return (S)(0u - (U)a);                                               \
        S q = a / b;                                                             \
        return q - ((a % b != 0) & ((a < 0) != (b < 0)));                        \
    }                                                                            \
    /* The sign of b. */                                                         \
    NEVE_INLINE S p##_mod(S a, S b)                                              \
    {                                                                            \
        if (b == 0 || b == -1)                                                   \
            return 0;                                                            \
        S r = a % b;                                                             \
        return r != 0 && (r < 0) != (b < 0) ? r + b : r;                         \
    }                                                                            \
    /* Rounded towards zero. */                                                  \
    NEVE_INLINE S p##_truncdiv(S a, S b)                                         \
    {                                                                            \
        if (b == 0)                                                              \
            return 0;                                                            \
        return b == -1 ? (S)(0u - (U)a) : a / b;                                 \
    }                                                                            \
    /* The sign of a. */                                                         \
    NEVE_INLINE S p##_fmod(S a, S b) { return b == 0 || b == -1 ? 0 : a % b; }   \
    /* For b < 0: 1 / a^-b rounded towards zero, 0 if a is 0. */                 \
    NEVE_INLINE S p##_pow(S a, S b)                                              \
    {                                                                            \
        if (b < 0)                                                               \
            return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;                  \
        U r = 1, base = (U)a;                                                    \
        for (U e = (U)b; e; e >>= 1, base *= base)                               \
            if (e & 1)                                                           \
                r *= base;                                                       \
        return (S)r;                                                             \
    }
NEVE_INT_FUNCTIONS(si64, int64_t, uint64_t)
NEVE_INT_FUNCTIONS(si32, int32_t, uint32_t)
#undef NEVE_INT_FUNCTIONS

#endif
