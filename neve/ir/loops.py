"""Loop nests: what an op's `lower` says of its result, element by element, before anything is decided about loops.

An op builds tensors through a `Builder`: `compute` gives each element as a scalar expression of its logical index,
`reduce` and `scan` add loops, `kernel` and `extern` name a C kernel. Views are computes whose expression is a single
Load: they cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from neve.ir.index import Data, Index, IndexLike, Substitution, Var
from neve.ir.types import Dim, DType, TensorType, dims

NO_VARS: frozenset[Var] = frozenset()


class Expr:
    """A scalar expression. Every Expr has a dtype; children are Exprs and Indexes."""

    dtype: DType

    @property
    def children(self) -> tuple[Expr, ...]:
        return ()

    @cached_property
    def vars(self) -> frozenset[Var]:
        """Loop variables that the value depends on."""
        return frozenset().union(*(c.vars for c in self.children))

    def subs(self, values: Substitution) -> Expr:
        raise NotImplementedError


@dataclass(frozen=True)
class Const(Expr):
    """A literal: Python float, int or bool (inf and nan allowed for floats)."""

    value: float | int | bool
    dtype: DType

    def subs(self, values: Substitution) -> Expr:
        return self

    def __hash__(self) -> int:
        return hash((str(self.value), self.dtype))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and (str(self.value), self.dtype) == (str(other.value), other.dtype)


@dataclass(frozen=True)
class Load(Expr):
    """tensor[index], with a logical index in range."""

    tensor: Tensor
    index: tuple[Index, ...]

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.tensor.dtype

    @cached_property
    def vars(self) -> frozenset[Var]:
        return frozenset().union(*(i.vars for i in self.index))

    def subs(self, values: Substitution) -> Expr:
        return Load(self.tensor, tuple(i.subs(values) for i in self.index))


@dataclass(frozen=True)
class Call(Expr):
    """fn(args) with fn one of the scalar functions of `neve.emit.functions` ("add", "exp", "where", "cast", "lt" …)."""

    fn: str
    args: tuple[Expr, ...]
    dtype: DType

    @property
    def children(self) -> tuple[Expr, ...]:
        return self.args

    def subs(self, values: Substitution) -> Expr:
        return Call(self.fn, tuple(a.subs(values) for a in self.args), self.dtype)


@dataclass(frozen=True)
class FromIndex(Expr):
    """An index as a value (int64, or cast to dtype)."""

    index: Index
    dtype: DType

    @cached_property
    def vars(self) -> frozenset[Var]:
        return self.index.vars

    def subs(self, values: Substitution) -> Expr:
        return FromIndex(self.index.subs(values), self.dtype)


@dataclass(frozen=True)
class Guard(Expr):
    """`then` where every condition 0 <= index < extent holds, else `other`; elsewhere `then` is not evaluated."""

    conditions: tuple[tuple[Index, Index], ...]
    then: Expr
    other: Expr

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.then.dtype

    @property
    def children(self) -> tuple[Expr, ...]:
        return (self.then, self.other)

    @cached_property
    def vars(self) -> frozenset[Var]:
        return frozenset().union(*(i.vars | e.vars for i, e in self.conditions), self.then.vars, self.other.vars)

    def subs(self, values: Substitution) -> Expr:
        conditions = tuple((i.subs(values), e.subs(values)) for i, e in self.conditions)
        return guard(conditions, self.then.subs(values), self.other.subs(values))


def guard(conditions: Sequence[tuple[IndexLike, IndexLike]], then: Expr, other: Expr) -> Expr:
    """Guard without the conditions that always hold."""
    kept = []
    for i, e in ((Index.of(i), Index.of(e)) for i, e in conditions):
        if not (i.nonnegative and (e - 1 - i.bound(upper=True)).nonnegative):
            kept.append((i, e))
    return Guard(tuple(kept), then, other) if kept else then


def call(fn: str, *args: Expr, dtype: DType | None = None) -> Expr:
    """fn(args); the result has the first argument's dtype unless said (comparisons give bool)."""
    if dtype is None:
        dtype = DType.bool if fn in COMPARISONS else args[1].dtype if fn == "where" else args[0].dtype
    return Call(fn, args, dtype)


