from __future__ import annotations

from dataclasses import replace

from neve.ir.walk import constants
from neve.passes.pipeline import optimize
from neve.passes.rewrite import Exactness
from tests.passes.support import Build, assert_same_meaning, program


def test_packed_parameters_of_all_methods_are_at_the_root_once() -> None:
    b = Build()
    w, free = b.rand(5, 4), b.rand(3, 5, seed=1)
    graph = b.build([b.op("add", b.op("linear", b.x(3, 4), w), free)])
    whole = program(graph)
    whole = replace(whole, methods={"forward": whole.methods["forward"], "other": whole.methods["forward"]})
    new, _ = optimize(whole, prepack=True)
    assert sorted(c.name for c in constants(new)) == ["c", "packed_params.linear_packed"]
    assert_same_meaning(graph, new.methods["other"].graph, Exactness.EXACT, edges=False)
    old, _ = optimize(whole, prepack=True, disable={"hoist_packed_params"})
    assert not any(c.name.startswith("packed_params") for c in constants(old))
