"""*args and **kwargs whose number and names were the same in every call: as arguments with names."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from neve.capture.scripting.observe import Seen


def name_arguments(function: ast.FunctionDef, seen: Seen, taken: set[str]) -> None:
    """Give names to the arguments that a function takes as *args and **kwargs, in place.

    seen: with which it was called; taken: names that have a meaning in it. Where calls differ, or **kwargs is used in
    another way than by keys that are literals, it stays as it is.
    """
    args = function.args
    if args.vararg is not None:
        named = _positional(args.vararg, seen, taken)
        if named is not None:
            place, args.vararg = args.vararg, None
            args.args = [*args.args, *named]
            items: list[ast.expr] = [ast.Name(a.arg, ast.Load()) for a in named]
            made = ast.Assign([ast.Name(place.arg, ast.Store())], ast.Tuple(items, ast.Load()))
            for part in ast.walk(made):
                ast.copy_location(part, place)
            function.body.insert(0, made)
    if args.kwarg is not None and args.vararg is None:
        keys = seen.keys.get(args.kwarg.arg, set())
        if len(keys) == 1 and not {*next(iter(keys))} & taken:
            _keywords(function, args.kwarg, next(iter(keys)))


def _positional(arg: ast.arg, seen: Seen, taken: set[str]) -> list[ast.arg] | None:
    counts = seen.counts.get(arg.arg, set())
    if len(counts) != 1:
        return None
    (count,) = counts
    kinds: Sequence[ast.expr | None] = [arg.annotation] * count
    if arg.annotation is None and count:
        match ast.parse(seen.argument(arg.arg) or "None", mode="eval").body:
            case ast.Subscript(value=ast.Name(id="Tuple"), slice=ast.Tuple(elts=elts)):
                kinds = elts
            case ast.Subscript(value=ast.Name(id="Tuple"), slice=single):
                kinds = [single]
            case _:
                return None
    names = [f"{arg.arg}{k}" for k in range(count)]
    if taken & {*names}:
        return None
    made = [
        ast.arg(n, None if ast.unparse(k or ast.Name("Tensor")) == "Tensor" else k)
        for n, k in zip(names, kinds, strict=True)
    ]
    for one in made:
        for part in ast.walk(one):
            ast.copy_location(part, arg)
    return made


def _keywords(function: ast.FunctionDef, arg: ast.arg, keys: Sequence[str]) -> None:
    uses = [n for s in function.body for n in ast.walk(s) if isinstance(n, ast.Name) and n.id == arg.arg]
    change = _Keys(arg.arg, keys)
    if not uses or _Keys(arg.arg, keys).count(function) == len(uses):
        change.generic_visit(ast.Module(function.body, []))
        function.args.kwarg = None
        function.args.args = [*function.args.args, *(ast.copy_location(ast.arg(k), arg) for k in keys)]


class _Keys(ast.NodeTransformer):
    """Uses of **kwargs by keys that are literals, as names."""

    def __init__(self, name: str, keys: Sequence[str]) -> None:
        self.name, self.keys = name, keys

    def count(self, function: ast.FunctionDef) -> int:
        """How many uses can be said so."""
        nodes = [n for s in function.body for n in ast.walk(s)]
        return sum(self._said(n) is not None for n in nodes if isinstance(n, ast.expr)) + sum(
            self._spread(k) for n in nodes if isinstance(n, ast.Call) for k in n.keywords
        )

    def _spread(self, keyword: ast.keyword) -> bool:
        return keyword.arg is None and isinstance(keyword.value, ast.Name) and keyword.value.id == self.name

    def _said(self, node: ast.expr) -> ast.expr | None:
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=key), ctx=ast.Load()) if (
                name == self.name
            ):
                return ast.Name(str(key), ast.Load()) if key in self.keys else None
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get"),
                args=[ast.Constant(value=key), *default],
                keywords=[],
            ) if len(default) < 2 and name == self.name:
                return (
                    ast.Name(str(key), ast.Load())
                    if key in self.keys
                    else default[0]
                    if default
                    else ast.Constant(None)
                )
            case ast.Compare(left=ast.Constant(value=key), ops=[op], comparators=[ast.Name(id=name)]) if (
                name == self.name
            ):
                known = isinstance(op, ast.In | ast.NotIn)
                return ast.Constant((key in self.keys) is isinstance(op, ast.In)) if known else None
        return None

    def visit(self, node: ast.AST) -> ast.AST:
        made = self._said(node) if isinstance(node, ast.expr) else None
        if made is not None:
            node = ast.copy_location(made, node)
        if isinstance(node, ast.Call):
            node.keywords = [k for old in node.keywords for k in self._spelled(old)]
        self.generic_visit(node)
        return node

    def _spelled(self, old: ast.keyword) -> list[ast.keyword]:
        if not self._spread(old):
            return [old]
        return [ast.keyword(k, ast.copy_location(ast.Name(k, ast.Load()), old.value)) for k in self.keys]
