"""Latency of whole models in every engine: `python -m benchmarks.models.measure [models …] [--threads 1 --threads 2]`.

Each engine runs in a process of its own, all of them kept alive beside each other. Rounds go over the engines in turn,
so that what slows the machine for a while slows all alike; a figure is the median over rounds of the median of a
round's calls, and only figures of one run may be compared. The error is the largest against eager, relative to its
largest output. Figures go to a JSON file, a model at a time, so that a run may be continued. `--priority` keeps other
programs of the machine off the processors during each round (Linux, as root): figures as of a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.models.engines import ENGINES, versions

ROUND = 0.25
"""Seconds of calls a round."""
MOST_CALLS = 50
BUILD_LIMIT = 900.0
ANSWER_LIMIT = 60.0


@contextlib.contextmanager
def undisturbed(wanted: bool) -> Iterator[None]:
    """All threads of this process before those of any other, as real-time threads are."""
    if not wanted:
        yield
        return
    tasks = [int(t) for t in os.listdir("/proc/self/task")]
    _schedule(tasks, os.SCHED_FIFO, 10)
    try:
        yield
    finally:
        _schedule(tasks, os.SCHED_OTHER, 0)


def _schedule(tasks: list[int], policy: int, priority: int) -> None:
    for task in tasks:
        with contextlib.suppress(ProcessLookupError):  # a thread that has ended
            os.sched_setscheduler(task, policy, os.sched_param(priority))


def work(pipe: Connection, engine: str, model: str, threads: int, priority: bool) -> None:
    """One engine: build, tell the error, then time as many calls as asked for until asked for none."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        import numpy as np
        import torch

        from tests.models import zoo

        torch.set_num_threads(threads)
        with torch.inference_mode():
            net, args = zoo.build(model), zoo.draw(model, 1)
            want = net(*args).numpy()
            start = time.perf_counter()
            run = ENGINES[engine][0](net, args, threads)
            got = np.asarray(run()).reshape(want.shape)
            error = float(np.abs(got - want).max() / np.abs(want).max())
            pipe.send({"error": error, "build": time.perf_counter() - start})
            while count := pipe.recv():
                with undisturbed(priority):
                    times = [_seconds(run) for _ in range(count)]
                pipe.send(times)
    except EOFError:
        return
    except BaseException as failure:
        first = (str(failure).strip().splitlines() or [""])[0]
        pipe.send({"failure": f"{type(failure).__name__}: {first}"[:200]})


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Engine:
    """A worker process and what it has told."""

    def __init__(self, name: str, model: str, threads: int, priority: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=work, args=(far, name, model, threads, priority), daemon=True)
        self.process.start()
        far.close()
        self.told: dict[str, Any] = self.ask(None, BUILD_LIMIT) or {"failure": "no answer"}
        self.medians: list[float] = []
        self.calls = 1
        if self.alive and (first := self.ask(2, ANSWER_LIMIT)):
            self.calls = max(1, min(MOST_CALLS, int(ROUND / max(min(first), 1e-6))))

    @property
    def alive(self) -> bool:
        return "failure" not in self.told

    def ask(self, count: int | None, limit: float) -> Any:
        """The answer to `count` calls (None: the one that comes by itself), None if there is none in time."""
        try:
            if count is not None:
                self.pipe.send(count)
            return self.pipe.recv() if self.pipe.poll(limit) else None
        except (EOFError, OSError):
            return None

    def round(self) -> None:
        times = self.ask(self.calls, ANSWER_LIMIT + 2 * ROUND) if self.alive else None
        if times is None or isinstance(times, dict):
            self.told.setdefault("failure", (times or {}).get("failure", "died while it ran"))
        else:
            self.medians.append(statistics.median(times))

    def close(self) -> dict[str, Any]:
        self.process.kill()
        self.process.join()
        return self.told | ({"seconds": statistics.median(self.medians)} if self.alive and self.medians else {})


def measure(
    model: str, threads: int, engines: list[str], rounds: int, priority: bool = False
) -> dict[str, dict[str, Any]]:
    """What each engine's figures for a model are: {engine: {"seconds", "error", "build"} or {"failure"}}."""
    live = {name: Engine(name, model, threads, priority) for name in engines}
    for _ in range(rounds):
        for engine in live.values():
            if engine.alive:
                engine.round()
    return {name: engine.close() for name, engine in live.items()}


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    from neve.build.target import native
    from neve.check.peak import measure as measure_peak

    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    peak = measure_peak(1)
    return {
        "date": dt.datetime.now(tz=dt.timezone.utc).date().isoformat(),
        "processor": names[0] if names else "unknown",
        "processors": os.cpu_count(),
        "target": native().name,
        "peak": round(peak.flops / 1e9),
        "versions": versions(),
    }


def main() -> None:
    """Measure and write the JSON file."""
    from tests.models.zoo import ZOO

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[], help=f"of {', '.join(ZOO)} (default: all)")
    parser.add_argument("--threads", type=int, action="append", help="default: 1")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--priority", action="store_true", help="keep other programs off the processors")
    parser.add_argument("--out", type=Path, default=Path("build/results.json"))
    a = parser.parse_args()
    unknown = [m for m in a.models if m not in ZOO] + [e for e in a.engines.split(",") if e not in ENGINES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    a.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = json.loads(a.out.read_text()) if a.out.exists() else {"models": {}}
    found["machine"] = machine()
    for threads in a.threads or [1]:
        for model in a.models or [m for m, entry in ZOO.items() if not entry.missing]:
            rows = measure(model, threads, a.engines.split(","), a.rounds, a.priority)
            found["models"].setdefault(model, {})[str(threads)] = rows
            a.out.write_text(json.dumps(found, indent=1))
            print(f"{model}, {threads} thread{'s' * (threads > 1)}", flush=True)
            for name, row in sorted(rows.items(), key=lambda r: r[1].get("seconds", 1e9)):
                print(f"  {name:12} {_text(row)}", flush=True)


def _text(row: dict[str, Any]) -> str:
    if "seconds" not in row:
        return str(row.get("failure", "no figure"))
    return f"{row['seconds'] * 1e3:9.3f} ms  error {row['error']:.0e}  built in {row['build']:.1f} s"


if __name__ == "__main__":
    main()
