from __future__ import annotations

from neve.ir.graph import Value
from neve.ir.types import symbol
from neve.passes.concat_linears import PASS
from tests.passes.support import Build, check

s0 = symbol("s0")


def heads(b: Build, v: Value) -> Value:
    return b.op("reshape", v, shape=(*v.shape[:-1], v.shape[-1] // 2, 2))


def test_viewed_results_of_few_rows() -> None:
    def build(b: Build) -> object:
        x = b.op("exp", b.x(1, 2, 4))
        q = b.op("linear", x, b.const([[i + j for j in range(4)] for i in range(6)]))
        k = b.op("linear", x, b.const([[i - j for j in range(4)] for i in range(2)]), b.const([1.0, 2.0]))
        return [heads(b, q), heads(b, k), heads(b, b.op("linear", x, b.const([[1, 0, 2, 0]] * 4)))]

    check(PASS, build, {"exp": 1, "linear": 1, "slice": 3, "reshape": 3}, edges=False)


def test_near_misses() -> None:
    def build(b: Build, form: int) -> object:
        x = b.x(*[(9, 4), (s0, 4), (3, 4), (3, 4), (3, 4)][form])
        a = b.op("linear", x, b.rand(6, 4))
        c = b.op("linear", x, b.x(6, 4) if form == 2 else b.rand(6, 4, seed=1))
        return [heads(b, a), b.op("exp", c) if form == 3 else c if form == 4 else heads(b, c)]

    for form, miss in enumerate(("9 rows", "s0 rows", None, "what follows fuses", "what follows fuses")):
        check(PASS, lambda b: build(b, form), None, miss=miss)  # noqa: B023
