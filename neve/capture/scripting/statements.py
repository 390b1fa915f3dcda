"""Statements that torch.jit does not know, as those that it does.

:= in what a statement computes first, match on constants, the else of loops, comprehensions with conditions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any

from neve.capture.scripting.in_place import spelled_out
from neve.capture.scripting.unroll import bound, placed, rename

LOOPS = (ast.For, ast.While)


class Simplifier(ast.NodeTransformer):
    """Rewrites a function in place. taken: names that have a meaning in it; torch_name: what torch is called there; at:
    what tells the place of a line.
    """

    def __init__(
        self, function: ast.FunctionDef, taken: set[str], torch_name: str | None, at: Callable[[int], str]
    ) -> None:
        self.taken, self.torch_name, self.at = taken, torch_name, at
        function.body = self._block(function.body)

    def _block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        for statement in body:
            made = self._simple(statement)
            for one in made:
                for name in ("body", "orelse", "finalbody"):
                    if isinstance(block := getattr(one, name, None), list) and not isinstance(one, ast.FunctionDef):
                        setattr(one, name, self._block(block))
            done += made
        return done

    def _fresh(self, name: str) -> str:
        made = next(n for k in range(10**6) if (n := f"{name}_{k}") not in self.taken)
        self.taken.add(made)
        return made

    def _simple(self, statement: ast.stmt) -> list[ast.stmt]:
        match statement:
            case ast.Match():
                made = self._branches(statement)
                return [s for m in made for s in self._simple(m)] if made else [statement]
            case ast.For(orelse=[_, *_]) | ast.While(orelse=[_, *_]):
                return self._with_flag(statement)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.ListComp() as made) if _has_more(made, name):
                return self._appended(statement, name, made)
            case ast.AugAssign():
                made = spelled_out(statement, self.torch_name, self.at(statement.lineno))
                return [s if s is statement else placed(s, statement) for s in made]
            case ast.If():
                statement.test, before = _assigned(statement.test)
            case ast.Assign() | ast.Return() | ast.Expr() if statement.value is not None:
                statement.value, before = _assigned(statement.value)
            case ast.Assert():
                statement.test, before = _assigned(statement.test)
            case _:
                before = []
        return [*before, statement]

    # The else of loops.

    def _with_flag(self, loop: ast.For | ast.While) -> list[ast.stmt]:
        """A loop without else; a flag tells whether a break left it."""
        flag = self._fresh("whole")
        set_to = [placed(ast.Assign([ast.Name(flag, ast.Store())], ast.Constant(v)), loop) for v in (True, False)]
        loop.body = _before_breaks(self._block(loop.body), set_to[1])
        behind = placed(ast.If(ast.Name(flag, ast.Load()), [ast.Pass()], []), loop)
        behind.body, loop.orelse = loop.orelse, []
        return [set_to[0], loop, behind]

    # Comprehensions.

    def _appended(self, place: ast.stmt, name: str, made: ast.ListComp) -> list[ast.stmt]:
        """A list that loops append to; the loops' variables get names of their own."""
        first = made.generators[0].iter
        made.generators[0].iter = ast.Constant(None)
        for old in sorted(bound(made)):
            rename(made, old, self._fresh(old))
        made.generators[0].iter = first
        append = ast.Attribute(ast.Name(name, ast.Load()), "append", ast.Load())
        body: ast.stmt = ast.Expr(ast.Call(append, [made.elt], []))
        for iteration in reversed(made.generators):
            for test in reversed(iteration.ifs):
                body = ast.If(test, [body], [])
            body = ast.For(iteration.target, iteration.iter, [body], [])
        empty = ast.Assign([ast.Name(name, ast.Store())], ast.List([], ast.Load()))
        return [placed(empty, place), placed(body, place)]

    # match.

    def _branches(self, node: ast.Match) -> list[ast.stmt] | None:
        """if and elif for cases that are constants, alternatives of them, or everything."""
        name = self._fresh("subject")
        tests = [_test(c, name) for c in node.cases]
        if None in tests:
            return None
        rest: list[ast.stmt] = []
        for case, test in zip(reversed(node.cases), reversed(tests), strict=True):
            made = placed(ast.If(test or ast.Constant(True), [ast.Pass()], []), case.body[0])
            made.body, made.orelse = case.body, rest
            rest = [made] if not _is_all(case) else case.body
        return [placed(ast.Assign([ast.Name(name, ast.Store())], node.subject), node), *rest]


