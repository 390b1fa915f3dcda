"""gemm.h on edge sizes, for float32 and float64, in each compiler; one, two and three threads give the same bits."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neve.build.target import AVX2, AVX512, Target, runs_here
from neve.ir.index import Index, Var
from neve.ir.types import DType, round_to
from neve.kernels.gemm.tiles import GemmSpec, candidates, pack
from neve.kernels.kernel import Choice, Pack, Size
from neve.kernels.panels import Panels
from tests.kernels.harness import ENTRY, FLAGS, KERNELS, ZIG, S, build, compilers, defines, guarded, load_all

GENERIC = replace(AVX2, name="x86_64", isa="generic", vl=4)
SMALL_CACHE = replace(AVX2, l2=8192)
B = Index.of(Var("b", S[0]))
PAD = 3
"""Columns after each row of the output that must stay as they were."""


@dataclass(frozen=True)
class Problem:
    """A product, the values of s[] to run it with, and which candidate of which target."""

    spec: GemmSpec
    sizes: tuple[tuple[int, ...], ...] = ((),)
    target: Target = AVX2
    index: int = 0

    @property
    def choice(self) -> Choice:
        return candidates(self.spec, self.target)[self.index]


def packed(m: Size, n: int, k: int, *sizes: tuple[int, ...], **more: object) -> Problem:
    return Problem(GemmSpec(m, n, k, **more), sizes or ((),))  # type: ignore[arg-type]


def runtime(m: Size, n: Size, k: Size, *sizes: tuple[int, ...], **more: object) -> Problem:
    return Problem(GemmSpec(m, n, k, b_packed=False, **more), sizes or ((),))  # type: ignore[arg-type]


EDGES = tuple(
    packed(*shape)
    for shape in (
        (1, 1, 1),
        (5, 15, 7),
        (6, 16, 8),
        (7, 17, 9),
        (12, 8, 4),
        (13, 7, 3),
        (3, 24, 5),
        (13, 40, 33),
        (49, 33, 20),
        (1, 70, 33),
        (1, 129, 20),
        (1, 5, 3),
        (2, 100, 65),
        (0, 4, 3),
        (4, 4, 0),
        (1, 20, 0),
        (3, 0, 3),
    )
)
PACKED = (
    packed(7, 20, 6, lda=9),
    packed(7, 20, 6, b_layout="kn"),
    packed(5, 18, 6, batch=3, a_batch=31),
    packed(5, 18, 6, batch=3, a_batch=31, b_batched=True),
    packed(S[0], 37, 19, *((m,) for m in (0, 1, 2, 3, 5, 6, 7, 12, 13, 100, 500))),
    packed(S[0], 130, 8, (1,), (2,), (4,)),
    packed(S[0] * S[1], 12, 5, (3, 4, 8), (0, 2, 8), lda=S[2]),
    Problem(GemmSpec(205, 50, 40), target=SMALL_CACHE),
    Problem(GemmSpec(205, 50, 40, scaled=True), target=SMALL_CACHE),
    packed(13, 7, 3, scaled=True),
    packed(50, 40, 33, scaled=True, lda=1, ldk=55),
    packed(S[0], 130, 8, (1,), (2,), (40,), scaled=True),
    packed(7, 18, 6, batch=3, a_batch=42, b_batched=True, scaled=True),
    Problem(
        GemmSpec(S[0], 50, 40, batch=S[1], a_batch=B * S[0] * 40),
        ((1, 2), (47, 1), (48, 2), (49, 3), (205, 2), (5, 0)),
        SMALL_CACHE,
    ),
)
RUNTIME = (
    runtime(13, 21, 10),
    runtime(2, 45, 10, ldb=47),
    runtime(7, 20, 13, ldb=1, ldn=13),
    runtime(40, 36, 70, batch=3, a_batch=2800, b_batch=2520),
    runtime(13, 17, 9, ldb=40, ldn=2),
    runtime(7, 20, 2100, ldb=1, ldn=2100),
    runtime(
        S[0],
        S[1],
        S[2],
        *((m, n, k) for m in (1, 6, 50) for n in (1, 16, 35) for k in (0, 1, 511, 512, 1030)),
        ldb=S[1],
        lda=S[2],
    ),
    runtime(S[0], S[0], 16, (1,), (7,), (33,), ldb=1, ldn=16, batch=2, a_batch=B * S[0] * 16, b_batch=B * S[0] * 16),
    runtime(13, 21, 10, lda=1, ldk=13),
    runtime(50, 21, S[0], (0,), (9,), (600,), lda=1, ldk=50),
    packed(50, 40, 33, lda=1, ldk=55),
    packed(7, 20, 6, lda=2, ldk=15),
    *(
        packed(m, 70, 33, *sizes, b_type=half, scaled=scaled)
        for half in (DType.float16, DType.bfloat16)
        for scaled in (False, True)
        for m, *sizes in ((1,), (13,), (S[0], (1,), (2,), (40,)))
    ),
    Problem(GemmSpec(100, 40, 33, batch=2, a_batch=3400, lda=1, ldk=102), target=SMALL_CACHE),
)
ALL_TILES = tuple(
    Problem(spec, ((),), AVX2, i)
    for spec in (GemmSpec(23, 75, 11), GemmSpec(1, 150, 11))
    for i in range(0, len(candidates(spec, AVX2)), 2)
)
PROBLEMS = (*EDGES, *PACKED, *RUNTIME)


def doubled(problem: Problem) -> Problem:
    """The problem in float64."""
    return replace(problem, spec=replace(problem.spec, dtype=DType.float64, b_type=DType.float64))


DOUBLES = tuple(doubled(q) for q in (*EDGES[::3], *PACKED, *RUNTIME) if q.spec.b_type is DType.float32)


def source(problem: Problem, name: str) -> str:
    """The kernel NAME_run of operands A, B, C, bias; C is (batch, m, n + PAD) and gets product + the column's bias."""
    macros = defines(problem.choice.macros)
    loop = "#define K_STORE_LOOP 1" if int(name[1:]) % 2 else ""
    out = 2 + problem.spec.scaled
    double = problem.spec.dtype is DType.float64
    element, f, header = ("double", "_f64", "gemm_f64.h") if double else ("float", "", "gemm.h")
    assert problem.choice.header == f"gemm/{header}"
    return f"""
#define KN(x) {name}_##x
{loop}
{macros}
NEVE_INLINE {element} *{name}_at(void *const *p, const int64_t *s, int64_t b, int64_t m, int64_t n)
{{ (void)s; return ({element} *)p[{out}] + (b * (GEMM_M) + m) * ((GEMM_N) + {PAD}) + n; }}
#define K_STORE(v, b, m, n) vstore{f}({name}_at(p, s, b, m, n), (v) + vload{f}((const {element} *)p[{out + 1}] + (n)))
#define K_STORE_N(v, cnt, b, m, n) \\
    vstore_n{f}({name}_at(p, s, b, m, n), (v) + vload_n{f}((const {element} *)p[{out + 1}] + (n), cnt), cnt)
#include "gemm/{header}"
"""


