"""Complex tensors at capture: pairs of real ones. Nothing behind capture knows of them.

A node that takes or gives complex numbers goes to its builder in COMPLEX; an op in LINEAR, which treats real and
imaginary parts alike, to its real builder once for each part. Others are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from neve.capture.aten import TABLE, overload
from neve.capture.context import PARTS, Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import Dim, DType
from neve.ops.pad import Cat


@dataclass(frozen=True)
class Pair:
    """A complex tensor: its real and imaginary parts, of one type."""

    real: Value
    imag: Value

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.real.shape

    @property
    def dtype(self) -> DType:
        """Of the parts."""
        return self.real.dtype


def in_one(c: Context, x: Pair) -> Value:
    """Both parts as one tensor, along a last axis: what crosses the bounds of a graph."""
    axis = len(x.shape)
    return c(Cat(axis), c.unsqueeze(x.real, axis), c.unsqueeze(x.imag, axis))


def taken_apart(c: Context, x: Value) -> Pair:
    """The reverse of `in_one`."""
    axis = len(x.shape) - 1
    return Pair(c.select(x, axis, 0), c.select(x, axis, 1))


Builder = Callable[..., Any]
F = TypeVar("F", bound=Builder)
COMPLEX: dict[Any, Builder] = {}
LINEAR: dict[Any, tuple[int, ...]] = {}
"""Op → which arguments hold data: tensors, lists of them, or the numbers that fill in for them."""


def complex_(*names: str) -> Callable[[F], F]:
    """Register a builder of nodes that take or give complex numbers."""

    def register(f: F) -> F:
        for op in map(overload, names):
            assert op not in COMPLEX, op
            COMPLEX[op] = f
        return f

    return register


def linear(names: str, *data: int) -> None:
    LINEAR.update({overload(name): data or (0,) for name in names.split()})


linear(
    "_unsafe_view _reshape_alias alias as_strided broadcast_to chunk clone contiguous cumsum detach diag_embed "
    "diagonal expand flatten.using_ints flip gather index.Tensor index_select lift lift_fresh lift_fresh_copy mean "
    "mean.dim narrow neg permute repeat reshape roll select.int slice.Tensor split.Tensor split_with_sizes squeeze "
    "squeeze.dim squeeze.dims sum sum.dim_IntList t transpose.int tril triu unbind.int unflatten.int unfold "
    "unsafe_chunk unsafe_split.Tensor unsafe_split_with_sizes unsqueeze view zeros_like new_zeros zero "
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d "
    "_pad_circular permute_copy expand_copy slice_copy.Tensor select_copy.int squeeze_copy unsqueeze_copy t_copy "
    "transpose_copy.int view_copy unbind_copy.int split_copy.Tensor diagonal_copy"
)
linear("cat concat stack")
linear("where.self", 1, 2)
linear("constant_pad_nd", 0, 2)
linear("masked_fill.Scalar masked_fill.Tensor", 0, 2)
linear("index_fill.int_Scalar index_fill.int_Tensor", 0, 3)
linear("full", 1)
linear("full_like fill.Scalar fill.Tensor", 0, 1)
linear("new_full", 2)
linear("index_put", 0, 2)
linear("scatter.src index_copy scatter_add", 0, 3)
linear("slice_scatter select_scatter diagonal_scatter as_strided_scatter", 0, 1)
LINEAR[overload("zeros")] = ()


def concerns(args: Any, val: Any) -> bool:
    """Whether a node with these arguments and this result has to do with complex numbers."""
    first = val[0] if isinstance(val, (list, tuple)) and val else val
    if isinstance(first, torch.Tensor) and first.dtype in PARTS:
        return True
    if isinstance(args, (list, tuple)):
        return any(concerns(a, None) for a in args)
    if isinstance(args, dict):
        return concerns(list(args.values()), None)
    return isinstance(args, (Pair, complex))


def build(c: Context, target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a node gives that has to do with complex numbers."""
    if target in COMPLEX:
        return COMPLEX[target](c, *args, **kwargs)
    if target not in LINEAR:
        raise Refusal("it is not supported on complex numbers: compute with the parts (x.real, x.imag)")
    if not any(concerns((), v) for v in _several(c.node.meta["val"])):  # such as zeros_like(z, dtype=torch.float32)
        return _half(c, target, args, kwargs, 0)
    halves = [_half(c, target, args, kwargs, side) for side in (0, 1)]
    if isinstance(halves[0], (list, tuple)):
        return [Pair(*parts) for parts in zip(*halves, strict=True)]
    return Pair(*halves)


def _several(val: Any) -> Sequence[Any]:
    return val if isinstance(val, (list, tuple)) else (val,)


def _half(c: Context, target: Any, args: Sequence[Any], kwargs: dict[str, Any], side: int) -> Any:
    kwargs = {k: PARTS.get(v, v) if isinstance(v, torch.dtype) else v for k, v in kwargs.items()}
    data = {target._schema.arguments[i].name for i in LINEAR[target]}
    kwargs |= {k: part(c, v, side) for k, v in kwargs.items() if k in data}
    return TABLE[target](c, *(part(c, a, side) if i in LINEAR[target] else a for i, a in enumerate(args)), **kwargs)


def part(c: Context, x: Any, side: int) -> Any:
    """One side of a complex tensor, of a list of them, or of a number."""
    if isinstance(x, (list, tuple)):
        return [part(c, e, side) for e in x]
    if isinstance(x, Value):
        p = pair(c, x, c.out.dtype)
        return (p.real, p.imag)[side]
    if isinstance(x, Pair):
        return (x.real, x.imag)[side]
    if isinstance(x, (int, float, complex)):
        return (x.real, x.imag)[side]
    return 0 if side else x


def pair(c: Context, x: Any, dtype: DType) -> Pair:
    """A tensor or number as a complex tensor with parts of a dtype."""
    if isinstance(x, Pair):
        return Pair(c.cast(x.real, dtype), c.cast(x.imag, dtype))
    if isinstance(x, complex):
        return Pair(c.full(x.real, dtype), c.full(x.imag, dtype))
    real = c.tensor(x, dtype)
    return Pair(real, c.full(0, dtype, real.shape))
