/* Singular values and vectors of upper bidiagonal matrices of doubles, d on the diagonal and e above it, by LAPACK's dbdsqr. */
#ifndef NEVE_ORTHOGONAL_BIDIAGONAL_H
#define NEVE_ORTHOGONAL_BIDIAGONAL_H

#include "reflect.h"

/* a (m, n), m >= n, to upper bidiagonal form; the reflections are below the diagonal and right of the element beside it. w: n elements. */
NEVE_INLINE void neve_bidiagonalize(double *a, int64_t m, int64_t n, double *d, double *e, double *left, double *right, double *w)
{
    for (int64_t k = 0; k < n; k++) {
        double *x = a + k * n + k, *y = x + 1;
        left[k] = neve_reflect(x, m - k, n);
        d[k] = x[0];
        neve_apply(x, n, left[k], y, m - k, n, n - k - 1, w);
        if (k + 1 == n)
            break;
        right[k] = neve_reflect(y, n - k - 1, 1);
        e[k] = y[0];
        for (int64_t i = 1; right[k] != 0 && i < m - k; i++) {
            double *row = y + i * n, dot = row[0];
            for (int64_t j = 1; j < n - k - 1; j++)
                dot += row[j] * y[j];
            dot *= right[k];
            row[0] -= dot;
            for (int64_t j = 1; j < n - k - 1; j++)
                row[j] -= dot * y[j];
        }
    }
}

/* A lower bidiagonal matrix, e below the diagonal, made upper; turn gets cosine and sine of each rotation. */
NEVE_INLINE void neve_raise(double *d, double *e, int64_t n, double *turn)
{
    for (int64_t i = 0; i + 1 < n; i++) {
        d[i] = neve_rotation(d[i], e[i], 0, turn + 2 * i, turn + 2 * i + 1);
        e[i] = turn[2 * i + 1] * d[i + 1];
        d[i + 1] *= turn[2 * i];
    }
}

/* LAPACK's dlas2: the smaller singular value of (f g; 0 h). */
NEVE_INLINE double neve_smaller2(double f, double g, double h)
{
    double fa = neve_abs(f), ga = neve_abs(g), ha = neve_abs(h), less = fa < ha ? fa : ha, more = fa < ha ? ha : fa;
    if (less == 0)
        return 0;
    double as = 1 + less / more, at = (more - less) / more;
    if (ga < more) {
        double au = ga / more * (ga / more);
        return less * (2 / (neve_root64(as * as + au) + neve_root64(at * at + au)));
    }
    double au = more / ga;
    if (au == 0)
        return less * more / ga;
    return 2 * (less * (1 / (neve_root64(1 + as * au * (as * au)) + neve_root64(1 + at * au * (at * au)))) * au);
}

typedef struct {
    double smaller, larger, right_sine, right_cosine, left_sine, left_cosine;
} neve_svd2_result;

/* LAPACK's dlasv2: (f g; 0 h) decomposed; singular values have signs. */
NEVE_INLINE neve_svd2_result neve_svd2(double f, double g, double h)
{
    int swap = neve_abs(h) > neve_abs(f);
    double ft = swap ? h : f, ht = swap ? f : h, fa = neve_abs(ft), ha = neve_abs(ht), ga = neve_abs(g);
    double smaller = ha, larger = fa, cl = 1, cr = 1, sl = 0, sr = 0;
    int greatest = ga > fa;
    if (greatest && fa / ga < 0x1p-53) {
        larger = ga;
        smaller = ha > 1 ? fa / (ga / ha) : fa / ga * ha;
        sl = ht / g, sr = 1, cr = ft / g;
    } else if (ga != 0) {
        double diff = fa - ha, l = diff == fa ? 1 : diff / fa, m = g / ft, t = 2 - l, mm = m * m;
        double s = neve_root64(t * t + mm), r = l == 0 ? neve_abs(m) : neve_root64(l * l + mm), a = (s + r) / 2;
        smaller = ha / a;
        larger = fa * a;
        if (mm != 0)
            t = (m / (s + t) + m / (r + l)) * (1 + a);
        else if (l == 0)
            t = neve_sign(2, ft) * neve_sign(1, g);
        else
            t = g / neve_sign(diff, ft) + m / t;
        l = neve_root64(t * t + 4);
        cr = 2 / l, sr = t / l;
        cl = (cr + sr * m) / a;
        sl = ht / ft * sr / a;
    }
    neve_svd2_result out = {0, 0, sr, cr, sl, cl};
    if (swap)
        out = (neve_svd2_result){0, 0, cl, sl, cr, sr};
    double sign = greatest ? neve_sign(1, out.right_sine) * neve_sign(1, out.left_cosine) * neve_sign(1, g)
                  : swap   ? neve_sign(1, out.right_sine) * neve_sign(1, out.left_sine) * neve_sign(1, h)
                           : neve_sign(1, out.right_cosine) * neve_sign(1, out.left_cosine) * neve_sign(1, f);
    out.larger = neve_sign(larger, sign);
    out.smaller = neve_sign(smaller, sign * neve_sign(1, f) * neve_sign(1, h));
    return out;
}

