"""Row fusion: reductions and the loops around them that walk the same rows become one nest.

It runs row after row, while the row is in cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neve.ir.buffers import Buffer, row_major
from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.plan.fuse import hint
from neve.plan.order import Order, Overlaps, sharing
from neve.plan.stages import Compute, Reduce, Scan, loads
from neve.plan.steps import Member, Nest, Step

RowStage = Compute | Reduce
Item = RowStage | Scan | Step
"""What the scheduler hands over: loop nests as stages, all else as steps."""
ROW_BYTES = 128 * 1024


def group_rows(
    items: Sequence[Item], buffers: dict[Tensor, Buffer], required: set[Tensor], state: Sequence[Tensor]
) -> list[Step]:
    """Stages with Compute, Reduce and Scan turned into Nests; everything else passes through.

    required tensors must have memory at the end; state keeps its values between calls.
    """
    readers: dict[Tensor, set[int]] = {}
    for k, s in enumerate(items):
        for t in s.reads:
            readers.setdefault(t, set()).add(k)
    overlaps = sharing(buffers)
    loops = {k: s for k, s in enumerate(items) if isinstance(s, (Compute, Reduce))}
    context = _Context(items, loops, buffers, overlaps, Order(items, overlaps, state), {})
    groups: dict[int, _Group] = {}
    for k, s in loops.items():
        if isinstance(s, Reduce) and k not in context.taken and (g := _seed(k, s, buffers)) is not None:
            _extend(g, context)
            if len(g.members) > 1:
                groups[k] = g
                context.taken.update(dict.fromkeys(g.members, k))
                context.order.merge(g.members)
    return _assemble(context, groups, readers, required)


@dataclass(eq=False)
class _Context:
    """The items of a block, its loop nests by position, what is known of them, and which group has taken which."""

    items: Sequence[Item]
    loops: Mapping[int, RowStage]
    buffers: dict[Tensor, Buffer]
    overlaps: Overlaps
    order: Order
    taken: dict[int, int]

    def apart(self, a: int, b: int) -> bool:
        """Whether the stages' rows can be mixed: their memory meets only in what the first defines for the second."""
        first, second = self.loops[min(a, b)], self.loops[max(a, b)]
        made, remade = set(self.overlaps(first.out)), set(self.overlaps(second.out))
        if second.out in made or any(t in remade for t in first.reads):
            return False
        return not any(t in made and t is not first.out for t in second.reads)


@dataclass(eq=False)
class _Group:
    """A nest in the making: member positions → their row variables."""

    extents: tuple[Index, ...]
    members: dict[int, tuple[Var, ...]]


def _seed(k: int, s: Reduce, buffers: Mapping[Tensor, Buffer]) -> _Group | None:
    """A group of the reduction alone, if it reduces along memory and has no more than a number for each row."""
    rows = tuple(v for v in s.vars if v.extent.const != 1)
    inner = tuple(v for v in s.rvars if v.extent.const != 1)
    if not inner or s.kind in ("argmax", "argmin"):
        return None
    biggest, fastest = -1.0, None
    for x in loads(s.expr):
        if x.tensor not in buffers or any(
            v in i.vars and i.affine(v) is None for i in x.index for v in (*rows, *inner)
        ):
            continue
        address = buffers[x.tensor].address(x.index)
        steps = [(hint(f[0]), v) for v in (*rows, *inner) if v in address.vars and (f := address.affine(v)) is not None]
        size = 1.0
        for _, v in steps:
            size *= hint(v.extent)
        if steps and size > biggest:
            biggest, fastest = size, min(steps, key=lambda f: f[0])[1]
    return _Group(tuple(v.extent for v in rows), {k: rows}) if fastest in inner else None


def _extend(g: _Group, c: _Context) -> None:
    """Add to g every later loop nest on the same rows that needs nothing which in turn needs g from outside."""
    (first,) = g.members
    for k, s in c.loops.items():
        if k <= first or k in c.taken or (isinstance(s, Reduce) and s.kind in ("argmax", "argmin")):
            continue
        own = {c.loops[m].out: m for m in g.members}
        if not any(t in own for t in s.reads) or not _joins(k, g, c):
            continue
        rows = _rows_of(s, g, c.loops, own)
        if rows is not None:
            g.members[k] = rows
    _prepend(g, first, c)


def _joins(k: int, g: _Group, c: _Context) -> bool:
    """Whether order and memory allow the stage in the group."""
    return c.order.mergeable([k, *g.members]) and all(c.apart(k, m) for m in g.members)


