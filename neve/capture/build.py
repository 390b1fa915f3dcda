"""What torch.export made of methods → Program."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument, TensorArgument

from neve.capture import diagnose, guards, questions, refusals, trees
from neve.capture.aliases import LIFTED
from neve.capture.aten import few_composites
from neve.capture.constants import Constants, to_numpy
from neve.capture.context import Number
from neve.capture.draws import kept_draws
from neve.capture.dropout import visible_dropout
from neve.capture.dynamic import named_symbols
from neve.capture.held import Attributes, Held, as_tree, key_of, leaves
from neve.capture.objects import tree_leaves
from neve.capture.pairs import Pair
from neve.capture.symbols import Symbols, UnsupportedSize
from neve.capture.walk import Walk, size_value
from neve.errors import CaptureError
from neve.ir.graph import GraphBuilder, Method, Origin, Program, Value
from neve.ir.index import Index
from neve.ir.types import DType, TensorType
from neve.ir.walk import graphs
from neve.ops.control import WriteState

MUTATIONS = frozenset(
    {OutputKind.BUFFER_MUTATION, getattr(OutputKind, "PARAMETER_MUTATION", OutputKind.BUFFER_MUTATION)}
)


def small_sizes() -> Any:
    """While active torch takes no symbol for 2 or more, and asks as little as it can whether a size is 0 or 1."""
    return importlib.import_module("torch.fx.experimental._config").patch(backed_size_oblivious=True)


@dataclass
class Exported:
    """One method after torch.export: names are those of its parameters, strip is what the wrapper put before every
    name, writes says what a call leaves behind that the program does not, method is the model's name for it; ints:
    whether int() of tensors gave what Python's own does not (see `ints`).
    """

    name: str
    program: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: Sequence[str] = ()
    keyword_only: Collection[str] = ()
    dynamic: Any = None
    strip: str = ""
    example: tuple[Any, Mapping[str, Any]] | None = None
    mutated: dict[str, str] = field(default_factory=dict)
    asked: Sequence[questions.Question] = ()
    writes: Sequence[str] = ()
    method: str = ""
    ints: bool = False


def exported(root: Any, args: Any, kwargs: Any, dynamic: Any) -> torch.export.ExportedProgram:
    """By torch.export, with sizes of 0 and 1 as good as others; what it asserts of sizes is in the graph."""
    with small_sizes():
        program = torch.export.export(
            root,
            args,
            kwargs,
            dynamic_shapes=dynamic,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    _drop_failed(program.graph)
    return program


def _drop_failed(graph: torch.fx.Graph) -> None:
    """Remove ops that raised, and whose error the model caught: torch.export keeps them."""
    for node in reversed(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        gives = node.op == "call_function" and schema is not None and schema.returns and not schema.is_mutable
        if gives and not node.users and node.meta.get("val") is None:
            graph.erase_node(node)


def build(
    exported: Sequence[Exported],
    attributes: Attributes | None = None,
    shared: Mapping[str, Held] | None = None,
    hidden: Collection[str] = (),
) -> Program:
    """The Program of methods that torch.export has captured; what attributes hold is state even if no method writes
    it, what `shared` holds is an attribute if one does, and state with a hidden name is none.
    """
    reasons: list[str] = []
    branches: list[str] = []
    constants, symbols = Constants(), Symbols()
    names = {key_of(h.tensor): h.name for h in (shared or {}).values()}
    written: set[Any] = set()
    for held in (leaf for value in (attributes or {}).values() for leaf in leaves(value)):
        constants.make_state(held.tensor, held.name)
    for e in exported:
        e.program = decomposed(e.program)
        for spec in e.program.graph_signature.output_specs:
            if spec.kind in MUTATIONS:
                e.mutated[spec.arg.name] = spec.target
                tensor = _tensor(e.program, spec.target)
                written.add(key_of(tensor))
                constants.make_state(tensor, names.get(key_of(tensor), spec.target.removeprefix(e.strip)))
    several = {path: held for path, held in (shared or {}).items() if key_of(held.tensor) in written}
    attributes = several | dict(attributes or {})
    methods = {e.name: _method(e, constants, symbols, reasons, branches) for e in exported}
    if reasons or branches:
        kind = CaptureError if reasons and not any(e.ints for e in exported) else diagnose.NotTraceable
        raise kind(list(dict.fromkeys([*reasons, *branches])))
    return Program(methods, dict(symbols.ranges), constants.states, _trees(constants, attributes, hidden))


def _trees(constants: Constants, attributes: Attributes, hidden: Collection[str]) -> dict[str, trees.Tree]:
    """The trees of attributes; state that is in none of them is one by its own name, unless hidden."""
    states = {s: i for i, s in enumerate(constants.states)}
    made = {path: as_tree(value, lambda t: states[constants.state(t)]) for path, value in attributes.items()}
    known = {constants.state(held.tensor) for value in attributes.values() for held in leaves(value)}
    others = {s: i for s, i in states.items() if s not in known and s.name not in made and s.name not in hidden}
    return made | {s.name: {"leaf": i} for s, i in others.items()}


def decomposed(program: Any) -> Any:
    with (
        small_sizes(),
        diagnose.quiet(),
        torch.no_grad(),
        kept_draws(),
        visible_dropout(program.graph_module) as kept,
        few_composites(kept, updating(program.graph_module) | dropping(program.graph_module)) as decompositions,
    ):
        try:
            return program.run_decompositions(decompositions)
        except Exception as error:
            raise refusals.export_error(error) from error


def updating(root: torch.fx.GraphModule) -> set[Any]:
    """Ops that write their arguments without saying so in their schema: instance norm that keeps running statistics."""
    op = torch.ops.aten.instance_norm.default
    graphs = [m.graph for m in root.modules() if isinstance(m, torch.fx.GraphModule)]
    return {op for g in graphs for n in g.nodes if n.target is op and n.args[5] and n.args[3] is not None}


def dropping(root: torch.fx.GraphModule) -> set[Any]:
    """Attention, if some of it has dropout: torch's own decomposition says where in it numbers are drawn."""
    op = torch.ops.aten.scaled_dot_product_attention.default
    graphs = [m.graph for m in root.modules() if isinstance(m, torch.fx.GraphModule)]
    nodes = [n for g in graphs for n in g.nodes if n.target is op]
    return {op for n in nodes if (n.args[4] if len(n.args) > 4 else n.kwargs.get("dropout_p", 0.0))}


