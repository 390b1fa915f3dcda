"""The same model gives the same files: twice in one process, and in processes whose hashes of strings differ."""

from __future__ import annotations

import os
import subprocess
import sys
from json import loads
from pathlib import Path

import pytest

from tests.models import zoo
from tests.models.bytes import ANY_SIZE
from tests.models.small import SMALL

ROOT = Path(__file__).parents[2]
SEEDS = ("0", "1")
QUICK = (*SMALL, "mlp", f"mlp{ANY_SIZE}", "gru_speech", f"bert_mini{ANY_SIZE}")
REST = [name for name, entry in zoo.ZOO.items() if name not in QUICK and not entry.missing]
SLOW = (*REST, *(name + ANY_SIZE for name in REST if zoo.ZOO[name].limits and name + ANY_SIZE not in QUICK))


@pytest.mark.parametrize("names", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["quick", "large"])
def test_two_processes_write_the_same_bytes_twice(names: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.models.bytes", *names]
    started = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE)
        for seed in SEEDS
    ]
    found = [loads(p.communicate()[0]) for p in started]
    for name in names:
        first, *others = (files for made in found for files in made[name])
        for files in others:
            assert list(files) == list(first), f"{name}: files in another order"
            assert not (differ := [k for k in first if files[k] != first[k]]), f"{name}: {differ}"
