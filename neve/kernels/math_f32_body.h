/* The float32 functions, once for the scalar and once for the vector type: math_f32.h defines what T, I and the rest stand for.
 *
 * Accuracy: the bounds, in ulp of the exact result, are those that tests/kernels/test_math.py asserts. NaN gives NaN, signs of zero and infinities
 * are libm's unless said otherwise. Polynomials are relative minimax fits over the reduced interval.
 */

/* r of x = n ln 2 + r, and n. */
#define NEVE_M_REDUCE(x, t, n, r)                    \
    T t = FMA(x, K(1.44269504f), K(12582912.0f));    \
    T n = t - K(12582912.0f);                        \
    T r = FMA(n, K(-0.693359375f), x);               \
    r = FMA(n, K(2.12194440e-4f), r)
#define NEVE_M_EXP_TAIL(r) \
    FMA(FMA(FMA(FMA(K(1.381459995e-03f), r, K(8.368715644e-03f)), r, K(4.166838899e-02f)), r, K(1.666652113e-01f)), r, K(4.999999404e-01f))
#define NEVE_M_POW2(i) FLT(SHL((i) + 127, 23))

/* 2^add * exp(x), 1.1 ulp, without overflow of the intermediate values. */
NEVE_HOT T F(exp_scaled)(T x, int32_t add)
{
    x = MINF(K(89.5f), MAXF(K(-104.0f), x));
    NEVE_M_REDUCE(x, t, n, r);
    T p = FMA(FMA(NEVE_M_EXP_TAIL(r), r, K(1.0f)), r, K(1.0f));
    I i = BITS(t) - (0x4b400000 - add);
    I half = i >> 1;
    return p * NEVE_M_POW2(half) * NEVE_M_POW2(i - half);
}

/* 1.1 ulp, denormal results included. */
NEVE_HOT T F(exp)(T x) { return F(exp_scaled)(x, 0); }

/* 1 ulp; exact for integers. */
NEVE_HOT T F(exp2)(T x)
{
    x = MINF(K(129.0f), MAXF(K(-151.0f), x));
    T t = x + K(12582912.0f);
    T r = x - (t - K(12582912.0f));
    T p = FMA(FMA(K(1.535336050e-04f), r, K(1.339887502e-03f)), r, K(9.618436918e-03f));
    p = FMA(FMA(FMA(FMA(p, r, K(5.550332367e-02f)), r, K(2.402264774e-01f)), r, K(6.931471825e-01f)), r, K(1.0f));
    I i = BITS(t) - 0x4b400000;
    I half = i >> 1;
    return p * NEVE_M_POW2(half) * NEVE_M_POW2(i - half);
}

/* 1.5 ulp. */
NEVE_FN T F(expm1)(T a)
{
    T x = MINF(K(89.0f), MAXF(K(-20.0f), a));
    NEVE_M_REDUCE(x, t, n, r);
    I i = BITS(t) - 0x4b400000;
    T p = FMA(r * r, NEVE_M_EXP_TAIL(r), r);
    T s = NEVE_M_POW2(i - 1);
    T scaled = FMA(p, s, s - K(0.5f));
    return SIGN_OF(a, SEL(EQI(i, 0), p, scaled + scaled));
}

/* m of 2^e (1 + m) = a, m in [-1/3, 1/3], and log(1 + m); a normal and positive. */
#define NEVE_M_LOG(a, e, m, r)                                                                                               \
    I tiny = LT(a, K(1.17549435e-38f));                                                                                      \
    T big_a = SEL(tiny, a * K(8388608.0f), a);                                                                               \
    I ie = WRAP_SUB(BITS(big_a), KI(0x3f2aaaab)) & (int32_t)0xff800000u;                                                         \
    T m = FLT(WRAP_SUB(BITS(big_a), ie)) - K(1.0f);                                                                        \
    T e = FMA(TO_F(ie), K(1.1920929e-07f), SEL(tiny, K(-23.0f), K(0.0f)));                                                   \
    T r = FMA(FMA(FMA(K(-1.295093447e-01f), m, K(1.400679648e-01f)), m, K(-1.216673702e-01f)), m, K(1.400077939e-01f));      \
    r = FMA(FMA(FMA(r, m, K(-1.668233424e-01f)), m, K(2.001076937e-01f)), m, K(-2.499971688e-01f));                          \
    r = FMA(FMA(r, m, K(3.333320916e-01f)), m, K(-0.5f));                                                                    \
    r = FMA(r, m * m, m)

