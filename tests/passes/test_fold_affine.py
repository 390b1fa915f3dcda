from __future__ import annotations

import numpy as np
import pytest

from neve.ir.graph import Value
from neve.passes import weights
from neve.passes.fold_affine import PASS
from tests.passes.support import Build, bf16, check, f16
from tests.passes.test_fold_batch_norm import conv, transposed


def result(b: Build, kind: str, dtype: object = None) -> Value:
    more = {} if dtype is None else {"dtype": dtype}
    if kind == "conv":
        return conv(b, b.x(2, 4, 7, 5, **more), b.rand(6, 4, 3, 3, **more), b.rand(6, seed=3, **more))  # type: ignore[arg-type]
    if kind == "transposed":
        return transposed(b, b.x(2, 4, 3, 6), b.rand(4, 3, 3, 3), groups=2)
    return b.op("linear", b.x(2, 6, 4, **more), b.rand(6, 4, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["conv", "transposed", "linear"])
@pytest.mark.parametrize(
    ("name", "swapped"), [("add", 0), ("add", 1), ("sub", 0), ("sub", 1), ("mul", 0), ("mul", 1), ("div", 0)]
)
@pytest.mark.parametrize("number", [True, False])
def test_arithmetic_with_constants_a_channel(kind: str, name: str, swapped: int, number: bool) -> None:
    def build(b: Build) -> object:
        y = result(b, kind)
        c = b.num(-1.5) if number else b.rand(*((6,) if kind == "linear" else (6, 1, 1)), seed=7, low=0.5)
        return b.op(name, *((c, y) if swapped else (y, c)))

    check(
        PASS,
        build,
        {kind if kind == "linear" else "convolution" if kind == "conv" else "conv_transpose": 1},
        edges=False,
    )


def test_chains_collapse() -> None:
    def build(b: Build) -> object:
        y = result(b, "conv")
        y = b.op("add", b.op("mul", y, b.rand(1, 6, 1, 1, low=0.5)), b.rand(6, 1, 1))
        return b.op("neg", b.op("div", b.op("sub", y, b.num(0.25)), b.num(3.0)))

    check(PASS, build, {"convolution": 1}, edges=False)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("conv", (6,)),
        ("conv", (1, 6)),
        ("conv", (6, 1)),
        ("conv", (2, 1, 1, 1)),
        ("conv", (5, 1, 6, 1, 1)),
        ("linear", (6, 1)),
        ("linear", (2, 1, 1)),
        ("linear", (2, 6, 6)),
        ("linear", (3, 1, 1, 6)),
    ],
)
def test_constants_that_align_to_another_axis_or_add_one_stay(kind: str, shape: tuple[int, ...]) -> None:
    def build(b: Build) -> object:
        y = conv(b, b.x(2, 4, 13, 13), b.rand(6, 4, 3, 3)) if kind == "conv" else result(b, kind)
        assert set(y.shape[1:]) == {6}
        return b.op("add", y, b.rand(*shape))

    check(PASS, build, None)


def test_near_misses() -> None:
    check(PASS, lambda b: b.op("add", result(b, "conv"), b.x(6, 1, 1)), None)
    check(PASS, lambda b: b.op("div", b.num(2.0), result(b, "conv")), None)
    check(PASS, lambda b: b.op("div", result(b, "conv"), b.num(0.0)), None)
    check(PASS, lambda b: b.op("mul", conv(b, b.x(1, 4, 7, 7), b.x(6, 4, 3, 3)), b.num(2.0)), None, miss="not constant")
    check(PASS, lambda b: b.op("maximum", result(b, "conv"), b.num(2.0)), None)

    def shared(b: Build) -> object:
        y = result(b, "linear")
        return [b.op("mul", y, b.num(2.0)), b.op("exp", y)]

    check(PASS, shared, None, miss="linear output is shared")


def test_a_bias_joins_a_weight_that_is_not_constant() -> None:
    check(PASS, lambda b: b.op("add", b.op("linear", b.x(3, 4), b.x(5, 4)), b.rand(5)), {"linear": 1}, edges=False)


@pytest.mark.parametrize("dtype", [f16, bf16])
def test_half_types(dtype: object) -> None:
    check(PASS, lambda b: b.op("mul", result(b, "linear", dtype), b.num(0.3, dtype)), {"linear": 1}, edges=False)  # type: ignore[arg-type]


def test_large_shared_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHARED_LIMIT", 16)

    def build(b: Build) -> object:
        w = b.const(np.ones((6, 4)))
        return [b.op("mul", b.op("linear", b.x(3, 4), w), b.num(2.0)), b.op("linear", b.x(3, 4), w)]

    check(PASS, build, None, miss="shared, and large")
