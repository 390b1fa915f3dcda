"""int(x) of a tensor under torch.export: the number that x.item() is, which Python's own int cannot return.

The models' files see another `int` meanwhile, if all that they do with the name is to call it and to ask isinstance.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neve.capture.hidden import is_users

ASKING = ("isinstance", "issubclass", "map")


class _Meta(type):
    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, builtins.int)

    def __subclasscheck__(cls, kind: Any) -> bool:
        return issubclass(kind, builtins.int)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        x = args[0] if len(args) == 1 and not kwargs else None
        if isinstance(x, torch.Tensor):
            x = (x.to(torch.int64) if x.dtype is torch.bool else x).item()
        if isinstance(x, (torch.SymInt, torch.SymFloat)) and not x.node.is_constant() and not x.node.has_hint():
            convert: Any = torch.sym_int
            return convert(x)
        return builtins.int(*args, **kwargs)


class Int(metaclass=_Meta):
    """Stands for int."""


def files(model: nn.Module) -> list[dict[str, Any]]:
    """The globals of the model's files in which int may be another one, those that call it."""
    return [v for v in globals_of(model) if "int" not in v and _only_calls(str(v.get("__file__") or ""))]


def globals_of(model: nn.Module) -> list[dict[str, Any]]:
    """Of the files of the model's classes and of their methods."""
    found = {}
    for cls in {c for m in model.modules() for c in type(m).__mro__}:
        own = getattr(sys.modules.get(cls.__module__), "__dict__", None)
        for variables in (own, *(f.__globals__ for f in vars(cls).values() if inspect.isfunction(f))):
            if variables is not None and id(variables) not in found:
                found[id(variables)] = variables
    return list(found.values())


def _only_calls(file: str) -> bool:
    if not file or not is_users(file):
        return False
    try:
        with open(file, encoding="utf-8") as f:
            tree = ast.parse(f.read())
    except (OSError, SyntaxError, ValueError):
        return False
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    run = {n for f in functions for part in (f.body if isinstance(f.body, list) else [f.body]) for n in ast.walk(part)}
    allowed: set[Any] = set()
    for node in run:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            allowed |= {node.func, *(n for a in node.args for n in ast.walk(a) if node.func.id in ASKING)}
        elif isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            allowed |= set(ast.walk(node.annotation))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            allowed |= set(ast.walk(node.returns))
    named = {n for n in run if isinstance(n, ast.Name) and n.id == "int"}
    return bool(named) and named <= allowed


@contextmanager
def of_tensors(variables: list[dict[str, Any]]) -> Iterator[None]:
    """With the other int in these files."""
    try:
        for v in variables:
            v["int"] = Int
        yield
    finally:
        for v in variables:
            v.pop("int", None)
