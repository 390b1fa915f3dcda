"""A loop cut where a guard changes along it, such as at the edges of a padded row: inside a piece there is no guard."""

from __future__ import annotations

from collections.abc import Iterator

from neve.ir.index import Index, Var, data_atoms
from neve.ir.loops import Call, Expr, Guard, guard

Condition = tuple[Index, Index]
MOST = 3
"""So many cuts at most: each makes three loops of one."""


def changing(e: Expr, v: Var) -> tuple[Condition, Index, Index] | None:
    """A condition of a guard in e that changes with v, and where: it holds from begin to end - 1. None if there is
    none that is known before the loop.
    """
    for i, n in _conditions(e):
        form = i.affine(v)
        known = form is not None and v not in n.vars and not any(data_atoms(form[1])) and not any(data_atoms(n))
        if form is None or not known or v not in i.vars:
            continue
        step, rest, start = form[0].const, form[1], Index.of(0)
        low, high = not i.nonnegative, not (n - 1 - i.bound(upper=True)).nonnegative
        if step == 1:
            return (i, n), -rest if low else start, n - rest if high else v.extent
        if step == -1:
            return (i, n), rest - n + 1 if high else start, rest + 1 if low else v.extent
    return None


def resolved(e: Expr, condition: Condition, holds: bool) -> Expr:
    """e where a condition holds, or does not, throughout."""
    if isinstance(e, Call):
        return Call(e.fn, tuple(resolved(a, condition, holds) for a in e.args), e.dtype)
    if not isinstance(e, Guard):
        return e
    other = resolved(e.other, condition, holds)
    if condition in e.conditions and not holds:
        return other
    return guard([c for c in e.conditions if c != condition], resolved(e.then, condition, holds), other)


def _conditions(e: Expr) -> Iterator[Condition]:
    if isinstance(e, Guard):
        yield from e.conditions
    for c in e.children:
        yield from _conditions(c)
