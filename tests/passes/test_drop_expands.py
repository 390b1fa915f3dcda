from __future__ import annotations

from neve.ir.types import symbol
from neve.passes.drop_expands import PASS
from tests.passes.support import Build, boolean, check, f64

s0 = symbol("s0")


def test_an_operand_that_broadcasts_anyway() -> None:
    check(PASS, lambda b: b.op("add", b.op("expand", b.x(1, 4), shape=(s0, 4)), b.x(s0, 4)), {"add": 1}, sizes={s0: 3})
    check(
        PASS,
        lambda b: b.op("where", b.x(3, 4, dtype=boolean), b.x(3, 4), b.op("expand", b.x(), shape=(3, 4))),
        {"where": 1},
    )


def test_all_operands_expanded() -> None:
    check(
        PASS,
        lambda b: b.op("add", b.op("expand", b.x(1, 4), shape=(3, 4)), b.op("expand", b.x(1, 4), shape=(3, 4))),
        {"add": 1, "expand": 1},
    )
    check(
        PASS,
        lambda b: b.op("add", b.op("expand", b.x(1, 4), shape=(3, 4)), b.op("expand", b.x(3, 1), shape=(3, 4))),
        {"add": 1},
    )
    check(PASS, lambda b: b.op("exp", b.op("expand", b.x(1, 4), shape=(3, 4))), {"exp": 1, "expand": 1})
    check(PASS, lambda b: b.op("cast", b.op("expand", b.x(4), shape=(3, 4)), dtype=f64), {"cast": 1, "expand": 1})


def test_an_expansion_that_gives_the_shape_stays() -> None:
    check(PASS, lambda b: b.op("add", b.op("expand", b.x(4), shape=(3, 4)), b.x(4)), None)
    check(PASS, lambda b: b.op("sum", b.op("expand", b.x(4), shape=(3, 4)), dims=(0,)), None)


def test_one_of_two_expansions_is_enough() -> None:
    def build(b: Build) -> object:
        x = b.op("expand", b.x(1, 4), shape=(3, 4))
        return b.op("where", b.x(4, dtype=boolean), x, b.op("expand", b.x(1, 4), shape=(3, 4)))

    check(PASS, build, {"expand": 1, "where": 1})


def test_matmul_and_masks() -> None:
    check(
        PASS,
        lambda b: b.op("matmul", b.x(2, 3, 4, 5), b.op("expand", b.x(5, 6), shape=(2, 3, 5, 6))),
        {"matmul": 1},
        edges=False,
    )
    check(PASS, lambda b: b.op("matmul", b.op("expand", b.x(1, 4, 5), shape=(2, 4, 5)), b.x(5, 6)), None)
    check(
        PASS,
        lambda b: b.op(
            "scaled_dot_product_attention",
            b.x(2, 3, 4, 8),
            b.x(2, 3, 5, 8),
            b.x(2, 3, 5, 8),
            b.op("expand", b.x(2, 1, 1, 5), shape=(2, 3, 4, 5)),
        ),
        {"scaled_dot_product_attention": 1},
        edges=False,
    )
