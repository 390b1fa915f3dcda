"""Every op's samples, compiled, against the op's own meaning."""

from __future__ import annotations

import numpy as np
import pytest

from neve.check.verify import relative_error
from neve.ir.interpret import evaluate
from neve.ir.types import DType
from neve.kernels import KERNELS
from neve.ops.base import REGISTRY, Sample
from tests.emit.programs import as_graph, build_methods, call, types_of

TOLERANCE = {DType.float32: 1e-5, DType.float64: 1e-12, DType.float16: 2e-3, DType.bfloat16: 1.6e-2}
CONTROL = {"if", "while", "read_state", "write_state", "raise", "measure"}
CELLS = ("gru", "lstm", "rnn")
WEIGHTS = {name: (1, 2) if name in CELLS else (1,) for kernel in KERNELS for name in kernel.ops} | {
    "conv_transpose": (1,)
}
"""Inputs that are constants in models: samples run with them as constants too."""

ABSOLUTE = {"gelu": 4e-7, "gelu_tanh": 3e-7}
"""Functions whose error is bounded by this times 1 + |x|, as kernels/math_f32.h documents, however tiny the value."""

OPS = sorted(name for name in REGISTRY if name not in CONTROL)


def samples_of(name: str) -> list[Sample]:
    return list(REGISTRY[name].samples())


CHUNK = 16
"""Ops a library: a compilation costs more than a method in it."""


@pytest.mark.parametrize(
    "names", [OPS[k : k + CHUNK] for k in range(0, len(OPS), CHUNK)], ids=lambda names: f"{names[0]}..{names[-1]}"
)
def test_compiled_samples(names: list[str]) -> None:
    """Compiled output equals eval: floats within their tolerance, NaN and Inf in the same places, others exactly."""
    cases = {}
    for name in names:
        for k, sample in enumerate(samples_of(name)):
            cases[f"{name}_{k}"] = (sample, as_graph(sample), ())
            if name in WEIGHTS:
                cases[f"{name}_{k}_w"] = (sample, as_graph(sample, WEIGHTS[name]), WEIGHTS[name])
    module = build_methods({key: graph for key, (_, graph, _) in cases.items()})
    bad = []
    for key, (s, graph, constants) in cases.items():
        want = evaluate(s.op, s.inputs, [v.dtype for v in graph.outputs])
        got = call(module, key, graph, [x for i, x in enumerate(s.inputs) if i not in constants])
        for i, (g, w, v) in enumerate(zip(got, want, graph.outputs, strict=True)):
            error = relative_error(np.asarray(g), np.asarray(w))
            if s.op.name in ABSOLUTE and v.dtype is DType.float32 and error < np.inf:
                fine = np.isfinite(w)
                room = ABSOLUTE[s.op.name] * (1 + np.abs(np.where(fine, s.inputs[0], 0)))
                error = (
                    float((np.abs(np.where(fine, g, 0) - np.where(fine, w, 0)) / room).max(initial=0))
                    * TOLERANCE[v.dtype]
                )
            if not error <= TOLERANCE.get(v.dtype, 0.0):
                bad.append(f"{key} {s.op} on {', '.join(map(str, types_of(s)))}: output {i} off by {error:.1e}")
    assert not bad, f"{len(bad)} of {len(cases)}:\n" + "\n".join(bad[:25])
