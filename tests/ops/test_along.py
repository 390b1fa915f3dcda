"""`along` and `narrowed` against `eval`: cutting the inputs gives the cut output, for every op, sample and axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import neve.ops  # noqa: F401  (fills the registry)
from neve.ir.interpret import evaluate
from neve.ops.base import REGISTRY, Op, Sample
from tests.ops.test_ops_nn import check, types_of

CUTS = (slice(0, 1), slice(-1, None), slice(0, None, 2), slice(0, 0))


def cases() -> Iterator[Any]:
    for name, cls in REGISTRY.items():
        if cls.along is not Op.along:
            for i, s in enumerate(cls.samples()):
                yield pytest.param(s, id=f"{name}-{i}")


def outputs(op: Op, inputs: tuple[np.ndarray, ...], s: Sample) -> list[np.ndarray]:
    types = [t.with_shape(x.shape) for t, x in zip(types_of(s), inputs, strict=True)]
    return list(evaluate(op, inputs, [t.dtype for t in op.infer(*types)]))


@pytest.mark.parametrize("s", list(cases()))
def test_cut_inputs_give_the_cut_output(s: Sample) -> None:
    (want,) = outputs(s.op, s.inputs, s)
    for axis, size in enumerate(want.shape):
        axes = s.op.along(axis, *types_of(s)) if size != 1 else None
        for cut in CUTS if axes is not None else ():
            assert axes is not None
            at = [... if a is None else (slice(None),) * a + (cut,) for a in axes]
            inputs = tuple(x[k] for x, k in zip(s.inputs, at, strict=True))
            (got,) = outputs(s.op.narrowed(axis, len(range(size)[cut])), inputs, s)
            check(got, want[(slice(None),) * axis + (cut,)], s.op.infer(*types_of(s))[0].dtype)


def test_most_ops_of_networks_can_be_cut_along_their_rows() -> None:
    """The axes that encoders are read along: what the pass is for."""
    for name in ("linear", "layer_norm", "scaled_dot_product_attention", "add", "gelu", "softmax", "matmul", "permute"):
        s = next(REGISTRY[name].samples())
        (out,) = s.op.infer(*types_of(s))
        assert any(s.op.along(a, *types_of(s)) for a in range(out.rank)), name
