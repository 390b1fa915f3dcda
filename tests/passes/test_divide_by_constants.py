from __future__ import annotations

import numpy as np

from neve.passes.divide_by_constants import EXACT, PASS
from tests.passes.support import check, f16, i64


def test_powers_of_two_are_exact() -> None:
    check(EXACT, lambda b: b.op("div", b.x(200), b.num(8.0)), {"mul": 1})
    check(EXACT, lambda b: b.op("div", b.x(200), b.num(-0.25)), {"mul": 1})
    check(EXACT, lambda b: b.op("div", b.x(3, 4), b.const([1.0, 2.0, -4.0, 0.5])), {"mul": 1})
    check(EXACT, lambda b: b.op("div", b.x(20), b.num(3.0)), None)
    check(EXACT, lambda b: b.op("div", b.x(3, 4), b.const([1.0, 2.0, 3.0, 0.5])), None)


def test_other_constants_round() -> None:
    check(PASS, lambda b: b.op("div", b.x(200), b.num(3.0)), {"mul": 1})
    check(PASS, lambda b: b.op("div", b.x(3, 4), b.rand(4, low=0.5)), {"mul": 1})


def test_near_misses() -> None:
    for p in (EXACT, PASS):
        for value in (0.0, np.inf, np.nan, 2.0**127 * 1.5, 1e-39):
            check(p, lambda b: b.op("div", b.x(20), b.num(value)), None)  # noqa: B023
        check(p, lambda b: b.op("div", b.num(2.0), b.x(20)), None)
        check(p, lambda b: b.op("div", b.x(20, dtype=f16), b.num(2.0, f16)), None)
        check(p, lambda b: b.op("floor_divide", b.x(20, dtype=i64), b.num(2, i64)), None)
