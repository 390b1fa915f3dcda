"""Statements: what a kernel function does, decided in full, before a language prints it.

Terms have a kind: "v" is a vector of float32, "m" a vector mask, "n" a vector of 32-bit integers, "s" a scalar of a
dtype, "i" an integer that counts or addresses. A statement is a dataclass whose fields are names, numbers, terms and
statements: a language needs no more than a case for each (`neve.emit.c`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from neve.ir.index import Data, Index
from neve.ir.types import DType


@dataclass(frozen=True)
class Term:
    """A value: what stands on the right of a Let, an Assign or a Store."""


@dataclass(frozen=True)
class Local(Term):
    """A variable, an operand's pointer, or what a language's functions of stores are given, by name."""

    name: str


@dataclass(frozen=True)
class Literal(Term):
    """A literal of a dtype's value type."""

    value: float | int | bool
    dtype: DType


@dataclass(frozen=True)
class Size(Term):
    """An integer: an index whose parts that are read from data are computed before."""

    index: Index
    data: Mapping[Data, Term] = field(default_factory=dict)


@dataclass(frozen=True)
class Least(Term):
    """The smaller of two integers."""

    a: Term
    b: Term


@dataclass(frozen=True)
class Bounded(Term):
    """The integer nearest to value in low..high."""

    value: Term
    low: Term
    high: Term


@dataclass(frozen=True)
class Minus(Term):
    """a - b of integers."""

    a: Term
    b: Term


@dataclass(frozen=True)
class Fitting(Term):
    """begin and the greatest multiple of step that fits between it and end; begin None is 0."""

    begin: Term | None
    end: Term
    step: int


@dataclass(frozen=True)
class Apply(Term):
    """A scalar function of `neve.ir.loops.Call`, form one of the kinds in `neve.emit.functions`.

    dtype is that of the arguments (a choice's: of the values that are chosen from).
    """

    fn: str
    form: str
    args: tuple[Term, ...]
    dtype: DType


@dataclass(frozen=True)
class Convert(Term):
    """A scalar as torch's `to` converts it."""

    value: Term
    source: DType
    dtype: DType


@dataclass(frozen=True)
class Round(Term):
    """A vector of float32 rounded to a half type."""

    value: Term
    dtype: DType


@dataclass(frozen=True)
class FromSize(Term):
    """An integer as a number of a dtype."""

    value: Size
    dtype: DType


@dataclass(frozen=True)
class Spread(Term):
    """A scalar in all lanes of a vector of a kind; of integers, the nearest one within the limit of lanes."""

    value: Term
    kind: str = "v"


@dataclass(frozen=True)
class Steps(Term):
    """0, stride, 2 · stride … in the lanes of a vector of integers."""

    stride: int


@dataclass(frozen=True)
class Whole(Term):
    """A vector of float32 cut to integers: to as many as lanes hold, from there on the nearest within their limit, but
    what the dtype does not hold is below; known to fit a lane if dtype is None.
    """

    value: Term
    dtype: DType | None


@dataclass(frozen=True)
class Fma(Term):
    """a * b + c in vectors, rounded once."""

    a: Term
    b: Term
    c: Term


@dataclass(frozen=True)
class Lane(Term):
    """The lane of a vector that a variable counts."""

    value: Local
    var: str


@dataclass(frozen=True)
class Lanes(Term):
    """How many lanes a vector of float32 or float64 has."""

    dtype: DType = DType.float32


@dataclass(frozen=True)
class FirstLanes(Term):
    """A vector whose lanes from count on are those of other."""

    value: Term
    count: Term
    other: Term


@dataclass(frozen=True)
class AcrossLanes(Term):
    """The scalar that a reduction (sum, prod, max, min) gives of a vector's lanes."""

    kind: str
    value: Term


@dataclass(frozen=True)
class Address(Term):
    """The address of an element: base, and offset elements from there (None: none)."""

    base: Local
    offset: Term | None = None


@dataclass(frozen=True)
class Strided(Term):
    """stride times a lane variable, as an offset."""

    stride: Size
    var: str


@dataclass(frozen=True)
class Fetch(Term):
    """One element of a dtype, or the lanes from it on, stride apart: count of them, or (None) all."""

    place: Address
    dtype: DType
    stride: Size | None = None
    count: Term | None = None


