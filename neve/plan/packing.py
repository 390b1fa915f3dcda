"""Packing as steps: the loops of a `Packing` over buffers, for a weight that is packed by code that runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from neve.ir.buffers import Buffer, row_major
from neve.ir.graph import Origin
from neve.ir.index import Index
from neve.ir.loops import Expr, Load, Tensor
from neve.ir.packing import Fill, Packing
from neve.ir.types import TensorType
from neve.kernels.kernel import Pack
from neve.plan.memory import LINE
from neve.plan.stages import Compute, loads, rewrite
from neve.plan.steps import Member, Nest

MOVE_SECONDS = 5e-10
"""For an element of a weight that is moved to its place in a packed one."""
SUM_SECONDS = 1.3e-10
"""For a sum of elements that lie in cache."""


def pack_seconds(pack: Pack, w: Tensor) -> float:
    """About how long a thread takes to pack w."""
    times = ((f, MOVE_SECONDS if any(x.tensor is w for x in loads(f.expr)) else SUM_SECONDS) for f in pack(w).fills)
    return sum(math.prod(f.shape) * seconds for f, seconds in times)


def pack_stages(
    packing: Packing, buffers: dict[Tensor, Buffer], weight: Callable[[Load], Expr], origin: Origin
) -> tuple[list[Compute | Nest], list[Tensor]]:
    """Loop nests that fill packing.array, which has a buffer, and its parts, which are given theirs.

    weight replaces what is loaded, as where the weight is a view.
    """
    stages: list[Compute | Nest] = []
    parts: list[Tensor] = []

    def out(f: Fill) -> Tensor:
        if f.array is not packing.array:
            return f.array
        whole = buffers[packing.array]
        part, strides = Tensor(TensorType(f.shape, f.array.dtype), f.array.name), tuple(map(Index.of, f.strides))
        buffers[part] = Buffer(part, whole.place, strides, Index.of(f.offset), base=whole)
        parts.append(part)
        return part

    for rows in packing.nests:
        computes = [Compute(out(f), f.vars, rewrite(f.expr, weight), origin, "pack") for f in rows.fills]
        stages += [_side_by_side(computes, rows.count, buffers)] if rows.count and computes else computes
    return stages, parts


def _side_by_side(computes: Sequence[Compute], count: int, buffers: dict[Tensor, Buffer]) -> Nest:
    """Loop nests that share their first loops; what has no memory yet is local to a row."""
    rows = [k for k, v in enumerate(computes[0].vars[:count]) if v.extent.const != 1]
    members = [Member(c, tuple(c.vars[k] for k in rows)) for c in computes]
    nest = Nest(tuple(computes[0].vars[k].extent for k in rows), members)
    slot = 0
    for t in (c.out for c in computes if c.out not in buffers):
        strides = (Index.of(0),) * count + row_major(t.shape)[count:]
        buffers[t] = Buffer(t, "row", strides, Index.of(0), slot=slot)
        nest.local.add(t)
        slot += -(-math.prod(t.type.sizes[count:]) * t.dtype.size // LINE) * LINE
    return nest
