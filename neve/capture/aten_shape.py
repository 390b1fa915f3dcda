"""Builders of views, joins, pads and writes into parts of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from neve.capture import aten_windows
from neve.capture.aten import aten
from neve.capture.context import Context, Refusal
from neve.errors import InputError
from neve.ir.graph import Value
from neve.ir.types import Dim, DType, dim
from neve.ops.index import IndexSelect
from neve.ops.overwrite import AsStridedScatter, DiagEmbed, DiagonalScatter, SliceScatter
from neve.ops.pad import Cat, CircularPad, Pad, ReflectionPad, ReplicationPad, Roll, Tril, Triu
from neve.ops.scatter import IndexPut
from neve.ops.shape import AsStrided, Diagonal, Flip, Repeat, Slice, Unfold
from neve.ops.source import Arange

END = 2**62


@aten(
    "view",
    "reshape",
    "_unsafe_view",
    "_reshape_alias",
    "unsqueeze",
    "flatten.using_ints",
    "view_copy",
    "unsqueeze_copy",
    "unflatten.int",
)
def reshape(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    return c.reshape(x, c.out.shape)


@aten("squeeze", "squeeze.dim", "squeeze.dims", "squeeze_copy", "squeeze_copy.dim", "squeeze_copy.dims")
def squeeze(c: Context, x: Value, axes: Sequence[int] | int | None = None) -> Value:
    over = [] if axes == [] else c.axes(axes, len(x.shape))  # no axes given are all, an empty list of them none
    for axis in over:
        size = x.shape[axis]
        bounds = (size, size) if isinstance(size, int) else c.symbols.range(size)
        if not isinstance(size, int) and (bounds is None or bounds[0] <= 1 <= bounds[1]):
            c.refuse(f"squeeze of an axis of size {size}, which may be 1 or not: give the size a range without 1")
    return c.reshape(x, [n for a, n in enumerate(x.shape) if a not in over or n != 1])


@aten("view.dtype")
def view_dtype(c: Context, x: Value, dtype: Any) -> Value:
    return (
        x
        if c.out.dtype is x.dtype
        else c.refuse("the reinterpretation of a tensor's bits as another dtype is not supported")
    )


@aten("expand", "expand_copy", "broadcast_to")
def expand(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    return c.expand(x, c.out.shape)


@aten("permute", "permute_copy")
def permute(c: Context, x: Value, order: Sequence[int]) -> Value:
    return c.permute(x, [d % len(x.shape) for d in order])


@aten("transpose.int", "transpose_copy.int")
def transpose(c: Context, x: Value, a: int, b: int) -> Value:
    rank = len(x.shape)
    order = list(range(rank))
    if rank:
        order[a], order[b] = order[b], order[a]
    return c.permute(x, [d % rank for d in order])


@aten("t", "t_copy")
def t(c: Context, x: Value) -> Value:
    return c.permute(x, (1, 0)) if len(x.shape) == 2 else x


def bounds(c: Context, size: Dim, start: Any, stop: Any) -> tuple[Dim, Dim]:
    """A slice's bounds as 0 <= start <= stop <= size."""
    start = _bound(c, size, 0 if start is None else start)
    stop = _bound(c, size, size if stop is None else stop)
    return start, c.symbols.largest(start, stop)


def _bound(c: Context, size: Dim, at: Any) -> Dim:
    if isinstance(at, int) and at >= END:
        return size
    if isinstance(size, int) and isinstance(at, int):
        return min(max(at + size if at < 0 else at, 0), size)
    found = c.symbols.range(at)
    if found is not None and found[1] == 0 and not isinstance(at, int):
        c.raise_if_below(
            dim(-at), 1, f"{InputError.__name__}: a slice at -n, which is the whole for n = 0, is compiled for"
        )
    elif found is None or found[0] < 0 <= found[1]:
        raise Refusal(f"a slice at {at}: whether it counts from the end depends on the size; declare the size's range")
    if found[0] < 0:
        at = dim(size + at)
    if at == 0 or at == size:
        return dim(at)
    return c.symbols.least(c.symbols.largest(at, 0), size)


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_(c: Context, x: Value, axis: int = 0, start: Any = None, stop: Any = None, step: int = 1) -> Value:
    axis = c.axis(axis, len(x.shape))
    if aten_windows.by_run(start, stop, step):
        return aten_windows.read(c, x, axis, start, stop, step)
    low, high = bounds(c, x.shape[axis], start, stop)
    return c.slice(x, axis, low, high, step)


