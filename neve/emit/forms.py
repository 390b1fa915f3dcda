"""Whether an expression has a vector form along a loop: decided before anything is written.

A form is a kind ("v" a vector of float32, "m" a mask, "n" a vector of 32-bit integers, "s" one scalar for all lanes)
with the dtype of the value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from neve.emit import integers
from neve.emit.functions import FUNCTIONS
from neve.emit.integers import Window
from neve.ir.buffers import Buffer
from neve.ir.index import Atom, Data, Index, Var, data_atoms, lane_stride
from neve.ir.loops import COMPARISONS, Call, Const, Expr, FromIndex, Guard, Load, Tensor
from neve.ir.types import DType
from neve.plan.fuse import cost
from neve.plan.stages import loads

LANES = (DType.float32, DType.float16, DType.bfloat16)
"""The types whose elements are loaded and stored as vectors of float32."""


PAYS = 8
"""From so many operations for each read at a position that data give, a vector is faster: scalars load no slower."""
WORDS = (DType.int64, DType.int32)
"""The types that integers are computed in."""
TRUNCATED = (*WORDS, DType.uint8)
"""The types that vectors of float32 can be stored as."""


class LaneForm(NamedTuple):
    """What a value is along the loop; window is what an integer's lanes know of it."""

    kind: str
    dtype: DType
    window: Window | None = None


CONVERTED = (LaneForm("v", DType.float32),)
"""What vectors of integers are made of."""


