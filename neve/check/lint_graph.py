"""Findings that need only the graph, before and after optimization: see `neve.check.lint`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neve.check.findings import Finding
from neve.ir.graph import Graph, Node, Origin, Program, Value
from neve.ir.index import Index
from neve.ir.types import DType
from neve.ir.walk import graphs, touches_state
from neve.ops.pointwise import Pointwise

if TYPE_CHECKING:
    from neve.artifact import Artifact
    from neve.plan.lowering import Lowered

MANY_FLOPS = 1_000_000
"""From so many operations on it matters whether a kernel computes a layer."""
Miss = tuple[str, str, Origin]
"""A pass, why it declined, and where."""

FUSIONS = frozenset(
    ("fold_batch_norm", "fold_affine", "fold_affine_before", "fold_pad", "recognize_attention", "recognize_norms")
)
_WEIGHTED = frozenset(("convolution", "conv_transpose", "linear"))
_CONST = re.compile(r"^(const|state) [@$](?:\"((?:[^\"\\]|\\.)*)\"|([\w.]+)): (\w+)\[([^\]]*)\]", re.MULTILINE)
_DECLINED = re.compile(r"(?P<pass>\w+): declined: (?P<text>.*?)(?:  \((?P<origin>.*)\))?$")


def findings(program: Program, optimized: Program, misses: Sequence[Miss], huge: int) -> Iterator[Finding]:
    """All that the graphs tell; program is before optimization, or the optimized one if that is all there is."""
    yield from unbounded(program)
    from neve.plan.lowering import Lowering

    for name, method in optimized.methods.items():
        lowered = Lowering().method(method.graph)
        yield from constant_outputs(name, program.methods[name].graph, method.graph)
        yield from float64_leaks(name, method.graph)
        yield from huge_intermediates(name, lowered, optimized, huge)
        yield from plain_loops(name, method.graph, lowered, optimized)
    yield from blocked_fusions(program, optimized, misses)


def unbounded(program: Program) -> Iterator[Finding]:
    """Size symbols of inputs that have no maximum."""
    seen = set()
    for name, method in program.methods.items():
        for v in method.graph.inputs:
            for axis, d in enumerate(v.shape):
                for s in sorted(Index.of(d).symbols, key=str):
                    if s in seen or program.symbols[s].max is not None:
                        continue
                    seen.add(s)
                    yield Finding(
                        "unbounded-dim",
                        f"size {s}, axis {axis} of the input {v.name}, has no maximum",
                        f'give one, as in torch.export.Dim("{s}", max=1024) or --dynamic {v.name}:{axis}={s}:1..1024: '
                        "then memory is fixed in advance",
                        method=name,
                    )


def constant_outputs(name: str, before: Graph, graph: Graph) -> Iterator[Finding]:
    """Outputs on which no input and no state has an influence."""
    varies: set[Value] = set(graph.inputs)
    for node in graph.nodes:
        if any(v in varies for v in node.inputs) or touches_state(node.op):
            varies.update(node.outputs)
    makers, first = graph.producers(), before.producers()
    for k, (v, old) in enumerate(zip(graph.outputs, before.outputs, strict=True)):
        if v in varies or not graph.inputs:
            continue
        maker = first.get(old) or makers.get(v)
        if maker is not None and maker.op.name == "size_of":
            continue
        yield _at(
            maker, "constant-output", f"output {k} of {name} is the same for every input",
            "return it from the model no more, and let the program that calls it keep the value", name,
        )  # fmt: skip


def float64_leaks(name: str, graph: Graph) -> Iterator[Finding]:
    """Where double precision begins in a graph whose inputs are not double."""
    if any(v.dtype is DType.float64 for v in graph.inputs):
        return
    for inner in graphs(graph):
        for node in inner.nodes:
            doubles = [v for v in node.outputs if v.dtype is DType.float64 and v.type.numel != 1]
            if not doubles or any(v.dtype is DType.float64 and v.type.numel != 1 for v in node.inputs):
                continue
            tensor = getattr(node.op, "tensor", None)
            place = node
            if tensor is not None:  # a weight has no line: that of its first use is the user's
                place = next((n for n in inner.nodes if node.outputs[0] in n.inputs), node)
            what = f"the constant {tensor.name}" if tensor is not None else f"the result of {node.op.name}"
            yield _at(
                place, "float64-leak", f"{what} is float64, and so is what is computed with it",
                "convert it to the inputs' type (.float(), dtype=torch.float32): it takes twice the memory and time",
                name,
            )  # fmt: skip


def huge_intermediates(name: str, lowered: Lowered, program: Program, limit: int) -> Iterator[Finding]:
    """Tensors that the plan gives memory to, of more than limit bytes at the largest sizes that are allowed."""
    from neve.build.target import native
    from neve.plan.schedule import schedule

    target = native()
    made = {t: stage for stage in lowered.block.stages for t in stage.outputs}
    plan = schedule(lowered, target)
    sizes = _largest(program)
    for t, buffer in plan.buffers.items():
        if buffer.place != "arena" or buffer.base is not None:
            continue
        shape = t.type.at(sizes)
        count = int(np.prod(shape, dtype=object)) * t.dtype.size
        if count < limit:
            continue
        stage = made.get(t)
        origin = stage.origin if stage is not None else Origin()
        label = f" of {stage.label}" if stage is not None and stage.label else ""
        yield Finding(
            "huge-intermediate",
            f"the result{label}, {t.dtype} {list(shape)}, takes {count / 2**20:.0f} MiB",
            "compute it in parts, reduce before expanding, or use an operator that never makes it "
            "(scaled_dot_product_attention for attention scores)",
            origin.module, origin.source, name,
        )  # fmt: skip


def plain_loops(name: str, graph: Graph, lowered: Lowered, program: Program) -> Iterator[Finding]:
    """Ops that kernels compute, but not on these operands, from a million operations on at the largest sizes."""
    from neve.plan.select import flops

    sizes = {str(s): n for s, n in _largest(program).items()}
    for g in graphs(graph):
        for node in g.nodes:
            why = lowered.refusals.get((node.origin, node.op.name))
            op = getattr(node.op, "plain", node.op)
            work = int(flops(op, node.inputs, node.outputs).value(sizes)) if why else 0
            if work < MANY_FLOPS:
                continue
            yield _at(
                node, "plain-loops", f"{op.name}, {work / 1e6:.0f} MFLOP, runs as plain loops: {why}",
                "kernels take float32, float16 and bfloat16, and weights that are parameters or buffers which no "
                "method writes (.float(); compute the weights in __init__)",
                name,
            )  # fmt: skip


def _largest(program: Program) -> dict[Any, int]:
    """The largest sizes that are allowed, the least of those that have no maximum."""
    return {s: max(r.min, 1) if r.max is None else r.max for s, r in program.symbols.items()}


def blocked_fusions(program: Program, optimized: Program, misses: Sequence[Miss]) -> Iterator[Finding]:
    """Norms behind an activation, and rewrites that were declined, where the work is still there afterwards."""
    left = {n.origin for m in optimized.methods.values() for g in graphs(m.graph) for n in g.nodes}
    reported: set[Origin] = set()
    for name, method in program.methods.items():
        for g in graphs(method.graph):
            for norm, activation in _norms_behind_activations(g):
                if norm.origin in left and norm.origin not in reported:
                    reported.add(norm.origin)
                    yield _at(
                        norm, "blocked-fusion",
                        f"{activation.op.name} between the layer and its batch_norm keeps the norm out of the weights",
                        "put the norm before the activation (layer, norm, activation) and train it so", name,
                    )  # fmt: skip
    for pass_name, text, origin in misses:
        if pass_name in FUSIONS and origin in left and str(origin) and origin not in reported:
            reported.add(origin)
            yield Finding(
                "blocked-fusion", f"{pass_name} declined, as {text}", _mend(text), origin.module, origin.source
            )


def _norms_behind_activations(g: Graph) -> Iterator[tuple[Node, Node]]:
    """(batch_norm, the activation before it) where a convolution or linear layer precedes both."""
    makers = g.producers()
    for node in g.nodes:
        if node.op.name != "batch_norm":
            continue
        first = inner = makers.get(node.inputs[0])
        while inner is not None and _is_activation(inner):
            inner = makers.get(inner.inputs[0])
        if first is not None and inner is not first and inner is not None and inner.op.name in _WEIGHTED:
            yield node, first


def _is_activation(node: Node) -> bool:
    return bool(node.inputs) and (isinstance(node.op, Pointwise) or type(node.op).__module__.endswith(".activation"))


def _mend(text: str) -> str:
    if "shared" in text:
        return "let only the layer that follows use that result, or compute what else needs it after that layer"
    if "not constant" in text:
        return "keep the parameters in the model as weights, not as inputs or results"
    if "padd" in text:
        return "pad with zeros, in the convolution itself"
    return "write the layer as torch.nn has it, so that it is recognized"


def _at(node: Node | None, code: str, what: str, fix: str, method: str) -> Finding:
    origin = node.origin if node is not None else Origin()
    return Finding(code, what, fix, origin.module, origin.source, method)


# A compiled model.


def program_of(artifact: Artifact) -> Program:
    """The artifact's graph; its constants have their shapes, and zeros for content that is not in the text."""
    from neve.ir.parse import parse_program

    arrays: dict[str, dict[str, Any]] = {"const": {}, "state": {}}
    head = artifact.graph.split("\nmethod ", 1)[0]
    for kind, quoted, plain, dtype, dims in _CONST.findall(head):
        shape = tuple(int(d) for d in dims.split(",") if d.strip())
        arrays[kind][quoted or plain] = np.broadcast_to(np.zeros((), DType(dtype).numpy), shape)
    return parse_program(artifact.graph, arrays["const"], arrays["state"])


def misses_of(artifact: Artifact) -> list[Miss]:
    """What passes declined, as the artifact's log tells it."""
    found = []
    for entry in map(str, artifact.log):
        declined = _DECLINED.fullmatch(entry)
        if declined is not None:
            module, _, source = (declined["origin"] or "").rpartition("  ")
            found.append((declined["pass"], declined["text"], Origin(module, source)))
    return found
