"""The C file of a program: kernel functions, one for equal texts, and each method as a straight line of calls."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from neve.build.target import Target
from neve.emit.c import C, c_index
from neve.emit.headers import BASE
from neve.emit.loops import NestWriter
from neve.emit.macros import c_size, defines
from neve.emit.pointers import Pointers
from neve.emit.stores import LONG_EPILOGUE, StoreWriter
from neve.emit.weights import Weights
from neve.ir.buffers import Buffer
from neve.ir.graph import Origin
from neve.ir.index import Index, Tree, Var
from neve.ir.loops import Tensor
from neve.ir.types import to_bytes
from neve.kernels.kernel import Bound, Choice, Pack, PackByValue, Packed, Pointer
from neve.plan import work
from neve.plan.fuse import cost
from neve.plan.memory import Arena, greatest, rounded
from neve.plan.schedule import Schedule
from neve.plan.stages import Reduce
from neve.plan.steps import BranchStep, ExternCall, FailStep, Kernel, LoopStep, Member, Nest, SizeStep, Step


@dataclass(frozen=True)
class CallSite:
    """One kernel call of a method: function number, C of each operand pointer, and what it is for reports.

    flops and traffic (bytes) are trees of sizes, see `neve.plan.work`. layer says which calls of
    kernels are alike, "" where there is nothing to choose from; candidates is how many ways there are to run it.
    others are what further kernels offer: their label, and their predicted time over that of the one that runs.
    plain is why sums run as plain loops that a kernel would compute for other operands, "" if none do.
    """

    kernel: int
    pointers: tuple[str, ...]
    label: str
    origin: Origin
    flops: Tree
    traffic: Tree
    layer: str = ""
    candidates: int = 1
    plain: str = ""
    others: tuple[tuple[str, float], ...] = ()


Pick = Callable[[str, int], int]
"""Which kernel a layer gets: from `CallSite.layer` and the number of candidates, the best by analysis first."""


def best_by_analysis(layer: str, candidates: int) -> int:
    """The `Pick` without measurements."""
    return 0


@dataclass(frozen=True)
class Folded:
    """What an array of the weights file is: a constant of a plan as it is, or one or a view of one packed."""

    schedule: Schedule
    constant: Tensor
    pack: Pack | PackByValue | None = None


class Unit:
    """Collects kernels and weights over all methods of a program."""

    def __init__(self, target: Target, symbols: Sequence[str]) -> None:
        self.target, self.symbols = target, list(symbols)
        self.kernels: dict[str, int] = {}
        self.weights = Weights()
        self.folded: dict[int, Folded] = {}
        self.headers: set[str] = set(BASE)
        self.language = C(self.symbol)

    def fold(self, array: np.ndarray, made: Folded) -> int:
        """The byte offset of an array in the weights file; arrays without bytes share theirs with the next one."""
        offset = self.weights.add(array)
        if array.nbytes:
            self.folded.setdefault(offset, made)
        return offset

    def symbol(self, name: str) -> str:
        return f"s[{self.symbols.index(name)}]"

    def size(self, i: Index) -> str:
        """A size for C: a literal, or an expression in s[]."""
        return c_size(i, self.symbol)

    def kernel(self, text: str) -> int:
        """The number of the function with that text (its own name written as @)."""
        return self.kernels.setdefault(text, len(self.kernels))


def larger(a: Index, b: Index) -> Index:
    """A size that is at least a and b, in whole cache lines: the larger one where that is provable, else their sum."""
    a, b = rounded(a), rounded(b)
    return a if (a - b).nonnegative else b if (b - a).nonnegative else a + b


class MethodWriter:
    """Turns a schedule's steps into call sites and control flow."""

    def __init__(
        self,
        unit: Unit,
        schedule: Schedule,
        arena: Arena,
        pick: Pick = best_by_analysis,
        reported: Sequence[str] = (),
    ) -> None:
        """reported: the sizes that data decide which the host is given."""
        self.unit, self.schedule, self.arena, self.pick, self.reported = unit, schedule, arena, pick, reported
        self.lines: list[str] = []
        self.sites: list[CallSite] = []
        self.messages: list[str] = []
        self.arrays: dict[Tensor, int] = {}
        self.packed: dict[Step, int] = {}
        self.layers: dict[Step, str] = {}
        self.others: dict[Step, tuple[tuple[str, float], ...]] = {}
        self.reads = Counter(_reads(schedule.steps))
        self.scratch = self.shared = Index.of(0)

    def need_scratch(self, size: Index) -> None:
        """Make the scratch of a thread at least that many bytes."""
        self.scratch = larger(self.scratch, greatest(size, self.schedule.most))

    def write(self, steps: Sequence[Step], indent: str = "    ") -> list[str]:
        """C statements for the steps."""
        out: list[str] = []
        checks = dict(self._checks(steps))
        for s in steps:
            if _is_empty(s) or s in checks.values():
                continue
            if isinstance(s, Nest) and s in checks:
                out += self._check(indent, s, checks[s])
            elif isinstance(s, Nest):
                out.append(self._call(indent, s, *self.nest(s)))
            elif isinstance(s, Kernel):
                out.append(self._call(indent, s, *self._kernel(s)))
            elif isinstance(s, ExternCall):
                out.append(self._call(indent, s, *self._extern(s)))
            elif isinstance(s, BranchStep):
                inner = indent + "    "
                out += [
                    f"{indent}if ({self._flag(s.pred)}) {{",
                    f"{inner}neve_barrier(th);",
                    *self.write(s.then, inner),
                    f"{indent}}} else {{",
                    f"{inner}neve_barrier(th);",
                    *self.write(s.orelse, inner),
                    f"{indent}}}",
                ]
            elif isinstance(s, LoopStep):
                inner = indent + "    "
                out += [
                    f"{indent}for (;;) {{",
                    *self.write(s.cond, inner),
                    f"{inner}const int again = {self._flag(s.test)};",
                    f"{inner}neve_barrier(th);",
                    f"{inner}if (!again) break;",
                    *self.write(s.body, inner),
                    f"{indent}}}",
                ]
            elif isinstance(s, SizeStep):
                out += self._size(indent, s)
            else:
                assert isinstance(s, FailStep)
                out += self._fail(indent, s)
        return out

    def _size(self, indent: str, s: SizeStep) -> list[str]:
        value = f"*(const int64_t *)({self.base(self.schedule.buffers[s.value])})"
        name = str(s.size)
        given = f"io->sizes[{self.reported.index(name)}] = " if name in self.reported else ""
        place = f"call->s[{self.unit.symbols.index(name)}]"
        check = []
        if s.limited:
            check = [
                f"{indent}if ({value} > {self.unit.size(self.schedule.most[s.size])}) {{",
                f"{indent}    if (th->tid == 0) {given}{place} = {value}, call->code = NEVE_TOO_LONG;",
                f"{indent}    return;",
                f"{indent}}}",
            ]
        return [*check, f"{indent}if (th->tid == 0) {given}{place} = {value};", f"{indent}neve_barrier(th);"]

    def _fail(self, indent: str, s: FailStep) -> list[str]:
        self.messages.append(s.message)
        code = f"NEVE_RAISED + {len(self.messages) - 1}"
        return [f"{indent}if (th->tid == 0) call->code = {code};", f"{indent}return;"]

    def _checks(self, steps: Sequence[Step]) -> Iterator[tuple[Nest, BranchStep]]:
        """Nests that find out whether the arguments are refused, with the branch on that, which alone reads it.

        Every thread computes such a flag for itself: that takes no barrier, and what is read does not change.
        """
        for a, b in pairwise(steps):
            if not isinstance(a, Nest) or not isinstance(b, BranchStep) or b.orelse or len(b.then) != 1:
                continue
            buffers, made = self.schedule.buffers, {m.stage.out for m in a.members}
            own = made - a.local == {b.pred} and buffers[b.pred].place == "arena" and self.reads[b.pred] == 1
            given = (t in buffers and buffers[t].root.place in ("input", "constant") for t in set(a.reads) - made)
            if isinstance(b.then[0], FailStep) and own and all(given):
                yield a, b

    def _check(self, indent: str, nest: Nest, branch: BranchStep) -> list[str]:
        kernel, pointers, label, origin = self.nest(nest)
        flag = self.base(self.schedule.buffers[branch.pred])
        pointers = ["&wrong" if p == flag else p for p in pointers]
        inner = indent + "    "
        (fail,) = branch.then
        assert isinstance(fail, FailStep)
        return [
            f"{indent}{{",
            f"{inner}uint8_t wrong;",
            self._call(inner, nest, kernel, pointers, label, origin, "ALONE"),
            f"{inner}if (wrong) {{",
            *self._fail(inner + "    ", fail),
            f"{inner}}}",
            f"{indent}}}",
        ]

    def _flag(self, t: Tensor) -> str:
        buffer = self.schedule.buffers[t]
        return f"*(const uint8_t *)({self.base(buffer)})"

    def _call(
        self,
        indent: str,
        step: Step,
        kernel: int,
        pointers: Sequence[str],
        label: str,
        origin: Origin,
        how: str = "CALL",
    ) -> str:
        flops, traffic = work.flops(step), work.traffic(step, self.packed.get(step, 0))
        layer, count = self.layers.get(step, ""), len(step.candidates) if isinstance(step, Kernel) else 1
        plain, others = self._plain(step), self.others.get(step, ())
        self.sites.append(CallSite(kernel, tuple(pointers), label, origin, flops, traffic, layer, count, plain, others))
        args = ", ".join(f"(void *)({p})" for p in pointers) or "0"
        note = f"{label}  {origin.module}".strip().replace("*/", "")
        return f"{indent}{{ void *const p[] = {{{args}}}; {how}({len(self.sites) - 1}, @K{kernel}@, p); }} /* {note} */"

    def _plain(self, step: Step) -> str:
        """Why sums of the step run as plain loops."""
        if not isinstance(step, Nest):
            return ""
        sums = (m.stage for m in step.members if isinstance(m.stage, Reduce))
        found = (self.schedule.refusals.get((s.origin, s.label), "") for s in sums)
        return "; ".join(dict.fromkeys(why for why in found if why))

    def base(self, buffer: Buffer) -> str:
        """C of a root buffer's start."""
        root = buffer.root
        if root.place == "input":
            return f"io->in{root.slot}"
        if root.place == "output":
            return f"io->out{root.slot}"
        if root.place == "constant":
            return f"w + {self.constant(root.tensor)}"
        if root.place == "state":
            return f"state + @S{root.tensor.name}@"
        offset = self.arena.offsets[root]
        return f"a + {c_index(offset, self.unit.symbol)}"

    def constant(self, t: Tensor) -> int:
        """Byte offset of a constant in the weights, in its own layout."""
        if t not in self.arrays:
            array = to_bytes(self.schedule.constants[t].array, t.dtype)
            self.arrays[t] = self.unit.fold(array, Folded(self.schedule, t))
        return self.arrays[t]

    def _pointers(self) -> Pointers:
        return Pointers(self.schedule.buffers, self.base, self.unit.target.vl)

    # --- kernels ------------------------------------------------------------------------------------------------------

    def nest(self, nest: Nest) -> tuple[int, list[str], str, Origin]:
        """The number of the function that runs a nest, C of its operands, what it is and where it came from."""
        nest, args = canonical(nest), self._pointers()
        body = NestWriter(nest, args.emitter()).body()
        rows = max((b.slot + -(-_row_bytes(b) // 64) * 64 for b in args.rows), default=0)
        self.need_scratch(Index.of(rows))
        written = {m.stage.out for m in nest.members}
        text = self.unit.language.kernel([*args.declarations(written, body), *body])
        first = nest.members[0].stage
        label = "+".join(dict.fromkeys(m.stage.label for m in nest.members))
        return self.unit.kernel(text), args.texts, label, first.origin

    def _kernel(self, k: Kernel) -> tuple[int, list[str], str, Origin]:
        made = self._store(k, k.bounds[0])
        bound, choice = self._choose(k, made[1])
        stage, (args, store, fetch) = k.stage, made if bound is k.bounds[0] else self._store(k, bound)
        for place, p in enumerate(bound.pointers):
            if p is not None:
                args.texts[place] = self._operand(p, k, choice)
        names = ", ".join(c.name for c in bound.coords)
        macros = list(defines(choice.macros, self.unit.symbol))
        if choice.loops and stage.epilogue is not None and cost(stage.epilogue.expr) >= LONG_EPILOGUE:
            macros.append("#define K_STORE_LOOP 1")
        text = "\n".join(
            [
                *store,
                *fetch,
                "#define KN(x) @_##x",
                *macros,
                f"#define K_STORE(v, {names}) @_store(p, s, v, {names})",
                f"#define K_STORE_N(v, cnt, {names}) @_store_n(p, s, v, cnt, {names})",
                *([f"#define K_FETCH({names}) @_fetch(p, s, {names})"] if fetch else []),
                f'#include "kernels/{choice.header}"',
                "#undef K_FETCH",
                RUN,
            ]
        )
        self.unit.headers.add(choice.header)
        self.need_scratch(Index.of(choice.scratch) if bound.scratch is None else bound.scratch)
        shared = Index.of(choice.shared) if bound.shared is None else bound.shared
        self.shared = larger(self.shared, greatest(shared, self.schedule.most))
        return self.unit.kernel(text), args.texts, f"{stage.label}: {choice.label}", stage.origin

    def _operand(self, p: Pointer | Packed, k: Kernel, choice: Choice) -> str:
        """C of a kernel's operand; a constant is packed as the choice wants it."""
        if isinstance(p, Pointer):
            start = c_index(p.start * p.buffer.dtype.size, self.unit.symbol)
            return f"{self.base(p.buffer)} + {start}" if p.start.terms else self.base(p.buffer)
        array = self.schedule.array(p.constant)
        assert array is not None
        assert choice.pack is not None
        packed = choice.pack.array(array, p.constant.dtype)
        self.packed[k] = packed.nbytes
        return f"w + {self.unit.fold(packed, Folded(self.schedule, p.constant, choice.pack))}"

    def _store(self, k: Kernel, bound: Bound) -> tuple[Pointers, list[str], list[str]]:
        """The arguments, with places for the pointers, and C of the two forms of the store and of the fetch."""
        args = self._pointers()
        for _ in bound.pointers:
            args.fixed("0")
        for t in k.stage.results[1:]:
            args.fixed(self.base(self.schedule.buffers[t]))
        base, language, l2 = self.base, self.unit.language, self.unit.target.l2
        writer = StoreWriter(k.stage, bound, args.emitter, args.declarations, base, language, l2)
        return args, [writer.store(partial) for partial in (False, True)], writer.fetch()

    def _choose(self, k: Kernel, store: Sequence[str]) -> tuple[Bound, Choice]:
        """The candidate as `pick` has it; layers are alike if the first one, its store and what kernels offer are."""
        (bound, first), *others = k.candidates
        if not others:
            return bound, first
        offers = [b.choices[0].label for b in k.bounds]
        parts = [first.header, *defines(first.macros, self.unit.symbol), *store, *offers]
        self.layers[k] = hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
        taken = k.candidates[self.pick(self.layers[k], len(k.candidates))]
        rest = [b.choices[0] for b in k.bounds if b is not taken[0]]
        self.others[k] = tuple((c.label, c.cost / max(taken[1].cost, 1e-12)) for c in rest)
        return taken

    def _extern(self, x: ExternCall) -> tuple[int, list[str], str, Origin]:
        s = x.stage
        args = self._pointers()
        for t in (*s.inputs, *s.results):
            args.fixed(self.base(self.schedule.buffers[t]))
        macros = [
            f"#define {n} {v if isinstance(v, (str, int)) else self.unit.size(Index.of(v))}"
            for n, v in s.macros.items()
        ]
        self.need_scratch(Index.of(s.scratch))
        self.unit.headers.add(s.header)
        undef = [f"#undef {n.split('(')[0]}" for n in ("KN", *s.macros)]
        text = "\n".join(
            [
                "#define KN(x) @_##x",
                *macros,
                f'#include "kernels/{s.header}"',
                *undef,
                RUN,
            ]
        )
        return self.unit.kernel(text), args.texts, s.label, s.origin


def canonical(nest: Nest) -> Nest:
    """The nest with loop variables named by their place, so that equal nests have equal text."""
    members = []
    for k, m in enumerate(nest.members):
        s = m.stage
        names = {v: Var(f"i{k}_{x}", v.extent) for x, v in enumerate(s.vars)}
        if isinstance(s, Reduce):
            names |= {v: Var(f"r{k}_{x}", v.extent) for x, v in enumerate(s.rvars)}
        expr = s.expr.subs({v: Index.of(n) for v, n in names.items()})
        vars = tuple(names[v] for v in s.vars)
        if isinstance(s, Reduce):
            s = replace(s, vars=vars, rvars=tuple(names[v] for v in s.rvars), expr=expr)
        else:
            s = replace(s, vars=vars, expr=expr)
        members.append(Member(s, tuple(names[v] for v in m.rows)))
    return Nest(nest.extents, members, nest.local)


RUN = """NEVE_KERNEL void @(void *const *p, const int64_t *s, neve_thread *th)
{
    @_run(p, s, th);
}"""
"""The function of a kernel whose C is a header."""


def _reads(steps: Sequence[Step]) -> Iterator[Tensor]:
    """What each step reads, once for each that does: of those with steps inside, these and what they ask for."""
    for s in steps:
        within = {t for b in s.blocks for t in _reads(b)}
        yield from (t for t in s.reads if t not in within)
        for b in s.blocks:
            yield from _reads(b)


def _is_empty(s: Step) -> bool:
    """Whether the step writes tensors without elements only."""
    outs = (
        [m.stage.out for m in s.members]
        if isinstance(s, Nest)
        else s.stage.outputs
        if isinstance(s, (Kernel, ExternCall))
        else ()
    )
    return bool(outs) and all(t.type.numel == 0 for t in outs)


def _row_bytes(b: Buffer) -> int:
    n = b.dtype.size
    for st, d in zip(b.strides, b.tensor.shape, strict=True):
        if st.terms and isinstance(d, int):
            n *= d
    return n
