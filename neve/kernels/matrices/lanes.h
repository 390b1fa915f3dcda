/* Part of matrices.h, for elements E, with as many integers I, of LANES matrices; FF(name) names what is defined. */

/* The rows of a square matrix of LANES elements as its columns. */
NEVE_INLINE void FF(transpose_lanes)(E *r)
{
    if (LANES > 1 && sizeof(T) == 4)
        vtranspose((vf *)(void *)r);
    if (LANES > 1 && sizeof(T) == 8)
        vtranspose_f64((vd *)(void *)r);
}

/* `count` matrices (m, n) side by side, or their transposes; the lanes after them are the last one again. */
NEVE_INLINE void FF(read)(const T *x, int64_t first, int64_t count, int64_t m, int64_t n, E *to, int transposed)
{
    const T *from[LANES];
    int64_t size = m * n, row = 0, column = 0, i = 0;
    for (int64_t lane = 0; lane < LANES; lane++)
        from[lane] = x + (first + neve_min(lane, count - 1)) * size;
    while (i < size) {
        E block[LANES];
        int64_t whole = i + LANES <= size;
        if (whole) {
            for (int64_t lane = 0; lane < LANES; lane++)
                __builtin_memcpy(block + lane, from[lane] + i, sizeof(E));
            FF(transpose_lanes)(block);
        } else
            for (int64_t lane = 0; lane < LANES; lane++)
                ((T *)block)[lane] = from[lane][i];
        for (int64_t t = 0; t < (whole ? LANES : 1); t++, i++) {
            to[transposed ? column * m + row : i] = block[t];
            if (++column == n)
                column = 0, row++;
        }
    }
}

NEVE_INLINE void FF(write)(const E *from, int64_t first, int64_t count, int64_t size, T *x)
{
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        E rows[LANES];
        for (int64_t lane = 0; lane < LANES; lane++)
            rows[lane] = from[i + lane];
        FF(transpose_lanes)(rows);
        for (int64_t lane = 0; lane < count; lane++)
            __builtin_memcpy(x + (first + lane) * size + i, rows + lane, sizeof(E));
    }
    for (const T *in = (const T *)from; i < size; i++)
        for (int64_t lane = 0; lane < count; lane++)
            x[(first + lane) * size + i] = in[i * LANES + lane];
}

NEVE_INLINE void FF(write_integers)(I from, int64_t first, int64_t count, int64_t step, int32_t *x)
{
    const TI *in = (const TI *)&from;
    for (int64_t lane = 0; lane < count; lane++)
        x[(first + lane) * step] = (int32_t)in[lane];
}

NEVE_INLINE E FF(magnitude)(E x) { return FF(select)(x < 0, -x, x); }

/* Whether a lane's integer is not 0. */
NEVE_INLINE int FF(any)(I mask)
{
    const TI *lanes = (const TI *)&mask;
    int found = 0;
    for (int64_t lane = 0; lane < LANES; lane++)
        found |= lanes[lane] != 0;
    return found;
}
