/* The inner loop of a register tile, as statements within a function:
 *
 *     for (; k < end; k++)  acc[r][j] = A(r, k) * B(k, j) + acc[r][j],     r < TERMS_ROWS, j < TERMS_NV
 *
 * In scope: int64_t k and end, vf acc[][]. The sums are taken term by term, so the bits do not depend on how A is loaded. All macros
 * are undefined at the end:
 *
 *   TERMS_ROWS, TERMS_NV    rows and vectors: literals, or arguments of a function that is inlined with literals
 *   TERMS_MOST_ROWS, TERMS_MOST_NV    literal bounds of these if they are arguments
 *   TERMS_A(r)              pointer to element (r, k) of A
 *   TERMS_ADJACENT          an expression: whether the elements k, k + 1, ... of a row lie side by side. Where a multiply-add takes a
 *                           lane of a vector (NEVE_BY_LANE) one load then brings four of them; A occupies TERMS_ROWS registers
 *   TERMS_B                 a variable, the next row of a packed B of velem: it is advanced by TERMS_NV vectors a term
 *   TERMS_LOAD_B(w)         in place of TERMS_B: statements that load term k of B into w[0], w[1], ... and advance to the next
 *   TERMS_EACH              optional: a statement for each term
 *   TERMS_HALF              optional: 1 adds half[r] += A(r, k) * wh, of half vectors; TERMS_LOAD_B sets wh as well
 */
#ifndef TERMS_MOST_ROWS
#define TERMS_MOST_ROWS TERMS_ROWS
#define TERMS_MOST_NV TERMS_NV
#endif
#ifndef TERMS_LOAD_B
#define TERMS_LOAD_B(w)                        \
    NEVE_UNROLL                                \
    for (int j = 0; j < TERMS_NV; j++)         \
        w[j] = vload(TERMS_B + j * NEVE_VL);   \
    TERMS_B += TERMS_NV * NEVE_VL
#endif
#ifndef TERMS_EACH
#define TERMS_EACH
#endif
#if TERMS_HALF
#define TERMS_WH vh wh
#define TERMS_ADD_HALF(r) half[r] = vfmah(vlow(x), wh, half[r])
#else
#define TERMS_WH
#define TERMS_ADD_HALF(r)
#endif

/* One term; of_row is row r's element of A. */
#define TERMS_ONE(of_row)                         \
    {                                             \
        vf w[TERMS_MOST_NV];                      \
        TERMS_WH;                                 \
        (void)w;                                  \
        TERMS_EACH;                               \
        TERMS_LOAD_B(w);                          \
        NEVE_UNROLL                               \
        for (int r = 0; r < TERMS_ROWS; r++) {    \
            vf x = vset(of_row);                  \
            NEVE_UNROLL                           \
            for (int j = 0; j < TERMS_NV; j++)    \
                acc[r][j] = vfma(x, w[j], acc[r][j]); \
            TERMS_ADD_HALF(r);                    \
        }                                         \
    }

#if NEVE_BY_LANE
/* a bound that the compilers can follow: with k + 4 <= end clang does not see that nothing is left of a literal number of terms, and
   keeps sums for it on the stack */
for (const int64_t fours = (TERMS_ADJACENT) ? end - (end - k) % 4 : k; k < fours; k += 4) {
    vf four[TERMS_MOST_ROWS];
    NEVE_UNROLL
    for (int r = 0; r < TERMS_ROWS; r++)
        four[r] = vload(TERMS_A(r));
    TERMS_ONE(four[r][0])
    TERMS_ONE(four[r][1])
    TERMS_ONE(four[r][2])
    TERMS_ONE(four[r][3])
}
#endif
for (; k < end; k++)
    TERMS_ONE(*TERMS_A(r))

#undef TERMS_ROWS
#undef TERMS_NV
#undef TERMS_MOST_ROWS
#undef TERMS_MOST_NV
#undef TERMS_A
#undef TERMS_ADJACENT
#undef TERMS_B
#undef TERMS_LOAD_B
#undef TERMS_EACH
#undef TERMS_HALF
#undef TERMS_WH
#undef TERMS_ADD_HALF
#undef TERMS_ONE
