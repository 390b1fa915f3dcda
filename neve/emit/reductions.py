"""Reductions and scans: vector loops with several accumulators, lanes along an output axis, or scalars."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from neve.emit.expressions import HALVES, Scope, Value, as_vector
from neve.emit.rows import RowWriter
from neve.emit.statements import (
    Accumulate,
    AcrossLanes,
    Assign,
    Compare,
    Convert,
    Fetch,
    FirstLanes,
    Fma,
    For,
    IfThen,
    Ignore,
    KeepBest,
    Least,
    Let,
    Literal,
    Local,
    LoopWhile,
    Minus,
    Scoped,
    Size,
    Spread,
    Term,
)
from neve.emit.totals import BLOCK, F32, VECTORS, ZERO, Totals, added, after, is_long
from neve.ir.index import Index, Var
from neve.ir.loops import Call, Expr
from neve.ir.types import DType
from neve.plan.fuse import cost, hint
from neve.plan.stages import Reduce, Scan, loads

BEST = ("argmax", "argmin")

IN_PLACE = 512
"""So many outputs are reduced together where they are stored: they stay in L1."""


def identity(kind: str, dtype: DType) -> Literal:
    """What a reduction of nothing gives, as the type in which it is accumulated has it."""
    if kind in ("sum", "any", "prod", "all"):
        return Literal(int(kind in ("prod", "all")), dtype)
    sign = 1 if kind == "min" else -1
    if dtype.is_float:
        return Literal(sign * math.inf, dtype)
    if dtype in (DType.bool, DType.uint8):
        return Literal(0 if sign < 0 else 1 if dtype is DType.bool else 255, dtype)
    half = 1 << (8 * dtype.size - 1)
    return Literal(half - 1 if sign > 0 else -half, dtype)


def has_vectors(s: Reduce) -> bool:
    """Whether s is computed in vectors of float32. Of a half type only the largest and the least are exact there."""
    return s.kind in VECTORS and (s.out.dtype is F32 or (s.kind in ("max", "min") and s.out.dtype in HALVES))


def _held(kind: str, dtype: DType) -> DType:
    """What scalar terms of a dtype are accumulated in."""
    if kind in ("any", "all"):
        return DType.bool
    return DType.float64 if dtype.is_float and kind in ("sum", "prod") else dtype


class Reductions(RowWriter):
    """Writes the reductions of a nest."""

    def _single_reduce(self, s: Reduce, top: Scope) -> None:
        buffer = self.e.buffers[s.out]
        at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in s.vars)
        outer = sorted((v for v in s.vars if v.extent.const != 1), key=lambda v: -hint(buffer.strides[s.vars.index(v)]))
        rvars = self._ordered([v for v in s.rvars if v.extent.const != 1], s.expr)
        v = self._fastest(s, [*outer, *rvars])
        if v in rvars and v is not None and hint(v.extent) < self.lanes / 2:
            wide = self._fastest(s, outer)
            v = wide if wide is not None and hint(wide.extent) >= self.lanes else v
        across = v is not None and v in outer and has_vectors(s)
        if across and v is not None:
            outer = [x for x in outer if x is not v]
            forms = self.e.forms(v)
            if forms.numbers(s.expr) and forms.places(buffer, buffer.address(at)):
                self._reduce_across(top, outer, v, rvars, s, at)
                return
            outer = [*outer, v]
        elif v in outer and v is not None and s.kind not in BEST and s.out.dtype is _held(s.kind, s.expr.dtype):
            self._reduce_in_place(top, [x for x in outer if x is not v], v, rvars, s, at)
            return
        row, loop = self._rows(top, [v.extent for v in outer], [v.name for v in outer])
        row.vars = set(outer)
        self._reduce_inside(row, s, rvars, s.expr, at, vector=not across)
        top.add(loop)

    def _fastest(self, s: Reduce, vars: list[Var]) -> Var | None:
        """The variable with the smallest step through the largest operand."""
        best: tuple[float, Var] | None = None
        for x in loads(s.expr):
            buffer = self.e.buffers.get(x.tensor)
            if buffer is None:
                continue
            address = buffer.address(x.index)
            used = [v for v in vars if v in address.vars]
            steps = [(hint(f[0]), v) for v in used if (f := address.affine(v)) is not None]
            weight = 1.0
            for v in used:
                weight *= hint(v.extent)
            if steps and (best is None or weight > best[0]):
                best = weight, min(steps, key=lambda t: t[0])[1]
        return best[1] if best else None

    def _reduce_inside(
        self, row: Scope, s: Reduce, rvars: list[Var], expr: Expr, at: tuple[Index, ...], vector: bool = True
    ) -> None:
        """A reduction over the inner loops of a row, into the output's element or the row's scalar."""
        vector = vector and has_vectors(s) and bool(rvars)
        vector = vector and self.e.forms(rvars[-1]).numbers(expr)
        result = self._vector_reduce(row, s, rvars, expr) if vector else self._scalar_reduce(row, s, rvars, expr)
        out = self.e.buffers[s.out]
        if s.out in self.nest.local and not any(v.extent.const != 1 for v in s.vars if Index.of(v) in at):
            self.e.special[s.out] = result
            return
        self.e.store(out, out.address(at), result, row)
        if s.out in self.e.inside:
            self.e.special[s.out] = result

    # --- along the lanes ----------------------------------------------------------------------------------------------

    def _vector_reduce(self, row: Scope, s: Reduce, rvars: list[Var], expr: Expr) -> Value:
        """A float32 reduction along the lanes with several accumulators."""
        e, last = self.e, rvars[-1]
        unroll = 4 if hint(last.extent) >= 4 * self.lanes and cost(expr) <= 20 else 1
        names = [e.name() for _ in range(unroll)]
        for n in names:
            row.add(Let(n, "v", Spread(identity(s.kind, F32)), constant=False))
        step = unroll * self.lanes
        steps = (last.extent + (step - 1)) // step
        totals = Totals(names, e.name, row) if is_long(s.kind, (*(v.extent for v in rvars[:-1]), steps)) else None
        long = is_long(s.kind, [steps])
        around, loops = self._loop_over(row, rvars[:-1])
        self._vector_steps(around, s.kind, names, last, expr, totals if long else None)
        if totals is not None and not long:
            totals.flush_some(around)
        self._close(loops)
        if totals is not None:
            totals.close(row)
        total: Term = Local(names[0])
        for n in names[1:]:
            total = added(total, Local(n), s.kind)
        out = e.name()
        row.add(Let(out, "s", AcrossLanes(s.kind, total)))
        return Value(Local(out), "s", s.out.dtype)

    def _vector_steps(
        self, around: Scope, kind: str, names: list[str], last: Var, expr: Expr, totals: Totals | None
    ) -> None:
        """The innermost loop: several vectors at a time, then one, then what is left."""
        e, end = self.e, self.e.size(last.extent, around)
        step = len(names) * self.lanes
        start, pos = around.child(), e.name()
        start.add(Let(pos, "i", ZERO, constant=False))
        if len(names) > 1:
            body = start.child()
            for u, n in enumerate(names):
                part = self._lane_step(body, kind, n, last, f"u{u}", after(pos, u * self.lanes), expr)
                body.add(Scoped(part.body))
            self._blocks(start, body, pos, step, end, totals)
        if last.extent.const is None or last.extent.const % step >= self.lanes or len(names) == 1:
            body = self._lane_step(start, kind, names[0], last, "v", Local(pos), expr)
            self._blocks(start, body, pos, self.lanes, end, totals if len(names) == 1 else None)
        if last.extent.const is None or last.extent.const % self.lanes:
            self._lanes_left(start, kind, names[0], last, pos, end, expr)
        around.add(Scoped(start.body))

    def _lane_step(self, scope: Scope, kind: str, total: str, last: Var, tag: str, at: Term, expr: Expr) -> Scope:
        """A scope that adds the vector of terms at a position to a total."""
        lane = Var(f"{last.name}{tag}", last.extent)
        body = scope.child(lane)
        body.add(Let(lane.name, "i", at))
        self.e.vec = lane
        body.add(Assign(total, self._next(kind, total, expr.subs({last: Index.of(lane)}), body)))
        self.e.vec = None
        return body

    def _lanes_left(self, scope: Scope, kind: str, total: str, last: Var, pos: str, end: Size, expr: Expr) -> None:
        """The last terms, fewer than lanes."""
        e, lane = self.e, Var(f"{last.name}t", last.extent)
        body = scope.child(lane)
        body.add(Let(lane.name, "i", Local(pos)), Let("left", "i", Minus(end, Local(pos))))
        e.vec, e.partial = lane, Local("left")
        x = as_vector(e.value(expr.subs({last: Index.of(lane)}), body))
        e.vec = e.partial = None
        first = FirstLanes(x, Local("left"), Spread(identity(kind, F32)))
        body.add(Assign(total, added(Local(total), first, kind)))
        scope.add(IfThen(Compare("<", Local(pos), end), body.body))

    def _blocks(self, scope: Scope, body: Scope, pos: str, step: int, end: Term, totals: Totals | None) -> None:
        """body for each step of pos that fits below end, a block at a time if there are totals."""
        if totals is None:
            scope.add(For(pos, None, end, step, body.body))
            return
        block = scope.child()
        block.add(Let("stop", "i", Least(end, after(pos, BLOCK * step))))
        block.add(For(pos, None, Local("stop"), step, body.body))
        totals.flush(block)
        scope.add(LoopWhile(Compare("<=", after(pos, step), end), block.body))

    def _next(self, kind: str, total: str, expr: Expr, scope: Scope) -> Term:
        """total (a vector) and one more vector of terms; products are added without being rounded."""
        e = self.e
        if kind == "sum" and isinstance(expr, Call) and expr.fn == "mul":
            a, b = (as_vector(e.value(x, scope)) for x in expr.args)
            return Fma(a, b, Local(total))
        return added(Local(total), as_vector(e.value(expr, scope)), kind)

    # --- scalars ------------------------------------------------------------------------------------------------------

    def _scalar_reduce(self, row: Scope, s: Reduce, rvars: list[Var], expr: Expr) -> Value:
        if s.kind in BEST:
            return self._best(row, s, rvars, expr)
        e, dtype, out = self.e, expr.dtype, self.e.name()
        held = _held(s.kind, dtype)
        row.add(Let(out, "s", identity(s.kind, held), held, constant=False))
        inner, loops = self._loop_over(row, rvars)
        inner.add(Accumulate(s.kind, out, e.value(expr, inner).term, dtype))
        self._close(loops)
        if held is DType.float64 and dtype is not held:
            name = e.name()
            row.add(Let(name, "s", Convert(Local(out), held, F32)))
            out = name
        return Value(Local(out), "s", s.out.dtype)

    def _best(self, row: Scope, s: Reduce, rvars: list[Var], expr: Expr) -> Value:
        """The position of the greatest or least value."""
        e, dtype = self.e, expr.dtype
        at, best = e.name(), e.name()
        row.add(Let(best, "s", Literal(0, dtype), dtype, constant=False))
        row.add(Let(at, "i", Size(Index.of(-1)), constant=False))
        place = Index.of(0)
        for v in s.rvars:
            place = place * v.extent + (Index.of(v) if v.extent.const != 1 else 0)
        inner, loops = self._loop_over(row, rvars)
        x = e.value(expr, inner).term
        inner.add(KeepBest(s.kind, best, at, x, e.size(place, inner), dtype))
        self._close(loops)
        return Value(Local(at), "s", DType.int64)

    def _reduce_in_place(
        self, top: Scope, outer: list[Var], v: Var, rvars: list[Var], s: Reduce, at: tuple[Index, ...]
    ) -> None:
        """Outputs along memory, a block of them at a time: each term is added to all of these where they are stored."""
        e, buffer, dtype = self.e, self.e.buffers[s.out], s.out.dtype
        row, loop = self._rows(
            top,
            [*(x.extent for x in outer), (v.extent + (IN_PLACE - 1)) // IN_PLACE],
            [*(x.name for x in outer), "block"],
        )
        row.vars = set(outer)
        first = Index.of(Var("block", v.extent)) * IN_PLACE
        row.add(Let("from", "i", Size(first)), Let("to", "i", Least(Size(first + IN_PLACE), e.size(v.extent, top))))

        def along(scope: Scope, value: Callable[[Scope], Term]) -> None:
            body = scope.child(v)
            e.store(buffer, buffer.address(at), Value(value(body), "s", dtype), body)
            scope.add(For(v.name, Local("from"), Local("to"), 1, body.body))

        def added_up(body: Scope) -> Term:
            place, _ = e.place(buffer, buffer.address(at), body)
            total = e.name()
            body.add(Let(total, "s", Fetch(place, dtype), dtype, constant=False))
            body.add(Accumulate(s.kind, total, e.value(s.expr, body).term, s.expr.dtype))
            return Local(total)

        along(row, lambda body: identity(s.kind, dtype))
        inner, loops = self._loop_over(row, rvars)
        along(inner, added_up)
        self._close(loops)
        top.add(loop)

    # --- lanes along an output axis -----------------------------------------------------------------------------------

    def _reduce_across(
        self, top: Scope, outer: list[Var], v: Var, rvars: list[Var], s: Reduce, at: tuple[Index, ...]
    ) -> None:
        """A few vectors of outputs at a time, the reduction's loops inside."""
        wide = 4 if hint(v.extent) >= 4 * self.lanes and cost(s.expr) <= 12 else 1
        size = wide * self.lanes
        extents = [*(x.extent for x in outer), (v.extent + (size - 1)) // size]
        row, loop = self._rows(top, extents, [*(x.name for x in outer), "block"])
        row.vars = set(outer)
        n, valid = self.e.size(v.extent, top), Local("valid")
        row.add(Let("base", "i", Size(Index.of(Var("block", extents[-1])) * size)))
        row.add(Let("valid", "i", Minus(n, Local("base"))))
        if v.extent.const is not None and v.extent.const % size == 0:
            row.add(Ignore("valid"))
            self._across_block(row, s, v, rvars, at, wide, None)
        else:
            some = v.extent.const is None or v.extent.const >= size
            if some:
                full = row.child()
                self._across_block(full, s, v, rvars, at, wide, None)
                row.add(IfThen(Compare(">=", valid, Size(Index.of(size))), full.body))
            tail = row.child()
            tail.add(Let("left", "i", Least(Minus(valid, Local("part")), Size(Index.of(self.lanes)))))
            self._across_block(tail, s, v, rvars, at, 1, Local("left"))
            parts = For("part", ZERO, valid, self.lanes, tail.body, whole=False)
            row.add(IfThen(Compare("<", valid, Size(Index.of(size))), [parts]) if some else parts)
        top.add(loop)

    def _across_block(
        self, scope: Scope, s: Reduce, v: Var, rvars: list[Var], at: tuple[Index, ...], wide: int, partial: Term | None
    ) -> None:
        """wide vectors of outputs from base on, or the one at part."""
        e, buffer = self.e, self.e.buffers[s.out]
        lanes = [Var(f"{v.name}b{u}", v.extent) for u in range(wide)]
        names = [e.name() for _ in lanes]
        scope.vars |= set(lanes)
        base = Index.of(Var("base", v.extent))
        for u, (lane, n) in enumerate(zip(lanes, names, strict=True)):
            more = u * self.lanes if partial is None else Index.of(Var("part", v.extent))
            scope.add(Let(lane.name, "i", Size(base + more)))
            scope.add(Let(n, "v", Spread(identity(s.kind, F32)), constant=False))
        totals = Totals(names, e.name, scope) if is_long(s.kind, (r.extent for r in rvars)) else None
        inner, loops = self._loop_over(scope, rvars)
        for lane, n in zip(lanes, names, strict=True):
            e.vec, e.partial = lane, partial
            inner.add(Assign(n, self._next(s.kind, n, s.expr.subs({v: Index.of(lane)}), inner)))
        self._close_across(loops, totals)
        if totals is not None:
            totals.close(scope)
        for lane, n in zip(lanes, names, strict=True):
            e.vec, e.partial = lane, partial
            place = buffer.address(tuple(i.subs({v: Index.of(lane)}) for i in at))
            e.store(buffer, place, Value(Local(n), "v", F32), scope)
        e.vec = e.partial = None

    def _close_across(self, loops: Sequence[tuple[Scope, For]], totals: Totals | None) -> None:
        """The reduction's loops; the innermost, if it is long, a block of terms at a time."""
        if totals is None:
            self._close(loops)
            return
        outer, loop = loops[-1]
        assert isinstance(loop.end, Size)
        if is_long("sum", [loop.end.index]):
            start = f"{loop.var}0"
            block = outer.child()
            block.add(Let("stop", "i", Least(loop.end, after(start, BLOCK))))
            block.add(For(loop.var, Local(start), Local("stop"), 1, loop.body))
            totals.flush(block)
            outer.add(For(start, ZERO, loop.end, BLOCK, block.body, whole=False))
        else:
            outer.add(loop)
            totals.flush_some(outer)
        self._close(loops[:-1])

    # --- scans --------------------------------------------------------------------------------------------------------

    def _scan(self, s: Scan, top: Scope) -> None:
        """Sequential along the axis, rows over the others; float sums run in double as eager's."""
        axis = s.vars[s.axis]
        outer = [v for v in s.vars if v is not axis and v.extent.const != 1]
        row, loop = self._rows(top, [v.extent for v in outer], [v.name for v in outer])
        row.vars = set(outer)
        e, buffer, dtype = self.e, self.e.buffers[s.out], s.expr.dtype
        run = e.name()
        wide = DType.float64 if dtype.is_float and s.kind in ("sum", "prod", "logaddexp") else dtype
        row.add(Let(run, "s", identity(s.kind, wide), wide, constant=False))
        inner, loops = self._loop_over(row, [axis])
        inner.add(Accumulate(s.kind, run, e.value(s.expr, inner).term, dtype))
        at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in s.vars)
        value = Convert(Local(run), wide, F32 if dtype.is_float and wide is not dtype else dtype)
        e.store(buffer, buffer.address(at), Value(value, "s", dtype), inner)
        self._close(loops)
        top.add(loop)
