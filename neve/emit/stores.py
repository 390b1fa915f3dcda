"""What a template does with its result: the epilogue as functions of the store's coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from neve.emit.c import C
from neve.emit.expressions import Emitter, Scope, Value
from neve.emit.statements import For, Lane, Lanes, Let, Local, Prefetch, Size, Statement
from neve.ir.buffers import Buffer
from neve.ir.index import Index, Var, recombine
from neve.ir.loops import Expr, Load, Tensor
from neve.ir.types import DType
from neve.kernels.kernel import Bound
from neve.plan.fuse import cost, hint
from neve.plan.stages import Template, index_loads, loads

LONG_EPILOGUE = 12
"""From this cost on an epilogue is compiled once a vector instead of once for every vector of a tile."""


@dataclass(frozen=True)
class StoreWriter:
    """Writes the functions by which a kernel stores its results.

    stage is stored by the coordinates of bound. emitter makes an emitter of the kernel function, declarations the
    pointers that a body uses, given what is written; base tells buffers apart by where their memory begins; l2 is the
    target's cache in bytes.
    """

    stage: Template
    bound: Bound
    emitter: Callable[[], Emitter]
    declarations: Callable[[set[Tensor], Sequence[Statement]], list[Statement]]
    base: Callable[[Buffer], str]
    language: C
    l2: int

    def store(self, partial: bool) -> str:
        """Stores the vector v, or cnt elements of it."""
        bound, result = self.bound, self.stage.results[0]
        out, index, expr = self._stored
        emitter, scope = self.emitter(), Scope(vars=set(bound.coords))
        emitter.special[result] = Value(Local("v"), "v", DType.float32)
        buffer = emitter.buffers[out]
        vectors = result.dtype is DType.float32
        if vectors and emitter.forms(bound.coords[-1]).written(buffer, buffer.address(index), expr):
            emitter.vec, emitter.partial = bound.coords[-1], Local("cnt") if partial else None
            emitter.store(buffer, buffer.address(index), emitter.value(expr, scope), scope)
        else:
            scope = self._lanes(partial)
        return self._function("store_n" if partial else "store", scope)

    def fetch(self) -> list[str]:
        """A function that prefetches what the store reads from a column on, where that is contiguous, and what it
        writes where that cannot be in L2. A long epilogue hides its stores by itself.
        """
        bound, results = self.bound, self.stage.results
        out, index, expr = self._stored
        emitter, scope = self.emitter(), Scope(vars=set(bound.coords))
        emitter.vec = last = bound.coords[-1]
        touched = [(x.tensor, x.index) for x in loads(expr) if x.tensor not in results]
        if hint(Index.of(out.type.numel)) * out.dtype.size > self.l2 and cost(expr) < LONG_EPILOGUE:
            touched.append((out, index))
        forms, rows = emitter.forms(last), dict[tuple[str, Index], Buffer]()
        for tensor, at in touched:
            buffer = emitter.buffers[tensor]
            address = buffer.address(at)
            contiguous = len(address.vars) > 1 and forms.stride(address) == Index.of(1)
            if contiguous and buffer.dtype is DType.float32 and not any(index_loads(address)):
                rows.setdefault((self.base(buffer), address), buffer)
        written = (self.base(emitter.buffers[out]), emitter.buffers[out].address(index))
        for key, buffer in rows.items():
            place, _ = emitter.place(buffer, key[1], scope)
            scope.add(Prefetch(place, key == written))
        return [self._function("fetch", scope)] if rows else []

    def _lanes(self, partial: bool) -> Scope:
        """The epilogue lane by lane, where it has no vector form."""
        bound, result = self.bound, self.stage.results[0]
        out, index, expr = self._stored
        last = bound.coords[-1]
        lane = Var(f"{last.name}l", last.extent)
        emitter, scope = self.emitter(), Scope(vars=set(bound.coords))
        emitter.special[result] = Value(Lane(Local("v"), "lane"), "s", result.dtype)
        marker = Var("lane", Index.of(1))
        emitter.inside = {result: marker}
        inner = scope.child(lane, marker)
        inner.add(Let(lane.name, "i", Size(Index.of(last) + Index.of(marker))))
        values, buffer = {last: Index.of(lane)}, emitter.buffers[out]
        address = buffer.address(tuple(i.subs(values) for i in index))
        emitter.store(buffer, address, emitter.value(expr.subs(values), inner), inner)
        count = Local("cnt") if partial else Lanes(result.dtype)
        scope.add(For("lane", Size(Index.of(0)), count, 1, inner.body))
        return scope

    @cached_property
    def _stored(self) -> tuple[Tensor, tuple[Index, ...], Expr]:
        """What is written: the tensor, the index in it, the value, by the store's coordinates."""
        bound, stage = self.bound, self.stage
        if stage.epilogue is None:
            return stage.results[0], tuple(bound.axes), Load(stage.results[0], tuple(bound.axes))
        values = dict(zip(stage.epilogue.vars, bound.axes, strict=True))
        index = tuple(recombine(i.subs(values)) for i in stage.epilogue.index)
        return stage.epilogue.out, index, stage.epilogue.expr.subs(values)

    def _function(self, name: str, scope: Scope) -> str:
        coords = [c.name for c in self.bound.coords]
        body = [*self.declarations({self._stored[0]}, scope.body), *scope.body]
        return self.language.store(name, self.stage.results[0].dtype, coords, body)
