"""Control flow on data, state, and errors that the model raises.

The compiler turns these into C statements itself; they have no loop nest, so `lower` raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.graph import Graph, StateVar
from neve.ir.loops import Builder, Tensor
from neve.ir.types import DType, TensorType
from neve.ops.base import Op
from neve.ops.checks import check, same_shape


def graph_effect(*graphs: Graph) -> bool:
    """Whether a node of the graphs, or of graphs inside them, has an effect."""
    return any(n.op.effect for g in graphs for n in g.nodes)


class Control(Op):
    """Base of the ops that the compiler emits as statements."""

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Always raises: control flow and state are not loop nests."""
        raise NotImplementedError(f"{self.name} is emitted as C statements by the compiler, it has no loop nest")


def fits(types: tuple[TensorType, ...], wanted: tuple[TensorType, ...]) -> bool:
    return len(types) == len(wanted) and all(
        a.dtype is b.dtype and same_shape(a.shape, b.shape) for a, b in zip(types, wanted, strict=True)
    )


def inputs_of(g: Graph) -> tuple[TensorType, ...]:
    return tuple(v.type for v in g.inputs)


def outputs_of(g: Graph) -> tuple[TensorType, ...]:
    return tuple(v.type for v in g.outputs)


def _list(types: tuple[TensorType, ...]) -> str:
    return f"({', '.join(map(str, types))})"


@dataclass(frozen=True)
class If(Control):
    """then(*operands) if pred (bool, 0-d) else orelse(*operands). Both take all operands and give the same types."""

    then: Graph
    orelse: Graph
    name: ClassVar[str] = "if"

    @property
    def effect(self) -> bool:  # type: ignore[override]
        return graph_effect(self.then, self.orelse)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(
            len(types) >= 1 and types[0] == TensorType((), DType.bool), self, "a bool[] predicate and operands", types
        )
        for which, g in (("then", self.then), ("else", self.orelse)):
            check(
                fits(types[1:], inputs_of(g)), self, f"operands {_list(inputs_of(g))} for its {which} branch", types[1:]
            )
        a, b = outputs_of(self.then), outputs_of(self.orelse)
        check(fits(a, b), self, f"branches with the same outputs (then gives {_list(a)}, else {_list(b)})", types)
        return a

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return _run(self.then if inputs[0] else self.orelse, inputs[1:])


@dataclass(frozen=True)
class While(Control):
    """carried = body(*carried) while cond(*carried) (bool, 0-d) holds; outputs the last carried values."""

    cond: Graph
    body: Graph
    name: ClassVar[str] = "while"

    @property
    def effect(self) -> bool:  # type: ignore[override]
        return graph_effect(self.cond, self.body)

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(
            fits(types, inputs_of(self.cond)),
            self,
            f"carried values {_list(inputs_of(self.cond))} for its condition",
            types,
        )
        check(
            fits(types, inputs_of(self.body)), self, f"carried values {_list(inputs_of(self.body))} for its body", types
        )
        got = outputs_of(self.cond)
        check(
            fits(got, (TensorType((), DType.bool),)), self, f"a condition that gives bool[] (gives {_list(got)})", types
        )
        got = outputs_of(self.body)
        check(fits(got, types), self, f"a body that gives its inputs' types (gives {_list(got)})", types)
        return types

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        while _run(self.cond, inputs)[0]:
            inputs = _run(self.body, inputs)
        return tuple(inputs)


@dataclass(frozen=True)
class ReadState(Control):
    """The present content of a state variable. Has an effect, so that it stays in order with writes."""

    var: StateVar
    name: ClassVar[str] = "read_state"
    effect: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(not types, self, "no inputs", types)
        return (self.var.type,)


@dataclass(frozen=True)
class WriteState(Control):
    """Replaces the content of a state variable by the input, of the variable's type; no outputs."""

    var: StateVar
    name: ClassVar[str] = "write_state"
    effect: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(fits(types, (self.var.type,)), self, f"one input {self.var.type}", types)
        return ()


@dataclass(frozen=True)
class Raise(Control):
    """Ends the call with this message (`neve.errors.ModelError`): always, or with a 0-d bool input if that is True."""

    message: str
    name: ClassVar[str] = "raise"
    effect: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(types in ((), (TensorType((), DType.bool),)), self, "nothing or one bool[]", types)
        return ()


def _run(graph: Graph, inputs: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    from neve.ir.interpret import interpret

    return tuple(interpret(graph, inputs))
