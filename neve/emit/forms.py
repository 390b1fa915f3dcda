"""Whether an expression has a vector form along a loop: decided before anything is written.

A form is a kind ("v" a vector of float32, "m" a mask, "s" one scalar for all lanes) with the dtype of the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from neve.emit.functions import FUNCTIONS
from neve.ir.buffers import Buffer
from neve.ir.index import Data, Index, Var, data_atoms, lane_stride
from neve.ir.loops import Call, Const, Expr, FromIndex, Guard, Load, Tensor
from neve.ir.types import DType

LANES = (DType.float32, DType.float16, DType.bfloat16)
"""The types whose elements are loaded and stored as vectors of float32."""


class LaneForm(NamedTuple):
    """What a value is along the loop."""

    kind: str
    dtype: DType


class LaneForms:
    """The forms of expressions along the lane variable vec.

    known has the forms of tensors that are not in memory.
    """

    def __init__(
        self, buffers: Mapping[Tensor, Buffer], known: Mapping[Tensor, LaneForm], lanes: int, vec: Var
    ) -> None:
        self.buffers, self.known, self.lanes, self.vec = buffers, known, lanes, vec
        self.found: dict[Expr, LaneForm | None] = {}

    def of(self, e: Expr) -> LaneForm | None:
        """e's form; None if it has none."""
        if e not in self.found:
            self.found[e] = self._of(e)
        return self.found[e]

    def numbers(self, e: Expr) -> bool:
        """Whether e is a vector of float32, or a scalar that can be put in its lanes."""
        form = self.of(e)
        return form is not None and form.dtype in LANES

    def index(self, i: Index) -> bool:
        """Whether what an index reads from data is the same for all lanes."""
        return all(self._data(a) for a in data_atoms(i))

    def _data(self, a: Data) -> bool:
        form = self.of(a.expr)
        return form is not None and form.kind == "s"

    def stride(self, address: Index) -> Index | None:
        """How far lanes lie apart, 0 if they are one element; None if there is no such number."""
        if self.vec not in address.vars:
            return Index.of(0) if self.index(address) else None
        stride = lane_stride(address, self.vec, self.lanes)
        if stride is None or stride.vars or not self.index(stride):
            return None
        form = address.affine(self.vec)
        return stride if self.index(address if form is None else form[1]) else None

    def written(self, buffer: Buffer, address: Index, e: Expr) -> bool:
        """Whether e can be written to an address of a buffer, by vectors where that depends on the lane."""
        if self.vec in address.vars:
            return self.places(buffer, address) and self.numbers(e)
        form = self.of(e)
        return form is not None and form.kind == "s" and self.index(address)

    def places(self, buffer: Buffer, address: Index) -> bool:
        """Whether an address of a buffer gives each lane an element of its own, that vectors of float32 can hold."""
        stride = self.stride(address)
        return stride is not None and bool(stride.terms) and buffer.dtype in LANES

    def _of(self, e: Expr) -> LaneForm | None:
        if isinstance(e, Const):
            return LaneForm("s", e.dtype)
        if isinstance(e, Load):
            return self._load(e)
        if isinstance(e, FromIndex):
            return LaneForm("s", e.dtype) if self.vec not in e.vars and self.index(e.index) else None
        if isinstance(e, Guard):
            return self._guard(e)
        assert isinstance(e, Call)
        args = [self.of(a) for a in e.args]
        return None if None in args else self._call(e, [a for a in args if a is not None])

    def _load(self, e: Load) -> LaneForm | None:
        if e.tensor in self.known:
            return self.known[e.tensor]
        stride = self.stride(self.buffers[e.tensor].address(e.index))
        if stride is None:
            return None
        if not stride.terms:
            return LaneForm("s", e.dtype)
        if e.dtype is DType.bool:
            return LaneForm("m", e.dtype)
        return LaneForm("v", e.dtype) if e.dtype in LANES else None

    def _call(self, e: Call, args: list[LaneForm]) -> LaneForm | None:
        if e.fn == "cast":
            return self._cast(args[0], e.dtype)
        if all(a.kind == "s" for a in args):
            return LaneForm("s", e.dtype)
        data = args[1:] if e.fn == "where" else args
        masks = data[0].dtype is DType.bool
        fits = all(a.dtype is DType.bool if masks else a.dtype in LANES for a in data)
        if not fits or ("m" if masks else "v") not in FUNCTIONS.get(e.fn, {}):
            return None
        if e.dtype is DType.bool:
            return LaneForm("m", e.dtype)
        return LaneForm("v", e.dtype) if e.dtype in LANES else None

    @staticmethod
    def _cast(a: LaneForm, dtype: DType) -> LaneForm | None:
        if a.kind == "s":
            return LaneForm("s", dtype)
        if dtype in LANES:
            return LaneForm("v", dtype)
        return LaneForm("m", dtype) if a.kind == "v" and dtype is DType.bool else None

    def _guard(self, e: Guard) -> LaneForm | None:
        if any(self.vec in i.vars or self.vec in n.vars for i, n in e.conditions):
            return None
        if not all(self.index(i) and self.index(n) for i, n in e.conditions):
            return None
        a, b = self.of(e.then), self.of(e.other)
        if a is None or b is None:
            return None
        kinds = {a.kind, b.kind}
        if "v" in kinds and not (a.dtype in LANES and b.dtype in LANES):
            return None
        return LaneForm("v" if "v" in kinds else "m" if "m" in kinds else "s", e.dtype)
