from __future__ import annotations

from neve.passes.fuse_prepacked_clamps import PASS as FUSE
from neve.passes.insert_prepack import PASS
from neve.passes.pipeline import optimize
from neve.passes.rewrite import Exactness
from tests.passes.support import Build, assert_same_meaning, check, ops, program
from tests.passes.test_fold_batch_norm import conv, transposed


def test_each_kind() -> None:
    check(
        PASS,
        lambda b: conv(b, b.x(1, 4, 7, 7), b.rand(6, 4, 3, 3)),
        {"prepack": 1, "prepacked_convolution": 1},
        edges=False,
    )
    check(
        PASS,
        lambda b: transposed(b, b.x(2, 4, 5, 6), b.rand(4, 6, 3, 3), b.rand(6)),
        {"prepack": 1, "prepacked_conv_transpose": 1},
        edges=False,
    )
    check(
        PASS,
        lambda b: b.op("linear", b.x(3, 4), b.rand(5, 4), b.rand(5)),
        {"prepack": 1, "prepacked_linear": 1},
        edges=False,
    )


def test_parameters_that_are_no_constants_stay() -> None:
    check(PASS, lambda b: b.op("linear", b.x(3, 4), b.x(5, 4)), None, miss="not constant")


def test_prepack_is_evaluated_and_shared_and_clamps_join() -> None:
    b = Build()
    w = b.rand(5, 4)
    y = b.op("clamp", b.op("relu", b.op("linear", b.x(3, 4), w)), min=-1.0, max=1.0)
    z = b.op("linear", b.x(3, 4), w)
    graph = b.build([y, z, b.op("relu", z)])
    new, _ = optimize(program(graph), prepack=True)
    after = new.methods["forward"].graph
    assert (
        ops(after) == {"prepacked_linear": 2, "relu": 1}
        and len([n for n in after.nodes if n.op.name == "constant"]) == 1
    )
    first = next(n.op for n in after.nodes if n.op.name == "prepacked_linear")
    assert (first.minimum, first.maximum) == (0.0, 1.0)  # type: ignore[attr-defined]
    assert_same_meaning(graph, after, Exactness.EXACT, edges=False)


def test_clamps_of_a_shared_result_stay() -> None:
    def build(b: Build) -> object:
        y = b.op("prepacked_linear", b.x(3, 4), b.rand(5, 4))
        return [b.op("relu", y), y]

    check(FUSE, build, None, miss="shared")
