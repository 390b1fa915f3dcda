"""Schedule: fused stages become steps with layouts, buffers and kernel choices, in execution order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from neve.build.target import Target
from neve.ir.buffers import Access, Buffer, strides_in_order
from neve.ir.graph import ConstTensor, Origin, StateVar
from neve.ir.index import Div, Index, Mod, Var
from neve.ir.loops import Expr, Load, Tensor
from neve.kernels.kernel import Bound, Pack, Packed, Pointer
from neve.plan.fuse import Fused, fuse, hint, mutable_tensors
from neve.plan.group import Item, group_rows
from neve.plan.lowering import Lowered
from neve.plan.packing import pack_seconds, pack_stages
from neve.plan.select import bind
from neve.plan.stages import (
    Block,
    Branch,
    Compute,
    Concat,
    Extern,
    Fail,
    Loop,
    Move,
    Reduce,
    Scan,
    SetSize,
    Stage,
    Template,
    index_loads,
    loads,
    settled,
)
from neve.plan.steps import BranchStep, ExternCall, FailStep, Kernel, LoopStep, SizeStep, Step


@dataclass(eq=False)
class Schedule:
    """A method as steps over buffers.

    buffers maps every tensor that has memory; constants those that come from the program; refusals are those of
    `Lowered`, as is most; packed has the parts of each array that a weight is packed into during the call.
    """

    steps: list[Step]
    buffers: dict[Tensor, Buffer]
    views: dict[Tensor, Compute]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: Mapping[Tensor, ConstTensor]
    states: Mapping[Tensor, StateVar]
    refusals: Mapping[tuple[Origin, str], str]
    packed: dict[Tensor, list[Tensor]] = field(default_factory=dict)
    most: Mapping[Index, Index] = field(default_factory=dict)

    def array(self, t: Tensor) -> np.ndarray | None:
        """The value of a constant, or of a view of one; None if t is neither."""
        if t in self.constants:
            return self.constants[t].array
        view = self.views.get(t)
        if view is None or not isinstance(view.expr, Load) or view.expr.tensor not in self.constants:
            return None
        if not t.type.is_static or not all(map(settled, view.expr.index)):  # rows that the run chooses
            return None
        env = dict(zip((v.name for v in view.vars), np.ix_(*(np.arange(d) for d in t.type.sizes)), strict=True))
        index = tuple(np.broadcast_to(i.value(env), t.type.sizes) for i in view.expr.index)
        source = self.constants[view.expr.tensor].array
        return source[index] if index else np.broadcast_to(source, t.type.sizes)


def schedule(lowered: Lowered, target: Target) -> Schedule:
    """Fuse, lay out and bind a method."""
    return _Scheduler(lowered, target).run()


@dataclass(eq=False)
class _Scheduler:
    lowered: Lowered
    target: Target
    buffers: dict[Tensor, Buffer] = field(default_factory=dict)
    views: dict[Tensor, Compute] = field(default_factory=dict)
    parts: dict[Tensor, tuple[Concat, Index]] = field(default_factory=dict)
    copies: dict[tuple[Tensor, tuple[int, ...] | Pack | None], Tensor] = field(default_factory=dict)
    stages: list[Item] = field(default_factory=list)

    def run(self) -> Schedule:
        lowered = self.lowered
        for k, t in enumerate(lowered.inputs):
            self._place(t, "input", slot=k)
        for t in lowered.constants:
            self._place(t, "constant")
        for t in lowered.states:
            self._place(t, "state")
        for k, t in enumerate(lowered.block.outputs):
            self._place(t, "output", slot=k)
        self.result = Schedule(
            [],
            self.buffers,
            self.views,
            lowered.inputs,
            lowered.block.outputs,
            lowered.constants,
            lowered.states,
            lowered.refusals,
            most=lowered.most,
        )
        mutable = mutable_tensors(lowered.block)
        self.result.steps = self._block(lowered.block, mutable)
        return self.result

    # --- what kernels ask for -----------------------------------------------------------------------------------------

    def access(self, t: Tensor) -> Access:
        """t as it lies: its buffer, or the place in another buffer that a view of it stands for."""
        buffer = self.buffers.get(t)
        if buffer is not None:
            vars = tuple(Var(f"x{k}", Index.of(d)) for k, d in enumerate(t.shape))
            return Access(
                buffer, vars, buffer.address([Index.of(0) if v.extent.const == 1 else Index.of(v) for v in vars])
            )
        view = self.views[t]
        load = view.expr
        by_data = isinstance(load, Load) and any(True for i in load.index for _ in index_loads(i))
        if isinstance(load, Load) and load.tensor in self.buffers and not by_data:
            base = self.buffers[load.tensor]
            return Access(base, view.vars, base.address(load.index))
        return self.copy(t)

    def copy(self, t: Tensor, order: tuple[int, ...] | None = None) -> Access:
        """t in dense memory of its own, its axes in that order."""
        if (t, order) not in self.copies:
            source = self.views.get(t)
            out = Tensor(t.type, t.name)
            vars = tuple(Var(f"c{k}", Index.of(d)) for k, d in enumerate(t.shape))
            at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in vars)
            expr = source.expr.subs(dict(zip(source.vars, at, strict=True))) if source is not None else Load(t, at)
            self._place(out, "arena", order)
            self.stages.append(Compute(out, vars, expr, self.origin, "copy"))
            self.copies[t, order] = out
        return self.access(self.copies[t, order])

    def array(self, t: Tensor) -> np.ndarray | None:
        return self.result.array(t)

    # --- walking ----------------------------------------------------------------------------------------------------

    def _block(self, block: Block, mutable: frozenset[Tensor]) -> list[Step]:
        fused: Fused = fuse(block, mutable)
        self.views.update(fused.views)
        for s in fused.stages:
            if isinstance(s, Concat):
                start = Index.of(0)
                for p in s.parts:
                    self.parts[p] = (s, start)
                    start = start + Index.of(p.shape[s.axis])
        outer, self.stages = self.stages, []
        known = set(self.copies)
        for s in fused.stages:
            self.origin = s.origin
            self._stage(s, mutable)
        stages, self.stages = self.stages, outer
        for key in set(self.copies) - known:
            del self.copies[key]
        # what Moves write is read outside the block: it must not become a row's scratch
        return group_rows(stages, self.buffers, {*block.outputs, *mutable}, tuple(self.lowered.states))

    def _stage(self, s: Stage, mutable: frozenset[Tensor]) -> None:
        if isinstance(s, (Compute, Reduce)):
            self._allocate(s.out, self._order(s))
            self.stages.append(s)
        elif isinstance(s, Scan):
            self._allocate(s.out, None)
            self.stages.append(s)
        elif isinstance(s, Template):
            self._template(s)
        elif isinstance(s, Extern):
            inputs = tuple(self._contiguous(t) for t in s.inputs)
            for t in s.results:
                self._allocate(t, None, dense=True)
            self.stages.append(ExternCall(replace(s, inputs=inputs)))
            for t in s.results:
                self._forget(t)
        elif isinstance(s, Move):
            vars = tuple(Var(f"m{k}", Index.of(d)) for k, d in enumerate(s.target.shape))
            at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in vars)
            if s.target not in self.buffers:
                self._place(s.target, "arena")
            self.stages.append(Compute(s.target, vars, Load(s.source, at), s.origin, s.label))
            self._forget(s.target)
        elif isinstance(s, Branch):
            for t in s.results:
                self._allocate(t, None)
            then, orelse = self._block(s.then, mutable), self._block(s.orelse, mutable)
            self.stages.append(BranchStep(s.pred, then, orelse, s.origin))
        elif isinstance(s, Loop):
            for source, t in zip(s.initial, s.carried, strict=True):
                self._allocate(t, None)
                self._stage(Move(source, t, s.origin, s.label), mutable)
            for t in (*s.cond.writes, *s.body.writes):
                self._forget(t)  # no copy from before the loop holds in its later iterations
            cond, body = self._block(s.cond, mutable), self._block(s.body, mutable)
            (test,) = s.cond.outputs
            self.stages.append(LoopStep(cond, test, body, s.origin))
        elif isinstance(s, (Fail, SetSize)):
            self.stages.append(_plain(s))

    def _forget(self, t: Tensor) -> None:
        """A Move changed t: copies of it made earlier are stale."""
        for key in [k for k in self.copies if k[0] is t]:
            del self.copies[key]

    def _template(self, s: Template) -> None:
        step = Kernel(s, tuple(map(self._weights, bind(s, self))))
        read = [p.buffer.dtype for p in step.pointers]
        own = s.results[0].dtype
        assert not any(d.is_float and d is not own for d in read), f"{s.op.name} would read {read} as {own}"
        out, (bound, _) = s.outputs[0], step.candidates[0]
        if s.epilogue is None:
            images = [a.subs({}) for a in bound.axes]
        else:
            values = dict(zip(s.epilogue.vars, bound.axes, strict=True))
            images = [i.subs(values) for i in s.epilogue.index]
        self._allocate(out, _order_by_coords(images, bound.coords))
        for t in s.results[1:]:
            self._allocate(t, None, dense=True)
        self.stages.append(step)

    def _weights(self, bound: Bound) -> Bound:
        """The call with a weight that is no constant packed by loops, as its best choice wants it."""
        weights = [p.constant for p in bound.pointers if isinstance(p, Packed) and self.array(p.constant) is None]
        if not weights:
            return bound
        (w,) = weights
        ways = [(c.cost + pack_seconds(c.pack, w), c.pack) for c in bound.choices if isinstance(c.pack, Pack)]
        _, pack = min(ways, key=lambda way: way[0])
        choices = tuple(c for c in bound.choices if c.pack == pack)
        packed = Pointer(self.buffers[self._packed(w, pack)], Index.of(0))
        pointers = tuple(packed if isinstance(p, Packed) and p.constant is w else p for p in bound.pointers)
        return replace(bound, choices=choices, pointers=pointers)

    def _packed(self, w: Tensor, pack: Pack) -> Tensor:
        """w packed, by loops before the kernel; once for all kernels of a block that read it so."""
        if (w, pack) not in self.copies:
            if None in self.access(w).strides:
                self.copy(w)
            source = self.copies.get((w, None), w)
            packing = pack(source)
            self._place(packing.array, "arena")
            made = pack_stages(packing, self.buffers, viewed(source, self.views.get(source)), self.origin)
            self.stages += made[0]
            self.result.packed[packing.array] = made[1]
            self.copies[w, pack] = packing.array
        return self.copies[w, pack]

    def _contiguous(self, t: Tensor) -> Tensor:
        if t in self.buffers and self.buffers[t].is_row_major:
            return t
        self.copy(t)
        return self.copies[t, None]

    # --- buffers ------------------------------------------------------------------------------------------------------

    def _place(self, t: Tensor, place: str, order: Sequence[int] | None = None, slot: int = -1) -> Buffer:
        self.buffers[t] = Buffer(t, place, strides_in_order(t.shape, order), Index.of(0), slot)
        return self.buffers[t]

    def _allocate(self, t: Tensor, order: Sequence[int] | None, dense: bool = False) -> None:
        """Memory for t, unless it has some: its share of a concatenation, or dense with that axis order."""
        if t in self.buffers:
            return
        if t in self.parts and not dense:
            cat, start = self.parts[t]
            if cat.out not in self.buffers:
                self._allocate(cat.out, order)
            whole = self.buffers[cat.out]
            self.buffers[t] = Buffer(
                t, whole.place, whole.strides, whole.offset + whole.strides[cat.axis] * start, whole.slot, whole
            )
            return
        self._place(t, "arena", order)

    def _order(self, s: Compute | Reduce) -> tuple[int, ...] | None:
        """The axis order of the operand that s walks along all its axes, so that both are read and written along
        memory; the largest one if there are several. Operands that are repeated along an axis have no say.
        """
        best: tuple[float, tuple[int, ...]] | None = None
        for x in loads(s.expr):
            buffer = self.buffers.get(x.tensor)
            if buffer is None or buffer.place == "constant":
                continue
            address = buffer.address(x.index)
            used = [v for v in s.vars if v in address.vars]
            weight = float(np.prod([hint(v.extent) for v in used])) if used else 0.0
            strides = [_rough_stride(address, v) if v in used else float("inf") for v in s.vars]
            order = tuple(sorted(range(len(s.vars)), key=lambda k: (-strides[k], k)))
            whole = all(v in used or v.extent.const == 1 for v in s.vars)
            if used and whole and (best is None or weight > best[0]):
                best = (weight, order)
        return best[1] if best else None


def _plain(s: Fail | SetSize) -> Step:
    """The step of a stage that computes nothing."""
    return FailStep(s.message, s.origin) if isinstance(s, Fail) else SizeStep(s.value, s.size, s.limited, s.origin)


def viewed(t: Tensor, view: Compute | None) -> Callable[[Load], Expr]:
    """Loads of t as those of what it is a view of, if it is one."""

    def element(x: Load) -> Expr:
        if x.tensor is not t or view is None:
            return x
        return view.expr.subs(dict(zip(view.vars, x.index, strict=True)))

    return element


def _rough_stride(address: Index, v: Var) -> float:
    """About how far the address moves with v, also where v is divided or reaches it by way of data."""
    total = 0.0
    for k, c in address.terms.items():
        inside = [a for a in k if v == a or (not isinstance(a, Var) and v in Index.of(a).vars)]
        if not inside:
            continue
        step = 1.0
        for a in k:
            step *= 1.0 if a in inside else hint(Index.of(a))
        if isinstance(inside[0], Div):
            step *= _rough_stride(inside[0].num, v) / max(hint(inside[0].den), 1.0)
        elif isinstance(inside[0], Mod):
            step *= _rough_stride(inside[0].num, v)
        total += c * step
    return abs(total)


def _order_by_coords(images: list[Index], coords: tuple[Var, ...]) -> tuple[int, ...] | None:
    """Axes sorted as the store's coordinates run, the last coordinate innermost."""
    keys = []
    for k, image in enumerate(images):
        last = max((c for c, v in enumerate(coords) if v in image.vars), default=-1)
        keys.append((last, -_digit(image, coords[last]) if last >= 0 else 0, k))
    return tuple(k for *_, k in sorted(keys))


def _digit(image: Index, v: Var) -> float:
    """How coarse a digit of v the image is: v // 64 is coarser than v % 64."""
    for a in image.atoms():
        if isinstance(a, Div) and v in a.num.vars:
            return hint(a.den)
        if isinstance(a, Mod) and v in a.num.vars:
            return max((_digit(Index.of(b), v) for b in a.num.atoms()), default=1.0)
    return 1.0
