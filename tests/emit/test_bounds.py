"""Constants that bound a value: NaN stays, and of two zeros the value's own, in vectors, their tails and scalars."""

from __future__ import annotations

import numpy as np
import pytest

from neve.ir.graph import Graph
from neve.ir.types import DType, TensorType
from tests.emit.programs import build_methods
from tests.passes.support import Build, f16, f32

BOUNDS = (0.0, -1.5, 6.0, float("inf"), float("-inf"), float("nan"))
f64 = DType.float64


def values(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    special = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 7.0, -7.0, 1.25, -1.5, 6.0]
    return np.resize(np.array(special, dtype.numpy), shape)


def bounded(dtype: DType, shape: tuple[int, ...]) -> Graph:
    """The larger and the smaller of x and each bound, from either side."""
    b = Build()
    x = b.input("x", TensorType(shape, dtype))
    out = []
    for bound in BOUNDS:
        c = b.num(bound, dtype)
        out += [b.op(name, *args) for name in ("maximum", "minimum") for args in ((x, c), (c, x))]
    return b.build(out)


@pytest.mark.parametrize("dtype", [f32, f64, f16], ids=str)
def test_nan_stays_and_of_two_zeros_the_value(dtype: DType) -> None:
    graphs = {f"n{n}": bounded(dtype, (2, n)) for n in (1, 7, 64, 83)}
    module = build_methods(graphs)
    for name, graph in graphs.items():
        x = values(tuple(int(d) for d in graph.inputs[0].shape), dtype)
        got = iter(module.methods[name](x))
        for bound in BOUNDS:
            c = np.asarray(bound, x.dtype)
            for larger in (True, True, False, False):
                keep = np.isnan(x) | ~((x < c) if larger else (x > c))
                want = np.where(keep & ~np.isnan(c), x, c)
                y = next(got)
                np.testing.assert_array_equal(y, want, err_msg=f"{name} {bound} {larger}")
                if not np.isnan(bound):
                    zero = want == 0
                    np.testing.assert_array_equal(
                        np.signbit(y[zero]), np.signbit(want[zero]), err_msg=f"{name} {bound}"
                    )


def test_nan_passes_the_store_of_a_kernel() -> None:
    """Rows of one number each, times ones: whole vectors and a part of one."""
    b = Build()
    x = b.input("x", TensorType((11, 1), f32))
    y = b.op("linear", x, b.const(np.ones((83, 1), np.float32)))
    module = build_methods({"forward": b.build([b.op("clamp", y, min=0.0, max=6.0)])})
    given = values((11, 1), f32)
    np.testing.assert_array_equal(module.methods["forward"](given)[0], np.tile(np.clip(given, 0, 6), (1, 83)))