@aten("select.int", "select_copy.int")
def select(c: Context, x: Value, axis: int, index: Any) -> Value:
    axis = c.axis(axis, len(x.shape))
    if _by_run(c, x.shape[axis], index):
        found = c(IndexSelect(axis), x, aten_windows.row(c, x.shape[axis], index))
        return c.reshape(found, x.shape[:axis] + x.shape[axis + 1 :])
    return c.select(x, axis, _index(x.shape[axis], index))


def _by_run(c: Context, size: Dim, index: Any) -> bool:
    """Whether the run has to say where in an axis an index is, if it is in it."""
    if aten_windows.by_run(index):
        return True
    low, gap = c.symbols.range(_index(size, index)), c.symbols.range(size - index)
    return low is None or gap is None or low[0] < 0 or gap[0] < 1


def _index(size: Dim, index: Any) -> Dim:
    return dim(size + index) if isinstance(index, int) and index < 0 else dim(index)


@aten("narrow")
def narrow(c: Context, x: Value, axis: int, start: Any, length: Any) -> Value:
    return slice_(c, x, axis, start, dim(start + length))


@aten("unbind.int", "unbind_copy.int")
def unbind(c: Context, x: Value, axis: int = 0) -> tuple[Value, ...]:
    axis = c.axis(axis, len(x.shape))
    return tuple(c.select(x, axis, i) for i in range(_static(x.shape[axis])))


@aten(
    "split.Tensor",
    "split_with_sizes",
    "chunk",
    "split_with_sizes_copy",
    "split_copy.Tensor",
    "unsafe_split.Tensor",
    "unsafe_split_with_sizes",
    "unsafe_chunk",
)
def split(c: Context, x: Value, sizes: Any, axis: int = 0, **kwargs: Any) -> tuple[Value, ...]:
    axis = c.axis(kwargs.get("dim", axis), len(x.shape))
    at: Dim = 0
    parts = []
    for val in c.node.meta["val"]:
        size = c.type_of(val).shape[axis]
        parts.append(c.slice(x, axis, dim(at), dim(at + size)))
        at = dim(at + size)
    return tuple(parts)


def _static(size: Any) -> int:
    if not isinstance(size, int):
        raise Refusal(f"the size {size} has to be fixed here")
    return size


@aten("cat", "concat")
def cat(c: Context, tensors: Sequence[Value], axis: int = 0) -> Value:
    out = c.out
    parts = [c.cast(x, out.dtype) for x in tensors if not (x.shape == (0,) and len(out.shape) != 1)]
    return parts[0] if len(parts) == 1 else c(Cat(c.axis(axis, len(out.shape))), *parts)


@aten("stack")
def stack(c: Context, tensors: Sequence[Value], axis: int = 0) -> Value:
    out = c.out
    axis = c.axis(axis, len(out.shape))
    return c(Cat(axis), *(c.unsqueeze(c.cast(x, out.dtype), axis) for x in tensors))


@aten("flip")
def flip(c: Context, x: Value, axes: Sequence[int]) -> Value:
    return c(Flip(tuple(a % len(x.shape) for a in axes)), x) if x.shape and axes else x


@aten("repeat")
def repeat(c: Context, x: Value, repeats: Sequence[Any]) -> Value:
    return c(Repeat(tuple(repeats)), c.reshape(x, (1,) * (len(repeats) - len(x.shape)) + x.shape))


@aten("roll")
def roll(c: Context, x: Value, shifts: Any, axes: Any = ()) -> Value:
    shifts, axes = (list(v) if isinstance(v, (list, tuple)) else [v] for v in (shifts, axes))
    if not axes:
        return c.reshape(_roll(c, c.reshape(x, (x.type.numel,)), shifts[0], 0), x.shape)
    for shift, axis in zip(shifts, axes, strict=True):
        x = _roll(c, x, shift, c.axis(axis, len(x.shape))) if x.shape else x
    return x


