/* One step of recurrent.h for RNN_R batch rows and RNN_NP panels, as a function RNN_FN of its own. Undefined again at the end: RNN_FN RNN_R RNN_NP. */
NEVE_NOINLINE void RNN_KN(RNN_FN)(void *const *p, const int64_t *s, const RNN_W *w, const float *h, float *next, float *c, int64_t t, int64_t b, int64_t j)
{
    vf acc[RNN_NP][RNN_R][RNN_G * (RNN_NV)];
    NEVE_UNROLL
    for (int q = 0; q < RNN_NP; q++)
        NEVE_UNROLL
        for (int r = 0; r < RNN_R; r++)
            NEVE_UNROLL
            for (int g = 0; g < RNN_G * (RNN_NV); g++)
                acc[q][r][g] = vset(0);
    for (int64_t k = 0; k < (RNN_H); k++) {
        vf x[RNN_R];
        NEVE_UNROLL
        for (int r = 0; r < RNN_R; r++)
            x[r] = vset(h[r * RNN_HP + k]);
        NEVE_UNROLL
        for (int q = 0; q < RNN_NP; q++)
            NEVE_UNROLL
            for (int g = 0; g < RNN_G * (RNN_NV); g += 2) {
                vf v[2];
                RNN_LOAD(w + q * RNN_PANEL + g * NEVE_VL, v);
                NEVE_UNROLL
                for (int i = 0; i < 2; i++)
                    NEVE_UNROLL
                    for (int r = 0; r < RNN_R; r++)
                        acc[q][r][g + i] = vfma(x[r], v[i], acc[q][r][g + i]);
            }
        w += RNN_G * (RNN_NV) * NEVE_VL;
    }
#if RNN_TYPE == 2
    NEVE_UNROLL
    for (int q = 0; q < RNN_NP; q++)
        NEVE_UNROLL
        for (int r = 0; r < RNN_R; r++)
            NEVE_UNROLL
            for (int g = 0; g < RNN_G * (RNN_NV); g += 2)
                vzip(acc[q][r] + g);
#endif
    NEVE_UNROLL
    for (int q = 0; q < RNN_NP; q++)
        NEVE_UNROLL
        for (int r = 0; r < RNN_R; r++)
            NEVE_UNROLL
            for (int v = 0; v < (RNN_NV); v++) {
                int64_t column = j + (q * (RNN_NV) + v) * NEVE_VL;
                vf gate[RNN_G];
                NEVE_UNROLL
                for (int g = 0; g < RNN_G; g++)
                    gate[g] = acc[q][r][g * (RNN_NV) + v];
                if ((RNN_H) - column >= NEVE_VL)
                    KN(finish)(p, s, gate, h + r * RNN_HP + column, next + r * RNN_HP + column, c + r * RNN_HP + column, t, b + r, column, NEVE_VL);
                else if (column < (RNN_H))
                    KN(finish)(p, s, gate, h + r * RNN_HP + column, next + r * RNN_HP + column, c + r * RNN_HP + column, t, b + r, column, (RNN_H) - column);
            }
}
#undef RNN_FN
#undef RNN_R
#undef RNN_NP
