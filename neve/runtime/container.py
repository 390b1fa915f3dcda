"""The container of an artifact: a ZIP that only stores, laid out in one way, so that any altered byte is noticed.

Members are in the order given, each aligned to 64 bytes by padding in its local header. Everything in the file that
is not a member's content follows from the members' names, sizes and CRCs; a reader computes it anew and compares. The
comment at the end holds the version of the format and the SHA-256 of the first member, the manifest, which in turn
holds those of the others.
"""

from __future__ import annotations

import itertools
import re
import stat
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from neve.errors import ArtifactError

FORMAT = 2
ALIGN = 64
_COMMENT = "neve artifact {:04d} sha256 {}"
_COMMENT_SIZE = len(_COMMENT.format(0, "0" * 64))
_FULL = 0xFFFFFFFF
_DATE = 0x21  # 1980-01-01: the file must not depend on when it was written
_MODE = 0o100644 << 16
_NAME = re.compile(r"[A-Za-z0-9_.+\-/]{1,200}")
_MEMBERS = 10000


@dataclass(frozen=True)
class Member:
    """A member by name, size in bytes and CRC-32."""

    name: str
    size: int
    crc: int


@dataclass(frozen=True)
class Layout:
    """headers: the bytes before each member's content, with their offsets; data: the offsets of the contents."""

    headers: tuple[tuple[int, bytes], ...]
    data: tuple[int, ...]
    tail: tuple[int, bytes]


def layout(members: Sequence[Member], manifest_hash: str, version: int = FORMAT) -> Layout:
    """Where everything is in the file of these members, and all that is beside their contents."""
    at, headers, starts, directory = 0, [], [], b""
    for m in members:
        name, big = m.name.encode(), m.size >= _FULL
        size = _FULL if big else m.size
        extra = struct.pack("<HHQQ", 1, 16, m.size, m.size) if big else b""
        space = -(at + 30 + len(name) + len(extra) + 4) % ALIGN
        extra += struct.pack("<HH", 0xD935, space) + bytes(space)
        needs = 45 if big else 20
        fixed = struct.pack("<HHHHHIII", needs, 0x800, 0, 0, _DATE, m.crc, size, size)
        header = b"PK\3\4" + fixed + struct.pack("<HH", len(name), len(extra)) + name + extra
        far = at >= _FULL
        values = ([m.size, m.size] if big else []) + ([at] if far else [])
        more = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
        directory += b"PK\1\2" + struct.pack("<H", 0x031E) + fixed
        directory += struct.pack("<HHHHHII", len(name), len(more), 0, 0, 0, _MODE, _FULL if far else at) + name + more
        headers.append((at, header))
        starts.append(at + len(header))
        at += len(header) + m.size
    count, comment = len(members), _COMMENT.format(version, manifest_hash).encode()
    tail = directory
    if at >= _FULL or count >= 0xFFFF:
        tail += b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, len(directory), at)
        tail += b"PK\6\7" + struct.pack("<IQI", 0, at + len(directory), 1)
    few, start = min(count, 0xFFFF), min(at, _FULL)
    tail += b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, few, few, len(directory), start, len(comment)) + comment
    return Layout(tuple(headers), tuple(starts), (at, tail))


def read_container(data: memoryview) -> tuple[dict[str, tuple[int, Member]], str]:
    """({member name: (offset of its content, member)}, the manifest's SHA-256); ArtifactError tells what is wrong.

    Contents are not looked at.
    """
    manifest_hash = _read_comment(data)
    members = _read_directory(data)
    names: set[str] = set()
    for m, _ in members:
        if m.name in names:
            raise ArtifactError(f"two members have the name {m.name!r}")
        names.add(m.name)
    ends = sorted((start, start + 30 + len(m.name) + m.size, m.name) for m, start in members)
    for (_, end, name), (start, _, other) in itertools.pairwise(ends):
        if start < end:
            raise ArtifactError(f"the members {name!r} and {other!r} overlap")
    expected = layout([m for m, _ in members], manifest_hash)
    for (m, start), (at, header) in zip(members, expected.headers, strict=True):
        if start != at or bytes(data[at : at + len(header)]) != header:
            raise ArtifactError(f"the header of the member {m.name!r} was altered, or not written by neve")
    at, tail = expected.tail
    if at + len(tail) != len(data) or bytes(data[at:]) != tail:
        raise ArtifactError("the directory was altered, or not written by neve")
    return {m.name: (start, m) for (m, _), start in zip(members, expected.data, strict=True)}, manifest_hash