@dataclass(frozen=True)
class Gather(Term):
    """The float32 elements at a vector of offsets from a place: of the first count lanes (the others are 0), or all.

    near says that they are expected in a cache of the core's own.
    """

    place: Address
    offsets: Term
    count: Term | None
    near: bool


@dataclass(frozen=True)
class Compare(Term):
    """A test of two integers; op is <, <=, > or >=."""

    op: str
    a: Term
    b: Term


@dataclass(frozen=True)
class Within(Term):
    """0 <= index < extent in one test of integers."""

    index: Size
    extent: Size


@dataclass(frozen=True)
class Divides(Term):
    """Whether a power of two divides a count."""

    count: Local
    by: int


@dataclass(frozen=True)
class AllOf(Term):
    """Every one of some tests."""

    tests: tuple[Term, ...]


@dataclass(frozen=True)
class Statement:
    """What a function does next."""


@dataclass(frozen=True)
class Let(Statement):
    """A new variable: kind and dtype as terms have them (halves are computed as float32)."""

    name: str
    kind: str
    value: Term | None
    dtype: DType = DType.float32
    constant: bool = True


@dataclass(frozen=True)
class LetPointer(Statement):
    """A pointer to elements of a dtype."""

    name: str
    place: Address
    dtype: DType
    written: bool


@dataclass(frozen=True)
class LetOperand(Statement):
    """A pointer that is the function's operand of that position."""

    name: str
    position: int
    dtype: DType
    written: bool


@dataclass(frozen=True)
class LetScratch(Statement):
    """A pointer to a row's scratch, bytes from the beginning of the thread's."""

    name: str
    offset: int
    dtype: DType


@dataclass(frozen=True)
class Assign(Statement):
    """A variable gets another value."""

    name: str
    value: Term


@dataclass(frozen=True)
class Accumulate(Statement):
    """One more scalar of a dtype into a reduction's total: kind is one of Builder.reduce's or scan's, but argmax and
    argmin.
    """

    kind: str
    total: str
    value: Term
    dtype: DType


@dataclass(frozen=True)
class KeepBest(Statement):
    """argmax and argmin: best and its position at, -1 at first, replaced by value and position here if that is better:
    NaN before numbers, then the first.
    """

    kind: str
    best: str
    at: str
    value: Term
    here: Size
    dtype: DType


@dataclass(frozen=True)
class Store(Statement):
    """An element, or the lanes from it on, stride apart: count of them, or (None) all.

    value is of the type that the dtype is computed in: halves are rounded here, and vectors cut to integers.
    """

    place: Address
    value: Term
    dtype: DType
    stride: Size | None = None
    count: Term | None = None


@dataclass(frozen=True)
class Prefetch(Statement):
    """What will be read, or written, at a place."""

    place: Address
    written: bool


@dataclass(frozen=True)
class Scoped(Statement):
    """Statements with names of their own."""

    body: Sequence[Statement]


@dataclass(frozen=True)
class IfThen(Statement):
    """One of two blocks, by a test of integers."""

    test: Term
    then: Sequence[Statement]
    other: Sequence[Statement] = ()


@dataclass(frozen=True)
class LoopWhile(Statement):
    """body as long as the test holds."""

    test: Term
    body: Sequence[Statement]


@dataclass(frozen=True)
class For(Statement):
    """body for var = begin, begin + step, … below end; if whole, as long as a whole step fits.

    begin None: var is a variable already, and keeps where it stopped.
    """

    var: str
    begin: Term | None
    end: Term
    step: int
    body: Sequence[Statement]
    whole: bool = True


@dataclass(frozen=True)
class Share(Statement):
    """The thread's share of so many rows, for the RowLoop that follows."""

    rows: Size


@dataclass(frozen=True)
class RowLoop(Statement):
    """body for each row of the thread's share; what indexes names is known of the row: its digits, outermost first."""

    names: Sequence[str]
    extents: Sequence[Size]
    body: Sequence[Statement]


@dataclass(frozen=True)
class Ignore(Statement):
    """A variable may go unused."""

    name: str


def names(node: object) -> Iterator[str]:
    """Every Local that is named in a statement or term, and in what is inside it."""
    if isinstance(node, Local):
        yield node.name
    elif isinstance(node, (Term, Statement)):
        for f in fields(node):
            yield from names(getattr(node, f.name))
    elif isinstance(node, (list, tuple)):
        for x in node:
            yield from names(x)
    elif isinstance(node, Mapping):
        yield from names(list(node.values()))
