"""Arguments taken apart to the flat list of a method's inputs, and outputs put together as the model returns them."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from neve.errors import ArtifactError, InputError
from neve.runtime.signature import MethodSignature, Tree
from neve.trees import leaves

Build = Callable[[dict[str, Any]], Any]
Fields = Callable[[Any], Mapping[str, Any]]
_NUMBERS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "bool": bool}
_CLASSES: dict[str, tuple[Build, Fields]] = {
    "builtins.complex": (lambda f: complex(**f), lambda v: {"real": v.real, "imag": v.imag}),
    "builtins.dict.items": (lambda f: dict(f.values()), lambda v: {repr(k): (k, x) for k, x in v.items()}),
    "builtins.frozenset": (lambda f: frozenset(f.values()), lambda v: {repr(x): x for x in v}),
    "builtins.set": (lambda f: set(f.values()), lambda v: {repr(x): x for x in v}),
    "collections.OrderedDict": (OrderedDict, dict),
    "collections.OrderedDict.items": (
        lambda f: OrderedDict(f.values()),
        lambda v: {repr(k): (k, x) for k, x in v.items()},
    ),
    "collections.defaultdict": (
        lambda f: defaultdict(None, f.values()),
        lambda v: {repr(k): (k, x) for k, x in v.items()},
    ),
    "collections.deque": (
        lambda f: deque([x for k, x in f.items() if k != "maxlen"], f["maxlen"]),
        lambda v: dict(_numbered(v), maxlen=v.maxlen),
    ),
    "types.SimpleNamespace": (lambda f: SimpleNamespace(**f), vars),
}
"""Class → how an object is made of its fields and taken apart: a file only names it, and those of others are stand-ins
until `register_class` tells them.
"""


def _torch() -> Any:
    return sys.modules["torch"]


def _dtype(name: str) -> Any:
    """torch's dtype of that name; nothing else of torch, whatever a file names."""
    found = getattr(_torch(), name, None)
    if not isinstance(found, _torch().dtype):
        raise ArtifactError(f"torch has no dtype {name!r}")
    return found


def _numbered(values: Iterable[Any]) -> dict[str, Any]:
    return {str(k): x for k, x in enumerate(values)}


_TORCH: dict[str, tuple[Build, Fields]] = {
    "dtype": (lambda f: _dtype(f["name"]), lambda v: {"name": str(v).partition(".")[2]}),
    "device": (lambda f: _torch().device(**f), lambda v: {"type": v.type, "index": v.index}),
    "Size": (lambda f: _torch().Size(f.values()), _numbered),
}


def _known(name: str) -> tuple[Build, Fields] | None:
    """A class that was registered, or is torch's own where torch is loaded."""
    if name in _CLASSES or not name.startswith("torch.") or "torch" not in sys.modules:
        return _CLASSES.get(name)
    part, _, last = name.removeprefix("torch.").rpartition(".")
    cls = getattr(sys.modules.get("torch.return_types"), last, None) if part == "return_types" else None
    if isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "__match_args__"):  # such as max
        return lambda f: cls(f.values()), lambda v: dict(zip(cls.__match_args__, v, strict=True))
    return None if part else _TORCH.get(last)


