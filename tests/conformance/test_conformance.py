"""A sample of the sweeps: what was right stays right. The whole ones are commands: see `opdb`, `sweep_transformers`."""

from __future__ import annotations

import json

import pytest

from tests.conformance.opdb import FLOOR, floor_key, sweep
from tests.conformance.sweep_transformers import sweep as sweep_models

MODELS = ("BertModel", "LlamaForCausalLM", "SwinForImageClassification", "Wav2Vec2Model")


@pytest.mark.parametrize(
    ("backend", "dtype", "every", "samples"),
    [("interpret", "float32", 12, 3), ("compiled", "float32", 60, 2), ("interpret", "complex64", 12, 2)],
)
def test_operators_that_were_right_stay_right(backend: str, dtype: str, every: int, samples: int) -> None:
    floor = json.loads(FLOOR.read_text())[floor_key(backend, dtype)]
    results = sweep(floor[::every], backend, dtype=dtype, limit=samples)
    assert {n: r["detail"] for n, r in results.items() if r["class"] != "right"} == {}


def test_architectures_stay_right() -> None:
    results = sweep_models(MODELS, "interpret")
    assert {n: r["detail"] for n, r in results.items() if r["class"] != "right"} == {}
