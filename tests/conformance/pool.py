"""Worker processes that answer one line of JSON for each line they read; one that dies or hangs is replaced."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LONGEST = 2000
"""Characters of an answer's detail."""


class Worker:
    def __init__(self, module: str, args: Sequence[str]) -> None:
        env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONPATH=str(ROOT))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=env,
        )
        self.task: str | None = None
        self.started = 0.0

    def give(self, task: str) -> None:
        assert self.process.stdin is not None
        self.task, self.started = task, time.time()
        self.process.stdin.write(task.encode() + b"\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def run_all(
    module: str,
    args: Sequence[str],
    tasks: Sequence[str],
    workers: int,
    timeout: float,
    log: Path | None = None,
    *,
    fresh: bool = False,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(task, answer) as they come; made up here for a task that kills its worker or takes over `timeout` seconds.

    fresh: a process for each task.
    Answers that log (JSON lines) has already come first and are not computed again; new ones are added to it.
    """
    known = dict(json.loads(line) for line in log.read_text().splitlines()) if log is not None and log.exists() else {}
    yield from ((t, known[t]) for t in tasks if t in known)
    for task, answer in _answers(module, args, [t for t in tasks if t not in known], workers, timeout, fresh):
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps([task, answer]) + "\n")
        yield task, answer


def _answers(
    module: str, args: Sequence[str], tasks: Sequence[str], workers: int, timeout: float, fresh: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    todo = list(reversed(tasks))
    busy: list[Worker] = []
    try:
        while todo or busy:
            while todo and len(busy) < workers:
                worker = Worker(module, args)
                worker.give(todo.pop())
                busy.append(worker)
            for worker in _ready(busy, timeout):
                answer, alive = _answer(worker, timeout)
                assert worker.task is not None
                yield worker.task, answer
                if alive and todo and not fresh:
                    worker.give(todo.pop())
                else:
                    worker.stop()
                    busy.remove(worker)
    finally:
        for worker in busy:
            worker.stop()


def _ready(busy: list[Worker], timeout: float) -> list[Worker]:
    """Workers that have answered, died, or run out of time."""
    with selectors.DefaultSelector() as selector:
        for w in busy:
            assert w.process.stdout is not None
            selector.register(w.process.stdout, selectors.EVENT_READ, w)
        ready = [key.data for key, _ in selector.select(1.0)]
    return ready + [w for w in busy if w not in ready and time.time() - w.started > timeout]


def _answer(worker: Worker, timeout: float) -> tuple[dict[str, Any], bool]:
    seconds = time.time() - worker.started
    if seconds > timeout:
        return {"class": "hung", "detail": f"no answer in {timeout:.0f} s", "samples": 0, "seconds": seconds}, False
    assert worker.process.stdout is not None
    line = worker.process.stdout.readline()
    if not line:
        code = worker.process.wait()
        return {
            "class": "crashed",
            "detail": f"the process ended with code {code}",
            "samples": 0,
            "seconds": seconds,
        }, False
    return dict(json.loads(line), seconds=seconds), True


def serve(check: Callable[[str], dict[str, Any]], failed: Mapping[str, Any] | None = None) -> None:
    """Answer the tasks on standard input, as `run_all` starts a worker; failed is added where check raises."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints is no answer
    for line in sys.stdin:
        try:
            answer = check(line.strip())
        except Exception as error:
            answer = {"class": "crashed", "detail": f"{type(error).__name__}: {error}"[:LONGEST], **(failed or {})}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