/* The value r of a logarithm of a, but at 0, below 0, at infinity and NaN what logarithms give. */
NEVE_HOT T F(log_edges)(T a, T r)
{
    r = SEL(LT(a, K(__builtin_inff())), r, a + a);
    r = SEL(LT(a, K(0.0f)), K(__builtin_nanf("")), r);
    return SEL(EQ(a, K(0.0f)), K(-__builtin_inff()), r);
}

/* 1 ulp. */
NEVE_HOT T F(log)(T a)
{
    NEVE_M_LOG(a, e, m, r);
    return F(log_edges)(a, FMA(e, K(0.693147182f), r));
}

/* 2 ulp; exact for powers of two. */
NEVE_HOT T F(log2)(T a)
{
    NEVE_M_LOG(a, e, m, r);
    return F(log_edges)(a, FMA(r, K(1.44269502f), FMA(r, K(1.92596303e-8f), e)));
}

/* 2.5 ulp. */
NEVE_HOT T F(log10)(T a)
{
    NEVE_M_LOG(a, e, m, r);
    T low = FMA(e, K(-1.05823503e-8f), r * K(-1.00890504e-8f));
    return F(log_edges)(a, FMA(e, K(0.301030010f), FMA(r, K(0.434294492f), low)));
}

/* log(1 + m) for m in -1/4..1/2. */
NEVE_HOT T F(log1p_poly)(T m)
{
    T r = FMA(FMA(FMA(K(-3.130733222e-02f), m, K(8.018419147e-02f)), m, K(-1.059167907e-01f)), m, K(1.140750796e-01f));
    r = FMA(FMA(FMA(r, m, K(-1.249841899e-01f)), m, K(1.426717490e-01f)), m, K(-1.666528285e-01f));
    r = FMA(FMA(FMA(FMA(r, m, K(2.000044137e-01f)), m, K(-2.500003874e-01f)), m, K(3.333333135e-01f)), m, K(-0.5f));
    return FMA(r, m * m, m);
}

/* log(1 + e) for e in 0..1. */
NEVE_HOT T F(log1p_unit)(T e)
{
    I big = LT(K(0.5f), e);
    return F(log1p_poly)(SEL(big, FMA(e, K(0.5f), K(-0.5f)), e)) + SEL(big, K(0.693147182f), K(0.0f));
}

/* 1 ulp. After N. Juffa: the scaled argument is formed without rounding. */
NEVE_HOT T F(log1p)(T a)
{
    T u = a + K(1.0f);
    I ie = WRAP_SUB(BITS(u), KI(0x3f400000)) & (int32_t)0xff800000u;
    T s = FLT(WRAP_SUB(BITS(K(4.0f)), ie));
    T m = FLT(WRAP_SUB(BITS(a), ie)) + FMA(K(0.25f), s, K(-1.0f));
    T r = F(log1p_poly)(m);
    r = SIGN_OF(a, FMA(TO_F(ie) * K(1.1920929e-07f), K(0.693147182f), r));
    r = SEL(LT(a, K(__builtin_inff())), r, a + a);
    r = SEL(LT(a, K(-1.0f)), K(__builtin_nanf("")), r);
    return SEL(EQ(a, K(-1.0f)), K(-__builtin_inff()), r);
}

