"""Row fusion: reductions and the loops around them that walk the same rows become one nest.

It runs row after row, while the row is in cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neve.build.target import Target
from neve.ir.index import Index, Var
from neve.ir.loops import Tensor
from neve.plan.buffers import Buffer, row_major
from neve.plan.fuse import hint
from neve.plan.stages import Compute, Reduce, Scan, Stage, loads

RowStage = Compute | Reduce
ROW_BYTES = 128 * 1024


@dataclass(eq=False)
class Member:
    """A stage of a nest with the loops it runs inside a row.

    `rows` are its own variables that stand for the nest's, in their order.
    """

    stage: Compute | Reduce | Scan
    rows: tuple[Var, ...]


@dataclass(eq=False)
class Nest:
    """Stages that share their outer loops (rows, by extent).

    local tensors live in the row's scratch; scalars of a row in variables.
    """

    extents: tuple[Index, ...]
    members: list[Member]
    local: set[Tensor] = field(default_factory=set)


def group_rows(
    stages: Sequence[Any], buffers: dict[Tensor, Buffer], required: set[Tensor], target: Target
) -> list[Any]:
    """Stages with Compute, Reduce and Scan turned into Nests; everything else passes through."""
    readers: dict[Tensor, set[int]] = {}
    for k, s in enumerate(stages):
        for t in step_reads(s):
            readers.setdefault(t, set()).add(k)
    depends = _ancestors(stages, buffers)
    taken: dict[int, int] = {}
    groups: dict[int, _Group] = {}
    for k, s in enumerate(stages):
        if isinstance(s, Reduce) and k not in taken and (g := _seed(k, s, buffers)) is not None:
            _extend(g, stages, taken, readers, depends, buffers)
            if len(g.members) > 1:
                groups[k] = g
                taken.update(dict.fromkeys(g.members, k))
    return _assemble(stages, groups, taken, readers, buffers, required)


def step_reads(s: Any) -> set[Tensor]:
    """Tensors that a stage or step reads, nested steps included."""
    if isinstance(s, Stage):
        return s.reads
    if hasattr(s, "stage"):
        extra = {p.buffer.tensor for p in s.bound.pointers if hasattr(p, "buffer")} if hasattr(s, "bound") else set()
        reads: set[Tensor] = s.stage.reads
        return reads | extra
    if isinstance(s, Nest):
        return {t for m in s.members for t in m.stage.reads}
    found: set[Tensor] = {getattr(s, n) for n in ("pred", "test") if hasattr(s, n)}
    for n in ("then", "orelse", "cond", "body"):
        for inner in getattr(s, n, ()):
            found |= step_reads(inner)
    return found


def step_writes(s: Any) -> set[Tensor]:
    """Tensors that a stage or step writes, nested steps included."""
    if isinstance(s, Compute):
        return {s.out}
    if isinstance(s, Stage):
        return set(s.outputs)
    if hasattr(s, "stage"):
        return set(s.stage.outputs)
    if isinstance(s, Nest):
        return {m.stage.out for m in s.members}
    found: set[Tensor] = set()
    for n in ("then", "orelse", "cond", "body"):
        for inner in getattr(s, n, ()):
            found |= step_writes(inner)
    return found


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


def _ancestors(stages: Sequence[Any], buffers: Mapping[Tensor, Buffer]) -> list[int]:
    """For each position a bit set of the positions it depends on, itself included.

    Writes to a tensor already seen are ordered too, and writes of state after what may end the call.
    """
    last: dict[Tensor, int] = {}
    used: dict[Tensor, int] = {}
    out: list[int] = []
    ends = 0
    for k, s in enumerate(stages):
        bits = 1 << k
        writes = step_writes(s)
        for t in step_reads(s) | writes:
            if t in last:
                bits |= out[last[t]]
        for t in writes:
            bits |= used.get(t, 0)
            if t in buffers and buffers[t].root.place == "state":
                bits |= ends
        out.append(bits)
        if _may_fail(s):
            ends |= bits
        for t in step_reads(s):
            used[t] = used.get(t, 0) | bits
        for t in writes:
            last[t] = k
    return out


def _may_fail(s: Any) -> bool:
    """Whether a step, or one nested in it, is a raise of the model."""
    blocks = (getattr(s, n, ()) for n in ("then", "orelse", "cond", "body"))
    return hasattr(s, "message") or any(_may_fail(inner) for b in blocks for inner in b)


def _extend(
    g: _Group,
    stages: Sequence[Any],
    taken: Mapping[int, int],
    readers: Mapping[Tensor, set[int]],
    depends: list[int],
    buffers: Mapping[Tensor, Buffer],
) -> None:
    """Add to g every later loop nest on the same rows that needs nothing which in turn needs g from outside."""
    (first,) = g.members
    for k in range(first + 1, len(stages)):
        s = stages[k]
        if (
            k in taken
            or not isinstance(s, (Compute, Reduce))
            or (isinstance(s, Reduce) and s.kind in ("argmax", "argmin"))
        ):
            continue
        own = {stages[m].out: m for m in g.members}
        if not (s.reads & set(own)) or not _independent(s, k, g, stages, depends):
            continue
        rows = _rows_of(s, g, stages, own)
        if rows is not None:
            g.members[k] = rows
    _prepend(g, first, stages, taken, readers, depends)


def _independent(s: RowStage, k: int, g: _Group, stages: Sequence[Any], depends: list[int]) -> bool:
    """Whether no dependency path leads from the group through the outside into s."""
    members = sum(1 << m for m in g.members)
    outside = depends[k] & ~members & ~(1 << k)
    p = 0
    while outside:
        low = (outside & -outside).bit_length() - 1
        if depends[low] & members:
            return False
        outside &= outside - 1
        p += 1
    return True


def _rows_of(s: RowStage, g: _Group, stages: Sequence[Any], own: Mapping[Tensor, int]) -> tuple[Var, ...] | None:
    """s's variables that walk g's rows, if every load of a group tensor is at one and the same row; else None."""
    rows: tuple[Var, ...] | None = None
    for x in loads(s.expr):
        if x.tensor not in own:
            continue
        m = own[x.tensor]
        member = stages[m]
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
        inner = set(s.vars) | set(getattr(s, "rvars", ())) - set(rows)
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


def _prepend(
    g: _Group,
    first: int,
    stages: Sequence[Any],
    taken: Mapping[int, int],
    readers: Mapping[Tensor, set[int]],
    depends: list[int],
) -> None:
    """Let the loop nest that makes the reduction's operand join in front, if it walks the same rows."""
    s = stages[first]
    for x in loads(s.expr):
        p = next(
            (k for k in range(first - 1, -1, -1) if isinstance(stages[k], Compute) and stages[k].out is x.tensor), None
        )
        if p is None or p in taken or p in g.members:
            continue
        producer = stages[p]
        match = {
            v: mv
            for i, mv in zip(x.index, producer.vars, strict=True)
            if mv.extent.const != 1 and (v := _sole(i)) is not None
        }
        rows = tuple(match.get(v) for v in g.members[first])
        if len(match) != sum(v.extent.const != 1 for v in producer.vars) or None in rows:
            continue
        between = [
            k
            for k in range(p + 1, len(stages))
            if k not in g.members and depends[k] >> p & 1 and any(depends[m] >> k & 1 for m in g.members)
        ]
        if not between and all(
            _independent(stages[m], m, _Group((), {p: (), **g.members}), stages, depends) for m in g.members
        ):
            g.members[p] = tuple(v for v in rows if v is not None)
            return


