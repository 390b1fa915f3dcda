"""Buffers: where a tensor lives and how its logical index becomes an address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neve.ir.index import Index, Var, recombine
from neve.ir.loops import Tensor
from neve.ir.types import DType


@dataclass(eq=False)
class Buffer:
    """Memory of one tensor. Compared by identity.

    place is "input", "output", "constant", "state", "arena" or "row" (scratch of one row of a fused nest); slot is the
    position among the method's inputs or outputs; strides and offset are in elements, one stride a logical axis.
    """

    tensor: Tensor
    place: str
    strides: tuple[Index, ...]
    offset: Index
    slot: int = -1
    base: Buffer | None = None

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

    @property
    def root(self) -> Buffer:
        """The buffer that owns the memory."""
        return self.base.root if self.base else self

    @property
    def bytes(self) -> Index:
        n = Index.of(self.dtype.size)
        for d in self.tensor.shape:
            n = n * Index.of(d)
        return n

    def address(self, index: Sequence[Index]) -> Index:
        """Element offset of a logical index."""
        out = self.offset
        for i, s in zip(index, self.strides, strict=True):
            out = out + i * s
        return recombine(out)

    @property
    def is_row_major(self) -> bool:
        """Contiguous in the order of the logical axes (axes of size 1 have no say)."""
        want = row_major(self.tensor.shape)
        return not self.offset.terms and all(
            Index.of(d).const == 1 or a == b for d, a, b in zip(self.tensor.shape, self.strides, want, strict=True)
        )


def row_major(shape: Iterable[object]) -> tuple[Index, ...]:
    """Strides of a contiguous tensor."""
    return strides_in_order(tuple(shape), None)


def strides_in_order(shape: Sequence[object], order: Sequence[int] | None) -> tuple[Index, ...]:
    """Dense strides with axes laid out in that order, outermost first (None: as they are)."""
    strides = [Index.of(0)] * len(shape)
    step = Index.of(1)
    for axis in reversed(range(len(shape)) if order is None else order):
        strides[axis] = step
        step = step * Index.of(shape[axis])
    return tuple(strides)


@dataclass(frozen=True, eq=False)
class Access:
    """An operand as a kernel sees it: element address as a function of its logical index variables."""

    buffer: Buffer
    vars: tuple[Var, ...]
    address: Index

    def stride(self, axis: int) -> Index | None:
        """Stride of a logical axis in elements; None if the address is not affine in it. 0 for axes of size 1."""
        if self.vars[axis].extent.const == 1:
            return Index.of(0)
        form = self.address.affine(self.vars[axis])
        return None if form is None or form[0].vars else form[0]

    @property
    def strides(self) -> tuple[Index | None, ...]:
        return tuple(self.stride(k) for k in range(len(self.vars)))

    @property
    def start(self) -> Index:
        """The address of the first element."""
        return self.address.subs(dict.fromkeys(self.vars, 0))

    def collapsed(self, axes: Sequence[int]) -> Index | None:
        """The one stride with which all these axes (outer to inner) step as a single axis; None if there is none."""
        size, stride = Index.of(1), None
        for axis in reversed(axes):
            extent = self.vars[axis].extent
            if extent.const == 1:
                continue
            s = self.stride(axis)
            if s is None or (stride is not None and s != stride * size):
                return None
            if stride is None:
                stride = s
            size = size * extent
        return Index.of(0) if stride is None else stride
