"""The search for a difference between a compiled module and its original, on inputs that the example does not show.

Trials are made in order of what they found in the past: redrawn values, masks all true, all false and mixed, sizes over
their declared ranges, ties and values at the boundaries of steps, other scales and signs, indices at both ends of their
range, and calls that the original refuses. A model with state gets several calls in a row. The search ends with its
trials or its budget, whichever comes first.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch

from neve.capture.examples import Call
from neve.check import condition
from neve.check.draw import Kind, beyond, draw, is_mask
from neve.check.subjects import Sizes, Subject
from neve.check.verify import Result, attempt, dtype_names, flat_copies, tolerance
from neve.errors import InputError, NeveError
from neve.ir.index import Index
from neve.ir.types import Range, size_at
from neve.ops.random import DEFAULT_SEED
from neve.runtime.loader import Module
from neve.runtime.trees import flatten

SEED = 20
SECONDS, THOROUGH_SECONDS = 10.0, 120.0
"""The most that a search takes by default, and a thorough one."""
TRIALS, THOROUGH_TRIALS = 30, 300
CALLS = 3
"""Calls in a row where there is state."""
PRIMES = (7, 13, 5, 17, 3, 31, 11, 61)
GROWTH = 1.5
"""Time is taken to grow with this power of the inputs' elements, from the nearest number of them that was measured."""
LARGEST = 1 << 24
"""Elements of all inputs together that a trial has at most."""


@dataclass(frozen=True)
class Trial:
    """What is tried: how values are drawn, the sizes, and for refused calls the input and side that is out of range."""

    what: str
    kind: Kind = Kind()
    sizes: Mapping[Index, int] = field(default_factory=dict)
    wrong: tuple[int, bool] | None = None


EXAMPLE = Trial("the example")