/* 5 ulp; exactly 1 from 9.3 on, and never above. */
NEVE_HOT T F(tanh)(T a)
{
    T x = MINF(K(9.3f), MAXF(K(-9.3f), a));
    T v = x * x;
    T n = FMA(FMA(FMA(FMA(K(1.331897881e-08f), v, K(2.058340942e-05f)), v, K(3.494030097e-03f)), v, K(1.337971389e-01f)), v, K(1.0f));
    T d = FMA(FMA(FMA(FMA(K(7.761979646e-07f), v, K(3.283085534e-04f)), v, K(2.587105520e-02f)), v, K(4.671303034e-01f)), v, K(1.0f));
    return MINF(K(1.0f), MAXF(K(-1.0f), x * n / d));
}

/* 1 + 2^(c x), overflowing to infinity: what sigmoid-like functions divide by. c * low <= 128.4, c * high >= -126. */
NEVE_HOT T F(one_plus_exp2)(T x, float c, float low, float high)
{
    x = MINF(K(high), MAXF(K(low), x));
    T t = FMA(x, K(c), K(12582912.0f + 127.0f));
    T r = FMA(x, K(c), K(12582912.0f + 127.0f) - t);
    T p = FMA(FMA(K(1.326472266e-03f), r, K(9.671512991e-03f)), r, K(5.550733581e-02f));
    p = FMA(FMA(FMA(p, r, K(2.402224243e-01f)), r, K(6.931470037e-01f)), r, K(1.0f));
    return FMA(p, FLT(SHL(BITS(t), 23)), K(1.0f));
}

/* 4 ulp, for negative x |x| / 4 ulp more (1.5 |x| without fused multiply-add); 0 below -88.4, where eager's exp(-x) overflows. */
NEVE_HOT T F(sigmoid)(T x) { return K(1.0f) / F(one_plus_exp2)(x, -1.44269504f, -88.99f, 87.3f); }

/* x sigmoid(x), as sigmoid. */
NEVE_HOT T F(silu)(T x) { return x / F(one_plus_exp2)(x, -1.44269504f, -88.99f, 87.3f); }

/* x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). 4 ulp, for negative x 2|u| ulp more: better than eager there. */
NEVE_HOT T F(gelu_tanh)(T x)
{
    return x / F(one_plus_exp2)(x * FMA(x * x, K(0.102943240f), K(2.30220819f)), -1.0f, -128.4f, 126.0f);
}

/* 6 ulp; exactly 1 from 4.04 on, and never above. */
NEVE_HOT T F(erf)(T a)
{
    T x = MINF(K(4.04f), MAXF(K(-4.04f), a));
    T v = x * x;
    T n = FMA(FMA(FMA(K(2.041977723e-06f), v, K(2.848071454e-04f)), v, K(3.779554041e-03f)), v, K(5.279011652e-02f));
    n = FMA(FMA(n, v, K(1.907825768e-01f)), v, K(1.128379107e+00f));
    T d = FMA(FMA(FMA(K(3.800407285e-05f), v, K(1.165198977e-03f)), v, K(1.499732677e-02f)), v, K(1.142570004e-01f));
    d = FMA(FMA(d, v, K(5.024093986e-01f)), v, K(1.0f));
    return MINF(K(1.0f), MAXF(K(-1.0f), x * n / d));
}

/* x/2 (1 + erf(x / sqrt 2)) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, 4e-7 (1 + |x|) absolute. The polynomial is fitted to the
   -1/16th power of erfc / 2, weighted by what an error of it does to the result. NaN for -inf, as in eager. */
NEVE_HOT T F(gelu)(T x)
{
    T a = ABS(MINF(K(64.0f), x));
    T p = FMA(FMA(FMA(K(6.987366637e-06f), a, K(3.965440186e-05f)), a, K(7.530657896e-05f)), a, K(3.370532971e-03f));
    p = FMA(FMA(FMA(p, a, K(2.211370132e-02f)), a, K(5.206398265e-02f)), a, K(1.044274841e+00f));
    p *= p, p *= p, p *= p, p *= p;
    return MAXF(K(0.0f), x) - a / p;
}

