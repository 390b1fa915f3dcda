"""History: which value each tensor holds when, as the stages of a method say it before anything is moved or fused.

A value is a tensor and the number of times it was given values in this call (0: what it held when the call began). The
check of plans compares with it what steps find in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from neve.ir.loops import Tensor
from neve.plan.lowering import Lowered
from neve.plan.stages import (
    Block,
    Branch,
    Compute,
    Concat,
    Extern,
    Fail,
    Loop,
    Move,
    Reduce,
    Scan,
    SetSize,
    Stage,
    Template,
    loads,
)

Value = tuple[Tensor, int]


@dataclass(frozen=True)
class Path:
    """How control flow goes: each loop makes so many iterations; each branch takes a side, or "both" by turns."""

    iterations: int
    side: str

    def takes(self, pred: Value, place: int) -> str:
        """The side of a branch on that value, place being the branch's position among all of the method."""
        return self.side if self.side != "both" else ("then", "orelse")[(pred[1] + place) % 2]


PATHS = (Path(0, "then"), Path(1, "orelse"), Path(2, "both"), Path(3, "then"), Path(2, "orelse"))


class Left(Exception):
    """The path meets a raise of the model, whose message it has."""


@dataclass(eq=False)
class History:
    """One path through a method's stages.

    sources has for each value those that it was computed from; joined the value of a concatenation by those of its
    parts; decisions the values on which branches, loops and sizes decided; left the raise that ended the call.
    """

    lowered: Lowered
    path: Path
    now: dict[Tensor, int] = field(default_factory=dict)
    sources: dict[Value, tuple[Value, ...]] = field(default_factory=dict)
    joined: dict[tuple[Value, ...], Value] = field(default_factory=dict)
    decisions: list[Value] = field(default_factory=list)
    left: str | None = None

    def __post_init__(self) -> None:
        self.places = {s.pred: k for k, s in enumerate(_branches(self.lowered.block))}
        try:
            self._run(self.lowered.block.stages)
        except Left as raised:
            (self.left,) = raised.args

    def value(self, t: Tensor) -> Value:
        """What t holds now."""
        return t, self.now.get(t, 0)

    def _define(self, t: Tensor, sources: Iterable[Tensor]) -> None:
        found = tuple(dict.fromkeys(map(self.value, sources)))
        self.now[t] = self.now.get(t, 0) + 1
        self.sources[self.value(t)] = found

    def _run(self, stages: Sequence[Stage]) -> None:
        for s in stages:
            if isinstance(s, Concat):
                parts = tuple(map(self.value, s.parts))
                self._define(s.out, s.parts)
                self.joined[parts] = self.value(s.out)
            elif isinstance(s, Branch):
                self.decisions.append(self.value(s.pred))
                side = self.path.takes(self.value(s.pred), self.places[s.pred])
                self._run((s.then if side == "then" else s.orelse).stages)
            elif isinstance(s, Loop):
                self._loop(s)
            elif isinstance(s, Fail):
                raise Left(s.message)
            elif isinstance(s, SetSize):
                self.decisions.append(self.value(s.value))
            else:
                for t in _defined(s):
                    self._define(t, _operands(s))

    def _loop(self, s: Loop) -> None:
        for source, t in zip(s.initial, s.carried, strict=True):
            self._define(t, [source])
        for k in range(self.path.iterations + 1):
            self._run(s.cond.stages)
            self.decisions.append(self.value(s.cond.outputs[0]))
            if k < self.path.iterations:
                self._run(s.body.stages)


def _operands(s: Stage) -> Sequence[Tensor]:
    if isinstance(s, (Compute, Reduce, Scan)):
        return [x.tensor for x in loads(s.expr)]
    if isinstance(s, Move):
        return [s.source]
    assert isinstance(s, (Template, Extern))
    return s.inputs


def _defined(s: Stage) -> Sequence[Tensor]:
    if isinstance(s, (Compute, Reduce, Scan)):
        return [s.out]
    if isinstance(s, Move):
        return [s.target]
    assert isinstance(s, (Template, Extern))
    return s.results


def _branches(block: Block) -> list[Branch]:
    found = []
    for s in block.stages:
        if isinstance(s, Branch):
            found += [s, *_branches(s.then), *_branches(s.orelse)]
        elif isinstance(s, Loop):
            found += [*_branches(s.cond), *_branches(s.body)]
    return found


def concatenations(block: Block) -> list[Concat]:
    """Every concatenation of a block, those inside of others included."""
    found = []
    for s in block.stages:
        if isinstance(s, Concat):
            found.append(s)
        elif isinstance(s, Branch):
            found += [*concatenations(s.then), *concatenations(s.orelse)]
        elif isinstance(s, Loop):
            found += [*concatenations(s.cond), *concatenations(s.body)]
    return found
