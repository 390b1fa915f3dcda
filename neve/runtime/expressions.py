"""Sizes as data: trees of integers, symbols and operators, checked, then compiled to one Python function.

TREE = an integer | the name of a symbol | [OPERATOR, TREE, …]. A tree may come from a stranger's file: nothing but the
operators named here is in the function, and no value can grow without bounds.
"""

from __future__ import annotations

import ast
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from neve.errors import ArtifactError

Tree = int | str | Sequence[Any]
"""JSON: an operator and its operands are a list, or a tuple."""

_RELATIONS = {"==": ast.Eq, "!=": ast.NotEq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE}
_FOLDED = {"+": ast.Add, "*": ast.Mult}
_DIVISIONS = {"//": ast.FloorDiv, "%": ast.Mod}
_OPERANDS = {**dict.fromkeys((*_FOLDED, "min"), (2, 1000)), **dict.fromkeys((*_DIVISIONS, *_RELATIONS), (2, 2))}
"""How many each operator takes at least and at most."""
_DEEPEST = 50
_MOST = 4000
"""Nodes of all the trees of one function."""


def compile_sizes(trees: Sequence[Tree], symbols: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    """A function of the symbols' values that returns the value of each tree: ints, and bools for relations.

    ArtifactError if a tree is none. The function raises ZeroDivisionError where a tree has no value.
    """
    known, left = frozenset(symbols), _MOST

    def built(tree: Any, depth: int, whole: Any) -> ast.expr:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise ArtifactError(f"the size {reprlib.repr(whole)} is too large")
        if type(tree) is int and abs(tree) < 2**63:
            return ast.Constant(tree)
        if isinstance(tree, str) and tree in known:
            return ast.Name(tree, ast.Load())
        operator = tree[0] if isinstance(tree, (list, tuple)) and tree else None
        least, most = _OPERANDS.get(operator, (1, 0)) if isinstance(operator, str) else (1, 0)
        if not isinstance(operator, str) or not least <= len(tree) - 1 <= most:
            raise ArtifactError(f"the size {reprlib.repr(whole)} holds {reprlib.repr(tree)}, which no size needs")
        operands = [built(part, depth + 1, whole) for part in tree[1:]]
        if operator == "min":
            return ast.Call(ast.Name("<min>", ast.Load()), operands, [])
        if operator in _RELATIONS:
            return ast.Compare(operands[0], [_RELATIONS[operator]()], operands[1:])
        made = operands[0]
        for operand in operands[1:]:
            made = ast.BinOp(made, (_FOLDED.get(operator) or _DIVISIONS[operator])(), operand)
        return made

    elements = [built(tree, 0, tree) for tree in trees]
    arguments = ast.arguments([], [ast.arg(name) for name in symbols], None, [], [], None, [])
    function = ast.Expression(ast.Lambda(arguments, ast.Tuple(elements, ast.Load())))
    try:
        code = compile(ast.fix_missing_locations(function), "<sizes>", "eval")
        made: Callable[..., tuple[Any, ...]] = eval(code, {"__builtins__": {}, "<min>": min})  # of checked nodes alone
        return made
    except (RecursionError, MemoryError, ValueError, TypeError) as error:
        raise ArtifactError(f"sizes that cannot be compiled: {error}") from error


def linear(tree: Tree, symbols: Sequence[str]) -> tuple[dict[str, int], int] | None:
    """A checked tree as ({symbol: factor}, constant), None if it is not of this form."""
    if isinstance(tree, int):
        return {}, tree
    if isinstance(tree, str):
        return ({tree: 1}, 0) if tree in symbols else None
    parts = [linear(part, symbols) for part in tree[1:]]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or tree[0] not in _FOLDED:
        return None
    factors, constant = known[0]
    for more, number in known[1:]:
        if tree[0] == "+":
            factors = {name: factors.get(name, 0) + more.get(name, 0) for name in factors | more}
            constant += number
        elif factors and more:
            return None
        else:
            scaled, by = (factors, number) if factors else (more, constant)
            factors, constant = {name: factor * by for name, factor in scaled.items()}, constant * number
    return factors, constant


def show(tree: Tree) -> str:
    """A checked tree as Python code, for people."""
    if isinstance(tree, (int, str)):
        return str(tree)
    operator, parts = tree[0], list(tree[1:])
    if operator == "min":
        return f"min({', '.join(map(show, parts))})"
    if operator in _RELATIONS:
        return f" {operator} ".join(map(show, parts))
    if operator == "+":
        return "".join(_signed(part, k == 0) for k, part in enumerate(parts))
    if operator == "*" and isinstance(parts[0], int) and parts[0] < 0:
        return "-" + "*".join(map(_operand, parts[1:] if parts[0] == -1 else [-parts[0], *parts[1:]]))
    return ("*" if operator == "*" else f" {operator} ").join(map(_operand, parts))


def _operand(tree: Tree) -> str:
    return show(tree) if isinstance(tree, str) or (isinstance(tree, int) and tree >= 0) else f"({show(tree)})"


def _signed(tree: Tree, first: bool) -> str:
    text = show(tree)
    if first:
        return text
    return f" - {text[1:]}" if text.startswith("-") else f" + {text}"
