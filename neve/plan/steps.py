"""Steps: what a method does, in order. Each says which tensors it reads and writes in memory, and what it contains.

`reads` and `writes` have every tensor once, in the order of the text, so that what follows from them is the same in
every process. Row fusion, lifetimes and emission ask these alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from neve.ir.graph import Origin
from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.kernels.kernel import Bound, Choice, Pointer
from neve.plan.stages import Compute, Extern, Reduce, Scan, Template, loads, unique


class Stepped:
    """What every step has."""

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """Tensors whose memory the step reads, steps inside included."""
        raise NotImplementedError

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """Tensors whose memory the step writes, steps inside included."""
        raise NotImplementedError

    @property
    def blocks(self) -> tuple[Sequence[Step], ...]:
        """Steps inside, as they are run one after the other."""
        return ()

    @property
    def fails(self) -> bool:
        """Whether the step may leave the call, or one inside may."""
        return any(s.fails for b in self.blocks for s in b)


@dataclass(eq=False)
class Member:
    """A stage of a nest with the loops it runs inside a row.

    `rows` are its own variables that stand for the nest's, in their order.
    """

    stage: Compute | Reduce | Scan
    rows: tuple[Var, ...]


@dataclass(eq=False)
class Nest(Stepped):
    """Stages that share their outer loops (rows, by extent).

    local tensors live in the row's scratch; scalars of a row in variables.
    """

    extents: tuple[Index, ...]
    members: list[Member]
    local: set[Tensor] = field(default_factory=set)

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique(t for m in self.members for t in m.stage.reads if t not in self.local)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return unique(m.stage.out for m in self.members if m.stage.out not in self.local)


@dataclass(eq=False)
class Kernel(Stepped):
    """A template instance: the stage, and how it may run, one `Bound` a kernel, that of least cost first."""

    stage: Template
    bounds: tuple[Bound, ...]

    @property
    def candidates(self) -> tuple[tuple[Bound, Choice], ...]:
        """Every way to run it: the best of each kernel, then the others."""
        best = [(b, b.choices[0]) for b in self.bounds]
        return *best, *((b, c) for b in self.bounds for c in b.choices[1:])

    @property
    def pointers(self) -> tuple[Pointer, ...]:
        """What it may be given to read, whichever way it runs."""
        return tuple(p for b in self.bounds for p in b.pointers if isinstance(p, Pointer))

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """What its pointers point to (an operand, what it is a view of, or a copy) and what its epilogue loads."""
        epilogue, own = self.stage.epilogue, self.stage.results[0]
        loaded = [x.tensor for x in loads(epilogue.expr) if x.tensor is not own] if epilogue is not None else []
        return unique([*(p.buffer.tensor for p in self.pointers), *loaded])

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return self.stage.outputs


@dataclass(eq=False)
class ExternCall(Stepped):
    """A call of a C kernel on contiguous operands."""

    stage: Extern

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return self.stage.reads

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return self.stage.writes


@dataclass(eq=False)
class BranchStep(Stepped):
    """Either the steps `then` or the steps `orelse`, as the bool pred says."""

    pred: Tensor
    then: list[Step]
    orelse: list[Step]
    origin: Origin = Origin()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique([self.pred, *(t for b in self.blocks for s in b for t in s.reads)])

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return unique(t for b in self.blocks for s in b for t in s.writes)

    @property
    def blocks(self) -> tuple[Sequence[Step], ...]:
        return self.then, self.orelse


@dataclass(eq=False)
class LoopStep(Stepped):
    """cond, then body if the bool test that cond computes holds, again and again until it does not."""

    cond: list[Step]
    test: Tensor
    body: list[Step]
    origin: Origin = Origin()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique([self.test, *(t for b in self.blocks for s in b for t in s.reads)])

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return unique(t for b in self.blocks for s in b for t in s.writes)

    @property
    def blocks(self) -> tuple[Sequence[Step], ...]:
        return self.cond, self.body


@dataclass(eq=False)
class FailStep(Stepped):
    """A raise in the model: leaves the call with an error code that stands for message."""

    message: str
    origin: Origin = Origin()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return ()

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return ()

    @property
    def fails(self) -> bool:
        return True


@dataclass(eq=False)
class SizeStep(Stepped):
    """Gives a size symbol the value (int64, 0-d) that the steps after it run with: none of them may run before it.
    limited: whether it may be more than there is memory for, and the call ends then.
    """

    value: Tensor
    size: Index
    limited: bool
    origin: Origin = Origin()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return (self.value,)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return ()

    @property
    def fails(self) -> bool:
        return True


Step = Nest | Kernel | ExternCall | BranchStep | LoopStep | FailStep | SizeStep


def leaves(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps that contain no others, in the order of the text."""
    for s in steps:
        if s.blocks:
            for b in s.blocks:
                yield from leaves(b)
        else:
            yield s
