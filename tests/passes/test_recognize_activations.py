from __future__ import annotations

import math

import pytest

from neve.ir.graph import Value
from neve.passes.recognize_activations import PASS
from tests.passes.support import Build, check


def chain(b: Build, *values: Value, name: str = "mul") -> Value:
    out = values[0]
    for v in values[1:]:
        out = b.op(name, out, v)
    return out


def erf_part(b: Build, x: Value, divide: bool = True) -> Value:
    inner = b.op("div", x, b.num(math.sqrt(2))) if divide else b.op("mul", b.num(math.sqrt(0.5)), x)
    return b.op("add", b.op("erf", inner), b.num(1.0)) if divide else b.op("add", b.num(1.0), b.op("erf", inner))


@pytest.mark.parametrize(
    "form",
    [
        lambda b, x: chain(b, x, b.num(0.5), erf_part(b, x)),
        lambda b, x: chain(b, b.num(0.5), x, erf_part(b, x, divide=False)),
        lambda b, x: b.op("mul", x, b.op("mul", b.num(0.5), erf_part(b, x))),
        lambda b, x: b.op("div", b.op("mul", x, erf_part(b, x)), b.num(2.0)),
        lambda b, x: b.op("mul", b.op("mul", erf_part(b, x), x), b.num(0.5)),
    ],
)
def test_gelu(form: object) -> None:
    check(PASS, lambda b: form(b, b.x(40)), {"gelu": 1}, edges=False)  # type: ignore[operator]


def tanh_part(b: Build, x: Value, form: int) -> Value:
    square = b.op("mul", x, x)
    if form == 0:
        inner = b.op(
            "mul", b.num(math.sqrt(2 / math.pi)), b.op("add", x, b.op("mul", b.num(0.044715), b.op("mul", square, x)))
        )
    elif form == 1:
        inner = b.op(
            "mul",
            b.op("add", b.op("mul", b.op("pow", x, b.num(3.0)), b.num(0.044715)), x),
            b.num(math.sqrt(2 / math.pi)),
        )
    else:
        inner = chain(b, x, b.num(0.7978845608), b.op("add", b.num(1.0), chain(b, b.num(0.044715), x, x)))
    return b.op("add", b.num(1.0), b.op("tanh", inner))


@pytest.mark.parametrize("form", [0, 1, 2])
def test_gelu_tanh(form: int) -> None:
    def build(b: Build) -> object:
        x = b.x(40)
        return chain(b, b.num(0.5), x, tanh_part(b, x, form))

    check(PASS, build, {"gelu_tanh": 1}, edges=False)


def test_sigmoid_silu_mish() -> None:
    def logistic(b: Build, x: Value, top: Value) -> Value:
        return b.op("div", top, b.op("add", b.num(1.0), b.op("exp", b.op("neg", x))))

    def with_input(f: object) -> object:
        return lambda b: f(b, b.x(40))  # type: ignore[operator]

    check(PASS, with_input(lambda b, x: b.op("mul", x, b.op("sigmoid", x))), {"silu": 1}, edges=False)  # type: ignore[arg-type]
    check(PASS, with_input(lambda b, x: b.op("mul", b.op("sigmoid", x), x)), {"silu": 1}, edges=False)  # type: ignore[arg-type]
    check(PASS, with_input(lambda b, x: logistic(b, x, b.num(1.0))), {"sigmoid": 1})  # type: ignore[arg-type]
    check(PASS, with_input(lambda b, x: logistic(b, x, x)), {"silu": 1}, edges=False)  # type: ignore[arg-type]
    check(PASS, with_input(lambda b, x: b.op("mul", x, b.op("tanh", b.op("softplus", x)))), {"mish": 1}, edges=False)  # type: ignore[arg-type]


def test_hardswish_and_hardsigmoid() -> None:
    def six(b: Build, x: Value) -> Value:
        return b.op("clamp", b.op("add", x, b.num(3.0)), min=0.0, max=6.0)

    def build(b: Build, form: int) -> object:
        x = b.x(40)
        return [
            b.op("div", b.op("mul", x, six(b, x)), b.num(6.0)),
            b.op("mul", x, b.op("div", six(b, x), b.num(6.0))),
            b.op("mul", x, b.op("hardsigmoid", x)),
            b.op("div", six(b, x), b.num(6.0)),
        ][form]

    for form, left in enumerate(("hardswish", "hardswish", "hardswish", "hardsigmoid")):
        check(PASS, lambda b: build(b, form), {left: 1}, edges=False)  # noqa: B023


def test_near_misses_stay() -> None:
    def build(b: Build, form: int) -> object:
        x, y = b.x(40), b.x(40)
        return [
            b.op("mul", y, b.op("sigmoid", x)),
            chain(b, x, b.num(0.6), erf_part(b, x)),
            chain(b, y, b.num(0.5), erf_part(b, x)),
            chain(b, x, b.num(0.5), b.op("add", b.op("erf", x), b.num(1.0))),
            chain(b, x, b.op("sigmoid", b.op("mul", x, b.num(1.702)))),
            b.op("div", b.num(1.0), b.op("add", b.num(2.0), b.op("exp", b.op("neg", x)))),
            b.op("div", y, b.op("add", b.num(1.0), b.op("exp", b.op("neg", x)))),
            b.op("div", b.op("mul", y, b.op("clamp", b.op("add", x, b.num(3.0)), min=0.0, max=6.0)), b.num(6.0)),
            b.op("div", b.op("mul", x, b.op("clamp", b.op("add", x, b.num(3.0)), min=0.0, max=5.0)), b.num(6.0)),
            b.op("div", b.op("clamp", b.op("add", x, b.num(2.0)), min=0.0, max=6.0), b.num(6.0)),
        ][form]

    for form in range(10):
        check(PASS, lambda b: build(b, form), None)  # noqa: B023


def test_a_part_with_another_use_stays() -> None:
    def build(b: Build) -> object:
        x = b.x(40)
        s = b.op("sigmoid", x)
        return [b.op("mul", x, s), s]

    check(PASS, build, None)


def test_broadcast_products_stay() -> None:
    check(PASS, lambda b: b.op("div", b.op("mul", b.x(3, 1), b.num(1.0, shape=(3, 4))), b.num(6.0)), None)
