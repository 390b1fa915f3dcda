"""Every op's samples, compiled, against the op's own meaning."""
from __future__ import annotations

import numpy as np
import pytest

from neve.check.verify import relative_error
from neve.ir.interpret import evaluate
from neve.ir.types import DType
from neve.ops.base import REGISTRY, Sample
from tests.emit.programs import as_graph, build_methods, call, types_of

TOLERANCE = {DType.float32: 1e-5, DType.float64: 1e-12, DType.float16: 2e-3, DType.bfloat16: 1.6e-2}
CONTROL = {"if", "while", "read_state", "write_state", "raise"}
WEIGHTS = {"convolution": (1,), "linear": (1,), "gru": (1, 2), "lstm": (1, 2), "rnn": (1, 2)}
"""Inputs that are constants in models: samples run with them as constants too."""

OPS = sorted(name for name in REGISTRY if name not in CONTROL)


def samples_of(name: str) -> list[Sample]:
    return list(REGISTRY[name].samples())


@pytest.mark.parametrize("name", OPS)
def test_compiled_sample(name: str) -> None:
    """Compiled output equals eval: floats within the tolerance of their type, NaN and Inf in the same places, the others exactly."""
    samples = samples_of(name)
    graphs, kept = {}, {}
    for k, s in enumerate(samples):
        for tag, constants in (("s", ()), ("w", WEIGHTS.get(name, ()))):
            if tag == "w" and not constants:
                continue
            graphs[f"{tag}{k}"], kept[f"{tag}{k}"] = as_graph(s, constants), (s, constants)
    module = build_methods(graphs)
    bad = []
    for key, graph in graphs.items():
        s, constants = kept[key]
        types = types_of(s)
        want = evaluate(s.op, s.inputs, [v.dtype for v in graph.outputs])
        got = call(module, key, graph, [x for i, x in enumerate(s.inputs) if i not in constants])
        for i, (g, w, v) in enumerate(zip(got, want, graph.outputs, strict=True)):
            error = relative_error(np.asarray(g), np.asarray(w))
            if not error <= TOLERANCE.get(v.dtype, 0.0):
                bad.append(f"{key} {s.op} on {', '.join(map(str, types))}: output {i} off by {error:.1e}")
    assert not bad, f"{len(bad)} of {len(graphs)}:\n" + "\n".join(bad[:10])
