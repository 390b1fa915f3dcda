"""Lists whose length the run decides: a buffer for each tensor and number of an entry, and how many are meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.grown import longer, number, padded, place, plain, put, row, simple, size_of, zeros
from neve.capture.torchscript.numbers import binary, is_number, kind_of
from neve.capture.torchscript.pickles import Member
from neve.capture.torchscript.schema import dtype_of_number
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import (
    KINDS,
    Entries,
    Grown,
    Leaf,
    Length,
    Num,
    Raised,
    Refusal,
    Var,
    describe,
    entries_in,
    needs_of,
    pieces,
)

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

UNLIKE = "a list whose length the inputs decide needs entries of one type and shape"


def template_of(value: Any) -> tuple[Any, list[Any]]:
    """An entry's template, and its tensors and numbers in order."""
    if isinstance(value, Var):
        return Leaf(torch.Tensor, value.meta.dtype, tuple(value.meta.shape)), [value]
    if is_number(value):
        return Leaf(kind_of(value), KINDS[kind_of(value)]), [value]
    if isinstance(value, tuple):
        found = [template_of(v) for v in pieces(value) or ()]
        return tuple(t for t, _ in found), [x for _, leaves in found for x in leaves]
    if value is None or isinstance(value, (str, Member, torch.device)):
        return value, []
    raise Refusal(f"{describe(value)} is put into a list whose length the inputs decide, which is not supported")


def filled_in(template: Any, leaves: list[Any]) -> Any:
    """An entry of this template, its leaves taken from the front of the list."""
    if isinstance(template, Leaf):
        return leaves.pop(0)
    if isinstance(template, tuple):
        return tuple(filled_in(t, leaves) for t in template)
    return template


def entries_of(m: Machine, items: Sequence[Any], template: Any, reserved: Any = 0) -> Entries:
    """The entries of a list of known length, with space for `reserved` more of this template (for an empty list)."""
    known = entries_in(items)
    if known is not None:
        return replace(known, columns=tuple(padded(m, c, 0, reserved) for c in known.columns))
    rows = [_leaves(value, template) for value in items]
    columns = []
    for k, leaf in enumerate(leaves_of(template)):
        parts = [_row(m, row[k], leaf) for row in rows]
        if parts:
            stacked = m.tape.call(ATEN.stack.default, parts)
            m.tape.may_share(stacked, [row[k].root for row in rows if isinstance(row[k], Var)])
            made = padded(m, stacked, 0, reserved)
            m.tape.may_share(made, [stacked])
        else:
            made = zeros(m, [reserved, *(size_of(m, n) for n in leaf.shape)], leaf.dtype)
        columns.append(made)
    if not columns:
        raise Refusal("a list of constants whose length the inputs decide is not supported")
    return Entries(template, tuple(columns), Length(None, len(items)))


def leaves_of(template: Any) -> list[Leaf]:
    if isinstance(template, Leaf):
        return [template]
    return [x for t in template for x in leaves_of(t)] if isinstance(template, tuple) else []


def _leaves(value: Any, template: Any) -> list[Any]:
    found, leaves = template_of(value)
    if found != template:
        raise Refusal(f"{UNLIKE}: it has {describe(value)} beside {_shown(template)}")
    return leaves


def _shown(template: Any) -> str:
    if isinstance(template, Leaf):
        kind = f"{str(template.dtype).removeprefix('torch.')}{list(template.shape)}"
        return kind if template.kind is torch.Tensor else template.kind.__name__
    return f"({', '.join(map(_shown, template))})" if isinstance(template, tuple) else repr(template)


def _row(m: Machine, value: Any, leaf: Leaf) -> Var:
    return value if isinstance(value, Var) else m.tape.number(value, leaf.kind)


def append(m: Machine, entries: Entries, value: Any) -> Entries:
    """The entries with one more."""
    at = number(m, entries.length)
    columns = []
    for column, leaf, new in zip(
        entries.columns, leaves_of(entries.template), _leaves(value, entries.template), strict=True
    ):
        rows = m.tape.call(ATEN.unsqueeze.default, _row(m, new, leaf), 0)
        buffer = put(m, column if entries.reserved else padded(m, column, 0, 1), 0, at, rows)
        m.tape.may_share(buffer, [column, *([new] if isinstance(new, Var) else [])])
        columns.append(buffer)
    return replace(entries, columns=tuple(columns), length=longer(m, entries.length, 1))


def _append(m: Machine, c: list[Any], value: Any) -> Any:
    m.heap.touch(c)
    c[0] = append(m, c[0], value)
    return c


def _extend(m: Machine, c: list[Any], values: Any) -> Any:
    if entries_in(values) is not None or not isinstance(values, (list, tuple)):
        raise Refusal("a list whose length the inputs decide is put into another one: join them as tensors")
    for v in list(values):
        _append(m, c, v)
    return c


def _getitem(m: Machine, c: list[Any], i: Any) -> Any:
    """c[i], checked by the run."""
    entries: Entries = c[0]
    n = number(m, entries.length)
    leaves = []
    for column, leaf in zip(entries.columns, leaves_of(entries.template), strict=True):
        entry = row(m, column, 0, i, n, "list index out of range")
        numeric = leaf.kind is not torch.Tensor
        leaves.append(Num(leaf.kind, m.tape.call(ATEN.clone.default, entry)) if numeric else entry)
    return filled_in(entries.template, leaves)


