"""Targets are data: what the planner and the toolchain need to know of a machine."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from neve.errors import BuildError

SYSTEMS = ("linux", "android", "macos", "ios", "windows")


@dataclass(frozen=True)
class Core:
    """What the instructions of a register tile cost on a core, in cycles, at what it sustains.

    multiply is a vector's multiply-add, vector its load, element the load of one number into all lanes; chain is from a
    multiply-add to the next one on the same sum; instruction is what any instruction takes where the width of the front
    end may be the limit. lane_terms is how many terms of a row of A one load brings where a multiply-add takes one lane
    of a vector, else 1. loads_operands: whether a multiply-add can take an operand from memory. The defaults are x86's:
    two ports for multiply-adds and two for loads; elements of rows that lie a multiple of a cache line apart meet in
    the same bank of the first cache.
    """

    multiply: float = 0.5
    vector: float = 0.5
    element: float = 0.7
    chain: float = 4.0
    instruction: float = 0.0
    lane_terms: int = 1
    loads_operands: bool = True


# between Cortex-A55, which issues two instructions a cycle, and those from A76 on, which issue four and more
NEON = Core(element=0.5, instruction=0.4, lane_terms=4, loads_operands=False)


@dataclass(frozen=True)
class Target:
    """A machine to compile for.

    name is isa name and system as the user writes them ("x86_64-avx2", "aarch64-android"; "-linux" is left out); isa
    is what vec.h knows ("avx2", "avx512", "neon", "wasm", "generic"). vl is the number of float32 lanes, registers
    the number of vector registers, l1 and l2 bytes of cache a core, flops the peak float32 operations a second of one
    core, bandwidth the bytes a second from the last cache level, core what instructions cost.
    """

    name: str
    isa: str
    os: str
    vl: int
    registers: int
    l1: int = 32 * 1024
    l2: int = 512 * 1024
    flops: float = 1.0e11
    bandwidth: float = 5.0e10
    core: Core = Core()

    @property
    def arch(self) -> str:
        """The processor family: "x86_64", "aarch64" or "wasm32"."""
        return self.name.split("-")[0]


AVX2 = Target("x86_64-avx2", "avx2", "linux", 8, 16)
AVX512 = Target("x86_64-avx512", "avx512", "linux", 16, 32, l1=48 * 1024, l2=1024 * 1024, flops=1.8e11)
X86_64 = Target("x86_64", "generic", "linux", 4, 16, flops=2.5e10)
AARCH64 = Target("aarch64", "neon", "linux", 4, 32, l1=64 * 1024, flops=4.0e10, bandwidth=3.0e10, core=NEON)
WASM32 = Target("wasm32", "wasm", "none", 4, 16, flops=2.0e10, bandwidth=2.0e10)
BASES = {t.name: t for t in (AVX2, AVX512, X86_64, AARCH64, WASM32)}

# /proc/cpuinfo flags that an isa needs; a library for it must not be loaded where one is missing
FEATURES: dict[str, tuple[str, ...]] = {
    "avx2": ("avx2", "fma", "f16c"),
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c"),
}


def parse_target(name: str) -> Target:
    """The target of a name such as "native", "x86_64-avx2", "aarch64-android", "wasm32"; BuildError if there is
    none.
    """
    if name == "native":
        return native()
    base, system = name, "linux"
    for candidate in SYSTEMS:
        if name.endswith("-" + candidate):
            base, system = name.removesuffix("-" + candidate), candidate
    if base not in BASES or (base == "wasm32" and name != base):
        known = ", ".join(BASES)
        raise BuildError(
            f"unknown target {name!r}: wanted native, or one of {known}, "
            f"with -{', -'.join(SYSTEMS[1:])} for another system"
        )
    target = BASES[base]
    if base == "wasm32" or system == "linux":
        return target
    if system in ("ios", "android") and target.isa == "avx512":
        raise BuildError(
            f"target {name!r}: no {system} device has AVX-512; wanted aarch64-{system} or x86_64-avx2-{system}"
        )
    return replace(target, name=f"{base}-{system}", os=system)


@functools.cache
def native() -> Target:
    """The machine that this process runs on, with the sizes of its caches where the system tells them."""
    system = {"linux": "linux", "darwin": "macos", "win32": "windows"}.get(sys.platform)
    if hasattr(sys, "getandroidapilevel") or "ANDROID_ROOT" in os.environ:
        system = "android"
    machine = platform.machine().lower()
    if system is None or sys.maxsize < 2**32:
        raise BuildError(
            f"neve cannot run on {sys.platform} ({machine}): wanted 64-bit Linux, Android, macOS or Windows"
        )
    if machine in ("x86_64", "amd64"):
        base = next((t for t in (AVX512, AVX2) if cpu_features().issuperset(FEATURES[t.isa])), X86_64)
    elif machine in ("aarch64", "arm64"):
        base = AARCH64
    else:
        raise BuildError(f"neve has no code for this processor ({machine}): wanted x86_64 or aarch64")
    l1, l2 = _cache_bytes(1), _cache_bytes(2)
    name = base.name if system == "linux" else f"{base.name}-{system}"
    return replace(base, name=name, os=system, l1=l1 or base.l1, l2=l2 or base.l2)


@functools.cache
def cpu_features() -> frozenset[str]:
    """The processor's feature flags as Linux names them; where there are none, what every such machine has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
        if found:
            return frozenset(found.group(1).split())
    except OSError:
        pass
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return frozenset(FEATURES["avx2"])
    if sys.platform == "win32":
        return _windows_features()
    return frozenset()


def _windows_features() -> frozenset[str]:
    import ctypes

    present = getattr(ctypes, "windll").kernel32.IsProcessorFeaturePresent  # noqa: B009 - absent elsewhere
    # every processor with AVX2 (feature 40) also has FMA and F16C; 41: AVX512F, of which no more is known
    return frozenset(FEATURES["avx2"]) if present(40) else frozenset()


def _cache_bytes(level: int) -> int:
    """Bytes of the first processor's data cache of this level, 0 if unknown."""
    for index in range(8):
        folder = Path(f"/sys/devices/system/cpu/cpu0/cache/index{index}")
        try:
            if int((folder / "level").read_text()) == level and (folder / "type").read_text().strip() != "Instruction":
                size = (folder / "size").read_text().strip()
                return int(size.rstrip("KM")) * {"K": 1024, "M": 1024**2}.get(size[-1], 1)
        except (OSError, ValueError):
            return 0
    return 0


def runs_here(target: Target) -> str:
    """Why code for this target cannot run in this process, "" if it can."""
    here = native()
    if target.os != here.os or target.arch != here.arch:
        return f"it is for {target.arch} {target.os}, this machine is {here.arch} {here.os}"
    missing = sorted(set(FEATURES.get(target.isa, ())) - cpu_features())
    return f"this processor has no {', '.join(missing)}" if missing else ""
