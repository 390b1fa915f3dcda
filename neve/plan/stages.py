"""Stages: the loop nests and kernels that a graph lowers to, in order, before layouts and buffers are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from neve.ir.graph import Origin
from neve.ir.index import Atom, Data, Div, Index, IndexLike, Mod, Var
from neve.ir.loops import Call, Expr, FromIndex, Guard, Load, Tensor
from neve.ir.types import Dim
from neve.ops.base import Op


class Stage:
    """One step; `outputs` are the tensors it defines. Compared by identity."""

    outputs: tuple[Tensor, ...]
    origin: Origin
    label: str

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """Tensors whose elements the stage needs, each once, in the order of the text."""
        raise NotImplementedError

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """Tensors that it gives values: what it defines, and what Moves write, those of its blocks included."""
        return self.outputs

    @property
    def fails(self) -> bool:
        """Whether it may leave the call, or a stage in its blocks may."""
        return False


@dataclass(eq=False)
class Compute(Stage):
    """out[vars] = expr."""

    out: Tensor
    vars: tuple[Var, ...]
    expr: Expr
    origin: Origin = Origin()
    label: str = ""

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return (self.out,)

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique(x.tensor for x in loads(self.expr))


@dataclass(eq=False)
class Reduce(Stage):
    """out[vars] = kind over rvars of expr; see `Builder.reduce`."""

    kind: str
    out: Tensor
    vars: tuple[Var, ...]
    rvars: tuple[Var, ...]
    expr: Expr
    origin: Origin = Origin()
    label: str = ""

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return (self.out,)

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique(x.tensor for x in loads(self.expr))


@dataclass(eq=False)
class Scan(Stage):
    """out = inclusive scan of expr[vars] along axis."""

    kind: str
    out: Tensor
    vars: tuple[Var, ...]
    axis: int
    expr: Expr
    origin: Origin = Origin()
    label: str = ""

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return (self.out,)

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique(x.tensor for x in loads(self.expr))


@dataclass(eq=False)
class Template(Stage):
    """A kernel template for op. epilogue, if set, is the loop fused into the store of results[0].

    factor, if set, multiplies inputs[0]: one element a channel (see `neve.plan.prologue`).
    """

    op: Op
    inputs: tuple[Tensor, ...]
    results: tuple[Tensor, ...]
    origin: Origin = Origin()
    label: str = ""
    epilogue: Epilogue | None = None
    factor: Tensor | None = None

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return (self.epilogue.out, *self.results[1:]) if self.epilogue else self.results

    @property
    def reads(self) -> tuple[Tensor, ...]:
        extra = [x.tensor for x in loads(self.epilogue.expr)] if self.epilogue else []
        factor = [self.factor] if self.factor else []
        return unique([*self.inputs, *(t for t in extra if t is not self.results[0]), *factor])


@dataclass(eq=False)
class Epilogue:
    """out[index] = expr, both in `vars`, one an axis of the template's results[0], which expr reads exactly at vars."""

    vars: tuple[Var, ...]
    out: Tensor
    index: tuple[Index, ...]
    expr: Expr


@dataclass(eq=False)
class Extern(Stage):
    """A C kernel on contiguous operands; see `Builder.extern`."""

    header: str
    macros: Mapping[str, str | int | Dim]
    inputs: tuple[Tensor, ...]
    results: tuple[Tensor, ...]
    scratch: Dim = 0
    origin: Origin = Origin()
    label: str = ""

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.results

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique(self.inputs)


