"""What all loop nests share: the loop over rows, the order of the loops inside, and a try with vectors first."""

from __future__ import annotations

from collections.abc import Sequence

from neve.emit.expressions import Emitter, NotVector, Scope
from neve.ir.index import Index, Var
from neve.ir.loops import Expr
from neve.plan.fuse import hint
from neve.plan.stages import loads
from neve.plan.steps import Nest


class Rows:
    """The rows of one nest."""

    def __init__(self, nest: Nest, emitter: Emitter) -> None:
        self.nest, self.e = nest, emitter
        self.lanes = emitter.lanes

    def _rows(self, top: Scope, extents: Sequence[Index], names: Sequence[str]) -> Scope:
        """The scope inside the shared loop over all rows; names become the row's indexes, outermost first."""
        total = Index.of(1)
        for n in extents:
            total = total * n
        top.add(f"const neve_range share = neve_share({self.e.index(total, top)}, th);")
        row = top.child()
        rest = "row"
        for k in reversed(range(len(extents))):
            if k == 0:
                row.add(f"const int64_t {names[k]} = {rest};")
            else:
                size = self.e.index(extents[k], top)
                row.add(f"const int64_t {names[k]} = {rest} % ({size});")
                rest = f"{rest} / ({size})"
        if not extents:
            row.add("(void)row;")
        return row

    def _finish(self, top: Scope, row: Scope) -> None:
        top.close("for (int64_t row = share.begin; row < share.end; row++)", row)

    def _attempt(self, scope: Scope, write, vector: bool = True) -> None:  # type: ignore[no-untyped-def]
        """write(scope, vector?) with vectors; if the expression has no vector form, undone and over scalars."""
        saved = []
        up: Scope | None = scope
        while up is not None:
            saved.append((up, len(up.lines), dict(up.memo)))
            up = up.parent
        special = dict(self.e.special)
        try:
            if not vector:
                raise NotVector
            write(scope, True)
        except NotVector:
            for outer, count, memo in saved:
                del outer.lines[count:]
                outer.memo = memo
            self.e.special = special
            self.e.vec = self.e.partial = None
            write(scope, False)
        self.e.vec = self.e.partial = None

    def _ordered(self, vars: list[Var], expr: Expr) -> list[Var]:
        """Loops sorted so that the largest operand is walked along memory."""
        best: tuple[float, list[Var]] | None = None
        for x in loads(expr):
            buffer = self.e.buffers.get(x.tensor)
            if buffer is None:
                continue
            address = buffer.address(x.index)
            used = [v for v in vars if v in address.vars]
            forms = {v: address.affine(v) for v in used}
            if not used or any(f is None for f in forms.values()):
                continue
            weight = 1.0
            for v in used:
                weight *= hint(v.extent)
            if best is None or weight > best[0]:
                best = weight, sorted(vars, key=lambda v: -hint(forms[v][0]) if v in used else -float("inf"))  # type: ignore[index]
        return best[1] if best else vars