/* 4 ulp. erfc(a) = exp(-a^2) g((a-2)/(a+2)) / (1 + 2a). */
NEVE_FN T F(erfc)(T x)
{
    T a = MINF(K(10.06f), ABS(x));
    T q = (a - K(2.0f)) / (a + K(2.0f));
    T g = FMA(FMA(FMA(K(7.908472617e-05f), q, K(1.686178875e-04f)), q, K(-4.009229888e-04f)), q, K(-1.420121407e-03f));
    g = FMA(FMA(FMA(FMA(g, q, K(1.253050053e-03f)), q, K(8.708905429e-03f)), q, K(-8.030990139e-03f)), q, K(-5.421780795e-02f));
    g = FMA(FMA(FMA(FMA(g, q, K(1.640510559e-01f)), q, K(-1.660305262e-01f)), q, K(-9.276381880e-02f)), q, K(1.276978374e+00f));
    g = g / FMA(a, K(2.0f), K(1.0f));
    T high = FLT(BITS(a) & (int32_t)0xfffff000u);
    T s = a * a;
    T low = FMA(high, high, -s) + (a - high) * (a + high);
    T r = g * F(exp_scaled)(-s, 24) * (K(1.0f) - low) * K(5.9604645e-08f);
    return SEL(LT(x, K(0.0f)), K(2.0f) - r, r);
}

/* log(1 + exp(x)), 2 ulp: what torch computes below its threshold. */
NEVE_FN T F(softplus)(T x)
{
    T r = F(log1p_unit)(F(exp)(-ABS(x)));
    return MAXF(K(0.0f), x) + r;
}

/* log(sigmoid(x)), 2 ulp. */
NEVE_FN T F(logsigmoid)(T x)
{
    T r = F(log1p_unit)(F(exp)(-ABS(x)));
    return MINF(K(0.0f), x) - r;
}

/* x tanh(softplus(x)), 5 ulp. */
NEVE_FN T F(mish)(T x)
{
    T w = F(exp)(MINF(K(40.0f), x));
    T n = w * (w + K(2.0f));
    return x * (n / (n + K(2.0f)));
}

/* r of x = j pi/2 + r and the bits of j in t; |x| below NEVE_M_TRIG_LIMIT. */
#define NEVE_M_TRIG(x, t, r)                          \
    T t = FMA(x, K(0.636619772f), K(12582912.0f));    \
    T r = F(trig_rest)(x, t - K(12582912.0f));

NEVE_HOT T F(trig_rest)(T x, T j)
{
#ifdef NEVE_M_FUSED
    T r = FMA(j, K(-1.57079601e+00f), x);
    r = FMA(j, K(-3.13916473e-07f), r);
    return FMA(j, K(-5.39030253e-15f), r);
#else
    T r = x - j * K(1.5703125f);
    r = r - j * K(4.83751297e-4f);
    r = r - j * K(7.54953362e-8f);
    return r - j * K(2.5633e-12f);
#endif
}

/* The sine (odd 0) or cosine (odd 1) of x. */
NEVE_HOT T F(sin_or_cos)(T x, int32_t odd)
{
    NEVE_M_TRIG(x, t, r)
    T v = r * r;
    T s = FMA(FMA(FMA(K(-1.951519953e-04f), v, K(8.332160302e-03f)), v, K(-1.666665524e-01f)) * v, r, r);
    T c = FMA(FMA(FMA(K(2.443306039e-05f), v, K(-1.388731529e-03f)), v, K(4.166664556e-02f)) * v, v, FMA(v, K(-0.5f), K(1.0f)));
    I quadrant = BITS(t) + odd;
    T y = SEL(NONZERO(quadrant & 1), c, s);
    return FLT(BITS(y) ^ SHL(quadrant & 2, 30));
}

