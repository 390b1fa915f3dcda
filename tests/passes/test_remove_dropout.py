from __future__ import annotations

from neve.passes.remove_dropout import PASS
from tests.passes.support import check


def test_dropout_is_its_input() -> None:
    check(PASS, lambda b: b.op("relu", b.op("dropout", b.op("dropout", b.x(3, 4)), p=0.1)), {"relu": 1})
    check(PASS, lambda b: b.op("relu", b.x(3, 4)), None)
