"""Ops on tensors whose length along an axis the run decides: on the whole buffer, masked where the length matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript import grown
from neve.capture.torchscript.control import same
from neve.capture.torchscript.numbers import binary, is_number
from neve.capture.torchscript.schema import choose
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import Dim, Grown, Raised, Refusal, Var, describe, needs_of

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

KEEP = frozenset({"clone", "contiguous", "detach", "to", "type_as", "cpu"})
DIVIDING = frozenset({"div", "divide", "floor_divide", "floordiv", "remainder", "fmod", "__rfloordiv__", "__rmod__"})
ASK = frozenset({"dim", "ndimension", "ndim", "dtype", "device", "is_floating_point", "is_complex", "element_size",
                 "requires_grad", "is_cuda", "layout"})  # fmt: skip


def call(m: Machine, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """torch.NAME with a Grown among its arguments. Refusal for what is not supported."""
    if name in SPECIAL and (isinstance(args[0] if args else None, Grown) or name in JOINING):
        found = SPECIAL[name](m, *args, **kwargs)
        if found is not NotImplemented:
            return found
    x = args[0] if args else None
    if name in ASK and isinstance(x, Grown):
        return _plainly(m, name, args, kwargs)
    if name in KEEP and isinstance(x, Grown):
        return replace(x, buffer=_plainly(m, name, args, kwargs), reserved=False)
    if not name.endswith("_") and _pointwise(m, name, args, kwargs):
        return _elementwise(m, name, args, kwargs)
    given = (x for a in (*args, *kwargs.values()) for x in (a if isinstance(a, (list, tuple)) else [a]))
    raise Refusal(
        f"{name} of {describe(next(x for x in given if isinstance(x, Grown)))} is not supported: "
        "give the tensor its full size before the loop and write into it, or use what has grown after the loop",
        needs_of(*args, *kwargs.values()),
    )


def _plainly(m: Machine, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The op on the buffers."""
    from neve.capture.torchscript.builtins import PRIM

    given = [a.buffer if isinstance(a, Grown) else a for a in args]
    named = {k: a.buffer if isinstance(a, Grown) else a for k, a in kwargs.items()}
    return PRIM[name](m, *given, **named) if name in PRIM else m.torch(name, given, named)


def _pointwise(m: Machine, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    given = [a.buffer if isinstance(a, Grown) else a for a in args]
    named = {k: a.buffer if isinstance(a, Grown) else a for k, a in kwargs.items()}
    try:
        op, _, _ = choose("aten", name, given, named)
    except Refusal:
        return False
    return torch.Tag.pointwise in op.tags


def _elementwise(m: Machine, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, (Grown, Var))]
    first = next(t for t in tensors if isinstance(t, Grown))
    axis = first.axis - first.buffer.meta.dim()
    for t in tensors:
        if isinstance(t, Grown):
            fits = t.axis - t.buffer.meta.dim() == axis and same(t.length, first.length)
        else:
            fits = t.meta.dim() < -axis or grown.difference(t.meta.shape[axis], 1) == 0
        if not fits:
            raise Refusal(
                f"{name} of {describe(first)} and {describe(t)}: whether their sizes fit depends on the inputs",
                needs_of(*args),
            )
    if name.rstrip("_") in DIVIDING and len(args) > 1 and isinstance(args[1], Grown):
        args = [args[0], replace(args[1], buffer=filled(m, args[1], 1)), *args[2:]]  # unused entries may be 0
    made = _plainly(m, name, args, kwargs)
    return Grown(made, made.meta.dim() + axis, first.length)


# Sizes and parts.


def _size(m: Machine, x: Grown, axis: Any = None) -> Any:
    from neve.capture.torchscript.tensors import dim_of

    rank = x.buffer.meta.dim()
    if axis is None:
        return [_size(m, x, i) for i in range(rank)]
    if type(axis) is not int or not -rank <= axis < rank:
        raise Refusal(f"size({describe(axis)}) of {describe(x)}", needs_of(axis))
    return grown.number(m, x.length) if axis % rank == x.axis else dim_of(m, x.buffer, axis)


def _numel(m: Machine, x: Grown) -> Any:
    total: Any = 1
    for n in _size(m, x):
        total = binary(m.tape, "mul", total, n)
    return total


