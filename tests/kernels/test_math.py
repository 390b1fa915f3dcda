"""The functions of math.h against float64 (for float32) and 40-digit (for float64) references, dense and at edges.

Every bound is in ulp of the exact result. Where the reference has NaN, an infinity or a zero, the function must have it
too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch

from neve.build.target import AVX512, runs_here
from tests.kernels import harness

Reference = Callable[[np.ndarray], np.ndarray]


def by_torch(f: Callable[[torch.Tensor], torch.Tensor]) -> Reference:
    return lambda x: np.asarray(f(torch.from_numpy(x)))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x < -88.3, 0.0, 1 / (1 + np.exp(-x)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    u = 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return np.asarray(x / (1 + np.exp(-np.clip(u, -88.2, None))) * np.where(u < -88.2, 0.0, 1.0))


def mish(x: np.ndarray) -> np.ndarray:
    w = np.exp(np.minimum(x, 40))
    return np.asarray(x * (w * (w + 2) / (w * (w + 2) + 2)))


@dataclass(frozen=True)
class Unary:
    """A float32 function and its bound over `low`..`high` and edges.

    The bound is in ulp, plus `slope` ulp for each unit below zero, or absolute.
    """

    name: str
    reference: Reference
    ulp: float
    low: float = -20.0
    high: float = 20.0
    slope: float = 0.0
    absolute: float = 0.0


UNARY = [
    Unary("exp", np.exp, 1.1, -105, 89),
    Unary("exp2", np.exp2, 1.1, -151, 129),
    Unary("expm1", np.expm1, 1.6, -20, 89),
    Unary("log", np.log, 1.1, 0, 3),
    Unary("log2", np.log2, 2, 0, 3),
    Unary("log10", np.log10, 2.5, 0, 3),
    Unary("log1p", np.log1p, 1.4, -1, 4),
    Unary("tanh", np.tanh, 5, -10, 10),
    Unary("sigmoid", sigmoid, 4, -88, 30, slope=0.25),
    Unary("silu", lambda x: x * sigmoid(x), 4, -80, 30, slope=0.25),
    Unary("logsigmoid", lambda x: -softplus(-x), 2.5, -90, 90),
    Unary("softplus", softplus, 2.5, -90, 90),
    Unary("erf", by_torch(torch.erf), 6.5, -5, 5),
    Unary("erfc", by_torch(torch.erfc), 5, -5, 9),
    Unary("gelu", by_torch(torch.nn.functional.gelu), 0, -12, 12, absolute=4e-7),
    Unary("gelu_tanh", gelu_tanh, 0, -12, 12, absolute=3e-7),
    Unary("mish", mish, 6, -85, 30, absolute=1e-42),
    Unary("sin", np.sin, 1.6, -1e4, 1e4),
    Unary("cos", np.cos, 1.6, -1e4, 1e4),
    Unary("tan", np.tan, 4, -1e4, 1e4),
    Unary("asin", np.arcsin, 2.4, -1, 1),
    Unary("acos", np.arccos, 2, -1, 1),
    Unary("atan", np.arctan, 2),
    Unary("sinh", np.sinh, 2.5, -90, 90),
    Unary("cosh", np.cosh, 2.5, -90, 90),
    Unary("asinh", np.arcsinh, 4),
    Unary("acosh", np.arccosh, 4, 1, 9),
    Unary("atanh", np.arctanh, 4, -1, 1),
    Unary("rsqrt", lambda x: 1 / np.sqrt(x), 1.5, 0, 9),
    Unary("sqrt", np.sqrt, 0.51, 0, 9),
    Unary("recip", lambda x: 1 / x, 0.51),
    Unary("abs", np.abs, 0),
    Unary("floor", np.floor, 0),
    Unary("ceil", np.ceil, 0),
    Unary("trunc", np.trunc, 0),
    Unary("round", np.rint, 0),
    Unary("sign", lambda x: np.where(np.isnan(x), 0.0, np.sign(x)), 0),
    Unary("lgamma", by_torch(torch.lgamma), 0.6, -20, 20),
    Unary("erfinv", by_torch(torch.erfinv), 0.6, -1, 1),
    Unary("i0", by_torch(torch.special.i0), 0.6),
    Unary("i0e", by_torch(torch.special.i0e), 0.6),
    Unary("i1", by_torch(torch.special.i1), 0.6),
    Unary("i1e", by_torch(torch.special.i1e), 0.6),
    Unary("digamma", by_torch(torch.digamma), 0.6, 0.1, 20),
    Unary("ndtri", by_torch(torch.special.ndtri), 0.6, 0, 1),
    Unary("log_ndtr", by_torch(torch.special.log_ndtr), 0.6),
    Unary("ndtr", by_torch(lambda x: torch.erfc(-x / 2**0.5) / 2), 0.6, -5, 5),
    Unary("sinc", by_torch(torch.sinc), 0.6),
]


def two(f: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda a, b: np.asarray(f(torch.from_numpy(a), torch.from_numpy(b)))


BINARY: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], float]] = {
    "pow": (two(torch.pow), 1.5),
    "atan2": (np.arctan2, 3),
    "hypot": (np.hypot, 1.6),
    "maximum": (np.maximum, 0),
    "minimum": (np.minimum, 0),
    "fmax": (np.fmax, 0),
    "fmin": (np.fmin, 0),
    "fmod": (np.fmod, 0),
    "remainder": (two(torch.remainder), 0.51),
    "xlogy": (two(torch.xlogy), 2),
}
EDGES = np.array(
    [
        0.0,
        -0.0,
        1,
        -1,
        0.5,
        -0.5,
        2,
        -2,
        1e-45,
        -1e-45,
        1e-39,
        -1e-39,
        1.17549435e-38,
        3.4028235e38,
        -3.4028235e38,
        np.inf,
        -np.inf,
        np.nan,
        88.72,
        88.73,
        -87.3,
        -87.4,
        -103.9,
        -104,
        128,
        -126,
        -149,
        -150,
        1e-8,
        -1e-8,
        8388608,
        8388609,
        -8388607.5,
        0.49999997,
        1.5,
        2.5,
        -1.5,
        1e10,
        -1e10,
        1e5,
        1.00000012,
        0.99999994,
        709,
        1e20,
        3.1415927,
        1.5707964,
        0.33333334,
        10.06,
        105,
        4.0,
        10.0,
    ],
    np.float32,
)


def inputs(low: float, high: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, 12000, dtype=np.uint32).view(np.float32)
    near = np.ldexp(rng.uniform(-1, 1, 5000), rng.integers(-30, 3, 5000))
    parts = [EDGES, bits, near, 1 + near / 8, rng.uniform(low, high, 24000), np.linspace(low, high, 2001)]
    x = np.concatenate([np.asarray(p, np.float32) for p in parts])
    return np.ascontiguousarray(x[: len(x) // 16 * 16])


SCALAR = (
    "static void s_{n}(void *const *p, const int64_t *s, neve_thread *th) {{ (void)th;"
    " {t} *y = p[0]; const {t} *a = p[1], *b = p[2]; (void)b;"
    " for (int64_t i = 0; i < s[0]; i++) y[i] = {f}_{n}({args}); }}\n"
)
VECTOR = (
    "static void v_{n}(void *const *p, const int64_t *s, neve_thread *th) {{ (void)th;"
    " float *y = p[0]; const float *a = p[1], *b = p[2]; (void)b;"
    " for (int64_t i = 0; i < s[0]; i += NEVE_VL) vstore(y + i, vf_{n}({args})); }}\n"
)
HEAD = '#include "rt.h"\n#include "vec.h"\n#include "math.h"\n#include "vec_half.h"\n'


def build_f32(compiler: str, isa: str) -> dict[str, harness.Kernel]:
    source, names = HEAD, []
    for names_of, scalar, vector in (
        ([u.name for u in UNARY], "a[i]", "vload(a + i)"),
        (BINARY, "a[i], b[i]", "vload(a + i), vload(b + i)"),
    ):
        for n in names_of:
            source += SCALAR.format(n=n, t="float", f="sf", args=scalar) + VECTOR.format(n=n, args=vector)
            names += [f"s_{n}", f"v_{n}"]
    return harness.load_all(source, compiler, tuple(names), isa)


def ulps(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|y - exact| in units of float32's spacing at exact."""
    _, e = np.frexp(exact)
    return np.asarray(np.abs(y.astype(np.float64) - exact) / np.ldexp(1.0, np.maximum(e - 24, -149)))