/* One sweep over d[l..m] from l to m, or back (down 0), with that shift; rows of u and v, of `columns` elements, are rotated with it. */
NEVE_INLINE void neve_sweep(double *d, double *e, int64_t l, int64_t m, int down, double shift, double *u, double *v, int64_t columns)
{
    const int64_t begin = down ? l : m, end = down ? m : l, step = down ? 1 : -1, beside = down ? 0 : -1; /* e[i + beside] is ahead of d[i] */
    double f = (neve_abs(d[begin]) - shift) * (neve_sign(1, d[begin]) + shift / d[begin]), g = e[begin + beside], c1 = 1, s1, c2 = 1, s2 = 0;
    for (int64_t i = begin; i != end; i += step) {
        double *here = e + i + beside, *ahead = d + i + step;
        if (shift == 0) {
            double r = neve_rotation(d[i] * c1, *here, 0, &c1, &s1);
            if (i != begin)
                here[-step] = s2 * r;
            d[i] = neve_rotation(c2 * r, *ahead * s1, 0, &c2, &s2);
        } else {
            double r = neve_rotation(f, g, 0, &c1, &s1);
            if (i != begin)
                here[-step] = r;
            f = c1 * d[i] + s1 * *here;
            *here = c1 * *here - s1 * d[i];
            g = s1 * *ahead;
            *ahead *= c1;
            d[i] = neve_rotation(f, g, 0, &c2, &s2);
            f = c2 * *here + s2 * *ahead;
            *ahead = c2 * *ahead - s2 * *here;
            if (i + step != end) {
                g = s2 * here[step];
                here[step] *= c2;
            }
        }
        double *first = down ? v : u, *second = down ? u : v;
        int64_t at = neve_min(i, i + step) * columns;
        neve_rotate(first + at, first + at + columns, columns, c1, down ? s1 : -s1);
        neve_rotate(second + at, second + at + columns, columns, c2, down ? s2 : -s2);
    }
    double *last = e + end + beside - step;
    if (shift == 0) {
        double h = d[end] * c1;
        d[end] = h * c2;
        *last = h * s2;
    } else {
        *last = f;
    }
}

/* Whether an element of e in the block d[l..m] is negligible, which is then 0; else *least is a bound of the singular values. */
NEVE_INLINE int neve_negligible(const double *d, double *e, int64_t l, int64_t m, int down, double tol, double *least)
{
    double *last = e + (down ? m - 1 : l), mu = neve_abs(d[down ? l : m]);
    if (neve_abs(*last) <= tol * neve_abs(d[down ? m : l])) {
        *last = 0;
        return 1;
    }
    *least = mu;
    for (int64_t k = 0; k < m - l; k++) {
        int64_t i = down ? l + k : m - 1 - k;
        if (neve_abs(e[i]) <= tol * mu) {
            e[i] = 0;
            return 1;
        }
        mu = neve_abs(d[down ? i + 1 : i]) * (mu / (mu + neve_abs(e[i])));
        *least = mu < *least ? mu : *least;
    }
    return 0;
}

