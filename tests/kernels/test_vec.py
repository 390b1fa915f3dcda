"""vec.h: each operation, in each compiler and width that runs here, against numpy; other targets must compile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from neve.build.target import native
from tests.kernels.harness import FLAGS, KERNELS, ZIG, compilers, load

UNARY = {"vabs": np.abs, "vsqrt": np.sqrt, "vfloor": np.floor, "vceil": np.ceil, "vtrunc": np.trunc, "vround": np.rint}
SOURCE = (
    '#include "vec.h"\n'
    + "".join(
        f"static void k_{n}(void *const *p, const int64_t *s, neve_thread *th)"
        f" {{ (void)th; const float *a = p[0]; float *c = p[2];"
        f" for (int64_t i = 0; i < s[0]; i += NEVE_VL) vstore(c + i, {n}(vload(a + i))); }}\n"
        for n in UNARY
    )
    + """
static void k_rest(void *const *p, const int64_t *s, neve_thread *th)
{
    (void)th;
    const float *a = p[0], *b = p[1];
    float *c = p[2], *d = p[3];
    int64_t n = s[0];
    for (int64_t i = 0; i < n; i += NEVE_VL) {
        vf x = vload(a + i), y = vload(b + i);
        vstore(c + i, vmax_fast(x, y));
        vstore(c + n + i, vmin_fast(x, y));
        vstore(c + 2 * n + i, vmax(x, y));
        vstore(c + 3 * n + i, vmin(x, y));
        vstore(c + 4 * n + i, vselect(x < y, x, y + vset(1)));
        vstore(c + 5 * n + i, vfma(x, y, vset(3)));
        vstore(c + 6 * n + i, vcvt_f(vcvt_i(vselect(vabs(x) < vset(1e6f), x, vset(0)))));
        vstore(c + 7 * n + i, vgather(b, vset_i((int32_t)i) + vset_i(NEVE_VL - 1) - viota()));
        vstore(c + 8 * n + i, vset(vsum(vload(b + i))));
        vstore(c + 9 * n + i, vset(vhmax(x)));
        vstore(c + 10 * n + i, vcvt_f(vload_u8((const uint8_t *)a + i)));
        vstore(c + 11 * n + i, vmax_number(x, vset(0)));
        vstore(c + 12 * n + i, vmin_number(x, vset(0)));
    }
    for (int64_t cnt = 0; cnt <= NEVE_VL; cnt++) {
        vstore(d + cnt * 32, vload_n(b, cnt));
        vstore_n(d + cnt * 32 + 16, vload(b), cnt);
    }
    vf r[NEVE_VL];
    for (int i = 0; i < NEVE_VL; i++)
        r[i] = vload(b + i * NEVE_VL);
    vtranspose(r);
    for (int i = 0; i < NEVE_VL; i++)
        vstore(d + 17 * 32 + i * NEVE_VL, r[i]);
    d[1023] = NEVE_VL;
}
"""
)
SPECIAL = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.49999997,
    8388607.5,
    -8388607.5,
    8388609.0,
    1e20,
    -1e20,
    np.inf,
    -np.inf,
    np.nan,
    -0.3,
    0.3,
    4194304.5,
    2147483648.0,
]


ISAS = ("generic", "avx2", *(("avx512",) if native().isa == "avx512" else ()))


@pytest.fixture(scope="module", params=[(c, i) for c in compilers() for i in ISAS], ids="-".join)
def built(request: pytest.FixtureRequest) -> tuple[str, str]:
    compiler, isa = request.param
    return compiler, isa


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = (rng.standard_normal(512) * 10 ** rng.uniform(-2, 8, 512)).astype(np.float32)
    a[: len(SPECIAL)] = SPECIAL
    b = rng.standard_normal(512).astype(np.float32)
    return a, b


@pytest.mark.parametrize("name", UNARY)
def test_unary(built: tuple[str, str], data: tuple[np.ndarray, np.ndarray], name: str) -> None:
    a, b = data
    c = np.empty_like(a)
    load(SOURCE, built[0], f"k_{name}", built[1], ("-Wno-unused-function",))([a, b, c], [512])
    with np.errstate(invalid="ignore"):
        want = UNARY[name](a)
    np.testing.assert_array_equal(c, want)
    if name != "vsqrt":
        keep = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(c[keep]), np.signbit(want[keep]))


def test_rest(built: tuple[str, str], data: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = data
    b2 = b.copy()
    b2[30] = np.nan
    n = 512
    for y in (b, b2):
        c, d = np.empty((13, n), np.float32), np.full(1024, 7, np.float32)
        load(SOURCE, built[0], "k_rest", built[1], ("-Wno-unused-function",))([a, y, c, d], [n])
        vl = int(d[1023])
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(c[0], np.where(a > y, a, y))
            np.testing.assert_array_equal(c[1], np.where(a < y, a, y))
            np.testing.assert_array_equal(c[2], np.maximum(a, y))
            np.testing.assert_array_equal(c[3], np.minimum(a, y))
            np.testing.assert_array_equal(c[4], np.where(a < y, a, y + np.float32(1)))
            for got, want in ((c[11], np.where(a < 0, 0, a)), (c[12], np.where(a > 0, 0, a))):
                np.testing.assert_array_equal(got, want)
                np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))
            np.testing.assert_allclose(c[5], a * y + np.float32(3), rtol=1e-6, atol=2e-6)
            np.testing.assert_array_equal(c[6], np.where(np.abs(a) < 1e6, np.trunc(a), 0))
        np.testing.assert_array_equal(c[7].reshape(-1, vl), y.reshape(-1, vl)[:, ::-1])
        np.testing.assert_allclose(c[8].reshape(-1, vl)[:, 0], y.reshape(-1, vl).sum(1), atol=1e-5)
        np.testing.assert_array_equal(c[9].reshape(-1, vl)[:, 0], a.reshape(-1, vl).max(1))
        np.testing.assert_array_equal(c[10], a.view(np.uint8)[:n])
        for cnt in range(vl + 1):
            np.testing.assert_array_equal(d[cnt * 32 : cnt * 32 + vl], np.where(np.arange(vl) < cnt, y[:vl], 0))
            np.testing.assert_array_equal(
                d[cnt * 32 + 16 : cnt * 32 + 16 + vl], np.where(np.arange(vl) < cnt, y[:vl], 7)
            )
        np.testing.assert_array_equal(d[544 : 544 + vl * vl].reshape(vl, vl), y[: vl * vl].reshape(vl, vl).T)


@pytest.mark.parametrize(
    "target", ["aarch64-linux-gnu", "wasm32-freestanding", "x86_64-windows-gnu", "aarch64-macos", "x86_64-avx512"]
)
def test_compiles_without_libm(target: str, tmp_path: Path) -> None:
    """The unit compiles for targets that do not run here and needs no symbol from outside."""
    if "zig" not in compilers():
        pytest.skip("needs the ziglang wheel")
    unit, out = tmp_path / "k.c", tmp_path / "k.o"
    names = [f"k_{n}" for n in (*UNARY, "rest")]
    unit.write_text(
        SOURCE + "void k_all(void *const *p, const int64_t *s, neve_thread *th);\n"
        "void k_all(void *const *p, const int64_t *s, neve_thread *th) {"
        + "".join(f"{n}(p, s, th);" for n in names)
        + "}\n"
    )
    extra = {"wasm32-freestanding": ["-msimd128"], "x86_64-avx512": ["-mcpu=skylake_avx512"]}.get(target, [])
    triple = "x86_64-linux-gnu" if target == "x86_64-avx512" else target
    flags = [f for f in FLAGS if f != "-fPIC" or "linux" in triple]
    done = subprocess.run(
        [
            *ZIG,
            "-target",
            triple,
            *extra,
            *flags,
            "-fno-sanitize=all",
            "-I",
            str(KERNELS),
            "-c",
            str(unit),
            "-o",
            str(out),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = out.read_bytes()
    for symbol in (b"sqrtf", b"floorf", b"ceilf", b"truncf", b"roundevenf", b"fmaf"):
        assert symbol not in data
