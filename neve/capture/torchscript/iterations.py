"""How often a loop of the run can iteration: what its condition compares a counted variable with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neve.capture.torchscript.numbers import binary
from neve.capture.torchscript.tape import ATEN, Region
from neve.capture.torchscript.values import Dim, Length, Num, Var

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

COMPARISONS = {
    ATEN.lt.Tensor: ("lt", False), ATEN.le.Tensor: ("le", False), ATEN.gt.Tensor: ("lt", True),
    ATEN.ge.Tensor: ("le", True),
}  # fmt: skip
ANDS = frozenset({ATEN.logical_and.default, ATEN.bitwise_and.Tensor})


@dataclass(frozen=True)
class Iterations:
    """most: an int or Dim; exact: whether the loop iterations just so often."""

    most: Any
    exact: bool = False


def of_range(m: Machine, start: Any, stop: Any, step: int) -> Iterations | None:
    """The iterations of a loop over range(start, stop, step) that nothing breaks; None if numbers of the run decide."""
    if all(type(v) is int for v in (start, stop)):
        return Iterations(len(range(start, stop, step)), True)
    if step < 1 or type(start) is not int or start < 0 or not isinstance(stop, Dim):
        return None
    if start == 0 and step == 1:
        return Iterations(stop, True)
    return Iterations(stop)  # at most, and no negative number for small sizes


def bound(
    m: Machine, go: Any, params: Mapping[Any, Any], starts: Mapping[Any, Any], ends: Mapping[Any, Any]
) -> Iterations | None:
    """A bound on the iterations of a loop that goes on if `go` (of the body's region).

    Some variable of it is counted up by a constant each iteration, or some list grows, and stays below a number that is
    known or a size. None if there is none.
    """
    if not isinstance(go, Num):
        return None
    counters = {}
    for place, end in ends.items():
        param, start = params.get(place), starts.get(place)
        if isinstance(param, Num) and param.kind is int and isinstance(end, Num) and not isinstance(start, Length):
            step = offset(end.var, param.var)
            if step > 0 and (type(start) is int or isinstance(start, Dim)):
                counters[param.var] = start, step
    return _below(m, go.var, counters) or _by_length(m, go, params, ends)


def _below(m: Machine, go: Var, counters: Mapping[Var, tuple[Any, int]]) -> Iterations | None:
    step = go.step
    if step is None:
        return None
    if step.op in ANDS:
        found = (_below(m, a, counters) for a in step.args)
        return next((t for t in found if t is not None), None)
    if step.op == "cond":
        pred, _, orelse, _ = step.args
        never = _constant(orelse.outputs[step.outs.index(go)]) == 0
        return _below(m, pred, counters) if never else None
    if step.op not in COMPARISONS:
        return None
    name, turned = COMPARISONS[step.op]
    low, high = reversed(step.args) if turned else step.args
    limit = _known(m, high, go.region)
    for param, (start, by) in counters.items():
        ahead = offset(low, param)
        if limit is not None and ahead >= 0 and type(start) is int and start + ahead >= 1:
            return _iterations(m, limit, start + ahead, by, name == "le")
    return None


def _iterations(m: Machine, limit: Any, first: int, by: int, equal: bool) -> Iterations:
    """The first iteration is made whatever the limit is, each other one if first + by * those so far is below it."""
    if type(limit) is int:
        return Iterations(1 + max(-((first - limit - equal) // by), 0))
    return Iterations(binary(m.tape, "add", limit, 1))


def _by_length(m: Machine, go: Num, params: Mapping[Any, Any], ends: Mapping[Any, Any]) -> Iterations | None:
    """A bound from a list that is longer after each iteration after which the loop goes on, then below a number."""
    for place, end in ends.items():
        start = params.get(place)
        if not isinstance(end, Length) or not isinstance(start, Num) or type(end.most) is not int:
            continue
        for low, high, equal, after in _implied(go.var, True, end.value.var if isinstance(end.value, Num) else None):
            limit = _known(m, _outer(high), go.var.region)
            grows = end.most > 0 if end.value is None else offset(after, start.var) > 0
            above = offset(low, start.var) >= end.most or (after is not None and offset(low, after) >= 0)
            if limit is not None and grows and above:
                return Iterations(max(limit + equal, 0) + 1 if type(limit) is int else binary(m.tape, "add", limit, 2))
    return None


def _implied(var: Var, truth: bool, length: Var | None) -> Iterator[tuple[Var, Var, bool, Var | None]]:
    """(a, b, equal, length) with a < b, or a <= b if equal, that follow from a condition's being true or false; length
    is what the length is then.
    """
    step = var.step
    if step is None:
        return
    if step.op in ANDS and truth:
        for a in step.args:
            yield from _implied(a, True, length)
    elif step.op is ATEN.logical_not.default:
        yield from _implied(step.args[0], not truth, length)
    elif step.op in COMPARISONS:
        name, turned = COMPARISONS[step.op]
        low, high = reversed(step.args) if turned else step.args
        yield (low, high, name == "le", length) if truth else (high, low, name == "lt", length)
    elif step.op == "cond":
        pred, *sides, _ = step.args
        for taken, other in ((0, 1), (1, 0)):
            end = {out: sides[taken].outputs[k] for k, out in enumerate(step.outs)}
            if _constant(sides[other].outputs[step.outs.index(var)]) == (not truth):
                inner = end.get(length, length) if length is not None else None
                yield from _implied(pred, taken == 0, inner)
                yield from _implied(end[var], truth, inner)


def _outer(var: Any) -> Any:
    while isinstance(var, Var) and var.outer is not None:
        var = var.outer
    return var


def offset(var: Any, param: Var) -> int:
    """The constant c if var is param + c; -1 if it is not."""
    total = 0
    param = param.region.captured.get(param, param)
    while isinstance(var, Var) and var is not param and _outer(var) is not _outer(param):
        step = var.step
        if step is None or step.op is not ATEN.add.Tensor or len(step.args) != 2:
            return -1
        constants = [a for a in step.args if _constant(a) is not None]
        if len(constants) != 1:
            return -1
        total += _constant(constants[0]) or 0
        if total < 0:
            return -1
        var = next(a for a in step.args if a is not constants[0])
    return total if isinstance(var, Var) else -1


def _constant(var: Any) -> int | None:
    if type(var) is int:
        return var
    if isinstance(var, Var) and var.value is not None and not var.root.mutated and var.value.numel() == 1:
        return int(var.value.item())
    return None


def _known(m: Machine, var: Var, region: Region) -> Any:
    """A number of the tape as an int or Dim."""
    constant = _constant(var)
    if constant is not None:
        return constant
    outer = next((o for o, inner in region.captured.items() if inner is var), var)
    step = outer.step
    if step is not None and step.op is ATEN.scalar_tensor.default:
        (held,) = step.args
        if isinstance(held, Var):
            found = m.tape.size(held.meta)
            return Dim(int, found) if found is not None else None
        return held
    return None
