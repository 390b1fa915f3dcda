from __future__ import annotations

import pytest

from neve.ir.types import DType
from neve.passes.fuse_add_relu import PASS
from tests.passes.support import Build, bf16, check, f16, f32, i32


@pytest.mark.parametrize("dtype", [f32, f16, bf16, i32])
def test_sum_and_relu_are_one(dtype: DType) -> None:
    def build(b: Build) -> object:
        return b.op("relu", b.op("add", b.x(3, 1, 5, dtype=dtype), b.x(4, 1, dtype=dtype)))

    check(PASS, build, {"add_relu": 1})


def test_near_misses() -> None:
    def shared(b: Build) -> object:
        y = b.op("add", b.x(3, 4), b.x(3, 4))
        return [b.op("relu", y), y]

    check(PASS, shared, None, miss="another use")
    check(PASS, lambda b: b.op("relu", b.op("sub", b.x(3, 4), b.x(3, 4))), None)
    check(PASS, lambda b: b.op("clamp", b.op("add", b.x(3, 4), b.x(3, 4)), min=0.0, max=6.0), None)