def _select(m: Machine, x: Grown, axis: Any, index: Any) -> Any:
    if type(axis) is not int:
        raise Refusal(f"select of {describe(x)} along {describe(axis)}", needs_of(axis))
    axis %= x.buffer.meta.dim()
    if axis != x.axis:
        made = m.torch("select", [x.buffer, axis, index], {})
        return Grown(made, x.axis - (axis < x.axis), x.length)
    return grown.row(m, x.buffer, axis, index, grown.number(m, x.length))


def _getitem(m: Machine, x: Grown, index: Any) -> Any:
    return _select(m, x, 0, index)


def _slice(m: Machine, x: Grown, axis: Any = 0, start: Any = None, stop: Any = None, step: Any = 1) -> Any:
    if type(axis) is not int:
        raise Refusal(f"a slice of {describe(x)} along {describe(axis)}", needs_of(axis))
    axis %= x.buffer.meta.dim()
    if axis != x.axis:
        return replace(x, buffer=m.torch("slice", [x.buffer, axis, start, stop, step], {}), reserved=False)
    return grown.cut(m, x, axis, start, stop, step)


def _permuted(name: str) -> Callable[..., Any]:
    """Reorderings of axes: where the axis goes is seen on a tensor with one axis of another size."""

    def view(m: Machine, x: Grown, *args: Any, **kwargs: Any) -> Any:
        probe = torch.empty([2 if i == x.axis else 1 for i in range(x.buffer.meta.dim())], device="meta")
        op, _, bound = choose("aten", name, [x.buffer, *args], kwargs)
        shape = list(op(probe, *list(bound.values())[1:]).shape)
        return Grown(m.torch(name, [x.buffer, *args], kwargs), shape.index(2), x.length)

    return view


# Reductions.


def valid(m: Machine, x: Grown) -> Var:
    """Which places along the axis are within the length: bool, of a shape that broadcasts to the buffer's."""
    count = grown.size_of(m, x.buffer.meta.shape[x.axis])
    place = m.tape.call(ATEN.arange.default, count.var if isinstance(count, Dim) else count, dtype=torch.int64)
    inside = m.tape.call(ATEN.lt.Tensor, place, m.tape.number(grown.number(m, x.length), int))
    shape = [-1 if i == x.axis else 1 for i in range(x.buffer.meta.dim())]
    mask: Var = m.tape.call(ATEN.reshape.default, inside, shape)
    return mask


def filled(m: Machine, x: Grown, value: Any) -> Var:
    """The buffer with a value behind the length."""
    kind = x.buffer.meta.dtype
    other = m.tape.call(ATEN.full.default, [], value, dtype=kind)
    made: Var = m.tape.call(ATEN.where.self, valid(m, x), x.buffer, other)
    return made


def _lowest(dtype: torch.dtype) -> Any:
    return -float("inf") if dtype.is_floating_point else False if dtype is torch.bool else torch.iinfo(dtype).min


def _highest(dtype: torch.dtype) -> Any:
    return float("inf") if dtype.is_floating_point else True if dtype is torch.bool else torch.iinfo(dtype).max


def _reduced(name: str, neutral: Callable[[torch.dtype], Any], empty: bool = True) -> Callable[..., Any]:
    """A reduction for which entries of a neutral value count nothing; empty: whether there may be no entries."""

    def reduce(m: Machine, x: Grown, dim: Any = None, keepdim: Any = False, **kwargs: Any) -> Any:
        if not isinstance(x, Grown):
            return NotImplemented
        rank = x.buffer.meta.dim()
        axes = list(range(rank)) if dim is None else [dim] if type(dim) is int else dim
        if not isinstance(axes, (list, tuple)) or not all(type(a) is int for a in axes) or is_number(keepdim) is False:
            return NotImplemented
        axes = [a % max(rank, 1) for a in axes] or list(range(rank))
        if x.axis in axes:
            if not empty:
                _require(m, x, name)
            given = filled(m, x, neutral(x.buffer.meta.dtype))
            return m.torch(name, [given] if dim is None else [given, dim, keepdim], kwargs)
        made = m.torch(name, [x.buffer, dim, keepdim], kwargs)
        axis = x.axis if keepdim else x.axis - sum(a < x.axis for a in axes)
        if isinstance(made, tuple):
            return tuple(Grown(t, axis, x.length) for t in made)
        return Grown(made, axis, x.length)

    return reduce


