from __future__ import annotations

import numpy as np
import pytest

from neve.ir.parse import op_classes
from neve.ir.types import DType
from neve.ops.activation import Clamp
from neve.passes import divide_by_constants, fold_affine, recognize_activations
from neve.passes.steps import STEPS, UNSPECIFIED
from tests.passes.support import Build, check, f16, f32, f64, i64

BINARY = ("floor_divide", "trunc_divide", "remainder", "fmod", "eq", "ne", "lt", "le", "gt", "ge")


def steps() -> list[str]:
    return ["floor", "ceil", "trunc", "round", "sign", *BINARY]


def stepped(b: Build, name: str, y: object) -> object:
    return b.op(name, y, b.num(2.0)) if name in BINARY else b.op(name, y)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", steps())
def test_a_quotient_before_a_step_stays(name: str) -> None:
    check(divide_by_constants.PASS, lambda b: stepped(b, name, b.op("div", b.x(200), b.num(0.3))), None)
    check(
        divide_by_constants.PASS,
        lambda b: stepped(b, name, b.op("add", b.op("relu", b.op("div", b.x(200), b.num(0.3))), b.num(0.5))),
        None,
    )


def test_casts_to_integers_are_steps_and_casts_of_floats_are_passed() -> None:
    p = divide_by_constants.PASS
    check(p, lambda b: b.op("cast", b.op("div", b.x(200), b.num(41.0)), dtype=i64), None)
    check(p, lambda b: b.op("cast", b.op("cast", b.op("div", b.x(9), b.num(41.0)), dtype=f64), dtype=i64), None)


def test_powers_of_two_and_what_no_step_reads_are_rewritten() -> None:
    p = divide_by_constants.PASS
    check(p, lambda b: b.op("floor", b.op("div", b.x(200), b.num(4.0))), {"mul": 1, "floor": 1})
    check(p, lambda b: b.op("relu", b.op("div", b.x(200), b.num(3.0))), {"mul": 1, "relu": 1})
    check(
        p,
        lambda b: b.op("where", b.op("gt", b.x(9), b.num(0.0)), b.op("div", b.x(9), b.num(3.0)), b.num(0.0)),
        {"mul": 1, "where": 1, "gt": 1},
    )
    check(p, lambda b: b.op("floor", b.op("exp", b.op("div", b.x(9), b.num(3.0)))), {"mul": 1, "exp": 1, "floor": 1})


def test_affine_arithmetic_before_a_step_is_not_folded() -> None:
    def linear(b: Build, last: str) -> object:
        y = b.op("mul", b.op("linear", b.x(3, 4), b.rand(5, 4)), b.num(0.1))
        return b.op(last, y)

    check(fold_affine.PASS, lambda b: linear(b, "floor"), None)
    check(fold_affine.PASS, lambda b: linear(b, "relu"), {"linear": 1, "relu": 1})


def test_activations_before_a_step_are_not_recognized() -> None:
    def hardsigmoid(b: Build) -> object:
        inner = b(Clamp(0.0, 6.0), b.op("add", b.x(50), b.num(3.0)))
        return b.op("div", inner, b.num(6.0))

    check(recognize_activations.PASS, hardsigmoid, {"hardsigmoid": 1})
    check(recognize_activations.PASS, lambda b: b.op("floor", hardsigmoid(b)), None)


def test_the_sets_name_ops() -> None:
    assert set(op_classes()) >= (STEPS | UNSPECIFIED) and not STEPS & UNSPECIFIED


@pytest.mark.parametrize("dtype", [f32, f64, f16])
def test_every_op_that_jumps_is_a_step(dtype: DType) -> None:
    """Ops of one float: where neighbouring inputs give results that are not neighbours, the op is a step."""
    at = np.array([-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]).astype(dtype.numpy)
    low, high = (np.nextafter(at, np.array(to, dtype.numpy)) for to in (-9, 9))
    for name, cls in op_classes().items():
        if getattr(cls, "arity", 0) != 1 or name in STEPS | UNSPECIFIED:
            continue
        op = next(iter(cls.samples())).op
        if name in ("bitwise_not", "relu", "clamp") or not hasattr(op, "reference"):
            continue
        with np.errstate(all="ignore"):
            a, b, c = (np.asarray(op.eval(x)[0], np.float64) for x in (low, at, high))
            near = 0.1 * (1 + abs(b))
            jump = np.isfinite(a) & np.isfinite(b) & np.isfinite(c) & ((abs(a - b) > near) | (abs(c - b) > near))
        assert not jump.any(), f"{name} jumps at {at[jump]}"