/* 1.5 ulp at every magnitude: beyond NEVE_M_TRIG_LIMIT by the double function. */
NEVE_FN T F(sin)(T x)
{
    T y = SEL(EQ(x, K(0.0f)), x, F(sin_or_cos)(x, 0));
    REPAIR(x, y, sd_sin)
    return y;
}

/* As sin. */
NEVE_FN T F(cos)(T x)
{
    T y = F(sin_or_cos)(x, 1);
    REPAIR(x, y, sd_cos)
    return y;
}

/* 3 ulp at every magnitude. */
NEVE_FN T F(tan)(T x)
{
    NEVE_M_TRIG(x, t, r)
    T v = r * r;
    T p = FMA(FMA(K(9.388206527e-03f), v, K(3.115265165e-03f)), v, K(2.443298325e-02f));
    p = FMA(FMA(FMA(p, v, K(5.341050029e-02f)), v, K(1.333880872e-01f)), v, K(3.333315551e-01f));
    p = FMA(p * v, r, r);
    T y = SEL(NONZERO(BITS(t) & 1), K(-1.0f) / p, p);
    y = SEL(EQ(x, K(0.0f)), x, y);
    REPAIR(x, y, sd_tan)
    return y;
}

/* asin of the smaller of |x| and its complement, and whether it is the complement. */
#define NEVE_M_ASIN(x, a, big, p)                                                                                             \
    T a = ABS(x);                                                                                                             \
    I big = LT(K(0.5f), a);                                                                                                   \
    T z = SEL(big, FMA(a, K(-0.5f), K(0.5f)), a * a);                                                                         \
    T s = SEL(big, SQRT(z), a);                                                                                               \
    T p = FMA(FMA(FMA(K(3.758095577e-02f), z, K(1.439485233e-02f)), z, K(3.181867301e-02f)), z, K(4.451572150e-02f));         \
    p = FMA(FMA(p, z, K(7.500509918e-02f)), z, K(1.666665971e-01f));                                                          \
    p = FMA(p, s * z, s)

/* 2 ulp. */
NEVE_FN T F(asin)(T x)
{
    NEVE_M_ASIN(x, a, big, p);
    return SIGN_OF(x, SEL(big, FMA(K(-2.0f), p, K(1.57079633f)), p));
}

/* 2 ulp. */
NEVE_FN T F(acos)(T x)
{
    NEVE_M_ASIN(x, a, big, p);
    T twice = p + p;
    T outer = SEL(LT(x, K(0.0f)), K(3.14159274f) - (twice + K(8.74227766e-8f)), twice);
    T inner = K(1.57079637f) - (FLT(BITS(p) ^ (BITS(x) & (int32_t)0x80000000u)) + K(4.37113883e-8f));
    return SEL(big, outer, inner);
}

/* atan of z in 0..1. */
NEVE_HOT T F(atan_unit)(T z)
{
    T v = z * z;
    T p = FMA(FMA(FMA(K(-1.793615986e-03f), v, K(1.091458090e-02f)), v, K(-3.117780387e-02f)), v, K(5.795755610e-02f));
    p = FMA(FMA(FMA(p, v, K(-8.403448015e-02f)), v, K(1.095218509e-01f)), v, K(-1.426424086e-01f));
    p = FMA(FMA(p, v, K(1.999854892e-01f)), v, K(-3.333329856e-01f));
    return FMA(p * v, z, z);
}

/* 2 ulp. */
NEVE_FN T F(atan)(T x)
{
    T a = ABS(x);
    I inverse = LT(K(1.0f), a);
    T p = F(atan_unit)(SEL(inverse, K(1.0f) / a, a));
    return SIGN_OF(x, SEL(inverse, K(1.57079633f) - p, p));
}