def check(y: np.ndarray, exact: np.ndarray, limit: np.ndarray, absolute: np.ndarray, what: str, x: np.ndarray) -> None:
    rounded = exact.astype(np.float32)
    assert (np.isnan(y) == np.isnan(rounded)).all(), (
        f"{what}: NaN differs at {x[..., np.isnan(y) != np.isnan(rounded)][..., :5]}"
    )
    finite = np.isfinite(rounded) & np.isfinite(y)
    error = ulps(y[finite], exact[finite])
    bad = (error > limit[finite]) & (np.abs(y[finite] - exact[finite]) > absolute[finite])
    worst = np.argmax(np.where(bad, error, 0))
    assert not bad.any(), (
        f"{what}: {error[worst]:.2f} ulp at {x[..., finite][..., worst]!r}: "
        f"{y[finite][worst]!r}, not {exact[finite][worst]!r}"
    )
    huge = ~finite & ~np.isnan(rounded) & (np.abs(exact) < 3.40282e38 * (1 - 1e-6) if y.dtype == np.float32 else False)
    assert not huge.any(), f"{what}: infinite at {x[..., huge][..., :5]}"
    wrong = ~finite & ~np.isnan(rounded) & (np.abs(exact) > 3.40283e38 * (1 + 1e-6)) & (y != np.sign(exact) * np.inf)
    assert not wrong.any(), f"{what}: {y[wrong][:5]} at {x[..., wrong][..., :5]}"


