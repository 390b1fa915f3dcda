"""Where tensors are in memory: strides, and elements that lie in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from neve.capture.torchscript.values import Var

OVERLAP = 1 << 20
"""Tensors of up to so many elements are checked for writes that read what they have written."""


def contiguous(meta: Any) -> bool:
    """Whether a tensor has the strides of a new one; no guard on symbolic sizes."""
    if not isinstance(meta, torch.Tensor):
        return True
    wanted: Any = 1
    for size, stride in zip(reversed(meta.shape), reversed(meta.stride()), strict=True):
        if str(stride) != str(wanted) and str(size) != "1":
            return False
        wanted = wanted * size
    return True


def overlaps(written: Var, given: Sequence[Var]) -> bool:
    """Whether what an op gives would depend on the order in which it goes through memory; torch mostly raises."""
    meta = written.meta
    clash = any(n > 1 and s == 0 for n, s in zip(meta.shape, meta.stride(), strict=True) if isinstance(n, int))
    for other in given:
        if other.root is written.root and other.meta is not meta and storage_of(other.meta) == storage_of(meta):
            mine, theirs = _places(meta), _places(other.meta)
            if mine is None or theirs is None:
                continue
            # the same elements by other strides, x[:1] += x[0], are a partial overlap to ATen (get_overlap_status)
            same = torch.equal(mine, theirs) and meta.stride() == other.meta.stride()
            clash |= not same and bool(torch.isin(mine, theirs).any())
    return clash


def storage_of(meta: torch.Tensor) -> int:
    number: int = meta.untyped_storage()._cdata
    return number


def _places(meta: Any) -> torch.Tensor | None:
    """Where in memory the elements of a tensor are, in its order; None if they are many, or not known."""
    if not all(isinstance(n, int) for n in (*meta.shape, *meta.stride(), meta.storage_offset())):
        return None
    if meta.numel() > OVERLAP:
        return None
    places = torch.full([1] * meta.dim(), meta.storage_offset())
    for axis, (n, s) in enumerate(zip(meta.shape, meta.stride(), strict=True)):
        places = places + (torch.arange(n) * s).reshape([-1 if k == axis else 1 for k in range(meta.dim())])
    return places.reshape(-1)
