"""Loops of an archive, while and for over a range: unrolled where their number is known, else left to the run."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.control import condition
from neve.capture.torchscript.iterations import Iterations, of_range
from neve.capture.torchscript.live import unread
from neve.capture.torchscript.loop import Loop
from neve.capture.torchscript.numbers import binary
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import UNINITIALIZED, Dim, Num, Refusal, describe, needs_of

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

UNROLL = 48
"""Loops of a known number of iterations are unrolled up to this many, and tried as loops beyond."""
MAX_TURNS = 100_000


def while_(m: Machine, s: ast.While) -> None:
    test, body, frame = s.test, s.body, m.frames[-1]
    for _ in range(MAX_TURNS):
        go = condition(m, m.evaluate(test))
        if isinstance(go, Num):

            def iteration() -> Any:
                m.inner(body)
                return condition(m, m.evaluate(test))

            Loop(m, frame, iteration, go, unread(frame.function.node, s)).run()
            return
        if not go:
            return
        m.inner(body)
    raise Refusal(f"a loop does not end after {MAX_TURNS} iterations")


def for_(m: Machine, s: ast.For, args: Sequence[Any], iterations: Iterations | None = None) -> None:
    assert isinstance(s.target, ast.Name)
    name, body = s.target.id, s.body
    start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args, 1) if len(args) == 2 else tuple(args)
    if all(type(a) is int for a in (start, stop, step)):
        counted = range(start, stop, step)
        if len(counted) <= UNROLL or not _as_loop(m, s, start, stop, step):
            _unroll(m, name, counted, body)
        return
    if not all(isinstance(a, (int, Num, Dim)) for a in (start, stop, step)) or type(step) is not int or step == 0:
        raise Refusal(f"range({', '.join(map(describe, args))}) is not supported", needs_of(*args))
    frame, counter = m.frames[-1], f" {name}"
    compare = "lt" if step > 0 else "gt"
    iterations = iterations or of_range(m, start, stop, step)
    if isinstance(stop, Dim):
        stop = m.as_run_time(stop)

    def iteration() -> Any:
        now = frame.locals[counter]
        frame.locals[name] = now
        m.inner(body)
        frame.locals[counter] = binary(m.tape, "add", now, step)
        return binary(m.tape, compare, frame.locals[counter], stop)

    frame.locals[counter] = start
    frame.locals.setdefault(name, UNINITIALIZED)
    go = condition(m, binary(m.tape, compare, start, stop))
    if go is not False:
        Loop(m, frame, iteration, go, unread(frame.function.node, s), iterations).run()
    frame.locals.pop(counter, None)


def _as_loop(m: Machine, s: ast.For, start: int, stop: int, step: int) -> bool:
    """A long loop with a known number of iterations as a loop of the run; False if it has to be unrolled."""
    frame, before = m.frames[-1], dict(m.frames[-1].locals)
    try:
        with m.tape.attempt():
            go = Num(int, m.tape.call(ATEN.full.default, [], stop, dtype=torch.int64))
            go.var.value = None
            for_(m, s, [start, go, step], of_range(m, start, stop, step))
    except Refusal:
        frame.locals = before
        return False
    return True


def _unroll(m: Machine, name: str, iterations: range, body: Sequence[ast.stmt]) -> None:
    if len(iterations) > MAX_TURNS:
        raise Refusal(f"a loop of {len(iterations)} iterations is too long to be unrolled")
    for i in iterations:
        m.frames[-1].locals[name] = i
        m.inner(body)