/* d becomes the singular values, which may be negative; 0 if the iterations do not converge. */
NEVE_INLINE int neve_iterate(double *d, double *e, int64_t n, double *u, double *v, int64_t columns, double eps)
{
    const double tol = eps * (eps > 1e-10 ? 10 : 98.7); /* eps^(-1/8), in 10..100 */
    double least = neve_abs(d[0]), mu = least;
    for (int64_t i = 1; i < n && least != 0; i++) {
        mu = neve_abs(d[i]) * (mu / (mu + neve_abs(e[i - 1])));
        least = mu < least ? mu : least;
    }
    const double threshold = neve_larger(tol * (least / neve_root64((double)n)), 6 * (double)n * ((double)n * NEVE_TINY));
    int64_t last = -1, first = -1, left = 6 * n * n;
    int down = 1;
    for (int64_t m = n - 1; m > 0;) {
        int64_t l = m;
        double most = neve_abs(d[m]);
        for (; l > 0 && neve_abs(e[l - 1]) > threshold; l--)
            most = neve_larger(most, neve_larger(neve_abs(d[l - 1]), neve_abs(e[l - 1])));
        if (l > 0)
            e[l - 1] = 0;
        if (l == m) {
            m--;
        } else if (l + 1 == m) {
            neve_svd2_result r = neve_svd2(d[l], e[l], d[m]);
            d[l] = r.larger, e[l] = 0, d[m] = r.smaller;
            neve_rotate(v + l * columns, v + m * columns, columns, r.right_cosine, r.right_sine);
            neve_rotate(u + l * columns, u + m * columns, columns, r.left_cosine, r.left_sine);
            m -= 2;
        } else {
            if (l > last || m < first)
                down = neve_abs(d[l]) >= neve_abs(d[m]);
            if (neve_negligible(d, e, l, m, down, tol, &least))
                continue;
            first = l, last = m;
            double shift = 0;
            if ((double)n * tol * (least / most) > neve_larger(eps, tol / 100)) {
                double start = neve_abs(d[down ? l : m]);
                int64_t i = down ? m - 1 : l;
                shift = neve_smaller2(d[i], e[i], d[i + 1]);
                if (start > 0 && shift / start * (shift / start) < eps)
                    shift = 0;
            }
            left -= m - l;
            if (!(left > 0))
                return 0;
            neve_sweep(d, e, l, m, down, shift, u, v, columns);
            double *end = e + (down ? m - 1 : l);
            if (neve_abs(*end) <= threshold)
                *end = 0;
        }
    }
    return 1;
}

/* Singular values in d, descending, and the vectors in the rows of u and v, of `columns` elements (0: none). 0 if an iteration does not
 * converge. */
NEVE_NOINLINE int neve_singular(double *d, double *e, int64_t n, double *u, double *v, int64_t columns, double eps)
{
    if (columns) {
        neve_identity(u, n);
        neve_identity(v, n);
    }
    if (n <= 1) {
        if (n == 0)
            return 1;
        if (d[0] < 0 && columns)
            u[0] = -1;
        d[0] = neve_abs(d[0]);
        return 1;
    }
    if (!neve_iterate(d, e, n, u, v, columns, eps))
        return 0;
    for (int64_t i = 0; i < n; i++)
        if (d[i] < 0) {
            d[i] = -d[i];
            neve_negate(v + i * columns, columns);
        }
    /* where dlasd3 puts vectors together from both halves, the row between them has a negative element in each of u */
    for (int64_t i = 0; columns && n > NEVE_DIVIDED && i < n; i++)
        if (u[i * columns + n / 2] > 0) {
            neve_negate(u + i * columns, columns);
            neve_negate(v + i * columns, columns);
        }
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t least = 0;
        for (int64_t j = 1; j < n - i; j++)
            least = d[j] <= d[least] ? j : least;
        int64_t to = n - 1 - i;
        double t = d[to];
        d[to] = d[least], d[least] = t;
        if (least != to) {
            neve_exchange(u + least * columns, u + to * columns, columns);
            neve_exchange(v + least * columns, v + to * columns, columns);
        }
    }
    return 1;
}

#endif
