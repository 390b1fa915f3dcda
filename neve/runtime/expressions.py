"""Size expressions such as "2*s0 + 1" or "Max(1, floor(s0/2))": checked, then compiled to one Python function.

The text may come from a stranger's file. It is parsed with `ast`, and only integers, the given symbols, arithmetic,
comparisons and the functions named here pass, so nothing else can be reached and no value can grow without bounds.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from neve.errors import ArtifactError

Text = int | str
_LONGEST = 4000
_POWER = 8


def _exact_div(a: Any, b: Any) -> Any:
    return Fraction(a, b) if a % b else a // b


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Max": max,
    "Min": min,
    "max": max,
    "min": min,
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "CeilDiv": lambda a, b: -(-a // b),
    "IntTrueDiv": _exact_div,
    "floor": math.floor,
    "ceiling": math.ceil,
    "CeilToInt": math.ceil,
    "FloorToInt": math.floor,
    "TruncToInt": math.trunc,
    "Abs": abs,
    "Eq": lambda a, b: a == b,
    "Ne": lambda a, b: a != b,
    "Lt": lambda a, b: a < b,
    "Le": lambda a, b: a <= b,
    "Gt": lambda a, b: a > b,
    "Ge": lambda a, b: a >= b,
    "And": lambda *a: all(a),
    "Or": lambda *a: any(a),
    "Not": lambda a: not a,
    "Where": lambda c, a, b: a if c else b,
}
_BINARY = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Div, ast.BitAnd, ast.BitOr)
_UNARY = (ast.USub, ast.UAdd, ast.Not, ast.Invert)
_COMPARE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def compile_sizes(texts: Sequence[Text], symbols: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    """A function of the symbols' values that returns the value of each expression: ints, and bools for comparisons.

    ArtifactError if an expression holds anything that a size has no need of. The function raises ZeroDivisionError or
    ValueError where an expression has no whole value.
    """
    elements = [_rebuild(_parse(text), frozenset(symbols), text) for text in texts]
    arguments = ast.arguments([], [ast.arg(name) for name in symbols], None, [], [], None, [])
    function = ast.Expression(ast.Lambda(arguments, ast.Tuple(elements, ast.Load())))
    scope = {
        "__builtins__": {},
        "_whole": _whole,
        "_div": _exact_div,
        **{f"_{name}": f for name, f in _FUNCTIONS.items()},
    }
    try:
        code = compile(ast.fix_missing_locations(function), "<sizes>", "eval")
        made: Callable[..., tuple[Any, ...]] = eval(code, scope)  # a tree of nothing but checked nodes
        return made
    except (RecursionError, MemoryError, ValueError, TypeError) as error:
        raise ArtifactError(f"size expressions that cannot be compiled: {error}") from error


def linear(text: Text, symbols: Sequence[str]) -> tuple[dict[str, int], int] | None:
    """An expression as ({symbol: factor}, constant), None if it is not of this form."""
    return _linear(_parse(text), frozenset(symbols))


def _parse(text: Text) -> ast.expr:
    if isinstance(text, int) and not isinstance(text, bool) and abs(text) < 2**63:
        return ast.Constant(text)
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ArtifactError(
            f"a size must be an integer or an expression of at most {_LONGEST} characters, got {str(text)[:60]!r}"
        )
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArtifactError(f"the size expression {text[:60]!r} cannot be read: {error}") from error


def _rebuild(node: ast.expr, symbols: frozenset[str], text: Text) -> ast.expr:
    """The same expression made of checked nodes only, with exact division and a whole result."""

    def walk(n: ast.expr) -> ast.expr:
        if isinstance(n, ast.Constant) and isinstance(n.value, int) and abs(n.value) < 2**63:
            return ast.Constant(n.value)
        if isinstance(n, ast.Name) and n.id in symbols:
            return ast.Name(n.id, ast.Load())
        if isinstance(n, ast.BinOp) and isinstance(n.op, _BINARY):
            if isinstance(n.op, ast.Div):
                return ast.Call(ast.Name("_div", ast.Load()), [walk(n.left), walk(n.right)], [])
            return ast.BinOp(walk(n.left), n.op, walk(n.right))
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow) and isinstance(n.right, ast.Constant):
            nested = any(isinstance(m, ast.Pow) for m in ast.walk(n.left))
            if type(n.right.value) is int and 0 <= n.right.value <= _POWER and not nested:
                return ast.BinOp(walk(n.left), n.op, ast.Constant(n.right.value))
        if isinstance(n, ast.UnaryOp) and isinstance(n.op, _UNARY):
            return ast.UnaryOp(ast.Not() if isinstance(n.op, ast.Invert) else n.op, walk(n.operand))
        if isinstance(n, ast.Compare) and all(isinstance(op, _COMPARE) for op in n.ops):
            return ast.Compare(walk(n.left), n.ops, [walk(c) for c in n.comparators])
        if isinstance(n, ast.BoolOp):
            return ast.BoolOp(n.op, [walk(v) for v in n.values])
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in _FUNCTIONS and not n.keywords:
            return ast.Call(ast.Name(f"_{n.func.id}", ast.Load()), [walk(a) for a in n.args], [])
        raise ArtifactError(
            f"the size expression {str(text)[:60]!r} holds {ast.unparse(n)[:40]!r}, which no size needs"
        )

    try:
        made = walk(node)
    except RecursionError as error:
        raise ArtifactError(f"the size expression {str(text)[:60]!r} is nested too deeply") from error
    if any(isinstance(n, ast.Call) for n in ast.walk(made)):
        return ast.Call(ast.Name("_whole", ast.Load()), [made], [])
    return made


def _whole(value: Any) -> Any:
    if isinstance(value, Fraction):
        if value.denominator != 1:
            raise ValueError(f"{value} is not a whole number")
        return int(value)
    return value


def _linear(n: ast.expr, symbols: frozenset[str]) -> tuple[dict[str, int], int] | None:
    if isinstance(n, ast.Constant) and type(n.value) is int:
        return {}, n.value
    if isinstance(n, ast.Name) and n.id in symbols:
        return {n.id: 1}, 0
    if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.USub):
        inner = _linear(n.operand, symbols)
        return inner and ({name: -factor for name, factor in inner[0].items()}, -inner[1])
    if isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Add, ast.Sub, ast.Mult)):
        left, right = _linear(n.left, symbols), _linear(n.right, symbols)
        if left is None or right is None:
            return None
        if isinstance(n.op, ast.Mult):
            if left[0] and right[0]:
                return None
            (factors, constant), k = (left, right[1]) if left[0] else (right, left[1])
            return {name: factor * k for name, factor in factors.items()}, constant * k
        sign = 1 if isinstance(n.op, ast.Add) else -1
        names = left[0] | right[0]
        return {name: left[0].get(name, 0) + sign * right[0].get(name, 0) for name in names}, left[1] + sign * right[1]
    return None
