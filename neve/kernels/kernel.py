"""What a kernel is to the plan: whom it accepts, how it may run, what its operands have to be like.

A kernel is a folder: `plan.py` beside its C. Its specs and macros hold numbers and sizes (`Index`), never the text of a
language; whoever prints C prints them (`neve.emit.macros`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neve.build.target import Target
from neve.ir.buffers import Access, Buffer
from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.ir.packing import Packing
from neve.ir.types import Dim, DType, TensorType, to_bytes
from neve.ops.base import Op

Size = int | Index
"""A number, or an expression in size symbols."""


@dataclass(frozen=True)
class Pack:
    """How a constant is packed: loops(weight, *arguments), the weight in PyTorch's layout. Compared by value."""

    loops: Callable[..., Packing]
    arguments: tuple[object, ...] = ()

    def __call__(self, weight: Tensor) -> Packing:
        return self.loops(weight, *self.arguments)

    def array(self, values: np.ndarray, dtype: DType = DType.float32) -> np.ndarray:
        """The packed form of a weight of that type, flat, as it lies in memory."""
        weight = Tensor(TensorType(values.shape, dtype))
        packing = self(weight)
        return to_bytes(packing.values(weight, values), packing.array.dtype)


@dataclass(frozen=True)
class PackByValue:
    """How a constant is packed whose values decide what is kept: function(values, *arguments), without loops."""

    function: Callable[..., np.ndarray]
    arguments: tuple[object, ...] = ()

    def array(self, values: np.ndarray, dtype: DType = DType.float32) -> np.ndarray:
        """The packed form, as it lies in memory."""
        return self.function(values, *self.arguments)


@dataclass(frozen=True)
class Offset:
    """The elements before batch b: a number for each batch, or an expression in the variable b."""

    elements: Size


Matrix = tuple[tuple[float, ...], ...]
Macro = int | float | Index | Offset | Matrix


@dataclass(frozen=True)
class Choice:
    """A specialised instance of a kernel, before its epilogue is known.

    header is its C, a path under kernels/; macros are the header's contract macros in a fixed order (all but KN and
    K_STORE*); pack says how the flat array that the kernel reads is computed from the weight; scratch is bytes a
    thread, shared is bytes for all threads together; cost is the predicted time in seconds on one thread; loops says
    whether the header can call a long epilogue in a loop (K_STORE_LOOP).
    """

    header: str
    label: str
    macros: tuple[tuple[str, Macro], ...]
    pack: Pack | PackByValue | None = None
    scratch: int = 0
    shared: int = 0
    cost: float = 0.0
    loops: bool = False


@dataclass(frozen=True)
class Pointer:
    """A kernel's operand: where buffer's element `start` is."""

    buffer: Buffer
    start: Index


@dataclass(frozen=True)
class Packed:
    """A kernel's operand: a constant in the packed form of the kernel's choice."""

    constant: Tensor


@dataclass(frozen=True)
class Bound:
    """How a kernel runs on its operands.

    choices: the best by analysis first. coords name the store's indexes in the header's order, axes gives each logical
    axis of the result in them.
    """

    choices: tuple[Choice, ...]
    pointers: tuple[Pointer | Packed | None, ...]
    coords: tuple[Var, ...]
    axes: tuple[Index, ...]
    scratch: Index | None = None
    """Bytes a thread where they depend on symbolic sizes; None: what the choice says."""
    shared: Index | None = None
    """Bytes for all threads together, likewise."""


class Operands(Protocol):
    """What the scheduler offers to `Kernel.bind`."""

    target: Target

    def access(self, t: Tensor) -> Access:
        """The operand as it lies."""

    def copy(self, t: Tensor, order: tuple[int, ...] | None = None) -> Access:
        """The operand copied into dense memory, axes in that order (None: row-major)."""

    def array(self, t: Tensor) -> np.ndarray | None:
        """The value of a constant, or of a view of one; None if t is neither."""


class Shaped(Protocol):
    """A tensor, or a value of a graph."""

    @property
    def shape(self) -> tuple[Dim, ...]: ...


COMPUTED = STORED = (DType.float32, DType.float16, DType.bfloat16)
"""The types that all kernels take: they compute in float32. Headers call packed weights of them 0, 1, 2."""


class Call(Protocol):
    """An op that a kernel is to compute. factor, if set, multiplies inputs[0]: one element a channel."""

    @property
    def op(self) -> Op: ...

    @property
    def inputs(self) -> tuple[Tensor, ...]: ...

    @property
    def results(self) -> tuple[Tensor, ...]: ...

    @property
    def factor(self) -> Tensor | None: ...


Fixed = Callable[[Tensor], bool]
"""Whether a tensor is a constant or a view of one, whose elements the run does not choose: what can be packed."""


def _no_factor(call: Call) -> bool:
    return False


def _not_counted(op: Op, inputs: Sequence[Shaped], results: Sequence[Shaped]) -> Index:
    return Index.of(0)


def weights(op: Op, inputs: Sequence[Shaped]) -> tuple[int, ...]:
    """The second operand."""
    return (1,)


def _nothing(op: Op, inputs: Sequence[Shaped]) -> tuple[int, ...]:
    return ()


@dataclass(frozen=True)
class Kernel:
    """What one folder offers.

    ops: the names of the ops that it computes. The first kernel of the list that names an op decides on its operands;
    those after it are alternatives, which run where they say that they are faster.
    accepts: an op and its operands → "" if the kernel takes them, else why not, to follow "runs as plain loops: ".
    bind: an accepted call → how it may run; None from an alternative that has nothing to offer. It asks for what it
    needs of an operand's layout through the `Operands` that it is given, which copies an operand only where its strides
    do not fit. An alternative asks for no copies but those that the first kernel has asked for.
    flops: multiplications and additions of a call, counted as its definition has them; alternatives are not asked.
    takes_factor: whether a call may have a factor.
    zeros: on a target, the block of zeros (outputs, terms) of a constant weight that is skipped at the highest speed;
    None if the kernel skips none.
    packs: the positions of operands that `bind` packs if they are constants: these may be of any type that float32
    holds. All others are widened to float32 before `bind` sees them.
    """

    ops: tuple[str, ...]
    accepts: Callable[[Op, Sequence[Tensor], Fixed], str]
    bind: Callable[[Call, Operands], Bound | None]
    flops: Callable[[Op, Sequence[Shaped], Sequence[Shaped]], Index] = _not_counted
    takes_factor: Callable[[Call], bool] = _no_factor
    packs: Callable[[Op, Sequence[Shaped]], tuple[int, ...]] = _nothing
    zeros: Callable[[Target], tuple[int, int]] | None = None


# --- for those who bind -----------------------------------------------------------------------------------------------


def size(i: Index) -> Size:
    """A size for a spec: a number where it is known."""
    return i if i.const is None else i.const


def product(extents: Sequence[object]) -> Index:
    """The product of dims."""
    n = Index.of(1)
    for e in extents:
        n = n * Index.of(e)
    return n


def digits(flat: Index, extents: Sequence[Index]) -> list[Index]:
    """The row-major digits of flat."""
    out, rest = [], flat
    for k, e in enumerate(reversed(extents)):
        out.append(rest % e if k < len(extents) - 1 else rest)
        rest = rest // e
    return out[::-1]


def at(v: Var) -> Index:
    """A coordinate as an index: 0 along an axis of size 1."""
    return Index.of(0) if v.extent.const == 1 else Index.of(v)
