"""Silero's voice activity detector as its package ships it: TorchScript, two sample rates, and state whose shapes and
Python values change after the first call. Streams through the file, in a process without torch, against torch.jit.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neve
from tests.models.zoo import folder

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("silero_vad"), reason="silero-vad is not installed: make setup"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
ROOT = Path(__file__).parents[2]
RATES = {"forward": 16000, "forward_8k": 8000}
CHUNK = {16000: 512, 8000: 256}
TOLERANCE = 1e-5
STREAM = """
import importlib.abc, sys
class Barred(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("torch is barred", name="torch")
sys.meta_path.insert(0, Barred())
import numpy as np
import neve
module = neve.load(sys.argv[1])
calls = np.load(sys.argv[2])
out = []
for i, name in enumerate(calls["names"]):
    args = (calls[f"x{i}"], 16000 if name == "forward" else 8000) if f"x{i}" in calls else ()
    found = module.reset() if name == "reset" else getattr(module, name)(*args)
    out.append(np.nan if found is None else found.item())
np.save(sys.argv[3], np.array(out))
"""


def archive() -> Path:
    return folder("silero_vad") / "data" / "silero_vad.jit"


def sound(rate: int, chunks: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Noise, a rising tone, two vowels in turns, silence, loud noise: a fifth of the stream each."""
    rng, size = np.random.default_rng(seed), CHUNK[rate]
    t = np.arange(chunks * size) / rate
    tone = np.sin(2 * np.pi * (200 + 300 * t) * t)
    parts = [rng.normal(0, 0.1, t.size), tone, vowels(t, rate), 0 * t, rng.normal(0, 0.5, t.size)]
    for k in range(chunks):
        yield parts[5 * k // chunks][k * size : (k + 1) * size][None].astype(np.float32)


def vowels(t: np.ndarray, rate: int) -> np.ndarray:
    """a and i on a pitch about 130 Hz, as harmonics under their formants."""
    pitch = 2 * np.pi * np.cumsum(130 + 15 * np.sin(2 * np.pi * 4 * t)) / rate
    a, i = (
        sum(np.sin(k * pitch) * sum(np.exp(-(((130 * k - f) / 120) ** 2)) for f in formants) for k in range(1, 25))
        for formants in ((700, 1200, 2500), (300, 2200, 2900))
    )
    return np.where(np.sin(2 * np.pi * 2.5 * t) > 0, a, i) * (0.12 + 0.08 * np.sin(2 * np.pi * 5 * t))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: Any) -> Path:
    methods: dict[str, Any] = {
        name: {"method": "forward", "args": (torch.zeros(1, CHUNK[rate]), rate)} for name, rate in RATES.items()
    }
    path = tmp_path_factory.mktemp("silero") / "silero.neve"
    neve.compile(archive(), methods=methods | {"reset_states": ()}, threads=1, name="silero").save(path)
    return path


def streamed(compiled: Path, calls: list[tuple[str, np.ndarray | None]]) -> np.ndarray:
    """What the file gives for the calls, in a process of its own."""
    inputs, outputs = compiled.with_suffix(".npz"), compiled.with_suffix(".npy")
    np.savez(inputs, names=[n for n, _ in calls], **{f"x{i}": x for i, (_, x) in enumerate(calls) if x is not None})
    command = [sys.executable, "-c", STREAM, str(compiled), str(inputs), str(outputs)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: np.ndarray = np.load(outputs)
    return found


def wanted(calls: list[tuple[str, np.ndarray | None]]) -> np.ndarray:
    model = torch.jit.load(str(archive()))
    out = []
    with torch.no_grad():
        for name, x in calls:
            if x is None:
                model.reset_states()
                out.append(np.nan)
            else:
                out.append(model(torch.from_numpy(x), RATES[name]).item())
    return np.array(out)


def check(compiled: Path, calls: list[tuple[str, np.ndarray | None]]) -> np.ndarray:
    got, want = streamed(compiled, calls), wanted(calls)
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)
    return want


@pytest.mark.parametrize("name", RATES)
def test_a_stream_of_200_chunks(compiled: Path, name: str) -> None:
    probabilities = check(compiled, [(name, x) for x in sound(RATES[name], 200)])
    assert probabilities.min() < 0.01 and probabilities.max() > 0.9


def test_rates_change_and_states_are_reset_in_the_midst_of_a_stream(compiled: Path) -> None:
    streams = {name: sound(rate, 40, seed=1) for name, rate in RATES.items()}
    calls: list[tuple[str, np.ndarray | None]] = [("reset_states", None)]
    order = ["forward"] * 7 + ["forward_8k"] * 5 + ["reset_states"] + ["forward_8k"] * 6 + ["reset"] + ["forward"] * 8
    order += ["forward_8k"] + ["forward"] * 5 + ["reset_states"] * 2 + ["forward"]
    calls += [(name, next(streams[name]) if name in streams else None) for name in order]
    check(compiled, calls)


def test_weights_are_stored_once(compiled: Path) -> None:
    state = torch.jit.load(str(archive())).state_dict()
    weights = neve.load(compiled).artifact.weights
    assert sum(t.numel() * t.element_size() for t in state.values()) < weights.nbytes < 2.5 * archive().stat().st_size
