from __future__ import annotations

from typing import Any

import pytest

from neve.ir.graph import Value
from neve.ir.types import symbol
from neve.passes.compose_linears import PASS
from tests.passes.support import Build, check, f16
from tests.passes.test_convolve_before_resize import conv

s0 = symbol("s0")


def linear(b: Build, x: Value, outs: int, bias: bool = True, seed: int = 0) -> Value:
    more = [b.rand(outs, seed=seed + 1, dtype=x.dtype)] if bias else []
    return b.op("linear", x, b.rand(outs, int(x.shape[-1]), seed=seed, dtype=x.dtype), *more)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_linears(first: bool, second: bool) -> None:
    check(PASS, lambda b: linear(b, linear(b, b.x(s0, 3, 4), 6, first), 5, second, 7), {"linear": 1}, sizes={s0: 2},
          edges=False)  # fmt: skip


def test_convolutions() -> None:
    check(PASS, lambda b: conv(b, conv(b, b.x(2, 3, 4, 5), 8), 6), {"convolution": 1}, edges=False)
    check(PASS, lambda b: conv(b, conv(b, b.x(2, 3, 5, 5), 40, kernel=3, stride=(2, 2)), 6), {"convolution": 1},
          edges=False)  # fmt: skip


def test_a_linear_seen_as_an_image() -> None:
    def head(b: Build) -> Value:
        rows = b.op("permute", linear(b, b.x(2, 12, 4), 6), dims=(0, 2, 1))
        return conv(b, b.op("reshape", rows, shape=(2, 6, 3, 4)), 5)

    check(PASS, head, {"linear": 1, "permute": 1, "reshape": 1}, edges=False)


def test_an_image_seen_as_rows() -> None:
    def head(b: Build) -> Value:
        image = b.op("permute", conv(b, b.x(2, 4, 3, 5), 9), dims=(0, 2, 3, 1))
        return linear(b, b.op("reshape", image, shape=(2, 15, 9)), 7)

    check(PASS, head, {"convolution": 1, "permute": 1, "reshape": 1}, edges=False)


def views(b: Build, middle: str, **attributes: Any) -> Value:
    return linear(b, b.op(middle, linear(b, b.x(6, 6, 4), 6), **attributes), 6, seed=3)


def test_what_must_stay() -> None:
    check(PASS, lambda b: linear(b, linear(b, b.x(3, 16), 2), 16, seed=3), None, miss="bottleneck")
    check(PASS, lambda b: linear(b, b.op("relu", linear(b, b.x(3, 4), 6)), 5, seed=3), None)
    check(PASS, lambda b: views(b, "permute", dims=(0, 2, 1)), None)
    check(PASS, lambda b: linear(b, b.op("reshape", linear(b, b.x(6, 4), 6), shape=(9, 4)), 5), None)
    check(PASS, lambda b: linear(b, b.op("reshape", linear(b, b.x(6, 4), 6), shape=(3, 12)), 5), None)
    check(PASS, lambda b: linear(b, linear(b, b.x(3, 4, dtype=f16), 6), 5, seed=3), None)
    check(PASS, lambda b: conv(b, conv(b, b.x(1, 4, 3, 3), 4, groups=2), 4), None)

    def shared(b: Build) -> list[Value]:
        y = linear(b, b.x(3, 4), 6)
        return [linear(b, y, 5, seed=3), y]

    check(PASS, shared, None, miss="shared")
    check(PASS, lambda b: b.op("linear", linear(b, b.x(3, 4), 6), b.x(5, 6)), None, miss="not constant")
