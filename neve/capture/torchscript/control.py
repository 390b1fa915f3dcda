"""What branches and loops of the run share: a body run in a region of its own, and values that differ made one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.grown import number, same_number, size_of, zeros
from neve.capture.torchscript.numbers import convert, decided, is_number, kind_of
from neve.capture.torchscript.pickles import Member
from neve.capture.torchscript.tape import Invalidated, Region
from neve.capture.torchscript.values import (
    Dim,
    Length,
    Names,
    Num,
    PackedSizes,
    Raised,
    Refusal,
    Uninitialized,
    Var,
    describe,
    restore,
)

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Frame, Machine

Changes = dict[int, tuple[Any, Any]]
"""id of a container → (it, what it holds after a body)."""


@dataclass
class Side:
    """What one side of a branch, or a loop's body, did."""

    region: Region
    locals: dict[str, Any]
    changes: Changes
    invalidated: Invalidated
    raised: str | None = None


def run_side(m: Machine, frame: Frame, body: Callable[[], None], needs: Names) -> Side:
    """Run body in a region of its own; variables, containers and what is invalidated are as before afterwards."""
    before, clean = dict(frame.locals), m.tape.invalidated
    m.tape.invalidated = dict(clean)
    region = m.tape.open()
    m.heap.begin()
    raised = None
    try:
        body()
    except Raised as error:
        raised = error.message
    except Refusal as error:
        error.needs |= needs
        raise
    finally:
        changes = m.heap.end()
        m.tape.close()
        after, frame.locals = frame.locals, before
        invalidated, m.tape.invalidated = m.tape.invalidated, clean
    known = m.reachable()
    for container, held in (c for key, c in changes.items() if key not in known):
        restore(container, held)  # made by the body: nothing to undo
    return Side(region, after, changes, invalidated, raised)


@contextmanager
def inside(m: Machine, side: Side) -> Iterator[None]:
    """Record into the region of a side that has been run."""
    before = m.tape.region, m.tape.invalidated
    m.tape.region, m.tape.invalidated = side.region, side.invalidated
    try:
        yield
    finally:
        m.tape.region, m.tape.invalidated = before


def condition(m: Machine, value: Any) -> bool | Num:
    """A value as a condition: True or False if that is known now."""
    if isinstance(value, Var):
        known = m.tape.known_bool(value)
        if known is not None:
            return known
        raise Refusal("a tensor is used as a condition without bool()")
    value = convert(m.tape, value, bool) if is_number(value) else value
    if not is_number(value):
        raise Refusal(f"{describe(value)} is used as a condition")
    truth = decided(m.tape, value)
    return value if truth is None else truth


def leaf(m: Machine, value: Any, pair: Sequence[Any]) -> Var:
    """A value of a side as a tensor of the innermost region."""
    if isinstance(value, Var):
        return m.tape.use(value)
    if isinstance(value, Uninitialized):
        other = next(v for v in pair if not isinstance(v, Uninitialized))
        if isinstance(other, Var):
            return zeros(m, [size_of(m, n) for n in other.meta.shape], other.meta.dtype)
        value = 0 if isinstance(other, Length) else kind_of(other)(0)
    if isinstance(value, Length):
        value = number(m, value)
    if isinstance(value, Dim):
        return m.tape.resolve(size_tensor(m, value))
    return m.tape.resolve(m.tape.number(value, kind_of(value)))


def size_tensor(m: Machine, value: Dim) -> Var:
    """A number computed from sizes as a 0-d tensor."""
    return m.tape.number(value, value.kind)


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal, as ints or as the same expression; symbols are not guarded on."""
    return len(a) == len(b) and all(str(x) == str(y) for x, y in zip(a, b, strict=True))


def shared(m: Machine, out: Var, *sources: tuple[Region, Var]) -> None:
    """Note which outer tensors a result may be."""
    for region, var in sources:
        m.tape.may_share(out, [r for r in m.tape.may_be(var) if not region.inside(r)])


def group_sharing(m: Machine, outs: Sequence[Var], *sides: Sequence[Var]) -> None:
    """Results that are one tensor on some side share its memory."""
    for side in sides:
        roots: dict[Var, Var] = {}
        for out, var in zip(outs, side, strict=False):
            for root in m.tape.may_be(var):
                first = roots.setdefault(root, out)
                if first is not out:
                    m.tape.may_share(out, [first])


def wrap(out: Var, like: Any) -> Any:
    return out if isinstance(like, Var) else Num(int if isinstance(like, Length) else kind_of(like), out)


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same thing, whatever the run."""
    if a is b:
        return True
    if isinstance(a, (bool, int, float, str, torch.device)) or a is None:
        return type(a) is type(b) and (a == b or (a != a and b != b)) and str(a) == str(b)
    if isinstance(a, Member):
        return isinstance(b, Member) and a.cls == b.cls and same(a.value, b.value)
    if isinstance(a, PackedSizes) and isinstance(b, PackedSizes):
        return same(a.batch, b.batch) and same(a.count, b.count)
    if isinstance(a, Length) and isinstance(b, Length):
        return a.origin is b.origin and same(a.value, b.value) and (same(a.most, b.most) or same_number(a.most, b.most))
    if isinstance(a, (Num, Dim)) and type(a) is type(b):
        return a.kind is b.kind and a.var is b.var
    return False


def mergeable(value: Any) -> bool:
    return isinstance(value, Var) or is_number(value)
