"""int(x) of a tensor or a size, float(x), math.sqrt(x) and its like of a size, and len(x) of a tensor, under
torch.export: a number of the run, which Python's own cannot return.

The models' files see others meanwhile; another `int` or `float` if all that they do with the name is to call it and to
ask isinstance.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
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
        if cls is Int and isinstance(x, torch.Tensor):
            x = (x.to(torch.int64) if x.dtype is torch.bool else x).item()
        if _of_size(x):
            convert: Any = torch.sym_int
            return convert(x)
        return builtins.int(*args, **kwargs)


class Int(metaclass=_Meta):
    """Stands for int, of tensors too."""


class IntOfSizes(metaclass=_Meta):
    """Stands for int; of a tensor it is Python's own."""


class _FloatMeta(type):
    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, builtins.float)

    def __subclasscheck__(cls, kind: Any) -> bool:
        return issubclass(kind, builtins.float)

    def __call__(cls, *args: Any) -> Any:
        if len(args) == 1 and _of_size(args[0]):
            convert: Any = torch.sym_float
            return convert(args[0])
        return builtins.float(*args)


class FloatOfSizes(metaclass=_FloatMeta):
    """Stands for float; of a tensor it is Python's own."""


def _of_size(x: Any) -> bool:
    return isinstance(x, (torch.SymInt, torch.SymFloat)) and not x.node.is_constant()


def _function(name: str) -> Callable[..., Any]:
    """math's function, which is torch's of a size: as a symbol, or as a number of the run, which torch.export takes."""
    own, symbolic = getattr(math, name), getattr(torch, f"sym_{name}", None)

    def function(*args: Any) -> Any:
        if len(args) != 1 or not _of_size(args[0]):
            return own(*args)
        if symbolic is not None:
            return symbolic(args[0])
        return getattr(torch, name)(torch.scalar_tensor(args[0], dtype=torch.float64)).item()

    return function


FUNCTIONS = ("sqrt", "exp", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh")
MATH = {name: getattr(math, name) for name in FUNCTIONS}


def _len(x: Any) -> Any:
    return x.shape[0] if isinstance(x, torch.Tensor) and x.dim() else builtins.len(x)


ATTENTION: Any = torch.nn.functional.scaled_dot_product_attention


def _attention(query: Any, *args: Any, **named: Any) -> Any:
    """With a flag that depends on sizes, such as is_causal=n > 1, which it refuses before any mode sees the call; or a
    scale that does, which it would take for a constant.
    """
    flags = {k: bool(v) if isinstance(v, torch.SymBool) else v for k, v in named.items()}
    if _of_size(flags.get("scale")):
        query, flags["scale"] = query * flags["scale"], 1.0
    return ATTENTION(query, *args, **flags)


def files(model: nn.Module) -> list[dict[str, Any]]:
    """The globals of the model's files: of its classes, of functions that it holds, and of the functions that these
    files have from others of the same package.
    """
    classes = {c for m in model.modules() for c in type(m).__mro__}
    walk: list[Any] = [getattr(sys.modules.get(c.__module__), "__dict__", None) for c in classes]
    held = (f for owner in (*classes, *model.modules()) for f in vars(owner).values())
    walk += [f.__globals__ for f in held if inspect.isfunction(f)]
    packages = {_package(c.__module__) for c in classes}
    found: dict[int, dict[str, Any]] = {}
    while walk:
        variables = walk.pop()
        if variables is not None and id(variables) not in found and _is_users(variables):
            found[id(variables)] = variables
            functions = [f for f in variables.values() if inspect.isfunction(f)]
            walk += [f.__globals__ for f in functions if _package(f.__module__) in packages]
    return list(found.values())


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _is_users(variables: dict[str, Any]) -> bool:
    file = variables.get("__file__")
    return variables.get("len", _len) is _len and (file is None or is_users(str(file)))


@cache
def _only_calls(file: str, name: str) -> bool:
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
    named = {n for n in run if isinstance(n, ast.Name) and n.id == name}
    return bool(named) and named <= allowed


@contextmanager
def of_sizes(model: nn.Module) -> Iterator[None]:
    """With int, float, len, attention and functions of math that take sizes, in the model's files."""
    found = files(model)
    others = {id(ATTENTION): _attention} | {id(own): _function(name) for name, own in MATH.items()}
    named = [(v, name) for v in (*found, vars(torch.nn.functional), vars(math)) for name in v if id(v[name]) in others]
    with ExitStack() as stack:
        for variables, name in named:
            stack.enter_context(_replaced([variables], name, others[id(variables[name])]))
        stack.enter_context(_replaced(found, "len", _len))
        stack.enter_context(_replaced(callers(found), "int", IntOfSizes))
        stack.enter_context(_replaced(callers(found, "float", FloatOfSizes), "float", FloatOfSizes))
        yield


def callers(found: list[dict[str, Any]], name: str = "int", other: Any = IntOfSizes) -> list[dict[str, Any]]:
    """The files in which a builtin may be another one: those that call it."""
    return [v for v in found if v.get(name, other) is other and _only_calls(str(v.get("__file__") or ""), name)]


@contextmanager
def of_tensors(found: list[dict[str, Any]]) -> Iterator[None]:
    """With int of tensors too in these files."""
    with _replaced(found, "int", Int):
        yield


@contextmanager
def _replaced(found: list[dict[str, Any]], name: str, value: Any) -> Iterator[None]:
    before = [v.get(name) for v in found]
    try:
        for v in found:
            v[name] = value
        yield
    finally:
        for v, was in zip(found, before, strict=True):
            v.pop(name, None)
            v.update({} if was is None else {name: was})