def unit(problems: tuple[Problem, ...]) -> str:
    return '#include "rt.h"\n#include "vec_f64.h"\n' + "".join(source(q, f"k{i}") for i, q in enumerate(problems))


def value(size: Size, s: tuple[int, ...], b: int = 0) -> int:
    env = {str(k): v for k, v in enumerate(s)} | {"b": b}
    return size if isinstance(size, int) else int(size.value(env))


def offset(step: Size, s: tuple[int, ...], b: int) -> int:
    return b * step if isinstance(step, int) else value(step, s, b)


@dataclass
class Operands:
    """Random operands, the arrays handed to the kernel, and what must come out."""

    arrays: list[np.ndarray] = field(default_factory=list)
    want: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0))


def strided(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    steps: tuple[int, int],
    starts: list[int],
    dtype: np.dtype[Any],
) -> tuple[np.ndarray, np.ndarray]:
    """A flat buffer just long enough, and the (batch, rows, columns) view that it holds."""
    _, rows, columns = shape
    index = (
        np.array(starts, np.int64)[:, None, None] + np.arange(rows)[:, None] * steps[0] + np.arange(columns) * steps[1]
    )
    flat = rng.standard_normal(int(index.max()) + 1 if index.size else 0).astype(dtype)
    return guarded(flat), flat[index] if index.size else np.zeros(shape, dtype)


