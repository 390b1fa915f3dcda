from __future__ import annotations

import numpy as np

from neve.ir.graph import ConstTensor, StateVar
from neve.passes.merge_common_subexpressions import PASS
from tests.passes.support import Build, check, f32, i64, make


def test_equal_nodes_merge_through_chains_and_swapped_operands() -> None:
    def build(b: Build) -> object:
        x, y = b.x(3), b.x(3)
        return [b.op("exp", b.op("add", x, y)), b.op("exp", b.op("add", y, x))]

    check(PASS, build, {"add": 1, "exp": 1})


def test_order_matters_where_ops_do_not_commute() -> None:
    def build(b: Build) -> object:
        x, y = b.x(3), b.x(3)
        return [b.op(name, *pair) for name in ("sub", "maximum", "minimum") for pair in ((x, y), (y, x))]

    check(PASS, build, None)


def test_attributes_differ_by_type_and_sign_of_zero() -> None:
    def build(b: Build) -> object:
        x = b.x(3)
        return [b.op("copysign", x, b.num(0.0, shape=(3,))), b.op("copysign", x, b.num(-0.0, shape=(3,)))]

    check(PASS, build, None)


def test_constants_merge_by_tensor_not_by_name() -> None:
    same, other = (ConstTensor("c", np.full(3, v, np.float32), f32) for v in (1, 2))

    def build(b: Build) -> object:
        return [b.op("neg", b.op("constant", tensor=t)) for t in (same, same, other)]

    check(PASS, build, {"neg": 2})


def test_state_is_read_again_after_a_write() -> None:
    var = StateVar("s", np.zeros(3, np.float32), f32)

    def build(b: Build) -> object:
        first = b.op("read_state", var=var)
        b.emit(make("write_state", var=var), b.op("exp", first))
        return [first, b.op("read_state", var=var)]

    check(PASS, build, None)


def test_outputs_are_redirected() -> None:
    def build(b: Build) -> object:
        x = b.x(3, dtype=i64)
        return [b.op("neg", x), b.op("neg", x)]

    graph = check(PASS, build, {"neg": 1})
    assert graph.outputs[0] is graph.outputs[1]
