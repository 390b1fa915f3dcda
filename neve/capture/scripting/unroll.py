"""Loops over what is known at capture, as one copy of the body for each iteration.

torch.jit takes names for getattr, and numbers of modules in a list, only as literals. Where a loop's variable decides
them, the body is repeated with the variable's values in its place.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Callable, Sequence
from typing import Any

NOTHING = object()
"""Stands for a value that is not known at capture."""
MAX_COPIES = 256
NAMED = frozenset({"getattr", "hasattr"})
PURE = frozenset({"str", "int", "float", "bool", "len", "range", "min", "max", "abs", "round", "list", "tuple"})
PURE_METHODS = frozenset({"format", "lower", "upper", "strip", "replace", "removeprefix", "removesuffix"})
BUILTINS = PURE | NAMED | {"enumerate", "zip", "reversed"}
"""Names that must mean what they mean in Python."""
EXPRESSIONS = (ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.FormattedValue, ast.Slice)
FORMS = (ast.Constant, ast.JoinedStr, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare, ast.BoolOp, ast.Tuple, ast.List)

Find = Callable[[ast.expr], Any]


def value_of(node: ast.expr, find: Find) -> Any:
    """The value of an expression of literals, pure functions and what `find` knows; NOTHING if it has other parts."""
    names: dict[str, Any] = {}

    class Known(ast.NodeTransformer):
        def visit(self, part: ast.AST) -> Any:
            value = find(part) if isinstance(part, (ast.Name, ast.Attribute, ast.Call)) else NOTHING
            if value is not NOTHING:
                names[f"_{len(names)}"] = value
                return ast.Name(f"_{len(names) - 1}", ast.Load())
            return self.generic_visit(part)

    made = ast.fix_missing_locations(Known().visit(copy.deepcopy(node)))
    if not _is_pure(made, names):
        return NOTHING

    try:
        code = compile(ast.Expression(made), "<known>", "eval")
        return eval(code, {"__builtins__": {k: getattr(builtins, k) for k in PURE}, **names})
    except Exception:
        return NOTHING


def _is_pure(node: ast.AST, names: dict[str, Any]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in names
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]):
            return name in PURE and all(_is_pure(p, names) for p in parts)
        case ast.Call(func=ast.Attribute(value=text, attr=name), args=parts, keywords=[]):
            return name in PURE_METHODS and all(_is_pure(p, names) for p in (text, *parts))
        case ast.Subscript():
            pass
        case _ if not isinstance(node, (*FORMS, *EXPRESSIONS)):
            return False
    return all(_is_pure(p, names) for p in ast.iter_child_nodes(node))


def bound(node: ast.AST) -> set[str]:
    """The names that get values in a piece of code."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)} | {
        n.arg for n in ast.walk(node) if isinstance(n, ast.arg)
    }


def rename(code: ast.AST, old: str | None, new: str) -> None:
    """Give a variable or argument another name, in place."""
    for part in ast.walk(code):
        if isinstance(part, ast.Name) and part.id == old:
            part.id = new
        elif isinstance(part, ast.arg) and part.arg == old:
            part.arg = new


