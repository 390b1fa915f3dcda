"""isinstance: whether a value is of a type that TorchScript's code writes out."""

from __future__ import annotations

import ast
from typing import Any

import torch

from neve.capture.torchscript.numbers import is_number, kind_of
from neve.capture.torchscript.pickles import Member, Obj
from neve.capture.torchscript.values import KINDS, Grown, Named, Packed, PackedSizes, Refusal, Text, Var, describe

NUMBERS = {kind.__name__: kind for kind in KINDS}


def is_of_type(value: Any, annotation: ast.expr) -> bool:
    """Refusal for types that are not known, and for empty containers, of whose entries nothing can be said."""
    match annotation:
        case ast.Tuple(elts=types):
            return any(is_of_type(value, t) for t in types)
        case ast.Constant(value=None) | ast.Name(id="NoneType" | "None"):
            return value is None
        case ast.Name(id=name) if name in NUMBERS:
            return is_number(value) and kind_of(value) is NUMBERS[name]
        case ast.Name(id="str"):
            return isinstance(value, (str, Text))
        case ast.Name(id="Tensor"):
            return isinstance(value, (Var, Grown, Packed, PackedSizes))
        case ast.Name(id="Device"):
            return isinstance(value, torch.device)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in PARAMETRIC:
            return PARAMETRIC[name](value, inner)
        case ast.Attribute():
            return isinstance(value, (Obj, Named, Member)) and value.cls == ast.unparse(annotation)
    raise Refusal(f"isinstance of {describe(value)} and {ast.unparse(annotation)[:60]} is not supported")


def _list(value: Any, inner: ast.expr) -> bool:
    return isinstance(value, list) and all(is_of_type(v, inner) for v in _some(value, value))


def _dict(value: Any, inner: ast.expr) -> bool:
    if not isinstance(inner, ast.Tuple) or len(inner.elts) != 2:
        raise Refusal(f"Dict[{ast.unparse(inner)[:60]}] is no type")
    key, held = inner.elts
    return isinstance(value, dict) and all(
        is_of_type(k, key) and is_of_type(v, held) for k, v in _some(value, value.items())
    )


def _tuple(value: Any, inner: ast.expr) -> bool:
    types = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    return (
        isinstance(value, tuple)
        and len(value) == len(types)
        and all(is_of_type(v, t) for v, t in zip(value, types, strict=True))
    )


def _some(container: Any, entries: Any) -> Any:
    if not container:
        raise Refusal(f"isinstance of an empty {type(container).__name__}: what it may hold is not known")
    return entries


PARAMETRIC = {
    "List": _list,
    "Dict": _dict,
    "Tuple": _tuple,
    "Optional": lambda value, inner: value is None or is_of_type(value, inner),
    "Union": is_of_type,
}
