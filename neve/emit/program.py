"""A program as C: NAME.c, NAME.h, the kernel headers it includes, packed weights and the signature."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neve.build.source import Source
from neve.build.target import Target
from neve.emit.header import header, plain, used_symbols
from neve.emit.header import symbol as c_symbol
from neve.emit.prepare import Preparation
from neve.emit.unit import (
    BASE,
    CallSite,
    MethodWriter,
    Pick,
    Unit,
    best_by_analysis,
    header_closure,
)
from neve.ir import walk
from neve.ir.graph import Method, Program, StateVar
from neve.ir.index import Atom, Div, Index, Mod, Sym
from neve.ir.types import Dim, Range, to_bytes
from neve.ops.random import GENERATOR, STATE_BYTES, WORDS
from neve.plan.memory import Arena
from neve.plan.method import plan

MAX_THREADS = 8
HEADER_BYTES = 192
"""Context header: magic, weights pointer, barrier."""


@dataclass(frozen=True, eq=False)
class Emitted:
    """What emission gives: the source and, for reports, each method's kernel calls."""

    source: Source
    calls: Mapping[str, list[CallSite]]


def emit(
    program: Program,
    target: Target,
    name: str = "model",
    threads: int = MAX_THREADS,
    progress: Callable[[str], None] | None = None,
    pick: Pick = best_by_analysis,
    prepare: bool = False,
) -> Emitted:
    """Plan every method for the target and write it as C, with the kernel that `pick` says where there are several.

    prepare: with a function that makes the weights file from `Source.raw`, the constants in their own layout.
    """
    unit = Unit(target, [str(s) for s in program.symbols])
    states = walk.states(program)
    ranges = {str(s): r for s, r in program.symbols.items()}
    written: dict[str, tuple[Method, MethodWriter, list[str], Arena]] = {}
    for key, method in program.methods.items():
        if progress:
            progress(f"planning {key}")
        made = plan(method.graph, target, ranges)
        writer = MethodWriter(unit, made.schedule, made.arena, pick)
        written[key] = (method, writer, writer.write(made.schedule.steps), made.arena)
    needs = {
        k: (_bounded(a.size, ranges), _bounded(w.scratch, ranges), _bounded(w.shared, ranges))
        for k, (_, w, _, a) in written.items()
    }
    layout = _Layout(states, needs, unit, max(threads, 1))
    initial = {at: to_bytes(s.init, s.dtype) for s, at in layout.initial.items()}
    preparation = Preparation(unit, initial) if prepare else None
    text = _c_file(name, unit, written, layout, ranges, program, preparation)
    files = {
        f"{name}.c": text,
        f"{name}.h": header(
            name, written, layout.size, layout.workspaces, ranges, list(layout.states), program.attributes, prepare
        ),
        **header_closure(unit.headers),
    }
    signature = _signature(name, written, layout, ranges, unit, program.attributes)
    return Emitted(
        Source(name, files, unit.weights.blob(), signature, preparation.raw.blob() if preparation else None),
        {k: w.sites for k, (_, w, _, _) in written.items()},
    )


VAST = 1 << 22
"""A size that may be as large is given its memory call by call, as one without an upper bound."""


def _bounded(size: Index, ranges: Mapping[str, Range]) -> int | Index:
    """Bytes that are enough for every size if every symbol in it has an upper bound, else the formula."""
    symbols = {a.name for a in size.atoms() if isinstance(a, Sym)} | _inner_symbols(size)
    if any((most := ranges[s].max) is None or most >= VAST for s in symbols):
        return size
    return _limits(size, ranges)[1]


def _limits(i: Index, ranges: Mapping[str, Range]) -> tuple[int, int]:
    """Numbers that i stays between for all values of its symbols, which are bounded. It may fall as one grows."""
    low = high = 0
    for atoms, c in i.terms.items():
        span = (c, c)
        for a in atoms:
            products = [x * y for x in span for y in _atom_limits(a, ranges)]
            span = min(products), max(products)
        low, high = low + span[0], high + span[1]
    return low, high