def operands(problem: Problem, s: tuple[int, ...]) -> Operands:
    spec, rng = problem.spec, np.random.default_rng(1)
    dtype = spec.dtype.numpy
    m, n, k, batch = (value(v, s) for v in (spec.m, spec.n, spec.k, spec.batch))
    lda, ldb = (d if v is None else value(v, s) for v, d in ((spec.lda, k), (spec.ldb, n)))
    a_flat, a = strided(
        rng, (batch, m, k), (lda, value(spec.ldk, s)), [offset(spec.a_batch, s, b) for b in range(batch)], dtype
    )
    if spec.b_packed:
        b = round_to(rng.standard_normal((batch if spec.b_batched else 1, k, n)), spec.b_type).astype(dtype)
        weight = b if spec.b_layout == "kn" else np.swapaxes(b, 1, 2)
        assert problem.choice.pack is not None
        b_flat = guarded(problem.choice.pack.array(weight if spec.b_batched else weight[0], spec.b_type))
    else:
        b_flat, b = strided(
            rng, (batch, k, n), (ldb, value(spec.ldn, s)), [offset(spec.b_batch, s, i) for i in range(batch)], dtype
        )
    bias = rng.standard_normal(n).astype(dtype)
    factors = [guarded(rng.standard_normal(k).astype(dtype))] if spec.scaled else []
    for f in factors:
        a = a * f.astype(np.float64)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    return Operands(
        [a_flat, b_flat, *factors, guarded(np.full((batch, m, n + PAD), 7, dtype)), guarded(bias)],
        wide_a @ wide_b + bias,
        np.abs(wide_a) @ np.abs(wide_b) + np.abs(bias),
    )


def check(problems: tuple[Problem, ...], compiler: str, isa: str) -> Iterator[str]:
    """Run every problem at every size; yields what is wrong."""
    kernels = load_all(unit(problems), compiler, tuple(f"k{i}_run" for i in range(len(problems))), isa)
    for i, problem in enumerate(problems):
        tolerance = 1e-6 if problem.spec.dtype is DType.float32 else 2e-15
        for s in problem.sizes:
            made = operands(problem, s)
            first: np.ndarray | None = None
            for threads in (1, 2, 3):
                out = made.arrays[-2]
                out[...] = 7
                kernels[f"k{i}_run"](made.arrays, s, threads, problem.choice.scratch)
                got = out[..., : out.shape[-1] - PAD]
                if not (np.abs(got - made.want) <= tolerance * made.scale + 1e-30).all():
                    yield f"{problem.spec} {s} {problem.choice.label}, {threads} threads: wrong values"
                if not (out[..., out.shape[-1] - PAD :] == 7).all():
                    yield f"{problem.spec} {s}: wrote past the row"
                if first is not None and not np.array_equal(first, got):
                    yield f"{problem.spec} {s}: {threads} threads differ from 1"
                first = got.copy()


@pytest.mark.parametrize("compiler", compilers())
def test_gemm(compiler: str) -> None:
    assert list(check(PROBLEMS, compiler, "avx2")) == []


@pytest.mark.parametrize("compiler", compilers())
def test_float64(compiler: str) -> None:
    assert list(check(DOUBLES, compiler, "avx2")) == []


def test_float64_in_wider_vectors() -> None:
    if runs_here(AVX512):
        pytest.skip("this machine has no AVX-512")
    assert list(check(tuple(replace(q, target=AVX512) for q in DOUBLES[::3]), compilers()[0], "avx512")) == []


@pytest.mark.parametrize("compiler", compilers())
def test_every_candidate(compiler: str) -> None:
    assert list(check(ALL_TILES, compiler, "avx2")) == []