@dataclass(eq=False)
class Put(Extern):
    """A C kernel that writes parts of tensors that exist outside of the block: of state."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return ()

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return self.results


@dataclass(eq=False)
class Branch(Stage):
    """if pred: then-stages, else: else-stages; each side ends in Copies into `results`."""

    pred: Tensor
    then: Block
    orelse: Block
    results: tuple[Tensor, ...]
    origin: Origin = Origin()
    label: str = "if"

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.results

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique([self.pred, *self.then.free, *self.orelse.free])

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return unique([*self.results, *self.then.writes, *self.orelse.writes])

    @property
    def fails(self) -> bool:
        return self.then.fails or self.orelse.fails


@dataclass(eq=False)
class Loop(Stage):
    """carried = initial; while (cond on carried): carried = body(carried)."""

    initial: tuple[Tensor, ...]
    carried: tuple[Tensor, ...]
    cond: Block
    body: Block
    origin: Origin = Origin()
    label: str = "while"

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.carried

    @property
    def reads(self) -> tuple[Tensor, ...]:
        free = [t for t in (*self.cond.free, *self.body.free) if t not in self.carried]
        return unique([*self.initial, *free])

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return unique([*self.carried, *self.cond.writes, *self.body.writes])

    @property
    def fails(self) -> bool:
        return self.cond.fails or self.body.fails


@dataclass(eq=False)
class Move(Stage):
    """Copies source into a tensor that exists outside the block: state, a branch's result, a loop's carried value."""

    source: Tensor
    target: Tensor
    origin: Origin = Origin()
    label: str = "copy"

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return ()

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return (self.source,)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        return (self.target,)


@dataclass(eq=False)
class Concat(Stage):
    """out is its parts side by side along axis: each part is written in place, so that the step itself does nothing."""

    out: Tensor
    parts: tuple[Tensor, ...]
    axis: int
    origin: Origin = Origin()
    label: str = "cat"

    @property
    def outputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return (self.out,)

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return unique(self.parts)


@dataclass(eq=False)
class Fail(Stage):
    """A raise in the model: leaves the call with an error code."""

    message: str
    outputs: tuple[Tensor, ...] = ()
    origin: Origin = Origin()
    label: str = "raise"

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return ()

    @property
    def fails(self) -> bool:
        return True


@dataclass(eq=False)
class SetSize(Stage):
    """Gives a size symbol its value for the stages that follow, none of which may run before, as if it could fail; it
    does if it is limited, by the memory that there is.
    """

    value: Tensor
    size: Index
    limited: bool
    outputs: tuple[Tensor, ...] = ()
    origin: Origin = Origin()
    label: str = "measure"

    @property
    def reads(self) -> tuple[Tensor, ...]:
        return (self.value,)

    @property
    def fails(self) -> bool:
        return True


@dataclass(eq=False)
class Block:
    """Stages in order and the tensors that must hold memory at the end."""

    stages: list[Stage]
    outputs: tuple[Tensor, ...]

    @property
    def free(self) -> tuple[Tensor, ...]:
        """Tensors read but not defined inside."""
        inside = {t for s in self.stages for t in s.outputs}
        read = (t for s in self.stages for t in s.reads)
        return unique(t for t in (*read, *self.outputs) if t not in inside)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """Tensors that the stages give values."""
        return unique(t for s in self.stages for t in s.writes)

    @property
    def fails(self) -> bool:
        """Whether a stage inside may leave the call."""
        return any(s.fails for s in self.stages)


def unique(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Each tensor once, in the order of its first mention: never a set, whose order differs between processes."""
    return tuple(dict.fromkeys(tensors))


def loads(e: Expr) -> Iterator[Load]:
    """Every Load in e, also inside data-dependent indexes and conditions."""
    if isinstance(e, Load):
        yield e
        for i in e.index:
            yield from index_loads(i)
    elif isinstance(e, FromIndex):
        yield from index_loads(e.index)
    elif isinstance(e, Guard):
        for i, n in e.conditions:
            yield from index_loads(i)
            yield from index_loads(n)
    for c in e.children:
        yield from loads(c)


def index_loads(i: Index) -> Iterator[Load]:
    for a in i.atoms():
        if isinstance(a, Data):
            yield from loads(a.expr)
        elif isinstance(a, (Div, Mod)):
            yield from index_loads(a.num)
            yield from index_loads(a.den)


def settled(i: Index) -> bool:
    """Whether an index depends on loop variables alone: on no size, and on no value of the run."""
    return all(
        isinstance(a, Var) or (isinstance(a, (Div, Mod)) and settled(a.num) and settled(a.den)) for a in i.atoms()
    )


def rewrite(e: Expr, f: Callable[[Load], Expr]) -> Expr:
    """e with every Load replaced by f(load), also inside indexes; a load that f sees has its own indexes rewritten."""
    if isinstance(e, Load):
        return f(Load(e.tensor, tuple(rewrite_index(i, f) for i in e.index)))
    if isinstance(e, Call):
        args = tuple(rewrite(a, f) for a in e.args)
        return e if all(x is y for x, y in zip(args, e.args, strict=True)) else Call(e.fn, args, e.dtype)
    if isinstance(e, FromIndex):
        return FromIndex(rewrite_index(e.index, f), e.dtype)
    if isinstance(e, Guard):
        conditions = tuple((rewrite_index(i, f), rewrite_index(n, f)) for i, n in e.conditions)
        return Guard(conditions, rewrite(e.then, f), rewrite(e.other, f))
    return e


def rewrite_index(i: Index, f: Callable[[Load], Expr]) -> Index:
    if not any(isinstance(a, (Data, Div, Mod)) for a in i.atoms()):
        return i
    values: dict[Atom, IndexLike] = {}
    for a in i.atoms():
        if isinstance(a, Data):
            values[a] = Index.of(Data(rewrite(a.expr, f), a.extent))
        elif isinstance(a, (Div, Mod)):
            num, den = rewrite_index(a.num, f), rewrite_index(a.den, f)
            if num is not a.num or den is not a.den:
                values[a] = num // den if isinstance(a, Div) else num % den
    return i.subs(values) if values else i
