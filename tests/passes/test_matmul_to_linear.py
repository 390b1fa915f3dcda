from __future__ import annotations

from neve.ir.types import symbol
from neve.passes.matmul_to_linear import PASS
from tests.passes.support import check

s0 = symbol("s0")


def test_constant_right_sides() -> None:
    check(PASS, lambda b: b.op("matmul", b.x(s0, 3, 4), b.rand(4, 5)), {"linear": 1}, sizes={s0: 2}, edges=False)
    check(PASS, lambda b: b.op("matmul", b.x(2, 3, 4), b.rand(1, 4, 5)), {"linear": 1}, edges=False)


def test_a_transposed_matrix_need_not_be_constant() -> None:
    check(
        PASS, lambda b: b.op("matmul", b.x(3, 4), b.op("permute", b.x(5, 4), dims=(1, 0))), {"linear": 1}, edges=False
    )


def test_near_misses() -> None:
    check(PASS, lambda b: b.op("matmul", b.x(3, 4), b.x(4, 5)), None)
    check(PASS, lambda b: b.op("matmul", b.rand(5, 4), b.x(4, 5)), None)
    check(PASS, lambda b: b.op("matmul", b.x(3, 4), b.rand(1, 4, 5)), None)
    check(PASS, lambda b: b.op("matmul", b.x(2, 3, 4), b.rand(2, 4, 5)), None)
    check(PASS, lambda b: b.op("matmul", b.x(2, 3, 4), b.op("permute", b.x(2, 5, 4), dims=(0, 2, 1))), None)
