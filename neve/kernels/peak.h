/* What one core can do at most: multiply-adds from registers, and reading from memory.
 *
 *     peak_multiply(out, n)     n rounds of 12 independent vector multiply-adds: 24 * NEVE_VL flops a round; out: 12 vectors
 *     peak_read(x, n, out)      the sums of n vectors of x, n a multiple of 8; out: one vector
 *
 * Include after rt.h and vec.h.
 */
static void peak_multiply(float *out, int64_t n)
{
    vf acc[12], x = vload(out), y = vload(out + NEVE_VL);
    NEVE_UNROLL
    for (int j = 0; j < 12; j++)
        acc[j] = vload(out + j * NEVE_VL);
    for (int64_t i = 0; i < n; i++) {
        NEVE_UNROLL
        for (int j = 0; j < 12; j++)
            acc[j] = vfma(acc[j], x, y);
    }
    NEVE_UNROLL
    for (int j = 0; j < 12; j++)
        vstore(out + j * NEVE_VL, acc[j]);
}

static void peak_read(const float *x, int64_t n, float *out)
{
    vf acc[8];
    NEVE_UNROLL
    for (int j = 0; j < 8; j++)
        acc[j] = vset(0);
    for (int64_t i = 0; i < n; i += 8) {
        NEVE_UNROLL
        for (int j = 0; j < 8; j++)
            acc[j] = acc[j] + vload(x + (i + j) * NEVE_VL);
    }
    NEVE_UNROLL
    for (int j = 1; j < 8; j++)
        acc[0] = acc[0] + acc[j];
    vstore(out, acc[0]);
}
