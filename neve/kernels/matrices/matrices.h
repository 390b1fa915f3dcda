/* Batches of matrices, row-major and one after another: LU and Cholesky factors, systems of equations, exponentials.
 *
 * T float or double, TI the signed integer of its size; BATCH how many, N columns; these and M, K may be expressions in s[].
 * FORM 0, LU: p[0] A (M, N), or its transpose if TRANSPOSED -> p[1] L and U (M, N), p[2] pivots (STEPS, the less of M and N) int32_t,
 *   from 1, p[3] info, int32_t: the step, from 1, of the first pivot that is 0, or 0. A pivot is the first largest of its column.
 * FORM 1, LU solve: p[0] L and U (N, N), p[1] pivots (M <= N), p[2] B (N, K) -> p[3] X with A X = B, or A' X = B if ADJOINT.
 * FORM 2, triangular solve: p[0] A, p[1] B (N, K) -> p[2] X with A X = B, or A A' X = B if SQUARED; p[0] has A' if TRANSPOSED. UPPER, UNIT
 *   0 or 1: which triangle of A counts, and whether its diagonal counts as ones.
 * FORM 3, Cholesky: p[0] A (N, N), of which the lower triangle counts -> p[1] L, p[2] info, int32_t: the order of the first leading
 *   minor that is not positive, or 0; L is NaN from its column on.
 * FORM 4, exponential: p[0] A (N, N) -> p[1].
 *
 * Matrices are worked on side by side, one a lane of a vector, or one at a time, where they are large or few, by the same operations
 * in the same order: the bits do not depend on the batch. Scratch, of S elements a matrix (SCRATCH): min(S, WIDEST) vectors of 64
 * bytes, S of T, and 64 bytes.
 */
#include "../vec_f64.h"

typedef T KN(vec) __attribute__((vector_size(NEVE_VL * 4), may_alias));
typedef TI KN(ints) __attribute__((vector_size(NEVE_VL * 4), may_alias));
#define KN_LEAST (sizeof(T) == 4 ? (T)__FLT_MIN__ : (T)__DBL_MIN__)
#define KN_LANES ((int64_t)(NEVE_VL * 4 / sizeof(T)))

#define E KN(vec)
#define I KN(ints)
#define LANES KN_LANES
#define FF(name) KN(many_##name)
NEVE_INLINE I FF(integers)(TI x) { return (I){0} + x; }
NEVE_INLINE E FF(select)(I mask, E a, E b) { return (E)((mask & (I)a) | (~mask & (I)b)); }
NEVE_INLINE I FF(select_integers)(I mask, I a, I b) { return (mask & a) | (~mask & b); }
#include "forms.h"
#undef E
#undef I
#undef LANES
#undef FF

#define E T
#define I TI
#define LANES 1
#define FF(name) KN(one_##name)
NEVE_INLINE I FF(integers)(TI x) { return x; }
NEVE_INLINE E FF(select)(I mask, E a, E b) { return mask ? a : b; }
NEVE_INLINE I FF(select_integers)(I mask, I a, I b) { return mask ? a : b; }
#include "forms.h"
#undef E
#undef I
#undef LANES
#undef FF

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    neve_range range = neve_share(BATCH, th);
    int wide = SCRATCH <= WIDEST;
    for (int64_t first = range.begin; first < range.end;) {
        int64_t left = range.end - first, many = wide && 4 * left > KN_LANES, count = many ? neve_min(left, KN_LANES) : 1;
        if (many)
            KN(many_matrices)(p, s, first, count, (KN(vec) *)(void *)th->scratch);
        else
            KN(one_matrices)(p, s, first, count, (T *)(void *)th->scratch);
        first += count;
    }
}
#undef KN_LANES
#undef KN_LEAST
#undef T
#undef TI
#undef BATCH
#undef FORM
#undef M
#undef N
#undef K
#undef STEPS
#undef ADJOINT
#undef UPPER
#undef UNIT
#undef TRANSPOSED
#undef SQUARED
#undef SCRATCH
#undef WIDEST
