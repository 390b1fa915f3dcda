"""Reductions and scans as C: vector loops with several accumulators, lanes along an output axis, or scalars."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from neve.emit.expressions import C_TYPES, NotVector, Scope, Value, literal
from neve.emit.rows import Rows
from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var
from neve.ir.loops import Call, Expr
from neve.ir.types import DType
from neve.plan.fuse import cost, hint
from neve.plan.stages import Reduce, Scan, loads


@dataclass(frozen=True)
class Reduction:
    """How a kind is computed: identity, vector step, scalar step, lane reduction."""

    identity: float
    vector: str
    scalar: str
    lanes: str


REDUCTIONS = {
    "sum": Reduction(0.0, "{0} + {1}", "{0} + {1}", "vred_sum({0})"),
    "prod": Reduction(1.0, "{0} * {1}", "{0} * {1}", "vred_prod({0})"),
    "max": Reduction(float("-inf"), "vmax({0}, {1})", "sf_maximum({0}, {1})", "vred_max({0})"),
    "min": Reduction(float("inf"), "vmin({0}, {1})", "sf_minimum({0}, {1})", "vred_min({0})"),
}


BLOCK = 64
"""So many terms are added up before their sum goes to a total, and so many of these to the next: rounding errors of
long sums grow with the depth, not with the length, as in ATen's cascade sum (ATen/native/cpu/SumKernel.cpp)."""


class Totals:
    """The two levels of totals above the vectors that a long sum is added up in."""

    def __init__(self, names: list[str], fresh: Callable[[], str], scope: Scope) -> None:
        self.names, self.first, self.second = names, [fresh() for _ in names], [fresh() for _ in names]
        self.count = fresh()
        scope.add(f"int64_t {self.count} = 0;")
        for t in (*self.first, *self.second):
            scope.add(f"vf {t} = vset(0.0f);")

    def flush(self, scope: Scope) -> None:
        """After a block of terms."""
        scope.add(self._moved(self.names, self.first))
        scope.add(f"if ((++{self.count} & {BLOCK - 1}) == 0) {{ {self._moved(self.first, self.second)} }}")

    def flush_some(self, scope: Scope) -> None:
        """After few terms: once in BLOCK times."""
        outer = f"if (({self.count} & {BLOCK * BLOCK - 1}) == 0) {{ {self._moved(self.first, self.second)} }}"
        scope.add(f"if ((++{self.count} & {BLOCK - 1}) == 0) {{ {self._moved(self.names, self.first)} {outer} }}")

    @staticmethod
    def _moved(names: list[str], totals: list[str]) -> str:
        return " ".join(f"{t} = {t} + {n}; {n} = vset(0.0f);" for n, t in zip(names, totals, strict=True))

    def close(self, scope: Scope) -> None:
        """At the end: all in the vectors themselves."""
        for n, t, u in zip(self.names, self.first, self.second, strict=True):
            scope.add(f"{n} = {n} + ({t} + {u});")


def is_long(kind: str, extents: Iterable[Index]) -> bool:
    """Whether loops of these extents sum so many terms that they need totals."""
    sizes = [x.const for x in extents]
    return kind == "sum" and (None in sizes or math.prod(n for n in sizes if n is not None) > BLOCK)


