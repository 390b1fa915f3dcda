from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import mmap
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neve import artifact as module
from neve.artifact import Artifact, Binary, Example, load, open_module, save, unpack
from neve.build.target import native
from neve.build.toolchain import Library, build, find_compiler
from neve.errors import ArtifactError
from neve.runtime.container import ALIGN, FORMAT, Member, layout, read_container
from tests.handmade import affine, counter

X = np.arange(8, dtype=np.float32)
PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made() -> Artifact:
    source = affine()
    library = build(source)
    binary = Binary(library.compiler, library.path.read_bytes())
    examples = {"forward": [Example([X], [2 * X + 1]), Example([-X], [1 - 2 * X])]}
    measured = {"tolerance": 1e-5, "error": 0.0}
    return Artifact(
        source.name, source.signature, source.weights, "y = 2 x + 1\n", source.files, {native().name: binary}, examples,
        [{"pass": "none"}], measured, {"note": "made by hand"},
    )  # fmt: skip


@pytest.fixture
def path(made: Artifact, tmp_path: Path) -> Path:
    save(made, tmp_path / "m.neve")
    return tmp_path / "m.neve"


@pytest.fixture
def no_dlopen(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was executed")

    monkeypatch.setattr("neve.runtime.native.ctypes.CDLL", never)
    monkeypatch.setattr("subprocess.run", never)


def assert_same(one: Artifact, two: Artifact) -> None:
    for item in dataclasses.fields(Artifact):
        if item.name == "weights":
            np.testing.assert_array_equal(one.weights, two.weights)
        elif item.name != "examples":
            assert getattr(one, item.name) == getattr(two, item.name)
    for method, examples in one.examples.items():
        for a, b in zip(examples, two.examples[method], strict=True):
            np.testing.assert_array_equal(a.inputs + a.outputs, b.inputs + b.outputs)


def test_what_is_saved_is_loaded_and_runs(made: Artifact, path: Path) -> None:
    loaded = load(path)
    assert_same(made, loaded)
    opened = open_module(loaded)
    for example in loaded.examples["forward"]:
        np.testing.assert_array_equal(opened(*example.inputs), example.outputs[0])
    np.testing.assert_array_equal(opened(*opened.example_inputs), 2 * X + 1)
    assert opened.graph == "y = 2 x + 1\n"
    opened.save(path)
    assert_same(made, load(path))


def test_the_file_is_an_ordinary_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert json.loads(file.read("manifest.json"))["name"] == "affine"
        for info in file.infolist():
            name, extra = struct.unpack_from("<HH", path.read_bytes(), info.header_offset + 26)
            assert (info.header_offset + 30 + name + extra) % ALIGN == 0
            assert info.compress_type == zipfile.ZIP_STORED


def test_the_same_content_gives_the_same_bytes(made: Artifact, path: Path, tmp_path: Path) -> None:
    save(made, tmp_path / "again.neve")
    assert (tmp_path / "again.neve").read_bytes() == path.read_bytes()


def _refused(path: Path, data: bytes | bytearray) -> str:
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        load(path)
    return str(caught.value)


def test_every_flipped_bit_is_noticed(path: Path, no_dlopen: None) -> None:
    good = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        manifest = file.getinfo("manifest.json")
        tail = file.start_dir
    ends = set(range(manifest.header_offset, manifest.file_size + 200)) | set(range(tail, len(good)))
    sampled = np.random.default_rng(0).integers(0, len(good), 400).tolist()
    for at in sorted(ends | set(sampled)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        with pytest.raises(ArtifactError):
            module._read(memoryview(bad), -1, False)
    module._read(memoryview(good), -1, False)


def test_every_length_is_noticed(path: Path, no_dlopen: None) -> None:
    good = path.read_bytes()
    for size in [0, 1, 21, 22, 100, *range(200, len(good), 997), *range(len(good) - 200, len(good))]:
        _refused(path, good[:size])
    assert "empty" in _refused(path, b"")
    assert "truncated" in _refused(path, good[:-1])
    for more in (b"\0", good):
        _refused(path, good + more)
        _refused(path, more + good)


def test_other_files_are_told_what_they_are(path: Path, tmp_path: Path) -> None:
    assert "does not start like one" in _refused(path, os.urandom(5000))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("archive/data.pkl", b"x" * 100)
    assert "goes through neve.compile" in _refused(path, packed.getvalue())
    for other in (tmp_path / "missing.neve", tmp_path):
        with pytest.raises(ArtifactError, match="cannot be read"):
            load(other)


def _repacked(path: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None], honest: bool = True) -> bytes:
    """The file with changed members, all hashes made right again if honest: what a stranger could write."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    if honest:
        manifest["members"] = {
            name: {"size": len(d), "crc32": zlib.crc32(d), "sha256": hashlib.sha256(d).hexdigest()}
            for name, d in members.items()
        }
    text = json.dumps(manifest).encode()
    everything = {"manifest.json": text} | members
    listed = [Member(name, len(d), zlib.crc32(d)) for name, d in everything.items()]
    version = manifest["format"] if isinstance(manifest.get("format"), int) else FORMAT
    places = layout(listed, hashlib.sha256(text).hexdigest(), version)
    parts = [part for (_, header), d in zip(places.headers, everything.values(), strict=True) for part in (header, d)]
    return b"".join([*parts, places.tail[1]])


def _set(key: str, value: Any) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        manifest[key] = value

    return change


def _member(name: str, data: bytes | None) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        if data is None:
            del members[name]
        else:
            members[name] = data

    return change


LIBRARY = f"lib/{native().name}/affine.so"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", FORMAT + 1), f"format version {FORMAT + 1}, this neve reads version {FORMAT}: update neve"),
        (_set("format", FORMAT - 1), f"format version {FORMAT - 1}.*compile the model again"),
        (_set("format", "1"), f"no format {FORMAT}"),
        (_set("name", "other"), "'other' is not the signature's"),
        (_set("signature", []), "wanted a dict as 'signature'"),
        (_set("signature", {"abi": 99}), "C interface is version 99"),
        (_set("targets", {"pdp11": {}}), "unknown target 'pdp11'"),
        (_set("targets", {"native": {}}), "missing"),
        (_set("targets", {"aarch64": {}}), "library for 'aarch64' is missing"),
        (_set("examples", {"forward": 3}), "forward-2.npz is missing"),
        (_set("examples", {"forward": -1}), "-1 examples"),
        (_member("weights.bin", b"1234567"), "7 bytes, the signature wants 8"),
        (_member("weights.bin", None), "weights.bin or graph.txt is missing"),
        (_member("graph.txt", b"\xff\xfe"), "not text"),
        (_member(LIBRARY, b"#!/bin/sh\necho hello"), "it is no library"),
        (_member(LIBRARY, b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\xb7\0" + bytes(60)), "it is elf for aarch64"),
        (_member("examples/forward-0.npz", b"PK not really"), "cannot be read"),
        (_member("../../etc/cron.d/x", b"* * * * * root true"), "not a plain relative path"),
        (_member("/etc/passwd", b"x"), "not a plain relative path"),
        (_member("source/..\\..\\x", b"x"), "not a plain relative path"),
        (_member("source/a\0b", b"x"), "not a plain relative path"),
    ],
)
@pytest.mark.skipif(native().os != "linux", reason="the library's name is that of Linux")
def test_files_of_a_stranger_are_refused(path: Path, change: Any, message: str, no_dlopen: None) -> None:
    data = _repacked(path, change)
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=message):
        load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def _places(data: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    items = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    return [place for key, value in items for place in [(data, key), *_places(value)]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), honest=st.booleans())
def test_any_manifest_is_read_or_refused(path: Path, data: st.DataObject, honest: bool) -> None:
    def change(members: dict[str, bytes], manifest: dict[str, Any]) -> None:
        container, key = data.draw(st.sampled_from(_places(manifest)))
        container[key] = data.draw(JSON)

    with contextlib.suppress(ArtifactError):
        module._read(memoryview(_repacked(path, change, honest)), -1, False)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_any_directory_but_the_right_one_is_refused(path: Path, changes: list[tuple[float, bytes]]) -> None:
    good = path.read_bytes()
    start = _directory(path)[0]
    bad = bytearray(good)
    for share, value in changes:
        at = start + int(share * (len(good) - start - len(value)))
        bad[at : at + len(value)] = value
    assume(bad != good)
    with pytest.raises(ArtifactError):
        module._read(memoryview(bad), -1, False)


def test_members_must_be_those_of_the_manifest(path: Path, no_dlopen: None) -> None:
    assert "manifest: source/extra.c" in _refused(
        path, _repacked(path, _member("source/extra.c", b"int x;"), honest=False)
    )


def test_a_pickle_in_an_example_is_not_loaded(path: Path, no_dlopen: None) -> None:
    out = io.BytesIO()
    np.savez(out, in0=np.array([{"a": 1}], dtype=object), out0=X)
    assert "cannot be read" in _refused(path, _repacked(path, _member("examples/forward-0.npz", out.getvalue())))


def test_bombs_are_refused(path: Path, no_dlopen: None) -> None:
    out = io.BytesIO()
    np.savez_compressed(out, in0=np.zeros(10**6, np.float32), out0=X)
    assert "compressed" in _refused(path, _repacked(path, _member("examples/forward-0.npz", out.getvalue())))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.json", b"0" * 10**7)
    comment = path.read_bytes()[-len("neve artifact 0001 sha256 ") - 64 :]
    data = bytearray(packed.getvalue())
    data[-2:] = struct.pack("<H", len(comment))
    assert "compressed" in _refused(path, bytes(data) + comment)


def _directory(path: Path) -> list[int]:
    """Where the directory's entries are in the file."""
    with zipfile.ZipFile(path) as file:
        start = file.start_dir
    data = path.read_bytes()
    found, at = [], start
    while at >= 0:
        found.append(at)
        at = data.find(b"PK\1\2", at + 1)
    return found


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (38, 0xA1FF << 16, "symbolic link"),
        (38, 0x41ED << 16, "special file"),
        (42, 0, "overlap"),
        (24, 2**31, "beyond what the file holds"),
        (42, 2**31, "beyond what the file holds"),
    ],
)
def test_directories_that_lie_are_refused(path: Path, field: int, value: int, message: str, no_dlopen: None) -> None:
    data = bytearray(path.read_bytes())
    at = _directory(path)[2]
    struct.pack_into("<I", data, at + field, value)
    if field == 24:
        struct.pack_into("<I", data, at + 20, value)
    assert message in _refused(path, data)


