/* Part of fft.h, for elements E of LANES rows; FF(name) names what is defined. */

/* (r, i) times the factor at w, stored. */
NEVE_INLINE void FF(put)(E *yr, E *yi, E r, E i, const T *w)
{
    *yr = r * w[0] - i * w[1];
    *yi = r * w[1] + i * w[0];
}

/* The DFT of r elements, s apart each of its own kind, for a factor without a butterfly of its own. */
static void FF(odd)(const E *xr, const E *xi, E *yr, E *yi, int64_t r, int64_t m, int64_t s, int64_t p, const T *w, int64_t step)
{
    for (int64_t q = 0; q < s; q++)
        for (int64_t k = 0; k < r; k++) {
            E re = xr[q + s * p], im = xi[q + s * p];
            for (int64_t j = 1; j < r; j++) {
                const T *u = w + 2 * (j * k % r * m * step);
                E a = xr[q + s * (p + m * j)], b = xi[q + s * (p + m * j)];
                re += a * u[0] - b * u[1];
                im += a * u[1] + b * u[0];
            }
            int64_t at = q + s * (r * p + k);
            FF(put)(yr + at, yi + at, re, im, w + 2 * (p * k * step));
        }
}

NEVE_INLINE void FF(two)(const E *xr, const E *xi, E *yr, E *yi, int64_t m, int64_t s, int64_t p, const T *w, int64_t step)
{
    const T *w1 = w + 2 * p * step;
    for (int64_t q = 0; q < s; q++) {
        E a = xr[q + s * p], b = xi[q + s * p], c = xr[q + s * (p + m)], d = xi[q + s * (p + m)];
        int64_t at = q + s * 2 * p;
        yr[at] = a + c;
        yi[at] = b + d;
        FF(put)(yr + at + s, yi + at + s, a - c, b - d, w1);
    }
}

NEVE_INLINE void FF(three)(const E *xr, const E *xi, E *yr, E *yi, int64_t m, int64_t s, int64_t p, const T *w, int64_t step)
{
    const T *w1 = w + 2 * p * step, *w2 = w + 4 * p * step, half = (T)0.5, sine = (T)0.86602540378443864676;
    for (int64_t q = 0; q < s; q++) {
        const E *r = xr + q + s * p, *i = xi + q + s * p;
        E a = r[s * m] + r[2 * s * m], b = i[s * m] + i[2 * s * m];
        E c = (i[s * m] - i[2 * s * m]) * sine, d = (r[2 * s * m] - r[s * m]) * sine;
        E e = r[0] - a * half, f = i[0] - b * half;
        int64_t at = q + s * 3 * p;
        yr[at] = r[0] + a;
        yi[at] = i[0] + b;
        FF(put)(yr + at + s, yi + at + s, e + c, f + d, w1);
        FF(put)(yr + at + 2 * s, yi + at + 2 * s, e - c, f - d, w2);
    }
}

NEVE_INLINE void FF(four)(const E *xr, const E *xi, E *yr, E *yi, int64_t m, int64_t s, int64_t p, const T *w, int64_t step)
{
    const T *w1 = w + 2 * p * step, *w2 = w + 4 * p * step, *w3 = w + 6 * p * step;
    for (int64_t q = 0; q < s; q++) {
        const E *r = xr + q + s * p, *i = xi + q + s * p;
        E a = r[0] + r[2 * s * m], b = i[0] + i[2 * s * m], c = r[0] - r[2 * s * m], d = i[0] - i[2 * s * m];
        E e = r[s * m] + r[3 * s * m], f = i[s * m] + i[3 * s * m], g = i[s * m] - i[3 * s * m], h = r[3 * s * m] - r[s * m];
        int64_t at = q + s * 4 * p;
        yr[at] = a + e;
        yi[at] = b + f;
        FF(put)(yr + at + s, yi + at + s, c + g, d + h, w1);
        FF(put)(yr + at + 2 * s, yi + at + 2 * s, a - e, b - f, w2);
        FF(put)(yr + at + 3 * s, yi + at + 3 * s, c - g, d - h, w3);
    }
}

