"""The signature of a program: what its methods take and give, read from JSON that may be anyone's and checked.

{"abi": 1, "name": NAME, "context_size": bytes, "weights_size": bytes, "methods": {name: METHOD},
 "state": [{"name", "dtype", "shape": [int], "offset": bytes into the context}],
 "attributes": {dotted path: TREE of state} (optional),
 "threads": for how many threads a call has scratch memory (optional, 8)}
METHOD = {"symbol": C function, "inputs": [TENSOR], "outputs": [TENSOR], "guards": [{"expr", "message"}],
          "symbols": [{"name", "min", "max": int or null}], "workspace": SIZE in bytes,
          "measured": {"sizes": [name], "elements": [SIZE], "capacities": {symbol: i}} (optional: sizes that the call
          finds out and writes; for how many elements each output needs memory; symbols by which the call says how many
          of sizes[i] there is memory for),
          "in_tree": {"args": [TREE], "kwargs": {name: TREE}, "positional": [name] (optional: those of kwargs that may
          follow args by position), "writes": [[input, output]] (optional: outputs that a call copies into inputs, which
          the model writes in place), "becomes": [[number or name of an argument, TREE]] (optional: what a call makes
          of an argument that is a list, dict or object; {"input": i} is what it got as input i)},
          "out_tree": TREE, "raises": [message] (optional)}
TENSOR = {"name", "dtype", "shape": [SIZE], "scalar": null, "int", "float" or "bool" (a Python number),
          "symbol": the size that an int scalar gives (optional)}
SIZE   = a tree of sizes, see `neve.runtime.expressions`; expr is a relation of sizes
TREE   = {"leaf": i} | {"leaf": i, "as": "int", "float" or "bool"} (an output that is returned as that Python type) |
         {"none": true} | {"const": number or string} | {"tuple": [TREE]} | {"list": [TREE]} |
         {"dict": {key: TREE}} | {"object": {"class": "module.Class", "fields": {name: TREE}}} |
         {"narrow": {"leaf": i, "axis": a, "length": j}} (of output i the first part along an axis, as long as output j
         says) | {"entries": {"each": TREE, "length": j}} (a list of as many entries as output j says; the leaves of
         TREE hold those of all entries along their first axis)
         A leaf of state is the number of a state; "as" says that it is a number there, and "view": [offset, [size],
         [stride]] (in elements) that the attribute is a part of it.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neve.build.source import ABI, DTYPES
from neve.errors import ArtifactError
from neve.runtime.expressions import Tree as Size
from neve.runtime.expressions import compile_sizes, show

Tree = dict[str, Any]
_THREADS = 8
_LARGEST = 2**47  # bytes or elements: more than any machine addresses


@dataclass(frozen=True)
class Tensor:
    """An input or output; a dim is a tree in the method's symbols."""

    name: str
    dtype: str
    shape: tuple[Size, ...]
    scalar: str | None = None
    symbol: str | None = None

    def __str__(self) -> str:
        if self.scalar:
            return f"{self.name}: {self.scalar}"
        return f"{self.name}: {self.dtype} [{', '.join(map(show, self.shape))}]"


@dataclass(frozen=True)
class Symbol:
    """A size that is known at the call: min and max are inclusive, max None if unbounded."""

    name: str
    min: int
    max: int | None


@dataclass(frozen=True)
class State:
    """A tensor that lives in the context, offset bytes from its start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class MethodSignature:
    """One entry point. positional: the keyword arguments that may follow args by position, in their order.

    measured: the sizes that the call finds out; elements: for how many each output has memory, () if that follows from
    its shape; capacities: the symbols that say for how many of a size, by its number, there is memory.
    """

    name: str
    symbol: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    symbols: tuple[Symbol, ...]
    guards: tuple[tuple[Size, str], ...]
    workspace: Size
    args: tuple[Tree, ...]
    kwargs: dict[str, Tree]
    out_tree: Tree
    raises: tuple[str, ...]
    writes: tuple[tuple[int, int], ...] = ()
    positional: tuple[str, ...] = ()
    becomes: tuple[tuple[int | str, Tree], ...] = ()
    measured: tuple[str, ...] = ()
    elements: tuple[Size, ...] = ()
    capacities: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.name}({', '.join(map(str, self.inputs))}) -> ({', '.join(map(str, self.outputs))})"
        ranges = [f"{s.min} <= {s.name}" + ("" if s.max is None else f" <= {s.max}") for s in self.symbols]
        return text + (
            f" with {', '.join([*ranges, *(show(g) for g, _ in self.guards)])}" if ranges or self.guards else ""
        )


@dataclass(frozen=True)
class Signature:
    """All of a program's entry points and its state."""

    name: str
    methods: dict[str, MethodSignature]
    state: dict[str, State]
    attributes: dict[str, Tree]
    context_size: int
    weights_size: int
    threads: int


