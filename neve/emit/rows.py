"""What all loop nests share: the loop over rows, the order of the loops inside, whether these have a vector form."""

from __future__ import annotations

from collections.abc import Sequence

from neve.emit.expressions import Emitter, Scope
from neve.emit.statements import For, RowLoop, Share, Size
from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var
from neve.ir.loops import Expr
from neve.plan.fuse import hint
from neve.plan.stages import loads
from neve.plan.steps import Nest


class RowWriter:
    """The rows of one nest."""

    def __init__(self, nest: Nest, emitter: Emitter) -> None:
        self.nest, self.e = nest, emitter
        self.lanes = emitter.lanes

    def _rows(self, top: Scope, extents: Sequence[Index], names: Sequence[str]) -> tuple[Scope, RowLoop]:
        """The scope inside the shared loop over all rows, and the loop; names are a row's indexes, outermost first."""
        total = Index.of(1)
        for n in extents:
            total = total * n
        top.add(Share(self.e.size(total, top)))
        row = top.child()
        return row, RowLoop(names, [self.e.size(n, top) for n in extents], row.body)

    def _loop_over(self, scope: Scope, vars: Sequence[Var]) -> tuple[Scope, list[tuple[Scope, For]]]:
        """Nested loops over vars: the scope inside, and the loops, outermost first, to be added by `_close`."""
        loops = []
        for v in vars:
            inner = scope.child(v)
            loops.append((scope, For(v.name, Size(Index.of(0)), self.e.size(v.extent, scope), 1, inner.body)))
            scope = inner
        return scope, loops

    @staticmethod
    def _close(loops: Sequence[tuple[Scope, For]]) -> None:
        for scope, loop in reversed(loops):
            scope.add(loop)

    def _fits(self, vars: Sequence[Var], expr: Expr, buffer: Buffer, at: Sequence[Index]) -> bool:
        """Whether buffer[at] = expr has a vector form along the last of the loops over vars, if there are any."""
        return not vars or self.e.forms(vars[-1]).written(buffer, buffer.address(at), expr)

    def _ordered(self, vars: list[Var], expr: Expr) -> list[Var]:
        """Loops sorted so that the largest operand is walked along memory."""
        best: tuple[float, list[Var]] | None = None
        for x in loads(expr):
            buffer = self.e.buffers.get(x.tensor)
            if buffer is None:
                continue
            address = buffer.address(x.index)
            used = [v for v in vars if v in address.vars]
            steps = {v: form[0] for v in used if (form := address.affine(v)) is not None}
            if not used or len(steps) < len(used):
                continue
            weight = 1.0
            for v in used:
                weight *= hint(v.extent)
            if best is None or weight > best[0]:
                best = weight, sorted(vars, key=lambda v: -hint(steps[v]) if v in steps else -float("inf"))
        return best[1] if best else vars
