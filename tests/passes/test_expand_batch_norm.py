from __future__ import annotations

import numpy as np

from neve.passes.expand_batch_norm import PASS
from tests.passes.support import Build, check, f16
from tests.passes.test_fold_batch_norm import norm


def test_a_norm_alone_becomes_mul_and_add() -> None:
    for shape in ((2, 5), (2, 5, 3), (2, 5, 3, 4)):
        check(PASS, lambda b: norm(b, b.x(*shape), 5), {"mul": 1, "add": 1})  # noqa: B023


def test_near_misses() -> None:
    check(PASS, lambda b: norm(b, b.x(2, 5, 3, dtype=f16), 5, dtype=f16), None)
    check(PASS, lambda b: b.op("batch_norm", b.x(2, 5), b.rand(5), b.rand(5), b.x(5), b.rand(5, low=0.5)), None)

    def infinite(b: Build) -> object:
        return b.op("batch_norm", b.x(2, 5), b.rand(5), b.rand(5), b.rand(5), b.const(np.zeros(5)), eps=0.0)

    check(PASS, infinite, None, miss="not finite")