def truncated(e: Expr) -> Expr | None:
    """The numbers that e cuts to integers, None if it does nothing of the kind."""
    return e.args[0] if isinstance(e, Call) and e.fn == "cast" and e.dtype in TRUNCATED else None


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
        return form is not None and form.dtype in LANES and self._pays(e)

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

    def gathered(self, address: Index) -> tuple[Index, Index] | None:
        """(base, offsets) of an address that data decide lane by lane; None if it has no such form.

        base is affine in the loop's variable, offsets a sum of positions of which 32 bits hold every partial sum.
        """
        offsets: dict[tuple[Atom, ...], int] = {}
        reach = 0
        for k, c in address.terms.items():
            own = [a for a in k if isinstance(a, Data) and not self._data(a)]
            if not own:
                continue
            extent = own[0].extent.const if isinstance(own[0], Data) else None
            if len(k) > 1 or extent is None or not self._position(own[0], extent):
                return None
            offsets[k] = c
            reach += abs(c) * extent
        base = address - Index(offsets)
        form = base.affine(self.vec)
        if not offsets or form is None or form[0].const is None or not self.index(form[1]):
            return None
        return (base, Index(offsets)) if reach + abs(form[0].const) * self.lanes <= integers.MOST else None

    def _position(self, a: Data, extent: int) -> bool:
        """Whether a number from data, which is promised to be in its axis, comes out in 32 bits."""
        form = self.of(a.expr)
        if isinstance(a.expr, Call) and a.expr.fn == "cast" and self.of(a.expr.args[0]) in CONVERTED:
            return True
        return form is not None and form.window is not None and form.window.has(0) and form.window.has(extent - 1)

    def written(self, buffer: Buffer, address: Index, e: Expr) -> bool:
        """Whether e can be written to an address of a buffer, by vectors where that depends on the lane."""
        if self.vec in address.vars and buffer.dtype in TRUNCATED:
            whole = truncated(e)
            return whole is not None and self.of(whole) in CONVERTED and self.stride(address) == 1
        if self.vec in address.vars:
            return self.places(buffer, address) and self.numbers(e)
        form = self.of(e)
        return form is not None and form.kind == "s" and self.index(address)

    def _pays(self, e: Expr) -> bool:
        """Whether e has so much arithmetic that it gains by vectors, although lanes are read one by one."""
        gathered = {x for x in loads(e) if self.reads(x)}
        positions = {a for x in gathered for i in x.index for a in data_atoms(i)}
        return cost(e) + sum(cost(a.expr) for a in positions) >= PAYS * len(gathered)

    def reads(self, e: Load) -> bool:
        """Whether lanes of e are read one by one, at positions that data give."""
        return e.tensor not in self.known and self.stride(self.buffers[e.tensor].address(e.index)) is None

    def places(self, buffer: Buffer, address: Index) -> bool:
        """Whether an address of a buffer gives each lane an element of its own, that vectors of float32 can hold."""
        stride = self.stride(address)
        return stride is not None and bool(stride.terms) and buffer.dtype in LANES

    def _of(self, e: Expr) -> LaneForm | None:
        if isinstance(e, Const):
            window = integers.fixed(int(e.value), int(e.value)) if e.dtype.is_int else None
            return LaneForm("s", e.dtype, window)
        if isinstance(e, Load):
            return self._load(e)
        if isinstance(e, FromIndex):
            return self._from_index(e)
        if isinstance(e, Guard):
            return self._guard(e)
        assert isinstance(e, Call)
        args = [self.of(a) for a in e.args]
        return None if None in args else self._call(e, [a for a in args if a is not None])

    def _load(self, e: Load) -> LaneForm | None:
        if e.tensor in self.known:
            return self.known[e.tensor]
        address = self.buffers[e.tensor].address(e.index)
        stride = self.stride(address)
        if stride is None:
            gathered = e.dtype is DType.float32 and self.gathered(address) is not None
            return LaneForm("v", e.dtype) if gathered else None
        if not stride.terms:
            return LaneForm("s", e.dtype)
        if e.dtype is DType.bool:
            return LaneForm("m", e.dtype)
        if e.dtype.is_int:
            return LaneForm("n", e.dtype, integers.stored(e.dtype))
        return LaneForm("v", e.dtype) if e.dtype in LANES else None

    def _from_index(self, e: FromIndex) -> LaneForm | None:
        window = integers.between(e.index) if e.dtype.is_int else None
        if self.vec not in e.vars and self.index(e.index):
            return LaneForm("s", e.dtype, window)
        form = e.index.affine(self.vec)
        fits = form is not None and form[0].const is not None and self.index(form[1])
        return LaneForm("n", e.dtype, window) if fits and window is not None else None

    def _call(self, e: Call, args: list[LaneForm]) -> LaneForm | None:
        if e.fn == "cast":
            return self._cast(args[0], e.dtype)
        if all(a.kind == "s" for a in args):
            return LaneForm("s", e.dtype)
        data = args[1:] if e.fn == "where" else args
        if data[0].dtype.is_int:
            return self._integers(e, args, data)
        masks = data[0].dtype is DType.bool
        fits = all(a.dtype is DType.bool if masks else a.dtype in LANES for a in data)
        if not fits or ("m" if masks else "v") not in FUNCTIONS.get(e.fn, {}):
            return None
        if e.dtype is DType.bool:
            return LaneForm("m", e.dtype)
        return LaneForm("v", e.dtype) if e.dtype in LANES else None

    @staticmethod
    def _integers(e: Call, args: Sequence[LaneForm], data: Sequence[LaneForm]) -> LaneForm | None:
        windows = [a.window or integers.WIDE for a in data if a.dtype.is_int]
        if len(windows) < len(data) or args[0].dtype not in (DType.bool, data[0].dtype):
            return None
        if e.fn in COMPARISONS and len(windows) == 2 and "n" in FUNCTIONS.get(e.fn, {}):
            return LaneForm("m", e.dtype) if integers.compared(*windows) else None
        window = integers.calculated(e.fn, windows)
        return LaneForm("n", e.dtype, window) if window is not None and e.dtype in WORDS else None

    @staticmethod
    def _cast(a: LaneForm, dtype: DType) -> LaneForm | None:
        if a.kind == "s":
            return LaneForm("s", dtype, a.window if dtype in WORDS else None)
        if dtype.is_int:
            if a in CONVERTED and dtype in WORDS:
                return LaneForm("n", dtype, integers.WIDE)
            same = a.kind == "n" and (dtype is DType.int64 or dtype is a.dtype)
            return LaneForm("n", dtype, a.window) if same else None
        if a.kind == "n":
            return None
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
        if "n" in kinds:
            return None
        if "v" in kinds and not (a.dtype in LANES and b.dtype in LANES):
            return None
        return LaneForm("v" if "v" in kinds else "m" if "m" in kinds else "s", e.dtype)