NEVE_INLINE void FF(five)(const E *xr, const E *xi, E *yr, E *yi, int64_t m, int64_t s, int64_t p, const T *w, int64_t step)
{
    const T c1 = (T)0.30901699437494742410, c2 = (T)-0.80901699437494742410;
    const T s1 = (T)0.95105651629515357212, s2 = (T)0.58778525229247312917;
    for (int64_t q = 0; q < s; q++) {
        const E *r = xr + q + s * p, *i = xi + q + s * p;
        E a = r[s * m] + r[4 * s * m], b = i[s * m] + i[4 * s * m], c = i[s * m] - i[4 * s * m], d = r[4 * s * m] - r[s * m];
        E e = r[2 * s * m] + r[3 * s * m], f = i[2 * s * m] + i[3 * s * m], g = i[2 * s * m] - i[3 * s * m], h = r[3 * s * m] - r[2 * s * m];
        E u = r[0] + a * c1 + e * c2, v = i[0] + b * c1 + f * c2, x = c * s1 + g * s2, y = d * s1 + h * s2;
        E k = r[0] + a * c2 + e * c1, l = i[0] + b * c2 + f * c1, z = c * s2 - g * s1, o = d * s2 - h * s1;
        int64_t at = q + s * 5 * p;
        yr[at] = r[0] + a + e;
        yi[at] = i[0] + b + f;
        FF(put)(yr + at + s, yi + at + s, u + x, v + y, w + 2 * p * step);
        FF(put)(yr + at + 2 * s, yi + at + 2 * s, k + z, l + o, w + 4 * p * step);
        FF(put)(yr + at + 3 * s, yi + at + 3 * s, k - z, l - o, w + 6 * p * step);
        FF(put)(yr + at + 4 * s, yi + at + 4 * s, u - x, v - y, w + 8 * p * step);
    }
}

/* One pass: r m elements, s of them side by side; step times an exponent of the r m-th root is its place in w. */
static void FF(pass)(const E *xr, const E *xi, E *yr, E *yi, int64_t r, int64_t m, int64_t s, const T *w, int64_t step)
{
    for (int64_t p = 0; p < m; p++)
        if (r == 4)
            FF(four)(xr, xi, yr, yi, m, s, p, w, step);
        else if (r == 2)
            FF(two)(xr, xi, yr, yi, m, s, p, w, step);
        else if (r == 3)
            FF(three)(xr, xi, yr, yi, m, s, p, w, step);
        else if (r == 5)
            FF(five)(xr, xi, yr, yi, m, s, p, w, step);
        else
            FF(odd)(xr, xi, yr, yi, r, m, s, p, w, step);
}

#if FORM == 1
/* Frequency k of a real row from the transform of its even and odd elements as re and im. */
NEVE_INLINE void FF(split)(const E *re, const E *im, int64_t k, const T *w, E *r, E *i)
{
    const T half = (T)0.5;
    int64_t a = k % KN_M, b = (KN_M - k) % KN_M;
    E s = (re[a] + re[b]) * half, t = (im[a] - im[b]) * half, u = (im[a] + im[b]) * half, v = (re[b] - re[a]) * half;
    *r = s + u * w[2 * k] - v * w[2 * k + 1];
    *i = t + u * w[2 * k + 1] + v * w[2 * k];
}
#endif

#if FORM == 2
/* Frequencies 0 and N / 2, real both, as frequency 0 of the even and odd elements; re and im are exchanged. */
NEVE_INLINE void FF(join)(E *re, E *im, E r)
{
    E a = im[0];
    im[0] = a + r;
    re[0] = a - r;
}

/* Frequencies k and M - k of the row, in place, as those of its even and odd elements; re and im are exchanged. */
NEVE_INLINE void FF(fold)(E *re, E *im, int64_t k, const T *w)
{
    int64_t o = KN_M - k;
    const T c = w[2 * k], s = w[2 * k + 1];
    E a = im[k] + im[o], b = re[k] - re[o], u = im[k] - im[o], v = re[k] + re[o];
    E g = u * c + v * s, h = v * c - u * s; /* times the conjugate of the root */
    im[k] = a - h, re[k] = b + g;
    im[o] = a + h, re[o] = g - b;
}
#endif

/* Columns j to j + LANES of count rows of x, n apart, one row a lane; those beyond count 0, and columns from n on undefined. */
NEVE_INLINE void FF(columns)(const T *x, int64_t n, int64_t count, int64_t j, E *e)
{
#if VECTORS
    if (j + LANES <= n) {
        for (int64_t l = 0; l < LANES; l++)
            e[l] = l < count ? vload(x + l * n + j) : vset(0);
        vtranspose((vf *)e);
        return;
    }
#endif
    T lane[LANES];
    for (int64_t t = 0; t < LANES && j + t < n; t++) {
        for (int64_t l = 0; l < LANES; l++)
            lane[l] = l < count ? x[l * n + j + t] : 0;
        __builtin_memcpy(e + t, lane, sizeof lane);
    }
}