class Struct:
    """Stands for an object of a class that this process does not know: fields by attribute, by key and by number."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)
        self.__dict__["_name"], self.__dict__["_fields"] = name, fields

    def keys(self) -> list[str]:
        return list(self._fields)

    def values(self) -> list[Any]:
        return list(self._fields.values())

    def items(self) -> list[tuple[str, Any]]:
        return list(self._fields.items())

    def __getitem__(self, key: str | int | slice) -> Any:
        return self._fields[key] if isinstance(key, str) else tuple(self._fields.values())[key]

    def __len__(self) -> int:
        return len(self._fields)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fields.values())

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"{self._name} has no field {name!r}, only {', '.join(self._fields)}")

    def __repr__(self) -> str:
        return f"{self._name.rsplit('.', 1)[-1]}({', '.join(f'{k}={v!r}' for k, v in self._fields.items())})"


def register_class(name: str, build: Build, fields: Fields | None = None) -> None:
    """Makes outputs whose tree names this class real objects: build gets the fields, `fields` takes an argument
    apart. Torch's own classes stay what they are.
    """
    if name in _CLASSES or _known(name) is None:
        _CLASSES[name] = (build, fields or vars)


def builder(tree: Tree) -> Callable[[Sequence[Any]], Any]:
    """A function from a method's flat outputs to what the method returns."""
    if "leaf" in tree:
        index: int = tree["leaf"]
        number = _NUMBERS.get(tree.get("as", ""))
        if number is not None:
            return lambda leaves: number(leaves[index])
        return lambda leaves: leaves[index]
    ((kind, value),) = tree.items()
    if kind == "narrow":
        return _narrow(value["leaf"], value["axis"], value["length"])
    if kind == "entries":
        return _entries(builder(value["each"]), value["length"])
    if kind in ("none", "const"):
        constant = None if kind == "none" else value
        return lambda leaves: constant
    if kind == "tuple":
        if [t.get("leaf") for t in value] == list(range(len(value))) and not any("as" in t for t in value):
            return lambda leaves: tuple(leaves[: len(value)])
        parts = [builder(t) for t in value]
        return lambda leaves: tuple([part(leaves) for part in parts])
    if kind == "list":
        parts = [builder(t) for t in value]
        return lambda leaves: [part(leaves) for part in parts]
    if kind == "dict":
        named = {key: builder(t) for key, t in value.items()}
        return lambda leaves: {key: part(leaves) for key, part in named.items()}
    name: str = value["class"]
    named = {key: builder(t) for key, t in value["fields"].items()}

    known = _known(name)  # as the class is now: another model may have one of the same name

    def make(leaves: Sequence[Any]) -> Any:
        fields = {key: part(leaves) for key, part in named.items()}
        return known[0](fields) if known else made(name, fields)

    return make


def made(name: str, fields: dict[str, Any]) -> Any:
    """An object of a class, or what stands for one."""
    known = _known(name)
    return known[0](fields) if known else Struct(name, fields)


def _narrow(leaf: int, axis: int, length: int) -> Callable[[Sequence[Any]], Any]:
    """The first part of an output along an axis, of a length that another one gives."""
    at = (slice(None),) * axis

    def narrow(leaves: Sequence[Any]) -> Any:
        part = leaves[leaf][(*at, slice(0, int(leaves[length])))]
        return part if axis == 0 else part.clone() if hasattr(part, "clone") else part.copy()

    return narrow


def _entries(each: Callable[[Sequence[Any]], Any], length: int) -> Callable[[Sequence[Any]], Any]:
    """A list whose entries are rows of outputs, as many as another one gives."""

    def entries(leaves: Sequence[Any]) -> list[Any]:
        return [each(_Row(leaves, k)) for k in range(int(leaves[length]))]

    return entries


class _Row(Sequence[Any]):
    """Row k of each output."""

    def __init__(self, leaves: Sequence[Any], k: int) -> None:
        self.leaves, self.k = leaves, k

    def __len__(self) -> int:
        return len(self.leaves)

    def __getitem__(self, i: Any) -> Any:
        return self.leaves[i][self.k] if isinstance(i, int) else [x[self.k] for x in self.leaves[i]]


def outputs_of(tree: Mapping[str, Any], result: Any) -> dict[int, Any]:
    """Output number → the part of a result that it is, lengths and lists as arrays: the reverse of `builder`."""
    found: dict[int, Any] = {}
    _gather(tree, result, found)
    return found


def _gather(tree: Mapping[str, Any], value: Any, found: dict[int, Any]) -> None:
    if "leaf" in tree:
        found[tree["leaf"]] = value
        return
    ((kind, parts),) = tree.items()
    if kind == "input":
        return
    if kind == "narrow":
        found[parts["leaf"]], found[parts["length"]] = value, np.asarray(value.shape[parts["axis"]])
    elif kind == "entries":
        rows: list[dict[int, Any]] = [outputs_of(parts["each"], item) for item in value]
        keys = list(leaves(parts["each"]))
        found |= {k: np.asarray([np.asarray(row[k]) for row in rows]) for k in keys}
        found[parts["length"]] = np.asarray(len(rows))
    elif kind in ("tuple", "list"):
        for part, item in zip(parts, value, strict=True):
            _gather(part, item, found)
    elif kind == "dict":
        for name, part in parts.items():
            _gather(part, value[name], found)
    elif kind == "object" and isinstance(value, tuple) and not hasattr(value, "_fields"):
        present = [part for part in parts["fields"].values() if "none" not in part]
        for part, item in zip(present, value, strict=True):
            _gather(part, item, found)
    elif kind == "object":
        fields = fields_of(parts["class"], value)
        for name, part in parts["fields"].items():
            _gather(part, fields.get(name), found)


