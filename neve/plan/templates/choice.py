"""What a kernel template asks of the plan: one way to run one operation on one target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Pack = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Choice:
    """A specialised instance of a template, before its epilogue is known.

    macros are the header's contract macros in a fixed order (all but KN and K_STORE*); pack turns the constant weight,
    in PyTorch's layout, into the flat float32 array that the kernel reads; scratch is bytes a thread, shared is bytes
    for all threads together; cost is the predicted time in seconds on one thread.
    """

    header: str
    label: str
    macros: tuple[tuple[str, str | int], ...]
    pack: Pack | None = None
    scratch: int = 0
    shared: int = 0
    cost: float = 0.0
