"""What the interpreter computes with, besides plain Python values: tensors of a tape, numbers and sizes known later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from neve.capture.torchscript.pickles import Obj, Unsupported

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

    def check(self, value: Any) -> None:
        """Refusal if a value is a container that may not be what it is in eager."""
        if id(value) in self._tape.tainted and isinstance(value, (list, dict, Obj)):
            raise Refusal(self._tape.tainted[id(value)])

    def touch(self, container: Any) -> None:
        """To be called before a list, dict or object is written."""
        self.check(container)
        for other in self._sharing.get(id(container), {}):
            self._tape.tainted[other] = (
                f"{describe(container)} is written that is the same as another one on some paths only, and the other "
                "is used afterwards: write to a copy (x = x.copy())"
            )
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
        elif isinstance(v, (list, tuple)):
            found |= needs_of(*v)
    return found


def describe(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, Var):
        return f"a tensor {value}"
    if value is None or isinstance(value, (Num, Dim, Uninitialized, Obj, str, int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Unsupported):
        return value.reason
    return f"a {type(value).__name__}"
