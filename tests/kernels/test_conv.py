"""Every convolution template against float64 numpy, on edge sizes, with both compilers and one to three threads."""
from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.kernels.conv_unit import HEAD, Problem, reference, source, target
from tests.kernels.harness import KERNELS, compilers, load_all

from neve.plan.templates.choice import Choice
from neve.plan.templates.conv import candidates

P = Problem
DIRECT = (
    P(8, 16, 5, 5), P(3, 5, 7, 9), P(64, 16, 6, 6), P(64, 24, 7, 5), P(70, 33, 4, 9), P(16, 16, 1, 1), P(1, 1, 1, 1),
    P(16, 40, 9, 11, stride=(2, 2)), P(65, 17, 9, 8, stride=(3, 2), padding=(0, 1, 2, 1)),
    P(24, 16, 13, 12, dilation=(2, 3), padding=(2, 3, 2, 3)), P(16, 20, 3, 2, kernel=(5, 7), padding=(2, 3, 2, 3)),
    P(16, 8, 2, 2, kernel=(7, 7), padding=(6, 6, 6, 6)), P(64, 32, 8, 8, kernel=(8, 8), stride=(8, 8), padding=(0, 0, 0, 0)),
    P(32, 24, 8, 12, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0)), P(72, 48, 9, 9, kernel=(1, 1), stride=(2, 2), padding=(0,) * 4),
    P(80, 64, 1, 37, kernel=(1, 3), padding=(0, 1, 0, 1)), P(64, 64, 1, 37, kernel=(1, 3), stride=(1, 2), padding=(0, 1, 0, 1)),
    P(48, 48, 6, 6, groups=3), P(64, 32, 7, 7, groups=4, stride=(2, 2)), P(20, 30, 5, 5, groups=10), P(16, 24, 9, 7, batch=3),
    P(16, 24, 9, 7, batch=0), P(16, 24, 9, 7, gap=5), P(80, 24, 9, 7, gap=3, batch=2), P(16, 24, 9, 7, batch=2, symbolic=True),
    P(80, 33, 9, 8, batch=2, symbolic=True, stride=(2, 2)), P(16, 24, 9, 7, padding=(2, 0, 0, 3)),
    *(P(16, 16, 1, n, kernel=(1, 1), padding=(0, 0, 0, 0)) for n in (1, 5, 6, 7, 11, 13)),
)
WINOGRAD = (
    P(16, 16, 8, 8), P(16, 24, 9, 7, padding=(0, 1, 2, 0)), P(20, 13, 6, 11, batch=2), P(8, 8, 1, 1), P(16, 16, 2, 3, padding=(2, 2, 2, 2)),
    P(128, 64, 14, 14), P(64, 64, 33, 30, gap=2), P(16, 16, 8, 9, batch=0), P(16, 40, 12, 9, batch=3, symbolic=True), P(256, 256, 7, 7),
    P(64, 64, 28, 28, batch=2), P(16, 24, 1, 37, kernel=(1, 3), padding=(0, 1, 0, 1)), P(20, 16, 5, 300, kernel=(1, 3), padding=(0, 0, 0, 2)),
    P(3, 16, 30, 31, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3), planar=True), P(1, 9, 5, 7, kernel=(7, 7), stride=(2, 2), padding=(3, 2, 3, 3), planar=True),
    P(4, 8, 2, 2, kernel=(7, 7), stride=(2, 2), padding=(6, 6, 6, 6), planar=True), P(3, 24, 50, 70, kernel=(5, 5), stride=(2, 2), padding=(1, 2, 2, 2), planar=True, batch=2),
    P(32, 24, 13, 15, stride=(2, 2)), P(16, 16, 1, 41, kernel=(1, 3), stride=(1, 2), padding=(0, 1, 0, 1)), P(16, 16, 11, 12, kernel=(5, 5), padding=(2, 2, 2, 2)),
    P(24, 16, 12, 21, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3)), P(20, 24, 1, 50, kernel=(1, 3), padding=(0, 1, 0, 1), planar=True),
    P(8, 16, 11, 5, kernel=(1, 3), stride=(2, 2), padding=(0, 1, 0, 1)), P(64, 128, 28, 28, stride=(2, 2)),
    P(3, 16, 30, 290, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3), planar=True, batch=2, symbolic=True),
)
PLANAR = (
    P(3, 16, 12, 13, kernel=(7, 7), stride=(2, 2), padding=(3, 3, 3, 3), planar=True), P(3, 24, 9, 9, stride=(2, 2), planar=True),
    P(3, 32, 16, 16, kernel=(4, 4), stride=(4, 4), padding=(0, 0, 0, 0), planar=True), P(4, 17, 11, 8, planar=True, batch=2),
    P(3, 40, 33, 34, kernel=(16, 16), stride=(16, 16), padding=(0, 0, 0, 0), planar=True), P(1, 1, 1, 1, planar=True),
    P(2, 9, 3, 2, kernel=(7, 7), padding=(5, 6, 4, 3), planar=True), P(3, 16, 12, 13, planar=True, batch=2, symbolic=True, stride=(2, 2)),
    P(3, 16, 12, 300, planar=True, stride=(2, 2), symbolic=True, dilation=(2, 2)), P(80, 24, 1, 150, kernel=(1, 3), padding=(0, 1, 0, 1), planar=True),
    P(3, 8, 40, 270, planar=True, padding=(0, 2, 1, 0)), P(3, 16, 8, 8, planar=True, batch=0),
)
DEPTHWISE = tuple(replace(p, groups=p.channels) for p in (
    P(8, 8, 9, 11), P(24, 24, 7, 7), P(11, 11, 8, 5, batch=2), P(1 + 2, 3, 1, 1), P(32, 32, 9, 13, stride=(2, 2)), P(16, 16, 14, 14, batch=3),
    P(40, 40, 7, 9, kernel=(5, 5), padding=(2, 2, 2, 2)), P(13, 13, 9, 12, kernel=(5, 5), stride=(2, 2), padding=(1, 1, 2, 2)),
    P(24, 24, 7, 15, kernel=(7, 7), padding=(3, 3, 3, 3)), P(16, 16, 3, 2, kernel=(7, 7), padding=(3, 3, 3, 3)),
    P(8, 8, 12, 13, dilation=(2, 3), padding=(2, 3, 2, 3)), P(8, 8, 9, 9, kernel=(2, 3), stride=(3, 4), padding=(0, 0, 0, 1)),
    P(8, 8, 9, 9, kernel=(1, 1), stride=(2, 3), padding=(0, 0, 0, 0)), P(16, 16, 1, 40, kernel=(1, 31), padding=(0, 15, 0, 15)),
    P(12, 24, 7, 6), P(5, 15, 6, 9, stride=(2, 2)), P(16, 16, 9, 7, gap=3), P(16, 16, 9, 7, batch=0), P(20, 20, 9, 14, batch=2, symbolic=True),
    P(200, 200, 6, 5, kernel=(7, 7), padding=(3, 3, 3, 3)), *(P(8, 8, n, n) for n in (2, 3, 4, 5, 6, 8, 10)),
))


