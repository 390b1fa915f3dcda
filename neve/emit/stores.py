"""What a template does with its result: the epilogue as C functions of the store's coordinates."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from neve.emit.expressions import Emitter, NotVector, Scope, Value
from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var, recombine
from neve.ir.loops import Expr, Load, Tensor
from neve.ir.types import DType
from neve.plan.fuse import cost, hint
from neve.plan.stages import index_loads, loads
from neve.plan.steps import Kernel

LONG_EPILOGUE = 12
"""From this cost on an epilogue is compiled once a vector instead of once for every vector of a tile."""


@dataclass(frozen=True)
class StoreWriter:
    """Writes the functions by which a kernel stores its results.

    emitter makes an emitter of the kernel function, declarations C of the pointers that it has used, given what is
    written; base is C of a buffer's place in memory; l2 is the target's cache in bytes.
    """

    kernel: Kernel
    emitter: Callable[[], Emitter]
    declarations: Callable[[set[Tensor]], list[str]]
    base: Callable[[Buffer], str]
    l2: int

    def store(self, partial: bool) -> str:
        """Stores the vector v, or cnt elements of it."""
        bound, result = self.kernel.bound, self.kernel.stage.results[0]
        out, index, expr = self._stored()
        emitter, scope = self.emitter(), Scope(vars=set(bound.coords))
        emitter.vec, emitter.partial = bound.coords[-1], "cnt" if partial else None
        emitter.special[result] = Value("v", "v", DType.float32)
        buffer = emitter.buffers[out]
        try:
            emitter.store(buffer, buffer.address(index), emitter.value(expr, scope), scope)
        except NotVector:
            scope = self._lanes(partial)
        if partial:
            return self._function("@_store_n", "vf v, int64_t cnt, ", scope)
        return self._function("@_store", "vf v, ", scope)

    def fetch(self) -> list[str]:
        """A function that prefetches what the store reads from a column on, where that is contiguous, and what it
        writes where that cannot be in L2. A long epilogue hides its stores by itself.
        """
        bound, results = self.kernel.bound, self.kernel.stage.results
        out, index, expr = self._stored()
        emitter, scope = self.emitter(), Scope(vars=set(bound.coords))
        emitter.vec = bound.coords[-1]
        rows: dict[tuple[str, Index], Buffer] = {}
        touched = [(x.tensor, x.index) for x in loads(expr) if x.tensor not in results]
        if hint(Index.of(out.type.numel)) * out.dtype.size > self.l2 and cost(expr) < LONG_EPILOGUE:
            touched.append((out, index))
        for tensor, at in touched:
            buffer = emitter.buffers[tensor]
            address = buffer.address(at)
            if buffer.dtype is DType.float32 and len(address.vars) > 1 and not any(index_loads(address)):
                rows.setdefault((self.base(buffer), address), buffer)
        written = (self.base(emitter.buffers[out]), emitter.buffers[out].address(index))
        for key, buffer in rows.items():
            with contextlib.suppress(NotVector):
                place, stride = emitter.address(buffer, key[1], scope)
                if stride == Index.of(1):
                    scope.add(f"vprefetch{'_write' if key == written else ''}({place});")
        asked = any(line.startswith("vprefetch") for line in scope.lines)
        return [self._function("@_fetch", "", scope)] if asked else []

    def _lanes(self, partial: bool) -> Scope:
        """The epilogue lane by lane, where it has no vector form."""
        bound, result = self.kernel.bound, self.kernel.stage.results[0]
        out, index, expr = self._stored()
        last = bound.coords[-1]
        lane = Var(f"{last.name}l", last.extent)
        emitter, scope = self.emitter(), Scope(vars=set(bound.coords))
        emitter.special[result] = Value("v[lane]", "s", DType.float32)
        marker = Var("lane", Index.of(1))
        emitter.inside = {result: marker}
        inner = scope.child(lane, marker)
        inner.add(f"const int64_t {lane.name} = {last.name} + lane;")
        values, buffer = {last: Index.of(lane)}, emitter.buffers[out]
        address = buffer.address(tuple(i.subs(values) for i in index))
        emitter.store(buffer, address, emitter.value(expr.subs(values), inner), inner)
        scope.close(f"for (int64_t lane = 0; lane < {'cnt' if partial else 'NEVE_VL'}; lane++)", inner)
        return scope

    def _stored(self) -> tuple[Tensor, tuple[Index, ...], Expr]:
        """What is written: the tensor, the index in it, the value, by the store's coordinates."""
        bound, stage = self.kernel.bound, self.kernel.stage
        if stage.epilogue is None:
            return stage.results[0], tuple(bound.axes), Load(stage.results[0], tuple(bound.axes))
        values = dict(zip(stage.epilogue.vars, bound.axes, strict=True))
        index = tuple(recombine(i.subs(values)) for i in stage.epilogue.index)
        return stage.epilogue.out, index, stage.epilogue.expr.subs(values)

    def _function(self, name: str, params: str, scope: Scope) -> str:
        coords = [c.name for c in self.kernel.bound.coords]
        head = f"NEVE_INLINE void {name}(void *const *p, const int64_t *s, {params}"
        head += ", ".join(f"int64_t {c}" for c in coords) + ") {"
        unused = "(void)p; (void)s;" + "".join(f" (void){c};" for c in coords)
        words = set(re.findall(r"\w+", " ".join(scope.lines)))
        declared = (d for d in self.declarations({self._stored()[0]}) if d.split(" = ")[0].split()[-1] in words)
        body = [unused, *declared, *scope.lines]
        return "\n".join([head, *("    " + x for x in body), "}"])