def _roll(c: Context, x: Value, shift: Any, axis: int) -> Value:
    size = x.shape[axis]
    if isinstance(size, int) and isinstance(shift, int):
        return c(Roll(shift % size, axis), x) if size and shift % size else x
    if isinstance(shift, int) and abs(shift) == 1:
        return c(Roll(dim(size - 1) if shift < 0 else 1, axis), x)
    raise Refusal(f"roll by {shift} of an axis of size {size}")


@aten("constant_pad_nd")
def constant_pad(c: Context, x: Value, pads: Sequence[Any], value: Any = 0) -> Value:
    kind = bool if x.dtype.value == "bool" else float if x.dtype.is_float else int
    if all(isinstance(p, int) for p in pads):
        return c(Pad(_pairs(x, pads), kind(value)), x)
    for k, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        x = _beside(c, x, len(x.shape) - 1 - k, before, after, kind(value))
    return x


def _beside(c: Context, x: Value, axis: int, before: Any, after: Any, fill: Any) -> Value:
    """Padding by amounts that depend on sizes: what is below 0 cuts off."""
    size, parts = x.shape[axis], []
    low, high = (c.symbols.largest(dim(-p), 0) for p in (before, after))
    if low != 0 or high != 0:
        x = c.slice(x, axis, low, dim(size - high))
    for amount in (before, after):
        shape = [c.symbols.largest(amount, 0) if a == axis else n for a, n in enumerate(x.shape)]
        parts.append(c.full(fill, x.dtype, shape))
    kept = [p for p in (parts[0], x, parts[1]) if p.shape[axis] != 0]
    return c(Cat(axis), *kept) if len(kept) > 1 else x


