"""The weights file: arrays that the C finds by their offsets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

WEIGHTS_HEADER = 64
"""Bytes before the first array of a weights file."""


@dataclass(eq=False)
class Weights:
    """The weights file in the making: 64 bytes that begin with `identity`, then arrays at 64-byte offsets, equal ones
    once. Empty if there are no arrays.
    """

    arrays: list[np.ndarray] = field(default_factory=list)
    offsets: dict[bytes, int] = field(default_factory=dict)
    size: int = 0

    @property
    def identity(self) -> int:
        """64 bits of a hash of all content and where it is: equal files alone have the same."""
        places = b"".join(key + at.to_bytes(8, "little") for key, at in self.offsets.items())
        return int.from_bytes(hashlib.blake2b(places, digest_size=8).digest(), "little")

    def add(self, array: np.ndarray) -> int:
        """Byte offset of the array's data."""
        data = np.ascontiguousarray(array)
        key = hashlib.blake2b(
            data.tobytes() if data.size < 64 else data.view(np.uint8).reshape(-1).data, digest_size=16
        ).digest()
        if key not in self.offsets:
            self.size = self.size or WEIGHTS_HEADER
            self.offsets[key] = self.size
            self.arrays.append(data)
            self.size += -(-data.nbytes // 64) * 64
        return self.offsets[key]

    def blob(self) -> np.ndarray:
        """All of it as bytes, 64-byte aligned so that contexts need no copy."""
        space = np.zeros(self.size + 64, np.uint8)
        out = space[-space.ctypes.data % 64 :][: self.size]
        if self.size:
            out[:8] = np.frombuffer(self.identity.to_bytes(8, "little"), np.uint8)
        at = WEIGHTS_HEADER
        for a in self.arrays:
            out[at : at + a.nbytes] = a.reshape(-1).view(np.uint8)
            at += -(-a.nbytes // 64) * 64
        return out
