"""Objects that torch's pytree takes for leaves, such as dataclasses, seen as containers of their fields."""

from __future__ import annotations

import copyreg
import dataclasses
import enum
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from neve.errors import CaptureError

CONSTANTS = (bool, int, float, str, type(None))
SCALARS = (*CONSTANTS, torch.SymInt, torch.SymFloat, torch.SymBool)
PARTIAL = (torch.Size, defaultdict)
"""What torch's pytree takes apart into less than it is."""
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE


@dataclass(frozen=True)
class Kind:
    """A class by the name that trees have for it: how an object is made of its fields, and taken apart."""

    name: str
    build: Callable[[dict[str, Any]], Any] = field(compare=False, repr=False)
    fields: Callable[[Any], Mapping[str, Any]] = field(compare=False, repr=False)


@dataclass
class Fields:
    """Stands for an object, with its fields as torch.export sees them."""

    kind: Kind
    names: tuple[str, ...]
    values: list[Any]


def _key(name: str) -> Any:
    """torch.export writes code with it."""
    if name.isidentifier():
        return pytree.GetAttrKey(name)
    return pytree.SequenceKey(int(name)) if name.isdigit() else pytree.MappingKey(name)


pytree.register_pytree_node(
    Fields,
    lambda f: (f.values, (f.kind, f.names)),
    lambda values, context: Fields(context[0], context[1], list(values)),
    flatten_with_keys_fn=lambda f: (
        [(_key(n), v) for n, v in zip(f.names, f.values, strict=True)],
        (f.kind, f.names),
    ),
    serialized_type_name="neve.capture.objects.Fields",
    to_dumpable_context=lambda context: [context[0].name, *context[1]],
    from_dumpable_context=lambda context: (Kind(context[0], dict, vars), tuple(context[1:])),
)


def plain(value: Any) -> Any:
    """The value with Fields for every object in it that torch's pytree takes for a leaf.

    Raises CaptureError for an object that contains itself.
    """
    return _plain(value, ())


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    return pytree.tree_map(lambda x: _fields(x, above), value, is_leaf=lambda x: type(x) in PARTIAL)


def _fields(value: Any, above: tuple[int, ...]) -> Any:
    kind = None if isinstance(value, torch.Tensor) or type(value) in SCALARS else kind_of(value)
    if kind is None:
        return value
    if id(value) in above:
        raise CaptureError(f"a {kind.name} among the arguments or results contains itself")
    found = kind.fields(value)
    return Fields(kind, tuple(found), [_plain(x, (*above, id(value))) for x in found.values()])


def restored(value: Any) -> Any:
    """The value with objects again where `plain` put Fields."""
    return pytree.tree_map(_restored, value, is_leaf=lambda x: isinstance(x, Fields))


def _restored(value: Any) -> Any:
    if not isinstance(value, Fields):
        return value
    return value.kind.build({n: restored(v) for n, v in zip(value.names, value.values, strict=True)})


def tree_map(change: Callable[[Any], Any], value: Any) -> Any:
    """The value with every leaf changed, those in objects too."""
    return restored(pytree.tree_map(change, plain(value)))


def tree_leaves(value: Any) -> list[Any]:
    """The leaves of a value in order, those in objects too."""
    return pytree.tree_leaves(plain(value))


def strangers(value: Any) -> list[str]:
    """A reason for every leaf of a plain result that is neither a tensor nor a constant."""
    return list(
        dict.fromkeys(
            f"a {type(x).__module__}.{type(x).__qualname__} in a result: tensors may be in tuples, lists, dicts, named "
            "tuples, dataclasses and other objects that consist of their attributes, beside numbers, strings, None, "
            "enumeration members and dtypes"
            for x in pytree.tree_leaves(value)
            if not isinstance(x, (torch.Tensor, *SCALARS))
        )
    )


