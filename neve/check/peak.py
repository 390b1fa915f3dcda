"""What this machine can do at most, measured: the yardstick of a profile."""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neve.build.source import Source
from neve.build.target import native
from neve.build.toolchain import build
from neve.emit.headers import header_closure

WORKING_SETS = (1 << 14, 1 << 18, 1 << 22, 1 << 27)
"""Bytes a thread reads again and again: about the first, second and third cache, and memory."""
SECONDS = 0.03
ROUNDS = 10_000

_C = """#include "neve.h"
#include "kernels/rt.h"
#include "kernels/vec.h"
#include "kernels/peak.h"
NEVE_API void peak_multiply_run(float *out, int64_t n, int64_t reps);
NEVE_API void peak_read_run(const float *x, int64_t n, float *out, int64_t reps);
NEVE_API int64_t peak_lanes(void);
void peak_multiply_run(float *out, int64_t n, int64_t reps) { while (reps--) peak_multiply(out, n); }
void peak_read_run(const float *x, int64_t n, float *out, int64_t reps) { while (reps--) peak_read(x, n, out); }
int64_t peak_lanes(void) { return NEVE_VL; }
"""


@dataclass(frozen=True)
class Peak:
    """float32 operations a second, and bytes a second by working set in bytes, of all the threads together."""

    flops: float
    bandwidths: dict[int, float]

    def bandwidth(self, size: float) -> float:
        """Bytes a second for a working set of about that many bytes."""
        return self.bandwidths[min(self.bandwidths, key=lambda s: abs(np.log(max(size, 1.0) / s)))]

    def seconds(self, flops: float, size: float) -> tuple[float, float]:
        """The least time for so many operations, and for so many bytes."""
        return flops / self.flops, size / self.bandwidth(size)


@functools.cache
def measure(threads: int = 1) -> Peak:
    """The peak of that many threads, each the best of a few runs. Raises BuildError without a C compiler."""
    library, lanes = _library()
    outs = [_aligned(12 * lanes) for _ in range(threads)]
    bandwidths = {}
    for size in WORKING_SETS:
        data = [_aligned(size // 4) for _ in range(threads)]
        for x in data:
            x[:] = 1.0
        jobs = [
            _job(library.peak_read_run, x.ctypes.data, size // 4 // lanes, out.ctypes.data)
            for x, out in zip(data, outs, strict=True)
        ]
        bandwidths[size] = float(size) * threads / _best(jobs)
    return Peak(flops(threads), bandwidths)


def flops(threads: int = 1) -> float:
    """float32 operations a second of that many threads now: the clock of some processors drifts."""
    library, lanes = _library()
    outs = [_aligned(12 * lanes) for _ in range(threads)]
    for out in outs:
        out[:] = 0.5
    return (
        24.0 * lanes * ROUNDS * threads / _best([_job(library.peak_multiply_run, o.ctypes.data, ROUNDS) for o in outs])
    )


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
    """The probes, and the floats of a vector."""
    files = {"peak.c": _C, **header_closure({"rt.h", "vec.h", "peak.h"})}
    library = ctypes.CDLL(str(build(Source("peak", files, np.zeros(0, np.uint8), {}), native()).path))
    library.peak_lanes.restype = ctypes.c_int64
    return library, int(library.peak_lanes())


def _job(function: Callable[..., None], *args: int) -> Callable[[int], None]:
    values = [ctypes.c_int64(a) for a in args]
    return lambda reps: function(*values, ctypes.c_int64(reps))


def _best(jobs: list[Callable[[int], None]]) -> float:
    """Seconds a repetition, all jobs at once, the best of five."""
    reps = 1
    while _together(jobs, reps) < SECONDS / 3:
        reps *= 2
    return min(_together(jobs, reps) for _ in range(5)) / reps


def _together(jobs: list[Callable[[int], None]], reps: int) -> float:
    threads = [threading.Thread(target=job, args=(reps,)) for job in jobs[1:]]
    start = time.perf_counter()
    for t in threads:
        t.start()
    jobs[0](reps)
    for t in threads:
        t.join()
    return time.perf_counter() - start


def _aligned(count: int) -> np.ndarray:
    space = np.empty(count * 4 + 64, np.uint8)
    start = -space.ctypes.data % 64
    return space[start : start + count * 4].view(np.float32)