SANITIZED = (DIRECT[1], DIRECT[8], DIRECT[9], DIRECT[17], DIRECT[19], DIRECT[24], WINOGRAD[1], WINOGRAD[2], WINOGRAD[14], WINOGRAD[15], WINOGRAD[16], PLANAR[0], PLANAR[5], PLANAR[7], PLANAR[4],
             DEPTHWISE[2], DEPTHWISE[7], DEPTHWISE[9], DEPTHWISE[10], DEPTHWISE[14])
MAIN = """
#include <stdlib.h>
static void *filled(size_t bytes) {{
    void *p = 0;
    if (posix_memalign(&p, 64, bytes)) abort();
    for (size_t i = 0; i < bytes / 4; i++) ((float *)p)[i] = (float)(i % 7) - 3.0f;
    return p;
}}
static void call(void (*run)(void *const *, const int64_t *, neve_thread *), size_t x, size_t w, size_t y, size_t own, size_t common, const int64_t *s) {{
    void *p[3] = {{filled(x), filled(w), filled(y)}};
    neve_thread th = {{0, 1, filled(own), filled(common), 0, 0, 0}};
    run(p, s, &th);
    free(p[0]), free(p[1]), free(p[2]), free(th.scratch), free(th.shared);
}}
int main(void) {{
{calls}    return 0;
}}
"""


