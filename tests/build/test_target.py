from __future__ import annotations

import platform

import pytest

from neve.build.target import AVX2, FEATURES, cpu_features, native, parse_target, runs_here
from neve.errors import BuildError


def test_names_are_what_the_user_writes() -> None:
    assert parse_target("x86_64-avx2") is AVX2
    android = parse_target("aarch64-android")
    assert (android.name, android.arch, android.isa, android.os) == ("aarch64-android", "aarch64", "neon", "android")
    assert parse_target("wasm32").os == "none"
    assert parse_target("x86_64-avx2-linux") == AVX2


@pytest.mark.parametrize("name", ["", "arm", "wasm32-linux", "x86_64-avx3", "aarch64-plan9", "x86_64-avx512-ios"])
def test_unknown_targets_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(BuildError, match="wanted"):
        parse_target(name)


def test_the_native_target_runs_here() -> None:
    target = native()
    assert parse_target("native") is target
    assert runs_here(target) == ""
    assert cpu_features().issuperset(FEATURES.get(target.isa, ()))
    assert 8 * 1024 <= target.l1 <= target.l2


def test_other_machines_are_told_apart() -> None:
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    assert other in runs_here(parse_target(other))
    assert "macos" in runs_here(parse_target(f"{native().arch}-macos")) or native().os == "macos"


def test_a_missing_feature_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if native().arch != "x86_64":
        pytest.skip("features are only told apart on x86_64")
    monkeypatch.setattr("neve.build.target.cpu_features", lambda: frozenset({"avx2", "fma"}))
    assert runs_here(parse_target("x86_64-avx2")) == "this processor has no f16c"
