"""The first step of a compilation that gives something else than the original: capture, a pass, or a kernel.

The interpreter's values stand between: of the graph as it was captured, after each pass, and node by node beside the
compiled code, in which every value is made an output. A branch or loop that differs is entered: the side that was
taken, the first iteration that differs, on the values that the interpreter has there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neve.build.target import Target
from neve.build.toolchain import Compiler, build
from neve.check.verify import relative_error, tolerance
from neve.emit.program import emit
from neve.errors import ArtifactError, InputError, ModelError
from neve.ir.graph import Graph, Method, Node, Origin, Program, StateVar, Value
from neve.ir.interpret import Watch, bind, bind_sizes, evaluate, interpret, learn
from neve.ir.types import DType
from neve.ir.walk import states, subgraphs
from neve.ops.control import If, While
from neve.ops.random import DEFAULT_SEED, GENERATOR
from neve.passes.pipeline import optimize
from neve.passes.rewrite import Log
from neve.runtime.loader import open_library
from neve.runtime.tensors import NUMPY

Arrays = Sequence[np.ndarray]
Report = Callable[[str], None]
RAISED = (ModelError, InputError, LookupError, ArithmeticError)
"""What the interpreter raises where the model does."""
ITERATIONS = 1000
"""Iterations of a loop that are looked at one by one."""


@dataclass(frozen=True)
class Step:
    """Where a difference begins. stage: "capture", "pass" or "kernel"; what: the pass or kernel; node: the first node
    that differs, as text; path: the branches and iterations that it is in.
    """

    stage: str
    what: str
    node: str = ""
    origin: Origin = Origin()
    error: float = 0.0
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" at {self.origin}" if str(self.origin) else ""
        inside = f", in {', '.join(self.path)}" if self.path else ""
        node = f": {self.node}" if self.node else ""
        off = "" if self.error in (0.0, float("inf")) else f", off by {self.error:.1e}"
        return f"{self.what}{node}{where}{inside}{off}"


@dataclass(frozen=True, eq=False)
class Failure:
    """Calls in a row from the initial state, the last of which goes wrong: the program as it was captured, how it was
    optimized, the flat inputs of each call (numpy, bfloat16 as float32), the graph's outputs as the original gives them
    in the last one, None where it raises, and the error that each may have.
    """

    program: Program
    method: str
    calls: Sequence[Arrays]
    want: Arrays | None
    limits: Sequence[float]
    options: Mapping[str, Any] = field(default_factory=dict)

    def error(self, got: Arrays | None, want: Arrays | None) -> float:
        """0 if all outputs are within their limits, else the largest error."""
        if got is None or want is None:
            return 0.0 if got is want else float("inf")
        errors = [relative_error(x, y) for x, y in zip(got, want, strict=True)]
        return max((e for e, limit in zip(errors, self.limits, strict=True) if not e <= limit), default=0.0)

    def run(self, program: Program, watch: Watch | None = None) -> Arrays | None:
        """What the interpreter gives for a form of the program in the last call, seen by watch; None if it raises."""
        method, state = program.methods[self.method], dict[StateVar, np.ndarray]()
        found: Arrays | None = None
        for n, inputs in enumerate(self.calls, 1):
            state.pop(GENERATOR, None)  # it is seeded before each call of the original as well
            last = watch if n == len(self.calls) else None
            try:
                found = interpret(method.graph, inputs, state, method.given_sizes(inputs), last)
            except RAISED:
                found = None
        return found


def locate(failure: Failure, target: Target, compiler: Compiler, report: Report = lambda _: None) -> Step | None:
    """Where the difference begins; None if every form of the program gives what the original gave."""
    report("interpreting the graph as it was captured")
    captured = failure.run(failure.program)
    if error := failure.error(captured, failure.want):
        return Step("capture", "capture", "the graph differs from the model before any pass", error=error)
    report("interpreting the graph after each pass")
    found = _first_pass(failure, captured)
    if found is not None:
        return found
    program, _ = optimize(failure.program, **failure.options)
    method, state = program.methods[failure.method], dict[StateVar, np.ndarray]()
    walk = _Walk(program, target, compiler, report)
    for n, inputs in enumerate(failure.calls, 1):
        state.pop(GENERATOR, None)
        nth = f", call {n}" if len(failure.calls) > 1 else ""
        report(f"comparing the compiled code with the interpreter, node by node{nth}")
        sizes = bind_sizes(method.graph.inputs, [a.shape for a in inputs], method.given_sizes(inputs))
        found = walk.graph(method, inputs, state, sizes, ())
        if found is not None or n == len(failure.calls):
            return found
        interpret(method.graph, inputs, state, sizes)
    return None


def _first_pass(failure: Failure, want: Arrays | None) -> Step | None:
    """The first pass after which the interpreter gives something else, with what it rewrote."""
    forms: list[tuple[str, Program, int]] = []
    log = Log()

    def watch(name: str, program: Program, entries: Log) -> None:
        forms.append((name, program, len(entries.rewrites)))
        log.entries = entries.entries

    final, _ = optimize(failure.program, **failure.options, watch=watch)
    if not forms or not failure.error(failure.run(final), want):
        return None
    good, bad = -1, len(forms) - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if failure.error(failure.run(forms[middle][1]), want) else (middle, bad)
    name, program, count = forms[bad]
    before = forms[bad - 1][1] if bad else failure.program
    node, error = _first_value(failure, before, program)
    made = [e for e in log.rewrites[forms[bad - 1][2] if bad else 0 : count] if e.pass_name == name]
    origin = node.origin if node is not None else made[0].origin if made else Origin()
    what = f"the pass {name}" + (f" ({made[0].text})" if made else "")
    return Step("pass", what, text_of(node) if node is not None else "", origin, error)


def _first_value(failure: Failure, before: Program, after: Program) -> tuple[Node | None, float]:
    """The first node that has the name of one before a pass, and another value."""
    known: dict[str, np.ndarray] = {}
    found: list[tuple[Node, float]] = []

    def learn(node: Node, _: Any, outs: Sequence[np.ndarray]) -> None:
        known.update((v.name, a) for v, a in zip(node.outputs, outs, strict=True))

    def look(node: Node, _: Any, outs: Sequence[np.ndarray]) -> None:
        for v, a in zip(node.outputs, outs, strict=True):
            old = known.get(v.name)
            if not found and old is not None and old.shape == a.shape and not accepted(a, old, v.dtype):
                found.append((node, relative_error(a, old)))

    for program, watch in ((before, learn), (after, look)):
        failure.run(program, watch)
    return found[0] if found else (None, 0.0)


class _Walk:
    """Compiled graphs beside the interpreter, from the whole method into branches and loops."""

    def __init__(self, program: Program, target: Target, compiler: Compiler, report: Report) -> None:
        self.program, self.target, self.compiler, self.report = program, target, compiler, report

    def graph(
        self, method: Method, inputs: Arrays, state: Mapping[StateVar, np.ndarray], sizes: Any, path: tuple[str, ...]
    ) -> Step | None:
        """The first node of a graph that differs."""
        values = [v for n in method.graph.nodes for v in n.outputs if n.op.name not in ("constant", "full")]
        made = self.compiled(method, values, inputs, state)
        if made is None:
            return Step("kernel", "the compiled code, which raises where the interpreter does not", path=path)
        got, _ = made
        have: dict[Value, np.ndarray] = {**dict(zip(method.graph.inputs, inputs, strict=True)), **got}
        found: list[tuple[Node, float, list[np.ndarray], dict[StateVar, np.ndarray]]] = []
        held = dict(state)

        known = dict(sizes)

        def watch(node: Node, ins: Sequence[np.ndarray], outs: Sequence[np.ndarray]) -> None:
            learn(node, ins, known)
            if found or not node.outputs or any(v not in have for v in node.outputs):
                return
            wrong = [
                relative_error(have[v], a)
                for v, a in zip(node.outputs, outs, strict=True)
                if not accepted(have[v], a, v.dtype)
            ]
            if wrong and not _explained(node, have, known):
                found.append((node, max(wrong), list(ins), dict(held)))

        try:
            interpret(method.graph, inputs, held, sizes, watch)
        except RAISED as raised:
            what = f"the compiled code, which answers where the interpreter raises: {raised}"
            return Step("kernel", what, path=path)
        if not found:
            return self.lost(method, inputs, state, sizes, path)
        node, error, ins, before = found[0]
        inner = self.inside(node, ins, before, sizes, path)
        return inner or Step("kernel", f"the kernel of {node.op.name}", text_of(node), node.origin, error, path)

    def lost(
        self, method: Method, inputs: Arrays, state: Mapping[StateVar, np.ndarray], sizes: Any, path: tuple[str, ...]
    ) -> Step | None:
        """With every value an output the code may be right where it is wrong without: the plan is to blame. One node's
        values more at a time then, by bisection.
        """
        truth, after = dict[Value, np.ndarray](), dict(state)

        def learn(node: Node, _: Any, outs: Sequence[np.ndarray]) -> None:
            truth.update(zip(node.outputs, outs, strict=True))

        truth.update(zip(method.graph.inputs, inputs, strict=True))
        interpret(method.graph, inputs, after, sizes, learn)

        def wrong(values: Sequence[Value]) -> str:
            """What is wrong beside these values being outputs; "" if nothing is."""
            made = self.compiled(method, values, inputs, state)
            if made is None:
                return "the call, which raises"
            got, left = made
            checked = values or method.graph.outputs
            bad = [f"%{v.name}" for v in checked if not accepted(got[v], truth[v], v.dtype)]
            bad += [f"the state {s.name}" for s, a in left.items() if not accepted(a, after.get(s, s.init), s.dtype)]
            return ", ".join(bad)

        symptom = wrong(())
        if not symptom:
            return None
        nodes = [n for n in method.graph.nodes if n.outputs and n.op.name not in ("constant", "full")]
        good, bad = -1, len(nodes) - 1
        while bad - good > 1:
            middle = (good + bad) // 2
            self.report(f"the plan, between nodes {good + 1} and {bad} of {len(nodes)}")
            good, bad = (good, middle) if wrong(nodes[middle].outputs) else (middle, bad)
        node = nodes[bad]
        what = f"the plan ({symptom} is wrong, but not when all values are kept)"
        return Step("kernel", what, text_of(node), node.origin, path=path)

    def compiled(
        self, method: Method, values: Sequence[Value], inputs: Arrays, state: Mapping[StateVar, np.ndarray]
    ) -> tuple[dict[Value, np.ndarray], dict[StateVar, np.ndarray]] | None:
        """What compiled code gives for a graph with these values among its outputs, and the state that it leaves; None
        if it raises.
        """
        outputs = (*method.graph.outputs, *values)
        whole = replace(method, graph=Graph(method.graph.inputs, method.graph.nodes, outputs), in_tree={}, out_tree={})
        program = Program({"probe": whole}, self.program.symbols, self.program.state)
        source = emit(program, self.target, "probe").source
        library = build(source, self.target, compiler=self.compiler)
        module = open_library(library.path, source.signature, source.weights, 1)
        if GENERATOR.name in module.state:
            module.manual_seed(DEFAULT_SEED)  # so that it draws from its state, not from torch's
        for s, array in state.items():
            if s.name in module.state:
                module.state[s.name] = memory_form(array, s.dtype)
        arrays = [memory_form(a, v.dtype) for a, v in zip(inputs, method.graph.inputs, strict=True)]
        scalars = method.scalars or (None,) * len(arrays)
        try:
            got = module.probe(*(x.item() if kind else x for x, kind in zip(arrays, scalars, strict=True)))
        except ModelError:
            return None
        left = {s: numeric_form(module.state[s.name], s.dtype) for s in states(program)}
        return {v: numeric_form(np.asarray(a), v.dtype) for v, a in zip(outputs, got, strict=True)}, left

    def inside(
        self, node: Node, ins: Arrays, state: dict[StateVar, np.ndarray], sizes: Any, path: tuple[str, ...]
    ) -> Step | None:
        """The first difference inside a branch or loop; None if the node is none, or its graphs alone are right."""
        op = node.op
        try:
            return self.entered(op, node, ins, state, sizes, path)
        except ArtifactError:  # a size that the graph's own inputs do not determine
            return None

    def entered(
        self, op: Any, node: Node, ins: Arrays, state: dict[StateVar, np.ndarray], sizes: Any, path: tuple[str, ...]
    ) -> Step | None:
        if isinstance(op, If):
            taken, side = (op.then, "then") if ins[0].item() else (op.orelse, "else")
            return self.graph(Method(taken), ins[1:], state, sizes, (*path, f"the {side} of %{node.outputs[0].name}"))
        if isinstance(op, While):
            return self.loop(op, node, ins, state, sizes, path)
        return None

    def loop(
        self, op: While, node: Node, ins: Arrays, state: dict[StateVar, np.ndarray], sizes: Any, path: tuple[str, ...]
    ) -> Step | None:
        carried: Arrays = list(ins)
        for turn in range(ITERATIONS):
            if not interpret(op.cond, carried, dict(state), sizes)[0].item():
                return None
            place = (*path, f"iteration {turn} of %{node.outputs[0].name}")
            found = self.graph(Method(op.body), carried, state, sizes, place)
            if found is not None:
                return found
            carried = list(interpret(op.body, carried, state, sizes))
        return None


def _explained(node: Node, have: Mapping[Value, np.ndarray], sizes: Any) -> bool:
    """Whether a node gives what compiled code gives on the inputs that it has there."""
    if any(True for _ in subgraphs(node.op)) or node.op.effect or any(v not in have for v in node.inputs):
        return False
    try:
        outs = evaluate(bind(node.op, sizes), [have[v] for v in node.inputs], [v.dtype for v in node.outputs])
    except (ArithmeticError, LookupError, ValueError, AssertionError):
        return False
    return all(accepted(have[v], a, v.dtype) for v, a in zip(node.outputs, outs, strict=True))


def text_of(node: Node) -> str:
    """A node on one line."""
    outs = ", ".join(f"%{v.name}: {v.type}" for v in node.outputs)
    return f"{outs} = {node.op.name}({', '.join(f'%{v.name}' for v in node.inputs)})"


def accepted(got: np.ndarray, want: np.ndarray, dtype: DType) -> bool:
    """Whether a value is within its type's tolerance."""
    return relative_error(got, want) <= tolerance(dtype.value)


def memory_form(array: np.ndarray, dtype: DType) -> np.ndarray:
    """An array of the interpreter as a call takes it: bfloat16 as its bits."""
    if dtype is DType.bfloat16:
        return (np.asarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(array, NUMPY[dtype.value]).reshape(np.shape(array))


def numeric_form(array: np.ndarray, dtype: DType) -> np.ndarray:
    """An array of a call as the interpreter has it."""
    if dtype is DType.bfloat16 and array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