def instances(problems: tuple[Problem, ...], headers: tuple[str, ...] = ()) -> list[tuple[str, Problem, Choice, str]]:
    """(kernel name, problem, choice, source) of every candidate of every problem."""
    found = []
    for i, problem in enumerate(problems):
        spec = problem.spec()
        choices = candidates(spec, target())
        assert choices, problem
        choices = sorted((c for c in choices if not headers or c.header in headers), key=lambda c: c.label)
        if headers == ("winograd.h",):
            choices = choices[i % len(choices):][:1]
        for k, choice in enumerate(choices):
            found.append((f"k{i}_{k}_run", problem, choice, source(f"k{i}_{k}", spec, choice, accumulate=True)))
    return found


def run(kernel: object, problem: Problem, choice: Choice, x: np.ndarray, weight: np.ndarray, threads: int) -> np.ndarray:
    """The output (N, OH, OW, OC), with a guard behind it that must stay as it was."""
    shape = (problem.batch, *problem.out(), problem.out_channels)
    flat = np.zeros(int(np.prod(shape)) + 64, np.float32)
    flat[-64:] = 7.0
    packed = choice.pack(weight) if choice.pack else weight
    assert packed.dtype == np.float32 and packed.flags.c_contiguous
    kernel([x, packed, flat], sizes=problem.sizes(), threads=threads, scratch=choice.scratch, shared=choice.shared)  # type: ignore[operator]
    assert (flat[-64:] == 7.0).all()
    return flat[:-64].reshape(shape)


@pytest.mark.parametrize("compiler", compilers())
@pytest.mark.parametrize("problems", [DIRECT, WINOGRAD, PLANAR, DEPTHWISE], ids=["direct", "winograd", "planar", "depthwise"])
def test_against_float64(problems: tuple[Problem, ...], compiler: str) -> None:
    cases = instances(problems, ("winograd.h",) if problems is WINOGRAD else ("conv.h", "conv_planar.h", "depthwise.h"))
    kernels = load_all(HEAD + "".join(c[3] for c in cases), compiler, tuple(c[0] for c in cases))
    for name, problem, choice, _ in cases:
        x, weight = problem.arrays()
        want = reference(problem, x, weight)
        got = run(kernels[name], problem, choice, x, weight, 1)
        bound = 2e-5 * float(np.abs(want).max(initial=1e-30))
        np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=f"{problem} {choice.label}")
        for threads in (2, 3):
            assert (run(kernels[name], problem, choice, x, weight, threads) == got).all(), (threads, problem, choice.label)


def test_stays_within_its_operands(tmp_path: Path) -> None:
    """Address and undefined-behaviour sanitizers, every operand and scratch buffer in an allocation of its exact size."""
    cases = instances(SANITIZED)
    calls = ""
    for name, problem, choice, _ in cases:
        x, weight = problem.arrays()
        packed = choice.pack(weight) if choice.pack else weight
        out = problem.batch * int(np.prod(problem.out())) * problem.out_channels
        size = x.size if problem.planar else (x.size // problem.channels - 1) * (problem.channels + problem.gap) + problem.channels
        calls += (f"    call({name}, {4 * size}, {packed.nbytes}, {4 * out}, {choice.scratch}, {choice.shared}, "
                  f"(const int64_t[]){{{', '.join(map(str, problem.sizes()))}}});\n")
    unit, program = tmp_path / "unit.c", tmp_path / "unit"
    unit.write_text(HEAD + "".join(c[3] for c in cases) + MAIN.format(calls=calls))
    subprocess.run(["gcc", "-std=gnu11", "-O0", "-g", "-mavx2", "-mfma", "-DNEVE_HOSTED", "-fsanitize=address,undefined", "-fno-sanitize-recover",
                    "-I", str(KERNELS), str(unit), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
