from __future__ import annotations

import pytest

from neve.passes.fold_affine_before import PASS
from tests.passes.support import Build, check


def conv(b: Build, name: str, padding: int, groups: int, shape: tuple[int, ...] = (4, 1, 1)) -> object:
    x = b.op(name, b.x(2, 4, 6, 6), b.rand(*shape, low=0.5))
    return b.op(
        "convolution",
        x,
        b.rand(6, 4 // groups, 3, 3),
        b.rand(6),
        stride=(1, 1),
        padding=((padding, padding),) * 2,
        dilation=(1, 1),
        groups=groups,
    )


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("groups", [1, 2])
def test_constants_a_channel_before_a_convolution(name: str, groups: int) -> None:
    check(PASS, lambda b: conv(b, name, 0, groups), {"convolution": 1}, edges=False)


def test_padding_forbids_additions_not_multiplications() -> None:
    check(PASS, lambda b: conv(b, "mul", 1, 1), {"convolution": 1}, edges=False)
    check(PASS, lambda b: conv(b, "add", 1, 1), None, miss="zeros are padded after")


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_linear(name: str) -> None:
    check(
        PASS,
        lambda b: b.op("linear", b.op(name, b.x(2, 3, 4), b.rand(4, low=0.5)), b.rand(5, 4)),
        {"linear": 1},
        edges=False,
    )


def test_near_misses() -> None:
    check(PASS, lambda b: conv(b, "mul", 0, 1, shape=(6,)), None)
    check(PASS, lambda b: b.op("linear", b.op("mul", b.x(3, 4), b.x(4)), b.rand(5, 4)), None)
    check(PASS, lambda b: b.op("linear", b.op("div", b.rand(4), b.x(3, 4)), b.rand(5, 4)), None)
    check(PASS, lambda b: b.op("linear", b.op("mul", b.x(3, 4), b.rand(4)), b.x(5, 4)), None, miss="not constant")

    def shared(b: Build) -> object:
        y = b.op("mul", b.x(3, 4), b.rand(4))
        return [b.op("linear", y, b.rand(5, 4)), y]

    check(PASS, shared, None, miss="shared")
