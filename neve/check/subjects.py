"""The methods of a compiled module beside the original's, and how to call both with the same flat inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch

from neve.capture.examples import Call, Examples
from neve.check import condition
from neve.check.domains import Domain, domains
from neve.check.verify import narrowest, original
from neve.ir.graph import Method, Program
from neve.ir.types import Range
from neve.runtime.loader import Module
from neve.runtime.signature import MethodSignature
from neve.runtime.sizes import Solver
from neve.runtime.trees import builder, flatten

Sizes = dict[sympy.Symbol, int]


@dataclass(frozen=True, eq=False)
class Subject:
    """A method to search: as it was captured, as it is called, the original, and what its inputs may be."""

    name: str
    method: Method
    signature: MethodSignature
    start: Callable[[Call], Callable[..., Any]]
    nudge: Callable[[Call, torch.Generator], Callable[..., Any]]
    domains: Sequence[Domain]
    example: Sizes
    ranges: Mapping[sympy.Symbol, Range]
    computed: str
    exact: Sequence[bool]

    def call(self, inputs: Sequence[Any]) -> Call:
        """The call with these flat inputs."""
        args = tuple(builder(tree)(inputs) for tree in self.signature.args)
        return Call(args, {k: builder(tree)(inputs) for k, tree in self.signature.kwargs.items()})


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
        symbols = {s: r for s, r in program.symbols.items() if str(s) in sizes}
        made.append(
            Subject(
                name,
                method,
                signature,
                _starter(model, own, stateful),
                _nudger(model, own, stateful),
                domains(method, flat),
                {s: sizes[str(s)] for s in symbols},
                symbols,
                narrowest(module.artifact.extra.get("computed", {}).get(name, ())),
                condition.unmoved(method.graph),
            )
        )
    return made


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


def _shallow(model: Any) -> Any:
    """A copy of a module on the same parameters; the module itself if it cannot be copied."""
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return model
    try:
        return copy.deepcopy(model, {id(p): p for p in model.parameters()})
    except Exception:  # what a model holds need not be copyable
        return model