def _tensor(program: Any, target: str) -> torch.Tensor:
    found: torch.Tensor | None = program.state_dict.get(target)
    return program.constants[target] if found is None else found


def _method(e: Exported, constants: Constants, symbols: Symbols, reasons: list[str], branches: list[str]) -> Method:
    """reasons, branches: where reasons to refuse it are added; the latter do not hold for a capture by its source."""
    signature = e.program.graph_signature
    sizes = symbols.method(e.program.range_constraints, named_symbols(e.program, e.names, e.args, e.kwargs, e.dynamic))
    b = GraphBuilder()
    walk = Walk(e.program.graph_module, b, sizes, reasons, e.strip, by_data=branches)
    placeholders, leaves, numbers = _placeholders(e, walk, constants)
    reasons.extend(guards.unproved(e.program, sizes))
    branches.extend(questions.unanswered(e.asked, walk.c, e.program))
    results = walk.run(placeholders)
    outputs: list[Value] = []
    out_leaves: list[trees.Tree] = []
    writes: list[tuple[str, Value]] = []
    for spec, value in zip(signature.output_specs, results, strict=True):
        if spec.kind in MUTATIONS:
            state = constants.state(_tensor(e.program, spec.target))
            b.emit(WriteState(state), value, origin=_origin(b, value))
        elif spec.kind is OutputKind.USER_OUTPUT:
            out_leaves.append(_output(walk, spec.arg, value, outputs))
        elif spec.kind is OutputKind.USER_INPUT_MUTATION:
            writes.append((spec.target, value))
        elif spec.kind is not OutputKind.TOKEN:
            reasons.append(f"an output of kind {spec.kind.name} is not supported")
    in_tree = _in_tree(e, leaves)
    if writes:
        at = {v: i for i, v in enumerate(b.inputs)}
        in_tree["writes"] = [[at[placeholders[name]], len(outputs) + k] for k, (name, _) in enumerate(writes)]
    graph = b.build([*outputs, *(value for _, value in writes)])
    shapes = {Index.of(d) for g in graphs(graph) for v in g.values() for d in v.shape if sizes.may_be_negative(d)}
    negative = sorted(shapes, key=str)
    reasons.extend(f"the size {d} is below 0 for a small {min(map(str, d.symbols))}" for d in negative)
    return Method(
        graph,
        in_tree,
        trees.tree_of(e.program.call_spec.out_spec, iter(out_leaves)),
        tuple("int" if v in numbers else None for v in graph.inputs),
        tuple(numbers.get(v) for v in graph.inputs) if numbers else (),
        () if reasons or branches else _examples(e, leaves),
    )


def _origin(b: GraphBuilder, value: Value) -> Origin:
    """Of what gives a value, the nearest place that is in the user's source."""
    made = {v: n for n in b.nodes for v in n.outputs}
    at = value
    while at in made and not made[at].origin.source and made[at].inputs:
        at = made[at].inputs[-1]
    return made[at].origin if at in made else Origin()