class Unroller(ast.NodeTransformer):
    """Repeats the bodies of loops in a function, in place.

    find: the value of a name or dotted name, or NOTHING; modules: how many modules an nn.ModuleList or nn.Sequential
    has, or None if an expression is none.
    """

    def __init__(self, function: ast.FunctionDef, find: Find, modules: Callable[[ast.expr], int | None]) -> None:
        self.find, self.modules = find, modules
        self.loads = _loads(function)
        self.texts: dict[str, ast.expr] = {}
        function.body = self._block(function.body)

    def _block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements in order, with what text variables hold in place of those that getattr is given."""
        before, done = dict(self.texts), []
        for statement in body:
            if isinstance(statement, (ast.For, ast.While)):
                self._forget(bound(statement))
            made = self.visit(statement)
            done += made if isinstance(made, list) else [made]
            self._forget(bound(statement))
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    if isinstance(value, (ast.JoinedStr, ast.BinOp, ast.Constant, ast.Call)) and name not in _loads(
                        value
                    ):
                        self.texts[name] = value
        self.texts = before
        return done

    def _forget(self, written: set[str]) -> None:
        self.texts = {k: v for k, v in self.texts.items() if k not in written and not written & _loads(v).keys()}

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, self._block(block))
        for name, part in ast.iter_fields(node):
            if isinstance(part, ast.AST):
                setattr(node, name, self.visit(part))
            elif isinstance(part, list) and name not in ("body", "orelse", "finalbody"):
                part[:] = [self.visit(p) if isinstance(p, ast.AST) else p for p in part]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id=called), args=[_, ast.Name(id=name), *_]) if called in NAMED:
                if name in self.texts:
                    node.args[1] = placed(self.texts[name], node.args[1])
        return self.generic_visit(node)

    def visit_For(self, node: ast.For) -> Any:
        inside = _loads(node)
        self.generic_visit(node)
        targets = bound(node.target)
        again = any(targets & bound(s) for s in node.body)
        if again or node.orelse or _leaves(node.body) or not self._decides(node, targets):
            return node
        iterations = self._iterations(node.iter)
        if iterations is None or len(iterations) * len(list(ast.walk(node))) > MAX_COPIES * 40 or not iterations:
            return node
        done: list[ast.stmt] = []
        for iteration in iterations:
            values = _matched(node.target, iteration)
            if values is None:
                return node
            for name, value in values.items():
                if self.loads.get(name, 0) > inside.get(name, 0):  # read behind the loop
                    done.append(placed(ast.Assign([ast.Name(name, ast.Store())], value), node))
            done += [_Put(values, self.find).visit(copy.deepcopy(s)) for s in node.body]
        return done

    def _decides(self, node: ast.For, targets: set[str]) -> bool:
        """Whether the variable decides a name or a module in the body."""
        for part in (p for s in node.body for p in ast.walk(s)):
            match part:
                case ast.Call(func=ast.Name(id=called), args=[_, name, *_]) if called in NAMED:
                    chosen = name
                case ast.Subscript(value=value, slice=index) if self.modules(value) is not None:
                    chosen = index
                case _:
                    continue
            if any(isinstance(n, ast.Name) and n.id in targets for n in ast.walk(chosen)):
                return True
        return False

    def _iterations(self, node: ast.expr) -> list[ast.expr] | None:
        """What a loop's variable is in each iteration: literals, and modules in lists; None if that is not known."""
        match node:
            case ast.Call(func=ast.Name(id="enumerate"), args=[inner, *start], keywords=[]):
                first = value_of(start[0], self.find) if start else 0
                items = self._iterations(inner)
                if items is None or type(first) is not int:
                    return None
                return [ast.Tuple([ast.Constant(first + k), v], ast.Load()) for k, v in enumerate(items)]
            case ast.Call(func=ast.Name(id="zip"), args=[_, *_] as parts, keywords=[]):
                columns = [c for p in parts if (c := self._iterations(p)) is not None]
                if len(columns) < len(parts):
                    return None
                return [ast.Tuple([*row], ast.Load()) for row in zip(*columns, strict=False)]
            case ast.Call(func=ast.Name(id="reversed"), args=[inner], keywords=[]):
                items = self._iterations(inner)
                return items and items[::-1]
        count = self.modules(node)
        if count is not None:
            return [ast.Subscript(node, ast.Constant(k), ast.Load()) for k in range(count)]
        values = value_of(node, self.find)
        if not isinstance(values, (list, tuple, range)) or len(values) > MAX_COPIES:
            return None
        literals = [i for v in values if (i := _literal(v)) is not None]
        return literals if len(literals) == len(values) else None


class _Put(ast.NodeTransformer):
    """Expressions in place of variables; comparisons that they decide are decided, as torch.jit skips such branches."""

    def __init__(self, values: dict[str, ast.expr], find: Find) -> None:
        self.values, self.find = values, find

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        value = value_of(node, self.find)
        return ast.copy_location(ast.Constant(value), node) if type(value) is bool else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return placed(self.values[node.id], node) if node.id in self.values else node


def placed(node: Any, place: ast.AST) -> Any:
    """A copy of a piece of code, all of it at the place of another: torch.jit looks for names in the source there."""
    made = copy.deepcopy(node)
    for part in ast.walk(made):
        if isinstance(part, (ast.expr, ast.stmt)):
            ast.copy_location(part, place)
    return made


def _literal(value: Any) -> ast.expr | None:
    if type(value) is int and value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    if type(value) in (bool, int, str):
        return ast.Constant(value)
    if type(value) in (list, tuple):
        items = [i for v in value if (i := _literal(v)) is not None]
        return ast.Tuple(items, ast.Load()) if len(items) == len(value) else None
    return None


def _matched(target: ast.expr, value: ast.expr) -> dict[str, ast.expr] | None:
    """What a loop's variables are; None if they do not fit the value."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    if not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple) or len(target.elts) != len(value.elts):
        return None
    parts = [_matched(t, v) for t, v in zip(target.elts, value.elts, strict=True)]
    return None if None in parts else {k: v for p in parts if p for k, v in p.items()}


def _leaves(body: Sequence[ast.stmt]) -> bool:
    """Whether a loop's body has a break or continue of its own."""
    for statement in body:
        if isinstance(statement, (ast.Break, ast.Continue)):
            return True
        inner = [b for b in ("body", "orelse") if hasattr(statement, b)]
        if isinstance(statement, (ast.For, ast.While)):
            inner = ["orelse"]
        if any(_leaves(getattr(statement, b)) for b in inner):
            return True
    return False


def _loads(node: ast.AST) -> dict[str, int]:
    """How often names are read."""
    counts: dict[str, int] = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            counts[part.id] = counts.get(part.id, 0) + 1
    return counts
