"""What torch.export made of methods → Program."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import numpy as np
import sympy
import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument, TensorArgument

from neve.capture import custom_ops, diagnose, guards, questions, refusals, trees
from neve.capture.aliases import LIFTED
from neve.capture.aten import few_composites
from neve.capture.constants import Constants, in_parts, to_numpy
from neve.capture.context import PARTS, Context, Number, dtype_of
from neve.capture.draws import kept_draws
from neve.capture.dropout import visible_dropout
from neve.capture.dynamic import given_values, named_symbols
from neve.capture.held import Attributes, Held, as_tree, key_of, leaves
from neve.capture.joined import Body, Side, Sides, cut_off, joined, resized, wanted_where
from neve.capture.objects import tree_leaves
from neve.capture.overlaps import unordered_writes
from neve.capture.pairs import Pair, in_one, taken_apart
from neve.capture.passed import Became, Place, becomes
from neve.capture.regions import related
from neve.capture.symbols import MethodSymbols, Symbols, UnsupportedSize
from neve.capture.walk import Walk, size_value
from neve.errors import CaptureError
from neve.internals import missing, replaced
from neve.ir.bounds import bounds
from neve.ir.graph import Graph, GraphBuilder, Method, Node, Origin, Program, Value
from neve.ir.index import Index
from neve.ir.types import Dim, DType, Range, TensorType
from neve.ir.walk import graphs, subgraphs
from neve.ops.control import While, WriteState
from neve.ops.lengths import Measure

FAKE_LENGTH = "torch._library.fake_impl.FakeImplCtx.create_unbacked_symint"
MUTATIONS = frozenset(
    {OutputKind.BUFFER_MUTATION, getattr(OutputKind, "PARAMETER_MUTATION", OutputKind.BUFFER_MUTATION)}
)


def small_sizes() -> Any:
    """While active torch takes no symbol for 2 or more, and asks as little as it can whether a size is 0 or 1."""
    return importlib.import_module("torch.fx.experimental._config").patch(backed_size_oblivious=True)


@contextmanager
def lengths_from_zero() -> Iterator[None]:
    """While active fake implementations of other packages' ops take no length that data decide for 2 or more, as the
    older of torch's two functions for it does (torchvision's nms).
    """
    if missing(FAKE_LENGTH):
        yield
        return
    with replaced((FAKE_LENGTH, lambda context, *, min=0, max=None: context.new_dynamic_size(min=min, max=max))):
        yield


@dataclass
class Exported:
    """One method after torch.export: names are those of its parameters, strip is what the wrapper put before every
    name, writes says what a call leaves behind that the program does not, method is the model's name for it; ints:
    whether int() of tensors gave what Python's own does not (see `ints`); sides: the exports for other sizes, if its
    code branches on sizes; became: what arguments are after a call, whose results are a pair then (see `EntryModule`).
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
    sides: Sides | None = None
    became: Mapping[Place, Became] = field(default_factory=dict)

    @property
    def parts(self) -> list[Exported]:
        """All that was exported for it, the one for the example first."""
        return self.sides.exported if self.sides is not None else [self]


