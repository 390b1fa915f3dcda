"""The smallest program that fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.fuzz.grammar import Argument, Body, Program, Statement
from tests.fuzz.run import Outcome, run

Runs = Callable[[str], Outcome]


def shrink(program: Program, runs: Runs = run) -> Program:
    """Smaller programs of the same kind of outcome and the same step of it, until none of those tried is one."""
    want = key(runs(program.source()))
    seen: set[str] = set()
    while True:
        for smaller in candidates(program):
            source = smaller.source()
            if source in seen:
                continue
            seen.add(source)
            if key(runs(source)) == want:
                program = smaller
                break
        else:
            return program


def key(found: Outcome) -> tuple[str, str]:
    """What stays while shrinking."""
    return found.kind, found.reason.split(":")[0] if found.kind == "crashed" else ""


def candidates(p: Program) -> Iterator[Program]:
    """Smaller programs, the much smaller ones first."""
    for k in range(len(p.bodies)):
        if len(p.bodies) > 1:
            yield replace(p, bodies=(*p.bodies[:k], *p.bodies[k + 1 :]))
    for k, body in enumerate(p.bodies):
        for smaller in bodies(body):
            made = smaller.pruned()
            if len(made.statements) <= len(body.statements) and made != body:
                yield replace(p, bodies=(*p.bodies[:k], made, *p.bodies[k + 1 :]))


def bodies(b: Body) -> Iterator[Body]:
    for name in b.results:
        if len(b.results) > 1:
            yield replace(b, results=(name,))
    for name in b.results:
        if len(b.results) > 2:
            yield replace(b, results=tuple(n for n in b.results if n != name))
    n = len(b.statements)
    size = n // 2
    while size >= 1:
        for start in range(0, n, size):
            yield without(b, start, min(start + size, n))
        size //= 2
    for k, s in enumerate(b.statements):
        if not s.writes:
            for name in sorted(s.defines):
                yield from replaced(b, k, name)
    if b.form != "plain":
        yield replace(b, form="plain")
    if any(a.dynamic for a in b.arguments):
        yield replace(b, arguments=tuple(Argument(a.name, a.draw) for a in b.arguments))


def without(b: Body, start: int, stop: int) -> Body:
    """Without some statements; results that they make are no longer results."""
    gone = {n for s in b.statements[start:stop] for n in s.defines}
    left = tuple(n for n in b.results if n not in gone)
    if not left:  # whatever was made last
        made = [n for s in b.statements[:start] for n in sorted(s.defines)] or [b.arguments[0].name]
        left = (made[-1],)
    return replace(b, statements=(*b.statements[:start], *b.statements[stop:]), results=left)


def replaced(b: Body, k: int, name: str) -> Iterator[Body]:
    """A statement replaced by each value that comes before it."""
    before = [a.name for a in b.arguments] + [n for s in b.statements[:k] for n in sorted(s.defines)]
    if b.statements[k].text.partition(" = ")[2].strip() in before:
        return
    for other in before[-4:]:
        s = Statement(f"{name} = {other}")
        yield replace(b, statements=(*b.statements[:k], s, *b.statements[k + 1 :]))
