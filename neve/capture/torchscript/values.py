"""What the interpreter computes with, besides plain Python values: tensors of a tape, numbers and sizes known later."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from neve.capture.torchscript.pickles import Member, Obj, Unsupported

if TYPE_CHECKING:
    from neve.capture.torchscript.tape import Recorder, Region, Step

Names = frozenset[str]
NOWHERE: Names = frozenset()
KINDS = {int: torch.int64, float: torch.float64, bool: torch.bool}


class Place(NamedTuple):
    """Where something comes from: the dotted path of the module, the user's file and line, and what it says."""

    module: str
    file: str
    line: int
    text: str = ""


class Refusal(Exception):
    """Why something cannot be captured; needs names the arguments that would have to be fixed at their example value.

    Raised anywhere in the interpreter; the innermost statement adds its line.
    """

    def __init__(self, reason: str, needs: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.reason, self.needs = reason, frozenset(needs)
        self.place: Place | None = None


class Raised(Exception):
    """The model's own raise or assert was reached, whatever the inputs are."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(eq=False)
class Var:
    """A tensor, or a symbolic size, at one point of a tape; compared by identity.

    meta: a fake tensor, or SymInt, SymFloat, SymBool. root: the tensor whose memory this is a view of (itself if none).
    value: the content, where capture knows it. needs: the arguments that are numbers and that it depends on.
    loose: whether its strides may be others in eager than meta's, so that x.reshape may be a view or a copy of it.
    row: for x[i] with i known at run time only, (x, axis, i): the memory of this is a copy of a row of x as x was at
    `version` (see Recorder.versions); it is read again when x has been written, and a write to it is one to x.
    outer: for what a region captured, the variable that this stands for.
    """

    meta: Any
    region: Region
    step: Step | None = None
    root: Var = None  # type: ignore[assignment]
    value: torch.Tensor | None = None
    needs: Names = NOWHERE
    row: tuple[Var, int, Var] | None = None
    version: int = 0
    loose: bool = False
    mutated: bool = False
    name: str = ""
    outer: Var | None = None

    def __post_init__(self) -> None:
        self.root = self.root or self

    def __repr__(self) -> str:
        if isinstance(self.meta, torch.Tensor):
            return f"{str(self.meta.dtype).removeprefix('torch.')}{list(self.meta.shape)}"
        return f"size {self.meta}"


@dataclass(frozen=True, eq=False)
class Num:
    """An int, float or bool that is known at run time only: a 0-d tensor of int64, float64 or bool."""

    kind: type
    var: Var

    @property
    def needs(self) -> Names:
        return self.var.needs

    def __repr__(self) -> str:
        return f"a run-time {self.kind.__name__}"


@dataclass(frozen=True, eq=False)
class Dim:
    """An int, float or bool computed from symbolic sizes."""

    kind: type
    var: Var

    @property
    def needs(self) -> Names:
        return self.var.needs

    def __repr__(self) -> str:
        return f"the size {self.var.meta}"


@dataclass(frozen=True, eq=False)
class Forked:
    """A function without arguments inside another one, as torch.jit.fork makes them; it reads the variables there."""

    node: ast.FunctionDef


class Uninitialized:
    """What TorchScript puts into a variable on a path where it is never read."""

    def __repr__(self) -> str:
        return "nothing"


UNINITIALIZED = Uninitialized()


@dataclass(frozen=True)
class Text:
    """A string with a part that only the run knows; good for messages alone."""

    text: str
    needs: Names = NOWHERE


@dataclass(frozen=True, eq=False)
class Named:
    """An instance of a NamedTuple class of the archive."""

    cls: str
    fields: tuple[str, ...]
    items: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Length:
    """How long something that grows is: origin + most at most (None: 0), and just that unless value says it.

    most: an int or Dim. origin: what it was at the start of the present iteration, so that `most` is its growth.
    """

    origin: Num | None
    most: Any
    value: Any = None


@dataclass(frozen=True, eq=False)
class Grown:
    """A tensor whose size along one axis the run decides: the first `length` of buffer along axis.

    What lies behind is any numbers. reserved: a loop around has given the buffer all the space that it can need.
    """

    buffer: Any
    axis: int
    length: Length
    reserved: bool = False


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a list whose length the run decides; the list holds this alone.

    template: an entry with a Leaf for each tensor and number; columns: for each leaf these of all entries, stacked.
    """

    template: Any
    columns: tuple[Any, ...]
    length: Length
    reserved: bool = False


@dataclass(frozen=True)
class Leaf:
    """A place in the template of an entry: kind is torch.Tensor, int, float or bool; shape holds ints and SymInts."""

    kind: type
    dtype: torch.dtype
    shape: tuple[Any, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Sizes are equal as expressions; nothing is asked of them."""
        return isinstance(other, Leaf) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


@dataclass(frozen=True, eq=False)
class Packed:
    """The data of packed sequences: padded (T, B, …), what lies behind a sequence's length being any numbers, and the
    lengths (B,).
    """

    padded: Any
    lengths: Any

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.padded.meta.dtype
        return dtype


@dataclass(frozen=True)
class PackedSizes:
    """The batch sizes that come with packed data: the first of them (an int or Dim), and how many (a Num)."""

    batch: Any
    count: Any


def pieces(value: Any) -> list[Any] | None:
    """What an immutable value is made of; None for what is no composite."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Named):
        return list(value.items)
    if isinstance(value, Member):
        return [value.value]
    if isinstance(value, Grown):
        return [value.buffer, value.length]
    if isinstance(value, Packed):
        return [value.padded, value.lengths]
    return [*value.columns, value.length] if isinstance(value, Entries) else None


def put_together(value: Any, parts: Sequence[Any]) -> Any:
    """The composite value with other parts; a number for a Length is one that nothing else is known of."""
    if isinstance(value, tuple):
        return tuple(parts)
    if isinstance(value, Named):
        return Named(value.cls, value.fields, tuple(parts))
    if isinstance(value, Packed):
        return Packed(*parts)
    if isinstance(value, Member):
        return Member(value.cls, *parts)
    *rest, length = parts
    length = length if isinstance(length, Length) else Length(length, 0)
    if isinstance(value, Grown):
        return replace(value, buffer=rest[0], length=length)
    return replace(value, columns=tuple(rest), length=length)


def entries_in(value: Any) -> Entries | None:
    """The entries of a list whose length the run decides; None for anything else."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Entries) else None


@dataclass(eq=False)
class Bound:
    """A method of an object, not called yet, or a function of the archive (self None)."""

    function: Any
    self: Any = None


@dataclass
class Journal:
    """The containers that have been written since a point, with what they held then."""

    saved: dict[int, tuple[Any, Any]] = field(default_factory=dict)


class Heap:
    """Writes to lists, dicts and objects, so that they can be undone."""

    def __init__(self, tape: Recorder) -> None:
        self._tape = tape
        self._journals: list[Journal] = []
        self._sharing: dict[int, dict[int, Any]] = {}

    def may_share(self, container: Any, other: Any) -> None:
        """Note that a container is another one on some path."""
        for c in (other, *self._sharing.get(id(other), {}).values()):
            if c is not container:
                self._sharing.setdefault(id(container), {})[id(c)] = c
                self._sharing.setdefault(id(c), {})[id(container)] = container

    def may_be(self, container: Any, other: Any) -> bool:
        """Whether a container is another one on some path."""
        return id(other) in self._sharing.get(id(container), ())

    def check(self, value: Any) -> None:
        """Refusal if a value is a container that may not be what it is in eager."""
        if id(value) in self._tape.invalidated and isinstance(value, (list, dict, Obj)):
            raise Refusal(self._tape.invalidated[id(value)])

    def touch(self, container: Any) -> None:
        """To be called before a list, dict or object is written."""
        self.check(container)
        for other in self._sharing.get(id(container), {}):
            self._tape.invalidated[other] = (
                f"{describe(container)} is written that is the same as another one on some paths only, and the other "
                "is used afterwards: write to a copy (x = x.copy())"
            )
        self.log(container)

    def log(self, container: Any) -> None:
        """To be called before a container gets what the sides of a branch, which have touched it, left in it."""
        for journal in self._journals:
            journal.saved.setdefault(id(container), (container, content(container)))

    def begin(self) -> Journal:
        self._journals.append(Journal())
        return self._journals[-1]

    def end(self) -> dict[int, tuple[Any, Any]]:
        """What the containers that were written since `begin` hold now; they get back what they held then."""
        journal = self._journals.pop()
        now = {k: (c, content(c)) for k, (c, _) in journal.saved.items()}
        for c, old in journal.saved.values():
            restore(c, old)
        return now

    def keep(self) -> dict[int, tuple[Any, Any]]:
        """Like `end`, but the writes stay; returns what the containers held before."""
        return self._journals.pop().saved


def content(container: Any) -> Any:
    """A shallow copy of what a list, dict or object holds."""
    return dict(container.attrs) if isinstance(container, Obj) else container.copy()


def restore(container: Any, held: Any) -> None:
    """Make a list, dict or object hold this."""
    if isinstance(container, Obj):
        container.attrs = dict(held)
    elif isinstance(container, dict):
        container.clear()
        container.update(held)
    else:
        container[:] = held


def needs_of(*values: Any) -> Names:
    """The number arguments that values depend on."""
    found: Names = NOWHERE
    for v in values:
        if isinstance(v, (Var, Num, Dim, Text)):
            found |= v.needs
        elif isinstance(v, Length):
            found |= needs_of(v.origin, v.most, v.value)
        elif isinstance(v, (list, tuple, Grown, Entries, Member)):
            found |= needs_of(*(v if isinstance(v, list) else pieces(v) or ()))
    return found


def describe(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, Var):
        return f"a tensor {value}"
    if value is None or isinstance(value, (Num, Dim, Uninitialized, Member, Obj, str, int, float)):
        return repr(value)
    if isinstance(value, Grown):
        return f"a tensor {value.buffer} whose length along axis {value.axis} the inputs decide"
    if isinstance(value, (Packed, PackedSizes)):
        return "packed sequences"
    if isinstance(value, Entries) or entries_in(value):
        return "a list whose length the inputs decide"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Unsupported):
        return value.reason
    return f"a {type(value).__name__}"
