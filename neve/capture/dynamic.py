"""Dynamic dims: the user's specification of the arguments; names of symbols; examples that can be generalised."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch.utils import _pytree as pytree

from neve.capture.objects import Fields
from neve.errors import CaptureError


def widen(
    names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Arguments in which no dynamic dim is 1, which torch.export would take as fixed: such axes are repeated twice.

    CaptureError: the specification does not fit the arguments.
    """
    if not dynamic:
        return args, dict(kwargs), dynamic
    specs = by_argument(names, args, kwargs, dynamic)
    wrong = [*_unknown(names, kwargs, dynamic), *_mismatches(names, args, kwargs, specs)]
    if wrong:
        raise CaptureError(list(dict.fromkeys(wrong)))
    wide_args = tuple(_widen(a, s) for a, s in zip(args, specs, strict=False))
    wide_kwargs = {k: _widen(v, specs[len(args) + i]) for i, (k, v) in enumerate(kwargs.items())}
    return wide_args, wide_kwargs, dynamic


def _unknown(names: Sequence[str], kwargs: Mapping[str, Any], dynamic: Any) -> Iterator[str]:
    """A reason for each name in a specification that no argument has."""
    for name in dynamic if isinstance(dynamic, Mapping) else ():
        if name not in names and name not in kwargs:
            known = ", ".join(dict.fromkeys([*names, *kwargs])) or "none"
            yield f"dynamic_shapes is about the argument {name!r}, which there is not: the names are {known}"


def _mismatches(
    names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], specs: Sequence[Any]
) -> Iterator[str]:
    """A reason for each axis in the specifications that the example's tensors do not have, or outside of its range."""
    for k, (value, given) in enumerate(zip([*args, *kwargs.values()], specs, strict=False)):
        what = list(kwargs)[k - len(args)] if k >= len(args) else names[min(k, len(names) - 1)] if names else k
        for tensor, spec in _pairs(value, given):
            if isinstance(spec, (tuple, list)) and len(spec) != tensor.dim():
                yield f"dynamic_shapes has {len(spec)} entries for {what}, whose shape is {list(tensor.shape)}"
                continue
            for axis, d in _axes(tensor, spec).items():
                if not 0 <= axis < tensor.dim():
                    yield (
                        f"dynamic_shapes is about axis {axis} of {what}, whose shape is {list(tensor.shape)}: number "
                        "the axes from 0"
                    )
                elif type(d) is torch.export.Dim:
                    yield from _outside(f"axis {axis} of {what}", tensor.shape[axis], d)


def _outside(what: str, size: int, dim: Any) -> Iterator[str]:
    low, high = int(dim.min), float(dim.max)
    if high < 2:
        yield f"the range of {dim.__name__} ends at {dim.max}: declare max=2 or more, or leave it out of dynamic_shapes"
    elif not low <= size <= high and (size != 1 or low > 2):  # an axis of 1 is repeated
        yield (
            f"{what} of the example is {size}, and {dim.__name__} is declared as {low} to {dim.max}: give an example "
            "in the range, or declare another one"
        )


def for_export(forward: Any, args: tuple[Any, ...], dynamic: Any) -> Any:
    """The specification as torch.export wants it: for *args a tuple in its place, which may be left out here."""
    kinds = [p.kind for p in inspect.signature(forward).parameters.values()]
    if not isinstance(dynamic, (tuple, list)) or inspect.Parameter.VAR_POSITIONAL not in kinds:
        return dynamic
    start = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    if start >= len(args):
        return dynamic
    flat = len(dynamic) == len(args) and not (len(dynamic) == start + 1 and _nested(dynamic[start]))
    return (*dynamic[:start], tuple(dynamic[start:])) if flat else dynamic


def by_field(names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any) -> Any:
    """The specification with a list for each object among the plain arguments, whose fields it may name."""
    if isinstance(dynamic, Mapping):
        named = dict(zip(names, args, strict=False)) | dict(kwargs)
        return {name: _by_field(named.get(name), spec) for name, spec in dynamic.items()}
    if isinstance(dynamic, (tuple, list)):
        values = [*args, *kwargs.values()]
        return type(dynamic)([*map(_by_field, values, dynamic), *dynamic[len(values) :]])
    return dynamic


def _by_field(value: Any, spec: Any) -> Any:
    if isinstance(value, Fields):
        if not isinstance(spec, (Mapping, tuple, list)):
            spec = vars(spec) if hasattr(spec, "__dict__") else {}
        given = dict(spec) if isinstance(spec, Mapping) else dict(zip(value.names, spec, strict=True))
        return [_by_field(v, given.get(n)) for n, v in zip(value.names, value.values, strict=True)]
    if isinstance(value, dict) and isinstance(spec, Mapping):
        return {k: _by_field(value.get(k), s) for k, s in spec.items()}
    if isinstance(value, (tuple, list)) and isinstance(spec, (tuple, list)) and len(spec) == len(value):
        return type(spec)(map(_by_field, value, spec))
    return spec


def _nested(spec: Any) -> bool:
    """Whether a specification is a tuple of those of tensors rather than of one tensor's axes."""
    return isinstance(spec, (tuple, list)) and any(isinstance(s, (Mapping, tuple, list)) for s in spec)


def by_argument(names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any) -> list[Any]:
    """The specification of each positional and each keyword argument."""
    if isinstance(dynamic, Mapping):
        return [dynamic.get(n) for n in list(names)[: len(args)]] + [dynamic.get(k) for k in kwargs]
    given = list(dynamic) if isinstance(dynamic, (tuple, list)) else []
    if (
        given
        and isinstance(given[-1], (tuple, list))
        and len(given) - 1 + len(given[-1]) == len(args)
        and len(given) <= len(names) < len(args) + 1
        and not (isinstance(args[len(given) - 1], (tuple, list)) and len(given[-1]) == len(args[len(given) - 1]))
    ):
        given = [*given[:-1], *given[-1]]  # the specifications of *args
    return given + [None] * (len(args) + len(kwargs) - len(given))