def _require(m: Machine, x: Grown, name: str) -> None:
    n = grown.number(m, x.length)
    message = f"{name}(): the tensor has no elements along axis {x.axis}"
    if isinstance(n, int):
        if not n:
            raise Raised(message)
        return
    m.tape.fail(m.tape.call(ATEN.lt.Scalar, m.tape.number(n, int), 1), message)


def _mean(m: Machine, x: Grown, dim: Any = None, keepdim: Any = False, **kwargs: Any) -> Any:
    if not isinstance(x, Grown) or kwargs or not x.buffer.meta.dtype.is_floating_point:
        return NotImplemented
    total = _reduced("sum", lambda d: 0)(m, x, dim, keepdim)
    axes = list(range(x.buffer.meta.dim())) if dim is None else [dim] if type(dim) is int else dim
    count: Any = 1
    for a in axes:
        count = binary(m.tape, "mul", count, _size(m, x, a))
    divisor = m.tape.cast(m.tape.number(count, int), x.buffer.meta.dtype)
    return m.torch("div", [total, divisor], {})


def _softmax(name: str) -> Callable[..., Any]:
    def softmax(m: Machine, x: Grown, dim: Any, dtype: Any = None) -> Any:
        if type(dim) is not int or dtype is not None:
            return NotImplemented
        along = dim % x.buffer.meta.dim() == x.axis
        given = filled(m, x, -float("inf")) if along else x.buffer
        return replace(x, buffer=m.torch(name, [given, dim], {}), reserved=False)

    return softmax


# Products.


def _matmul(m: Machine, a: Any, b: Any) -> Any:
    """Rows or columns that the run counts; where they are summed over, what lies behind the length is made zero."""
    x, y = (v.buffer if isinstance(v, Grown) else v for v in (a, b))
    if x.meta.dim() < 2 or y.meta.dim() < 2:
        return NotImplemented
    inner = isinstance(a, Grown) and a.axis == x.meta.dim() - 1, isinstance(b, Grown) and b.axis == y.meta.dim() - 2
    if all(inner):
        if not same(a.length, b.length):
            return NotImplemented
        return m.torch("matmul", [filled(m, a, 0), filled(m, b, 0)], {})
    if any(inner):
        return NotImplemented
    outer = [v for v in (a, b) if isinstance(v, Grown)]
    if len(outer) != 1 or outer[0].buffer.meta.dim() != max(x.meta.dim(), y.meta.dim()):
        return NotImplemented
    made = m.torch("matmul", [x, y], {})
    return Grown(made, outer[0].axis - outer[0].buffer.meta.dim() + made.meta.dim(), outer[0].length)


def _linear(m: Machine, x: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(x, Grown) or x.axis == x.buffer.meta.dim() - 1:
        return NotImplemented
    return replace(x, buffer=m.torch("linear", [x.buffer, weight, bias], {}), reserved=False)


def _embedding(m: Machine, weight: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(x, Grown):
        return NotImplemented
    safe = replace(x, buffer=filled(m, x, 0))
    return replace(safe, buffer=m.torch("embedding", [weight, safe.buffer, *args], kwargs), reserved=False)


def _joined(m: Machine, tensors: Any, dim: Any = 0, **kwargs: Any) -> Any:
    parts = list(tensors)
    return grown.joined(m, parts, kwargs.get("axis", dim))


JOINING = frozenset({"cat", "concat", "concatenate", "matmul", "bmm", "mm", "embedding"})
SPECIAL: dict[str, Callable[..., Any]] = {
    "size": _size,
    "shape": _size,
    "len": lambda m, x: _size(m, x, 0),
    "numel": _numel,
    "select": _select,
    "__getitem__": _getitem,
    "slice": _slice,
    "cat": _joined,
    "concat": _joined,
    "concatenate": _joined,
    "sum": _reduced("sum", lambda d: 0),
    "prod": _reduced("prod", lambda d: 1),
    "any": _reduced("any", lambda d: 0),
    "all": _reduced("all", lambda d: 1),
    "amax": _reduced("amax", _lowest, empty=False),
    "amin": _reduced("amin", _highest, empty=False),
    "max": _reduced("max", _lowest, empty=False),
    "min": _reduced("min", _highest, empty=False),
    "mean": _mean,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "matmul": _matmul,
    "bmm": _matmul,
    "mm": _matmul,
    "linear": _linear,
    "embedding": _embedding,
    **{name: _permuted(name) for name in ("transpose", "permute", "t", "unsqueeze", "movedim", "swapaxes")},
}