def _pairs(x: Value, pads: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """torch's pads (last axis first) as a pair for each axis."""
    n = len(pads) // 2
    if not all(isinstance(p, int) for p in pads):
        raise Refusal(f"padding by {list(pads)}: the amount depends on a size")
    return ((0, 0),) * (len(x.shape) - n) + tuple((pads[2 * i], pads[2 * i + 1]) for i in reversed(range(n)))


def _wrapping(c: Context, x: Value, pads: Sequence[int], least: Callable[[int], int]) -> tuple[tuple[int, int], ...]:
    """Those of a padding with x's own elements; least: the size that an amount needs."""
    pairs = _pairs(x, pads)
    for size, amounts in zip(x.shape, pairs, strict=True):
        if max(amounts) > 0:
            c.raise_if_below(size, least(max(amounts)), f"padding by {max(amounts)}")
    return pairs


@aten("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def reflection_pad(c: Context, x: Value, pads: Sequence[int]) -> Value:
    return c(ReflectionPad(_wrapping(c, x, pads, lambda p: p + 1)), x)


@aten("replication_pad1d", "replication_pad2d", "replication_pad3d")
def replication_pad(c: Context, x: Value, pads: Sequence[int]) -> Value:
    """Negative pads cut off, but never the edge that is repeated."""
    pairs = _wrapping(c, x, pads, lambda p: min(p, 1))
    for axis, (before, after) in enumerate(pairs):
        if before < 0 or after < 0:
            size = x.shape[axis]
            at = c(Arange(-before, 1, dim(size + before + after), DType.int64))
            zero, last = c.full(0, DType.int64), c.tensor(dim(size - 1), DType.int64)
            x = c(IndexSelect(axis), x, c("minimum", c("maximum", at, zero), last))
    left = tuple((0, 0) if min(p) < 0 else p for p in pairs)
    return c(ReplicationPad(left), x) if any(p != (0, 0) for p in left) else x


@aten("_pad_circular")
def circular_pad(c: Context, x: Value, pads: Sequence[int]) -> Value:
    return c(CircularPad(_wrapping(c, x, pads, lambda p: p)), x)


@aten("tril")
def tril(c: Context, x: Value, diagonal: int = 0) -> Value:
    return c(Tril(diagonal), x)


@aten("triu")
def triu(c: Context, x: Value, diagonal: int = 0) -> Value:
    return c(Triu(diagonal), x)


@aten("diagonal", "diagonal_copy")
def diagonal(
    c: Context, x: Value, offset: int = 0, a: int = 0, b: int = 1, *, dim1: int | None = None, dim2: int | None = None
) -> Value:
    rank = len(x.shape)
    return c(Diagonal(offset, (a if dim1 is None else dim1) % rank, (b if dim2 is None else dim2) % rank), x)


@aten("diagonal_scatter")
def diagonal_scatter(
    c: Context,
    x: Value,
    src: Value,
    offset: int = 0,
    a: int = 0,
    b: int = 1,
    *,
    dim1: int | None = None,
    dim2: int | None = None,
) -> Value:
    rank = len(x.shape)
    return c(
        DiagonalScatter(offset, (a if dim1 is None else dim1) % rank, (b if dim2 is None else dim2) % rank),
        x,
        c.cast(src, x.dtype),
    )


@aten("diag_embed")
def diag_embed(
    c: Context, x: Value, offset: int = 0, a: int = -2, b: int = -1, *, dim1: int | None = None, dim2: int | None = None
) -> Value:
    rank = len(x.shape) + 1
    return c(DiagEmbed(offset, (a if dim1 is None else dim1) % rank, (b if dim2 is None else dim2) % rank), x)


@aten("unfold", "unfold_copy")
def unfold(c: Context, x: Value, axis: int, size: int, step: int) -> Value:
    return c(Unfold(c.axis(axis, len(x.shape)), size, step), x)


@aten("as_strided", "as_strided_copy")
def as_strided(c: Context, x: Value, size: Sequence[Any], stride: Sequence[Any], offset: Any = None) -> Value:
    val = c.node.args[0].meta["val"]
    numbers = [*size, *stride, offset or 0]
    if not all(isinstance(n, int) for n in numbers) or not x.type.is_static:
        raise Refusal("as_strided with sizes that are not fixed")
    if not val.is_contiguous() or val.storage_offset() != 0:
        raise Refusal("as_strided of a view: its result depends on how the view lies in memory")
    return c(AsStrided(tuple(size), tuple(stride), offset or 0), x)


@aten("as_strided_scatter")
def as_strided_scatter(
    c: Context, x: Value, src: Value, size: Sequence[Any], stride: Sequence[Any], offset: Any = None
) -> Value:
    val = c.node.args[0].meta["val"]
    if not all(isinstance(n, int) for n in (*size, *stride, offset or 0)) or not x.type.is_static:
        raise Refusal("as_strided with sizes that are not fixed")
    if not val.is_contiguous():
        raise Refusal("a write into as_strided of a view: its result depends on how the view lies in memory")
    src = c.expand(c.cast(src, x.dtype), size)
    return c(AsStridedScatter(tuple(size), tuple(stride), offset or 0), x, src)


@aten("slice_scatter")
def slice_scatter(
    c: Context, x: Value, src: Value, axis: int = 0, start: Any = None, stop: Any = None, step: int = 1
) -> Value:
    axis = c.axis(axis, len(x.shape))
    if aten_windows.by_run(start, stop, step):
        return aten_windows.write(c, x, c.cast(src, x.dtype), axis, start, stop, step)
    low, high = bounds(c, x.shape[axis], start, stop)
    src = c.expand(c.cast(src, x.dtype), Slice(axis, low, high, step).infer(x.type)[0].shape)
    return src if src.shape == x.shape and low == 0 and step == 1 else c(SliceScatter(axis, low, high, step), x, src)


@aten("select_scatter")
def select_scatter(c: Context, x: Value, src: Value, axis: int, index: Any) -> Value:
    axis = c.axis(axis, len(x.shape))
    src = c.expand(c.cast(src, x.dtype), x.shape[:axis] + x.shape[axis + 1 :])
    if _by_run(c, x.shape[axis], index):
        place = aten_windows.row(c, x.shape[axis], index)
        return c(IndexPut((axis,)), x, place, c.unsqueeze(src, axis))
    at = _index(x.shape[axis], index)
    return c(SliceScatter(axis, at, dim(at + 1), 1), x, c.unsqueeze(src, axis))


@aten("unfold_backward")
def written_through_unfold(c: Context, rows: Value, sizes: Sequence[Any], axis: int, size: int, step: int) -> Value:
    """What torch.export makes of a write into x.unfold(…): all of x, but 0 where no window is. So they must be all."""
    axis = c.axis(axis, len(sizes))
    whole = sizes[axis]
    if step != size or not isinstance(whole, int) or whole % size:
        raise Refusal("a write in place into windows of unfold that leave out elements: write into slices, x[…] = …")
    last = len(sizes)
    order = [*range(axis + 1), last, *range(axis + 1, last)]
    return c.reshape(c.permute(rows, order), sizes)
