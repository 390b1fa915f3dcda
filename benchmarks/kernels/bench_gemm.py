"""GFLOP/s of gemm.h per shape and compiler, on one thread, beside the peak probed around each timing.

python -m benchmarks.kernels.bench_gemm [--compiler gcc] [--shapes 128x384x384,49x1280x320] [--top 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neve.build.target import native
from neve.check.peak import flops
from neve.kernels.gemm.tiles import GemmSpec, candidates
from neve.kernels.kernel import Choice
from tests.kernels.harness import aligned, compilers, defines, load

SHAPES = (
    (128, 384, 384),
    (128, 1536, 384),
    (128, 384, 1536),
    (197, 384, 384),
    (197, 1152, 384),
    (1500, 384, 384),
    (1500, 1536, 384),
    (3136, 64, 64),
    (12544, 16, 32),
    (12544, 32, 32),
    (12544, 96, 32),
    (12544, 96, 16),
    (3136, 24, 144),
    (784, 40, 240),
    (196, 112, 672),
    (49, 1280, 320),
    (49, 320, 960),
    (1, 1000, 1280),
    (1, 1536, 512),
    (8, 512, 512),
)

EPILOGUES = {
    "none": "v",
    "bias": "v + vload((const float *)p[3] + n)",
    "relu": "vmax_fast(v + vload((const float *)p[3] + n), vset(0))",
    "gelu": "vf_gelu(v + vload((const float *)p[3] + n))",
}


@dataclass(frozen=True)
class Result:
    """One timing: GFLOP/s, and the machine's peak at the same time."""

    shape: tuple[int, int, int]
    compiler: str
    label: str
    microseconds: float
    gflops: float
    peak: float


def source(choice: Choice, epilogue: str) -> str:
    """The kernel k_run with a store to p[2], a row-major matrix, and bias p[3]."""
    macros = defines(choice.macros)
    maths = '#include "math.h"\n#define K_STORE_LOOP 1\n' if epilogue == "gelu" else ""
    return f"""#include "rt.h"
#include "vec.h"
{maths}#define KN(x) k_##x
{macros}
NEVE_INLINE vf k_epilogue(void *const *p, vf v, int64_t n) {{ (void)p, (void)n; return {EPILOGUES[epilogue]}; }}
#define K_STORE(v, b, m, n) vstore((float *)p[2] + (m) * GEMM_N + (n), k_epilogue(p, v, n))
#define K_STORE_N(v, cnt, b, m, n) vstore_n((float *)p[2] + (m) * GEMM_N + (n), k_epilogue(p, v, n), cnt)
#include "gemm/gemm.h"
"""


def best_time(run: Callable[[int], None], seconds: float) -> float:
    """The least seconds of one repetition: short batches of repetitions for that long in all."""
    run(1)
    start = time.thread_time()
    run(2)
    once = max((time.thread_time() - start) / 2, 1e-7)
    reps = max(1, int(seconds / 8 / once))
    best = float("inf")
    for _ in range(8):
        start = time.thread_time()
        run(reps)
        best = min(best, (time.thread_time() - start) / reps)
    return best


def measure(shape: tuple[int, int, int], choice: Choice, compiler: str, epilogue: str, seconds: float) -> Result:
    """Time one choice, with warm weights."""
    m, n, k = shape
    rng = np.random.default_rng(0)
    a, c = aligned(m * k, np.float32), aligned(m * n, np.float32)
    a[:] = rng.standard_normal(m * k)
    assert choice.pack is not None
    packed = choice.pack(rng.standard_normal((n, k)).astype(np.float32))
    b = aligned(packed.size, np.float32)
    b[:] = packed
    bias = np.zeros(n + 64, np.float32)
    kernel = load(source(choice, epilogue), compiler, "k_run", native().isa)
    before = flops(1)
    best = best_time(lambda reps: kernel([a, b, c, bias], scratch=choice.scratch, reps=reps), seconds)
    peak = max(before, flops(1)) / 1e9
    return Result(shape, compiler, choice.label, best * 1e6, 2e-9 * m * n * k / best, peak)


def main() -> None:
    """Print a line a shape, choice and compiler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", choices=compilers(), action="append")
    parser.add_argument("--shapes", help="MxNxK, comma-separated")
    parser.add_argument("--top", type=int, default=1, help="time so many of the candidates")
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--epilogue", choices=EPILOGUES, default="bias")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    shapes = [tuple(int(v) for v in s.split("x")) for s in args.shapes.split(",")] if args.shapes else SHAPES
    for m, n, k in shapes:
        for choice in candidates(GemmSpec(m, n, k), native())[: args.top]:
            for compiler in args.compiler or compilers():
                r = measure((m, n, k), choice, compiler, args.epilogue, args.seconds)
                if args.json:
                    print(json.dumps(r.__dict__), flush=True)
                else:
                    print(
                        f"{m:6}x{n:<5}x{k:<5}{compiler:4} {r.label:28} {r.microseconds:9.1f} us "
                        f"{r.gflops:6.1f} GFLOP/s {100 * r.gflops / r.peak:5.1f} % of {r.peak:.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
