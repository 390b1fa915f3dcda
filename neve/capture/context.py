"""What the builders of the ATen table work with: emitting ops, constants, casts, torch's type promotion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND, elementwise_dtypes

from neve.capture import diagnose, guards
from neve.capture.symbols import in_whole_numbers
from neve.ir.graph import GraphBuilder, Value
from neve.ir.index import Index
from neve.ir.types import Dim, DType, TensorType, dim, dims, limits
from neve.ops.base import REGISTRY, Op
from neve.ops.cast import Cast
from neve.ops.control import Raise
from neve.ops.shape import Expand, Permute, Reshape, Slice
from neve.ops.source import Full, SizeOf

if TYPE_CHECKING:
    from neve.capture.symbols import MethodSymbols

DTYPES = {getattr(torch, d.value): d for d in DType}
PARTS = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""The types of complex numbers → those of their parts (see `neve.capture.pairs`)."""
DEFAULT = ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT
INT_TO_FLOAT = ELEMENTWISE_TYPE_PROMOTION_KIND.INT_TO_FLOAT


class Refusal(Exception):
    """A builder's reason why a node cannot be captured."""


@dataclass(frozen=True)
class Number:
    """A Python number (kind int, float or bool) whose value is known only at run time: the 0-d tensor that holds it."""

    value: Value
    kind: type


def dtype_of(dtype: torch.dtype) -> DType:
    """Raises Refusal for what neve does not have: complex, quantized, unsigned beyond 8 bits."""
    if dtype not in DTYPES:
        raise Refusal(f"the element type {str(dtype).removeprefix('torch.')} is not supported")
    return DTYPES[dtype]


