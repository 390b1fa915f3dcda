"""The optimizer: one list of passes, read top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from neve.ir.graph import Graph, Node, Program
from neve.ir.verify import VerifyError, verify_program
from neve.passes import (
    cancel_transposes,
    compose_linears,
    compose_views,
    concat_linears,
    convolve_before_resize,
    divide_by_constants,
    drop_expands,
    expand_batch_norm,
    fold_affine,
    fold_affine_before,
    fold_attention_scale,
    fold_batch_norm,
    fold_constants,
    fold_pad,
    fold_ranges,
    fuse_add_relu,
    fuse_clamps,
    fuse_prepacked_clamps,
    hoist_packed_params,
    index_to_view,
    insert_prepack,
    linear_on_views,
    matmul_to_linear,
    merge_common_subexpressions,
    merge_equal_constants,
    narrow_to_slices,
    recognize_activations,
    recognize_attention,
    recognize_norms,
    remove_checks,
    remove_dead_code,
    remove_dropout,
    remove_identities,
    sink_constants,
)
from neve.passes.rewrite import Exactness, Log, Pass, ProgramPass

MAX_ROUNDS = 10


@dataclass(frozen=True)
class Repeat:
    """Passes run in order, again and again until a round changes nothing, at most MAX_ROUNDS times."""

    passes: tuple[Pass | ProgramPass, ...]


PIPELINE: tuple[Pass | ProgramPass | Repeat, ...] = (
    remove_dropout.PASS,
    remove_dead_code.PASS,
    Repeat(
        (
            fold_constants.PASS,
            sink_constants.PASS,
            fold_ranges.PASS,
            remove_identities.PASS,
            merge_common_subexpressions.PASS,
            remove_checks.PASS,
            index_to_view.PASS,
            linear_on_views.PASS,
            compose_views.PASS,
            narrow_to_slices.PASS,
            drop_expands.PASS,
            cancel_transposes.PASS,
            divide_by_constants.EXACT,
            matmul_to_linear.PASS,
            fuse_clamps.PASS,
            fold_pad.PASS,
            recognize_norms.PASS,
            recognize_attention.PASS,
            recognize_activations.PASS,
            fold_attention_scale.PASS,
            fold_batch_norm.PASS,
            fold_affine.PASS,
            fold_affine_before.PASS,
        )
    ),
    Repeat(
        (
            expand_batch_norm.PASS,
            fold_affine.PASS,
            fold_affine_before.PASS,
            divide_by_constants.PASS,
            convolve_before_resize.PASS,
            compose_linears.PASS,
            concat_linears.PASS,
            fold_constants.PASS,
            sink_constants.PASS,
            remove_identities.PASS,
            merge_common_subexpressions.PASS,
            compose_views.PASS,
        )
    ),
    merge_equal_constants.PASS,
)


PREPACK: tuple[Pass | ProgramPass | Repeat, ...] = (
    insert_prepack.PASS,
    Repeat(
        (
            merge_common_subexpressions.PASS,
            fold_constants.PASS,
            fuse_prepacked_clamps.PASS,
        )
    ),
    fuse_add_relu.PASS,
    merge_equal_constants.PASS,
    hoist_packed_params.PASS,
)
"""Run after the pipeline where packed parameters and fused clamps should be visible in the graph."""


def passes() -> Iterator[Pass | ProgramPass]:
    """Every pass of the pipeline, in order."""
    for entry in PIPELINE + PREPACK:
        yield from entry.passes if isinstance(entry, Repeat) else (entry,)


def optimize(
    program: Program,
    optimize_numerics: bool = True,
    disable: Collection[str] = (),
    *,
    prepack: bool = False,
    watch: Callable[[str, Program, Log], None] | None = None,
) -> tuple[Program, Log]:
    """program with the pipeline applied to every method, verified after each pass, and the log of what was done and
    declined.

    optimize_numerics=False runs only passes that are EXACT; disable names passes to leave out; prepack adds PREPACK.
    watch is called after each pass that changed something with its name, the program and the log so far.
    Raises ValueError for a name that is not in the pipeline, VerifyError (a defect of the pass that it names) for a
    malformed result.
    """
    unknown = set(disable) - {p.name for p in passes()}
    if unknown:
        raise ValueError(
            f"no such pass: {', '.join(sorted(unknown))} (there are {', '.join(p.name for p in passes())})"
        )
    allowed = (Exactness.EXACT, Exactness.ROUNDING) if optimize_numerics else (Exactness.EXACT,)
    run = _Run(Log())
    verify_program(program, run.verified)
    for entry in PIPELINE + (PREPACK if prepack else ()):
        for _ in range(MAX_ROUNDS if isinstance(entry, Repeat) else 1):
            before = program
            for p in entry.passes if isinstance(entry, Repeat) else (entry,):
                if p.exactness in allowed and p.name not in disable:
                    new = run.apply(p, program)
                    if watch is not None and new is not program:
                        watch(p.name, new, run.log)
                    program = new
            if program is before:
                break
    return program, run.log


class _Run:
    """Applies passes, remembering the graphs that each leaves alone and the nodes that are verified."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.verified: set[Node] = set()
        self.settled: dict[str, set[Graph]] = {}

    def apply(self, p: Pass | ProgramPass, program: Program) -> Program:
        self.log.current = p.name
        new = (
            p.run(program, self.log) if isinstance(p, ProgramPass) else program.map(lambda graph: self.graph(p, graph))
        )
        if new is not program:
            try:
                verify_program(new, self.verified)
            except VerifyError as e:
                raise VerifyError(f"after the pass {p.name}: {e}") from e
        return new

    def graph(self, p: Pass, graph: Graph) -> Graph:
        settled = self.settled.setdefault(p.name, set())
        if graph in settled:
            return graph
        new = p.run(graph, self.log)
        if new is graph:
            settled.add(graph)
            return graph
        return remove_dead_code.run(new, Log())
