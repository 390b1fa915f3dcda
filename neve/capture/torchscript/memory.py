"""Strides of tensors."""

from __future__ import annotations

from typing import Any

import torch


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
