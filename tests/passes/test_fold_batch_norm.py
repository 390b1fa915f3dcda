from __future__ import annotations

import numpy as np
import pytest

from neve.ir.graph import Value
from neve.ir.types import DType, symbol
from neve.passes.fold_batch_norm import PASS
from tests.passes.support import Build, bf16, check, f16, f32

s0 = symbol("s0")


def norm(b: Build, x: Value, c: int, seed: int = 9, dtype: DType = f32) -> Value:
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(0.5, 2, c), rng.normal(size=c), rng.normal(size=c), rng.uniform(0.5, 2, c)]
    return b.op("batch_norm", x, *(b.const(a, dtype) for a in arrays), eps=1e-3)


def conv(b: Build, x: Value, w: Value, *bias: Value, groups: int = 1) -> Value:
    rank = x.type.rank - 2
    return b.op(
        "convolution", x, w, *bias, stride=(2,) * rank, padding=((1, 0),) * rank, dilation=(1,) * rank, groups=groups
    )


def transposed(b: Build, x: Value, w: Value, *bias: Value, groups: int = 1) -> Value:
    return b.op(
        "conv_transpose",
        x,
        w,
        *bias,
        stride=(2, 1),
        padding=(1, 0),
        output_padding=(1, 0),
        dilation=(1, 1),
        groups=groups,
    )


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("shape", "kernel", "groups"),
    [((s0, 4, 9), (6, 4, 3), 1), ((s0, 4, 7, 8), (6, 2, 3, 2), 2), ((s0, 4, 4, 5, 5), (4, 1, 2, 3, 3), 4)],
)
def test_convolutions(shape: tuple[object, ...], kernel: tuple[int, ...], groups: int, bias: bool) -> None:
    def build(b: Build) -> object:
        more = [b.rand(kernel[0], seed=2)] if bias else []
        return norm(b, conv(b, b.x(*shape), b.rand(*kernel), *more, groups=groups), kernel[0])

    check(PASS, build, {"convolution": 1}, sizes={s0: 2}, edges=False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_scale_their_own_axis(groups: int, bias: bool) -> None:
    def build(b: Build) -> object:
        more = [b.rand(6, seed=2)] if bias else []
        return norm(b, transposed(b, b.x(2, 4, 5, 6), b.rand(4, 6 // groups, 3, 3), *more, groups=groups), 6)

    check(PASS, build, {"conv_transpose": 1}, edges=False)


def test_linear_of_rank_two() -> None:
    check(
        PASS, lambda b: norm(b, b.op("linear", b.x(s0, 4), b.rand(5, 4)), 5), {"linear": 1}, sizes={s0: 3}, edges=False
    )


def test_linear_of_higher_rank_is_declined_also_where_sizes_agree() -> None:
    check(PASS, lambda b: norm(b, b.op("linear", b.x(2, 5, 4), b.rand(5, 4)), 5), None, miss="another axis")


def test_two_norms_in_a_row_both_fold() -> None:
    check(
        PASS,
        lambda b: norm(b, norm(b, conv(b, b.x(1, 4, 7, 7), b.rand(6, 4, 3, 3)), 6), 6, seed=5),
        {"convolution": 1},
        edges=False,
    )


def test_a_shared_result_is_declined() -> None:
    def build(b: Build) -> object:
        y = conv(b, b.x(1, 4, 7, 7), b.rand(6, 4, 3, 3))
        return [norm(b, y, 6), b.op("relu", y)]

    check(PASS, build, None, miss="convolution output is shared")

    def as_output(b: Build) -> object:
        y = conv(b, b.x(1, 4, 7, 7), b.rand(6, 4, 3, 3))
        return [norm(b, y, 6), y]

    check(PASS, as_output, None, miss="convolution output is shared")


def test_a_shared_weight_is_right_at_every_call() -> None:
    def build(b: Build) -> object:
        x, w = b.x(1, 4, 7, 7), b.rand(6, 4, 3, 3)
        return [norm(b, conv(b, x, w), 6), norm(b, conv(b, x, w), 6, seed=5), conv(b, x, w)]

    check(PASS, build, {"convolution": 3}, edges=False)


def test_what_is_not_constant_is_declined() -> None:
    def weight(b: Build) -> object:
        return norm(b, conv(b, b.x(1, 4, 7, 7), b.x(6, 4, 3, 3)), 6)

    def statistics(b: Build) -> object:
        y = conv(b, b.x(1, 4, 7, 7), b.rand(6, 4, 3, 3))
        return b.op("batch_norm", y, b.rand(6), b.rand(6), b.x(6), b.rand(6, low=0.5))

    check(PASS, weight, None, miss="weight of convolution is not constant")
    check(PASS, statistics, None, miss="parameters are not constant")


@pytest.mark.parametrize("dtype", [f16, bf16])
def test_half_types_keep_their_dtype(dtype: DType) -> None:
    graph = check(
        PASS,
        lambda b: norm(b, conv(b, b.x(1, 4, 7, 7, dtype=dtype), b.rand(6, 4, 3, 3, dtype=dtype)), 6, dtype=dtype),
        {"convolution": 1},
        edges=False,
    )
    assert all(v.dtype is dtype for v in graph.nodes[-1].inputs)


def test_weights_that_would_overflow_are_left_alone() -> None:
    def build(b: Build) -> object:
        y = conv(b, b.x(1, 4, 7, 7, dtype=f16), b.rand(6, 4, 3, 3, dtype=f16))
        one = b.const(np.ones(6), f16)
        return b.op("batch_norm", y, b.const(np.full(6, 6e4), f16), one, one, b.const(np.full(6, 1e-7), f16), eps=0.0)

    check(PASS, build, None, miss="not finite")
