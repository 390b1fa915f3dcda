"""The `.neve` file: a compiled program as one file that is checked before it is used.

    manifest.json       format, name, signature, hash of each member, targets, pass log, errors measured
    graph.txt           the optimized graph; from it an artifact without lib/ is built when it is opened
    source/…            the generated C
    lib/<target>/…      a shared library for each target that it was built for
    examples/…          <method>-<i>.npz: inputs in0, in1, … and the outputs out0, out1, … expected for them
    weights.bin         the packed weights, mapped into memory in place

Every load checks the container, and the hash of every member. That of weights of more than 16 MB is checked when a
file is seen for the first time: the cache remembers (device, inode, size, times of change) of files that were right.
The hashes find damage; they cannot tell who made a file. A library is native code: open artifacts with lib/ only from
those whom you would trust with a program, `open_module(rebuild=True)` uses nothing but the data of the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import mmap
import os
import threading
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neve.build.cache import Cache, default_cache, digest
from neve.build.elf import machine
from neve.build.target import Target, native, parse_target, runs_here
from neve.build.toolchain import FORMATS, HEADER, SUFFIXES, Library, processors
from neve.errors import ArtifactError, BuildError, CacheError
from neve.runtime.container import FORMAT, Layout, Member, crc32, layout, read_container
from neve.runtime.loader import Module, open_library
from neve.runtime.signature import Signature, read_signature

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
_CHUNK = 4 * 2**20  # bytes hashed at a time, by several threads at once
_ALWAYS = 16 * 2**20  # weights up to this size are hashed at every load
_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class Binary:
    """A shared library for one target; compiler is for people to read."""

    compiler: str
    data: bytes


@dataclass(frozen=True)
class Example:
    """One call's flat inputs and the outputs expected for them."""

    inputs: list[Array]
    outputs: list[Array]


@dataclass(frozen=True)
class Artifact:
    """All that a `.neve` file holds. libraries is by target name, examples by method; measured holds tolerance and
    errors as they were found when it was made, log what the passes did; extra is anything more (JSON).
    """

    name: str
    signature: dict[str, Any]
    weights: Bytes
    graph: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, Binary] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    log: list[Any] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Writes the file; see `save`."""
        save(self, path)


def save(artifact: Artifact, path: str | Path) -> None:
    """Writes the file under its name only when it is complete and on the disk; until then an older one stays as it was.

    ArtifactError if the disk is full or the folder cannot be written.
    """
    path = Path(path)
    contents = _contents(artifact)
    members = {name: _described(data) for name, data in contents.items()}
    manifest = _manifest(artifact, members)
    manifest_hash = hashlib.sha256(manifest).hexdigest()
    listed = [Member(_MANIFEST, len(manifest), crc32(manifest))]
    listed += [Member(name, m["size"], m["crc32"]) for name, m in members.items()]
    places = layout(listed, manifest_hash)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        _write(aside, places, [memoryview(manifest), *contents.values()])
        os.replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        full = error.errno is not None and os.strerror(error.errno) in (
            "No space left on device",
            "Disk quota exceeded",
        )
        what = "the disk is full; free some space or save elsewhere" if full else f"{error.strerror or error}"
        kept = "; the file that was there is unchanged" if path.exists() else ""
        raise ArtifactError(f"cannot save {path}: {what}{kept}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    if artifact.weights.nbytes > _ALWAYS:
        with open(path, "rb") as file:
            _remember(file.fileno(), manifest_hash)


def load(path: str | Path, *, verify: bool = False) -> Artifact:
    """Reads and checks a file; nothing of it is executed. The weights are mapped, not read.

    verify hashes large weights even if the file is known. ArtifactError says what is wrong with the file.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            return _read(memoryview(mapped), file.fileno(), verify)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error


def open_module(
    artifact: Artifact,
    *,
    threads: int | None = None,
    build: Callable[[Artifact], Library] | None = None,
    rebuild: bool = False,
    cache: Cache | None = None,
) -> Module:
    """The artifact as a module of this process, by its library for this machine.

    An artifact without any library is built by `build`, and so is every one if rebuild. ArtifactError if it has
    libraries for other machines only.
    """
    if rebuild or not artifact.libraries:
        if build is None:
            raise ArtifactError(
                f"{artifact.name} carries no library for this machine, and neve cannot build here: "
                "pip install 'neve[compile]'"
            )
        path: Path | str = build(artifact).path
        module = open_library(path, artifact.signature, artifact.weights, threads)
    else:
        target = choose_target(artifact)
        with _library_file(artifact, target, cache) as path:
            module = open_library(path, artifact.signature, artifact.weights, threads)
    module.artifact = artifact
    return module


def unpack(artifact: Artifact, folder: str | Path) -> list[Path]:
    """Writes the C, its headers and NAME.weights into a folder, for a C program; returns the paths."""
    folder = Path(folder)
    if not artifact.sources:
        raise ArtifactError(f"{artifact.name} was saved without its source")
    written = []
    files: dict[str, str | memoryview] = {"neve.h": HEADER.read_text(encoding="utf-8"), **artifact.sources}
    files[f"{artifact.name}.weights"] = artifact.weights.data
    for name, data in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        except OSError as error:
            raise ArtifactError(f"cannot write {path}: {error.strerror or error}") from error
        written.append(path)
    return written