def _read_comment(data: memoryview) -> str:
    head, end = bytes(data[:4]), bytes(data[-_COMMENT_SIZE:]).decode("ascii", "replace")
    found = re.fullmatch(r"neve artifact (\d{4}) sha256 ([0-9a-f]{64})", end)
    if not found:
        if len(data) == 0:
            raise ArtifactError("the file is empty")
        if head != b"PK\3\4":
            raise ArtifactError("the file is not a neve artifact (it does not start like one)")
        if re.search(rb"neve artifact \d{4} sha256", bytes(data[-4096:])) or b"manifest.json" in bytes(data[:100]):
            raise ArtifactError("the file is truncated or was altered: its end is not that of a neve artifact")
        raise ArtifactError(
            "the file is a ZIP, but not a neve artifact; a .pt2, .pt or .ptl goes through neve.compile first"
        )
    if int(found[1]) != FORMAT:
        hint = "update neve to read it" if int(found[1]) > FORMAT else "compile the model again"
        raise ArtifactError(f"the file has format version {int(found[1])}, this neve reads version {FORMAT}: {hint}")
    return found[2]


def _read_directory(data: memoryview) -> list[tuple[Member, int]]:
    end = len(data) - _COMMENT_SIZE - 22
    if end < 0 or bytes(data[end : end + 4]) != b"PK\5\6":
        raise ArtifactError("the directory is missing: the file was altered")
    count, size, start = struct.unpack_from("<HII", data, end + 10)
    if start == _FULL or count == 0xFFFF:
        if end < 76 or bytes(data[end - 76 : end - 72]) != b"PK\6\6":
            raise ArtifactError("the directory is missing: the file was altered")
        count, size, start = struct.unpack_from("<QQQ", data, end - 76 + 32)
        end -= 76
    if count > _MEMBERS or start + size != end:
        raise ArtifactError(f"the directory of {count} members and {size} bytes does not fit into the file")
    at, members = start, []
    for _ in range(count):
        if at + 46 > end or bytes(data[at : at + 4]) != b"PK\1\2":
            raise ArtifactError("the directory was altered")
        flags, method = struct.unpack_from("<HH", data, at + 8)
        crc, packed, size, name_size, extra_size, comment_size = struct.unpack_from("<IIIHHH", data, at + 16)
        attributes, offset = struct.unpack_from("<II", data, at + 38)
        name = bytes(data[at + 46 : min(end, at + 46 + name_size)]).decode("utf-8", "replace")
        extra = at + 46 + name_size
        _check_name(name)
        if method != 0 or flags & 1:
            raise ArtifactError(
                f"the member {name!r} is {'encrypted' if flags & 1 else 'compressed'}; an artifact only stores"
            )
        if stat.S_ISLNK(attributes >> 16) or (attributes >> 16 and not stat.S_ISREG(attributes >> 16)):
            raise ArtifactError(f"the member {name!r} is a symbolic link or another special file")
        if _FULL in (size, offset) and extra + 4 + 8 <= end:
            fields = iter(
                struct.unpack_from(f"<{min(3, (extra_size - 4) // 8)}Q", data, extra + 4) if extra_size >= 12 else ()
            )
            if size == _FULL:
                size, packed = next(fields, 0), next(fields, 0)
            if offset == _FULL:
                offset = next(fields, len(data))
        if size != packed or offset + 30 + name_size + size > start:
            raise ArtifactError(f"the member {name!r} claims {size} bytes at {offset}, beyond what the file holds")
        members.append((Member(name, size, crc), offset))
        at = extra + extra_size + comment_size
    if at != end:
        raise ArtifactError("the directory was altered")
    return members


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not _NAME.fullmatch(name) or any(part in ("", ".", "..") for part in parts):
        raise ArtifactError(f"the member name {name[:80]!r} is not a plain relative path")


def crc32(data: bytes | memoryview) -> int:
    """The CRC-32 that ZIP uses."""
    return zlib.crc32(data)