/* 3 ulp. */
NEVE_FN T F(atan2)(T y, T x)
{
    T a = ABS(y), b = ABS(x);
    I steep = LT(b, a);
    T high = SEL(steep, a, b), low = SEL(steep, b, a);
    T q = low / high;
    q = SEL(EQ(high, K(0.0f)), K(0.0f), q);
    q = SEL(EQ(low, K(__builtin_inff())), K(1.0f), q);
    T p = F(atan_unit)(q);
    p = SEL(steep, K(1.57079633f) - p, p);
    p = SEL(NEGATIVE(x), K(3.14159265f) - p, p);
    p = SEL(EQ(x, x), p, x);
    return SIGN_OF(y, SEL(EQ(y, y), p, y));
}

/* 2 ulp. */
NEVE_FN T F(sinh)(T x)
{
    T a = ABS(x), v = x * x;
    T p = FMA(FMA(FMA(K(2.818185067e-06f), v, K(1.983595284e-04f)), v, K(8.333351463e-03f)), v, K(1.666666716e-01f));
    T small = FMA(p * v, a, a);
    T e = F(exp_scaled)(a, -1);
    return SIGN_OF(x, SEL(LT(a, K(1.0f)), small, e - K(0.25f) / e));
}

/* 2 ulp. */
NEVE_FN T F(cosh)(T x)
{
    T e = F(exp_scaled)(ABS(x), -1);
    return e + K(0.25f) / e;
}

/* 4 ulp. */
NEVE_FN T F(asinh)(T x)
{
    T a = ABS(x);
    I big = LT(K(1e9f), a);
    T u = a + a * a / (K(1.0f) + SQRT(FMA(a, a, K(1.0f))));
    T r = F(log1p)(SEL(big, a, u)) + SEL(big, K(0.693147182f), K(0.0f));
    return SIGN_OF(x, r);
}

/* 4 ulp; NaN below 1. */
NEVE_FN T F(acosh)(T x)
{
    T t = x - K(1.0f);
    I big = LT(K(1e9f), x);
    T u = t + SQRT(FMA(t, t, t + t));
    T r = F(log1p)(SEL(big, x, u)) + SEL(big, K(0.693147182f), K(0.0f));
    return SEL(LT(x, K(1.0f)), K(__builtin_nanf("")), r);
}

/* 4 ulp. */
NEVE_FN T F(atanh)(T x)
{
    T a = ABS(x);
    return SIGN_OF(x, K(0.5f) * F(log1p)((a + a) / (K(1.0f) - a)));
}

NEVE_HOT T F(sqrt)(T x) { return SQRT(x); }
/* 1 ulp more than exact. */
NEVE_HOT T F(rsqrt)(T x) { return K(1.0f) / SQRT(x); }
NEVE_HOT T F(recip)(T x) { return K(1.0f) / x; }
/* a b + c, rounded once where NEVE_FMA is 1. */
NEVE_HOT T F(fma)(T a, T b, T c) { return FMA(a, b, c); }
NEVE_HOT T F(abs)(T x) { return ABS(x); }
/* -1, 0 or 1; 0 for NaN, as torch.sign. */
NEVE_HOT T F(sign)(T x) { return SEL(LT(K(0.0f), x), K(1.0f), K(0.0f)) - SEL(LT(x, K(0.0f)), K(1.0f), K(0.0f)); }

/* 1.5 ulp; infinite if either is, even beside NaN. */
NEVE_FN T F(hypot)(T x, T y)
{
    T a = ABS(x), b = ABS(y);
    T high = SEL(LT(a, b), b, a);
    I e = (BITS(high) >> 23) & 255;
    e = e - EQI(e, 0);
    e = e + (EQI(e, 254) | EQI(e, 255)) + EQI(e, 255);
    T down = FLT(SHL(254 - e, 23)), up = FLT(SHL(e, 23));
    T u = a * down, v = b * down;
    T r = SQRT(FMA(u, u, v * v)) * up;
    T inf = K(__builtin_inff());
    return SEL(EQ(a, inf), inf, SEL(EQ(b, inf), inf, r));
}

