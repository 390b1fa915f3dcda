"""Kernels chosen by measurement: every layer's best candidates in place, in the whole program, on its example inputs.

The program is built once for each candidate rank (all layers with their first candidate, all with their second, …)
with a clock around every call, and the builds are called in turn while the budget lasts. So each kernel is timed
with the operands, epilogue and state of the caches that it will meet. What is found is kept per machine.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neve.build.cache import Cache, default_cache, digest
from neve.build.target import Target, cpu_features
from neve.build.toolchain import Compiler
from neve.check.profile import Clocked
from neve.emit.program import emit
from neve.emit.unit import Pick
from neve.errors import CacheError
from neve.ir.graph import Program
from neve.runtime.trees import arguments

CANDIDATES = 3
"""Kernels tried for a layer, the best by analysis first."""
GAIN = 0.97
"""Another kernel replaces the first if it takes at most this share of its time: less is noise."""
LEAST_ROUNDS = 5
FILE = "tuned.json"

Report = Callable[[float, str], None]
Inputs = Mapping[str, Sequence[Any]]
"""The flat inputs of each method that can be run."""


def tune(
    program: Program,
    target: Target,
    inputs: Inputs,
    *,
    name: str = "model",
    threads: int = 1,
    compiler: Compiler,
    seconds: float = 10.0,
    most_threads: int = 1,
    cache: Cache | None = None,
    progress: Report | None = None,
) -> Pick:
    """A `Pick` for `emit` from measurements on this machine.

    inputs: the flat inputs of each method. seconds: how long to measure; building the candidates comes on top (about
    as long as a compilation for each rank). Layers that were measured before on this machine, with as many threads
    and this compiler, are taken from the cache. Raises BuildError.
    """
    known = _Known(target, compiler, threads, cache or default_cache())
    variants = []
    for rank in range(CANDIDATES):
        made = emit(program, target, name, most_threads, pick=_ranked(rank))
        layers = {site.layer for sites in made.calls.values() for site in sites if site.candidates > max(rank, 1)}
        if not any(known.find(layer) is None for layer in layers):
            break
        if progress:
            progress(rank / (CANDIDATES + 1), f"building candidate kernels {rank + 1} of {CANDIDATES}")
        variants.append((made, Clocked(made.source, target, threads, compiler)))
    if len(variants) > 1:
        if progress:
            progress(CANDIDATES / (CANDIDATES + 1), f"measuring candidate kernels for {seconds:.0f} s")
        for layer, choice in _measure(variants, inputs, seconds).items():
            known.keep(layer, choice)
    return lambda layer, candidates: min(known.find(layer) or 0, candidates - 1)


def _ranked(rank: int) -> Pick:
    return lambda layer, candidates: min(rank, candidates - 1)


def _measure(variants: Sequence[tuple[Any, Clocked]], inputs: Inputs, seconds: float) -> dict[str, int]:
    """The best rank of every layer, from rounds over the variants that share the time."""
    times: list[dict[tuple[str, int], list[float]]] = [{} for _ in variants]
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < LEAST_ROUNDS or time.perf_counter() < end:
        for (made, clocked), found in zip(variants, times, strict=True):
            for method in inputs:
                sites = made.calls[method]
                args, kwargs = arguments(clocked.module.methods[method].signature, inputs[method])
                for k, spent in enumerate(clocked.call(method, len(sites), args, kwargs)[1]):
                    found.setdefault((method, k), []).append(spent)
        rounds += 1
    totals: dict[str, dict[int, float]] = {}
    for rank, ((made, _), found) in enumerate(zip(variants, times, strict=True)):
        for (method, k), taken in found.items():
            site = made.calls[method][k]
            if site.layer and rank < site.candidates:
                layer = totals.setdefault(site.layer, {})
                layer[rank] = layer.get(rank, 0.0) + statistics.median(taken[1:])
    return {layer: _best(ranks) for layer, ranks in totals.items()}


def _best(ranks: Mapping[int, float]) -> int:
    best = min(ranks, key=lambda r: ranks[r])
    return best if ranks[best] <= GAIN * ranks[0] else 0


class _Known:
    """Ranks found before on this machine: a file a layer in the cache."""

    def __init__(self, target: Target, compiler: Compiler, threads: int, cache: Cache) -> None:
        self.cache = cache
        self.found: dict[str, int | None] = {}
        self.machine = (
            target.name, str(compiler), _processor(), *sorted(cpu_features()), str(threads), _kernels(),
        )  # fmt: skip

    def find(self, layer: str) -> int | None:
        if layer not in self.found:
            path = self.cache.get(digest("tuned", layer, *self.machine), FILE)
            self.found[layer] = _read(path) if path is not None else None
        return self.found[layer]

    def keep(self, layer: str, choice: int) -> None:
        self.found[layer] = choice
        text = json.dumps({"choice": choice}).encode()
        try:
            self.cache.put(digest("tuned", layer, *self.machine), FILE, text)
        except CacheError:
            return  # the measurement is lost to later compilations, not to this one


def _read(path: Path) -> int | None:
    try:
        choice = json.loads(path.read_bytes())["choice"]
        return choice if isinstance(choice, int) and 0 <= choice < CANDIDATES else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _processor() -> str:
    """The processor's model as Linux names it, else what Python knows."""
    try:
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def _kernels() -> str:
    """A digest of the C templates: other templates, other times."""
    folder = Path(__file__).parent.parent / "kernels"
    return digest("kernels", *(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.h"))))
