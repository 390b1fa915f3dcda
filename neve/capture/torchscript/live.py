"""Which variables loops and branches hand on: those read outside, and what an iteration may read before it sets it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from functools import cache


@cache
def unread(function: ast.FunctionDef, statement: ast.stmt) -> frozenset[str]:
    """The variables that a branch or loop in a function sets and nothing else reads; no iteration of a loop reads them
    from an earlier one either.
    """
    inside = {id(n) for n in ast.walk(statement)}
    wanted = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and id(n) not in inside and _loads(n)}
    if isinstance(statement, ast.While):
        wanted |= _reads(statement.test) | _exposed(statement.body, set())
    elif isinstance(statement, ast.For):
        wanted |= _reads(statement.iter) | _exposed(statement.body, _targets([statement.target]))
    return frozenset(_targets([statement]) - wanted)


def _loads(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Load)


def _reads(node: ast.AST | None) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and _loads(n)} if node is not None else set()


def _exposed(body: Iterable[ast.stmt], known: set[str]) -> set[str]:
    """What statements may read before they set it; `known` grows by what they certainly set."""
    found: set[str] = set()
    for s in body:
        if isinstance(s, ast.If):
            found |= _reads(s.test) - known
            sides = [set(known), set(known)]
            found |= _exposed(s.body, sides[0]) | _exposed(s.orelse, sides[1])
            known |= sides[0] & sides[1]
        elif isinstance(s, (ast.While, ast.For)):
            found |= _reads(s.test if isinstance(s, ast.While) else s.iter) - known
            inner = set(known) | (_targets([s.target]) if isinstance(s, ast.For) else set())
            found |= _exposed(s.body, inner)
        elif isinstance(s, (ast.Assign, ast.AnnAssign)):
            targets: Sequence[ast.expr] = s.targets if isinstance(s, ast.Assign) else [s.target]
            found |= _reads(s.value) - known
            found |= set().union(*(_reads(t) for t in targets)) - known
            if s.value is not None:
                known |= _targets(targets)
        else:
            found |= _reads(s) - known
    return found


def _targets(targets: Iterable[ast.AST]) -> set[str]:
    return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and not _loads(n)}
