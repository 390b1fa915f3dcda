"""Loop nests as C: rows shared over threads, inside them vector loops with their tails, reductions in registers."""

from __future__ import annotations

from collections.abc import Sequence

from neve.emit.expressions import Scope
from neve.emit.reductions import Reductions
from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var, recombine
from neve.ir.loops import Expr, FromIndex, Guard, Load
from neve.plan.fuse import hint
from neve.plan.stages import Compute, Reduce, Scan

BLOCK = 2048
"""Elements of a row that is cut so that threads can share it."""


class NestWriter(Reductions):
    """Writes one nest into a function body."""

    def body(self) -> list[str]:
        """The lines of the kernel function after its pointers are declared."""
        top = Scope()
        if len(self.nest.members) == 1 and not self.nest.extents:
            self._single(self.nest.members[0].stage, top)
        else:
            self._grouped(top)
        return top.lines

    def _grouped(self, top: Scope) -> None:
        names = [f"q{k}" for k in range(len(self.nest.extents))]
        row = self._rows(top, self.nest.extents, names)
        rows = [Var(n, x) for n, x in zip(names, self.nest.extents, strict=True)]
        marker = Var("row", Index.of(1))
        row.vars = {*rows, marker}
        self.e.inside = {m.stage.out: marker for m in self.nest.members}
        for m in self.nest.members:
            s = m.stage
            values = dict(zip(m.rows, rows, strict=True))
            fixed = tuple(recombine(Index.of(values.get(v, v)) if v.extent.const != 1 else Index.of(0)) for v in s.vars)
            inner = [v for v in s.vars if v not in values and v.extent.const != 1]
            if isinstance(s, Compute):
                self._attempt(
                    row,
                    lambda r, vec, s=s, values=values, fixed=fixed, inner=inner: self._compute(
                        r,
                        self._ordered(inner, s.expr.subs(values)),
                        s.expr.subs(values),
                        self.e.buffers[s.out],
                        fixed,
                        vec,
                    ),
                )
            else:
                assert isinstance(s, Reduce)
                rvars = [v for v in s.rvars if v.extent.const != 1]
                self._attempt(
                    row,
                    lambda r, vec, s=s, values=values, fixed=fixed, rvars=rvars: self._reduce_inside(
                        r, s, self._ordered(rvars, s.expr.subs(values)), s.expr.subs(values), fixed, vec
                    ),
                )
        self._finish(top, row)

    def _single(self, s: Compute | Reduce | Scan, top: Scope) -> None:
        if isinstance(s, Compute):
            self._single_compute(s, top)
        elif isinstance(s, Scan):
            self._scan(s, top)
        else:
            self._single_reduce(s, top)

    def _single_compute(self, s: Compute, top: Scope) -> None:
        buffer = self.e.buffers[s.out]
        at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in s.vars)
        vars = [v for v in s.vars if v.extent.const != 1]
        vars.sort(key=lambda v: -hint(buffer.strides[s.vars.index(v)]))
        expr = s.expr
        vars, expr, at = self._collapse(vars, expr, at, buffer)
        outer, inner = vars[:-1], vars[-1:]
        self._cut_rows(top, outer, inner, s, lambda r, tail, vec: self._compute(r, tail, expr, buffer, at, vec))

    def _cut_rows(self, top: Scope, outer: list[Var], inner: list[Var], s: Compute | Reduce, write) -> None:  # type: ignore[no-untyped-def]
        """Rows over outer; a long inner loop under few rows is cut into blocks that count as rows too."""
        rows = 1.0
        for v in outer:
            rows *= hint(v.extent)
        cut = bool(inner) and rows < 16 and hint(inner[0].extent) > 2 * BLOCK
        extents = [v.extent for v in outer]
        names = [v.name for v in outer]
        if cut:
            extents.append((inner[0].extent + (BLOCK - 1)) // BLOCK)
            names.append("block")
        row = self._rows(top, extents, names)
        row.vars = set(outer)
        if cut:
            n = self.e.index(inner[0].extent, top)
            row.add(f"const int64_t from = block * {BLOCK}, to = neve_min(from + {BLOCK}, {n});")
            self.span = ("from", "to")
        self._attempt(row, lambda r, vec: write(r, inner, vec))
        self.span = None
        self._finish(top, row)

    span: tuple[str, str] | None = None

    def _collapse(
        self, vars: list[Var], expr: Expr, at: tuple[Index, ...], buffer: Buffer
    ) -> tuple[list[Var], Expr, tuple[Index, ...]]:
        """Adjacent loops merged while every address stays linear in the merged variable."""
        k = len(vars) - 2
        while k >= 0:
            a, b = vars[k], vars[k + 1]
            w = Var(f"w{k}{a.name}", a.extent * b.extent)
            values = {a: Index.of(w) // b.extent, b: Index.of(w) % b.extent}
            merged = expr.subs(values)
            place = tuple(recombine(i.subs(values)) for i in at)
            if self._linear(merged, w) and _linear_address(buffer, place, w):
                vars, expr, at = [*vars[:k], w, *vars[k + 2 :]], merged, place
            k -= 1
        return vars, expr, at

    def _linear(self, e: Expr, w: Var) -> bool:
        if isinstance(e, Load):
            buffer = self.e.buffers.get(e.tensor)
            return buffer is None or _linear_address(buffer, e.index, w)
        if isinstance(e, FromIndex):
            return e.index.affine(w) is not None
        if isinstance(e, Guard) and any(
            i.affine(w) is None or n.affine(w) is None or w in i.vars for i, n in e.conditions
        ):
            return False
        return all(self._linear(c, w) for c in e.children)

    def _compute(
        self, scope: Scope, vars: list[Var], expr: Expr, buffer: Buffer, at: tuple[Index, ...], vector: bool
    ) -> None:
        """for vars: buffer[at] = expr."""
        address = buffer.address(at)

        def element(inner: Scope) -> None:
            self.e.store(buffer, address, self.e.value(expr, inner), inner)

        self._loop(scope, vars, element, vector)

    def _loop(self, scope: Scope, vars: list[Var], element, vector: bool) -> None:  # type: ignore[no-untyped-def]
        """Nested loops over vars around element(scope); if vector, the last one by vectors and a tail for the rest."""
        e = self.e
        if not vars:
            element(scope)
            return
        if len(vars) > 1:
            v = vars[0]
            inner = scope.child(v)
            self._loop(inner, vars[1:], element, vector)
            scope.close(f"for (int64_t {v.name} = 0; {v.name} < {e.index(v.extent, scope)}; {v.name}++)", inner)
            return
        v = vars[0]
        begin, end = self.span or ("0", e.index(v.extent, scope))
        if not vector:
            inner = scope.child(v)
            element(inner)
            scope.close(f"for (int64_t {v.name} = {begin}; {v.name} < {end}; {v.name}++)", inner)
            return
        whole = v.extent.const is not None and v.extent.const % self.lanes == 0
        whole = whole and (self.span is None or BLOCK % self.lanes == 0)
        e.vec, e.partial = v, None
        if v.extent.const is None or v.extent.const >= self.lanes:
            inner = scope.child(v)
            element(inner)
            scope.close(
                f"for (int64_t {v.name} = {begin}; {v.name} + {self.lanes} <= {end}; {v.name} += {self.lanes})", inner
            )
        if not whole:
            tail = scope.child(v)
            start = (
                f"{begin} + ({end} - {begin}) / {self.lanes} * {self.lanes}"
                if begin != "0"
                else f"({end}) / {self.lanes} * {self.lanes}"
            )
            tail.add(f"const int64_t {v.name} = {start}, left = {end} - {v.name};")
            e.partial = "left"
            body = tail.child()
            element(body)
            tail.close("if (left > 0)", body)
            scope.close("", tail)
        e.vec = e.partial = None


def _linear_address(buffer: Buffer, index: Sequence[Index], w: Var) -> bool:
    address = buffer.address(index)
    return w not in address.vars or address.affine(w) is not None
