"""Every convolution template against float64 numpy, on edge sizes, with both compilers and one to three threads."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest

from neve.build.target import AARCH64, AVX2, AVX512, WASM32, X86_64, Target, native
from neve.kernels.conv import depthwise
from neve.kernels.conv.direct import candidates
from neve.kernels.kernel import Choice
from tests.kernels.conv_problems import DEPTHWISE, DIRECT, PLANAR, SANITIZED, WINOGRAD
from tests.kernels.conv_unit import HEAD, Problem, reference, source
from tests.kernels.harness import FLAGS, KERNELS, ZIG, compilers, load_all

MAIN = """
#include <stdlib.h>
static void *filled(size_t bytes) {{
    void *p = 0;
    if (posix_memalign(&p, 64, bytes)) abort();
    for (size_t i = 0; i < bytes / 4; i++) ((float *)p)[i] = (float)(i % 7) - 3.0f;
    return p;
}}
typedef void kernel(void *const *, const int64_t *, neve_thread *);
static void call(kernel *run, size_t x, size_t w, size_t y, size_t own, size_t common, const int64_t *s) {{
    void *p[3] = {{filled(x), filled(w), filled(y)}};
    if (x) ((float *)p[0])[x / 8] = __builtin_inff();
    neve_thread th = {{0, 1, filled(own), filled(common), 0, 0, 0}};
    run(p, s, &th);
    free(p[0]), free(p[1]), free(p[2]), free(th.scratch), free(th.shared);
}}
int main(void) {{
{calls}    return 0;
}}
"""


def instances(
    problems: tuple[Problem, ...], headers: tuple[str, ...] = (), target: Target = AVX2
) -> list[tuple[str, Problem, Choice, str]]:
    """(kernel name, problem, choice, source) of one candidate of each problem, the candidates in turn.

    Problems that need the same kernel share it: the source of all but the first is empty.
    """
    found: list[tuple[str, Problem, Choice, str]] = []
    names: dict[object, str] = {}
    for i, problem in enumerate(problems):
        spec = problem.spec()
        choices = [c for c in candidates(spec, target) if not headers or c.header in headers]
        choice = sorted(choices, key=lambda c: c.label)[i % len(choices)]
        known = (choice.header, choice.macros)
        text = "" if known in names else source(f"k{i}", spec, choice, accumulate=True)
        found.append((names.setdefault(known, f"k{i}_run"), problem, choice, text))
    return found


def run(
    kernel: object, problem: Problem, choice: Choice, x: np.ndarray, weight: np.ndarray, threads: int
) -> np.ndarray:
    """The output (N, OH, OW, OC), with a guard behind it that must stay as it was."""
    shape = (problem.batch, *problem.out(), problem.out_channels)
    flat = np.zeros(int(np.prod(shape)) + 64, np.float32)
    flat[-64:] = 7.0
    packed = choice.pack.array(weight) if choice.pack else weight
    assert packed.flags.c_contiguous
    kernel([x, packed, flat], sizes=problem.sizes(), threads=threads, scratch=choice.scratch, shared=choice.shared)  # type: ignore[operator]
    assert (flat[-64:] == 7.0).all()
    return flat[:-64].reshape(shape)


def check(problems: tuple[Problem, ...], headers: tuple[str, ...], compiler: str, target: Target = AVX2) -> None:
    """Each instance against the reference, and the same bits from two and three threads."""
    cases = instances(problems, headers, target)
    kernels = load_all(
        HEAD + "".join(c[3] for c in cases), compiler, tuple(dict.fromkeys(c[0] for c in cases)), target.isa
    )
    for name, problem, choice, _ in cases:
        x, weight = problem.arrays()
        want = reference(problem, x, weight)
        got = run(kernels[name], problem, choice, x, weight, 1)
        bound = BOUND * float(np.abs(want).max(initial=1e-30))
        np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=f"{problem} {choice.label}")
        for threads in (2, 3):
            assert (run(kernels[name], problem, choice, x, weight, threads) == got).all(), (threads, problem, choice)


# of the largest output; direct sums of 2304 terms reach 2e-6, F(5, 2) 4e-6
BOUND = 8e-6
GROUPS = {
    "direct": (DIRECT, ("conv/conv.h",)),
    "winograd": (WINOGRAD, ("conv/winograd.h",)),
    "planar": (PLANAR, ("conv/conv_planar.h",)),
    "depthwise": (DEPTHWISE, ("conv/depthwise.h",)),
}


@pytest.mark.parametrize("compiler", compilers())
@pytest.mark.parametrize("group", GROUPS)
def test_against_float64(group: str, compiler: str) -> None:
    """AVX2, the main target."""
    check(*GROUPS[group], compiler)


def test_depthwise_tiles_give_the_same_bits() -> None:
    """Heights that leave rows over, parts of vectors; with weights in registers and without; one to three threads."""
    problems = (
        Problem(20, 20, 11, 13, groups=20),
        Problem(12, 12, 15, 14, stride=(2, 2), groups=12),
        Problem(9, 9, 11, 7, kernel=(5, 5), padding=(2, 2, 2, 2), groups=9),
        Problem(8, 8, 13, 12, dilation=(2, 3), padding=(2, 3, 2, 3), groups=8),
    )
    kept: set[int] = set()
    for target in (AVX2, *((AVX512,) if native().isa == "avx512" else ())):
        cases = []
        for problem in problems:
            spec = problem.spec()
            fitting = sorted(depthwise.tiles(spec, target))
            cases += [(problem, depthwise.with_tile(spec, target, *t)) for t in fitting[:: max(1, len(fitting) // 6)]]
        kept |= {int(dict(c.macros)["CONV_KEEP"]) for _, c in cases}
        names = [f"k{k}" for k in range(len(cases))]
        text = "".join(source(n, p.spec(), c, accumulate=True) for n, (p, c) in zip(names, cases, strict=True))
        kernels = load_all(HEAD + text, compilers()[0], tuple(f"{n}_run" for n in names), target.isa)
        wanted: dict[Problem, np.ndarray] = {}
        for name, (problem, choice) in zip(names, cases, strict=True):
            x, weight = problem.arrays()
            for threads in (1, 2, 3):
                got = run(kernels[f"{name}_run"], problem, choice, x, weight, threads)
                np.testing.assert_array_equal(got, wanted.setdefault(problem, got), err_msg=f"{problem} {choice.label}")
        for problem, got in wanted.items():
            want = reference(problem, *problem.arrays())
            np.testing.assert_allclose(got, want, rtol=0, atol=BOUND * float(np.abs(want).max()), err_msg=f"{problem}")
    assert kept == {0, 1}


@pytest.mark.parametrize("compiler", compilers())
def test_winograd_keeps_nan_and_infinity_in_their_places(compiler: str) -> None:
    """As the definition has them: tiles do not spread them, infinities keep their signs, 0 times infinity is NaN."""
    cases = instances(WINOGRAD, ("conv/winograd.h",))
    kernels = load_all(HEAD + "".join(c[3] for c in cases), compiler, tuple(dict.fromkeys(c[0] for c in cases)))
    rng = np.random.default_rng(0)
    for (name, problem, choice, _), values in itertools.product(
        cases, ((np.inf,), (-np.inf,), (np.nan,), (np.inf, np.inf, -np.inf, np.nan))
    ):
        if not problem.batch:
            continue
        x, weight = problem.arrays()
        weight[rng.random(weight.shape) < 0.1] = 0
        for value in values:
            x[tuple(int(rng.integers(size)) for size in x.shape)] = value
        with np.errstate(invalid="ignore"):
            want = reference(problem, x, weight)
        got = run(kernels[name], problem, choice, x, weight, 1)
        finite = np.isfinite(want)
        what = f"{problem} {choice.label} {values}"
        bound = BOUND * float(np.abs(want[finite]).max(initial=1e-30))
        np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=bound, err_msg=what)
        np.testing.assert_array_equal(got[~finite], want[~finite].astype(np.float32), err_msg=what)
        for threads in (2, 3):
            again = run(kernels[name], problem, choice, x, weight, threads)
            np.testing.assert_array_equal(again, got, err_msg=what)


def test_four_lanes() -> None:
    """The generic vectors, of four lanes."""
    check((*SANITIZED[:8], *SANITIZED[-2:]), (), compilers()[0], X86_64)


@pytest.mark.parametrize("target", [AVX512, AARCH64, WASM32], ids=lambda t: t.name)
def test_compiles_elsewhere(target: Target, tmp_path: Path) -> None:
    """Targets that do not run here compile without a warning."""
    flags = {
        "avx512": ("x86_64-linux-gnu", "-mcpu=skylake_avx512"),
        "neon": ("aarch64-linux-gnu",),
        "wasm": ("wasm32-freestanding", "-msimd128"),
    }
    triple, *more = flags[target.isa]
    cases = instances((DIRECT[0], DIRECT[9], WINOGRAD[1], PLANAR[0], DEPTHWISE[2]), (), target)
    uses = "".join(
        f"void use_{c[0]}(void *const *p, const int64_t *s, neve_thread *th);\n"
        f"void use_{c[0]}(void *const *p, const int64_t *s, neve_thread *th) {{ {c[0]}(p, s, th); }}\n"
        for c in cases
    )
    unit = tmp_path / "unit.c"
    unit.write_text(HEAD + "".join(c[3] for c in cases) + uses)
    plain = [flag for flag in FLAGS if flag != "-fPIC" or target.isa != "wasm"]
    done = subprocess.run(
        [*ZIG, "-target", triple, *more, *plain, "-I", str(KERNELS), "-c", str(unit), "-o", str(tmp_path / "unit.o")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:4000]


def test_stays_within_its_operands(tmp_path: Path) -> None:
    """Address and undefined-behaviour sanitizers, every operand and scratch buffer allocated at its exact size."""
    cases = instances(SANITIZED)
    calls = ""
    for name, problem, choice, _ in cases:
        x, weight = problem.arrays()
        packed = choice.pack.array(weight) if choice.pack else weight
        out = problem.batch * int(np.prod(problem.out())) * problem.out_channels
        size = (
            x.size
            if problem.planar
            else (x.size // problem.channels - 1) * (problem.channels + problem.gap) + problem.channels
        )
        calls += (
            f"    call({name}, {4 * size}, {packed.nbytes}, {4 * out}, {choice.scratch}, {choice.shared}, "
            f"(const int64_t[]){{{', '.join(map(str, problem.sizes()))}}});\n"
        )
    unit, program = tmp_path / "unit.c", tmp_path / "unit"
    unit.write_text(HEAD + "".join(c[3] for c in cases) + MAIN.format(calls=calls))
    subprocess.run(
        [
            "gcc",
            "-std=gnu11",
            "-O0",
            "-g",
            "-mavx2",
            "-mfma",
            "-DNEVE_HOSTED",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover",
            "-I",
            str(KERNELS),
            str(unit),
            "-o",
            str(program),
        ],
        check=True,
    )
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
