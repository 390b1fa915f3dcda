"""What a call of a frozen module looks like: the key under which the code that is compiled for it is kept."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

NUMBERS = (bool, int, float)


def call_key(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Hashable, list[Any]]:
    """The structure, dtypes and shapes of the arguments, and their numbers in order.

    Numbers count by type alone: compiled code takes most of them as they come.
    """
    numbers: list[Any] = []
    parts = [value_key(a, numbers) for a in args]
    parts += [(k, value_key(kwargs[k], numbers)) for k in sorted(kwargs)]
    return (len(args), *parts), numbers


def value_key(value: Any, numbers: list[Any] | None = None) -> Hashable:
    """What has to be the same of two values for one compiled code to take both."""
    import torch

    if isinstance(value, torch.Tensor):
        return (value.dtype, tuple(value.shape), value.layout, value.device.type, value.is_quantized)
    if type(value) in NUMBERS:
        if numbers is not None:
            numbers.append(value)
        return (type(value),)
    if isinstance(value, (list, tuple)):
        return (type(value), *[value_key(v, numbers) for v in value])
    if isinstance(value, Mapping):
        return (type(value), *[(_plain(k), value_key(v, numbers)) for k, v in value.items()])
    if hasattr(value, "__dataclass_fields__"):
        return (type(value), *[(k, value_key(getattr(value, k), numbers)) for k in value.__dataclass_fields__])
    return _plain(value)


def _plain(value: Any) -> Hashable:
    """A value that is its own key; of what cannot be compared, the object itself."""
    import torch

    if value is None or isinstance(value, (str, bytes, torch.dtype, torch.device, *NUMBERS)):
        return (type(value), value)
    return (type(value), id(value))


def show(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as a line of text: "float32[1, 3], scale: float"."""
    return ", ".join([*map(_show, args), *(f"{k}: {_show(v)}" for k, v in kwargs.items())])


def _show(value: Any) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(map(_show, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_show(v)}" for k, v in value.items()) + "}"
    return repr(value) if value is None or isinstance(value, str) else type(value).__name__
