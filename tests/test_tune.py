"""Kernels chosen by measurement: the results stay right, and what was measured is not measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neve
from neve.check import tune as tuning


def model() -> tuple[Any, tuple[Any, ...]]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 64, 40))
    return net.eval(), (torch.randn(1, 16, 8, 8),)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def labels(module: neve.Module) -> list[str]:
    return [call["label"] for call in module.artifact.extra["calls"]["forward"]]


def prefer(monkeypatch: pytest.MonkeyPatch, rank: int) -> list[int]:
    """Let every measurement end with that rank; the number of measurements."""
    count: list[int] = []
    measure = tuning._measure

    def found(variants: Any, inputs: Any, seconds: float) -> dict[str, int]:
        count.append(len(variants))
        return dict.fromkeys(measure(variants, inputs, seconds), rank)

    monkeypatch.setattr(tuning, "_measure", found)
    return count


def test_a_tuned_module_is_right_and_what_was_measured_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, args = model()
    want = net(*args).detach().numpy()
    plain = neve.compile(net, args, threads=1)
    count = prefer(monkeypatch, 1)
    tuned = neve.compile(net, args, threads=1, tune=0.01)
    assert count == [3]
    assert labels(tuned) != labels(plain)
    np.testing.assert_allclose(tuned(args[0].numpy()), want, atol=1e-5)
    again = neve.compile(net, args, threads=1, tune=0.01)
    assert count == [3] and labels(again) == labels(tuned)
    assert labels(neve.compile(net, args, threads=1)) == labels(plain)


def test_another_kernel_must_be_faster_by_more_than_noise() -> None:
    assert tuning._best({0: 1.0, 1: 0.98, 2: 1.5}) == 0
    assert tuning._best({0: 1.0, 1: 0.90, 2: 0.95}) == 1


def test_what_the_cache_has_that_makes_no_sense_is_measured_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, args = model()
    count = prefer(monkeypatch, 1)
    tuned = neve.compile(net, args, threads=1, tune=0.01)
    files = list(cache.rglob(tuning.FILE))
    assert files
    for k, file in enumerate(files):
        file.write_bytes([b"{", b'{"choice": 99}', b"[]"][k % 3])
    assert labels(neve.compile(net, args, threads=1, tune=0.01)) == labels(tuned)
    assert count == [3, 3]
