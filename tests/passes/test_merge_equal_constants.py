from __future__ import annotations

import numpy as np

from neve.ir.graph import Graph
from neve.ir.walk import constants
from neve.passes.merge_equal_constants import PASS
from neve.passes.rewrite import Exactness, Log
from tests.passes.support import Build, DType, assert_same_meaning, f16, f32, program


def user(array: object, dtype: DType = f32) -> Graph:
    b = Build()
    c = b.const(array, dtype)
    return b.build([b.op("add", b.op("cast", c, dtype=f32), b.x(*c.shape))])


def test_equal_bits_are_one_across_methods() -> None:
    a = np.arange(40.0)
    other = a.copy()
    other[7] = 99
    p = program(user(a), again=user(a.copy()), other=user(other), half=user(a, f16), shaped=user(a.reshape(8, 5)))
    new = PASS.run(p, Log())
    assert len(constants(new)) == 4
    for name, m in p.methods.items():
        assert_same_meaning(m.graph, new.methods[name].graph, Exactness.EXACT)
    assert PASS.run(new, Log()) is new


def test_signed_zeros_and_nan_are_compared_as_bits() -> None:
    assert len(constants(PASS.run(program(user([0.0, 1.0]), other=user([-0.0, 1.0])), Log()))) == 2
    assert len(constants(PASS.run(program(user([np.nan, 1.0]), other=user([np.nan, 1.0])), Log()))) == 1