def test_two_members_of_one_name_are_refused(path: Path, no_dlopen: None) -> None:
    data = bytearray(path.read_bytes())
    one, two = [at for at in _directory(path) if data[at + 46 : at + 60] == b"source/affine."]
    data[two + 46 : two + 61] = data[one + 46 : one + 61]
    assert "two members have the name" in _refused(path, data)


def test_large_members_are_laid_out_in_zip64(tmp_path: Path) -> None:
    listed = [Member("manifest.json", 3, 1), Member("w", 5 * 2**30, 2), Member("z", 7, 3)]
    places = layout(listed, "0" * 64)
    assert all(at % ALIGN == 0 for at in places.data)
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        for at, part in (*places.headers, places.tail):
            file.seek(at)
            file.write(part)
    with zipfile.ZipFile(sparse) as packed:
        told = [(i.filename, i.file_size, i.header_offset) for i in packed.infolist()]
    assert told == [(m.name, m.size, at) for m, (at, _) in zip(listed, places.headers, strict=True)]
    with open(sparse, "rb") as saved, mmap.mmap(saved.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        members, _ = read_container(memoryview(mapped))
        assert list(members.values()) == list(zip(places.data, listed, strict=True))


def test_libraries_for_other_machines_only(made: Artifact, path: Path) -> None:
    other = "aarch64-macos" if native().os != "macos" else "x86_64-avx2"
    fake = b"\xcf\xfa\xed\xfe\x0c\0\0\x01" + bytes(100) if "macos" in other else b""
    save(dataclasses.replace(made, libraries={other: Binary("zig", fake)}), path)
    with pytest.raises(ArtifactError, match=r"no library for this machine .*aarch64 macos.*--target"):
        open_module(load(path))


def test_a_missing_feature_of_the_processor(made: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    if native().isa not in ("avx2", "avx512"):
        pytest.skip("features are only told apart on x86_64")
    monkeypatch.setattr("neve.build.target.cpu_features", lambda: frozenset({"sse2"}))
    with pytest.raises(ArtifactError, match="this processor has no"):
        open_module(made)


def test_without_libraries_it_is_built(made: Artifact) -> None:
    bare = dataclasses.replace(made, libraries={})
    with pytest.raises(ArtifactError, match=r"neve\[compile\]"):
        open_module(bare)
    asked: list[Artifact] = []

    def make(artifact: Artifact) -> Library:
        asked.append(artifact)
        return build(affine())

    np.testing.assert_array_equal(open_module(bare, build=make)(X), 2 * X + 1)
    open_module(made, build=make)
    open_module(made, build=make, rebuild=True)
    assert asked == [bare, made]


def test_where_nothing_can_be_written_the_library_is_opened_from_memory(
    made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "memfd_create"):
        pytest.skip("Linux only")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neve.build.cache.Cache.get", lambda *args: None)
    monkeypatch.setattr("neve.build.cache.write_atomically", full)
    np.testing.assert_array_equal(open_module(made)(X), 2 * X + 1)


def test_a_full_disk_leaves_the_old_file(made: Artifact, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neve.artifact.os.fsync", full)
    with pytest.raises(ArtifactError, match=r"m\.neve: the disk is full.*unchanged"):
        save(dataclasses.replace(made, graph="new"), path)
    assert path.read_bytes() == old
    assert os.listdir(path.parent) == ["m.neve"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full or a small file system")
def test_a_disk_that_is_really_full(made: Artifact, tmp_path: Path) -> None:
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("may not mount")
    try:
        save(dataclasses.replace(made, libraries={}), tmp_path / "m.neve")
        big = dataclasses.replace(made, libraries={"x86_64-avx2": Binary("gcc", bytes(10**6))})
        with pytest.raises(ArtifactError, match="the disk is full"):
            save(big, tmp_path / "m.neve")
        assert load(tmp_path / "m.neve").graph == made.graph
        assert os.listdir(tmp_path) == ["m.neve"]
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_folder_that_is_not_there(made: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot save .*No such file"):
        save(made, tmp_path / "no" / "m.neve")
    with pytest.raises(ArtifactError, match="must be JSON"):
        save(dataclasses.replace(made, log=[object()]), tmp_path / "m.neve")


def _save_for_ever(artifact: Artifact, path: Path) -> None:
    while True:
        save(artifact, path)


def test_a_killed_save_leaves_a_whole_file(made: Artifact, path: Path) -> None:
    source = affine()
    data = np.random.default_rng(0).integers(0, 255, 4 * 2**20, dtype=np.uint8)
    big = dataclasses.replace(made, weights=data, signature=source.signature | {"weights_size": data.size})
    fork = multiprocessing.get_context("fork")
    sizes = set()
    for i in range(6):
        child = fork.Process(target=_save_for_ever, args=(big, path))
        child.start()
        time.sleep(0.03 + 0.02 * i)
        assert child.pid
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        sizes.add(load(path).weights.size)
    assert sizes <= {8, data.size}
    assert data.size in sizes


def test_large_weights_are_mapped_and_checked(made: Artifact, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.zeros(20 * 2**20 + 5, np.uint8)
    data[::4096] = 7
    save(dataclasses.replace(made, weights=data, signature=made.signature | {"weights_size": data.size}), path)
    hashed: list[int] = []
    real = module._hash

    def counting(part: memoryview) -> str:
        hashed.append(part.nbytes)
        return real(part)

    monkeypatch.setattr(module, "_hash", counting)
    loaded = load(path)
    assert not loaded.weights.flags.writeable
    assert loaded.weights.ctypes.data % 64 == 0
    assert data.size not in hashed, "a file that this process saved is known"
    load(path, verify=True)
    assert hashed.count(data.size) == 1
    del loaded
    with open(path, "r+b") as file:
        file.seek(10 * 2**20)
        file.write(b"\1")
    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"'weights.bin' was altered"):
            load(path)


def test_unpack_gives_a_c_program_all_that_it_needs(made: Artifact, path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    unpack(load(path), folder)
    (folder / "main.c").write_text("""
#include <stdio.h>
#include "affine.h"
size_t affine_context_size(void);
int affine_init(affine *, const void *, size_t);
int affine_forward(affine *, const affine_forward_io *, const neve_parallel *);
static _Alignas(64) char weights[8], context[64];
int main(void) {
    float x[8] = {1, 2, 3}, y[8];
    FILE *file = fopen("affine.weights", "rb");
    if (!file || fread(weights, 1, sizeof weights, file) != sizeof weights) return 1;
    if (affine_context_size() > sizeof context || affine_init((affine *)context, weights, 8)) return 2;
    affine_forward_io io = {x, y, NULL, 0};
    if (affine_forward((affine *)context, &io, NULL)) return 3;
    printf("%g %g %g\\n", y[0], y[1], y[2]);
}
""")
    compiler = [*find_compiler(native()).command, "-std=c11", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*compiler, "main.c", "affine.c", "-o", "main"], cwd=folder, check=True)
    assert subprocess.run(["./main"], cwd=folder, capture_output=True, text=True, check=False).stdout == "3 5 7\n"


def test_methods_and_state_survive(tmp_path: Path) -> None:
    source = counter()
    library = build(source)
    binary = Binary(library.compiler, library.path.read_bytes())
    save(
        Artifact(source.name, source.signature, source.weights, libraries={native().name: binary}), tmp_path / "c.neve"
    )
    opened = open_module(load(tmp_path / "c.neve"))
    opened.add(np.array(2))
    assert int(opened.peek().total) == 7
    opened.reset()
    assert int(opened.state["total"]) == 5


def _hammer(path: Path, results: Any) -> None:
    wrong = 0
    for _ in range(10):
        wrong += not np.array_equal(open_module(load(path), threads=1)(X), 2 * X + 1)
    results.put(wrong)


def test_processes_load_and_save_at_once(made: Artifact, path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    workers = [fork.Process(target=_hammer, args=(path, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(10):
        save(made, path)
    assert [results.get(timeout=60) for _ in workers] == [0, 0, 0]
    for worker in workers:
        worker.join()


def test_the_container_alone(path: Path) -> None:
    members, manifest_hash = read_container(memoryview(path.read_bytes()))
    assert next(iter(members)) == "manifest.json"
    assert len(manifest_hash) == 64
