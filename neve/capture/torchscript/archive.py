"""TorchScript archives (`.pt`, `.ptl`): a ZIP with source under code/, pickled data and constants, and a version.

Read from a file, or from the bytes that a live ScriptModule is saved to. Nothing in an archive is run: code is parsed,
pickles are read by `pickles.Reader`, names of members are only ever looked up, never opened as paths.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import torch

from neve.capture.torchscript.pickles import Obj, Reader, Unsupported, children
from neve.errors import CaptureError

MAX_MEMBERS = 200_000
MAX_RATIO = 20
"""How many times larger than the file its contents may be (torch's own writer does not compress)."""
NEWEST_VERSION = 10
"""Of the file format: torch 1.13 to 2.13 write 3 to 10."""
KEY = re.compile(r"\d+(\.storage)?")
NO_MEMBER = (KeyError,)


@dataclass
class Archive:
    """What an archive holds: the root module, the constants that its code names, and the code itself by file name.

    code maps "__torch__/torch/nn/modules/linear.py" to source text; debug the same names to pickled source ranges.
    """

    name: str
    version: int
    root: Any
    constants: tuple[Any, ...]
    code: dict[str, str]
    debug: dict[str, bytes]


def read_archive(source: str | os.PathLike[str] | bytes) -> Archive:
    """The archive in a file, or in bytes. CaptureError says what is wrong with it, or what in it is refused."""
    name = "the model" if isinstance(source, bytes) else os.fspath(source)
    try:
        size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            return _Members(name, opened, size).archive()
    except CaptureError:
        raise
    except zipfile.BadZipFile as error:
        raise CaptureError(f"{name} is no TorchScript archive, or it is truncated: {error}") from error
    except (OSError, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError, OverflowError) as error:
        raise CaptureError(f"{name} cannot be read: {type(error).__name__}: {str(error)[:200]}") from error


class _Members:
    """The members of an opened ZIP without the folder that all are in, checked before anything is read."""

    def __init__(self, name: str, opened: zipfile.ZipFile, size: int) -> None:
        self.name, self._zip = name, opened
        infos = [i for i in opened.infolist() if not i.is_dir()]
        if not infos or len(infos) > MAX_MEMBERS:
            raise CaptureError(f"{name} has {len(infos)} members, wanted 1 to {MAX_MEMBERS}")
        for i in infos:
            parts = i.filename.split("/")
            if ".." in parts or "" in parts or "\\" in i.filename or ":" in parts[0] or len(parts) < 2:
                raise CaptureError(f"{name} is refused: it has a member named {i.filename[:80]!r}")
        if sum(i.file_size for i in infos) > max(MAX_RATIO * size, 2**20):
            raise CaptureError(f"{name} is refused: its contents claim to be more than {MAX_RATIO} times its size")
        folder = infos[0].filename.split("/")[0]
        self._infos = {i.filename.removeprefix(folder + "/"): i for i in infos}
        if len(self._infos) != len(infos) or any(i.filename.split("/")[0] != folder for i in infos):
            raise CaptureError(f"{name} is refused: two members have one name, or not all are in one folder")
        self._storages: dict[str, torch.UntypedStorage] = {}

    def archive(self) -> Archive:
        if "model.json" in self._infos:
            raise CaptureError(
                f"{self.name} is in the format of torch 1.0 to 1.2: load it with torch.jit.load and save it again"
            )
        if "data.pkl" not in self._infos or self._version_member() not in self._infos:
            kind = "a .pt2 archive" if any("archive_format" in n or "models/" in n for n in self._infos) else "a ZIP"
            raise CaptureError(f"{self.name} is {kind} without TorchScript in it (no data.pkl, or no version)")
        if not any(n.startswith("code/") for n in self._infos):
            raise CaptureError(
                f"{self.name} holds data but no code: it was written by torch.save, not by torch.jit.save; load it "
                "in Python and compile the nn.Module"
            )
        version = self._version()
        if self._infos.get("byteorder") and self.read("byteorder").strip() != b"little":
            raise CaptureError(f"{self.name} was written on a big-endian machine, which is not supported")
        root = self._pickle("data")
        constants = self._pickle("constants") if "constants.pkl" in self._infos else ()
        if not isinstance(root, Obj) or not isinstance(constants, (tuple, list)):
            raise CaptureError(f"{self.name} holds no module")
        code = {
            n.removeprefix("code/"): self._text(n) for n in self._infos if n.startswith("code/") and n.endswith(".py")
        }
        debug = {
            n.removeprefix("code/").removesuffix(".debug_pkl"): self.read(n)
            for n in self._infos
            if n.startswith("code/") and n.endswith(".debug_pkl")
        }
        return Archive(self.name, version, root, tuple(constants), code, debug)

    def read(self, member: str) -> bytes:
        info = self._infos[member]
        with self._zip.open(info) as f:
            data = f.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise CaptureError(f"{self.name} is damaged: {member} is not as long as the directory says")
        return data

    def _version_member(self) -> str:
        """Formats from 6 on, which some ops need, keep their number in a folder."""
        return "version" if "version" in self._infos else ".data/version"

    def _version(self) -> int:
        text = self.read(self._version_member()).strip()
        if not re.fullmatch(rb"\d{1,4}", text):
            raise CaptureError(f"{self.name} is damaged: its version is {text[:20]!r}")
        if int(text) > NEWEST_VERSION:
            raise CaptureError(
                f"{self.name} has the file-format version {int(text)}, the newest that is known is {NEWEST_VERSION}"
            )
        return int(text)

    def _text(self, member: str) -> str:
        try:
            return self.read(member).decode()
        except UnicodeDecodeError as error:
            raise CaptureError(f"{self.name} is damaged: {member} is not text") from error

    def _pickle(self, which: str) -> Any:
        return Reader(f"{self.name}: {which}.pkl", lambda key: self._storage(which, key)).read(
            self.read(f"{which}.pkl")
        )

    def _storage(self, folder: str, key: str) -> torch.UntypedStorage:
        member = f"{folder}/{key}"
        if not KEY.fullmatch(key) or member not in self._infos:
            raise CaptureError(f"{self.name} is damaged: there is no record {member[:80]!r}")
        if member not in self._storages:
            data = bytearray(self.read(member))
            empty = torch.empty(0, dtype=torch.uint8)
            self._storages[member] = (torch.frombuffer(data, dtype=torch.uint8) if data else empty).untyped_storage()
        return self._storages[member]


def refused_classes(archive: Archive) -> list[str]:
    """A reason for every kind of object in the archive's data that no method could use."""
    found: dict[str, str] = {}
    seen: set[int] = set()

    def visit(value: Any, path: str) -> None:
        if isinstance(value, Unsupported):
            found.setdefault(value.reason, path)
        if isinstance(value, Obj) and ".torch.classes.quantized." in value.cls:
            kind = value.cls.rpartition(".")[2]
            found.setdefault(
                f"quantized models are not supported yet (it holds {kind}): compile the model before quantization", path
            )
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Obj):
            for k, v in value.attrs.items():
                visit(v, f"{path}.{k}".lstrip("."))
            visit(value.packed, path)
        elif (parts := children(value)) is not None:
            for v in parts:
                visit(v, path)

    visit(archive.root, "")
    visit(archive.constants, "")
    return [f"{reason}{f'  (at {path})' if path else ''}" for reason, path in found.items()]