def _setitem(m: Machine, c: list[Any], i: Any, value: Any) -> Any:
    entries: Entries = c[0]
    at = place(m, i, number(m, entries.length), "list index out of range")
    m.heap.touch(c)
    columns = []
    for column, leaf, new in zip(
        entries.columns, leaves_of(entries.template), _leaves(value, entries.template), strict=True
    ):
        buffer = put(m, column, 0, at, m.tape.call(ATEN.unsqueeze.default, _row(m, new, leaf), 0))
        m.tape.may_share(buffer, [column, *([new] if isinstance(new, Var) else [])])
        columns.append(buffer)
    c[0] = replace(entries, columns=tuple(columns))
    return c


def _pop(m: Machine, c: list[Any], i: Any = -1) -> Any:
    if i != -1:
        raise Refusal("pop from within a list whose length the inputs decide: only the last entry can be taken")
    last = _getitem(m, c, -1)
    m.heap.touch(c)
    c[0] = replace(c[0], length=longer(m, c[0].length, -1))
    return last


def _clear(m: Machine, c: list[Any]) -> None:
    m.heap.touch(c)
    c[0] = replace(c[0], length=Length(None, 0))


def _copy(m: Machine, c: list[Any]) -> list[Any]:
    return [c[0]]


def column(m: Machine, c: list[Any], what: str) -> tuple[Var, Length]:
    """The tensors in a list, stacked along axis 0."""
    entries: Entries = c[0]
    if not isinstance(entries.template, Leaf) or entries.template.kind is not torch.Tensor:
        raise Refusal(f"{what} of {describe(c)} that does not hold tensors")
    return entries.columns[0], entries.length


def stacked(m: Machine, c: list[Any], axis: Any = 0) -> Any:
    """torch.stack of a list whose length the run decides."""
    rows, length = column(m, c, "stack")
    _require_entries(m, length, "stack expects a non-empty TensorList")
    axis %= rows.meta.dim()
    moved = m.tape.call(ATEN.movedim.int, rows, 0, axis)
    return simple(Grown(_own(m, moved), axis, length))


def concatenated(m: Machine, c: list[Any], axis: Any = 0) -> Any:
    """torch.cat of a list whose length the run decides: its entries are all of one size along the axis."""
    rows, length = column(m, c, "cat")
    _require_entries(m, length, "torch.cat(): expected a non-empty list of Tensors")
    axis %= rows.meta.dim() - 1
    moved = m.tape.call(ATEN.movedim.int, rows, 0, axis)
    sizes = [size_of(m, n) for n in moved.meta.shape]
    each = sizes[axis + 1]
    shape = [*sizes[:axis], binary(m.tape, "mul", sizes[axis], each), *sizes[axis + 2 :]]
    flat = m.tape.call(ATEN.reshape.default, _own(m, moved), [plain(s) for s in shape])
    if length.origin is None and length.value is None:
        total = Length(None, binary(m.tape, "mul", length.most, each))
    else:
        total = Length(None, shape[axis], binary(m.tape, "mul", number(m, length), each))
    return simple(Grown(flat, axis, total))


def tensor(m: Machine, c: list[Any], dtype: Any = None, **_: Any) -> Any:
    """torch.tensor of numbers, as many as the run decides."""
    entries: Entries = c[0]
    leaf = entries.template
    if not isinstance(leaf, Leaf) or leaf.kind is torch.Tensor:
        raise Refusal(f"tensor of {describe(c)} that does not hold numbers")
    if dtype is None and leaf.kind is not float:
        raise Refusal("tensor of a list that may be empty, which Python makes one of floats then: give it dtype=")
    kind = torch.get_default_dtype() if leaf.kind is float else leaf.dtype
    wanted = kind if dtype is None else dtype_of_number(dtype)
    return simple(Grown(m.tape.cast(_own(m, entries.columns[0]), wanted), 0, entries.length))


def _require_entries(m: Machine, length: Length, message: str) -> None:
    n = number(m, length)
    if isinstance(n, int):
        if not n:
            raise Raised(message)
        return
    m.tape.fail(m.tape.call(ATEN.lt.Scalar, m.tape.number(n, int), 1), message)


def _own(m: Machine, x: Var) -> Var:
    return m.tape.tensor(ATEN.clone.default, x, memory_format=torch.contiguous_format)


METHODS: dict[str, Callable[..., Any]] = {
    "len": lambda m, c: number(m, c[0].length),
    "append": _append,
    "add_": _extend,
    "extend": _extend,
    "__getitem__": _getitem,
    "_set_item": _setitem,
    "pop": _pop,
    "clear": _clear,
    "copy": _copy,
    "list": _copy,
    "stack": stacked,
    "tensor": tensor,
    "as_tensor": tensor,
    "cat": concatenated,
    "concat": concatenated,
    "concatenate": concatenated,
}


def call(m: Machine, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """torch.NAME of a list whose length the run decides. Refusal for what is not supported."""
    if name not in METHODS:
        raise Refusal(
            f"{name} of {describe(args[0])} is not supported: append, index, len, pop, stack and cat are",
            needs_of(*args[0]),
        )
    renamed = {"axis" if k in ("dim", "axis") else k: v for k, v in kwargs.items() if k != "tensors"}
    first = args or [kwargs["tensors"]]
    return METHODS[name](m, *first, **renamed)
