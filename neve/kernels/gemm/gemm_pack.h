/* Packs run-time operands of gemm.h, and scaled ones, into scratch, in the order in which the tiles read them. Included by gemm.h only. */

#if GEMM_B_SCALED
#define GEMM_COPY(v) ((v) * f)
#elif GEMM_B_WIDENED
#define GEMM_COPY(v) (v)
#endif
#ifdef GEMM_COPY
/* A packed panel of `width` columns as floats; if GEMM_B_SCALED, row k is multiplied by factor[k]. */
NEVE_INLINE void KN(copy_b)(velem *to, const GEMM_BT *b, const velem *factor, int64_t terms, int width)
{
    (void)factor;
    for (int64_t k = 0; k < terms; k++, b += width, to += width) {
#if GEMM_B_SCALED
        vf f = vset(factor[k]);
#endif
        NEVE_UNROLL
        for (int j = 0; j + NEVE_VL <= width; j += NEVE_VL)
            vstore(to + j, GEMM_COPY(GEMM_LOADB(b + j)));
        if (width % NEVE_VL)
            vstore_n(to + width / NEVE_VL * NEVE_VL, GEMM_COPY(GEMM_LOADB_N(b + width / NEVE_VL * NEVE_VL, width % NEVE_VL)), width % NEVE_VL);
    }
}
#undef GEMM_COPY
#endif

#if !GEMM_B_PACKED
/* Panel of `vectors` * VL columns from column n0 (cnt of them exist), rows k0 .. k0 + kn: row after row, padded with zeros. */
NEVE_INLINE void KN(pack_b)(velem *to, const velem *b, int64_t ldb, int64_t ldn, int64_t k0, int64_t kn, int64_t n0, int64_t cnt,
                            int vectors)
{
    b += k0 * ldb + n0 * ldn;
    if (ldn == 1) {
        for (int64_t k = 0; k < kn; k++, b += ldb)
            NEVE_UNROLL
            for (int j = 0; j < vectors; j++, to += NEVE_VL) {
                int64_t left = cnt - j * NEVE_VL;
                vstore(to, left >= NEVE_VL ? vload(b + j * NEVE_VL) : left > 0 ? vload_n(b + j * NEVE_VL, left) : vset(0));
            }
        return;
    }
    if (ldb == 1) {
        for (int j = 0; j < vectors; j++)
            for (int64_t k = 0; k < kn; k += NEVE_VL) {
                int64_t rows = neve_min(NEVE_VL, cnt - j * NEVE_VL), terms = neve_min(NEVE_VL, kn - k);
                const velem *from = b + j * NEVE_VL * ldn + k;
                velem *out = to + (k * vectors + j) * NEVE_VL;
                vf r[NEVE_VL];
                if (rows == NEVE_VL && terms == NEVE_VL) {
                    NEVE_UNROLL
                    for (int i = 0; i < NEVE_VL; i++)
                        r[i] = vload(from + i * ldn);
                } else {
                    NEVE_UNROLL
                    for (int i = 0; i < NEVE_VL; i++)
                        r[i] = i < rows ? vload_n(from + i * ldn, terms) : vset(0);
                }
                vtranspose(r);
                NEVE_UNROLL
                for (int i = 0; i < NEVE_VL; i++)
                    if (i < terms)
                        vstore(out + i * vectors * NEVE_VL, r[i]);
            }
        return;
    }
    for (int64_t k = 0; k < kn; k++)
        for (int64_t j = 0; j < vectors * NEVE_VL; j++)
            *to++ = j < cnt ? b[k * ldb + j * ldn] : 0;
}
#endif

#if GEMM_A_PACK
/* Rows m0 .. m0 + rows of A, all K terms: term after term, GEMM_A_STRIDE apart. */
NEVE_NOINLINE void KN(pack_a)(velem *to, const velem *a, int64_t lda, int64_t ldk, int64_t m0, int64_t rows, int64_t terms)
{
    a += m0 * lda;
    for (int64_t k = 0; k < terms; k++, a += ldk, to += GEMM_A_STRIDE) {
        int64_t r = 0;
        if (lda == 1) {
            for (; r + NEVE_VL <= rows; r += NEVE_VL)
                vstore(to + r, vload(a + r));
            if (r < rows)
                vstore_n(to + r, vload_n(a + r, rows - r), rows - r);
        } else
            for (; r < rows; r++)
                to[r] = a[r * lda];
    }
}
#endif
