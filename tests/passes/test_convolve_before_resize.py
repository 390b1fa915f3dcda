from __future__ import annotations

from typing import Any

import pytest

from neve.ir.graph import Value
from neve.ir.types import DType
from neve.passes.convolve_before_resize import PASS
from tests.passes.support import Build, bf16, check, f16


def conv(b: Build, x: Value, outs: int, bias: bool = True, kernel: int = 1, **attributes: Any) -> Value:
    n = x.type.rank - 2
    given = {"stride": (1,) * n, "padding": ((kernel // 2,) * 2,) * n, "dilation": (1,) * n} | attributes
    w = b.rand(outs, int(x.shape[1]) // int(given.get("groups", 1)), *(kernel,) * n, dtype=x.dtype)
    return b.op("convolution", x, w, *([b.rand(outs, seed=1, dtype=x.dtype)] if bias else []), **given)


def linear(b: Build, x: Value, *output: int) -> Value:
    return b.op("upsample_linear", x, output=output)


@pytest.mark.parametrize("name", ["upsample_linear", "upsample_nearest", "upsample_bicubic"])
@pytest.mark.parametrize("bias", [False, True])
def test_one_image(name: str, bias: bool) -> None:
    left = {"convolution": 1, name: 1} | ({"add": 1} if bias else {})
    check(PASS, lambda b: conv(b, b.op(name, b.x(2, 4, 3, 5), output=(7, 6)), 6, bias), left, edges=False)


def test_images_of_several_sizes_beside_others() -> None:
    def head(b: Build) -> Value:
        y, z = b.x(1, 3, 8, 8), b.x(1, 1, 8, 8)
        small = [linear(b, b.x(1, c, n, n), 8, 8) for c, n in ((4, 4), (2, 1))]
        return conv(b, b.op("cat", small[0], y, small[1], z, axis=1), 5)

    check(PASS, head, {"cat": 1, "convolution": 3, "upsample_linear": 2, "add": 2}, edges=False)


@pytest.mark.parametrize("dtype", [f16, bf16])
def test_halves_are_added_up_in_float32(dtype: DType) -> None:
    def head(b: Build) -> Value:
        y = b.x(1, 3, 8, 8, dtype=dtype)
        return conv(b, b.op("cat", linear(b, b.x(1, 4, 4, 4, dtype=dtype), 8, 8), y, axis=1), 5)

    left = {"cast": 4, "convolution": 2, "upsample_linear": 1, "add": 1}
    check(PASS, head, left, edges=False)


def test_other_ranks() -> None:
    check(PASS, lambda b: conv(b, linear(b, b.x(2, 3, 4), 9), 2, bias=False), {"convolution": 1, "upsample_linear": 1},
          edges=False)  # fmt: skip


def test_what_must_stay() -> None:
    check(PASS, lambda b: conv(b, linear(b, b.x(1, 3, 4, 4), 5, 5), 2), None)
    check(PASS, lambda b: conv(b, linear(b, b.x(1, 3, 4, 4), 8, 8), 2, kernel=3), None)
    check(PASS, lambda b: conv(b, linear(b, b.x(1, 4, 4, 4), 8, 8), 2, groups=2), None)
    check(PASS, lambda b: conv(b, linear(b, b.x(1, 4, 4, 4), 8, 8), 2, stride=(2, 2)), None)
    check(PASS, lambda b: conv(b, linear(b, b.x(1, 4, 4, 4), 8, 8), 2, padding=((1, 1), (0, 0))), None)
    check(PASS, lambda b: conv(b, b.op("cat", linear(b, b.x(1, 3, 4, 4), 8, 8), b.x(1, 3, 8, 8), axis=0), 2), None)

    def shared(b: Build) -> list[Value]:
        y = linear(b, b.x(1, 3, 4, 4), 8, 8)
        return [conv(b, y, 2), y]

    check(PASS, shared, None, miss="shared")
    check(PASS, lambda b: b.op("convolution", linear(b, b.x(1, 3, 4, 4), 8, 8), b.x(2, 3, 1, 1), stride=(1, 1),
                               padding=((0, 0), (0, 0)), dilation=(1, 1)), None, miss="not constant")  # fmt: skip
