from __future__ import annotations

import pytest

from neve.ir.graph import Value
from neve.ir.types import symbol
from neve.passes.recognize_norms import PASS
from tests.passes.support import Build, check

s0 = symbol("s0")


def softmax(
    b: Build, x: Value, dim: int = 1, top: bool = True, keepdim: bool = True, other: Value | None = None
) -> Value:
    shifted = b.op("sub", x, b.op("amax", x if other is None else other, dims=(dim,), keepdim=True)) if top else x
    e = b.op("exp", shifted)
    return b.op("div", e, b.op("sum", e, dims=(dim,), keepdim=keepdim))


def test_softmax() -> None:
    check(PASS, lambda b: softmax(b, b.x(3, 5, 4)), {"softmax": 1}, edges=False)
    check(PASS, lambda b: softmax(b, b.x(3, 5, 4), top=False), None, miss="without subtracting the maximum")
    check(PASS, lambda b: softmax(b, b.x(3, 5, 4), other=b.x(3, 5, 4)), None, miss="without subtracting the maximum")
    check(PASS, lambda b: softmax(b, b.x(5, 5), keepdim=False), None)


def rms(
    b: Build, x: Value, dims: tuple[int, ...] = (1,), divide: bool = False, power: bool = False, keepdim: bool = True
) -> Value:
    square = b.op("pow", x, b.num(2.0)) if power else b.op("mul", x, x)
    shifted = b.op("add", b.op("mean", square, dims=dims, keepdim=keepdim), b.num(1e-6))
    return b.op("div", x, b.op("sqrt", shifted)) if divide else b.op("mul", x, b.op("rsqrt", shifted))


@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("power", [False, True])
def test_rms_norm_with_its_weight(divide: bool, power: bool) -> None:
    check(
        PASS,
        lambda b: b.op("mul", b.rand(8), rms(b, b.x(s0, 8), divide=divide, power=power)),
        {"rms_norm": 1},
        edges=False,
        sizes={s0: 3},
    )
    check(
        PASS, lambda b: b.op("mul", rms(b, b.x(3, 8), divide=divide, power=power), b.x(8)), {"rms_norm": 1}, edges=False
    )


def test_rms_norm_near_misses() -> None:
    check(PASS, lambda b: rms(b, b.x(8, 8), dims=(0,)), None)
    check(PASS, lambda b: rms(b, b.x(8, 8), keepdim=False), None)
    check(PASS, lambda b: b.op("mul", b.rand(3, 1), rms(b, b.x(3, 8))), {"rms_norm": 1, "mul": 1}, edges=False)

    def other(b: Build) -> object:
        x, y = b.x(3, 8), b.x(3, 8)
        return b.op(
            "mul", y, b.op("rsqrt", b.op("add", b.op("mean", b.op("mul", x, x), dims=(1,), keepdim=True), b.num(1e-6)))
        )

    check(PASS, other, None)


def layer(b: Build, x: Value, form: int, dims: tuple[int, ...] = (1, 2), correction: float = 0.0) -> Value:
    d = b.op("sub", x, b.op("mean", x, dims=dims, keepdim=True))
    if form == 2:
        variance = b.op("var", x, dims=dims, keepdim=True, correction=correction)
    else:
        variance = b.op("mean", b.op("mul", d, d), dims=dims, keepdim=True)
    shifted = b.op("add", variance, b.num(1e-5))
    return b.op("div", d, b.op("sqrt", shifted)) if form == 0 else b.op("mul", b.op("rsqrt", shifted), d)


@pytest.mark.parametrize("form", [0, 1, 2])
def test_layer_norm_with_weight_and_bias(form: int) -> None:
    check(PASS, lambda b: layer(b, b.x(3, 4, 5), form), {"layer_norm": 1}, edges=False)
    check(
        PASS,
        lambda b: b.op("add", b.op("mul", layer(b, b.x(3, 4, 5), form), b.rand(4, 5)), b.rand(4, 5)),
        {"layer_norm": 1},
        edges=False,
    )


def test_layer_norm_near_misses() -> None:
    check(PASS, lambda b: layer(b, b.x(3, 4, 5), 0, dims=(1,)), None)
    check(PASS, lambda b: layer(b, b.x(3, 4, 5), 2, correction=1.0), None)
    check(PASS, lambda b: b.op("mul", layer(b, b.x(3, 4, 5), 1), b.rand(5)), {"layer_norm": 1, "mul": 1}, edges=False)

    def used_twice(b: Build) -> object:
        y = b.op("layer_norm", b.x(3, 4))
        return [b.op("mul", y, b.rand(4)), y]

    check(PASS, used_twice, None)
