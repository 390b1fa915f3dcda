from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from neve.build.toolchain import build
from neve.runtime.loader import Module, open_library
from tests.handmade import affine, counter

N = 100_000
X = np.arange(N, dtype=np.float32)


def opened(threads: int) -> Module:
    source = affine(n=N)
    return open_library(build(source).path, source.signature, source.weights, threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_the_bits_are_the_same_for_any_number_of_threads(threads: int) -> None:
    module = opened(threads)
    assert module.threads == threads
    for _ in range(20):
        np.testing.assert_array_equal(module(X), 2 * X + 1)


def test_threads_can_be_changed() -> None:
    module = opened(1)
    module.threads = 2
    np.testing.assert_array_equal(module(X), 2 * X + 1)
    with pytest.raises(ValueError, match="wanted 1 or more"):
        module.threads = 0
    module.threads = 1000
    assert module.threads == 8, "no more than the model has scratch memory for"
    np.testing.assert_array_equal(module(X), 2 * X + 1)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


@pytest.mark.parametrize("threads", [2, 5])
def test_idle_workers_sleep(threads: int) -> None:
    module = opened(threads)
    module(X)
    time.sleep(0.05)
    before = _cpu_seconds()
    time.sleep(0.4)
    assert _cpu_seconds() - before < 0.1


def test_modules_on_several_threads_share_a_pool() -> None:
    modules = [opened(2) for _ in range(3)]
    wrong = [0]

    def work(module: Module) -> None:
        for _ in range(100):
            wrong[0] += not np.array_equal(module(X), 2 * X + 1)

    workers = [threading.Thread(target=work, args=(module,)) for module in modules]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == [0]


def test_clones_run_at_once_each_with_its_own_state() -> None:
    source = counter()
    first = open_library(build(source).path, source.signature, source.weights, 1)
    clones = [first.clone() for _ in range(4)]
    adds = [
        threading.Thread(target=lambda m=m, n=n: [m.add(np.array(n)) for _ in range(200)]) for n, m in enumerate(clones)
    ]
    for add in adds:
        add.start()
    for add in adds:
        add.join()
    assert [int(m.state["total"]) for m in (first, *clones)] == [5, 5, 205, 405, 605]


@pytest.mark.parametrize("busy", [False, True])
def test_a_forked_child_can_call(busy: bool) -> None:
    module = opened(2)
    module(X)
    stop = threading.Event()
    other = threading.Thread(target=lambda: [module(X) for _ in iter(stop.is_set, True)])
    if busy:
        other.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if all(np.array_equal(module(X), 2 * X + 1) for _ in range(5)) else 1)
            deadline = time.monotonic() + 20
            while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    pytest.fail("the child hangs")
                time.sleep(0.005)
            assert done[1] == 0
    finally:
        stop.set()
        if busy:
            other.join()
    np.testing.assert_array_equal(module(X), 2 * X + 1)
