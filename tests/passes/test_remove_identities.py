from __future__ import annotations

import pytest

from neve.ir.types import DType, symbol
from neve.passes.remove_identities import PASS, holds
from tests.passes.support import Build, bf16, boolean, check, f16, f32, f64, i32, i64

s0 = symbol("s0")


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("reshape", {"shape": (s0, 4)}),
        ("permute", {"dims": (0, 1)}),
        ("expand", {"shape": (s0, 4)}),
        ("slice", {"axis": 1, "start": 0, "stop": 4}),
        ("slice", {"axis": 0, "start": 0, "stop": s0}),
        ("cast", {"dtype": f32}),
        ("constant_pad", {"pads": ((0, 0), (0, 0))}),
        ("repeat", {"repeats": (1, 1)}),
        ("flip", {"dims": ()}),
        ("cat", {"axis": 0}),
    ],
)
def test_views_that_do_nothing_go(name: str, attributes: dict[str, object]) -> None:
    check(PASS, lambda b: b.op(name, b.x(s0, 4), **attributes), {}, sizes={s0: 3})


def test_linear_interpolation_to_the_same_size_goes() -> None:
    resize = {"output": (s0, 5), "scales": (1.1, None)}
    check(PASS, lambda b: b.op("upsample_linear", b.x(2, 3, s0, 5), **resize), {}, sizes={s0: 3})
    check(PASS, lambda b: b.op("upsample_linear", b.x(2, 3, s0, 4), output=(s0, 5)), None)


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("reshape", {"shape": (4, 4, 1)}),
        ("permute", {"dims": (1, 0)}),
        ("slice", {"axis": 1, "start": 1, "stop": 4}),
        ("flip", {"dims": (0,)}),
        ("constant_pad", {"pads": ((1, -1), (0, 0))}),
        ("cast", {"dtype": f16}),
    ],
)
def test_views_that_do_something_stay(name: str, attributes: dict[str, object]) -> None:
    check(PASS, lambda b: b.op(name, b.x(4, 4), **attributes), None)


def test_empty_parts_of_a_cat_go() -> None:
    check(PASS, lambda b: b.op("cat", b.x(2, 3), b.x(0, 3), b.x(1, 3), axis=0), {"cat": 1})


@pytest.mark.parametrize(("name", "value"), [("add", -0.0), ("sub", 0.0), ("mul", 1.0), ("div", 1.0)])
def test_neutral_numbers_go(name: str, value: float) -> None:
    check(PASS, lambda b: b.op(name, b.x(50), b.num(value)), {})


@pytest.mark.parametrize(("name", "value"), [("add", 0.0), ("sub", -0.0), ("mul", 0.0), ("mul", -1.0)])
def test_numbers_that_change_signed_zeros_or_nan_stay(name: str, value: float) -> None:
    check(PASS, lambda b: b.op(name, b.x(50), b.num(value)), None)


def test_the_neutral_number_on_the_left() -> None:
    check(PASS, lambda b: b.op("mul", b.num(1.0), b.x(5)), {})
    check(PASS, lambda b: b.op("sub", b.num(0.0), b.x(5)), None)
    check(PASS, lambda b: b.op("div", b.num(1.0), b.x(5)), None)


def test_a_neutral_operand_that_broadcasts_becomes_an_expansion() -> None:
    check(PASS, lambda b: b.op("mul", b.x(4), b.num(1.0, shape=(3, 4))), {"expand": 1})


def test_integers_and_masks() -> None:
    check(PASS, lambda b: b.op("add", b.x(5, dtype=i64), b.num(0, i64)), {})
    check(PASS, lambda b: b.op("mul", b.x(5, dtype=i64), b.num(0, i64)), {})
    check(PASS, lambda b: b.op("bitwise_and", b.x(5, dtype=boolean), b.num(True, boolean)), {})
    check(PASS, lambda b: b.op("bitwise_and", b.x(5, dtype=boolean), b.num(False, boolean)), {})
    check(PASS, lambda b: b.op("bitwise_and", b.x(5, dtype=i64), b.num(1, i64)), None)
    check(PASS, lambda b: b.op("bitwise_xor", b.x(5, dtype=i64), b.num(0, i64)), {})
    check(PASS, lambda b: b.op("logical_or", b.x(5, dtype=boolean), b.num(False, boolean)), {})
    check(PASS, lambda b: b.op("logical_and", b.x(5), b.num(1.0)), None)


def test_where() -> None:
    check(PASS, lambda b: b.op("where", b.x(3, 4, dtype=boolean), *[b.x(4)] * 2), {"expand": 1})
    check(PASS, lambda b: b.op("where", b.num(False, boolean, (4,)), b.x(4), b.x(4)), {})
    check(PASS, lambda b: b.op("where", b.x(4, dtype=boolean), b.x(4), b.x(4)), None)


def test_twice_is_once_or_nothing() -> None:
    check(PASS, lambda b: b.op("neg", b.op("neg", b.x(9))), {})
    check(PASS, lambda b: b.op("relu", b.op("relu", b.x(9))), {"relu": 1})
    check(PASS, lambda b: b.op("logical_not", b.op("logical_not", b.x(9, dtype=boolean))), {})
    check(PASS, lambda b: b.op("logical_not", b.op("logical_not", b.x(9))), None)
    check(PASS, lambda b: b.op("maximum", *[b.x(9)] * 2), {})


@pytest.mark.parametrize(
    ("types", "left"),
    [
        ((f32, f64, f32), 0),
        ((f16, f32, f16), 0),
        ((bf16, f32, bf16), 0),
        ((f16, f64, f32), 1),
        ((f64, f32, f64), 2),
        ((f16, bf16, f16), 2),
        ((i32, i64, f32), 1),
        ((i64, f64, i64), 2),
        ((i32, f64, i32), 0),
        ((boolean, i64, f32), 1),
        ((f32, f64, i64), 2),
        ((DType.uint8, DType.int8, i64), 2),
        ((i32, f32, i32), 2),
    ],
)
def test_casts_merge_only_through_types_that_hold_everything(types: tuple[DType, DType, DType], left: int) -> None:
    def build(b: Build) -> object:
        return b.op("cast", b.op("cast", b.x(40, dtype=types[0]), dtype=types[1]), dtype=types[2])

    check(PASS, build, ({}, {"cast": 1}, None)[left])


def test_holds() -> None:
    assert (
        holds(i32, f64)
        and not holds(i64, f64)
        and not holds(f16, bf16)
        and not holds(bf16, f16)
        and holds(DType.uint8, f16)
    )
    assert not holds(DType.int16, f16) and holds(DType.int16, f32) and holds(boolean, DType.int8)