def _assemble(
    stages: Sequence[Any],
    groups: Mapping[int, _Group],
    taken: Mapping[int, int],
    readers: Mapping[Tensor, set[int]],
    buffers: dict[Tensor, Buffer],
    required: set[Tensor],
) -> list[Any]:
    """Each group at the place where all it needs is done and before anything that needs it."""
    from neve.plan.stages import Concat

    units: list[tuple[Any, set[int]]] = []
    done: set[int] = set()
    for k, s in enumerate(stages):
        seed = taken.get(k)
        if seed is None:
            units.append((s, {k}))
        elif seed not in done:
            done.add(seed)
            units.append((groups[seed], set(groups[seed].members)))
    order = _topological([u[1] for u in units], _ancestors(stages, buffers))
    out: list[Any] = []
    for u in order:
        s = units[u][0]
        if isinstance(s, _Group):
            out.append(_nest(s, stages, readers, buffers, required))
        elif isinstance(s, (Compute, Reduce, Scan)):
            out.append(Nest((), [Member(s, ())]))
        elif not isinstance(s, Concat):
            out.append(s)
    return out


def _topological(units: list[set[int]], depends: list[int]) -> list[int]:
    """Units in an order that respects the stages' dependencies and otherwise keeps theirs."""
    where = {k: u for u, members in enumerate(units) for k in members}
    needs: list[set[int]] = []
    for u, members in enumerate(units):
        bits = 0
        for k in members:
            bits |= depends[k]
        wanted = set()
        while bits:
            low = (bits & -bits).bit_length() - 1
            bits &= bits - 1
            if low in where and where[low] != u:
                wanted.add(where[low])
        needs.append(wanted)
    out: list[int] = []
    placed: set[int] = set()
    pending = list(range(len(units)))
    while pending:
        u = next(u for u in pending if needs[u] <= placed)
        pending.remove(u)
        placed.add(u)
        out.append(u)
    return out


def _nest(
    g: _Group,
    stages: Sequence[Any],
    readers: Mapping[Tensor, set[int]],
    buffers: dict[Tensor, Buffer],
    required: set[Tensor],
) -> Nest:
    members = [Member(stages[k], rows) for k, rows in sorted(g.members.items())]
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
        size = s.dtype_bytes if hasattr(s, "dtype_bytes") else s.out.dtype.size
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
