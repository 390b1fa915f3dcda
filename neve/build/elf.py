"""What is known of a compiled file without running it: its machine, and the symbols that it lacks."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

_MACHINES = {0x3E: "x86_64", 0xB7: "aarch64", 0x03: "i386", 0x28: "arm", 0xF3: "riscv"}
_MACHO = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_COFF = {0x8664: "x86_64", 0xAA64: "aarch64"}
_LINKER_MADE = {"_GLOBAL_OFFSET_TABLE_"}


def machine(data: bytes | memoryview) -> tuple[str, str]:
    """The format ("elf", "macho", "coff", "wasm", "" if none of these) and processor of a library."""
    head = bytes(data[:64])
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        return "elf", _MACHINES.get(struct.unpack_from("<H", head, 18)[0], "unknown") if head[4] == 2 else "32-bit"
    if head[:4] == b"\xcf\xfa\xed\xfe" and len(head) >= 8:
        return "macho", _MACHO.get(struct.unpack_from("<I", head, 4)[0], "unknown")
    if head[:2] == b"MZ" and len(head) == 64:
        start = struct.unpack_from("<I", head, 60)[0]
        header = bytes(data[start : start + 6])
        if header[:4] == b"PE\0\0" and len(header) == 6:
            return "coff", _COFF.get(struct.unpack_from("<H", header, 4)[0], "unknown")
    if head[:4] == b"\0asm":
        return "wasm", "wasm32"
    return "", "unknown"


def missing_symbols(objects: Iterable[Path]) -> list[str]:
    """The symbols that ELF objects refer to and none of them defines, sorted."""
    defined: set[str] = set()
    wanted: set[str] = set()
    for path in objects:
        for name, section, binding in _symbols(path.read_bytes()):
            if section == 0:
                wanted.add(name)
            elif binding != 0:
                defined.add(name)
    return sorted(wanted - defined - _LINKER_MADE)


def _symbols(data: bytes) -> Iterable[tuple[str, int, int]]:
    """(name, section index with 0 for undefined, binding with 0 for local) of each named symbol of a 64-bit ELF
    object.
    """
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    for kind, offset, length, link, entry in ((s[1], s[4], s[5], s[6], s[9]) for s in sections):
        if kind != 2:
            continue
        names = sections[link][4]
        for at in range(offset, offset + length, entry):
            name, info, _, section = struct.unpack_from("<IBBH", data, at)
            if name:
                end = data.index(b"\0", names + name)
                yield data[names + name : end].decode(), section, info >> 4
