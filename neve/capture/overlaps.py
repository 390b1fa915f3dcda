"""Writes into memory that they read, or write, at another element too.

Eager raises for most of them (ATen's assert_no_partial_overlap and its relatives, MemoryOverlap.h), or gives what the
order has in which a kernel goes through memory. A graph of values would answer all the same, so they are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Any

import sympy
import torch
from torch import fx
from torch.utils import _pytree as pytree

from neve.capture import diagnose
from neve.capture.held import storage_of

ATEN = torch.ops.aten
BY_VALUE = frozenset({ATEN.fill_.Tensor, ATEN.masked_fill_.Tensor})
"""Ops that read their last operand, a tensor of one element, before they write."""
ELEMENT_BY_ELEMENT = frozenset({"copy_", "masked_fill_", "fill_"})
"""In-place ops that read an element before they write it, beside those that torch tags as pointwise."""
OVERLAP = 1 << 21
"""Tensors of up to so many elements are compared element by element, others by the range of memory that they span."""
FEW = 5
"""Values of a size symbol for which layouts are compared, each with each of up to two others."""

Layout = tuple[tuple[int, ...], tuple[int, ...], int]
"""Sizes, strides and offset, in elements."""


def unordered(op: str) -> str:
    """The reason to refuse such an op."""
    return (
        f"{op} writes a place in memory twice, or reads it as another element too: write to or from a copy "
        "(x = x.clone())"
    )


def overlap(op: Any, written: torch.Tensor, operands: Sequence[torch.Tensor]) -> bool:
    """Whether what op gives for real or fake tensors may depend on the order in which it goes through memory.

    written: the operand that it writes; operands: all of them that are in the same storage, written as often as it is
    given. Sizes that are symbols are tried at some of their values.
    """
    if torch.Tag.inplace_view in getattr(op, "tags", ()):
        return False
    others = list(operands[:-1] if op in BY_VALUE else operands)
    at = next((i for i, t in enumerate(others) if t is written), None)
    if at is not None:
        del others[at]
    name = str(getattr(op, "overloadpacket", op)).rpartition(".")[2]
    elementwise = torch.Tag.pointwise in getattr(op, "tags", ()) or name in ELEMENT_BY_ELEMENT
    mine = _symbolic(written)
    theirs = [_symbolic(t) for t in others]
    if elementwise:
        theirs = [t for t in theirs if t != mine]
    elif mine in theirs:
        return True
    if not theirs and _apart(mine):
        return False
    known = [values for values in _samples([mine, *theirs], operands) if _nonempty(_layout(mine, values))]
    return any(_twice(_layout(mine, v)) for v in known) or any(
        _clash(_layout(mine, v), _layout(t, v), elementwise) for t in theirs for v in known
    )


def unordered_writes(program: torch.export.ExportedProgram, strip: str) -> Iterator[str]:
    """Reasons to refuse an exported program that has its in-place ops."""
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            tensors = _tensors(module.graph)
            for node in module.graph.nodes:
                schema = getattr(node.target, "_schema", None)
                written = _written(node, schema) if schema is not None and schema.is_mutable else ()
                if any(_clashes(node, w, tensors) for w in written):
                    yield unordered(diagnose.op_name(node.target)) + diagnose.at(node, strip)


def _written(node: fx.Node, schema: Any) -> Iterator[fx.Node]:
    for i, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name)
            yield from (a for a in pytree.tree_leaves(given) if isinstance(a, fx.Node))


def _clashes(node: fx.Node, written: fx.Node, tensors: Mapping[fx.Node, torch.Tensor]) -> bool:
    given = [
        tensors[a] for a in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(a, fx.Node) and a in tensors
    ]
    same = [t for t in given if storage_of(t) == storage_of(tensors[written])]
    return overlap(node.target, tensors[written], same)


def _tensors(graph: fx.Graph) -> dict[fx.Node, torch.Tensor]:
    """The fake tensors of a graph's nodes. Those of a file have each a storage of its own: views are taken again."""
    given = {n: n.meta["val"] for n in graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)}
    given = {n: t for n, t in given.items() if t.layout is torch.strided}
    views = [n for n in given if _is_view(n) and n.args[0] in given]
    if not views or any(storage_of(given[n]) == storage_of(given[n.args[0]]) for n in views):
        return given
    for n in views:
        args, kwargs = fx.node.map_arg((n.args, n.kwargs), lambda a: given.get(a, a.meta.get("val")))
        if torch.Tag.inplace_view not in n.target.tags:
            given[n] = args[0] if n.target._schema.is_mutable else _taken(n.target, args, kwargs)
    return given


def _taken(view: Any, args: Any, kwargs: Any) -> torch.Tensor:
    mode: Any = next((m for t in pytree.tree_leaves(args) if (m := getattr(t, "fake_mode", None))), nullcontext())
    with torch.no_grad(), mode:
        made: torch.Tensor = view(*args, **kwargs)
    return made