def _atom_limits(a: Atom, ranges: Mapping[str, Range]) -> tuple[int, int]:
    if isinstance(a, Sym):
        largest = ranges[a.name].max
        assert largest is not None
        return ranges[a.name].min, largest
    assert isinstance(a, (Div, Mod))
    den = _limits(a.den, ranges)
    if isinstance(a, Mod):
        return 0, max(den[1] - 1, 0)
    quotients = [n // max(d, 1) for n in _limits(a.num, ranges) for d in den]
    return min(quotients), max(quotients)


def _inner_symbols(i: Index) -> set[str]:
    out: set[str] = set()
    for a in i.atoms():
        if isinstance(a, (Div, Mod)):
            for part in (a.num, a.den):
                out |= {x.name for x in part.atoms() if isinstance(x, Sym)} | _inner_symbols(part)
    return out


class _Layout:
    """Byte offsets inside the context, and the workspace of methods whose sizes have no bound."""

    def __init__(
        self,
        states: list[StateVar],
        needs: Mapping[str, tuple[int | Index, int | Index, int | Index]],
        unit: Unit,
        threads: int,
    ) -> None:
        at = HEADER_BYTES
        self.states: dict[StateVar, int] = {}
        for s in states:
            self.states[s] = at
            at += -(-max(s.init.size * s.dtype.size, 1) // 64) * 64
        self.initial = {s: unit.weights.add(to_bytes(s.init, s.dtype)) for s in states}
        self.threads = threads
        self.outside = {
            k: tuple(Index.of(n) for n in v) for k, v in needs.items() if any(isinstance(n, Index) for n in v)
        }
        inside = [tuple(int(n) for n in v if isinstance(n, int)) for k, v in needs.items() if k not in self.outside]
        arena, scratch, shared = (max((-(-v[i] // 64) * 64 for v in inside), default=0) for i in range(3))
        self.shared, self.scratch_at, self.scratch = at, at + shared, scratch
        self.arena = self.scratch_at + threads * scratch
        self.size = self.arena + arena
        self.workspaces = {
            k: arena + shared + scratch * threads for k, (arena, scratch, shared) in self.outside.items()
        }

    def places(self, method: str, unit: Unit) -> tuple[str, str, str, str]:
        """C of a method's arena, of its scratch, of the bytes of that a thread, and of its shared scratch."""
        if method not in self.outside:
            return (
                f"(char *)ctx + {self.arena}",
                f"ctx + {self.scratch_at}",
                f"INT64_C({self.scratch})",
                f"ctx + {self.shared}",
            )
        arena, scratch, shared = self.outside[method]
        return (
            "(char *)io->workspace",
            f"a + {unit.size(arena + shared)}",
            str(unit.size(scratch)),
            f"a + {unit.size(arena)}",
        )


def _c_file(
    name: str,
    unit: Unit,
    written: Mapping[str, tuple[Method, MethodWriter, list[str], Arena]],
    layout: _Layout,
    ranges: Mapping[str, Range],
    program: Program,
    preparation: Preparation | None,
) -> str:
    out = [
        f"/* {name}.c: generated by neve. Freestanding C; see {name}.h. */",
        f'#include "{name}.h"',
        *(f'#include "kernels/{h}"' for h in BASE),
        "",
        f"#if NEVE_VL != {unit.target.vl}",
        f'#error "C and weights for vectors of {unit.target.vl} floats: compile them for {unit.target.name}"',
        "#endif",
        "",
        _UNITS,
        "",
    ]
    for text, k in unit.kernels.items():
        body = text.replace("@", f"k{k}")
        out += [
            f"#if NEVE_HAS({k})",
            body,
            "#else",
            f"NEVE_KERNEL void k{k}(void *const *p, const int64_t *s, neve_thread *th);",
            "#endif",
            "",
        ]
    out += [
        "#if NEVE_UNIT == 0",
        MISPLACED,
        _CALL,
        f"struct {name} {{ uint64_t magic; const char *weights; char pad[48]; struct neve_barrier_state bar; }};",
        (
            f"typedef struct {{ {name} *ctx; const void *io; const neve_parallel *p; "
            f"int64_t s[{max(len(unit.symbols), 1)}]; char *arena; int32_t code; }} neve_call;"
        ),
        "",
    ]
    magic = f"UINT64_C(0x{_magic(name, unit):016x})"
    for key, (method, writer, lines, _) in written.items():
        out += _method(name, key, method, writer, lines, layout, unit, ranges, magic)
    out += _life(name, layout, magic, unit)
    out += _seed(name, layout, magic)
    out += preparation.function(name) if preparation else ()
    out += [
        "#ifdef NEVE_PROFILE",
        f"NEVE_API uint64_t {name}_clock(void);",
        f"uint64_t {name}_clock(void) {{ return neve_ticks(); }}",
        "#endif",
    ]
    out += ["#endif", ""]
    return re.sub(r"@K(\d+)@", r"k\1", "\n".join(out))


_UNITS = """#ifndef NEVE_UNITS
#define NEVE_UNITS 1
#define NEVE_UNIT 0
#endif
#if NEVE_UNITS > 1
#define NEVE_HAS(k) ((k) % NEVE_UNITS == NEVE_UNIT)
#define NEVE_KERNEL __attribute__((visibility("hidden")))
#else
#define NEVE_HAS(k) 1
#define NEVE_KERNEL static
#endif"""


MISPLACED = "#define NEVE_MISPLACED(p, n) (!(p) || ((uintptr_t)(p) & ((n) - 1)))"

_CALL = """#ifdef NEVE_PROFILE
#define CALL(i, kernel, p) do { uint64_t t = neve_ticks(); kernel(p, s, th); neve_barrier(th); \
if (!th->tid) TICKS[i] += neve_ticks() - t; } while (0)
#define ALONE(i, kernel, p) do { uint64_t t = neve_ticks(); kernel(p, s, &alone); \
if (!th->tid) TICKS[i] += neve_ticks() - t; } while (0)
#else
#define CALL(i, kernel, p) do { kernel(p, s, th); neve_barrier(th); } while (0)
#define ALONE(i, kernel, p) kernel(p, s, &alone)
#endif
/* ALONE: each thread does all of a check of the arguments, for itself */"""


def _magic(name: str, unit: Unit) -> int:
    import hashlib

    return int.from_bytes(hashlib.blake2b("\0".join([name, *unit.kernels]).encode(), digest_size=8).digest(), "little")


def _method(
    name: str,
    key: str,
    method: Method,
    writer: MethodWriter,
    lines: list[str],
    layout: _Layout,
    unit: Unit,
    ranges: Mapping[str, Range],
    magic: str,
) -> list[str]:
    symbol = c_symbol(name, key)
    for var, at in layout.states.items():
        lines = [x.replace(f"@S{var.name}@", str(at - HEADER_BYTES)) for x in lines]
    used = used_symbols(method)
    checks = []
    for s in used:
        r = ranges[s]
        test = f"io->{s} < {r.min}" + (f" || io->{s} > {r.max}" if r.max is not None else "")
        checks.append(f"    if ({test}) return NEVE_BAD_SIZE;")
    for k, v in enumerate((*method.graph.inputs, *method.graph.outputs)):
        n = len(method.graph.inputs)
        slot = f"in{k}" if k < n else f"out{k - n}"
        if v.type.numel != 0:
            empty = "" if v.type.is_static else f" && ({unit.size(_numel(v.shape))}) != 0".replace("s[", "call.s[")
            test = f"NEVE_MISPLACED(io->{slot}, {v.dtype.size})"
            checks.append(f"    if ({test}{empty}) return NEVE_BAD_POINTER;")
    for k, given in enumerate(method.sizes):
        if given is not None:
            checks.append(f"    if (*(const int64_t *)io->in{k} != io->{given}) return NEVE_BAD_SIZE;")
    work = layout.workspaces.get(key)
    arena, scratch_at, scratch, shared = layout.places(key, unit)
    if work is not None:
        need = str(unit.size(work)).replace("s[", "call.s[")
        checks += [
            f"    if (io->workspace_size < {need}) return NEVE_BAD_SIZE;",
            f"    if (NEVE_MISPLACED(io->workspace, 64) && {need} != 0) return NEVE_BAD_POINTER;",
        ]
    fill = "".join(f" call.s[{unit.symbols.index(s)}] = io->{s};" for s in used)
    return [
        "#ifdef NEVE_PROFILE",
        "#undef TICKS",
        f"#define TICKS {symbol}_ticks",
        f"NEVE_API uint64_t {symbol}_ticks[{len(writer.sites) + 1}]; /* of each call, and of the whole */",
        "#endif",
        f"static void {symbol}_body(void *arg, int32_t tid, int32_t nt)",
        "{",
        "    neve_call *const call = arg;",
        f"    if (tid >= {layout.threads}) return;",
        f"    nt = nt > {layout.threads} ? {layout.threads} : nt;",
        "    char *const ctx = (char *)call->ctx;",
        f"    const {symbol}_io *const io = call->io;",
        "    const char *const w = call->ctx->weights;",
        f"    char *const a = call->arena, *const state = ctx + {HEADER_BYTES};",
        "    const int64_t *const s = call->s;",
        (
            f"    neve_thread thread = {{tid, nt, {scratch_at} + tid * {scratch}, {shared}, "
            "&call->ctx->bar, call->p ? call->p->yield : 0, call->p ? call->p->host : 0};"
        ),
        "    neve_thread *const th = &thread;",
        "    neve_thread alone = {0, 1, thread.scratch, 0, 0, 0, 0};",
        "    (void)io; (void)w; (void)a; (void)s; (void)state; (void)th; (void)alone;",
        *lines,
        "}",
        "",
        f"int {symbol}({name} *ctx, const {symbol}_io *io, const neve_parallel *p)",
        "{",
        "    if (NEVE_MISPLACED(ctx, 64)) return ctx ? NEVE_BAD_POINTER : NEVE_NOT_READY;",
        f"    if (ctx->magic != {magic}) return NEVE_NOT_READY;",
        "    if (NEVE_MISPLACED(io, sizeof(void *))) return NEVE_BAD_POINTER;",
        "    neve_call call = {ctx, io, p, {0}, 0, NEVE_OK};",
        f"   {fill}" if fill else "",
        *checks,
        f"    call.arena = {arena};",
        "#ifdef NEVE_PROFILE",
        "    const uint64_t start = neve_ticks();",
        "#endif",
        "    if (p && p->threads > 1)",
        f"        p->run(p->host, {symbol}_body, &call);",
        "    else",
        f"        {symbol}_body(&call, 0, 1);",
        "#ifdef NEVE_PROFILE",
        f"    TICKS[{len(writer.sites)}] = neve_ticks() - start;",
        "#endif",
        "    return call.code;",
        "}",
        "",
    ]


def _numel(shape: tuple[Dim, ...]) -> Index:
    n = Index.of(1)
    for d in shape:
        n = n * Index.of(d)
    return n


def _state(name: str, layout: _Layout, magic: str) -> list[str]:
    places = ", ".join(map(str, layout.states.values()))
    return (
        [
            f"void *{name}_state({name} *ctx, int index)",
            "{",
            f"    static const int64_t places[] = {{{places}}};",
            f"    if (NEVE_MISPLACED(ctx, 64) || ctx->magic != {magic}) return 0;",
            f"    if (index < 0 || index >= {len(layout.states)}) return 0;",
            "    return (char *)ctx + places[index];",
            "}",
            "",
        ]
        if layout.states
        else []
    )


def _seed(name: str, layout: _Layout, magic: str) -> list[str]:
    """The function that seeds the random numbers, if there are any."""
    if GENERATOR not in layout.states:
        return []
    return [
        f"void {name}_seed({name} *ctx, uint64_t seed)",
        "{",
        f"    if (!ctx || ctx->magic != {magic}) return;",
        f"    char *const state = (char *)ctx + {layout.states[GENERATOR]};",
        "    const int32_t fresh[2] = {1, 1};",
        "    uint64_t word = seed & 0xffffffffu;",
        f"    memset(state, 0, {STATE_BYTES});",
        "    memcpy(state, &seed, 8);",
        "    memcpy(state + 8, fresh, 8);",
        f"    for (uint64_t i = 0; i < {WORDS}; i++) {{",
        "        memcpy(state + 24 + 8 * i, &word, 8);",
        "        word = (1812433253u * (word ^ word >> 30) + i + 1) & 0xffffffffu;",
        "    }",
        "}",
        "",
    ]


def _life(name: str, layout: _Layout, magic: str, unit: Unit) -> list[str]:
    copies = [
        f"    memcpy((char *)ctx + {at}, ctx->weights + {layout.initial[s]}, {s.init.size * s.dtype.size});"
        for s, at in layout.states.items()
        if s.init.size
    ]
    return [
        f"size_t {name}_context_size(void) {{ return {layout.size}; }}",
        "",
        f"void {name}_reset({name} *ctx)",
        "{",
        f"    if (NEVE_MISPLACED(ctx, 64) || ctx->magic != {magic}) return;",
        *copies,
        "}",
        "",
        *_state(name, layout, magic),
        f"int {name}_init({name} *ctx, const void *weights, size_t size)",
        "{",
        "    if (NEVE_MISPLACED(ctx, 64)) return NEVE_BAD_POINTER;",
        f"    if (size != {unit.weights.size}) return NEVE_BAD_WEIGHTS;",
        *(_identified(unit.weights.identity) if unit.weights.size else ()),
        f"    ctx->magic = {magic};",
        "    ctx->weights = weights;",
        "    ctx->bar = (struct neve_barrier_state){0};",
        f"    {name}_reset(ctx);",
        "    return NEVE_OK;",
        "}",
        "",
        f"const char *{name}_strerror(int code)",
        "{",
        "    switch (code) {",
        '    case NEVE_OK: return "ok";',
        '    case NEVE_BAD_SIZE: return "a size is out of its range";',
        '    case NEVE_BAD_POINTER: return "a pointer is null or not aligned";',
        '    case NEVE_BAD_WEIGHTS: return "the weights are not those of this code";',
        '    case NEVE_NOT_READY: return "the context was not initialised";',
        '    default: return "the model raised an error";',
        "    }",
        "}",
    ]


def _identified(identity: int) -> list[str]:
    """The weights are distinguished from others by the hash that they begin with."""
    return [
        "    if (NEVE_MISPLACED(weights, 64)) return NEVE_BAD_POINTER;",
        "    uint64_t identity;",
        "    memcpy(&identity, weights, 8);",
        f"    if (identity != UINT64_C(0x{identity:016x})) return NEVE_BAD_WEIGHTS;",
    ]


def _dim(d: Dim) -> int | str:
    return d if isinstance(d, int) else plain(Index.of(d))


def _signature(
    name: str,
    written: Mapping[str, tuple[Method, MethodWriter, list[str], Arena]],
    layout: _Layout,
    ranges: Mapping[str, Range],
    unit: Unit,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    methods = {}
    for key, (method, writer, _, _) in written.items():
        graph = method.graph
        scalars = method.scalars or (None,) * len(graph.inputs)
        sizes = method.sizes or (None,) * len(graph.inputs)
        work = layout.workspaces.get(key)
        methods[key] = {
            "symbol": c_symbol(name, key),
            "inputs": [
                {"name": v.name, "dtype": v.dtype.value, "shape": [_dim(d) for d in v.shape], "scalar": s}
                | ({"symbol": str(given)} if given is not None else {})
                for v, s, given in zip(graph.inputs, scalars, sizes, strict=True)
            ],
            "outputs": [
                {"name": v.name, "dtype": v.dtype.value, "shape": [_dim(d) for d in v.shape]} for v in graph.outputs
            ],
            "symbols": [{"name": s, "min": ranges[s].min, "max": ranges[s].max} for s in used_symbols(method)],
            "guards": [],
            "workspace": plain(work) if work is not None else 0,
            "in_tree": dict(method.in_tree) or {"args": [{"leaf": k} for k in range(len(graph.inputs))], "kwargs": {}},
            "out_tree": dict(method.out_tree) or {"tuple": [{"leaf": k} for k in range(len(graph.outputs))]},
            "raises": writer.messages,
        }
    state = [
        {"name": s.name, "dtype": s.dtype.value, "shape": list(s.init.shape), "offset": at}
        for s, at in layout.states.items()
    ]
    return {
        "abi": 1,
        "name": name,
        "threads": layout.threads,
        "methods": methods,
        "state": state,
        "attributes": dict(attributes),
        "context_size": layout.size,
        "weights_size": unit.weights.size,
    }
