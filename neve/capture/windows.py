"""Slices, rows and narrow at positions that the run decides, while a model's own code runs under torch.export.

torch gives such a slice a size that depends on data, even where stop = start + 4. Here it keeps its length, and the run
checks that it has it. What is written into one is eager's: a single row goes nowhere where the slice is empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from neve.errors import CaptureError, InputError
from neve.internals import missing, require

PROVED = "torch.fx.experimental.symbolic_shapes.statically_known_true"
_sym_min: Any = torch.sym_min
Part = tuple[int, slice]
"""An axis, and what is taken of it."""


class Windows(TorchFunctionMode):
    """args: those of the method, whose ints may be positions too."""

    def __init__(self, args: Any) -> None:
        super().__init__()
        given = [x for x in pytree.tree_leaves(args) if isinstance(x, torch.SymInt)]
        self.numbers: set[sympy.Symbol] = {s for x in given for s in x.node.expr.free_symbols}
        for x in given:
            _check(x >= 0)  # a call refuses negative ones

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("__getitem__", "__setitem__") and isinstance(args[0], Tensor):
            view = self._view(args[0], args[1])
            if view is not None and name == "__getitem__":
                return self._read(*view)
            if view is not None:
                return self._write(*view, args[2])
        elif name == "narrow" and len(args) + len(kwargs) == 4:
            x, axis, start, length = _of_narrow(*args, **kwargs)
            if self.varies(start) and not _by_data(length):
                return _narrow(x, axis, _number(start), length)
        return func(*args, **kwargs)

    def varies(self, x: Any) -> bool:
        """Whether a bound is a position that the run decides: one read from a tensor, or by way of an int argument."""
        of_number = isinstance(x, torch.SymInt) and bool(x.node.expr.free_symbols & self.numbers)
        return of_number or _by_data(x) or _is_position(x)

    def _view(self, x: Tensor, index: Any) -> tuple[Tensor, list[Part]] | None:
        """x after all of a basic index but the slices that the run decides, and these; None if it decides nothing."""
        items = list(index) if isinstance(index, tuple) else [index]
        bounds = [b for i in items for b in ((i.start, i.stop, i.step) if isinstance(i, slice) else (i,))]
        if not all(map(_is_basic, items)) or not any(self.varies(b) for b in bounds):
            return None
        if sum(i is Ellipsis for i in items) > 1:
            return None
        named = sum(i is not None and i is not Ellipsis for i in items)
        at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
        items[at : at + 1] = [slice(None)] * (x.dim() - named)
        axis, parts = 0, []
        for item in items:
            if item is None:
                x = x.unsqueeze(axis)
            elif not isinstance(item, slice):
                x = torch.select(x, axis, _number(item))
                continue
            elif any(self.varies(b) for b in (item.start, item.stop, item.step)):
                parts.append((axis, slice(_number(item.start), _number(item.stop), _number(item.step))))
            elif item != slice(None):
                x = x[(slice(None),) * axis + (item,)]
            axis += 1
        return x, parts

    def _read(self, x: Tensor, parts: Iterable[Part]) -> Tensor:
        """The slices, as a view."""
        for axis, part in parts:
            count, size = self._count(part), x.shape[axis]
            if count is None or _inside(part, size):
                start, stop = (_from_front(b, size) for b in (part.start, part.stop))
                x = _slice(x, axis, start, stop, part.step)
                continue
            low, high = _bounds(part, size)
            what = f"a slice that is compiled for a length of {count} is shorter in this call"
            _end_if(high - low != count, f"{InputError.__name__}: {what}")
            x = _at(x, axis, low, count)
        return x

    def _count(self, part: slice) -> Any:
        """How far stop is behind a start that the run decides: an int of 1 or more, or a size; None if that varies."""
        if part.step not in (None, 1) or part.stop is None or not self.varies(part.start):
            return None
        far = part.stop - part.start
        if isinstance(far, torch.SymInt):
            known = far.node.maybe_as_int()
            far = far if known is None else known
        return None if _by_data(far) or (isinstance(far, int) and far < 1) else far

    def _write(self, x: Tensor, parts: list[Part], value: Any) -> None:
        if not parts:
            x[...] = value
            return
        axis, part = parts[-1]
        x = self._read(x, parts[:-1])
        count = self._count(part)
        if part.step not in (None, 1) or (count is not None and _inside(part, x.shape[axis])):
            _slice(x, axis, part.start, part.stop, part.step)[...] = value
            return
        v = value if isinstance(value, Tensor) else torch.full((), value, dtype=x.dtype)
        v = v.to(x.dtype)
        while v.dim() > x.dim() and v.shape[0] == 1:
            v = v[0]
        _put(x, axis, part, count, v)


def _put(x: Tensor, axis: int, part: slice, count: Any, value: Tensor) -> None:
    """x[part along axis] = value. One row, which eager repeats, goes wherever the slice is; several have to be as many
    as it has. count: how many that is, unless the axis ends before.
    """
    size = x.shape[axis]
    n = value.shape[axis - x.dim()] if value.dim() >= x.dim() - axis else 1
    single = isinstance(n, int) and n == 1
    low, high = _bounds(part, size)
    rows = n
    if single:
        rows = min(count, size) if isinstance(count, int) and isinstance(size, int) else size
    else:
        wrong = high - low != n
        if not isinstance(n, int):
            wrong = wrong & ~((_scalar(n) == 1) & (high == low))
        _end_if(wrong, f"RuntimeError: {n} entries do not fit into a slice of another length")
    first = torch.minimum(low, _scalar(size - rows)).clamp(min=0)
    places = first + torch.arange(rows)
    if single or not isinstance(n, int):
        inside = (places >= low) & (places < high)
        inside = inside.reshape(-1, *(1,) * (x.dim() - axis - 1))
        value = torch.where(inside, value, x.index_select(axis, places))
    x.index_copy_(axis, places, value.expand(*x.shape[:axis], rows, *x.shape[axis + 1 :]))


def _of_narrow(input: Any, dim: Any, start: Any, length: Any) -> tuple[Any, Any, Any, Any]:
    return input, dim, start, length


def _narrow(x: Tensor, axis: int, start: Any, length: Any) -> Tensor:
    axis %= x.dim()
    size, at = x.shape[axis], _scalar(start)
    low = torch.where(at < 0, at + size, at)
    what = f"narrow to {length} entries reaches out of an axis of {size}"
    _end_if((low < 0) | (low > size - length), f"RuntimeError: {what}")
    return _at(x, axis, low, length)


def _at(x: Tensor, axis: int, low: Tensor, count: Any) -> Tensor:
    """x[low : low + count] along axis as a view, after the run has checked that it is there."""
    at = low.clamp(min=0).item()
    _check(at >= 0)
    _check(at + count <= x.shape[axis])
    return _slice(x, axis, at, at + count)


def _slice(x: Tensor, axis: int, start: Any, stop: Any, step: Any = None) -> Tensor:
    found: Tensor = torch.ops.aten.slice.Tensor(x, axis, start, stop, 1 if step is None else step)
    return found


def _bounds(part: slice, size: Any) -> tuple[Tensor, Tensor]:
    """Where a slice begins and ends in an axis, 0 <= low <= high <= size."""
    whole = _scalar(size)
    low, high = (_scalar(default if at is None else at) for at, default in ((part.start, 0), (part.stop, size)))
    low, high = (torch.minimum(torch.where(at < 0, at + whole, at).clamp(min=0), whole) for at in (low, high))
    return low, torch.maximum(low, high)


def _scalar(x: Any) -> Tensor:
    return torch.scalar_tensor(x, dtype=torch.int64)


def _end_if(wrong: Tensor, message: str) -> None:
    torch.ops.aten._assert_async.msg(~wrong, message)


def _from_front(bound: Any, size: Any) -> Any:
    """A bound of a slice as torch can tell where it is: -n for an int argument n counts from the end."""
    if not isinstance(bound, torch.SymInt) or _by_data(bound) or not _known(bound <= 0):
        return bound
    _end_if(
        _scalar(bound) == 0, f"{InputError.__name__}: a slice at -n, where n = 0 means the whole, is for n > 0 only"
    )
    return size - _sym_min(-bound, size)


def _inside(part: slice, size: Any) -> bool:
    """Whether torch knows that a slice lies in an axis, from a model's own torch._check."""
    return _known(part.start >= 0) and _known(part.stop <= size)


def _check(truth: Any) -> None:
    """Tell torch that a relation of sizes holds."""
    require("a position that the run decides", "torch._check", error=CaptureError)
    check: Any = torch._check
    check(truth)


def _known(truth: Any) -> bool:
    if missing(PROVED):
        return False
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return bool(statically_known_true(truth))


def _is_basic(item: Any) -> bool:
    number = isinstance(item, (int, torch.SymInt)) and not isinstance(item, bool)
    return isinstance(item, slice) or item is None or item is Ellipsis or number or _is_position(item)


def _is_position(item: Any) -> bool:
    """Whether a tensor is an index as a number is."""
    whole = (torch.int64, torch.int32, torch.int16, torch.int8)
    return isinstance(item, Tensor) and item.dim() == 0 and item.dtype in whole


def _number(item: Any) -> Any:
    return item.item() if isinstance(item, Tensor) else item


def _by_data(x: Any) -> bool:
    """Whether a number depends on the values of tensors."""
    return isinstance(x, torch.SymInt) and not x.node.is_constant() and not x.node.has_hint()