class Context:
    """The state of a walk, as the builders see it; node is the one being built."""

    def __init__(self, b: GraphBuilder, symbols: MethodSymbols, strip: str = "") -> None:
        self.b, self.symbols, self.strip = b, symbols, strip
        self.node: Any = None
        self.places: dict[Value, Value] = {}  # of masks, see `aten_lengths`

    def __call__(self, op: Op | str, *inputs: Value) -> Value:
        """Append op (or the attribute-less op of that name) and return its only output."""
        return self.b(REGISTRY[op]() if isinstance(op, str) else op, *inputs)

    def emit(self, op: Op, *inputs: Value) -> tuple[Value, ...]:
        return self.b.emit(op, *inputs)

    def raise_if(self, wrong: Value, what: str) -> None:
        """End the call where wrong (bool, 0-d) is true. what: the message, after "KIND: " if eager does not raise a
        RuntimeError; the node's place is added.
        """
        self.emit(Raise(f"{what}{diagnose.at(self.node, self.strip)}"), wrong)

    def raise_if_empty(self, x: Value, axes: Sequence[int], what: str) -> None:
        """End the call where one of these axes of x has the size 0, if the declared sizes allow it."""
        for axis in axes:
            self.raise_if_below(x.shape[axis], 1, what)

    def raise_if_below(self, size: Dim, least: int, what: str) -> None:
        """End the call where a size is below the least one for which eager does something, if the declared sizes allow
        that.
        """
        if isinstance(size, int):
            if size < least:
                raise Refusal(f"{what} of an axis of size {size}, on which eager raises")
        elif (self.symbols.range(size) or (0, 0))[0] < least:
            small = self("lt", self(SizeOf(size)), self.full(least, DType.int64))
            self.raise_if(small, f"{what} of an axis of less than {least}")

    def refuse(self, reason: str) -> Any:
        raise Refusal(reason)

    # What torch says that this node gives.

    def type_of(self, val: Any) -> TensorType:
        """The type of a fake tensor; of a complex one that of its parts."""
        if not isinstance(val, torch.Tensor):
            raise Refusal(f"a tensor was expected, torch has {type(val).__name__}")
        if val.layout is not torch.strided:
            raise Refusal(f"{str(val.layout).removeprefix('torch.')} tensors are not supported")
        return TensorType(tuple(self.symbols.dim(d) for d in val.shape), dtype_of(PARTS.get(val.dtype, val.dtype)))

    @property
    def out(self) -> TensorType:
        """The type of the node's only (or first) result."""
        val = self.node.meta["val"]
        return self.type_of(val[0] if isinstance(val, (tuple, list)) else val)

    def used(self, i: int) -> bool:
        """Whether result i of the node has a use."""
        return any(
            u.target.__name__ == "getitem" and u.args[1] == i and u.users
            for u in self.node.users
            if hasattr(u.target, "__name__")
        ) or any(getattr(u.target, "__name__", "") != "getitem" for u in self.node.users)

    # Values.

    def cast(self, v: Value, dtype: DType) -> Value:
        return v if v.dtype is dtype else self(Cast(dtype), v)

    def full(self, value: float | bool, dtype: DType, shape: Sequence[Dim] = ()) -> Value:
        """One number in a shape; what an integer type cannot hold wraps, as in eager."""
        if dtype.is_int:
            least, most = limits(dtype)
            value = (int(value) - least) % (most - least + 1) + least
        else:
            value = bool(value) if dtype is DType.bool else float(value)
        return self(Full(tuple(shape), value, dtype))

    def tensor(self, x: Any, dtype: DType) -> Value:
        """x (tensor, number, size) as a tensor of dtype."""
        if isinstance(x, Value):
            return self.cast(x, dtype)
        if isinstance(x, Number):
            return self.cast(x.value, dtype)
        if isinstance(x, Index):
            return self.cast(self(SizeOf(dim(x))), dtype)
        if isinstance(x, sympy.Expr) and not x.is_number:
            whole = in_whole_numbers(x)
            parts = sympy.fraction(sympy.together(x)) if whole is None else whole
            if parts[1] == 1:
                return self.tensor(parts[0], dtype)
            top, bottom = (self.tensor(e, DType.float64) for e in parts)
            return self.cast(self("div", top, bottom), dtype)
        if isinstance(x, sympy.Expr):
            x = int(x) if x.is_Integer else float(x)
        if isinstance(x, complex):
            raise Refusal("complex numbers are not supported")
        return self.full(x, dtype)

    def promote(self, *args: Any, kind: ELEMENTWISE_TYPE_PROMOTION_KIND = DEFAULT) -> DType:
        """The common dtype of tensors and numbers by torch's promotion rules."""
        return dtype_of(elementwise_dtypes(*(_stand_in(a) for a in args), type_promotion_kind=kind)[1])

    def contiguous(self, v: Value) -> Any:
        """A fake tensor of v's type, contiguous, on the fake mode of the node's results."""
        val = self.node.meta["val"]
        first = val[0] if isinstance(val, (tuple, list)) else val
        return first.new_empty(tuple(int(d) for d in v.shape), dtype=getattr(torch, v.dtype.value))

    # Views in common use.

    def reshape(self, v: Value, shape: Sequence[Any]) -> Value:
        shape = dims(shape)
        try:
            return v if v.shape == shape else self(Reshape(shape), v)
        except ValueError as error:
            raise Refusal(f"{error}: {guards.multiples(shape)}") from error

    def permute(self, v: Value, order: Sequence[int]) -> Value:
        return v if tuple(order) == tuple(range(len(order))) else self(Permute(tuple(order)), v)

    def expand(self, v: Value, shape: Sequence[Any]) -> Value:
        shape = dims(shape)
        if v.shape == shape:
            return v
        return self(Expand(shape), self.reshape(v, (1,) * (len(shape) - len(v.shape)) + v.shape))

    def slice(self, v: Value, axis: int, start: Any, stop: Any, step: Any = 1) -> Value:
        if start == 0 and step == 1 and stop == v.shape[axis]:
            return v
        return self(Slice(axis, start, stop, step), v)

    def select(self, v: Value, axis: int, index: Any) -> Value:
        return self.reshape(self.slice(v, axis, index, index + 1), v.shape[:axis] + v.shape[axis + 1 :])

    def unsqueeze(self, v: Value, axis: int) -> Value:
        return self.reshape(v, (*v.shape[:axis], 1, *v.shape[axis:]))

    def axis(self, axis: int, rank: int) -> int:
        """axis in 0..rank-1 (a scalar has axis 0 as well)."""
        return axis % max(rank, 1)

    def axes(self, axes: Sequence[int] | int | None, rank: int) -> tuple[int, ...]:
        """All axes if none are named."""
        if axes is None or (isinstance(axes, Sequence) and not axes):
            return tuple(range(rank))
        return tuple(self.axis(a, rank) for a in ((axes,) if isinstance(axes, int) else axes)) if rank else ()


@cache
def _meta(rank: int, dtype: DType) -> torch.Tensor:
    return torch.empty((1,) * rank, dtype=getattr(torch, dtype.value), device="meta")


def _stand_in(a: Any) -> Any:
    if isinstance(a, Value):
        return _meta(min(len(a.shape), 1), a.dtype)
    if isinstance(a, Number):
        return a.kind(1)
    if isinstance(a, Index):
        return 1
    if isinstance(a, sympy.Expr):
        return 1.0
    return a