class Reductions(Rows):
    """Writes the reductions of a nest."""

    def _single_reduce(self, s: Reduce, top: Scope) -> None:
        buffer = self.e.buffers[s.out]
        at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in s.vars)
        outer = sorted((v for v in s.vars if v.extent.const != 1), key=lambda v: -hint(buffer.strides[s.vars.index(v)]))
        rvars = self._ordered([v for v in s.rvars if v.extent.const != 1], s.expr)
        across = (
            outer
            and s.kind in REDUCTIONS
            and s.out.dtype is DType.float32
            and self._fastest(s, [*outer, *rvars]) in outer
        )
        if across:
            v = self._fastest(s, [*outer, *rvars])
            assert v is not None
            outer = [x for x in outer if x is not v]
            self._attempt_function(
                top,
                lambda: self._reduce_across(top, outer, v, rvars, s, buffer, at),
                lambda: self._reduce_along(top, [*outer, v], rvars, s, buffer, at, False),
            )
        else:
            self._reduce_along(top, outer, rvars, s, buffer, at, True)

    def _attempt_function(self, top: Scope, first, second) -> None:  # type: ignore[no-untyped-def]
        try:
            first()
        except NotVector:
            top.lines.clear()
            top.memo.clear()
            self.e.vec = self.e.partial = None
            second()
        self.e.vec = self.e.partial = None

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

    def _reduce_along(
        self,
        top: Scope,
        outer: list[Var],
        rvars: list[Var],
        s: Reduce,
        buffer: Buffer,
        at: tuple[Index, ...],
        vector: bool,
    ) -> None:
        row = self._rows(top, [v.extent for v in outer], [v.name for v in outer])
        row.vars = set(outer)
        self._attempt(row, lambda r, vec: self._reduce_inside(r, s, rvars, s.expr, at, vec), vector)
        self._finish(top, row)

    def _reduce_inside(
        self, row: Scope, s: Reduce, rvars: list[Var], expr: Expr, at: tuple[Index, ...], vector: bool
    ) -> None:
        """A reduction over the inner loops of a row, into the output's element or the row's scalar."""
        if s.kind not in REDUCTIONS or s.out.dtype is not DType.float32 or not rvars:
            vector_now = False
            if vector:
                raise NotVector
        else:
            vector_now = vector
        result = self._vector_sum(row, s, rvars, expr) if vector_now else self._scalar_reduce(row, s, rvars, expr)
        out = self.e.buffers[s.out]
        if s.out in self.nest.local and not any(v.extent.const != 1 for v in s.vars if Index.of(v) in at):
            self.e.special[s.out] = result
            return
        self.e.vec = self.e.partial = None
        self.e.store(out, out.address(at), result, row)
        if s.out in self.e.inside:
            self.e.special[s.out] = result

    def _vector_sum(self, row: Scope, s: Reduce, rvars: list[Var], expr: Expr) -> Value:
        """A float32 reduction along the lanes with several accumulators."""
        kind, e = REDUCTIONS[s.kind], self.e
        last = rvars[-1]
        unroll = 4 if hint(last.extent) >= 4 * self.lanes and cost(expr) <= 20 else 1
        names = [e.name() for _ in range(unroll)]
        for n in names:
            row.add(f"vf {n} = vset({literal(kind.identity, DType.float32)});")
        step = unroll * self.lanes
        steps = (last.extent + (step - 1)) // step
        totals = Totals(names, e.name, row) if is_long(s.kind, (*(v.extent for v in rvars[:-1]), steps)) else None
        long = is_long(s.kind, [steps])
        around, chain = row, []
        for v in rvars[:-1]:
            inner = around.child(v)
            chain.append((around, v, inner))
            around = inner
        end = e.index(last.extent, around)
        start = around.child()
        pos = e.name()
        start.add(f"int64_t {pos} = 0;")
        if unroll > 1:
            body = start.child()
            for u, n in enumerate(names):
                lane = Var(f"{last.name}u{u}", last.extent)
                part = body.child(lane)
                part.add(f"const int64_t {lane.name} = {pos} + {u * self.lanes};")
                e.vec, e.partial = lane, None
                part.add(f"{n} = {self._next(s.kind, n, expr.subs({last: Index.of(lane)}), part)};")
                body.close("", part)
            self._blocks(start, body, pos, step, end, totals if long else None)
        lane = Var(f"{last.name}v", last.extent)
        body = start.child(lane)
        body.add(f"const int64_t {lane.name} = {pos};")
        e.vec, e.partial = lane, None
        body.add(f"{names[0]} = {self._next(s.kind, names[0], expr.subs({last: Index.of(lane)}), body)};")
        if last.extent.const is None or last.extent.const % step >= self.lanes or unroll == 1:
            self._blocks(start, body, pos, self.lanes, end, totals if long and unroll == 1 else None)
        if last.extent.const is None or last.extent.const % self.lanes:
            lane = Var(f"{last.name}t", last.extent)
            body = start.child(lane)
            body.add(f"const int64_t {lane.name} = {pos}, left = {end} - {pos};")
            e.vec, e.partial = lane, "left"
            x = e.as_vector(e.value(expr.subs({last: Index.of(lane)}), body))
            identity = f"vset({literal(kind.identity, DType.float32)})"
            body.add(f"{names[0]} = {kind.vector.format(names[0], f'vfirst({x}, left, {identity})')};")
            start.close(f"if ({pos} < {end})", body)
        around.close("", start)
        if totals is not None and not long:
            totals.flush_some(around)
        for outer, v, inner in reversed(chain):
            outer.close(f"for (int64_t {v.name} = 0; {v.name} < {e.index(v.extent, outer)}; {v.name}++)", inner)
        e.vec = e.partial = None
        if totals is not None:
            totals.close(row)
        total = names[0]
        for n in names[1:]:
            total = kind.vector.format(total, n) if s.kind in ("max", "min") else f"({kind.vector.format(total, n)})"
        out = e.name()
        row.add(f"const float {out} = {kind.lanes.format(total)};")
        return Value(out, "s", DType.float32)

    def _blocks(self, scope: Scope, body: Scope, pos: str, step: int, end: str, totals: Totals | None) -> None:
        """body for each step of pos that fits below end, a block at a time if there are totals."""
        if totals is None:
            scope.close(f"for (; {pos} + {step} <= {end}; {pos} += {step})", body)
            return
        block = scope.child()
        block.add(f"const int64_t stop = neve_min({end}, {pos} + {BLOCK * step});")
        block.close(f"for (; {pos} + {step} <= stop; {pos} += {step})", body)
        totals.flush(block)
        scope.close(f"while ({pos} + {step} <= {end})", block)

    def _next(self, kind: str, total: str, expr: Expr, scope: Scope) -> str:
        """total (a vector) and one more vector of terms, in C; products are added without being rounded."""
        e = self.e
        if kind == "sum" and isinstance(expr, Call) and expr.fn == "mul":
            a, b = (e.as_vector(e.value(x, scope)) for x in expr.args)
            return f"vfma({a}, {b}, {total})"
        return REDUCTIONS[kind].vector.format(total, e.as_vector(e.value(expr, scope)))

    def _scalar_reduce(self, row: Scope, s: Reduce, rvars: list[Var], expr: Expr) -> Value:
        e, dtype = self.e, expr.dtype
        out = e.name()
        wide = "double" if dtype.is_float and s.kind in ("sum", "prod") else C_TYPES[dtype]
        inner = row
        chain = []
        for v in rvars:
            nxt = inner.child(v)
            chain.append((inner, v, nxt))
            inner = nxt
        if s.kind in ("argmax", "argmin"):
            best, at = e.name(), out
            row.add(f"{C_TYPES[dtype]} {best} = 0;")
            row.add(f"int64_t {at} = -1;")
            place = Index.of(0)
            for v in s.rvars:
                place = place * v.extent + (Index.of(v) if v.extent.const != 1 else 0)
            x = e.value(expr, inner).text
            better = f"{x} {'>' if s.kind == 'argmax' else '<'} {best}"
            if dtype.is_float:
                better = f"{better} || ({x} != {x} && {best} == {best})"
            here = e.index(place, inner)
            inner.add(
                f"if ({at} < 0 || {better} || ({x} == {best} && {here} < {at})) {{ {best} = {x}; {at} = {here}; }}"
            )
            result = Value(at, "s", DType.int64)
        else:
            x_dtype = s.out.dtype if s.kind in ("any", "all") else dtype
            identity = _identity(s.kind, dtype)
            row.add(f"{wide if s.kind not in ('any', 'all') else 'uint8_t'} {out} = {identity};")
            x = e.value(expr, inner).text
            inner.add(_scalar_step(s.kind, dtype, out, x))
            result = Value(out, "s", x_dtype)
        for outer, v, body in reversed(chain):
            outer.close(f"for (int64_t {v.name} = 0; {v.name} < {e.index(v.extent, outer)}; {v.name}++)", body)
        if wide == "double" and result.dtype is not DType.float64 and s.kind in ("sum", "prod"):
            name = e.name()
            row.add(f"const float {name} = (float){out};")
            return Value(name, "s", s.out.dtype)
        return Value(result.text, "s", s.out.dtype if s.kind not in ("argmax", "argmin") else DType.int64)

    def _reduce_across(
        self, top: Scope, outer: list[Var], v: Var, rvars: list[Var], s: Reduce, buffer: Buffer, at: tuple[Index, ...]
    ) -> None:
        """Lanes along an output axis: a few vectors of outputs at a time, the reduction's loops inside."""
        e = self.e
        wide = 4 if hint(v.extent) >= 4 * self.lanes and cost(s.expr) <= 12 else 1
        size = wide * self.lanes
        row = self._rows(
            top, [*(x.extent for x in outer), (v.extent + (size - 1)) // size], [*(x.name for x in outer), "block"]
        )
        row.vars = set(outer)
        n = e.index(v.extent, top)
        row.add(f"const int64_t base = block * {size}, valid = {n} - base;")
        whole = v.extent.const is not None and v.extent.const % size == 0
        if not whole and (v.extent.const is None or v.extent.const >= size):
            full = row.child()
            self._across_block(full, s, v, rvars, buffer, at, wide, None)
            row.close(f"if (valid >= {size})", full)
        if whole:
            row.add("(void)valid;")
            self._across_block(row, s, v, rvars, buffer, at, wide, None)
        else:
            tail = row.child()
            self._across_block(tail, s, v, rvars, buffer, at, 1, "left")
            loop = row.child()
            loop.lines = [f"const int64_t left = neve_min(valid - part, {self.lanes});", *tail.lines]
            test = f"if (valid < {size}) " if v.extent.const is None or v.extent.const >= size else ""
            row.close(f"{test}for (int64_t part = 0; part < valid; part += {self.lanes})", loop)
        self._finish(top, row)

    def _across_block(
        self,
        scope: Scope,
        s: Reduce,
        v: Var,
        rvars: list[Var],
        buffer: Buffer,
        at: tuple[Index, ...],
        wide: int,
        partial: str | None,
    ) -> None:
        kind, e = REDUCTIONS[s.kind], self.e
        lanes = [Var(f"{v.name}b{u}", v.extent) for u in range(wide)]
        names = [e.name() for _ in lanes]
        scope.vars |= set(lanes)
        for u, (lane, n) in enumerate(zip(lanes, names, strict=True)):
            scope.add(f"const int64_t {lane.name} = base + {u * self.lanes if partial is None else 'part'};")
            scope.add(f"vf {n} = vset({literal(kind.identity, DType.float32)});")
        totals = Totals(names, e.name, scope) if is_long(s.kind, (r.extent for r in rvars)) else None
        inner, chain = scope, []
        for r in rvars:
            nxt = inner.child(r)
            chain.append((inner, r, nxt))
            inner = nxt
        for lane, n in zip(lanes, names, strict=True):
            e.vec, e.partial = lane, partial
            inner.add(f"{n} = {self._next(s.kind, n, s.expr.subs({v: Index.of(lane)}), inner)};")
        for outer, r, body in reversed(chain):
            end = e.index(r.extent, outer)
            if totals is not None and r is rvars[-1] and is_long(s.kind, [r.extent]):
                start = f"{r.name}0"
                block = outer.child()
                block.add(f"const int64_t stop = neve_min({end}, {start} + {BLOCK});")
                block.close(f"for (int64_t {r.name} = {start}; {r.name} < stop; {r.name}++)", body)
                totals.flush(block)
                outer.close(f"for (int64_t {start} = 0; {start} < {end}; {start} += {BLOCK})", block)
            else:
                outer.close(f"for (int64_t {r.name} = 0; {r.name} < {end}; {r.name}++)", body)
                if totals is not None and r is rvars[-1]:
                    totals.flush_some(outer)
        if totals is not None:
            totals.close(scope)
        for lane, n in zip(lanes, names, strict=True):
            e.vec, e.partial = lane, partial
            place = buffer.address(tuple(i.subs({v: Index.of(lane)}) for i in at))
            e.store(buffer, place, Value(n, "v", DType.float32), scope)
        e.vec = e.partial = None

    def _scan(self, s: Scan, top: Scope) -> None:
        """Sequential along the axis, rows over the others; float sums run in double as eager's."""
        axis = s.vars[s.axis]
        outer = [v for v in s.vars if v is not axis and v.extent.const != 1]
        row = self._rows(top, [v.extent for v in outer], [v.name for v in outer])
        row.vars = set(outer)
        e, buffer, dtype = self.e, self.e.buffers[s.out], s.expr.dtype
        run = e.name()
        wide = "double" if dtype.is_float and s.kind in ("sum", "prod", "logaddexp") else C_TYPES[dtype]
        row.add(f"{wide} {run} = {_identity(s.kind, dtype)};")
        inner = row.child(axis)
        x = e.value(s.expr, inner).text
        inner.add(_scalar_step(s.kind, dtype, run, x))
        at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in s.vars)
        e.store(buffer, buffer.address(at), Value(f"({C_TYPES[dtype]}){run}", "s", dtype), inner)
        row.close(f"for (int64_t {axis.name} = 0; {axis.name} < {e.index(axis.extent, row)}; {axis.name}++)", inner)
        self._finish(top, row)