COMPARISONS = frozenset(
    {"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "logical_not", "logical_and", "logical_or", "logical_xor"}
)


def cast(e: Expr, dtype: DType) -> Expr:
    """e converted to dtype as torch's `to` does."""
    if e.dtype is dtype:
        return e
    return FromIndex(e.index, dtype) if isinstance(e, FromIndex) else Call("cast", (e,), dtype)


def const(value: float | bool, dtype: DType) -> Expr:
    return Const(value, dtype)


def where(condition: Expr, then: Expr, other: Expr) -> Expr:
    """Select; both sides may be evaluated (use `guard` where an index would be out of range)."""
    return Call("where", (condition, then, other), then.dtype)


def as_index(e: Expr, extent: Dim) -> Index:
    """An integer expression as an index into an axis of that extent.

    The caller promises 0 <= e < extent (clamp or wrap first).
    """
    return Index.of(Data(e, Index.of(extent)))


class Tensor:
    """A tensor of the lowering; compared by identity. Call it with a logical index for one element."""

    def __init__(self, type: TensorType, name: str = "") -> None:
        self.type, self.name = type, name

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __call__(self, *index: IndexLike) -> Expr:
        assert len(index) == len(self.shape), f"{len(index)} indexes for {self.type}"
        return Load(self, tuple(Index.of(i) for i in index))

    def broadcast(self, index: Sequence[IndexLike]) -> Expr:
        """The element for an index of a shape this one broadcasts to."""
        tail = index[len(index) - len(self.shape) :]
        return self(*(0 if d == 1 else i for d, i in zip(self.shape, tail, strict=True)))

    def __repr__(self) -> str:
        return f"{self.name}: {self.type}"


class Builder(Protocol):
    """What `Op.lower` may build with. Shapes are tuples of dims; fn receives one Index an axis."""

    def compute(self, shape: Sequence[Dim], dtype: DType, fn: Callable[..., Expr]) -> Tensor:
        """out[i, j, …] = fn(i, j, …)."""

    def reduce(
        self,
        kind: str,
        shape: Sequence[Dim],
        dtype: DType,
        over: Sequence[Dim],
        fn: Callable[[tuple[Index, ...], tuple[Index, ...]], Expr],
    ) -> Tensor:
        """out[idx] = kind over r of fn(idx, r); kind: sum prod max min any all argmax argmin.

        max and min propagate NaN; argmax and argmin (dtype int64) give the first best position in the flattened `over`
        domain, NaN being best; sum and prod accumulate in fn's dtype (float16 and bfloat16 in float32), any and all
        take and give bool. An empty domain gives the identity (0, 1, -inf, inf, False, True); argmax of nothing is
        undefined: refuse in infer.
        """

    def scan(self, kind: str, x: Tensor, axis: int) -> Tensor:
        """Inclusive scan along axis; kind: sum prod max min logaddexp."""

    def refuses(self, op: Any, inputs: Sequence[Tensor]) -> bool:
        """Whether no kernel computes the op on these operands; the reason is kept for reports."""

    def kernel(self, op: Any, inputs: Sequence[Tensor], outputs: Sequence[TensorType]) -> tuple[Tensor, ...]:
        """The op by the kernel that did not refuse it; outputs are of the type that the op is computed in (`wide`)."""

    def extern(
        self,
        header: str,
        macros: Mapping[str, str | int | Dim],
        inputs: Sequence[Tensor],
        outputs: Sequence[TensorType],
        scratch: Dim = 0,
    ) -> tuple[Tensor, ...]:
        """A C kernel under kernels/ without epilogue, on contiguous row-major operands: p[] = inputs then outputs.

        macros become #defines (dims in C syntax), KN(x) is defined; the entry is
        KN(run)(void *const *p, const int64_t *s, neve_thread *th); scratch is bytes a thread.
        """


def view(b: Builder, x: Tensor, shape: Sequence[Dim], fn: Callable[..., tuple[IndexLike, ...]]) -> Tensor:
    """out[i, j, …] = x[fn(i, j, …)]: no arithmetic, no copy unless a consumer needs one."""
    return b.compute(dims(shape), x.dtype, lambda *i: x(*fn(*i)))
