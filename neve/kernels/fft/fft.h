/* Discrete Fourier transforms of rows, unscaled, forward or as the operands' order says: see FORM.
 *
 * T float or double, IS_DOUBLE 0 or 1; ROWS how many (may be an expression in s[]); N length, a number; COUNT factors FACTORS of M, none above 31.
 * p[0] (N, 2), cos and -sin of 2 pi t / N.
 * FORM 0, complex: p[1], p[2] re and im (ROWS, N); p[3], p[4] the results. With re and im exchanged on both sides: the inverse.
 * FORM 1, real to complex: p[1] x (ROWS, N); p[2], p[3] re and im (ROWS, N / 2 + 1).
 * FORM 2, complex to real, inverse: p[1], p[2] re and im (ROWS, N / 2 + 1); p[3] x (ROWS, N). im of frequency 0, and of N / 2, is not used.
 *
 * M is the length of the complex transform: N, or N / 2 for a real one of even N, whose even elements are re and odd ones im.
 * Method: Stockham's self-sorting passes between two buffers (Swarztrauber 1984), on LANES rows side by side; on one row, a pass's
 * inner loop fills vectors as soon as the product of the factors before it is large enough. Scratch: 4 * M vectors of 64 bytes for
 * M <= 2048, else 4 * M of T; and 256 bytes.
 */
#define FFT_MANY 2048
#define KN_HALF (FORM != 0 && N % 2 == 0)
#define KN_M (KN_HALF ? N / 2 : N)

typedef T KN(vec) __attribute__((vector_size(NEVE_VL * 4), may_alias));
#define KN_LANES ((int64_t)(NEVE_VL * 4 / sizeof(T)))

static const int KN(factors)[] = {FACTORS};

#define E KN(vec)
#define LANES KN_LANES
#define VECTORS (IS_DOUBLE == 0)
#define FF(name) KN(many_##name)
#include "fft_passes.h"
#undef E
#undef LANES
#undef VECTORS
#undef FF

#define E T
#define LANES 1
#define VECTORS 0
#define FF(name) KN(one_##name)
#include "fft_passes.h"
#undef E
#undef LANES
#undef VECTORS
#undef FF

/* All passes on `lanes` rows side by side, from x and between x and y; returns where the result is, [0] re and [1] im. */
NEVE_INLINE T **KN(transform)(T **x, T **y, int64_t lanes, const T *w)
{
    int64_t n = KN_M, s = 1;
    for (int i = 0; i < COUNT; i++) {
        int64_t r = KN(factors)[i], m = n / r, inner = s * lanes;
        if (inner % KN_LANES == 0)
            KN(many_pass)((const KN(vec) *)x[0], (const KN(vec) *)x[1], (KN(vec) *)y[0], (KN(vec) *)y[1], r, m, inner / KN_LANES, w, N / n);
        else
            KN(one_pass)(x[0], x[1], y[0], y[1], r, m, inner, w, N / n);
        n = m, s *= r;
        T **t = x;
        x = y, y = t;
    }
    return x;
}

static void KN(run)(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)s;
    neve_range range = neve_share(ROWS, th);
    T *buffer = (T *)(void *)th->scratch;
    for (int64_t row = range.begin; row < range.end;) {
        int64_t left = range.end - row, many = KN_M <= FFT_MANY && 2 * left >= KN_LANES, lanes = many ? KN_LANES : 1, count = neve_min(left, lanes);
        int64_t size = (KN_M * lanes + KN_LANES - 1) / KN_LANES * KN_LANES; /* whole vectors */
        T *x[2] = {buffer, buffer + size}, *y[2] = {buffer + 2 * size, buffer + 3 * size};
        (many ? KN(many_read) : KN(one_read))(p, row, count, x);
        T **done = KN(transform)(x, y, lanes, (const T *)p[0]);
        (many ? KN(many_write) : KN(one_write))(p, row, count, done);
        row += count;
    }
}
#undef KN_HALF
#undef KN_M
#undef KN_LANES
#undef FFT_MANY
#undef T
#undef IS_DOUBLE
#undef ROWS
#undef N
#undef FORM
#undef FACTORS
#undef COUNT
