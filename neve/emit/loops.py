"""Loop nests as statements: rows shared over threads, inside them vector loops with tails, reductions in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neve.emit.expressions import Scope
from neve.emit.reductions import Reductions
from neve.emit.segments import MOST, changing, resolved
from neve.emit.statements import (
    Bounded,
    Compare,
    Fitting,
    For,
    IfThen,
    Least,
    Let,
    Local,
    Minus,
    Scoped,
    Size,
    Statement,
    Term,
)
from neve.emit.totals import ZERO
from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var, data_atoms, recombine
from neve.ir.loops import Expr, FromIndex, Guard, Load
from neve.plan.fuse import cost, hint, volume
from neve.plan.stages import Compute, Reduce, Scan, loads

SHARED = 12
"""From this cost on, positions that data give are computed once for all loops that they do not depend on."""
BLOCK = 2048
"""Elements of a row that is cut so that threads can share it."""


@dataclass(frozen=True)
class Span:
    """begin..end-1; length has the remainder by a vector's lanes that the number of elements has, None if unknown."""

    begin: Term
    end: Term
    length: int | None


class NestWriter(Reductions):
    """Writes one nest into a function body."""

    span: Span | None = None
    """What bounds the last loop, where it is not the whole axis."""

    def body(self) -> list[Statement]:
        """The statements of the kernel function after its pointers are declared."""
        top = Scope()
        if len(self.nest.members) == 1 and not self.nest.extents:
            self._single(self.nest.members[0].stage, top)
        else:
            self._grouped(top)
        return top.body

    def _grouped(self, top: Scope) -> None:
        names = [f"q{k}" for k in range(len(self.nest.extents))]
        row, loop = self._rows(top, self.nest.extents, names)
        rows = [Var(n, x) for n, x in zip(names, self.nest.extents, strict=True)]
        marker = Var("row", Index.of(1))
        row.vars = {*rows, marker}
        self.e.inside = {m.stage.out: marker for m in self.nest.members}
        for m in self.nest.members:
            self._member(row, m.stage, dict(zip(m.rows, rows, strict=True)))
        top.add(loop)

    def _member(self, row: Scope, s: Compute | Reduce | Scan, values: dict[Var, Var]) -> None:
        """A stage inside a row whose variables have these values."""
        fixed = tuple(recombine(Index.of(values.get(v, v)) if v.extent.const != 1 else Index.of(0)) for v in s.vars)
        expr = s.expr.subs({v: Index.of(n) for v, n in values.items()})
        if isinstance(s, Compute):
            inner = self._ordered([v for v in s.vars if v not in values and v.extent.const != 1], expr)
            self._compute(row, inner, expr, self.e.buffers[s.out], fixed)
        else:
            assert isinstance(s, Reduce)
            rvars = self._ordered([v for v in s.rvars if v.extent.const != 1], expr)
            self._reduce_inside(row, s, rvars, expr, fixed)

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
        vars, expr, at = self._collapse(vars, s.expr, at, buffer)
        inside = self._inside(vars, expr, buffer, at)
        outer, inner = [v for v in vars[:-1] if v not in inside], vars[-1:]
        extents, names = [v.extent for v in outer], [v.name for v in outer]
        size = max(int(BLOCK // volume([v.extent for v in inside])) // self.lanes, 4) * self.lanes
        cut = self._is_cut(outer, inner, size)
        if cut:
            extents.append((inner[0].extent + (size - 1)) // size)
            names.append("block")
        row, loop = self._rows(top, extents, names)
        row.vars = set(outer)
        if cut:
            block, n = Index.of(Var("block", extents[-1])), self.e.size(inner[0].extent, top)
            begin = Index.of(Var("from", inner[0].extent))
            row.add(Let("from", "i", Size(block * size)), Let("to", "i", Least(Size(begin + size), n)))
            self.span = Span(Local("from"), Local("to"), inner[0].extent.const)
        self._compute(row, inner, expr, buffer, at, inside)
        self.span = None
        top.add(loop)

    @staticmethod
    def _is_cut(outer: Sequence[Var], inner: Sequence[Var], size: int) -> bool:
        """Whether a long inner loop under few rows is cut into blocks of that size that count as rows too."""
        return bool(inner) and volume([v.extent for v in outer]) < 16 and hint(inner[0].extent) > 2 * size

    def _inside(self, vars: list[Var], expr: Expr, buffer: Buffer, at: Sequence[Index]) -> list[Var]:
        """The loops that go inside the vector loop, the last of vars: those over which its positions are the same, such
        as an image's channels, if these cost much.
        """
        if not vars or not self._fits(vars, expr, buffer, at):
            return []
        forms = self.e.forms(vars[-1])
        found = (forms.gathered(self.e.buffers[x.tensor].address(x.index)) for x in loads(expr) if forms.reads(x))
        positions = {a for f in found if f is not None for a in data_atoms(f[1])}
        used = frozenset().union(*(a.expr.vars for a in positions))
        worth = sum(cost(a.expr) for a in positions) >= SHARED
        return [v for v in vars[:-1] if v not in used] if worth else []

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
            buffer, positions = self.e.buffers.get(e.tensor), {a for i in e.index for a in data_atoms(i)}
            rest = [i.subs(dict.fromkeys(positions, 0)) for i in e.index]
            linear = buffer is None or _linear_address(buffer, rest, w)
            return linear and all(self._linear(a.expr, w) for a in positions)
        if isinstance(e, FromIndex):
            return e.index.affine(w) is not None
        if isinstance(e, Guard) and any(
            i.affine(w) is None or n.affine(w) is None or w in i.vars for i, n in e.conditions
        ):
            return False
        return all(self._linear(c, w) for c in e.children)

    def _compute(
        self,
        scope: Scope,
        vars: list[Var],
        expr: Expr,
        buffer: Buffer,
        at: tuple[Index, ...],
        inside: Sequence[Var] = (),
    ) -> None:
        """for vars: buffer[at] = expr, with the loops over inside around each vector of the last."""
        if not vars:
            self._element(scope, expr, buffer, at, inside)
            return
        inner, loops = self._loop_over(scope, vars[:-1])
        self._along(inner, vars, expr, buffer, at, inside, MOST)
        self._close(loops)

    def _element(self, scope: Scope, expr: Expr, buffer: Buffer, at: tuple[Index, ...], inside: Sequence[Var]) -> None:
        body, loops = self._loop_over(scope, inside)
        self.e.store(buffer, buffer.address(at), self.e.stored(expr, buffer, body), body)
        self._close(loops)

    def _along(
        self,
        scope: Scope,
        vars: list[Var],
        expr: Expr,
        buffer: Buffer,
        at: tuple[Index, ...],
        inside: Sequence[Var],
        cuts: int,
    ) -> None:
        """The last of the loops, or as much of it as `span` says."""
        v, length = vars[-1], None if self.span is None else self.span.length
        short = length is not None and length < self.lanes / 4
        if not short and self._fits(vars, expr, buffer, at) and (cuts == MOST or self._linear(expr, v)):
            self._by_vectors(scope, v, lambda inner: self._element(inner, expr, buffer, at, inside))
            return
        change = changing(expr, v) if cuts else None
        if change is None:
            begin, end = self._ends(scope, v)
            body = scope.child(v)
            self._element(body, expr, buffer, at, inside)
            scope.add(For(v.name, begin or ZERO, end, 1, body.body))
            return
        condition, *places = change
        outside, inner = resolved(expr, condition, holds=False), resolved(expr, condition, holds=True)
        whole, span = self.span, self._ends(scope, v)
        cut = [span[0] or ZERO, *(self._cut(scope, i, span) for i in places), span[1]]
        for begin, end, part in zip(cut[:-1], cut[1:], (outside, inner, outside), strict=True):
            ends = [x.index.const if isinstance(x, Size) else None for x in (begin, end)]
            length = ends[1] - ends[0] if ends[0] is not None and ends[1] is not None else None
            if length is not None and length <= 0:
                continue
            self.span = Span(begin, end, length)
            piece = scope.child(fence=True)  # what a guard protected may be read in its piece alone
            self._along(piece, vars, part, buffer, at, inside, cuts - 1)
            scope.add(IfThen(Compare("<", begin, end), piece.body) if length is None else Scoped(piece.body))
        self.span = whole

    def _cut(self, scope: Scope, i: Index, span: tuple[Term | None, Term]) -> Term:
        """A place at which a loop is cut, not outside of it."""
        low, high = (x.index.const if isinstance(x, Size) else None for x in (span[0] or ZERO, span[1]))
        if i.const is not None and low is not None and high is not None:
            return Size(Index.of(min(max(i.const, low), high)))
        name = self.e.name()
        scope.add(Let(name, "i", Bounded(self.e.size(i, scope), span[0] or ZERO, span[1])))
        return Local(name)

    def _ends(self, scope: Scope, v: Var) -> tuple[Term | None, Term]:
        if self.span is not None:
            return self.span.begin, self.span.end
        return None, self.e.size(v.extent, scope)

    def _by_vectors(self, scope: Scope, v: Var, element: Callable[[Scope], None]) -> None:
        """A loop over v by whole vectors, and what is left over."""
        e, (begin, end) = self.e, self._ends(scope, v)
        length = v.extent.const if self.span is None else self.span.length
        e.vec = v
        if length is None or length >= self.lanes:
            inner = scope.child(v)
            element(inner)
            scope.add(For(v.name, begin or ZERO, end, self.lanes, inner.body))
        if length is None or length % self.lanes:
            tail, left = scope.child(v), Local("left")
            tail.add(Let(v.name, "i", Fitting(begin, end, self.lanes)), Let(left.name, "i", Minus(end, Local(v.name))))
            e.partial = left
            body = tail.child()
            element(body)
            tail.add(IfThen(Compare(">", left, ZERO), body.body))
            scope.add(Scoped(tail.body))
        e.vec = e.partial = None


def _linear_address(buffer: Buffer, index: Sequence[Index], w: Var) -> bool:
    address = buffer.address(index)
    return w not in address.vars or address.affine(w) is not None
