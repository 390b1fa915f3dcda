"""Work shared in chunks (`neve_take`): every unit is done once, by whichever thread comes to it."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tests.kernels import harness

SOURCE = """
#include "rt.h"
/* s[0] units, at least s[1] a chunk; only the thread s[2] works if that is not negative. p[0][i] counts, p[1][i] says
 * who was last. */
static void units_run(void *const *p, const int64_t *s, neve_thread *th)
{
    neve_work work = neve_work_of(s[0], s[1], th);
    neve_range r;
    if (s[2] >= 0 && s[2] != th->tid)
        return;
    while (neve_take(&work, th, &r)) {
        if (s[2] < 0 && th->tid == 0)
            for (int i = 0; i < 1000; i++)
                neve_pause();
        for (int64_t i = r.begin; i < r.end; i++) {
            ((int32_t *)p[1])[i] = th->tid;
            __atomic_fetch_add((int32_t *)p[0] + i, 1, __ATOMIC_RELAXED);
        }
    }
}
"""
TOTALS = (0, 1, 5, 1000)
REPS = 3


@functools.cache
def kernel(compiler: str) -> harness.Kernel:
    return harness.load(SOURCE, compiler, "units_run")


@pytest.mark.parametrize("compiler", harness.compilers())
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_each_unit_once(compiler: str, threads: int) -> None:
    for total in TOTALS:
        for least in (1, 100):
            counts, last = np.zeros(total + 1, np.int32), np.zeros(total + 1, np.int32)
            kernel(compiler)([counts, last], (total, least, -1), threads=threads, reps=REPS)
            assert counts[:total].tolist() == [REPS] * total and counts[total] == 0


@pytest.mark.parametrize("compiler", harness.compilers())
def test_a_thread_takes_over_what_others_leave(compiler: str) -> None:
    for threads, worker in ((2, 0), (2, 1), (5, 3)):
        for total in TOTALS:
            counts, last = np.zeros(total + 1, np.int32), np.zeros(total + 1, np.int32)
            kernel(compiler)([counts, last], (total, 1, worker), threads=threads, reps=REPS)
            assert counts[:total].tolist() == [REPS] * total
            assert set(last[:total].tolist()) <= {worker}