@dataclass(frozen=True)
class Tried:
    """A trial's outcome: the largest error of each output over the calls, relative to the output's largest value.

    explained: it is above the tolerance, but the original moves as far when its inputs and weights move by a rounding;
    raised: both refuse; refused: the compiled module does not take these sizes.
    """

    method: str
    what: str
    calls: int
    errors: Sequence[float]
    explained: bool = False
    raised: bool = False
    refused: bool = False

    @property
    def example(self) -> bool:
        """Whether it is one of the user's own calls."""
        return self.what == EXAMPLE.what

    @property
    def error(self) -> float:
        """The largest error of any output."""
        return max(self.errors, default=0.0)

    def json(self) -> dict[str, Any]:
        """For the artifact."""
        flags = {k: True for k in ("explained", "raised", "refused") if getattr(self, k)}
        return {"method": self.method, "what": self.what, "calls": self.calls, "error": self.error, **flags}


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A trial that shows a difference: the flat inputs of its calls, of which the last differs, what both gave
    in that one, and the error of each output.
    """

    subject: Subject
    trial: Trial
    inputs: Sequence[Sequence[Any]]
    want: Result
    got: Result
    errors: Sequence[float]

    def __str__(self) -> str:
        name, nth = self.subject.name, f", call {len(self.inputs)} in a row" if len(self.inputs) > 1 else ""
        where = f"{name}, {self.trial.what}{nth}"
        if isinstance(self.want, Exception):
            return f"{where}: the original raises {_brief(self.want)!r}, the compiled module answers"
        if isinstance(self.got, Exception):
            return f"{where}: the compiled module raises {_brief(self.got)!r}, the original answers"
        off = "; ".join(f"output {k}: {e:.1e}" for k, e in enumerate(self.errors) if e > 0)
        return f"{where}: {off or 'another number of outputs'}"


class Differs(Exception):
    """The search has found a counterexample."""

    def __init__(self, found: Counterexample) -> None:
        super().__init__(str(found))
        self.found = found


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][-200:] if str(error).strip() else type(error).__name__


class Search:
    """Trials of a module's methods within a number of seconds and of trials a method."""

    def __init__(
        self, module: Module, seconds: float, trials: int, progress: Callable[[float, str], None] | None = None
    ) -> None:
        self.module, self.seconds, self.trials, self.progress = module, seconds, trials, progress
        self.start = time.perf_counter()
        self.spent: dict[str, dict[int, float]] = {}
        self.usual: dict[str, list[float]] = {}

    @property
    def left(self) -> float:
        return self.seconds - (time.perf_counter() - self.start)

    def all(self, found: Sequence[Subject], tried: list[Tried]) -> None:
        """The trials of all methods in turn, added to tried. Raises Differs at the first counterexample."""
        queues = [(s, self.plan(s)) for s in found]
        for n in range(self.trials):
            for entry in list(queues):
                if self.left <= 0:
                    return
                subject, plan = entry
                trial = next(plan, None)
                if trial is None:
                    queues.remove(entry)
                    continue
                if self.progress:
                    share = max(n / self.trials, 1 - max(self.left, 0.0) / self.seconds)
                    self.progress(share, f"looking for a difference: {trial.what}")
                done = self.one(subject, trial, n)
                tried += [done] if done else []

    # --- what is tried ------------------------------------------------------------------------------------------------

    def plan(self, s: Subject) -> Iterator[Trial]:
        """The trials of a method, the most telling ones first, then random mixtures of them."""
        floats = any(d.dtype.is_float and not d.symbol for d in s.domains)
        masks = any(is_mask(d) for d in s.domains)
        indices = [k for k, d in enumerate(s.domains) if d.limits and not d.scalar]
        numbers = any(d.dtype.is_int and d.symbol is None for d in s.domains)
        yield Trial("values redrawn", Kind(), s.example)
        yield from (Trial(f"masks {k}", Kind(masks=k), s.example) for k in MASKS if masks)
        for sizes in chain(filter(partial(self.affordable, s), s.sides()), self.sizes(s)):
            yield Trial(_sizes_text(sizes), Kind(), sizes)
        yield from (Trial(f"floats: {k}", Kind(floats=k), s.example) for k in FLOATS if floats)
        yield from (Trial(f"integers: {k}", Kind(ints=k), s.example) for k in INTEGERS if numbers)
        for k in indices:
            for above in (True, False):
                side = "above" if above else "below"
                yield Trial(f"{s.domains[k].name} {side} its range", Kind(), s.example, (k, above))
        g = torch.Generator().manual_seed(SEED)
        while floats or masks or numbers or s.ranges:
            kind = Kind(_pick(("redrawn", *FLOATS), g), _pick(("within", *INTEGERS), g), _pick(("mixed", *MASKS), g))
            sizes = {x: _any(r, s.example[x], g) for x, r in s.ranges.items()}
            if not self.affordable(s, sizes):
                sizes = s.example
            parts = (f"floats: {kind.floats}", f"integers: {kind.ints}", f"masks {kind.masks}", _sizes_text(sizes))
            there = (floats, numbers, masks, bool(sizes))
            yield Trial("; ".join(p for p, t in zip(parts, there, strict=True) if t), kind, sizes)

    def sizes(self, s: Subject) -> Iterator[Sizes]:
        """All sizes least, least + 1, primes, then each greatest, and all of them, as far as the budget allows."""
        if not s.ranges:
            return
        seen = [dict(s.example)]
        values = {x: _values(r, s.example[x]) for x, r in s.ranges.items()}
        joint = [{x: v[i] for x, v in values.items()} for i in range(3)]
        single = [{**s.example, x: v[3]} for x, v in values.items()]
        for sizes in (*joint, *single, {x: v[3] for x, v in values.items()}):
            for _ in range(max(sizes.values()).bit_length()):
                if not self.affordable(s, sizes):
                    sizes = {x: max(n // 2, s.example[x]) if n > s.example[x] else n for x, n in sizes.items()}
            if sizes not in seen and self.affordable(s, sizes):
                seen.append(sizes)
                yield sizes

    def affordable(self, s: Subject, sizes: Sizes) -> bool:
        """Whether a trial of these sizes is likely to take less than half of what is left."""
        elements, usual = _elements(s, sizes), _elements(s, s.example)
        seconds = 0.0
        if known := self.spent.get(s.name):
            nearest = min(known, key=lambda n: abs(n - elements))
            seconds = known[nearest] * max(elements / max(nearest, 1), 1.0) ** GROWTH
        return elements <= max(LARGEST, usual) and seconds <= max(self.left, 0.0) / 2

    # --- a trial ------------------------------------------------------------------------------------------------------

    def one(self, s: Subject, trial: Trial, n: int) -> Tried | None:
        g = torch.Generator().manual_seed(SEED + n)
        calls = CALLS if self.module.signature.state else 1
        inputs: list[list[Any]] = []
        for _ in range(calls):
            flat = [draw(d, trial.kind, trial.sizes, g) for d in s.domains]
            if trial.wrong:
                index, above = trial.wrong
                wrong = beyond(s.domains[index], flat[index], trial.sizes, above)
                if wrong is None:
                    return None
                flat[index] = wrong
            inputs.append(flat)
        return self.compare(s, trial, inputs)

    def calls(self, s: Subject, trial: Trial, calls: Sequence[Call], known: Sequence[Result] = ()) -> Tried:
        """Calls in a row, of which the original's results may be known."""
        flat = [flatten(s.signature, call.args, dict(call.kwargs)) for call in calls]
        return self.compare(s, trial, flat, known) or Tried(s.name, trial.what, 0, ())

    def compare(
        self, s: Subject, trial: Trial, inputs: Sequence[Sequence[Any]], known: Sequence[Result] = ()
    ) -> Tried | None:
        """Calls of the original, unless their results are known, and of the module, both from their initial state.

        Raises Differs. None if memory does not suffice for the original.
        """
        module, worst = self.module, [0.0]
        module.reset()
        run = s.start(s.call(inputs[0])) if not known else None
        clock = time.perf_counter()
        for n, flat in enumerate(inputs, 1):
            got = result_of(module.methods[s.name], s, flat)
            if isinstance(got, InputError) and trial != EXAMPLE:  # eager may read beyond its memory
                return Tried(s.name, trial.what, n, worst, refused=True)
            want = result_of(run, s, flat) if run is not None else known[n - 1]
            if isinstance(want, MemoryError):
                return None
            # what eager refuses of empty inputs, such as view(0, -1), is no wrong number
            empty = 0 in (trial.sizes or s.example).values()
            if isinstance(want, Exception) and (isinstance(got, NeveError) or empty):
                return Tried(s.name, trial.what, n, worst, raised=True)
            if isinstance(got, InputError) and not isinstance(want, Exception):
                return Tried(s.name, trial.what, n, worst, refused=True)
            errors = condition.distance(got, want)
            if trial == EXAMPLE and not isinstance(want, Exception):
                self.usual.setdefault(s.name, [condition.largest(a) for a in want])
            if trial.kind.floats == "zeros":
                errors = condition.beside(errors, want, self.usual.get(s.name, ()))
            bad = too_large(s, errors, want)
            wide = self.wide(s, inputs[:n]) if any(bad) else []
            if any(map(math.isinf, errors)):
                errors = condition.distance(condition.out_of_range(got, want, wide), want)
                bad = too_large(s, errors, want)
            if any(bad) and not (
                _as_chosen(s, inputs[:n], got) or self.excused(s, inputs[:n], got, want, wide, errors, bad)
            ):
                raise Differs(Counterexample(s, trial, inputs[:n], want, got, errors))
            worst = [max(pair) for pair in zip(worst, errors, strict=True)] if n > 1 else errors
            if any(bad):
                return Tried(s.name, trial.what, n, worst, explained=True)
        if run is not None:
            known_times, elements = self.spent.setdefault(s.name, {}), _elements(s, trial.sizes or s.example)
            known_times[elements] = min(time.perf_counter() - clock, known_times.get(elements, math.inf))
        return Tried(s.name, trial.what, len(inputs), worst)

    def excused(
        self,
        s: Subject,
        inputs: Sequence[Sequence[Any]],
        got: Result,
        want: Result,
        wide: Result,
        errors: list[float],
        bad: list[bool],
    ) -> bool:
        """Whether the original moves as far as it is off, in outputs that may move: when inputs and weights move by a
        rounding, when all that it computes in single precision is computed in double (`wide`), or when its steps round
        in another way.
        """
        exact = [*s.exact, *[False] * len(bad)]  # arguments that are written in place come after the results
        if any(b and x for b, x in zip(bad, exact, strict=False)):
            return False
        if isinstance(got, Exception) or isinstance(want, Exception):
            return self.unsettled(s, inputs, want)
        if len(errors) != len(want):
            return False
        moved = list(self.moves(s, inputs))
        moves = [condition.distance(m, want) for m in moved]
        if not isinstance(wide, Exception):
            # half types round op by op, as eager does, but what is near a tie may go the other way
            share = condition.ROUNDER / (1 if s.computed in ("float32", "float64") else condition.MARGIN)
            moves.append([share * e for e in condition.distance(wide, want)])
        if not all(e for b, e in zip(bad, condition.explained(errors, moves), strict=True) if b):
            moves += self.steps(s, inputs, want)
        why = condition.explained(errors, moves)
        return all(e for b, e in zip(bad, why, strict=True) if b)

    def unsettled(self, s: Subject, inputs: Sequence[Sequence[Any]], want: Result) -> bool:
        """Whether roundings decide if something is raised, as where a matrix is singular but for them: the original, or
        the captured graph, raises with some of them and with others does not, or no digit of its results is determined.
        """
        for other in self.moves(s, inputs, condition.MANY_NUDGES):
            if isinstance(other, Exception) != isinstance(want, Exception):
                return True
            if (
                not isinstance(want, Exception)
                and max(condition.distance(other, want), default=0.0) > condition.NO_DIGIT
            ):
                return True
        raises = set()
        for seed, signs in enumerate(condition.SIGNS):
            g = torch.Generator().manual_seed(SEED + seed)
            moved = [[condition.nudged(x, g) for x in flat] for flat in inputs]
            off = partial(condition.rounded_otherwise, g=g, signs=signs)
            raises |= {s.interpreted(given, watch) is None for given in (inputs, moved) for watch in (None, off)}
        return len(raises) > 1

    def wide(self, s: Subject, inputs: Sequence[Sequence[Any]]) -> Result:
        """What the original gives in the last call in double precision."""
        run = s.double(s.call(inputs[0]))
        found: Result = []
        with condition.InDouble():
            for flat in inputs:
                found = result_of(run, s, [condition.in_double(x) for x in flat])
        return found

    def steps(self, s: Subject, inputs: Sequence[Sequence[Any]], want: Sequence[np.ndarray]) -> list[list[float]]:
        """How far the results move, beside want, when each step of the captured graph rounds in another way."""
        plain = s.interpreted(inputs)
        found = []
        for signs in condition.SIGNS if plain is not None else ():
            off = partial(condition.rounded_otherwise, g=torch.Generator().manual_seed(SEED), signs=signs)
            parts = zip(want, plain or (), s.interpreted(inputs, off) or (), strict=False)
            found.append(condition.distance([condition.moved(*p) for p in parts], list(want)))
        return found

    def moves(self, s: Subject, inputs: Sequence[Sequence[Any]], count: int = condition.NUDGES) -> Iterator[Result]:
        """What the original gives in the last call with inputs and weights that are off by a rounding."""
        for seed in range(count):
            g = torch.Generator().manual_seed(SEED + seed)
            run = s.nudge(s.call(inputs[0]), g)
            found: Result = []
            for flat in inputs:
                found = result_of(run, s, [condition.nudged(x, g) for x in flat])
            yield found


FLOATS = ("boundaries", "ties", "negated", "large", "tiny", "zeros")
INTEGERS = ("zeros", "edges", "least", "greatest")
MASKS = ("all true", "all false", "prefixes")


def result_of(run: Callable[..., Any], s: Subject, flat: Sequence[Any]) -> Result:
    """What a call gives or raises, with random numbers of one seed, and without what it prints."""
    torch.manual_seed(DEFAULT_SEED)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return flat_copies(attempt(run, s.call(flat), s.signature))


def _as_chosen(s: Subject, inputs: Sequence[Sequence[Any]], got: Result) -> bool:
    """Whether torch leaves the result open, and the module gives what the captured graph does."""
    chosen = None if isinstance(got, Exception) else s.chosen(inputs)
    if chosen is None or isinstance(got, Exception) or len(chosen) > len(got):
        return False
    pairs = [(x, y) for x, y in zip(got, chosen, strict=False) if y is not None]
    errors = condition.distance([x for x, _ in pairs], [y for _, y in pairs])
    return not any(too_large(s, errors, [y for _, y in pairs]))


def too_large(s: Subject, errors: Sequence[float], want: Result) -> list[bool]:
    """Which of the errors are above the tolerance of their types."""
    if isinstance(want, Exception) or len(errors) != len(want):
        return [True] * len(errors)
    return [e > tolerance(d, s.computed) for e, d in zip(errors, dtype_names(None, want), strict=True)]


def _values(r: Range, example: int) -> tuple[int, int, int, int]:
    """Sizes of a range: least, least + 1, a prime, greatest (three times the example if there is no bound)."""
    most = r.max if r.max is not None else max(3 * example + 1, r.min + 2)
    prime = next((p for p in PRIMES if r.min + 1 < p < most and p != example), (r.min + most) // 2)
    return r.min, min(r.min + 1, most), prime, most


def _any(r: Range, example: int, g: torch.Generator) -> int:
    """A size of a range, the telling ones as often as all others together."""
    values = _values(r, example)
    return _pick((_pick(values, g), int(torch.randint(r.min, values[3] + 1, (), generator=g))), g)  # type: ignore[no-any-return]


def _elements(s: Subject, sizes: Mapping[Index, int]) -> int:
    return sum(math.prod(size_at(d, sizes) for d in domain.shape) for domain in s.domains)


def _sizes_text(sizes: Mapping[Index, int]) -> str:
    return "sizes " + ", ".join(f"{s}={n}" for s, n in sizes.items())


def _pick(values: Sequence[Any], g: torch.Generator) -> Any:
    return values[int(torch.randint(len(values), (), generator=g))]
