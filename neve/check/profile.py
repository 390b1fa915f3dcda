"""Where a call's time goes: the artifact's C built with a clock around every kernel call."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neve.artifact import Artifact, choose_target
from neve.build.source import Source
from neve.build.target import Target
from neve.build.toolchain import Compiler, build
from neve.check.peak import Peak, measure
from neve.errors import ArtifactError
from neve.runtime.expressions import compile_sizes
from neve.runtime.loader import open_library
from neve.runtime.sizes import Solver
from neve.runtime.trees import flatten


@dataclass(frozen=True)
class Line:
    """One kernel call of a method: what it is, where it came from in the model, seconds a call, share of the whole.

    flops and bytes are what the call is for (see `neve.plan.work`); limit is "compute" or "memory", whichever takes
    longer at the machine's measured peak, rate is flops or bytes a second accordingly, and efficiency the least time
    by that peak over the time taken: above 1 for a kernel that needs fewer operations than the definition.
    """

    index: int
    label: str
    module: str
    source: str
    seconds: float
    share: float
    flops: int
    bytes: int
    limit: str
    rate: float
    efficiency: float


@dataclass(frozen=True)
class Profile:
    """seconds is the fastest whole call, as measured in C; lines are of that call, in order of execution."""

    seconds: float
    lines: list[Line]
    peak: Peak

    @property
    def covered(self) -> float:
        """The share of the whole that the lines account for."""
        return sum(x.share for x in self.lines)


class Clocked:
    """A program built with a clock around every kernel call, for a target that this machine can run.

    Raises BuildError without a compiler, ArtifactError for C of a neve that put no clocks into it.
    """

    def __init__(self, source: Source, target: Target, threads: int, compiler: Compiler | None = None) -> None:
        library = build(source, target, extra=("-DNEVE_PROFILE",), compiler=compiler)
        self.source = source
        self.module = open_library(library.path, source.signature, source.weights, threads)
        self._library = ctypes.CDLL(str(library.path))
        if not hasattr(self._library, f"{source.name}_clock"):
            raise ArtifactError(f"{source.name} was made by an older neve, without clocks in its C: compile it again")
        self.per_tick = self._calibrate()

    def call(
        self, method: str, sites: int, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[float, list[float]]:
        """Run a method that has so many kernel calls: seconds of the whole, as measured in C, and of each."""
        symbol = f"{self.source.signature['methods'][method]['symbol']}_ticks"
        table = (ctypes.c_uint64 * (sites + 1)).in_dll(self._library, symbol)
        ctypes.memset(table, 0, ctypes.sizeof(table))
        self.module.methods[method](*args, **kwargs)
        *each, total = (ticks * self.per_tick for ticks in table)
        return total, each

    def _calibrate(self) -> float:
        clock = getattr(self._library, f"{self.source.name}_clock")
        clock.restype = ctypes.c_uint64
        start, first = time.perf_counter(), clock()
        time.sleep(0.02)
        ticks, end = clock() - first, time.perf_counter()
        return (end - start) / max(int(ticks), 1)


def profile(
    artifact: Artifact,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    method: str = "forward",
    threads: int = 1,
    calls: int = 20,
    compiler: Compiler | None = None,
) -> Profile:
    """Build the artifact's source for its best target here with clocks in it and run a method on inputs.

    Raises BuildError without a compiler.
    """
    source = Source(artifact.name, artifact.sources, artifact.weights, artifact.signature)
    sites = artifact.extra["calls"][method]
    clocked = Clocked(source, choose_target(artifact), threads, compiler)
    for _ in range(3):
        clocked.call(method, len(sites), args, kwargs)
    total, row = min((clocked.call(method, len(sites), args, kwargs) for _ in range(calls)), key=lambda found: found[0])
    call = clocked.module.methods[method]
    peak = measure(threads)
    work = _work(sites, call, args, kwargs)
    return Profile(
        total,
        [_line(k, s, *work[k], row[k], total, peak) for k, s in enumerate(sites)],
        peak,
    )


def _work(
    sites: Sequence[dict[str, Any]], call: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[tuple[int, int]]:
    """Each call's operations and bytes for these inputs."""
    signature = call.signature
    leaves = flatten(signature, tuple(args), dict(kwargs))
    names = [s.name for s in signature.symbols]
    values = Solver(signature).solve(tuple(tuple(getattr(x, "shape", ())) for x in leaves), leaves).symbols
    totals = compile_sizes([t for s in sites for t in (s.get("flops", 0), s.get("bytes", 0))], names)(*values)
    return list(zip(totals[::2], totals[1::2], strict=True))


def _line(index: int, site: dict[str, Any], flops: int, size: int, seconds: float, total: float, peak: Peak) -> Line:
    compute, memory = peak.seconds(flops, size)
    limit = "compute" if compute >= memory else "memory"
    taken = max(seconds, 1e-12)
    return Line(
        index,
        site["label"],
        site["module"],
        site["source"],
        seconds,
        seconds / total,
        flops,
        size,
        limit,
        (flops if limit == "compute" else size) / taken,
        max(compute, memory) / taken,
    )