def _pairs(value: Any, spec: Any) -> list[tuple[torch.Tensor, Any]]:
    """(tensor, its specification) for every tensor in value."""
    if isinstance(value, torch.Tensor):
        return [(value, spec)]
    if spec is None:
        return []
    value = value.values if isinstance(value, Fields) else value
    if isinstance(value, Mapping) and isinstance(spec, Mapping):
        return [p for k, v in value.items() for p in _pairs(v, spec.get(k))]
    if isinstance(value, (tuple, list)) and isinstance(spec, (tuple, list)) and len(spec) == len(value):
        return [p for v, s in zip(value, spec, strict=True) for p in _pairs(v, s)]
    return []


def _axes(tensor: torch.Tensor, spec: Any) -> dict[int, Any]:
    """Axis → Dim (or Dim.AUTO, Dim.DYNAMIC) of a tensor's specification."""
    items = spec.items() if isinstance(spec, Mapping) else enumerate(spec) if isinstance(spec, (tuple, list)) else ()
    return {int(axis): d for axis, d in items if d is not None and not isinstance(d, int)}


def _is_dynamic(d: Any) -> bool:
    hint = getattr(getattr(d, "type", None), "name", "")
    return hint in ("AUTO", "DYNAMIC") if hint else hasattr(d, "__name__") and not hasattr(d, "root")


def _widen(value: Any, spec: Any) -> Any:
    replaced = {}
    for tensor, s in _pairs(value, spec):
        repeats = [1] * tensor.dim()
        for axis, d in _axes(tensor, s).items():
            if (
                _is_dynamic(d)
                and tensor.shape[axis] == 1
                and (getattr(d, "min", 0) or 0) <= 2 <= (getattr(d, "max", None) or 2)
            ):
                repeats[axis] = 2
        if any(r > 1 for r in repeats):
            replaced[id(tensor)] = tensor.repeat(repeats)
    return pytree.tree_map(lambda x: replaced.get(id(x), x), value) if replaced else value


def named_symbols(
    program: Any, names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any
) -> dict[sympy.Symbol, tuple[str, int]]:
    """torch's symbol → the name of the user's Dim, and its least size, of which torch.export makes 2 at least."""
    found: dict[sympy.Symbol, tuple[str, int]] = {}
    fakes = given_values(program)
    for k, axis, d in declared_axes(names, args, kwargs, dynamic):
        if isinstance(fakes[k].shape[axis], torch.SymInt):
            _name(fakes[k].shape[axis].node.expr, d, found)
    return found


def declared_axes(
    names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any
) -> Iterator[tuple[int, int, Any]]:
    """(number among the flat inputs, axis, its Dim) of each axis that is declared."""
    if not dynamic:
        return
    specs = by_argument(names, args, kwargs, dynamic)
    values = [*args, *kwargs.values()]
    order = {id(t): k for k, t in reversed(list(enumerate(pytree.tree_leaves(values)))) if isinstance(t, torch.Tensor)}
    for value, spec in zip(values, specs, strict=True):
        for tensor, s in _pairs(value, spec):
            yield from ((order[id(tensor)], axis, d) for axis, d in _axes(tensor, s).items())


def given_values(program: Any) -> list[Any]:
    """What torch.export made of each flat input: a fake tensor, a symbol, or what it takes for a constant."""
    inputs = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    specs = [s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    return [inputs.get(s.arg.name) for s in specs]


Change = Callable[[int, int | None, Any], Any]
"""Number among the flat inputs, axis (None of an int), its Dim → another Dim, or None for a size that is fixed."""


def redeclared(
    names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any, change: Change
) -> Any:
    """The specification with other Dims."""
    values = [*args, *kwargs.values()]
    order = iter(range(len(pytree.tree_leaves(values))))
    specs = by_argument(names, args, kwargs, dynamic)
    made = [_redeclared(v, s, order, change) for v, s in zip(values, specs, strict=True)]
    if isinstance(dynamic, Mapping):
        return dict(zip([*list(names)[: len(args)], *kwargs], made, strict=True))
    return tuple(made)


def _redeclared(value: Any, spec: Any, order: Iterator[int], change: Change) -> Any:
    if isinstance(value, torch.Tensor):
        k = next(order)
        return {a: change(k, a, d) for a, d in _axes(value, spec).items()} or None
    value = value.values if isinstance(value, Fields) else value
    if isinstance(value, Mapping) and isinstance(spec, Mapping):
        return {name: _redeclared(v, spec.get(name), order, change) for name, v in value.items()}
    if isinstance(value, (tuple, list)) and isinstance(spec, (tuple, list)) and len(spec) == len(value):
        return type(spec)([_redeclared(v, s, order, change) for v, s in zip(value, spec, strict=True)])
    numbers = [next(order) for _ in pytree.tree_leaves(value)]
    return change(numbers[0], None, spec) if type(value) is int and _is_dynamic(spec) else spec


def _name(expr: sympy.Expr, d: Any, found: dict[sympy.Symbol, tuple[str, int]]) -> None:
    root = getattr(d, "root", d)
    name = getattr(root, "__name__", "")
    symbols = sorted(expr.free_symbols, key=str)
    if len(symbols) == 1 and re.fullmatch(r"\w+", name):
        found.setdefault(symbols[0], (name, int(getattr(root, "min", 0) or 0)))