BUILDS = [("gcc", "avx2"), ("zig", "avx2"), ("gcc", "generic"), ("zig", "generic")]


@pytest.mark.parametrize(("compiler", "isa"), BUILDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float32(compiler: str, isa: str) -> None:
    kernels = build_f32(compiler, isa)
    for case in UNARY:
        x = inputs(case.low, case.high)
        slack = 1e-9 if isa == "generic" and case.name in ("sin", "cos", "tan") else 0.0
        exact = case.reference(x.astype(np.float64))
        slope, more = (case.slope, 0) if isa == "avx2" else (6 * case.slope, 0.6 if case.ulp > 0.6 else 0)
        limit = case.ulp + slope * np.nan_to_num(np.clip(-x, 0, 100)) + more
        results = []
        for kind in "sv":
            y = np.empty_like(x)
            kernels[f"{kind}_{case.name}"]([y, x, None], (len(x),))
            check(
                y,
                exact,
                limit,
                case.absolute * (1 + np.clip(np.abs(x.astype(np.float64)), 0, 10)) + slack,
                f"{kind}f_{case.name}",
                x,
            )
            results.append(y)
        zero = (x == 0) & ~np.isnan(exact)
        if case.name not in ("gelu", "mish", "sign", "lgamma", "recip", "log_ndtr", "digamma"):
            assert (np.signbit(results[1][zero]) == np.signbit(exact[zero])).all(), f"{case.name}: the sign of zero"


@pytest.mark.parametrize(("compiler", "isa"), BUILDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float32_binary(compiler: str, isa: str) -> None:
    kernels = build_f32(compiler, isa)
    rng = np.random.default_rng(2)
    a, b = (g.ravel() for g in np.meshgrid(EDGES, EDGES))
    a = np.concatenate(
        [a, rng.normal(0, 3, 20000), rng.integers(-9, 9, 4000), rng.uniform(0, 2, 20000), rng.uniform(1, 1e6, 9000)]
    ).astype(np.float32)
    b = np.concatenate(
        [b, rng.normal(0, 3, 20000), rng.integers(-9, 9, 4000), rng.uniform(-90, 90, 20000), rng.uniform(-7, 7, 9000)]
    ).astype(np.float32)
    n = len(a) // 16 * 16
    a, b = np.ascontiguousarray(a[:n]), np.ascontiguousarray(b[:n])
    for name, (reference, ulp) in BINARY.items():
        exact = reference(a.astype(np.float64), b.astype(np.float64))
        for kind in "sv":
            y = np.empty_like(a)
            kernels[f"{kind}_{name}"]([y, a, b], (n,))
            check(
                y,
                exact,
                np.full(n, ulp + (0.6 if isa == "generic" and ulp > 0.6 else 0)),
                np.zeros(n),
                f"{kind}f_{name}",
                np.stack([a, b]),
            )


D = mp.mpf
PRECISE: dict[str, tuple[Callable[[mp.mpf], mp.mpf], float, float, float]] = {
    "exp": (mp.exp, 1, -745, 709),
    "exp2": (lambda x: D(2) ** x, 2, -1074, 1023),
    "expm1": (mp.expm1, 1, -40, 700),
    "log": (mp.log, 1, 1e-300, 5),
    "log2": (lambda x: mp.log(x) / mp.log(2), 1, 1e-9, 9),
    "log10": (mp.log10, 1.2, 1e-9, 9),
    "log1p": (mp.log1p, 1, -0.999, 9),
    "tanh": (mp.tanh, 2, -25, 25),
    "sinh": (mp.sinh, 2, -710, 710),
    "cosh": (mp.cosh, 2, -710, 710),
    "asinh": (mp.asinh, 2, -99, 99),
    "acosh": (mp.acosh, 2, 1, 99),
    "atanh": (mp.atanh, 2, -0.9999, 0.9999),
    "sin": (mp.sin, 1, -1e9, 1e9),
    "cos": (mp.cos, 1, -1e9, 1e9),
    "tan": (mp.tan, 1.2, -1e9, 1e9),
    "asin": (mp.asin, 1, -1, 1),
    "acos": (mp.acos, 1, -1, 1),
    "atan": (mp.atan, 1, -50, 50),
    "erf": (mp.erf, 1, -6, 6),
    "erfc": (mp.erfc, 2.5, -6, 26),
    "lgamma": (lambda x: mp.re(mp.loggamma(x)), 4, 0.01, 300),
    "digamma": (mp.digamma, 20, 2, 100),
    "i0": (lambda x: mp.besseli(0, x), 6, -60, 60),
    "i1": (lambda x: mp.besseli(1, x), 10, -60, 60),
    "ndtri": (lambda x: mp.sqrt(2) * mp.erfinv(2 * x - 1), 12, 0.01, 0.45),
    "erfinv": (mp.erfinv, 12, -0.99, 0.99),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), 2.5, -700, 40),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), 2, -700, 90),
    "silu": (lambda x: x / (1 + mp.exp(-x)), 3, -700, 90),
    "gelu": (lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2, 120, -6, 20),
    "mish": (lambda x: x * mp.tanh(mp.log1p(mp.exp(x))), 4, -300, 40),
    "sinc": (mp.sincpi, 3, -0.5, 0.5),
    "trigamma": (lambda x: mp.polygamma(1, x), 4, 1, 50),
    "ndtr": (mp.ncdf, 40, -5, 5),
    "log_ndtr": (lambda x: mp.log(mp.erfc(-x / mp.sqrt(2)) / 2), 40, -60, 5),
}
ROUNDINGS = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint, "sqrt": np.sqrt, "abs": np.abs}


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float64(compiler: str) -> None:
    names = [*PRECISE, *ROUNDINGS, "pow", "fmod", "hypot", "atan2"]
    binary = names[-4:]
    source = HEAD + "".join(
        SCALAR.format(n=n, t="double", f="sd", args="a[i], b[i]" if n in binary else "a[i]") for n in names
    )
    kernels = harness.load_all(source, compiler, tuple(f"s_{n}" for n in names))
    rng = np.random.default_rng(3)
    huge = np.ldexp(rng.uniform(0.5, 1, 60), rng.integers(20, 1024, 60))
    with mp.workdps(40):
        for name, (reference, ulp, low, high) in PRECISE.items():
            x = np.concatenate([rng.uniform(low, high, 80), np.clip(rng.uniform(-2, 2, 60), low, high)])
            if name in ("sin", "cos", "tan"):
                x = np.concatenate(
                    [x, huge, np.array([6381956970095103 * 2.0**797, 1.5707963267948966, 3.141592653589793, 1e22])]
                )
                mp.mp.dps = 360
            y = np.empty_like(x)
            kernels[f"s_{name}"]([y, x, None], (len(x),))
            for a, b in zip(x, y, strict=True):
                exact = reference(D(float(a)))
                error = abs(D(float(b)) - exact) / D(float(np.spacing(max(abs(float(exact)), 2.3e-308))))
                assert error <= ulp or (name in ("lgamma", "digamma") and abs(D(float(b)) - exact) < 1e-15), (
                    f"sd_{name}({a!r}) = {b!r}: {float(error):.2f} ulp"
                )
            mp.mp.dps = 40
    below = np.array([0.999, 0.0, -1.0, -3.0, -6.7e7, -1e300, -np.inf, np.nan])
    y = np.empty_like(below)
    kernels["s_acosh"]([y, below, None], (len(below),))
    assert np.isnan(y).all()
    edges = EDGES.astype(np.float64)
    for name, f in ROUNDINGS.items():
        y = np.empty_like(edges)
        kernels[f"s_{name}"]([y, edges, None], (len(edges),))
        np.testing.assert_array_equal(y, f(edges))
        assert (np.signbit(y) == np.signbit(f(edges)))[~np.isnan(edges)].all()
    a, b = (np.concatenate([g.ravel(), rng.normal(0, 3, 500)]) for g in np.meshgrid(edges, edges))
    for name, g in {"pow": np.power, "fmod": np.fmod, "hypot": np.hypot, "atan2": np.arctan2}.items():
        y = np.empty_like(a)
        kernels[f"s_{name}"]([y, a, b], (len(a),))
        np.testing.assert_allclose(y, g(a, b), rtol=3e-16 if name != "fmod" else 0, atol=0)


