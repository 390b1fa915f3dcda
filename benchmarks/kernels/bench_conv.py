"""Time the convolution kernels: ms and GFLOP/s of each candidate at the layer sizes of common networks, one thread.

    python -m benchmarks.kernels.bench_conv [--group resnet18] [--compiler gcc] [--reps 30] [--best]

GFLOP/s count the multiplications of the direct sum, whatever the algorithm does. Each line carries the peak that
register-only multiply-adds reached beside it, for the core's speed drifts. Weights rotate over copies: they are cold.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from dataclasses import replace

import numpy as np

from neve.build.target import native
from neve.check.peak import flops
from neve.kernels.conv.direct import candidates
from neve.kernels.kernel import Choice
from tests.kernels.conv_unit import HEAD, Problem, reference, source
from tests.kernels.harness import Kernel, Thread, aligned, compilers, load_all

P = Problem
NONE = (0, 0, 0, 0)


def depthwise(channels: int, size: int, kernel: int, stride: int = 1) -> Problem:
    """A square depthwise layer with symmetric padding."""
    pad = kernel // 2
    return P(channels, channels, size, size, (kernel, kernel), (stride, stride), (pad, pad, pad, pad), groups=channels)


GROUPS: dict[str, tuple[Problem, ...]] = {
    "resnet18": (P(64, 64, 56, 56), P(128, 128, 28, 28), P(256, 256, 14, 14), P(512, 512, 7, 7)),
    "strided": (
        P(64, 128, 56, 56, stride=(2, 2)),
        P(128, 256, 28, 28, stride=(2, 2)),
        P(256, 512, 14, 14, stride=(2, 2)),
        P(64, 128, 56, 56, (1, 1), (2, 2), NONE),
        P(256, 512, 14, 14, (1, 1), (2, 2), NONE),
    ),
    "stem": (
        P(3, 64, 224, 224, (7, 7), (2, 2), (3, 3, 3, 3), planar=True),
        P(3, 32, 224, 224, stride=(2, 2), planar=True),
        P(3, 96, 224, 224, (4, 4), (4, 4), NONE, planar=True),
        P(3, 384, 224, 224, (16, 16), (16, 16), NONE, planar=True),
        P(3, 32, 224, 224, (7, 7), (4, 4), (3, 3, 3, 3), planar=True),
    ),
    "segformer": (
        P(32, 64, 56, 56, stride=(2, 2)),
        P(64, 160, 28, 28, stride=(2, 2)),
        P(160, 256, 14, 14, stride=(2, 2)),
        P(32, 32, 56, 56, (8, 8), (8, 8), NONE),
        P(64, 64, 28, 28, (4, 4), (4, 4), NONE),
        P(160, 160, 14, 14, (2, 2), (2, 2), NONE),
    ),
    "whisper": (
        P(80, 384, 1, 3000, (1, 3), (1, 1), (0, 1, 0, 1)),
        P(80, 384, 1, 3000, (1, 3), (1, 1), (0, 1, 0, 1), planar=True),
        P(384, 384, 1, 3000, (1, 3), (1, 2), (0, 1, 0, 1)),
    ),
    "mobilenet": (
        depthwise(32, 112, 3),
        depthwise(96, 112, 3, 2),
        depthwise(144, 56, 3),
        depthwise(144, 56, 3, 2),
        depthwise(192, 28, 3),
        depthwise(192, 28, 3, 2),
        depthwise(384, 14, 3),
        depthwise(576, 14, 3),
        depthwise(576, 14, 3, 2),
        depthwise(960, 7, 3),
    ),
    "efficientnet": (
        depthwise(144, 56, 5, 2),
        depthwise(240, 28, 5),
        depthwise(480, 14, 5),
        depthwise(672, 14, 5, 2),
        depthwise(1152, 7, 5),
    ),
    "convnext": (depthwise(96, 56, 7), depthwise(192, 28, 7), depthwise(384, 14, 7), depthwise(768, 7, 7)),
}


def at_address(array: np.ndarray) -> np.ndarray:
    """A copy that begins on a cache line."""
    flat = aligned(array.size, np.float32)
    flat[:] = array.reshape(-1)
    return flat


def prepared(
    kernel: Kernel, arrays: list[np.ndarray], sizes: tuple[int, ...], own: np.ndarray, common: np.ndarray
) -> tuple[object, ...]:
    """The arguments of a one-thread call, kept alive together with their buffers."""
    p = (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])
    s = (ctypes.c_int64 * max(1, len(sizes)))(*sizes)
    thread = Thread(0, 1, own.ctypes.data, common.ctypes.data, None, None, None)
    return kernel._run, p, s, ctypes.byref(thread), own, common, arrays, thread


def measure(kernel: Kernel, problem: Problem, choice: Choice, reps: int) -> tuple[float, float]:
    """(seconds of a one-thread call with cold weights, peak FLOP/s at that time)."""
    x, weight = problem.arrays()
    packed = choice.pack(weight) if choice.pack else weight
    copies = max(3, min(64, (128 << 20) // max(1, packed.nbytes)))
    x, out = (
        at_address(x if problem.planar else x.transpose(0, 2, 3, 1)),
        aligned(int(np.prod((problem.batch, *problem.out(), problem.out_channels))), np.float32),
    )
    own, common = aligned(choice.scratch + 64), aligned(choice.shared + 64)
    calls = [prepared(kernel, [x, at_address(packed), out], problem.sizes(), own, common) for _ in range(copies)]
    best, peak = 1e9, flops(1)
    for i in range(reps + 2):
        run, p, s, thread, *_ = calls[i % copies]
        start = time.perf_counter()
        run(p, s, thread)  # type: ignore[operator]
        best = min(best, time.perf_counter() - start)
    want = reference(
        problem,
        x.reshape(problem.batch, problem.channels, problem.height, problem.width)
        if problem.planar
        else x.reshape(problem.batch, problem.height, problem.width, problem.channels).transpose(0, 3, 1, 2),
        weight,
    )
    error = np.abs(out.reshape(want.shape) - want).max() / np.abs(want).max()
    assert error < 2e-5, (problem, choice.label, error)
    return best, max(peak, flops(1))


def main() -> None:
    """Print one line for each layer, compiler and candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=[*GROUPS], action="append")
    parser.add_argument("--compiler", choices=compilers(), action="append")
    parser.add_argument("--reps", type=int, default=30)
    parser.add_argument("--best", action="store_true", help="only the candidate that the cost model prefers")
    args = parser.parse_args()
    for group in args.group or GROUPS:
        problems = [replace(p) for p in GROUPS[group]]
        cases = [
            (f"k{i}_{k}", p, c)
            for i, p in enumerate(problems)
            for k, c in enumerate(candidates(p.spec(), native())[: 1 if args.best else None])
        ]
        text = HEAD + "".join(source(name, p.spec(), c) for name, p, c in cases)
        names = tuple(f"{name}_run" for name, _, _ in cases)
        for compiler in args.compiler or compilers():
            kernels = load_all(text, compiler, names, native().isa)
            total = 0.0
            for name, p, choice in cases:
                seconds, peak = measure(kernels[f"{name}_run"], p, choice, args.reps)
                spec = p.spec()
                work = 2.0 * spec.pixels() * spec.depth * spec.out_channels
                total += seconds
                layer = f"{p.height}x{p.width} {p.channels}->{p.out_channels} s{p.stride[0]}"
                rate = f"{work / seconds / 1e9:7.1f} GFLOP/s of {peak / 1e9:5.1f}"
                clock = f"{seconds * 1e3:7.3f} ms (model {choice.cost * 1e3:6.3f})"
                print(f"{group:12} {compiler:4} {layer} {clock} {rate}  {choice.label}", flush=True)
            print(f"{group:12} {compiler:4} sum {total * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