def read_signature(data: Any) -> Signature:
    """The signature in its JSON form, checked; ArtifactError names what is wrong with it."""
    top = _Reader(data, "signature")
    if top.integer("abi") != ABI:
        raise ArtifactError(
            f"the C interface is version {top.integer('abi')}, this neve knows {ABI}: use the neve that made it"
        )
    context = top.integer("context_size")
    methods = {name: _method(name, _Reader(m, f"method {name!r}")) for name, m in top.mapping("methods").items()}
    if not methods:
        raise ArtifactError("the signature has no methods")
    states = [_state(_Reader(s, "state"), context) for s in top.items("state")]
    name = top.text("name", identifier=True)
    threads = max(1, top.integer("threads")) if "threads" in top.data else _THREADS
    given = top.mapping("attributes") if "attributes" in top.data else {}
    attributes = {str(path): _attribute(tree, states, f"attribute {path!r}") for path, tree in given.items()}
    return Signature(
        name, methods, {s.name: s for s in states}, attributes, context, top.integer("weights_size"), threads
    )


def _method(name: str, read: _Reader) -> MethodSignature:
    symbols = tuple(
        Symbol(
            r.text("name", identifier=True), r.integer("min"), None if r.data.get("max") is None else r.integer("max")
        )
        for r in (_Reader(s, f"{read.where}: symbol") for s in read.items("symbols"))
    )
    names = [s.name for s in symbols]
    if len(set(names)) != len(names):
        raise ArtifactError(f"{read.where}: a symbol is declared twice")
    inputs = tuple(_tensor(_Reader(t, f"{read.where}: input")) for t in read.items("inputs"))
    outputs = tuple(_tensor(_Reader(t, f"{read.where}: output")) for t in read.items("outputs"))
    guards = tuple(
        (r.data.get("expr", ""), r.text("message"))
        for r in (_Reader(g, f"{read.where}: guard") for g in read.items("guards"))
    )
    measured, elements, limits = _measured(read, len(outputs))
    if set(measured) & set(names) or len(set(measured)) != len(measured):
        raise ArtifactError(f"{read.where}: a measured size is a symbol too, or there twice")
    tree = _Reader(read.mapping("in_tree"), f"{read.where}: in_tree")
    made = MethodSignature(
        name, read.text("symbol", identifier=True), inputs, outputs, symbols, guards, read.data.get("workspace", 0),
        tuple(tree.items("args")), dict(tree.mapping("kwargs")), read.mapping("out_tree"),
        tuple(str(m) for m in (read.items("raises") if "raises" in read.data else ())),
        tuple(_write(w, inputs, outputs, read.where) for w in (tree.items("writes") if "writes" in tree.data else ())),
        _positional(tree),
        tuple(_becomes(b, tree, inputs, outputs) for b in (tree.items("becomes") if "becomes" in tree.data else ())),
        measured, elements, limits,
    )  # fmt: skip
    given = sorted(i for t in (*made.args, *made.kwargs.values()) for i in _leaves(t, read.where))
    if given != list(range(len(inputs))):
        raise ArtifactError(f"{read.where}: in_tree has leaves {given} for {len(inputs)} inputs")
    if any(not 0 <= i < len(outputs) for i in _leaves(made.out_tree, read.where, 0, outputs)):
        raise ArtifactError(f"{read.where}: out_tree has a leaf beyond its {len(outputs)} outputs")
    compile_sizes([*(d for t in inputs for d in t.shape), *(g for g, _ in guards), made.workspace, *elements], names)
    compile_sizes([d for t in outputs for d in t.shape], [*names, *measured])
    return made


def _measured(read: _Reader, outputs: int) -> tuple[tuple[str, ...], tuple[Size, ...], dict[str, int]]:
    if "measured" not in read.data:
        return (), (), {}
    found = _Reader(read.data["measured"], f"{read.where}: measured")
    sizes, elements = found.items("sizes"), found.items("elements")
    if not all(isinstance(s, str) and s.isidentifier() for s in sizes) or not sizes or len(elements) != outputs:
        raise ArtifactError(f"{found.where}: wanted names of sizes, and elements of {outputs} outputs")
    limits = found.mapping("capacities")
    if any(type(k) is not int or not 0 <= k < len(sizes) for k in limits.values()):
        raise ArtifactError(f"{found.where}: wanted numbers of its sizes as capacities")
    return tuple(sizes), tuple(elements), limits


