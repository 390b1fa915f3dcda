from __future__ import annotations

from neve.ir.types import symbol
from neve.passes.compose_views import PASS
from tests.passes.support import Build, check

s0 = symbol("s0")


def test_chains_become_one() -> None:
    check(
        PASS,
        lambda b: b.op("reshape", b.op("reshape", b.x(s0, 4), shape=(2, s0, 2)), shape=(4, s0)),
        {"reshape": 1},
        sizes={s0: 3},
    )
    check(
        PASS, lambda b: b.op("permute", b.op("permute", b.x(2, 3, 4), dims=(1, 2, 0)), dims=(2, 1, 0)), {"permute": 1}
    )
    check(PASS, lambda b: b.op("expand", b.op("expand", b.x(1, 1), shape=(1, 4)), shape=(2, 3, 4)), {"expand": 1})


def test_permutations_of_ones_are_reshapes() -> None:
    check(PASS, lambda b: b.op("permute", b.x(2, 1, 3, 1), dims=(1, 0, 3, 2)), {"reshape": 1})
    check(PASS, lambda b: b.op("permute", b.x(2, 3, 1), dims=(1, 0, 2)), None)


def test_permutations_around_an_added_axis() -> None:
    def build(b: Build) -> object:
        return b.op(
            "permute",
            b.op("reshape", b.op("permute", b.x(2, 3, 4), dims=(0, 2, 1)), shape=(2, 4, 1, 3)),
            dims=(0, 3, 2, 1),
        )

    check(PASS, build, {"reshape": 1})
    check(
        PASS,
        lambda b: b.op(
            "permute",
            b.op("reshape", b.op("permute", b.x(2, 3, 4), dims=(0, 2, 1)), shape=(2, 4, 1, 3)),
            dims=(3, 0, 1, 2),
        ),
        {"permute": 1, "reshape": 1},
    )
    check(
        PASS,
        lambda b: b.op(
            "permute",
            b.op("reshape", b.op("permute", b.x(2, 3, 4), dims=(0, 2, 1)), shape=(2, 2, 2, 3)),
            dims=(0, 3, 1, 2),
        ),
        None,
    )


def test_slices_of_slices() -> None:
    check(
        PASS,
        lambda b: b.op(
            "slice", b.op("slice", b.x(20), axis=0, start=3, stop=19, step=2), axis=0, start=1, stop=7, step=3
        ),
        {"slice": 1},
    )
    check(
        PASS,
        lambda b: b.op("slice", b.op("slice", b.x(s0 + 9), axis=0, start=2, stop=s0 + 9), axis=0, start=1, stop=s0),
        {"slice": 1},
        sizes={s0: 4},
    )
    check(
        PASS, lambda b: b.op("slice", b.op("slice", b.x(9, 9), axis=0, start=2, stop=5), axis=1, start=1, stop=4), None
    )
    check(
        PASS,
        lambda b: b.op("slice", b.op("slice", b.x(9), axis=0, start=2, stop=8, step=2), axis=0, start=1, stop=1),
        None,
    )


def test_a_slice_within_one_part_of_a_cat() -> None:
    def build(b: Build, start: int, stop: int, axis: int = 0) -> object:
        return b.op("slice", b.op("cat", b.x(3, 4), b.x(5, 4), axis=0), axis=axis, start=start, stop=stop)

    check(PASS, lambda b: build(b, 3, 7), {"slice": 1})
    check(PASS, lambda b: build(b, 0, 3), {"slice": 1})
    check(PASS, lambda b: build(b, 2, 4), None)
    check(PASS, lambda b: build(b, 1, 2, axis=1), None)


def test_cats() -> None:
    check(PASS, lambda b: b.op("cat", b.op("cat", b.x(2), b.x(3), axis=0), b.x(1), axis=0), {"cat": 1})
    check(PASS, lambda b: b.op("cat", b.op("cat", b.x(2, 2), b.x(2, 3), axis=1), b.x(2, 5), axis=0), None)

    def halves(b: Build, order: tuple[int, int]) -> object:
        x = b.x(6, 2)
        parts = [b.op("slice", x, axis=0, start=0, stop=2), b.op("slice", x, axis=0, start=2, stop=6)]
        return b.op("cat", parts[order[0]], parts[order[1]], b.x(1, 2), axis=0)

    check(PASS, lambda b: halves(b, (0, 1)), {"slice": 1, "cat": 1})
    check(PASS, lambda b: halves(b, (1, 0)), None)


def test_an_inner_cat_with_another_use_stays() -> None:
    def build(b: Build) -> object:
        inner = b.op("cat", b.x(2), b.x(3), axis=0)
        return [b.op("cat", inner, b.x(1), axis=0), inner]

    check(PASS, build, None)