def _placeholders(
    e: Exported, walk: Walk, constants: Constants
) -> tuple[dict[str, Any], list[trees.Tree], dict[Value, Index]]:
    """What each placeholder of the fx graph is, the in_tree's leaves, and the ints that give sizes."""
    values: dict[str, Any] = {}
    numbers: dict[Value, Index] = {}
    leaves: list[trees.Tree] = []
    nodes = {n.name: n for n in e.program.graph.nodes if n.op == "placeholder"}
    for spec in e.program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
            values[spec.arg.name] = _input(walk, nodes[spec.arg.name])
            leaves.append({"leaf": sum("leaf" in leaf for leaf in leaves)})
        elif spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, SymIntArgument):
            leaves.append({"leaf": sum("leaf" in leaf for leaf in leaves)})
            given = walk.b.input(spec.arg.name, TensorType((), DType.int64))
            try:
                values[spec.arg.name] = walk.symbols.introduce_number(nodes[spec.arg.name].meta["val"], spec.arg.name)
                numbers[given] = values[spec.arg.name]
            except UnsupportedSize as error:
                walk.reasons.append(str(error))
                values[spec.arg.name] = 1
        elif spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, ConstantArgument):
            values[spec.arg.name] = spec.arg.value
            leaves.append(trees.constant(spec.arg.value))
        elif spec.kind in LIFTED or spec.kind is InputKind.TOKEN:
            values[spec.arg.name] = None
        else:
            own = isinstance(e.program.constants.get(spec.target or ""), torch.Generator)
            what = "a torch.Generator of its own: leave generator= out, and seed the compiled module (manual_seed)"
            name = getattr(spec.arg, "name", spec)
            walk.reasons.append(
                f"the model has {what}" if own else f"the input {name!r} ({spec.kind.name.lower()}) is not supported"
            )
            leaves.append(trees.constant(None))
            values[spec.arg.name] = None
    for spec in e.program.graph_signature.input_specs:
        if spec.kind in LIFTED and nodes[spec.arg.name].users:
            tensor = _tensor(e.program, spec.target)
            try:
                values[spec.arg.name] = _weight(walk.b, constants, tensor, spec.target.removeprefix(e.strip))
            except ValueError as error:
                walk.reasons.append(f"{spec.target}: {error}")
                values[spec.arg.name] = walk._placeholder(tensor)
    return values, leaves, numbers


def _weight(b: GraphBuilder, constants: Constants, tensor: torch.Tensor, name: str) -> Value | Pair:
    """A parameter, buffer or constant; a complex one by its parts."""
    if not tensor.is_complex():
        return constants.value(b, tensor, name)
    parts = torch.view_as_real(tensor.detach().resolve_conj())
    return Pair(*(constants.value(b, parts[..., k], f"{name}_{part}") for k, part in enumerate(("real", "imag"))))


def _input(walk: Walk, node: Any) -> Value:
    val = node.meta["val"]
    try:
        if val.is_complex():
            raise ValueError("it is complex: take x (…, 2) of real numbers, and torch.view_as_complex(x) in the model")
        for d in val.shape:
            if isinstance(d, torch.SymInt):
                walk.symbols.introduce(d)
        return walk.b.input(node.name, walk.c.type_of(val))
    except Exception as error:
        walk.reasons.append(f"the input {node.name!r}: {error}")
        return Value(walk.b.fresh("unsupported"), TensorType((), DType.float32))


def _output(walk: Walk, arg: Any, value: Any, outputs: list[Value]) -> trees.Tree:
    if isinstance(value, Pair):
        walk.reasons.append("an output is a complex tensor: return torch.view_as_real(y), or both parts of it")
        return trees.constant(None)
    if isinstance(arg, ConstantArgument):
        return trees.constant(arg.value)
    kind = None
    if isinstance(arg, SymIntArgument) and not isinstance(value, Number):
        value, kind = value if isinstance(value, Value) else size_value(walk.c, value), "int"
    if isinstance(value, Number):
        value, kind = walk.c.tensor(value, value.value.dtype), value.kind.__name__
    if not isinstance(value, Value):
        try:
            value = size_value(walk.c, value)
        except (UnsupportedSize, ValueError) as error:
            walk.reasons.append(f"an output: {error}")
            return trees.constant(None)
    outputs.append(value)
    return {"leaf": len(outputs) - 1} | ({"as": kind} if kind else {})


def _in_tree(e: Exported, leaves: Sequence[trees.Tree]) -> trees.Tree:
    tree = trees.tree_of(e.program.call_spec.in_spec, iter(leaves))
    args, kwargs = tree["tuple"]
    args = args["tuple"] if "tuple" in args else args["list"]
    kwargs = kwargs["dict"]
    # the parameters that follow those given by position, as far as each of them was given by its name
    after = takewhile(lambda name: name in kwargs and name not in e.keyword_only, list(e.names)[len(args) :])
    return {"args": args, "kwargs": kwargs, "names": list(e.names)[: len(args)], "positional": list(after)}


def _examples(e: Exported, leaves: Sequence[trees.Tree]) -> tuple[tuple[np.ndarray, ...], ...]:
    """The example inputs in the order of the graph's inputs."""
    if e.example is None:
        return ()
    flat = tree_leaves(e.example)
    if len(flat) != len(leaves):
        return ()
    inputs = (torch.as_tensor(x) for x, leaf in zip(flat, leaves, strict=True) if "leaf" in leaf)
    return (tuple(to_numpy(x, copy=True) for x in inputs),)