def _positional(tree: _Reader) -> tuple[str, ...]:
    names, kwargs = tree.items("positional") if "positional" in tree.data else [], tree.mapping("kwargs")
    known = all(isinstance(name, str) and name in kwargs for name in names)
    if not known or len(set(names)) != len(names):
        raise ArtifactError(f"{tree.where}: wanted names of keyword arguments as 'positional', got {str(names)[:60]}")
    return tuple(names)


def _write(pair: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor], where: str) -> tuple[int, int]:
    if isinstance(pair, list) and len(pair) == 2 and all(type(i) is int and i >= 0 for i in pair):
        i, k = pair
        known = i < len(inputs) and k < len(outputs) and not inputs[i].scalar
        if known and (inputs[i].dtype, inputs[i].shape) == (outputs[k].dtype, outputs[k].shape):
            return i, k
    raise ArtifactError(f"{where}: wanted an input and the output that it is overwritten with, got {str(pair)[:60]}")


def _becomes(pair: Any, tree: _Reader, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[int | str, Tree]:
    """What an argument becomes, after a check of its form."""
    if isinstance(pair, list) and len(pair) == 2:
        place, made = pair
        known = 0 <= place < len(tree.items("args")) if type(place) is int else place in tree.mapping("kwargs")
        if known and isinstance(made, dict) and next(iter(made)) in ("list", "dict", "object", "tuple"):
            found = _leaves(made, tree.where, 0, outputs, len(inputs))
            if all(0 <= i < len(outputs) for i in found):
                return place, made
    raise ArtifactError(f"{tree.where}: wanted an argument and what a call makes of it, got {str(pair)[:60]}")


def _tensor(read: _Reader) -> Tensor:
    dims = read.items("shape")
    if len(dims) > 64 or not all(type(d) in (str, list) or (type(d) is int and 0 <= d < _LARGEST) for d in dims):
        raise ArtifactError(f"{read.where}: wanted a shape of sizes, got {reprlib.repr(dims)}")
    scalar, symbol = read.data.get("scalar"), read.data.get("symbol")
    if scalar not in (None, "int", "float", "bool") or not (symbol is None or isinstance(symbol, str)):
        raise ArtifactError(f"{read.where}: wanted scalar null, int, float or bool, got {scalar!r}")
    return Tensor(read.text("name"), read.dtype(), tuple(dims), scalar, symbol)


def _state(read: _Reader, context: int) -> State:
    dims = read.items("shape")
    if len(dims) > 64 or not all(type(d) is int and 0 <= d < _LARGEST for d in dims):
        raise ArtifactError(f"{read.where}: wanted a shape of whole numbers, got {str(dims)[:60]}")
    made = State(read.text("name"), read.dtype(), tuple(dims), read.integer("offset"))
    if made.offset + math.prod(made.shape) * DTYPES[made.dtype] > context or made.offset % DTYPES[made.dtype]:
        raise ArtifactError(
            f"{read.where} {made.name!r} lies outside the context of {context} bytes, or is not aligned"
        )
    return made


def _attribute(tree: Any, states: list[State], where: str, depth: int = 0) -> Tree:
    """The tree of an attribute, after a check of its form and of its places in the state."""
    kind, value = next(iter(tree.items()), ("", None)) if isinstance(tree, dict) else ("", None)
    if kind == "leaf":
        _leaf(tree, states, where)
    elif kind in ("tuple", "list") and isinstance(value, list) and len(tree) == 1 and depth < 50:
        for t in value:
            _attribute(t, states, where, depth + 1)
    elif kind == "dict" and isinstance(value, dict) and len(tree) == 1 and depth < 50:
        for t in value.values():
            _attribute(t, states, where, depth + 1)
    elif kind not in ("none", "const") or _leaves(tree, where):
        raise ArtifactError(f"{where}: a tree is one of leaf, none, const, tuple, list, dict; got {str(tree)[:60]}")
    return tree  # type: ignore[no-any-return]


def _leaf(leaf: dict[str, Any], states: list[State], where: str) -> None:
    index, kind, view = leaf["leaf"], leaf.get("as"), leaf.get("view")
    if leaf.keys() - {"leaf", "as", "view"} or type(index) is not int or not 0 <= index < len(states):
        raise ArtifactError(f"{where}: wanted the number of one of {len(states)} states, got {str(leaf)[:60]}")
    state = states[index]
    number = {"int": "int64", "float": "float64", "bool": "bool"}
    if kind is not None and (view is not None or state.shape or number.get(kind) != state.dtype):
        raise ArtifactError(f"{where}: {state.dtype} {list(state.shape)} is no {kind}")
    if view is None:
        return
    sizes = [view[0], *view[1], *view[2]] if _is_view(view) else [-1]
    if not all(type(n) is int and 0 <= n < _LARGEST for n in sizes):
        raise ArtifactError(f"{where}: wanted a view [offset, [size], [stride]], got {str(view)[:60]}")
    last = view[0] + sum((n - 1) * s for n, s in zip(view[1], view[2], strict=True))
    if 0 not in view[1] and last >= math.prod(state.shape):
        raise ArtifactError(f"{where}: the view {str(view)[:60]} lies outside {list(state.shape)}")


def _is_view(view: Any) -> bool:
    return (
        isinstance(view, list)
        and len(view) == 3
        and isinstance(view[1], list)
        and isinstance(view[2], list)
        and len(view[1]) == len(view[2]) <= 64
    )


def _leaves(
    tree: Any, where: str, depth: int = 0, outputs: Sequence[Tensor] | None = None, inputs: int = 0
) -> list[int]:
    """The leaves of a tree in order, after a check of its form. outputs: those of the method, for an out_tree; inputs:
    how many there are, for what an argument becomes.
    """
    if isinstance(tree, dict) and "leaf" in tree and tree.get("as") in ("int", "float", "bool"):
        tree = {"leaf": tree["leaf"]}
    if not isinstance(tree, dict) or len(tree) != 1 or depth > 50:
        raise ArtifactError(
            f"{where}: a tree is one of leaf, none, const, tuple, list, dict, object; got {str(tree)[:60]}"
        )
    ((kind, value),) = tree.items()
    if kind == "leaf" and type(value) is int:
        return [value]
    if kind == "input" and type(value) is int and 0 <= value < inputs:
        return []
    if outputs is not None and kind in ("narrow", "entries"):
        return _lengths(kind, _Reader(value, f"{where}: {kind}"), outputs, where, depth)
    if kind == "none" or (kind == "const" and (value is None or isinstance(value, (bool, int, float, str)))):
        return []
    if kind in ("tuple", "list") and isinstance(value, list):
        return [i for t in value for i in _leaves(t, where, depth + 1, outputs, inputs)]
    if kind == "object" and isinstance(value, dict) and isinstance(value.get("class"), str):
        kind, value = "dict", value.get("fields")
    if kind == "dict" and isinstance(value, dict):
        return [i for t in value.values() for i in _leaves(t, where, depth + 1, outputs, inputs)]
    raise ArtifactError(f"{where}: a tree is one of leaf, none, const, tuple, list, dict, object; got {str(tree)[:60]}")


def _lengths(kind: str, read: _Reader, outputs: Sequence[Tensor], where: str, depth: int) -> list[int]:
    """The leaves of a tree whose length is a result too."""
    length = read.integer("length")
    held = [read.integer("leaf")] if kind == "narrow" else _leaves(read.data.get("each"), where, depth + 1, outputs)
    axis = read.integer("axis") if kind == "narrow" else 0
    ranks = [len(outputs[k].shape) for k in held if 0 <= k < len(outputs)]
    counts = length < len(outputs) and outputs[length].dtype == "int64" and not outputs[length].shape
    if len(ranks) != len(held) or min(ranks, default=0) <= axis or not counts:
        raise ArtifactError(f"{read.where}: wanted an output, an axis of it, and an int64 output of no axes as length")
    return [*held, length]


class _Reader:
    """A JSON object whose fields are taken out by type."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise ArtifactError(f"{where}: wanted a JSON object, got {str(data)[:60]!r}")
        self.data, self.where = data, where

    def wrong(self, field: str, wanted: str) -> ArtifactError:
        return ArtifactError(f"{self.where}: wanted {wanted} as {field!r}, got {str(self.data.get(field))[:60]!r}")

    def integer(self, field: str) -> int:
        value = self.data.get(field)
        if type(value) is not int or not 0 <= value < _LARGEST:
            raise self.wrong(field, "a whole number")
        return value

    def text(self, field: str, identifier: bool = False) -> str:
        value = self.data.get(field)
        if not isinstance(value, str) or (identifier and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,200}", value)):
            raise self.wrong(field, "an identifier" if identifier else "text")
        return value

    def dtype(self) -> str:
        value = self.data.get("dtype")
        if not isinstance(value, str) or value not in DTYPES:
            raise self.wrong("dtype", f"one of {', '.join(DTYPES)}")
        return value

    def items(self, field: str) -> list[Any]:
        value = self.data.get(field)
        if not isinstance(value, list):
            raise self.wrong(field, "a list")
        return value

    def mapping(self, field: str) -> dict[str, Any]:
        value = self.data.get(field)
        if not isinstance(value, dict):
            raise self.wrong(field, "a JSON object")
        return value