def _is_view(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(
        schema is not None
        and node.args
        and isinstance(node.args[0], fx.Node)
        and any(r.alias_info is not None for r in schema.returns)
    )


# Layouts: tuples of ints and of sympy's expressions.


def _symbolic(t: torch.Tensor) -> Any:
    def plain(n: Any) -> Any:
        return n.node.expr if isinstance(n, torch.SymInt) else int(n)

    return tuple(map(plain, t.shape)), tuple(map(plain, t.stride())), plain(t.storage_offset())


def _layout(symbolic: Any, values: Mapping[Any, int]) -> Layout:
    def value(n: Any) -> int:
        return int(n.xreplace(values)) if isinstance(n, sympy.Basic) else n

    sizes, strides, offset = symbolic
    return tuple(map(value, sizes)), tuple(map(value, strides)), value(offset)


def _samples(layouts: Sequence[Any], tensors: Sequence[torch.Tensor]) -> Iterator[dict[Any, sympy.Integer]]:
    """Values of the symbols that layouts have: the least ones, in all combinations where there are few symbols."""
    parts = [n for sizes, strides, offset in layouts for n in (*sizes, *strides, offset)]
    symbols = sorted({s for n in parts if isinstance(n, sympy.Basic) for s in n.free_symbols}, key=str)
    env = next((e for t in tensors if (e := _environment(t)) is not None), None)
    candidates = [list(dict.fromkeys(_values(env, s))) for s in symbols]
    combinations = product(*candidates) if len(symbols) <= 3 else zip(*candidates, strict=False)
    for chosen in combinations:
        yield dict(zip(symbols, map(sympy.Integer, chosen), strict=True))


def _values(env: Any, symbol: Any) -> Iterator[int]:
    bounds = env.var_to_range.get(symbol)
    lower = int(bounds.lower) if bounds is not None and bounds.lower.is_Integer and bounds.lower > 0 else 0
    upper = int(bounds.upper) if bounds is not None and bounds.upper.is_Integer else None
    yield from (n for n in range(lower, lower + FEW) if upper is None or n <= upper)


def _environment(t: torch.Tensor) -> Any:
    parts = (*t.shape, *t.stride(), t.storage_offset())
    return next((n.node.shape_env for n in parts if isinstance(n, torch.SymInt)), None)


def _nonempty(layout: Layout) -> bool:
    sizes, strides, offset = layout
    return all(n > 0 for n in sizes) and min((0, *strides)) >= 0 and offset >= 0


def _apart(symbolic: Any) -> bool:
    """Whether each element has a place of its own: true if sizes that are symbols may be any."""
    sizes, strides, _ = symbolic
    ordered: list[tuple[Any, Any]] = [(s, n) for n, s in zip(sizes, strides, strict=True) if n != 1]
    reach: Any = 1
    for stride, size in sorted(ordered, key=_stride_key):
        if stride != reach and not _at_least(stride, reach):
            return False
        reach = stride * size
    return True


def _stride_key(part: tuple[Any, Any]) -> tuple[int, int]:
    stride = part[0]
    if isinstance(stride, sympy.Basic):
        return len(stride.free_symbols), sum(1 for _ in sympy.preorder_traversal(stride))
    return 0, int(stride)


def _at_least(a: Any, b: Any) -> bool:
    return not isinstance(a, sympy.Basic) and not isinstance(b, sympy.Basic) and bool(a >= b)


def _twice(layout: Layout) -> bool:
    """Whether two elements are in one place."""
    if _apart(layout):
        return False
    places = _places(layout)
    return places is None or len(set(places.tolist())) < places.numel()


def _clash(mine: Layout, theirs: Layout, elementwise: bool) -> bool:
    """Whether they share places, and not element by element; the same places by other strides are a partial overlap
    to ATen's get_overlap_status.
    """
    if (elementwise and mine == theirs) or not _nonempty(theirs):
        return False
    (a, b), (c, d) = _span(mine), _span(theirs)
    if b < c or d < a:
        return False
    mine, theirs = _without_common(mine, theirs)
    here, there = _places(mine), _places(theirs)
    return here is None or there is None or bool(torch.isin(here, there).any())


def _without_common(mine: Layout, theirs: Layout) -> tuple[Layout, Layout]:
    """Without the dims that both have alike, and whose stride is beyond what the others of both reach."""
    for part in zip(*mine[:2], strict=True):
        if part in zip(*theirs[:2], strict=True):
            a, b = _dropped(mine, part), _dropped(theirs, part)
            (first, last), (begin, end) = _span(a), _span(b)
            if max(last, end) - min(first, begin) < part[1]:
                return _without_common(a, b)
    return mine, theirs


def _dropped(layout: Layout, part: tuple[int, int]) -> Layout:
    dims = list(zip(*layout[:2], strict=True))
    dims.remove(part)
    return tuple(n for n, _ in dims), tuple(s for _, s in dims), layout[2]


def _span(layout: Layout) -> tuple[int, int]:
    sizes, strides, offset = layout
    return offset, offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))


def _places(layout: Layout) -> torch.Tensor | None:
    """Where the elements are, flat; None if they are many."""
    sizes, strides, offset = layout
    if torch.Size(sizes).numel() > OVERLAP:
        return None
    places = torch.full([1] * len(sizes), offset)
    for axis, (n, s) in enumerate(zip(sizes, strides, strict=True)):
        places = places + (torch.arange(n) * s).reshape([-1 if k == axis else 1 for k in range(len(sizes))])
    return places.reshape(-1)
