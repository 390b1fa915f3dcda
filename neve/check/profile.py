"""Where a call's time goes: the artifact's C built with a clock around every kernel call."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neve.artifact import Artifact
from neve.build.source import Source
from neve.build.toolchain import build
from neve.runtime.loader import open_library


@dataclass(frozen=True)
class Line:
    """One kernel call of a method: what it is, where it came from, seconds a call, share of the whole."""

    index: int
    label: str
    module: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Profile:
    """seconds is the fastest whole call, as measured from outside; lines are of that call, in order of execution."""

    seconds: float
    lines: list[Line]

    @property
    def covered(self) -> float:
        """The share of the whole that the lines account for."""
        return sum(x.share for x in self.lines)


def profile(
    artifact: Artifact,
    inputs: Sequence[Any],
    *,
    method: str = "forward",
    threads: int = 1,
    calls: int = 20,
    compiler: Any = None,
) -> Profile:
    """Build the artifact's source for this machine with clocks in it and run a method on inputs.

    Raises BuildError without a compiler.
    """
    source = Source(artifact.name, artifact.sources, artifact.weights, artifact.signature)
    library = build(source, extra=("-DNEVE_PROFILE",), compiler=compiler)
    module = open_library(library.path, artifact.signature, artifact.weights, threads)
    sites = artifact.extra["calls"][method]
    call = module.methods[method]
    table = (ctypes.c_uint64 * max(len(sites), 1)).in_dll(
        ctypes.CDLL(str(library.path)), f"{artifact.signature['methods'][method]['symbol']}_ticks"
    )
    for _ in range(3):
        call(*inputs)
    times, rows = [], []
    for _ in range(calls):
        ctypes.memset(table, 0, ctypes.sizeof(table))
        start = time.perf_counter()
        call(*inputs)
        times.append(time.perf_counter() - start)
        rows.append(list(table))
    fastest = min(range(calls), key=times.__getitem__)
    per_tick = _seconds_per_tick(table, call, inputs, len(sites))
    total, row = times[fastest], rows[fastest]
    return Profile(
        total,
        [Line(k, s["label"], s["module"], row[k] * per_tick, row[k] * per_tick / total) for k, s in enumerate(sites)],
    )


def _seconds_per_tick(table: Any, call: Any, inputs: Sequence[Any], count: int) -> float:
    """The clock's rate, from calls long enough that what lies outside the kernels does not matter."""
    best = float("inf")
    for _ in range(5):
        ctypes.memset(table, 0, ctypes.sizeof(table))
        start = time.perf_counter()
        for _ in range(5):
            call(*inputs)
        ticks = sum(table[:count])
        best = min(best, (time.perf_counter() - start) / ticks) if ticks else best
    return best
