from __future__ import annotations

from neve.ir.types import symbol
from neve.passes.linear_on_views import PASS
from tests.passes.support import check

s0 = symbol("s0")


def test_reshapes_of_leading_axes_move_behind() -> None:
    check(
        PASS,
        lambda b: b.op("linear", b.op("reshape", b.x(s0, 3, 4), shape=(s0 * 3, 4)), b.rand(5, 4), b.rand(5)),
        {"linear": 1, "reshape": 1},
        sizes={s0: 2},
        edges=False,
    )


def test_near_misses() -> None:
    check(PASS, lambda b: b.op("linear", b.op("reshape", b.x(3, 8), shape=(6, 4)), b.rand(5, 4)), None)
    check(PASS, lambda b: b.op("linear", b.op("reshape", b.x(), shape=(1, 1)), b.rand(5, 1)), None)
    check(PASS, lambda b: b.op("linear", b.op("permute", b.x(3, 2, 4), dims=(1, 0, 2)), b.rand(5, 4)), None)
