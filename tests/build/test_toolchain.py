from __future__ import annotations

import gc
import multiprocessing
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neve.build.cache import Cache
from neve.build.elf import machine, missing_symbols
from neve.build.source import Source
from neve.build.target import native, parse_target
from neve.build.toolchain import STRICT, Compiler, build, compile_object, find_compiler
from neve.errors import BuildError, CacheError
from neve.runtime.loader import open_library
from tests.handmade import affine, counter, dynamic


def _found(kind: str) -> bool:
    try:
        find_compiler(native(), kind)
        return True
    except BuildError:
        return False


COMPILERS = [
    pytest.param(kind, marks=pytest.mark.skipif(not _found(kind), reason=f"no {kind} here"))
    for kind in ("gcc", "clang", "zig")
]
X = np.arange(8, dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("kind", COMPILERS)
@pytest.mark.parametrize("units", [1, 2, 3])
def test_every_compiler_builds_a_library_that_runs(kind: str, units: int, cache: Cache) -> None:
    source, compiler = affine(), find_compiler(native(), kind)
    library = build(source, compiler=compiler, units=units, extra=STRICT, cache=cache)
    np.testing.assert_array_equal(open_library(library.path, source.signature, source.weights)(X), 2 * X + 1)
    assert not library.cached
    assert build(source, compiler=compiler, units=units, extra=STRICT, cache=cache).cached


@pytest.mark.parametrize("kind", COMPILERS)
@pytest.mark.parametrize("make", [affine, dynamic, counter])
def test_the_object_needs_nothing(kind: str, make: Callable[[], Source], tmp_path: Path) -> None:
    path = compile_object(make(), native(), find_compiler(native(), kind), tmp_path / "model.o", STRICT)
    assert missing_symbols([path]) == []


def test_the_library_is_found_by_all_that_it_is_made_from(cache: Cache) -> None:
    source = affine()
    first = build(source, cache=cache)
    changed = Source(
        source.name, source.files | {"affine.h": source.files["affine.h"] + "\n"}, source.weights, source.signature
    )
    assert not build(changed, cache=cache).cached
    assert not build(source, cache=cache, extra=["-O1"]).cached
    other = Source(source.name, source.files, np.zeros(8, np.uint8), source.signature)
    assert build(other, cache=cache).path == first.path, "weights are not compiled in"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aarch64", ("elf", "aarch64")),
        ("aarch64-android", ("elf", "aarch64")),
        ("aarch64-macos", ("macho", "aarch64")),
        ("aarch64-ios", ("macho", "aarch64")),
        ("x86_64-avx2-windows", ("coff", "x86_64")),
        ("x86_64-avx2-macos", ("macho", "x86_64")),
        ("x86_64-avx512", ("elf", "x86_64")),
        ("wasm32", ("wasm", "wasm32")),
    ],
)
@pytest.mark.skipif(not _found("zig"), reason="no zig here")
def test_zig_builds_for_every_target(name: str, kind: tuple[str, str], cache: Cache) -> None:
    target = parse_target(name)
    library = build(affine(), target, compiler=find_compiler(target, "zig"), cache=cache)
    assert machine(library.path.read_bytes()) == kind


def test_errors_have_the_command_the_lines_and_the_fix(cache: Cache) -> None:
    source = affine()
    source.files["affine.c"] += "\nint broken(void) { return nowhere; }\n"
    with pytest.raises(BuildError) as caught:
        build(source, cache=cache)
    text = str(caught.value)
    assert "-c affine.c" in text
    assert re.search(r"error: .*nowhere", text)
    kept = re.search(r"kept in (\S+);", text)
    assert kept
    assert (Path(kept[1]) / "affine.c").exists()


def test_a_symbol_from_outside_is_refused(cache: Cache) -> None:
    source = affine()
    source.files["affine.c"] += "\nfloat sinf(float);\nfloat outside(float x) { return sinf(x); }\n"
    with pytest.raises(BuildError, match="not self-contained: sinf not defined"):
        build(source, cache=cache)


def test_a_file_outside_the_folder_is_refused(cache: Cache) -> None:
    source = affine()
    source.files["../escaped.h"] = "int x;"
    with pytest.raises(BuildError, match="outside its folder"):
        build(source, cache=cache)


def test_a_compiler_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVE_CC", "/nowhere/cc")
    with pytest.raises(BuildError, match=r"'/nowhere/cc' .from NEVE_CC. does not run"):
        find_compiler(native())


def test_no_compiler_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEVE_CC", raising=False)
    monkeypatch.setattr("neve.build.toolchain._probe", lambda asked: None)
    with pytest.raises(BuildError, match="pip install ziglang"):
        find_compiler(native())


def test_a_compiler_that_does_not_know_a_flag(cache: Cache) -> None:
    with pytest.raises(BuildError, match="does not know a flag"):
        build(affine(), extra=["-fno-such-flag-at-all"], cache=cache)


def test_a_compiler_for_another_machine_is_found_out(cache: Cache) -> None:
    other = parse_target("aarch64" if native().arch == "x86_64" else "x86_64")
    with pytest.raises(BuildError, match=r"built for elf \S+, wanted"):
        build(affine(), other, compiler=find_compiler(native(), "gcc"), cache=cache)


def test_progress_counts_to_the_end(cache: Cache) -> None:
    steps: list[tuple[int, int, str]] = []
    build(affine(), units=2, progress=lambda *step: steps.append(step), cache=cache)
    assert [done for done, _, _ in steps] == list(range(steps[-1][1] + 1))
    assert "affine" in steps[0][2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_is_heard_where_python_drops_it(cache: Cache, tmp_path: Path) -> None:
    """While the garbage collector runs, and a compiler never ends."""
    fake = tmp_path / "gcc"
    fake.write_text("#!/bin/sh\nexec sleep 600\n")
    fake.chmod(0o755)

    def interrupted(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(interrupted)
        signal.raise_signal(signal.SIGINT)

    def progress(*_: object) -> None:
        gc.callbacks.append(interrupted)
        gc.collect()

    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build(affine(), compiler=Compiler("gcc", (str(fake),), "12.2.0"), cache=cache, progress=progress)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, old)


def test_a_full_disk_says_so(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neve.build.cache.write_atomically", full)
    with pytest.raises(CacheError, match="the disk is full"):
        build(affine(), cache=cache)


def _build(root: Path, results: object) -> None:
    library = build(counter(), cache=Cache(root))
    results.put((library.cached, str(library.path)))  # type: ignore[attr-defined]


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    workers = [fork.Process(target=_build, args=(tmp_path, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(cached for cached, _ in told) == [False, True, True, True]
    assert len({path for _, path in told}) == 1


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (build(affine(), cache=Cache(tmp_path / name)) for name in "ab")
    assert one.path.read_bytes() == two.path.read_bytes()


def test_the_library_needs_no_other(cache: Cache) -> None:
    if native().os != "linux":
        pytest.skip("ELF only")
    path = build(affine(), cache=cache).path
    told = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip("no readelf here")
    assert "NEEDED" not in told.stdout
    assert isinstance(find_compiler(native()), Compiler)
