"""What the emitter hands to the toolchain: C text, packed weights and the signature of every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ABI = 1

# itemsize in bytes of every dtype that may cross the ABI
DTYPES: dict[str, int] = {
    "float32": 4,
    "float64": 8,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
}


@dataclass(frozen=True)
class Source:
    """A compiled program as text: everything that is needed to build and call it.

    files maps relative paths to text: "NAME.h", "NAME.c", "neve.h" and the "kernels/*.h" that are used. weights is what
    NAME_init is given (uint8, any length), raw what NAME_prepare makes it from. signature is plain JSON
    data, see `neve.runtime.signature`.
    """

    name: str
    files: dict[str, str]
    weights: npt.NDArray[np.uint8]
    signature: dict[str, Any]
    raw: npt.NDArray[np.uint8] | None = None