def _has_more(made: ast.ListComp, name: str) -> bool:
    """Whether a comprehension that gives a name its value has more than one loop, and does not read the name."""
    more = len(made.generators) > 1 or any(g.ifs for g in made.generators)
    return more and not any(isinstance(n, ast.NamedExpr) or getattr(n, "id", "") == name for n in ast.walk(made))


def _is_all(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.name is None


def _test(case: ast.match_case, name: str) -> ast.expr | None:
    """The condition of a case on a variable; None if it is more than comparisons with constants."""
    pattern = case.pattern
    parts = pattern.patterns if isinstance(pattern, ast.MatchOr) else [pattern]
    tests = [_compared(p, name) for p in parts]
    known = [t for t in tests if t is not None]
    if len(known) < len(tests):
        return None
    test = known[0] if len(known) == 1 else ast.BoolOp(ast.Or(), known)
    return test if case.guard is None else ast.BoolOp(ast.And(), [test, case.guard])


def _compared(pattern: ast.pattern, name: str) -> ast.expr | None:
    left = ast.Name(name, ast.Load())
    match pattern:
        case ast.MatchValue(value=value):
            return ast.Compare(left, [ast.Eq()], [value])
        case ast.MatchSingleton(value=None):
            return ast.Compare(left, [ast.Is()], [ast.Constant(None)])
        case ast.MatchAs(pattern=None, name=None):
            return ast.Constant(True)
    return None


# := in what a statement computes first.


def _assigned(value: ast.expr) -> tuple[ast.expr, list[ast.stmt]]:
    """An expression without the := that is computed first in it, and the statements for it."""
    before: list[ast.stmt] = []
    while True:
        found = _first(value)
        if found is None:
            return value, before
        inner, more = _assigned(found.value)
        before += [*more, placed_assign(found, inner)]
        name = ast.copy_location(ast.Name(found.target.id, ast.Load()), found)
        value = name if value is found else _Swap(found, name).visit(value)


def placed_assign(found: ast.NamedExpr, value: ast.expr) -> ast.stmt:
    """The statement of a :=."""
    return ast.copy_location(
        ast.Assign([ast.copy_location(ast.Name(found.target.id, ast.Store()), found)], value), found
    )


def _first(node: ast.expr) -> ast.NamedExpr | None:
    """The := of an expression before which nothing else is computed."""
    called: set[str] = set()
    while True:
        match node:
            case ast.NamedExpr():
                return node if node.target.id not in called else None
            case ast.Compare(left=part) | ast.BinOp(left=part) | ast.UnaryOp(operand=part) | ast.IfExp(test=part):
                node = part
            case ast.BoolOp(values=[part, *_]) | ast.Attribute(value=part) | ast.Subscript(value=part):
                node = part
            case ast.Tuple(elts=[part, *_]) | ast.List(elts=[part, *_]):
                node = part
            case ast.Call(func=ast.Name(id=name), args=[part, *_]):
                node = part
                called.add(name)
            case ast.Call(func=part):
                node = part
            case _:
                return None


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def _before_breaks(body: Sequence[ast.stmt], added: ast.stmt) -> list[ast.stmt]:
    """A loop's body with a statement before each break that leaves it."""
    done: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.Break):
            done.append(placed(added, statement))
        names = ["orelse"] if isinstance(statement, LOOPS) else ["body", "orelse"]
        for name in names:
            block = getattr(statement, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                setattr(statement, name, _before_breaks(block, added))
        done.append(statement)
    return done
