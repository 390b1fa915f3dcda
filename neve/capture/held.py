"""Attributes of a model as they are captured: values in which tensors and numbers are tensors that become state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neve.errors import CaptureError

NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64}
FIXED = "is compiled in, it cannot vary at run time: preserve tensors, ints, floats, bools, lists, tuples or dicts"


@dataclass(frozen=True, eq=False)
class Held:
    """A leaf of an attribute: the tensor that becomes state, of a number its type, of a part of the tensor where it is
    (offset, shape and strides in elements). place: (id of the object, list or dict that has it, key, *path in tuples).
    """

    tensor: torch.Tensor
    name: str
    place: tuple[Any, ...] = ()
    kind: type | None = None
    view: tuple[int, tuple[int, ...], tuple[int, ...]] | None = None


Attributes = Mapping[str, Any]
"""Dotted path → Held, or a list, tuple or dict of such, of None and of strings."""


def as_tree(value: Any, index: Callable[[torch.Tensor], int]) -> dict[str, Any]:
    """The JSON tree of an attribute (see `neve.runtime.signature`), index giving the number of a tensor's state."""
    if isinstance(value, Held):
        leaf: dict[str, Any] = {"leaf": index(value.tensor)}
        leaf |= {"as": value.kind.__name__} if value.kind else {}
        return leaf | ({"view": [value.view[0], *map(list, value.view[1:])]} if value.view else {})
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [as_tree(v, index) for v in value]}
    if isinstance(value, dict):
        return {"dict": {k: as_tree(v, index) for k, v in value.items()}}
    return {"none": True} if value is None else {"const": value}


def leaves(value: Any) -> Iterator[Held]:
    """Every Held in an attribute."""
    if isinstance(value, Held):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from leaves(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from leaves(v)


def hold(value: Any, path: str, place: tuple[Any, ...], number: Callable[[tuple[Any, ...], Any], torch.Tensor]) -> Any:
    """value, which is at a place (see Held), with every tensor and number in it Held; number gives the tensor for one.

    CaptureError for what cannot vary.
    """
    if isinstance(value, torch.Tensor):
        return Held(value, path, place)
    if type(value) in NUMBERS:
        return Held(number(place, value), path, place, type(value))
    if type(value) is tuple:
        return tuple(hold(v, f"{path}.{i}", (*place, i), number) for i, v in enumerate(value))
    if type(value) is list:
        return [hold(v, f"{path}.{i}", (id(value), i), number) for i, v in enumerate(value)]
    if type(value) is dict and all(isinstance(k, str) for k in value):
        return {k: hold(v, f"{path}.{k}", (id(value), k), number) for k, v in value.items()}
    if value is None or isinstance(value, str):
        return value
    what = "a dict with keys that are no strings" if isinstance(value, dict) else f"a {type(value).__name__}"
    raise CaptureError(f"the attribute {path} is {what}, which {FIXED}")


def located(value: Any, place: Callable[[Held], Held]) -> Any:
    """The attribute with every Held replaced by what place gives for it."""
    if isinstance(value, Held):
        return place(value)
    if isinstance(value, (list, tuple)):
        return type(value)(located(v, place) for v in value)
    return {k: located(v, place) for k, v in value.items()} if isinstance(value, dict) else value


def storage_of(t: torch.Tensor) -> int:
    """The same for tensors that share memory; a sparse tensor, which has no storage, shares it with itself alone."""
    return t.untyped_storage()._cdata if t.layout is torch.strided else id(t)


def key_of(t: torch.Tensor) -> Any:
    """Equal for tensors that are the same elements of the same memory."""
    if t.layout is not torch.strided:
        return storage_of(t)
    return (storage_of(t), t.storage_offset(), tuple(t.shape), tuple(t.stride()), t.dtype)


def whole_of(t: torch.Tensor) -> torch.Tensor:
    """All of the memory that a tensor is in, as a tensor of one dim."""
    return torch.empty(0, dtype=t.dtype).set_(t.untyped_storage())


def part_of(held: Held) -> Held:
    """The leaf as a view of all the memory that its tensor is in."""
    t = held.tensor
    view = (int(t.storage_offset()), tuple(t.shape), tuple(t.stride()))
    return Held(whole_of(t), f"{held.name}.memory", held.place, None, view)


def unknown(names: Sequence[str]) -> list[str]:
    return [f"Unknown name: {name}" for name in names]


def of_program(program: Any, names: Sequence[str]) -> dict[str, Any]:
    """The named tensors of an ExportedProgram, or all below a name. CaptureError lists what it does not have."""
    tensors = {**program.constants, **program.state_dict}
    found: dict[str, Any] = {}
    missing = []
    for name in names:
        mine = [k for k in tensors if name and (k == name or k.startswith(f"{name}."))]
        missing += [] if mine else [name]
        found |= {k: Held(tensors[k], k) for k in mine if isinstance(tensors[k], torch.Tensor)}
    if missing:
        raise CaptureError(unknown(missing))
    return found
