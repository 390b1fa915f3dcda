"""Ops of older releases in today's form.

torch keeps most signatures for ever, and `schema.choose` takes whichever fits. What was re-signatured is recognised by
its arguments. Two ops kept their signature and changed their meaning: these alone go by the file-format version, which
torch's writer raises exactly for them (4 for division, 5 for full).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from neve.capture.torchscript.schema import dtype_number
from neve.capture.torchscript.values import Num, Var

Call = tuple[str, list[Any], dict[str, Any]]


def upgraded(version: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> Call:
    """(name, args, kwargs) of an aten op in an archive of that version, as the torch that is installed knows it."""
    upgrade = UPGRADES.get(name)
    return upgrade(version, name, list(args), dict(kwargs)) if upgrade else (name, args, kwargs)


def _steps(version: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> Call:
    """`steps` could be None or left out: it was 100."""
    if "steps" in kwargs:
        kwargs["steps"] = 100 if kwargs["steps"] is None else kwargs["steps"]
    elif len(args) < 3 or args[2] is None:
        args = [*args[:2], 100, *args[3:]]
    return name, args, kwargs


def _division(version: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> Call:
    """Division of integers gave an integer, rounded towards zero."""
    if version < 4 and not any(_is_float(a) for a in args) and "rounding_mode" not in kwargs:
        kwargs["rounding_mode"] = "trunc"
    return name, args, kwargs


def _full(version: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> Call:
    """An integer or bool as fill value gave the default floating-point type."""
    if version < 5 and kwargs.get("dtype") is None and len(args) > 1 and not _is_float(args[1]):
        kwargs["dtype"] = dtype_number(torch.get_default_dtype())
    return name, args, kwargs


def _convolution(version: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> Call:
    """What tracing records: `convolution` and flags for cuDNN, three or four of them."""
    return "convolution", args[:9], kwargs


def _is_float(value: Any) -> bool:
    if isinstance(value, Var):
        return bool(value.meta.dtype.is_floating_point or value.meta.dtype.is_complex)
    return isinstance(value, float) or (isinstance(value, Num) and value.kind is float)


UPGRADES: dict[str, Callable[[int, str, list[Any], dict[str, Any]], Call]] = {
    "_convolution": _convolution,
    "linspace": _steps,
    "logspace": _steps,
    "div": _division,
    "div_": _division,
    "full": _full,
}
