"""Lowering: a method's graph, nested graphs included, becomes stages in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from neve.ir.graph import ConstTensor, Graph, Node, Origin, StateVar, Value
from neve.ir.index import Index, Var
from neve.ir.loops import Expr, Load, Tensor, cast
from neve.ir.types import Dim, DType, TensorType, dims
from neve.ir.walk import graphs, measured
from neve.ops.base import Op
from neve.ops.checks import wide
from neve.ops.control import If, Raise, ReadState, While, WriteState
from neve.ops.lengths import Measure
from neve.ops.pad import Cat
from neve.ops.scatter import IndexPut
from neve.ops.source import Constant
from neve.plan.in_place import in_place
from neve.plan.select import packs, refusal
from neve.plan.stages import (
    Block,
    Branch,
    Compute,
    Concat,
    Extern,
    Fail,
    Loop,
    Move,
    Put,
    Reduce,
    Scan,
    SetSize,
    Stage,
    Template,
    settled,
)
from neve.plan.widened import Widened


class Recorder:
    """The Builder that records stages.

    fixed are constants and views of them: the weights that kernels can pack. refusals say of which ops, by origin and
    label, no kernel took the operands, and why.
    """

    def __init__(self, widened: Widened) -> None:
        self.widened = widened
        self.stages: list[Stage] = []
        self.origin = Origin()
        self.label = ""
        self.fixed: set[Tensor] = set()
        self.refusals: dict[tuple[Origin, str], str] = {}
        self._count = 0

    def _var(self, hint: str, extent: Dim) -> Var:
        self._count += 1
        return Var(f"{hint}{self._count}", Index.of(extent))

    def _vars(self, hint: str, shape: Sequence[Dim]) -> tuple[Var, ...]:
        return tuple(self._var(hint, d) for d in shape)

    def _add(self, stage: Stage) -> None:
        stage.origin, stage.label = self.origin, self.label
        self.stages.append(stage)

    def tensor(self, type: TensorType) -> Tensor:
        self._count += 1
        return Tensor(type, f"t{self._count}")

    def compute(self, shape: Sequence[Dim], dtype: DType, fn: Callable[..., Expr]) -> Tensor:
        out = self.tensor(TensorType(dims(shape), dtype))
        vars = self._vars("i", out.shape)
        at = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in vars)
        expr = self.widened.expression(fn(*at))
        fixed = isinstance(expr, Load) and expr.tensor in self.fixed and all(map(settled, expr.index))
        stage = Compute(out, vars, expr)
        if fixed and out.type.is_static:
            self.fixed.add(out)
            self.widened.views[out] = stage
        self._add(stage)
        return out

    def reduce(
        self,
        kind: str,
        shape: Sequence[Dim],
        dtype: DType,
        over: Sequence[Dim],
        fn: Callable[[tuple[Index, ...], tuple[Index, ...]], Expr],
    ) -> Tensor:
        out = self.tensor(TensorType(dims(shape), dtype))
        vars, rvars = self._vars("i", out.shape), self._vars("r", dims(over))
        at, rat = (tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in vs) for vs in (vars, rvars))
        self._add(Reduce(kind, out, vars, rvars, self.widened.expression(fn(at, rat))))
        return out

    def scan(self, kind: str, x: Tensor, axis: int) -> Tensor:
        out = self.tensor(x.type)
        vars = self._vars("i", out.shape)
        at = (Index.of(0) if v.extent.const == 1 else Index.of(v) for v in vars)
        self._add(Scan(kind, out, vars, axis, x(*at)))
        return out

    def refuses(self, op: Op, inputs: Sequence[Tensor]) -> bool:
        why = refusal(op, inputs, self.fixed.__contains__)
        if why:
            self.refusals[self.origin, self.label] = why
        return bool(why)

    def kernel(self, op: Op, inputs: Sequence[Tensor], outputs: Sequence[TensorType]) -> tuple[Tensor, ...]:
        """Operands of a half type are widened, but for those that are packed."""
        packed = {x for k, x in enumerate(inputs) if k in packs(op, inputs) and x in self.fixed}
        wider = tuple(x if x in packed else self._widened(x) for x in inputs)
        outs = tuple(self.tensor(t) for t in outputs)
        self._add(Template(op, wider, outs))
        return outs

    def _widened(self, x: Tensor) -> Tensor:
        to = wide(x.dtype)
        return x if to is x.dtype else self.compute(x.shape, to, lambda *i: cast(x(*i), to))

    def extern(
        self,
        header: str,
        macros: Mapping[str, str | int | Dim],
        inputs: Sequence[Tensor],
        outputs: Sequence[TensorType],
        scratch: Dim = 0,
    ) -> tuple[Tensor, ...]:
        outs = tuple(self.tensor(t) for t in outputs)
        self._add(Extern(header, dict(macros), tuple(inputs), outs, scratch))
        return outs


@dataclass(eq=False)
class Lowered:
    """A method's stages, where its inputs, constants, state and outputs are, what `Recorder.refusals` says, and the
    most of each size that data decide.
    """

    block: Block
    inputs: tuple[Tensor, ...]
    constants: dict[Tensor, ConstTensor] = field(default_factory=dict)
    states: dict[Tensor, StateVar] = field(default_factory=dict)
    refusals: dict[tuple[Origin, str], str] = field(default_factory=dict)
    most: Mapping[Index, Index] = field(default_factory=dict)


class Lowering:
    """Graph → stages, nested graphs included."""

    def __init__(self) -> None:
        self.constants: dict[ConstTensor, Tensor] = {}
        self.recorder = Recorder(Widened(self.constants))
        self.states: dict[StateVar, Tensor] = {}
        self._written: set[StateVar] = set()
        self._puts: set[Node] = set()

    def method(self, graph: Graph) -> Lowered:
        found = in_place(graph)
        graph, self._puts = found.graph, found.puts
        self._written = {op.var for g in graphs(graph) for n in g.nodes if isinstance(op := n.op, WriteState)}
        self._written -= found.variables
        inputs = tuple(Tensor(v.type, v.name) for v in graph.inputs)
        outputs = self._own(self.graph(graph, inputs))
        block = Block(self.recorder.stages, outputs)
        constants = {t: c for c, t in self.constants.items()}
        states = {t: s for s, t in self.states.items()}
        return Lowered(block, inputs, constants, states, self.recorder.refusals, measured(graph))

    def graph(self, graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        env: dict[Value, Tensor] = dict(zip(graph.inputs, inputs, strict=True))
        for node in graph.nodes:
            self.recorder.origin, self.recorder.label = node.origin, node.op.name
            outs = self.node(node, tuple(env[v] for v in node.inputs))
            for v, t in zip(node.outputs, outs, strict=True):
                t.name = t.name or v.name
                env[v] = t
        return tuple(env[v] for v in graph.outputs)

    def block(self, graph: Graph, inputs: Sequence[Tensor], into: Sequence[Tensor] = ()) -> Block:
        """graph's stages as a block of their own; results are moved into the given tensors."""
        outer, self.recorder.stages = self.recorder.stages, []
        origin, label = self.recorder.origin, self.recorder.label
        outputs = self.graph(graph, inputs)
        if into:
            staged = tuple(self.recorder.compute(t.shape, t.dtype, lambda *i, t=t: t(*i)) for t in outputs)
            for source, target in zip(staged, into, strict=True):
                self.recorder._add(Move(source, target))
            outputs = ()
        block = Block(self.recorder.stages, outputs)
        self.recorder.stages = outer
        self.recorder.origin, self.recorder.label = origin, label
        return block

    def node(self, node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        op = node.op
        if isinstance(op, Constant):
            if op.tensor not in self.constants:
                self.constants[op.tensor] = Tensor(op.tensor.type, op.tensor.name)
                self.recorder.fixed.add(self.constants[op.tensor])
                self.recorder.widened.add(op.tensor, self.constants[op.tensor])
            return (self.constants[op.tensor],)
        if isinstance(op, (ReadState, WriteState)):
            return self._access(op, inputs)
        if node in self._puts:
            assert isinstance(op, IndexPut)
            header, macros, operands = op.in_place(self.recorder, *inputs)
            self.recorder._add(Put(header, macros, operands, inputs[:1]))
            return inputs[:1]
        if isinstance(op, If):
            results = tuple(self.recorder.tensor(v.type) for v in node.outputs)
            sides = [self.block(g, inputs[1:], results) for g in (op.then, op.orelse)]
            self.recorder._add(Branch(inputs[0], sides[0], sides[1], results))
            return results
        if isinstance(op, While):
            return self._loop(op, inputs)
        if isinstance(op, Measure):
            self.recorder._add(SetSize(inputs[0], op.size, op.most is None))
            return ()
        if isinstance(op, Cat):
            return (self._cat(op.axis, inputs, node.output.type),)
        if isinstance(op, Raise):
            fail = Fail(op.message, (), node.origin)
            self.recorder._add(Branch(inputs[0], Block([fail], ()), Block([], ()), ()) if inputs else fail)
            return ()
        return op.lower(self.recorder, *inputs)

    def _access(self, op: ReadState | WriteState, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A state variable; what is read before it is written is copied: later writes must not change it."""
        state = self._state(op.var)
        if isinstance(op, WriteState):
            if op.var in self._written:
                self.recorder._add(Move(inputs[0], state))
            return ()
        return (self.recorder.compute(state.shape, state.dtype, state) if op.var in self._written else state,)

    def _loop(self, op: While, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A loop; what its body hands on as it got it is read where it lies."""
        changes = [i for i, v in enumerate(op.body.inputs) if op.body.outputs[i] is not v]
        values = list(inputs)
        for i in changes:
            values[i] = self.recorder.tensor(inputs[i].type)
        carried = tuple(values[i] for i in changes)
        cond = self.block(op.cond, values)
        iteration = Graph(op.body.inputs, op.body.nodes, tuple(op.body.outputs[i] for i in changes))
        body = self.block(iteration, values, carried)
        self.recorder._add(Loop(tuple(inputs[i] for i in changes), carried, cond, body))
        return tuple(values)

    def _own(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Outputs that each have memory of their own: inputs, constants, views and those given twice are copied."""
        made = {t: s for s in self.recorder.stages for t in s.outputs}
        self.recorder.origin, self.recorder.label = Origin(), "output"
        owned: list[Tensor] = []
        for t in outputs:
            s = made.get(t)
            plain = isinstance(s, (Compute, Reduce, Scan, Template, Extern)) and not (
                isinstance(s, Compute) and isinstance(s.expr, Load)
            )
            owned.append(
                t if plain and t not in owned else self.recorder.compute(t.shape, t.dtype, lambda *i, t=t: t(*i))
            )
        return tuple(owned)

    def _cat(self, axis: int, inputs: tuple[Tensor, ...], type: TensorType) -> Tensor:
        parts = tuple(self.recorder.compute(x.shape, x.dtype, lambda *i, x=x: x(*i)) for x in inputs)
        out = self.recorder.tensor(type)
        self.recorder._add(Concat(out, parts, axis))
        return out

    def _state(self, var: StateVar) -> Tensor:
        if var not in self.states:
            self.states[var] = Tensor(var.type, var.name)
        return self.states[var]