def _rows_of(
    s: RowStage, g: _Group, loops: Mapping[int, RowStage], own: Mapping[Tensor, int]
) -> tuple[Var, ...] | None:
    """s's variables that walk g's rows, if every load of a group tensor is at one and the same row; else None."""
    rows: tuple[Var, ...] | None = None
    for x in loads(s.expr):
        if x.tensor not in own:
            continue
        m = own[x.tensor]
        member = loops[m]
        found = []
        for v in g.members[m]:
            axis = member.vars.index(v) if v in member.vars else -1
            var = _sole(x.index[axis]) if axis >= 0 else None
            if var is None:
                return None
            found.append(var)
        if rows is not None and rows != tuple(found):
            return None
        rows = tuple(found)
        inner = set(s.vars) | set(s.rvars if isinstance(s, Reduce) else ()) - set(rows)
        if any(
            v in inner and v in rows
            for i, mv in zip(x.index, member.vars, strict=True)
            if mv not in g.members[m]
            for v in i.vars
        ):
            return None
    if rows is None or len(set(rows)) != len(rows) or any(v not in s.vars for v in rows):
        return None
    if [v.extent for v in rows] != list(g.extents):
        return None
    if isinstance(s, Reduce) and any(v.extent.const != 1 and v not in rows for v in s.vars):
        return None
    return rows


def _sole(i: Index) -> Var | None:
    """The variable that i is."""
    (a,) = next(iter(i.terms)) if len(i.terms) == 1 and len(next(iter(i.terms))) == 1 else (None,)
    return a if isinstance(a, Var) and i == Index.of(a) else None


def _prepend(g: _Group, first: int, c: _Context) -> None:
    """Let the loop nest that makes the reduction's operand join in front, if it walks the same rows."""
    made = {s.out: (k, s) for k, s in c.loops.items() if k < first and isinstance(s, Compute)}
    for x in loads(c.loops[first].expr):
        p, producer = made.get(x.tensor, (-1, None))
        if producer is None or p in c.taken or p in g.members:
            continue
        match = {
            v: mv
            for i, mv in zip(x.index, producer.vars, strict=True)
            if mv.extent.const != 1 and (v := _sole(i)) is not None
        }
        rows = tuple(found for v in g.members[first] if (found := match.get(v)) is not None)
        if len(match) != sum(v.extent.const != 1 for v in producer.vars) or len(rows) != len(g.extents):
            continue
        # a reduction of a part of it leaves out rows, and a member may read it at other rows
        if [v.extent for v in rows] == list(g.extents) and _at_own_rows(producer, rows, g, c.loops) and _joins(p, g, c):
            g.members[p] = rows
            return


def _at_own_rows(producer: Compute, rows: Sequence[Var], g: _Group, loops: Mapping[int, RowStage]) -> bool:
    """Whether each member reads what the producer makes at the row that it walks itself."""
    axes = [producer.vars.index(v) for v in rows]
    return all(
        _sole(x.index[axis]) is v
        for k, own in g.members.items()
        for x in loads(loops[k].expr)
        if x.tensor is producer.out
        for axis, v in zip(axes, own, strict=True)
    )


def _assemble(
    c: _Context, groups: Mapping[int, _Group], readers: Mapping[Tensor, set[int]], required: set[Tensor]
) -> list[Step]:
    """Each group at the place where all it needs is done and before anything that needs it."""
    units: list[tuple[Item | _Group, list[int]]] = []
    done: set[int] = set()
    for k, s in enumerate(c.items):
        seed = c.taken.get(k)
        if seed is None:
            units.append((s, [k]))
        elif seed not in done:
            done.add(seed)
            units.append((groups[seed], list(groups[seed].members)))
    out: list[Step] = []
    for u in c.order.sort([members for _, members in units]):
        unit = units[u][0]
        if isinstance(unit, _Group):
            out.append(_nest(unit, c.loops, readers, c.buffers, required))
        elif isinstance(unit, (Compute, Reduce, Scan)):
            out.append(Nest((), [Member(unit, ())]))
        else:
            out.append(unit)
    return out


def _nest(
    g: _Group,
    loops: Mapping[int, RowStage],
    readers: Mapping[Tensor, set[int]],
    buffers: dict[Tensor, Buffer],
    required: set[Tensor],
) -> Nest:
    members = [Member(loops[k], rows) for k, rows in sorted(g.members.items())]
    nest = Nest(g.extents, members)
    offset = 0
    for m in members:
        s = m.stage
        if (
            s.out in required
            or readers.get(s.out, set()) - set(g.members)
            or buffers[s.out].place != "arena"
            or buffers[s.out].base
        ):
            continue
        inner = [v for v in s.vars if v not in m.rows]
        extents = [v.extent.const for v in inner]
        size = s.out.dtype.size
        for e in extents:
            size = size * e if e is not None else ROW_BYTES + 1
        if size > ROW_BYTES:
            continue
        strides = [
            Index.of(0) if v in m.rows else st
            for v, st in zip(s.vars, row_major([Index.of(1) if v in m.rows else v.extent for v in s.vars]), strict=True)
        ]
        buffers[s.out] = Buffer(s.out, "row", tuple(strides), Index.of(0), slot=offset)
        nest.local.add(s.out)
        offset += -(-size // 64) * 64
    return nest
