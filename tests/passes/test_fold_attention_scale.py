from __future__ import annotations

import math

from neve.passes.fold_attention_scale import PASS
from tests.passes.support import Build, check

ATTENTION = "scaled_dot_product_attention"


def test_numbers_on_q_and_k_join_the_scale() -> None:
    def build(b: Build, scale: float | None) -> object:
        q, k = b.op("mul", b.x(2, 5, 8), b.num(0.3)), b.op("div", b.x(2, 7, 8), b.num(2.0))
        return b.op(ATTENTION, q, k, b.x(2, 7, 8), scale=scale)

    for scale in (None, 0.5):
        graph = check(PASS, lambda b: build(b, scale), {ATTENTION: 1}, edges=False)  # noqa: B023
        want = 0.3 / 2 * (1 / math.sqrt(8) if scale is None else scale)
        assert math.isclose(graph.nodes[-1].op.scale, want, rel_tol=1e-6)  # type: ignore[attr-defined]


def test_near_misses() -> None:
    def build(b: Build, form: int) -> object:
        x = b.x(2, 5, 8)
        q = [
            b.op("mul", x, b.x(8)),
            b.op("mul", x, b.num(0.0)),
            b.op("add", x, b.num(2.0)),
            b.op("mul", b.x(5, 8), b.num(2.0, shape=(2, 5, 8))),
        ][form]
        return b.op(ATTENTION, q, b.x(2, 7, 8), b.x(2, 7, 8))

    for form in (0, 2, 3):
        check(PASS, lambda b: build(b, form), None)  # noqa: B023
    check(PASS, lambda b: build(b, 1), None, miss="0 or infinite")

    def shared(b: Build) -> object:
        q = b.op("mul", b.x(2, 5, 8), b.num(0.3))
        return [b.op(ATTENTION, q, b.x(2, 7, 8), b.x(2, 7, 8)), q]

    check(PASS, shared, None)