def kind_of(value: Any) -> Kind | None:
    """How an object is taken apart; None if it is not one that its fields make up."""
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(value, enum.Enum):
        return Kind(name, lambda f: _member(cls, f), _of_member)
    if isinstance(value, torch.dtype):
        return Kind("torch.dtype", lambda f: getattr(torch, f["name"]), lambda v: {"name": str(v).split(".")[1]})
    if isinstance(value, torch.device):
        return Kind("torch.device", lambda f: torch.device(**f), lambda v: {"type": v.type, "index": v.index})
    if cls is torch.Size:
        return Kind(name, lambda f: torch.Size(f.values()), lambda v: {str(k): n for k, n in enumerate(v)})
    if cls is defaultdict:
        factory = value.default_factory
        return Kind(name, lambda f: defaultdict(factory, f.values()), lambda v: {repr(k): (k, x) for k, x in v.items()})
    if cls is complex:
        return Kind("builtins.complex", lambda f: complex(**f), lambda v: {"real": v.real, "imag": v.imag})
    if cls in (set, frozenset) and all(type(x) in CONSTANTS for x in value):
        return Kind(name, lambda f: cls(f.values()), lambda v: {repr(x): x for x in sorted(v, key=repr)})
    if cls is SimpleNamespace:
        return Kind(name, lambda f: SimpleNamespace(**f), vars)
    if _made_of_attributes(value, cls):
        if not _attributes(value):  # which may be known by its identity
            return Kind(name, lambda _: value, _attributes)
        return Kind(name, lambda f: _with_attributes(cls, f), _attributes)
    if isinstance(value, dict) and _is_python(cls, dict) and all(isinstance(k, str) for k in value):
        if not getattr(value, "__dict__", None):
            return Kind(name, lambda f: _filled(cls, f), dict)
        if vars(value) is value:  # class AttrDict(dict): self.__dict__ = self
            return Kind(name, lambda f: _own_dict(cls, f), dict)
    return None


def _member(cls: Any, fields: dict[str, Any]) -> Any:
    return cls[fields["name"]] if fields["name"] in cls.__members__ else cls(fields["value"])


def _of_member(member: enum.Enum) -> dict[str, Any]:
    return {"name": member.name, "value": member.value if type(member.value) in CONSTANTS else str(member.value)}


def _made_of_attributes(value: Any, cls: type) -> bool:
    """Whether an object is its attributes alone, so that one with the same attributes is its equal, as for `copy`."""
    if isinstance(value, (type, nn.Module)) or cls is object or not _is_python(cls, object):
        return False
    return dataclasses.is_dataclass(cls) or not callable(value)


def _is_python(cls: type, base: type) -> bool:
    """Whether a class and all those above it but a builtin one are written in Python, and copied as these are."""
    own = [c for c in cls.__mro__ if c not in (base, object)]
    return (
        all(c.__flags__ & HEAP_TYPE or c.__module__ == "typing" for c in own)
        and cls.__new__ is base.__new__
        and all(getattr(cls, name) is getattr(object, name) for name in ("__reduce_ex__", "__reduce__"))
        and cls not in copyreg.dispatch_table
    )


def _slots(cls: type) -> Iterator[str]:
    for c in reversed(cls.__mro__):
        names = vars(c).get("__slots__", ())
        for n in (names,) if isinstance(names, str) else names:
            if n not in ("__dict__", "__weakref__"):
                yield f"_{c.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n


def _attributes(value: Any) -> dict[str, Any]:
    names = [n for n in _slots(type(value)) if hasattr(value, n)]
    return {n: getattr(value, n) for n in names} | getattr(value, "__dict__", {})


def _with_attributes(cls: type, fields: dict[str, Any]) -> Any:
    # without __init__ and __post_init__, which might compute again what the fields hold already
    made: Any = object.__new__(cls)
    slots = set(_slots(cls))
    for name in fields.keys() & slots:
        object.__setattr__(made, name, fields[name])
    if hasattr(made, "__dict__"):
        made.__dict__.update({k: v for k, v in fields.items() if k not in slots})
    return made


def _filled(cls: Any, fields: dict[str, Any]) -> Any:
    made = cls.__new__(cls)
    dict.update(made, fields)
    return made


def _own_dict(cls: Any, fields: dict[str, Any]) -> Any:
    made = _filled(cls, fields)
    object.__setattr__(made, "__dict__", made)
    return made
