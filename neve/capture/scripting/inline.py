"""Lambdas, and functions of one return in functions, put where they are called.

A call becomes the body with a comprehension over one value for each argument that is no plain name: it is computed
once, before the body, in order.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence

from neve.capture.scripting.unroll import bound, placed


def inline_lambdas(function: ast.FunctionDef) -> None:
    """Put the bodies of lambdas that are called directly, or by a name that stands for nothing else, in place."""
    for _ in range(DEPTH):
        before = ast.dump(function)
        function.body = _Inliner(function).block(function.body)
        if ast.dump(function) == before:
            return


DEPTH = 8
SIMPLE = (ast.Name, ast.Constant)


class _Inliner(ast.NodeTransformer):
    def __init__(self, function: ast.FunctionDef) -> None:
        self.root = function
        nodes = list(ast.walk(function))
        self.stored = [n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
        self.stored += [n.arg for n in nodes if isinstance(n, ast.arg)]
        self.stored += [n.name for n in nodes if isinstance(n, ast.FunctionDef) and n is not function]
        self.hidden = [bound(n) for n in nodes if isinstance(n, SCOPES) and n is not function]
        self.taken = {n.id for n in nodes if isinstance(n, ast.Name)} | set(self.stored)
        self.known: dict[str, ast.Lambda] = {}

    def block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements without those that only name a lambda."""
        done: list[ast.stmt] = []
        for k, statement in enumerate(body):
            found = _named(statement)
            if (
                found
                and self._only_called(found[0], body[k + 1 :])
                and self._fits(found[1])
                and self._all_given(*found)
            ):
                self.known[found[0]] = found[1]
                continue
            done.append(self.visit(statement))
        return done or [ast.copy_location(ast.Pass(), body[0])]

    def _only_called(self, name: str, rest: Sequence[ast.stmt]) -> bool:
        """Whether a name has one value, and all its uses are calls in these statements."""
        uses = [
            n for n in ast.walk(self.root) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
        ]
        calls = [n.func for s in rest for n in ast.walk(s) if isinstance(n, ast.Call)]
        return self.stored.count(name) == 1 and {id(u) for u in uses} <= {id(c) for c in calls}

    def _all_given(self, name: str, made: ast.Lambda) -> bool:
        calls = [n for n in ast.walk(self.root) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        return all(
            _given(made.args, c) is not None for c in calls if isinstance(c.func, ast.Name) and c.func.id == name
        )

    def _fits(self, made: ast.Lambda) -> bool:
        """Whether a lambda has plain arguments, and its other names mean the same everywhere in the function."""
        args = made.args
        plain = not (args.vararg or args.kwarg or args.kw_defaults or args.posonlyargs)
        own = bound(made)
        free = {n.id for n in ast.walk(made.body) if isinstance(n, ast.Name)} - own
        others = [h for h in self.hidden if not h <= own]
        inner = any(isinstance(n, (ast.Lambda, ast.NamedExpr, ast.Yield)) for n in ast.walk(made.body))
        constant = all(isinstance(d, ast.Constant) for d in args.defaults)
        shadowed = bound(made.body) & {a.arg for a in args.args}
        return plain and constant and not inner and not shadowed and not any(free & h for h in others)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name, part in ast.iter_fields(node):
            if isinstance(part, list) and part and isinstance(part[0], ast.stmt):
                setattr(node, name, self.block(part))
            elif isinstance(part, list):
                part[:] = [self.visit(p) if isinstance(p, ast.AST) else p for p in part]
            elif isinstance(part, ast.AST):
                setattr(node, name, self.visit(part))
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        made = node.func if isinstance(node.func, ast.Lambda) else None
        if isinstance(node.func, ast.Name):
            made = self.known.get(node.func.id)
        if made is None or not self._fits(made):
            return node
        values = _given(made.args, node)
        return self._body(made, values, node) if values is not None else node

    def _body(self, made: ast.Lambda, values: dict[str, ast.expr], place: ast.Call) -> ast.expr:
        names: dict[str, ast.expr] = {}
        loops: list[tuple[str, ast.expr]] = []
        inner = bound(made.body)
        for name, value in values.items():
            if isinstance(value, SIMPLE) and not (isinstance(value, ast.Name) and value.id in inner):
                names[name] = value
                continue
            fresh = next(n for k in range(10**6) if (n := f"{name}_{k}") not in self.taken)
            self.taken.add(fresh)
            names[name] = ast.Name(fresh, ast.Load())
            loops.append((fresh, value))
        body: ast.expr = _Replace(names).visit(copy.deepcopy(made.body))
        for fresh, value in reversed(loops):
            turn = ast.comprehension(ast.Name(fresh, ast.Store()), ast.List([value], ast.Load()), [], 0)
            body = ast.Subscript(ast.ListComp(body, [turn]), ast.Constant(0), ast.Load())
        done: ast.expr = placed(body, place)
        return done


SCOPES = (ast.Lambda, ast.FunctionDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class _Replace(ast.NodeTransformer):
    def __init__(self, names: dict[str, ast.expr]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return copy.deepcopy(self.names.get(node.id, node))


def _named(statement: ast.stmt) -> tuple[str, ast.Lambda] | None:
    """The name and the lambda of a statement that only gives it a name."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as made):
            return name, made
        case ast.FunctionDef(name=name, args=args, body=[ast.Return(value=ast.expr() as value)], decorator_list=[]):
            return name, ast.copy_location(ast.Lambda(args, value), statement)
    return None


def _given(args: ast.arguments, call: ast.Call) -> dict[str, ast.expr] | None:
    """What each argument of a lambda gets, in the order of evaluation; None if it is not known."""
    names = [a.arg for a in args.args]
    if any(isinstance(n, (ast.Starred, ast.NamedExpr)) for n in ast.walk(call)) or len(call.args) > len(names):
        return None
    values = dict(zip(names, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg not in names or keyword.arg in values:
            return None
        values[keyword.arg] = keyword.value
    for name, default in zip(names[len(names) - len(args.defaults) :], args.defaults, strict=True):
        values.setdefault(name, default)
    return values if len(values) == len(names) else None