def exported(root: Any, args: Any, kwargs: Any, dynamic: Any) -> torch.export.ExportedProgram:
    """By torch.export, with sizes of 0 and 1 as good as others; what it asserts of sizes is in the graph."""
    with small_sizes(), lengths_from_zero():
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
    for e in (part for method in exported for part in method.parts):
        reasons.extend(unordered_writes(e.program, e.strip))
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
    custom_ops.inlined(program.graph_module)
    with (
        small_sizes(),
        lengths_from_zero(),
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
    if e.sides is not None:
        return _branching(e, constants, symbols, reasons, branches)
    sizes = symbols.method(e.program.range_constraints, named_symbols(e.program, e.names, e.args, e.kwargs, e.dynamic))
    body, leaves, numbers = _body(e, sizes, constants, reasons, branches)
    return _assembled(e, body, leaves, numbers, () if reasons or branches else _examples([e], leaves))


def _branching(e: Exported, constants: Constants, symbols: Symbols, reasons: list[str], branches: list[str]) -> Method:
    """A method whose code takes other branches for other sizes."""
    sides = e.sides.of(symbols)  # type: ignore[union-attr]
    first = e.parts[0]
    given = [
        None if s is None else _declared(v, s) for v, s in zip(given_values(first.program), sides.shapes, strict=True)
    ]

    def body(side: Side) -> Body:
        sizes = symbols.side(side.known, side.region)
        made = _body(side.exported, sizes, constants, reasons, branches, given)[0]
        if not any(below_zero(d, symbols.ranges) for d in sizes_in(made.graph)):
            return made
        # a plan has memory for both sides of a branch, whichever runs
        found = [d for d in sizes_in(made.graph) if below_zero(d, side.region.ranges)]
        try:
            made = replace(made, graph=cut_off(made.graph, sizes.clamps()))
        except UnsupportedSize as error:
            reasons.append(str(error))
        reasons.extend(f"whether the size {d} may be below 0 is not known: {questions.RANGE}" for d in found)
        return made

    bodies = {side: body(side) for side in sides.leaves if side.exported is not None}
    if any(side.exported is not None and side.exported.became != e.became for side in bodies):
        reasons.append("it changes its arguments in other ways for some sizes than for others")
    if reasons or branches:
        return Method(next(iter(bodies.values())).graph)
    whole = joined(sides.tree, bodies, symbols)
    specs = zip(_user(first), sides.shapes, strict=True)
    count = itertools.count()
    leaves = [trees.constant(spec.arg.value) if s is None else {"leaf": next(count)} for spec, s in specs]
    used = zip(whole.graph.inputs, (s for s in sides.shapes if s is not None), strict=True)
    numbers = {v: s for v, s in used if isinstance(s, Index)}
    return _assembled(e, whole, leaves, numbers, _examples(e.parts, leaves))


def sizes_in(graph: Graph) -> list[Index]:
    """The symbolic sizes of all values, each once."""
    found = {d for g in graphs(graph) for v in g.values() for d in v.shape if isinstance(d, Index)}
    return sorted(found, key=str)


def below_zero(d: Index, ranges: Mapping[Index, Range]) -> bool:
    """Whether a size may come out below 0, as far as is known."""
    found = bounds(d, ranges)
    return found is None or found[0] < 0


def _user(e: Exported) -> list[Any]:
    return [s for s in e.program.graph_signature.input_specs if s.kind is InputKind.USER_INPUT]


def _declared(val: Any, shape: Any) -> TensorType | None:
    if shape is None:
        return None
    return _type(shape, val.dtype) if isinstance(shape, tuple) else TensorType((), DType.int64)


def _assembled(
    e: Exported, body: Body, leaves: list[trees.Tree], numbers: Mapping[Value, Index], examples: Any
) -> Method:
    in_tree = _in_tree(e, leaves)
    if body.writes:
        in_tree["writes"] = [list(pair) for pair in body.writes.items()]
    graph = body.graph
    out_tree = trees.tree_of(body.spec, iter(body.leaves))
    if e.became:
        in_tree["becomes"] = becomes(e.became, e.program.call_spec.in_spec, leaves, body.leaves)
        out_tree = out_tree["tuple"][0]
    return Method(
        graph,
        in_tree,
        out_tree,
        tuple("int" if v in numbers else None for v in graph.inputs),
        tuple(numbers.get(v) for v in graph.inputs) if numbers else (),
        examples,
        (_complex_inputs(e, leaves), body.complex),
    )


def _complex_inputs(e: Exported, leaves: Sequence[trees.Tree]) -> frozenset[int]:
    given = zip(given_values(e.parts[0].program), leaves, strict=False)
    return frozenset(leaf["leaf"] for v, leaf in given if isinstance(v, torch.Tensor) and v.is_complex())


def _body(
    e: Exported,
    sizes: MethodSymbols,
    constants: Constants,
    reasons: list[str],
    branches: list[str],
    given: Sequence[TensorType | None] | None = None,
) -> tuple[Body, list[trees.Tree], dict[Value, Index]]:
    """What one export gives, the in_tree's leaves, and the ints that give sizes. given: the types of the flat inputs
    that the graph is to have instead of those that torch found for a region of the sizes.
    """
    b = GraphBuilder()
    walk = Walk(e.program.graph_module, b, sizes, reasons, e.strip, by_data=branches)
    region = sizes.region
    sizes.region = region.unchecked if region is not None else None
    placeholders, leaves, numbers = _placeholders(e, walk, constants, given)
    branches.extend(questions.unanswered(e.asked, walk.c, e.program))
    sizes.region = region
    for relation in sizes.narrowed(e.program.range_constraints):
        wanted_where(walk.c, relation)
    reasons.extend(guards.unproved(e.program, sizes))
    results = walk.run(placeholders)
    outputs: list[Value] = []
    out_leaves: list[trees.Tree] = []
    writes: list[tuple[str, Value]] = []
    complex: set[int] = set()
    for spec, value in zip(e.program.graph_signature.output_specs, results, strict=True):
        if spec.kind in MUTATIONS:
            state = constants.state(_tensor(e.program, spec.target))
            value = in_one(walk.c, value) if isinstance(value, Pair) else value
            b.emit(WriteState(state), value, origin=_origin(b, value))
        elif spec.kind is OutputKind.USER_OUTPUT:
            out_leaves.append(_output(walk, spec.arg, value, outputs, complex))
        elif spec.kind is OutputKind.USER_INPUT_MUTATION:
            writes.append((spec.target, value))
        elif spec.kind is not OutputKind.TOKEN:
            reasons.append(f"an output of kind {spec.kind.name} is not supported")
    inputs = [s.arg.name for s, leaf in zip(_user(e), leaves, strict=False) if "leaf" in leaf]
    at = {name: i for i, name in enumerate(inputs)}
    written = {at[name]: len(outputs) + k for k, (name, _) in enumerate(writes)}
    for _, value in writes:
        _output(walk, None, value, outputs, complex)
    graph = b.build(outputs)
    if _measured_late(graph):
        reasons.append(
            "a length that data decide, and that nothing bounds, is found after state was written or random numbers "
            "drawn, which a call with more memory would do again: give it a bound, as repeat_interleave's output_size"
        )
    negative = filter(sizes.may_be_negative, sizes_in(graph))
    reasons.extend(f"the size {d} is below 0 for a small {min(map(str, d.symbols))}" for d in negative)
    types = [v.type for v in graph.outputs]
    return Body(graph, types, e.program.call_spec.out_spec, out_leaves, written, frozenset(complex)), leaves, numbers


def _measured_late(graph: Graph, written: bool = False) -> bool:
    """Whether a call may find that memory is not enough when it has written state."""
    for n in graph.nodes:
        inside = [g for _, g in subgraphs(n.op)]
        writes = isinstance(n.op, WriteState) or any(
            isinstance(m.op, WriteState) for g in inside for m in every_node(g)
        )
        earlier = written or (writes and isinstance(n.op, While))
        if (isinstance(n.op, Measure) and n.op.most is None and written) or any(
            _measured_late(g, earlier) for g in inside
        ):
            return True
        written |= writes
    return False


def every_node(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of those inside it."""
    return (n for g in graphs(graph) for n in g.nodes)


def _origin(b: GraphBuilder, value: Value) -> Origin:
    """Of what gives a value, the nearest place that is in the user's source."""
    made = {v: n for n in b.nodes for v in n.outputs}
    at = value
    while at in made and not made[at].origin.source and made[at].inputs:
        at = made[at].inputs[-1]
    return made[at].origin if at in made else Origin()


def _placeholders(
    e: Exported, walk: Walk, constants: Constants, given: Sequence[TensorType | None] | None
) -> tuple[dict[str, Any], list[trees.Tree], dict[Value, Index]]:
    """What each placeholder of the fx graph is, the in_tree's leaves, and ints that give sizes; given: see `_body`."""
    values: dict[str, Any] = {}
    numbers: dict[Value, Index] = {}
    leaves: list[trees.Tree] = []
    nodes = {n.name: n for n in e.program.graph.nodes if n.op == "placeholder"}
    declared = iter(given or ())
    for spec in e.program.graph_signature.input_specs:
        wanted = next(declared, None) if spec.kind is InputKind.USER_INPUT else None
        if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
            values[spec.arg.name] = _input(walk, nodes[spec.arg.name], wanted)
            leaves.append({"leaf": sum("leaf" in leaf for leaf in leaves)})
        elif spec.kind is InputKind.USER_INPUT and (isinstance(spec.arg, SymIntArgument) or wanted is not None):
            leaves.append({"leaf": sum("leaf" in leaf for leaf in leaves)})
            number = walk.b.input(spec.arg.name, TensorType((), DType.int64))
            try:
                if isinstance(spec.arg, SymIntArgument):
                    found = walk.symbols.introduce_number(nodes[spec.arg.name].meta["val"], spec.arg.name)
                    values[spec.arg.name] = numbers[number] = found
                else:
                    values[spec.arg.name] = spec.arg.value
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
                values[spec.arg.name] = _weight(walk.c, constants, tensor, spec.target.removeprefix(e.strip))
            except ValueError as error:
                walk.reasons.append(f"{spec.target}: {error}")
                values[spec.arg.name] = walk._placeholder(tensor)
    return values, leaves, numbers


def _weight(c: Context, constants: Constants, tensor: torch.Tensor, name: str) -> Value | Pair:
    """A parameter, buffer or constant; a complex one by its parts."""
    if not tensor.is_complex():
        return constants.value(c.b, tensor, name)
    both = in_parts(tensor)
    if constants.is_state(both):
        return taken_apart(c, constants.value(c.b, both, name))
    return Pair(*(constants.value(c.b, both[..., k], f"{name}_{part}") for k, part in enumerate(("real", "imag"))))


def _input(walk: Walk, node: Any, wanted: TensorType | None) -> Value | Pair:
    val = node.meta["val"]
    try:
        for d in val.shape:
            if isinstance(d, torch.SymInt):
                walk.symbols.introduce(d)
        found = _type(walk.c.type_of(val).shape, val.dtype)
        v = walk.b.input(node.name, wanted or found)
        if wanted is not None:
            for n, own in zip(wanted.shape, found.shape, strict=True):
                wanted_where(walk.c, related(sympy.Eq, n, own))
            v = resized(walk.c, v, found.shape)
        return taken_apart(walk.c, v) if val.is_complex() else v
    except Exception as error:
        walk.reasons.append(f"the input {node.name!r}: {error}")
        return Value(walk.b.fresh("unsupported"), TensorType((), DType.float32))


def _type(shape: tuple[Dim, ...], dtype: torch.dtype) -> TensorType:
    """Of a graph's input: the parts of complex numbers are its last axis."""
    return TensorType((*shape, 2) if dtype in PARTS else shape, dtype_of(PARTS.get(dtype, dtype)))


def _output(walk: Walk, arg: Any, value: Any, outputs: list[Value], complex: set[int]) -> trees.Tree:
    """The leaf of a result, of which outputs gets the value, and complex its number if it is of complex numbers."""
    if isinstance(value, Pair):
        complex.add(len(outputs))
        outputs.append(in_one(walk.c, value))
        return {"leaf": len(outputs) - 1}
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


def _examples(parts: Sequence[Exported], leaves: Sequence[trees.Tree]) -> tuple[tuple[np.ndarray, ...], ...]:
    """The example inputs of each export, in the order of the graph's inputs."""
    found = []
    for e in parts:
        flat = tree_leaves(e.example) if e.example is not None else []
        if len(flat) != len(leaves):
            return ()
        inputs = (torch.as_tensor(x) for x, leaf in zip(flat, leaves, strict=True) if "leaf" in leaf)
        found.append(tuple(to_numpy(in_parts(x), copy=True) for x in inputs))
    return tuple(found)
