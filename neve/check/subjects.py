"""The methods of a compiled module beside the original's, and how to call both with the same flat inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neve.capture.examples import Call, Examples
from neve.check import condition
from neve.check.domains import Domain, domains
from neve.check.verify import flat_arrays, narrowest, original
from neve.errors import InputError, ModelError
from neve.ir.graph import Method, Node, Program, StateVar
from neve.ir.index import Index
from neve.ir.interpret import Watch, bind, bind_sizes, interpret, learn
from neve.ir.types import DType, Range, real_form
from neve.ops.base import Op
from neve.runtime.loader import Module
from neve.runtime.signature import MethodSignature
from neve.runtime.sizes import Solver
from neve.runtime.trees import arguments, flatten
from neve.trees import parts


def numeric(x: Any, dtype: DType) -> np.ndarray:
    """A tensor or number as the interpreter takes it."""
    array = next(flat_arrays(x)) if isinstance(x, torch.Tensor) else real_form(np.asarray(x))
    return array.astype(dtype.numpy, copy=False)


Sizes = dict[Index, int]


@dataclass(frozen=True, eq=False)
class Subject:
    """A method to search: as it was captured, as it is called, the original, and what its inputs may be.

    order: for each tensor and number of a result the graph's output that it is; exact: whether no rounding excuses a
    difference of it (see `condition.unmoved`).
    """

    name: str
    method: Method
    signature: MethodSignature
    start: Callable[[Call], Callable[..., Any]]
    nudge: Callable[[Call, torch.Generator], Callable[..., Any]]
    double: Callable[[Call], Callable[..., Any]]
    domains: Sequence[Domain]
    example: Sizes
    ranges: Mapping[Index, Range]
    computed: str
    exact: Sequence[bool]
    order: Sequence[int | None]

    def arrays(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Flat inputs as the interpreter takes them."""
        return [numeric(x, v.dtype) for x, v in zip(inputs, self.method.graph.inputs, strict=True)]

    def interpreted(
        self, calls: Sequence[Sequence[Any]], watch: Callable[[Sizes], Watch] | None = None
    ) -> list[np.ndarray | None] | None:
        """What the captured graph gives in the last of these calls, by tensors of the result (None for other leaves);
        None if a call raises. watch: makes one of each call's sizes.
        """
        graph, state = self.method.graph, dict[StateVar, np.ndarray]()
        outs: Sequence[np.ndarray] = ()
        try:
            for flat in calls:
                inputs = self.arrays(flat)
                given = self.method.given_sizes(inputs)
                outs = interpret(graph, inputs, state, given, watch(self.sizes(inputs)) if watch else None)
        except (ModelError, InputError, LookupError, ArithmeticError):
            return None
        return [None if k is None else outs[k] for k in self.order]

    def sizes(self, inputs: Sequence[np.ndarray]) -> Sizes:
        """The sizes of a call with these flat inputs."""
        return bind_sizes(self.method.graph.inputs, [a.shape for a in inputs], self.method.given_sizes(inputs))

    def sides(self) -> list[Sizes]:
        """Sizes of each further side of the model's branches on sizes."""
        found = [self.sizes(inputs) for inputs in self.method.examples[1:]]
        return [{x: n for x, n in sizes.items() if x in self.ranges} for sizes in found]

    def chosen(self, calls: Sequence[Sequence[Any]]) -> list[np.ndarray | None] | None:
        """What `interpreted` does, if torch leaves open what some step gives, such as the order of ties; else None."""
        found: list[bool] = []

        def watch(sizes: Sizes) -> Watch:
            known = dict(sizes)

            def look(node: Node, ins: Sequence[np.ndarray], _: Any) -> None:
                learn(node, ins, known)
                found.extend(bind(node.op, known).open(*ins) if type(node.op).open is not Op.open else ())

            return look

        outs = self.interpreted(calls, watch)
        return outs if any(found) else None

    def call(self, inputs: Sequence[Any]) -> Call:
        """The call with these flat inputs."""
        return Call(*arguments(self.signature, inputs))


def subjects(
    module: Module, model: Any, examples: Mapping[str, Examples], program: Program, stateful: bool
) -> list[Subject]:
    """The methods of a compiled module that have examples; program: as it was captured."""
    made = []
    for name, method in program.methods.items():
        if name not in examples:
            continue
        signature, first = module.methods[name].signature, examples[name].calls[0]
        flat = flatten(signature, first.args, dict(first.kwargs))
        own = examples[name].method or name
        solved = Solver(signature).solve([tuple(getattr(x, "shape", ())) for x in flat], flat).symbols
        sizes = dict(zip((s.name for s in signature.symbols), solved, strict=True))
        exact, order = condition.unmoved(method.graph), list(_by_result(signature.out_tree))
        symbols = {s: r for s, r in program.symbols.items() if str(s) in sizes}
        made.append(
            Subject(
                name,
                method,
                signature,
                _starter(model, own, stateful),
                _nudger(model, own, stateful),
                _doubler(model, own, stateful),
                domains(method, flat),
                {s: sizes[str(s)] for s in symbols},
                symbols,
                narrowest(module.artifact.extra.get("computed", {}).get(name, ())),
                [k is not None and exact[k] for k in order],
                order,
            )
        )
    return made


def _by_result(tree: Mapping[str, Any]) -> Iterator[int | None]:
    """For each tensor and number of a result, in order, the graph's output that it is, if it is one as a whole."""
    if "leaf" in tree:
        yield tree["leaf"]
    elif "narrow" in tree or "entries" in tree or isinstance(tree.get("const"), (bool, int, float)):
        yield None
    else:
        for part in parts(tree):
            yield from _by_result(part)


def _starter(model: Any, name: str, stateful: bool) -> Callable[[Call], Callable[..., Any]]:
    """The original in its initial state, for each trial; one that has no state is made once, as a copy: calls with
    other sizes may leave caches in it.
    """
    if stateful:
        return lambda call: original(model, name, call, True)
    held: list[Callable[..., Any]] = []

    def start(call: Call) -> Callable[..., Any]:
        if not held:
            held.append(original(_shallow(model), name, call, False))
        return held[0]

    return start


def _nudger(model: Any, name: str, stateful: bool) -> Callable[[Call, torch.Generator], Callable[..., Any]]:
    """The original with its weights off by a rounding, in its initial state."""
    return lambda call, g: original(condition.nudged_model(model, g), name, call, stateful)


def _doubler(model: Any, name: str, stateful: bool) -> Callable[[Call], Callable[..., Any]]:
    """The original in double precision, in its initial state."""
    return lambda call: original(condition.double_model(model), name, call, stateful)


def _shallow(model: Any) -> Any:
    """A copy of a module on the same parameters; the module itself if it cannot be copied."""
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return model
    try:
        return copy.deepcopy(model, {id(p): p for p in model.parameters()})
    except Exception:  # what a model holds need not be copyable
        return model