/* The other way; e is overwritten. */
NEVE_INLINE void FF(put_columns)(T *x, int64_t n, int64_t count, int64_t j, E *e)
{
#if VECTORS
    if (j + LANES <= n) {
        vtranspose((vf *)e);
        for (int64_t l = 0; l < count; l++)
            vstore(x + l * n + j, e[l]);
        return;
    }
#endif
    T lane[LANES];
    for (int64_t t = 0; t < LANES && j + t < n; t++) {
        __builtin_memcpy(lane, e + t, sizeof lane);
        for (int64_t l = 0; l < count; l++)
            x[l * n + j + t] = lane[l];
    }
}

/* Row `row` and those after it into x, as the complex transform takes them. */
static void FF(read)(void *const *p, int64_t row, int64_t count, T **x)
{
    E *re = (E *)(void *)x[0], *im = (E *)(void *)x[1], u[LANES], v[LANES];
    (void)v;
#if FORM == 0
    for (int64_t j = 0; j < N; j += LANES) {
        FF(columns)((const T *)p[1] + row * N, N, count, j, u);
        FF(columns)((const T *)p[2] + row * N, N, count, j, v);
        for (int64_t t = 0; t < LANES && j + t < N; t++)
            re[j + t] = u[t], im[j + t] = v[t];
    }
#elif FORM == 1
    for (int64_t j = 0; j < N; j += LANES) {
        FF(columns)((const T *)p[1] + row * N, N, count, j, u);
        for (int64_t t = 0; t < LANES && j + t < N; t++)
            if (KN_HALF)
                ((j + t) % 2 ? im : re)[(j + t) / 2] = u[t];
            else
                re[j + t] = u[t], im[j + t] = (E){0};
    }
#else
    const T *a = (const T *)p[1] + row * (N / 2 + 1), *b = (const T *)p[2] + row * (N / 2 + 1);
    const int64_t n = N / 2 + 1;
    /* re and im exchanged: the passes then compute the inverse */
    for (int64_t j = 0; j < n; j += LANES) {
        FF(columns)(a, n, count, j, u);
        FF(columns)(b, n, count, j, v);
        for (int64_t t = 0; t < LANES && j + t < n; t++) {
            int64_t k = j + t;
            if (k == 0 || 2 * k == N)
                v[t] = (E){0};
            if (k < KN_M)
                im[k] = u[t], re[k] = v[t];
            else
                FF(join)(re, im, u[t]);
        }
    }
    for (int64_t k = 1; !KN_HALF && k < n; k++)
        re[KN_M - k] = -re[k], im[KN_M - k] = im[k];
    for (int64_t k = 1; KN_HALF && 2 * k <= KN_M; k++)
        FF(fold)(re, im, k, (const T *)p[0]);
#endif
}

/* The transform's result at x into the rows. */
static void FF(write)(void *const *p, int64_t row, int64_t count, T **x)
{
    const E *re = (const E *)(void *)x[0], *im = (const E *)(void *)x[1];
    E u[LANES], v[LANES];
    (void)v;
#if FORM == 0
    for (int64_t k = 0; k < N; k += LANES) {
        for (int64_t t = 0; t < LANES && k + t < N; t++)
            u[t] = re[k + t], v[t] = im[k + t];
        FF(put_columns)((T *)p[3] + row * N, N, count, k, u);
        FF(put_columns)((T *)p[4] + row * N, N, count, k, v);
    }
#elif FORM == 1
    const int64_t n = N / 2 + 1;
    for (int64_t k = 0; k < n; k += LANES) {
        for (int64_t t = 0; t < LANES && k + t < n; t++)
            if (KN_HALF)
                FF(split)(re, im, k + t, (const T *)p[0], u + t, v + t);
            else
                u[t] = re[k + t], v[t] = im[k + t];
        FF(put_columns)((T *)p[2] + row * n, n, count, k, u);
        FF(put_columns)((T *)p[3] + row * n, n, count, k, v);
    }
#else
    for (int64_t j = 0; j < N; j += LANES) {
        for (int64_t t = 0; t < LANES && j + t < N; t++)
            if (KN_HALF)
                u[t] = ((j + t) % 2 ? re : im)[(j + t) / 2];
            else
                u[t] = im[j + t];
        FF(put_columns)((T *)p[3] + row * N, N, count, j, u);
    }
#endif
}