/* NaN if either is. */
NEVE_HOT T F(maximum)(T a, T b) { return SEL(EQ(a, a), MAXF(a, b), a); }
NEVE_HOT T F(minimum)(T a, T b) { return SEL(EQ(a, a), MINF(a, b), a); }
/* The other one if one is NaN. */
NEVE_HOT T F(fmax)(T a, T b) { return SEL(EQ(b, b), MAXF(a, b), a); }
NEVE_HOT T F(fmin)(T a, T b) { return SEL(EQ(b, b), MINF(a, b), a); }

#ifdef NEVE_M_FUSED
/* log(a) as a sum high + low to 2^-46, a positive and finite. After N. Juffa: 2 atanh((m-1)/(m+1)) + e log(2), each product with its error. */
NEVE_HOT void F(log_pair)(T a, T *high, T *low)
{
    I tiny = LT(a, K(1.17549435e-38f));
    a = SEL(tiny, a * K(8388608.0f), a);
    I ie = WRAP_SUB(BITS(a), KI(0x3f3504f3)) & (int32_t)0xff800000u;
    T m = FLT(WRAP_SUB(BITS(a), ie));
    T e = FMA(TO_F(ie), K(1.1920929e-07f), SEL(tiny, K(-23.0f), K(0.0f)));
    T r = K(1.0f) / (m + K(1.0f));
    m = m - K(1.0f);
    T q = r * m;
    T q_low = r * FMA(q, -m, FMA(q, K(-2.0f), m));
    T s = q * q;
    r = FMA(FMA(FMA(K(0.1293334961f), s, K(0.1419928074f)), s, K(0.2000148296f)), s, K(0.3333332539f));
    T t = FMA(q, q_low + q_low, FMA(q, q, -s));
    T p = s * q;
    t = FMA(s, q_low, FMA(t, q, FMA(s, q, -p)));
    s = FMA(r, p, FMA(r, t, q_low));
    r = q + q;
    t = FMA(K(6.93147182e-1f), e, r);
    p = FMA(K(-6.93147182e-1f), e, t);
    s = FMA(K(-1.90465421e-9f), e, FMA(K(2.0f), s, r - p));
    *high = t + s;
    *low = (t - *high) + s;
}

/* 1.5 ulp; 0, infinities, NaN and negative bases as C's pow. */
NEVE_FN T F(pow)(T x, T y)
{
    T a = ABS(x), high, low, inf = K(__builtin_inff());
    F(log_pair)(a, &high, &low);
    T product = MINF(K(150.0f), MAXF(K(-150.0f), high * y));
    T rest = FMA(low, y, FMA(high, y, -product));
    rest = SEL(LT(ABS(product), K(149.0f)), rest, K(0.0f));
    T top = product + rest;
    rest = (product - top) + rest;
    T r = F(exp_scaled)(top, 0);
    r = SEL(LT(r, inf), FMA(rest, r, r), r);
    r = SEL(EQ(a, K(0.0f)), SEL(LT(y, K(0.0f)), inf, K(0.0f)), r);
    r = SEL(EQ(a, inf), SEL(LT(y, K(0.0f)), K(0.0f), inf), r);
    r = SEL(EQ(a, K(1.0f)), K(1.0f), r);
    T half = y * K(0.5f);
    I whole = EQ(TRUNC(y), y), even = EQ(TRUNC(half), half);
    r = SEL(~whole & LT(x, K(0.0f)) & LT(K(0.0f), a) & LT(a, inf), K(__builtin_nanf("")), r);
    r = SEL(whole & ~even, FLT(BITS(r) | (BITS(x) & (int32_t)0x80000000u)), r);
    r = SEL(EQ(x, x) & EQ(y, y), r, x + y);
    return SEL(EQ(y, K(0.0f)) | EQ(x, K(1.0f)), K(1.0f), r);
}
#endif

#undef NEVE_M_REDUCE
#undef NEVE_M_EXP_TAIL
#undef NEVE_M_POW2
#undef NEVE_M_LOG
#undef NEVE_M_TRIG
#undef NEVE_M_ASIN