def given(method: MethodSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str | int, Any]:
    """The arguments of a call by their number or name; InputError for one that there is not, or that is given twice."""
    names = {method.inputs[t["leaf"]].name: i for i, t in enumerate(method.args) if "leaf" in t}
    found: dict[str | int, Any] = {}
    for i, value in enumerate(args):
        if i < len(method.args):
            found[i] = value
        elif i - len(method.args) < len(method.positional):
            found[method.positional[i - len(method.args)]] = value
        else:
            most = len(method.args) + len(method.positional)
            named = [k for k in method.kwargs if k not in method.positional]
            rest = f" by position, and by name {', '.join(named)}" if named else ""
            raise InputError(f"{method.name} takes {most} arguments{rest}, got {len(args)}; wanted {method}")
    for key, value in kwargs.items():
        place = key if key in method.kwargs else names.get(key)
        if place is None:
            raise InputError(f"{method.name} has no argument {key!r}; wanted {method}")
        if place in found:
            raise InputError(f"{method.name} got the argument {key!r} twice")
        found[place] = value
    return found


def flatten(method: MethodSignature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The method's inputs in order, out of the arguments of a call; InputError if their structure is another one."""
    leaves: list[Any] = [None] * len(method.inputs)
    places: dict[str | int, Tree] = dict(enumerate(method.args))
    places.update(method.kwargs)
    values = given(method, args, kwargs)
    for place, tree in places.items():
        if place in values:
            label = place if isinstance(place, str) else f"argument {place}"
            _take(method, tree, values[place], label, leaves)
        elif "none" not in tree and "const" not in tree:
            label = method.inputs[tree["leaf"]].name if "leaf" in tree else str(place)
            raise InputError(f"{method.name} misses the argument {label!r}; wanted {method}")
    return leaves


def _take(method: MethodSignature, tree: Tree, value: Any, where: str, leaves: list[Any]) -> None:
    ((kind, wanted),) = tree.items()
    if kind == "leaf":
        if value is None:
            raise InputError(
                f"{method.name}: {where} ({method.inputs[wanted]}) is None; the model was compiled with a value for it"
            )
        leaves[wanted] = value
    elif kind == "none":
        if value is not None:
            raise InputError(
                f"{method.name}: {where}: got {_kind(value)}, wanted None, with which the model was compiled"
            )
    elif kind == "const":
        if type(value) is not type(wanted) or value != wanted:
            raise InputError(
                f"{method.name}: {where}: got {value!r}, wanted {wanted!r}, with which the model was compiled"
            )
    elif kind in ("tuple", "list"):
        if not isinstance(value, (tuple, list)) or len(value) != len(wanted):
            size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
            raise InputError(f"{method.name}: {where}: got {_kind(value)}{size}, wanted a {kind} of {len(wanted)}")
        for i, (part, item) in enumerate(zip(wanted, value, strict=True)):
            _take(method, part, item, f"{where}[{i}]", leaves)
    else:
        if kind == "object":
            value = fields_of(wanted["class"], value)
            wanted = wanted["fields"]
        if not isinstance(value, Mapping) or set(value) != set(wanted):
            keys = f" with {', '.join(map(str, value))}" if isinstance(value, Mapping) else ""
            raise InputError(
                f"{method.name}: {where}: got {_kind(value)}{keys}, wanted a dict with {', '.join(wanted)}"
            )
        for key, part in wanted.items():
            _take(method, part, value[key], f"{where}[{key!r}]", leaves)


def fields_of(name: str, value: Any) -> Any:
    """The fields of an object of a class, or of what stands for one."""
    if isinstance(value, Struct):
        return dict(value.items())
    known = _known(name)
    if known is None:
        return value if isinstance(value, Mapping) else getattr(value, "__dict__", value)
    try:
        return dict(known[1](value))
    except (TypeError, AttributeError, ValueError):
        return value


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def arguments(method: MethodSignature, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with these flat inputs, by position and by keyword."""
    args = tuple(builder(tree)(inputs) for tree in method.args)
    return args, {name: builder(tree)(inputs) for name, tree in method.kwargs.items()}