@pytest.mark.skipif(bool(runs_here(AVX512)), reason="this machine has no AVX-512")
@pytest.mark.parametrize("compiler", compilers())
def test_half_of_the_last_vector(compiler: str) -> None:
    """Every candidate for widths whose last vector is half used, less than half, and more."""
    specs = [GemmSpec(m, n, 19) for m, n in ((2, 8), (2, 40), *((23, n) for n in (3, 8, 9, 24, 40, 60)))]
    specs += [GemmSpec(5, 24, 6, batch=3, a_batch=31, b_batched=True), GemmSpec(23, 40, 19, scaled=True)]
    specs += [GemmSpec(40, n, 19, b_type=DType.bfloat16) for n in (24, 40)]
    made = tuple(Problem(s, ((),), AVX512, i) for s in specs for i in range(len(candidates(s, AVX512))))
    halved = {dict(q.choice.macros)["GEMM_HALF"] for q in made}
    assert halved == {0, 1}
    assert list(check(made, compiler, "avx512")) == []


def test_generic_vectors() -> None:
    problems = tuple(replace(q, target=GENERIC) for q in (*EDGES[:10], PACKED[4], *RUNTIME[:6], *DOUBLES[::4]))
    assert list(check(problems, compilers()[0], "generic")) == []


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "wasm32-freestanding", "x86_64-avx512"])
def test_compiles_for(target: str, tmp_path: Path) -> None:
    """Other instruction sets compile without a warning (they do not run here)."""
    if "zig" not in compilers():
        pytest.skip("needs the ziglang wheel")
    name, extra, data = {
        "aarch64-linux-gnu": (target, (), replace(GENERIC, isa="neon", registers=32)),
        "wasm32-freestanding": (target, ("-msimd128",), GENERIC),
        "x86_64-avx512": (
            "x86_64-linux-gnu",
            ("-mcpu=skylake_avx512",),
            replace(AVX2, isa="avx512", vl=16, registers=32),
        ),
    }[target]
    problems = tuple(
        replace(q, target=data)
        for q in (EDGES[7], PACKED[4], RUNTIME[0], RUNTIME[6], doubled(PACKED[4]), doubled(RUNTIME[6]))
    )
    path = tmp_path / "k.c"
    path.write_text(
        unit(problems) + "void k_all(void *const *p, const int64_t *s, neve_thread *th);\n"
        "void k_all(void *const *p, const int64_t *s, neve_thread *th) { "
        + " ".join(f"k{i}_run(p, s, th);" for i in range(len(problems)))
        + " }\n"
    )
    flags = [f for f in FLAGS if f != "-fPIC" or "linux" in name]
    done = subprocess.run(
        [
            *ZIG,
            "-target",
            name,
            *extra,
            *flags,
            "-fno-sanitize=all",
            "-I",
            str(KERNELS),
            "-c",
            str(path),
            "-o",
            str(tmp_path / "k.o"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", compilers())
def test_accumulators_stay_in_registers(compiler: str) -> None:
    """In the 6x16 tile no multiply-add loads its operand, and no vector goes to the stack."""
    if not shutil.which("objdump"):
        pytest.skip("needs objdump")
    problems = (packed(126, 384, 384),)
    path = build(unit(problems) + ENTRY.format("k0_run"), compiler)
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    )
    tile = next(f for f in listing.stdout.split("\n\n") if "<k0_last_6" in f.split("\n")[0])
    multiplies = [line for line in tile.split("\n") if "vfmadd" in line]
    assert multiplies and len(multiplies) % 12 == 0
    assert not [line for line in multiplies if "(" in line]
    assert not [line for line in tile.split("\n") if "%ymm" in line and ("(%rsp" in line or "(%rbp" in line)]


def test_packed_layout() -> None:
    weight = np.arange(2 * 20, dtype=np.float32).reshape(2, 20)
    flat = Pack(pack, (Panels(20, 16, 1, 16), "kn", False)).array(weight)
    np.testing.assert_array_equal(flat[:32].reshape(2, 16), weight[:, :16])
    np.testing.assert_array_equal(flat[32:].reshape(2, 16)[:, :4], weight[:, 16:])
    assert (flat[32:].reshape(2, 16)[:, 4:] == 0).all()


def test_refuses_symbolic_packed_weight() -> None:
    with pytest.raises(ValueError, match="literal sizes"):
        GemmSpec(4, S[0], 3)
