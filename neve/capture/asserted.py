"""Tests of tensors that only decide whether a model raises: `assert (x > 0).all()`, `if n.min() < 1: raise ValueError`.

torch.export cannot decide them. Each becomes a check of the graph, and the trace goes on where nothing is raised.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from neve.capture.diagnose import ENTRY, short_path
from neve.capture.hidden import is_users
from neve.internals import replaced

ASKING = (ast.BoolOp, ast.Not, ast.IfExp, ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
"""Expressions that branch on a value by themselves."""
ANY = torch.any


class Asserted(TorchFunctionMode):
    """While a method of a model runs in a trace."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ == "__bool__" and all(isinstance(n, int) and n == 1 for n in args[0].shape):
            test = _test(sys._getframe(1))
            if test is not None:
                truth = args[0].reshape(()).to(torch.bool)
                torch._assert_async(truth if test.wanted else truth.logical_not(), test.message)
                return test.wanted
        if func is torch.nn.functional.gaussian_nll_loss and not _caught(sys._getframe(1)):
            # its own `elif torch.any(var < 0): raise` runs where no mode of ours is active
            with replaced(("torch.any", _any)):
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _any(*args: Any, **kwargs: Any) -> Any:
    """torch.any; where gaussian_nll_loss itself asks, a check that it is false."""
    found = ANY(*args, **kwargs)
    if sys._getframe(1).f_code is not torch.nn.functional.gaussian_nll_loss.__code__:
        return found
    torch._assert_async(found.logical_not(), "ValueError: var has negative entry/entries")
    return False


@dataclass(frozen=True)
class _Test:
    """wanted: the truth with which nothing is raised."""

    wanted: bool
    message: str


def check(holds: torch.Tensor, message: str) -> None:
    """A check of the graph, on behalf of a function of torch that the model's code calls."""
    frame = _users(sys._getframe(1))
    place = f"  ({short_path(frame.f_code.co_filename)}:{frame.f_lineno})" if frame is not None else ""
    torch._assert_async(holds, message + place)


def _users(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of a model's own code."""
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = frame.f_back if frame.f_code.co_filename != ENTRY else None
    return frame


def _test(frame: FrameType | None) -> _Test | None:
    """The test that a model's frame is at, if it decides nothing but whether something is raised."""
    frame = _users(frame)
    if frame is None or not _branches(frame) or _caught(frame):
        return None
    file, line = frame.f_code.co_filename, frame.f_lineno
    here = [n for n in _nodes(file, ast.If, ast.Assert) if n.test.lineno <= line <= (n.test.end_lineno or line)]
    if len(here) != 1:
        return None
    match here[0]:
        case ast.Assert(test=test, msg=said):
            error, wanted = AssertionError.__name__, {*_wanted(test, True)}
        case ast.If(test=test, body=[ast.Raise(exc=ast.Call(func=kind, args=[said, *_])), *_]):
            error, wanted = ast.unparse(kind), {*_wanted(test, False)}
        case ast.If(test=test, body=[ast.Raise(exc=ast.expr() as kind), *_]):
            error, wanted, said = ast.unparse(kind), {*_wanted(test, False)}, None
        case _:
            return None
    own = str(said.value) if isinstance(said, ast.Constant) else linecache.getline(file, line).strip()
    return _Test(wanted.pop(), f"{error}: {own} ({short_path(file)}:{line})") if len(wanted) == 1 else None


def _branches(frame: FrameType) -> bool:
    """Whether it is the statement that asks, and no function that it calls, such as max()."""
    name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
    return name == "TO_BOOL" or ("JUMP" in name and "IF" in name)


def _wanted(test: ast.expr, passes: bool) -> Iterator[bool]:
    """The truth of what the expression asks for, where it has to be `passes`; both where that is not certain."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _wanted(operand, not passes)
        case ast.BoolOp(op=op, values=values) if isinstance(op, ast.And) is passes:
            for value in values:
                yield from _wanted(value, passes)
        case _:
            chained = any(isinstance(n, ast.Compare) and len(n.ops) > 1 for n in ast.walk(test))
            asks = chained or any(isinstance(n, ASKING) for n in ast.walk(test))
            yield from (True, False) if asks else (passes,)


def _caught(frame: FrameType | None) -> bool:
    """Whether the model may catch what is raised there."""
    while frame is not None and frame.f_code.co_filename != ENTRY:
        if is_users(file := frame.f_code.co_filename):
            blocks = [n for n in _nodes(file, ast.Try, ast.With) if isinstance(n, ast.Try) or _may_suppress(n)]
            if any(n.body[0].lineno <= frame.f_lineno <= (n.body[-1].end_lineno or 0) for n in blocks):
                return True
        frame = frame.f_back
    return False


def _may_suppress(block: ast.With) -> bool:
    """Whether its __exit__ may end what is raised: any but torch's own, such as no_grad and autocast."""
    return not all(ast.unparse(item.context_expr).startswith("torch.") for item in block.items)


@cache
def _nodes(file: str, *kinds: type) -> tuple[Any, ...]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ()
    return tuple(n for n in ast.walk(tree) if isinstance(n, kinds))
