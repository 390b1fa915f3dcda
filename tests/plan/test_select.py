"""Every op that kernels compute gets one, or the plan says why not."""

from __future__ import annotations

import pytest

from neve.build.target import native
from neve.emit.program import emit
from neve.ir.graph import Method, Program
from neve.kernels import KERNELS
from neve.ops.base import REGISTRY, Sample
from neve.plan.lowering import Lowering
from neve.plan.select import flops
from neve.plan.stages import Template
from tests.emit.programs import as_graph

SAMPLES = [
    pytest.param(sample, constants, id=f"{name}-{i}{'-constant' if constants else ''}")
    for name in sorted({op for kernel in KERNELS for op in kernel.ops})
    for i, sample in enumerate(REGISTRY[name].samples())
    for constants in ((), tuple(range(1, len(sample.inputs))))
]


@pytest.mark.parametrize(("sample", "constants"), SAMPLES)
def test_a_kernel_or_a_reason(sample: Sample, constants: tuple[int, ...]) -> None:
    graph = as_graph(sample, constants)
    lowered = Lowering().method(graph)
    node = next(n for n in graph.nodes if n.op.name == sample.op.name)
    taken = any(isinstance(s, Template) and s.op.name == sample.op.name for s in lowered.block.stages)
    refused = lowered.refusals.get((node.origin, node.op.name), "")
    assert taken != bool(refused), refused
    if refused and all(v.type.numel for v in node.outputs):
        (sites,) = emit(Program({"forward": Method(graph)}), native()).calls.values()
        assert refused in {c.plain for c in sites}
    assert flops(sample.op, node.inputs, node.outputs).const is not None
