"""Attention kernels against the core's peak.

    python -m benchmarks.kernels.bench_attention [--compiler gcc] [--threads 1] [--blocks 24,48]

Prints, for each size, milliseconds (the best of a few runs), GFLOP/s of the two products, and their share of the
multiply-add peak probed beside it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from neve.build.target import native
from neve.check.peak import flops
from tests.kernels import harness
from tests.kernels.test_attention import Problem, arrays, unit

SIZES = {
    "whisper_tiny": Problem(1, 6, 1500, 1500, 64, 64),
    "vit_small": Problem(1, 6, 197, 197, 64, 64, head_major=False),
    "bert_mini 12x32": Problem(1, 12, 128, 128, 32, 32, head_major=False),
    "causal 512": Problem(1, 8, 512, 512, 64, 64, causal=True),
    "decode 1x1024": Problem(1, 8, 1, 1024, 64, 64),
}


def best(
    run: harness.Kernel, operands: list[np.ndarray], sizes: tuple[int, ...], threads: int, scratch: int, reps: int
) -> float:
    """Seconds a call, the best of a few runs: of processor time for one thread, little disturbed by a busy machine."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    times = []
    for _ in range(7):
        start = clock()
        run(operands, sizes, threads, scratch, 0, reps)
        times.append(clock() - start)
    return min(times) / reps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="gcc,zig")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", default="0", help="queries a block, 0: attention.py's choice")
    args = parser.parse_args()
    for compiler in args.compiler.split(","):
        for name, size in SIZES.items():
            for block in map(int, args.blocks.split(",")):
                c = Problem(**{**size.__dict__, "block": block})
                source, scratch = unit(c, 0, native().isa)
                kernel = harness.load(source, compiler, "k0_run", native().isa)
                operands, *_ = arrays(c)
                out = np.empty((c.b, c.h, c.sq, c.dv), np.float32)
                work = 2.0 * c.b * c.h * c.sq * c.sk * (c.d + c.dv) * (0.5 if c.causal else 1)
                reps = max(1, int(0.01 / (work / 8e10)))
                seconds = best(kernel, [*operands, out], (), args.threads, scratch, reps)
                probe = flops(1)
                rate = work / seconds
                print(
                    f"{compiler:4} {name:16} block {block:3} threads {args.threads}: {seconds * 1e3:8.3f} ms"
                    f" {rate / 1e9:6.1f} GFLOP/s {100 * rate / probe / args.threads:5.1f} % of {probe / 1e9:.0f}"
                )


if __name__ == "__main__":
    main()