def _identity(kind: str, dtype: DType) -> str:
    if kind in ("sum", "any"):
        return "0"
    if kind in ("prod", "all"):
        return "1"
    if kind == "logaddexp":
        return "-__builtin_inf()"
    if dtype.is_float:
        text = "__builtin_inf()" if dtype is DType.float64 else "__builtin_inff()"
        return "-" + text if kind == "max" else text
    low, high = {DType.bool: ("0", "1"), DType.uint8: ("0", "UINT8_MAX")}.get(dtype) or (
        f"INT{8 * dtype.size}_MIN",
        f"INT{8 * dtype.size}_MAX",
    )
    return low if kind == "max" else high


def _scalar_step(kind: str, dtype: DType, out: str, x: str) -> str:
    if kind == "sum":
        return f"{out} += {x};" if dtype.is_float else f"{out} = ({C_TYPES[dtype]})((uint64_t){out} + (uint64_t){x});"
    if kind == "prod":
        return f"{out} *= {x};" if dtype.is_float else f"{out} = ({C_TYPES[dtype]})((uint64_t){out} * (uint64_t){x});"
    if kind in ("any", "all"):
        return f"{out} {'|' if kind == 'any' else '&'}= ({x} != 0);"
    if kind == "logaddexp":
        return f"{out} = sd_logaddexp({out}, {x});"
    if dtype.is_float:
        better = f"{x} {'>' if kind == 'max' else '<'} {out} || {x} != {x}"
        return f"if ({out} == {out} && ({better})) {out} = {x};"
    return f"if ({x} {'>' if kind == 'max' else '<'} {out}) {out} = {x};"
