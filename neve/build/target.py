"""Targets are data: what the planner and the toolchain need to know of a machine."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A machine to compile for.

    vl is the number of float32 lanes, registers the number of vector registers, l1 and l2 bytes of cache a core, flops the peak
    float32 operations a second of one core, bandwidth the bytes a second from the last cache level.
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


AVX2 = Target("x86_64-avx2", "avx2", "linux", 8, 16)