def _contents(artifact: Artifact) -> dict[str, memoryview]:
    """Everything but the manifest, by member name, the weights last."""
    found: dict[str, bytes | memoryview] = {"graph.txt": artifact.graph.encode()}
    found |= {f"source/{name}": text.encode() for name, text in sorted(artifact.sources.items())}
    for target, binary in sorted(artifact.libraries.items()):
        found[_library_name(artifact.name, target)] = binary.data
    for method, examples in artifact.examples.items():
        for i, example in enumerate(examples):
            out = io.BytesIO()
            named = {f"in{n}": a for n, a in enumerate(example.inputs)} | {
                f"out{n}": a for n, a in enumerate(example.outputs)
            }
            np.savez(out, **named)  # type: ignore[arg-type]
            found[f"examples/{method}-{i}.npz"] = out.getvalue()
    weights = np.ascontiguousarray(artifact.weights).reshape(-1).view(np.uint8)
    return {name: memoryview(data) for name, data in found.items()} | {"weights.bin": weights.data}


def _manifest(artifact: Artifact, members: dict[str, dict[str, Any]]) -> bytes:
    data = {
        "format": FORMAT,
        "name": artifact.name,
        "signature": artifact.signature,
        "members": members,
        "targets": {target: {"compiler": binary.compiler} for target, binary in sorted(artifact.libraries.items())},
        "examples": {method: len(examples) for method, examples in artifact.examples.items()},
        "measured": artifact.measured,
        "log": artifact.log,
        "extra": artifact.extra,
    }
    try:
        return (json.dumps(data, indent=1) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{artifact.name}: signature, log, measured and extra must be JSON: {error}") from error


def _write(path: Path, places: Layout, contents: Sequence[memoryview]) -> None:
    with open(path, "wb") as file:
        for (_, header), data in zip(places.headers, contents, strict=True):
            file.write(header)
            file.write(data)
        file.write(places.tail[1])
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _read(data: memoryview, handle: int, verify: bool) -> Artifact:
    members, manifest_hash = read_container(data)
    manifest = _read_manifest(data, members, manifest_hash)
    listed = manifest["members"]
    if set(listed) | {_MANIFEST} != set(members):
        odd = sorted(set(listed) ^ (set(members) - {_MANIFEST}))
        raise ArtifactError(f"the members are not those of the manifest: {', '.join(odd[:5])}")
    parts: dict[str, memoryview] = {}
    for name, entry in listed.items():
        start, member = members[name]
        parts[name] = data[start : start + member.size]
        if not isinstance(entry, dict) or entry.get("size") != member.size or entry.get("crc32") != member.crc:
            raise ArtifactError(f"the member {name!r} does not have the size and checksum of the manifest")
        large = name == "weights.bin" and member.size > _ALWAYS
        if large and not verify and _remembered(handle, manifest_hash):
            continue
        if entry.get("sha256") != _hash(parts[name]):
            raise ArtifactError(f"the member {name!r} was altered: its hash is not that of the manifest")
        if large:
            _remember(handle, manifest_hash)
    return _assemble(manifest, parts)


def _read_manifest(data: memoryview, members: dict[str, tuple[int, Member]], manifest_hash: str) -> dict[str, Any]:
    if next(iter(members), None) != _MANIFEST:
        raise ArtifactError("the first member is not manifest.json")
    start, member = members[_MANIFEST]
    if member.size > _MANIFEST_LIMIT:
        raise ArtifactError(f"manifest.json has {member.size} bytes")
    text = bytes(data[start : start + member.size])
    if hashlib.sha256(text).hexdigest() != manifest_hash or crc32(text) != member.crc:
        raise ArtifactError("manifest.json was altered: its hash is not the one at the end of the file")
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"manifest.json cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"manifest.json has no format {FORMAT}")
    kinds = {
        "name": str,
        "signature": dict,
        "members": dict,
        "targets": dict,
        "examples": dict,
        "measured": dict,
        "log": list,
        "extra": dict,
    }
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            raise ArtifactError(
                f"manifest.json: wanted a {kind.__name__} as {key!r}, got {str(manifest.get(key))[:40]}"
            )
    return manifest


def _assemble(manifest: dict[str, Any], parts: dict[str, memoryview]) -> Artifact:
    signature = read_signature(manifest["signature"])
    name = signature.name
    if manifest["name"] != name:
        raise ArtifactError(f"the manifest's name {manifest['name']!r} is not the signature's {name!r}")
    if "weights.bin" not in parts or "graph.txt" not in parts:
        raise ArtifactError("weights.bin or graph.txt is missing")
    weights = np.frombuffer(parts["weights.bin"], np.uint8)
    if weights.nbytes != signature.weights_size:
        raise ArtifactError(f"weights.bin has {weights.nbytes} bytes, the signature wants {signature.weights_size}")
    libraries = {}
    for target, entry in manifest["targets"].items():
        libraries[target] = _binary(name, target, entry, parts)
    sources = {n.removeprefix("source/"): _text(n, d) for n, d in parts.items() if n.startswith("source/")}
    examples = {
        m: [_example(signature, m, i, parts) for i in range(_count(n))] for m, n in manifest["examples"].items()
    }
    return Artifact(
        name, manifest["signature"], weights, _text("graph.txt", parts["graph.txt"]), sources, libraries, examples,
        manifest["log"], manifest["measured"], manifest["extra"],
    )  # fmt: skip


def _binary(name: str, target_name: str, entry: Any, parts: dict[str, memoryview]) -> Binary:
    try:
        target = parse_target(target_name) if target_name != "native" else None
    except BuildError as error:
        raise ArtifactError(str(error)) from None
    member = _library_name(name, target_name) if target else ""
    if target is None or member not in parts or not isinstance(entry, dict):
        raise ArtifactError(f"the library for {target_name!r} is missing")
    found = machine(parts[member])
    if found != (FORMATS[target.os], target.arch):
        raise ArtifactError(
            f"{member} is not a library for {target_name}: it is {found[0] or 'no library'} for {found[1]}"
        )
    return Binary(str(entry.get("compiler", "")), bytes(parts[member]))


def _library_name(name: str, target: str) -> str:
    return f"lib/{target}/{name}{SUFFIXES[parse_target(target).os]}"


def _text(name: str, data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{name} is not text: {error}") from error


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 1000:
        raise ArtifactError(f"manifest.json: {value!r} examples")
    return value


def _example(signature: Signature, method: str, i: int, parts: dict[str, memoryview]) -> Example:
    name = f"examples/{method}-{i}.npz"
    if method not in signature.methods or name not in parts:
        raise ArtifactError(f"{name} is missing, or no method has this name")
    wanted = signature.methods[method]
    try:
        packed = io.BytesIO(parts[name])
        with zipfile.ZipFile(packed) as inner:
            if any(m.compress_type != zipfile.ZIP_STORED or m.file_size > len(parts[name]) for m in inner.infolist()):
                raise ArtifactError(f"{name} is compressed or its sizes are wrong")
        with np.load(packed, allow_pickle=False) as arrays:
            inputs = [arrays[f"in{n}"] for n in range(len(wanted.inputs))]
            return Example(inputs, [arrays[f"out{n}"] for n in range(len(wanted.outputs))])
    except (ValueError, KeyError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{name} cannot be read: {error}") from error


def choose_target(artifact: Artifact) -> Target:
    """The best target of the artifact's libraries for this machine; ArtifactError if there is none."""
    targets = [parse_target(name) for name in artifact.libraries]
    reasons = {t.name: runs_here(t) for t in targets}
    fitting = [t for t in targets if not reasons[t.name]]
    if not fitting:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise ArtifactError(
            f"{artifact.name} has no library for this machine ({native().name}): {listed}. "
            f"Compile it with --target {native().name}, or open it with rebuild=True"
        )
    return max(fitting, key=lambda t: t.vl)


@contextlib.contextmanager
def _library_file(artifact: Artifact, target: Target, cache: Cache | None) -> Any:
    """The library as a file that can be opened: in the cache, or in memory where nothing can be written."""
    data = artifact.libraries[target.name].data
    key, name = digest("extracted", data), artifact.name + SUFFIXES[target.os]
    handle = None
    try:
        cache = cache or default_cache()
        path = cache.get(key, name)
        if path is None or path.read_bytes() != data:
            path = cache.put(key, name, data)
    except (CacheError, OSError):
        if not hasattr(os, "memfd_create"):
            raise
        handle = os.memfd_create(name, os.MFD_CLOEXEC)
        with open(handle, "wb", closefd=False) as file:
            file.write(data)
        path = Path(f"/proc/self/fd/{handle}")
    try:
        yield path
    finally:
        if handle is not None:
            os.close(handle)


def _described(data: memoryview) -> dict[str, Any]:
    return {"size": data.nbytes, "crc32": crc32(data), "sha256": _hash(data)}


def _hash(data: memoryview) -> str:
    """SHA-256; of more than one chunk, that of the chunks' SHA-256 one after the other."""
    if data.nbytes <= _CHUNK:
        return hashlib.sha256(data).hexdigest()
    chunks = [data[at : at + _CHUNK] for at in range(0, data.nbytes, _CHUNK)]
    with ThreadPoolExecutor(min(processors(), 8)) as pool:
        digests = list(pool.map(lambda chunk: hashlib.sha256(chunk).digest(), chunks))
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _identity(handle: int, manifest_hash: str) -> str:
    s = os.fstat(handle)
    return digest("verified 1", manifest_hash, *map(str, (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)))


def _remembered(handle: int, manifest_hash: str) -> bool:
    return default_cache().get(_identity(handle, manifest_hash), "verified") is not None


def _remember(handle: int, manifest_hash: str) -> None:
    with contextlib.suppress(CacheError):
        default_cache().put(_identity(handle, manifest_hash), "verified", b"right\n")
