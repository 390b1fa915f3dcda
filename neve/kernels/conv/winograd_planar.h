/* winograd_planar.h: a part of winograd.h: the input transform for few channels and any strides (WINO_PLANAR).

   Under one row of tiles, the phases and channels of each pixel are gathered side by side, padded with zeros, into a band
   [row][column][WN_IC] in scratch; from there on it is a channels-last input. */

#define WN_COLS (WINO_T * WINO_M + WN - WINO_M)

/* Columns ow.. ow + cols of the band under the row of tiles at output row oh. */
static void KN(gather)(void *const *p, const int64_t *s, int64_t n, int64_t oh, int64_t ow, int64_t cols, float *band) {
    (void)s;
    for (int64_t line = 0; line < WN_DOWN * WN_PHASES_DOWN * CONV_C; line++) {
        const int64_t c = line % CONV_C, a = line / CONV_C % WN_PHASES_DOWN, i = line / CONV_C / WN_PHASES_DOWN;
        const int64_t ih = (oh + i) * CONV_SH + a - CONV_PT, left = ow * CONV_SW - CONV_PL;
        const int inside = ih >= 0 && ih < (CONV_H);
        const float *row = (const float *)p[0] + n * (CONV_XN) + c * (CONV_XC) + (inside ? ih * (CONV_XH) : 0);
        for (int64_t b = 0; b < CONV_SW; b++) {
            float *to = band + i * WN_COLS * WN_IC + (a * CONV_SW + b) * CONV_C + c;
            /* columns begin.. end are inside the input */
            int64_t begin = left + b < 0 ? (CONV_SW - 1 - left - b) / CONV_SW : 0;
            int64_t end = (CONV_W) > left + b ? ((CONV_W) - left - b + CONV_SW - 1) / CONV_SW : 0, j = 0;
            if (end > cols) end = cols;
            if (!inside || begin > end) begin = end = cols;
            for (; j < begin; j++, to += WN_IC) *to = 0.0f;
            for (const float *x = row + (left + b + begin * CONV_SW) * (CONV_XW); j < end; j++, to += WN_IC, x += CONV_SW * (CONV_XW))
                *to = *x;
            for (; j < cols; j++, to += WN_IC) *to = 0.0f;
        }
    }
}

/* The inputs of tiles begin..end (counted over the batch), at places begin - first.. of every point's matrix; behind the
   matrices, whether a tile has inputs that are not finite. */
static void KN(input)(void *const *p, const int64_t *s, int64_t first, int64_t begin, int64_t end, float *band, float *to) {
    while (begin < end) {
        const int64_t column = begin % WN_ACROSS, oh = begin / WN_ACROSS % WN_ROWS * WM_DOWN, n = begin / WN_ACROSS / WN_ROWS;
        const int64_t count = WN_ACROSS - column < end - begin ? WN_ACROSS - column : end - begin;
        KN(gather)(p, s, n, oh, column * WINO_M, count * WINO_M + WN - WINO_M, band);
        for (int64_t t = 0; t < count; t++) {
            const float *at[WN_POINTS];
            for (int64_t i = 0; i < WN_DOWN; i++)
                for (int64_t j = 0; j < WN; j++) at[j * WN_DOWN + i] = band + (i * WN_COLS + t * WINO_M + j) * WN_IC;
            float *v = to + (begin + t - first) * WN_IC;
            vf found = vset(0.0f);
            for (int64_t k = 0; k < WN_IC; k += NEVE_VL) found += KN(patch)(at, k, 0, v + k);
            const int odd = vsum(found) != 0.0f;
            if (NEVE_UNLIKELY(odd)) KN(finite)(at, WN_IC, v);
            to[WN_POINTS * WN_VSTEP + begin + t - first] = (float)odd;
        }
        begin += count;
    }
}

#undef WN_COLS