WIDE = [(c, "avx512") for c in ("gcc", "zig") if not runs_here(AVX512)]


@pytest.mark.parametrize(("compiler", "isa"), [("gcc", "avx2"), ("zig", "avx2"), ("gcc", "generic"), *WIDE])
def test_half(compiler: str, isa: str) -> None:
    source = (
        HEAD
        + """
static void widen(void *const *p, const int64_t *s, neve_thread *th) {
  (void)th; const uint16_t *h = p[0]; float *a = p[1], *b = p[2];
  for (int64_t i = 0; i < s[0]; i++) { a[i] = sh_to_f(h[i]); b[i] = sb_to_f(h[i]); } }
static void narrow(void *const *p, const int64_t *s, neve_thread *th) {
  (void)th; const float *f = p[0]; uint16_t *a = p[1], *b = p[2];
  for (int64_t i = 0; i < s[0]; i++) { a[i] = sf_to_h(f[i]); b[i] = sf_to_b(f[i]); } }
static void widen_vectors(void *const *p, const int64_t *s, neve_thread *th) {
  (void)th; const uint16_t *h = p[0]; float *a = p[1], *b = p[2];
  int64_t i = 0;
  for (; i + NEVE_VL <= s[0]; i += NEVE_VL) { vstore(a + i, vload_f16(h + i)); vstore(b + i, vload_bf16(h + i)); }
  vstore_n(a + i, vload_f16_n(h + i, s[0] - i), s[0] - i);
  vstore_n(b + i, vload_strided_bf16_n(h + i, 1, s[0] - i), s[0] - i); }
static void narrow_vectors(void *const *p, const int64_t *s, neve_thread *th) {
  (void)th; const float *f = p[0]; uint16_t *a = p[1], *b = p[2];
  int64_t i = 0;
  for (; i + NEVE_VL <= s[0]; i += NEVE_VL) {
    vstore_f16(a + i, i % 3 ? vload(f + i) : vround_f16(vload(f + i)));
    vstore_bf16(b + i, i % 3 ? vload(f + i) : vround_bf16(vload(f + i)));
  }
  vstore_f16_n(a + i, vload_n(f + i, s[0] - i), s[0] - i);
  vstore_strided_bf16_n(b + i, 1, vload_n(f + i, s[0] - i), s[0] - i); }
"""
    )
    kernels = harness.load_all(source, compiler, ("widen", "narrow", "widen_vectors", "narrow_vectors"), isa)
    h = np.arange(65536, dtype=np.uint16)
    a, b = np.empty(65536, np.float32), np.empty(65536, np.float32)
    kernels["widen"]([h, a, b], (65536,))
    np.testing.assert_array_equal(a, h.view(np.float16).astype(np.float32))
    np.testing.assert_array_equal(b, (h.astype(np.uint32) << 16).view(np.float32))
    u, v = np.full(65536, 7, np.float32), np.full(65536, 7, np.float32)
    kernels["widen_vectors"]([h, u, v], (65535,))
    assert (u[-1], v[-1]) == (7, 7), "written past the end"
    for scalar, vector in ((a, u), (b, v)):
        np.testing.assert_array_equal(scalar[:-1].view(np.uint32), vector[:-1].view(np.uint32))
    f = np.concatenate(
        [
            EDGES,
            np.random.default_rng(0).integers(0, 2**32, 200000, dtype=np.uint32).view(np.float32),
            a,
            b,
            np.nextafter(a, np.float32(9)),
            np.ldexp(np.arange(-5000, 5000, dtype=np.float32), -26),
            np.array([65519.9, 65520, 65535], np.float32),
        ]
    )
    c, d = np.empty(len(f), np.uint16), np.empty(len(f), np.uint16)
    kernels["narrow"]([f, c, d], (len(f),))
    u, v = np.full(len(f), 7, np.uint16), np.full(len(f), 7, np.uint16)
    kernels["narrow_vectors"]([f, u, v], (len(f) - 1,))
    assert (u[-1], v[-1]) == (7, 7), "written past the end"
    np.testing.assert_array_equal(u[:-1], c[:-1])
    np.testing.assert_array_equal(v[:-1], d[:-1])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(c.view(np.float16), f.astype(np.float16))
    expected = torch.from_numpy(f).to(torch.bfloat16)
    np.testing.assert_array_equal(
        torch.from_numpy(d.view(np.int16)).view(torch.bfloat16).float().numpy(), expected.float().numpy()
    )


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("bits", [32, 64])
def test_integers(compiler: str, bits: int) -> None:
    names = ("floordiv", "mod", "truncdiv", "fmod", "pow")
    source = HEAD + "".join(SCALAR.format(n=n, t=f"int{bits}_t", f=f"si{bits}", args="a[i], b[i]") for n in names)
    kernels = harness.load_all(source, compiler, tuple(f"s_{n}" for n in names))
    dtype = np.dtype(f"int{bits}").type
    values = np.array(
        [
            0,
            1,
            -1,
            2,
            -2,
            3,
            -3,
            7,
            -7,
            10,
            100,
            -100,
            np.iinfo(dtype).max,
            np.iinfo(dtype).min,
            np.iinfo(dtype).min + 1,
        ],
        dtype,
    )
    a, b = (np.ascontiguousarray(g.ravel()) for g in np.meshgrid(values, values))

    def wrap(v: int) -> int:
        half = int(2 ** (bits - 1))
        return (v + half) % (2 * half) - half

    def trunc(x: int, d: int) -> int:
        q = abs(x) // abs(d)
        return q if (x < 0) == (d < 0) else -q

    def power(x: int, e: int) -> int:
        if e >= 0:
            return wrap(pow(x, e, 2**bits))
        return 1 if x == 1 else (1 if e % 2 == 0 else -1) if x == -1 else 0

    meaning: dict[str, Callable[[int, int], int]] = {
        "floordiv": lambda x, d: 0 if d == 0 else wrap(x // d),
        "mod": lambda x, d: 0 if d == 0 else x % d,
        "truncdiv": lambda x, d: 0 if d == 0 else wrap(trunc(x, d)),
        "fmod": lambda x, d: 0 if d == 0 else x - trunc(x, d) * d,
        "pow": power,
    }
    for name, f in meaning.items():
        y = np.empty_like(a)
        kernels[f"s_{name}"]([y, a, b], (len(a),))
        assert [int(v) for v in y] == [f(int(x), int(d)) for x, d in zip(a, b, strict=True)], name
