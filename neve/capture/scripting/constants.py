"""Attributes of modules that are constants while a model runs, and what its code writes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from neve.capture.scripting.unroll import NOTHING

MAX_ITEMS = 256
READS = (ast.For, ast.comprehension, ast.Subscript, ast.Compare, ast.FormattedValue)
READERS = frozenset({"len", "enumerate", "zip", "range", "reversed", "getattr", "hasattr", "str", "int", "min", "max"})


def codes(cls: type) -> set[CodeType]:
    """The code of all methods of a class."""
    found = [getattr(v, "fget", v) for c in cls.__mro__ for v in vars(c).values()]
    return {f.__code__ for f in found if isinstance(f, FunctionType)}


def plain_attribute(module: Any, chain: Sequence[str]) -> Any:
    """The number, text or sequence of them that a chain of attributes of a module gives; else NOTHING."""
    for k, name in enumerate(chain):
        if isinstance(module, torch.jit.ScriptModule) or isinstance(getattr(type(module), name, None), property):
            return NOTHING
        module = getattr(module, name, NOTHING)
        if not isinstance(module, nn.Module):
            return module if k == len(chain) - 1 and is_plain(module) else NOTHING
    return NOTHING


def is_plain(value: Any) -> bool:
    """Whether a value is a number, text, None, or a list or tuple of them."""
    if type(value) in (list, tuple):
        return len(value) <= MAX_ITEMS and all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def written(code: ast.AST) -> tuple[set[str], set[str]]:
    """The names of attributes that code assigns, and of those that it hands to what might write in them."""
    read, called = set(), set()
    for node in ast.walk(code):
        reader = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS
        if isinstance(node, READS) or reader:
            read |= {id(child) for child in ast.iter_child_nodes(node)}
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            called.add(id(node.value))
        if isinstance(node, ast.Attribute):
            read |= {id(node.value)} if isinstance(node.value, ast.Name) else set()
    attributes = [n for n in ast.walk(code) if isinstance(n, ast.Attribute)]
    stored = {n.attr for n in attributes if not isinstance(n.ctx, ast.Load)}
    return stored, {n.attr for n in attributes if id(n) in called or id(n) not in read}
