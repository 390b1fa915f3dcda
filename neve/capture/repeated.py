"""Whether what a call leaves behind in attributes, containers and globals is a cache or scratch, which may be dropped.

It is if each method gives the same graph after every sequence of calls. So methods are called again in one trace, each
call with inputs and state of its own, until they leave behind nothing that is new. What a call reads of an earlier
one's has to be equal to what it would have computed itself: its inputs, the state before it and its random numbers
must be the only ones in its results. Where a model compares sizes of two calls, all their relations are tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch import nn
from torch.export import Dim
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from neve.capture import diagnose
from neve.capture.attributes import Watched, watched
from neve.capture.build import MUTATIONS, Exported, decomposed
from neve.capture.dynamic import by_argument, named_symbols
from neve.capture.entry_module import called, left_as_before, memory_of
from neve.capture.expressions import Expressions, Input, Meaning, Reader, draws_of, results, sizes_of, symbols_of
from neve.capture.fingerprints import Form
from neve.capture.guards import shape_env
from neve.capture.held import storage_of
from neve.capture.known import Constants
from neve.capture.surroundings import Answers
from neve.errors import CaptureError

FEW_CALLS = 5
"""So many calls are traced at most, and four more for each pair of methods. What counts calls leaves something new
behind each time: it is no cache, and every trace has all calls before it once more.
"""
LAST = "last"
"""What the last call is called, and a method by itself."""
_one_of_many = ContextVar("_one_of_many", default=False)
Trace = Callable[..., tuple[Any, Collection[Any]]]


class Carried(Exception):
    """Calls depend on what earlier ones have left behind, or it cannot be shown that they do not."""


def check(
    model: nn.Module,
    methods: Sequence[Exported],
    answers: Answers,
    constants: Constants,
    state: Collection[int],
    trace: Trace,
) -> None:
    """NotTraceable with the writes of all methods if what they leave behind may matter to a call.

    state: storages of tensors that are not the same in each call, beside those that methods write; trace: `_trace` of
    export.
    """
    try:
        if _one_of_many.get():
            raise Carried
        _Check(model, methods, answers, constants, state, trace).run()
    except (Carried, CaptureError) as error:
        raise diagnose.NotTraceable(list(dict.fromkeys(w for e in methods for w in e.writes))) from error


@contextmanager
def one_of_many() -> Iterator[None]:
    """Where code for arguments of other forms may run between calls, which is not known here: whatever is left behind
    may matter.
    """
    token = _one_of_many.set(True)
    try:
        yield
    finally:
        _one_of_many.reset(token)


class _Calls(nn.Module):
    """Calls one after the other; each is given what state is before it."""

    def __init__(
        self,
        model: nn.Module,
        methods: Sequence[Exported],
        state: Sequence[str],
        before: Watched,
        answers: Answers,
        constants: Constants,
    ) -> None:
        super().__init__()
        self.model = model
        self.itself = (model,)  # torch.export gives a proxy for an attribute that is a module
        self.state, self.methods, self.before, self.heard = state, methods, before, (answers, constants)
        self.training = False

    def forward(self, calls: Any, states: Any) -> Any:
        (model,) = self.itself
        self.forms: list[Any] = []
        self.trees: list[Any] = []
        self.reasons: dict[str, None] = {}
        self.lasting = False
        changes: dict[Any, Any] = {}
        outputs = []
        try:
            for method, (args, kwargs), given in zip(self.methods, calls, states, strict=True):
                for name, tensor in zip(self.state, given, strict=True):
                    _tensor(model, name).copy_(tensor)
                done = called(model, method.method, args, kwargs, self.before, *self.heard, self.reasons)
                for b in done.changes:
                    changes.setdefault((id(b.table), b.name), b)
                result, tree = pytree.tree_flatten(done.result)
                self.trees.append(tree)
                kept = [_tensor(model, name).clone() for name in self.state]
                outputs.append((result, kept, self._form([*changes.values()], done.settled)))
        finally:
            left_as_before(self.before, changes.values())
        return outputs

    def _form(self, bindings: Sequence[Any], settled: set[Any]) -> list[Any]:
        form = Form(self.before.prints, self.before.modules)
        buffers = [(b.path, form(b.value)) for b in bindings]
        attributes = [(c.name, form(c.value)) for c in self.before.changes()]
        self.forms.append(((buffers, attributes), len(form.leaves)))
        tensors = [leaf for leaf in form.leaves if isinstance(leaf, torch.Tensor)]
        # a tensor that is a buffer's in eager is none here
        self.lasting |= form.lasting or any(memory_of(t) in settled for t in tensors)
        return form.leaves


@dataclass(frozen=True, eq=False)
class _Alone:
    """A method by itself: what it gives and writes, its symbols of sizes, what it asks of them, how often it draws."""

    method: Exported
    given: list[int]
    written: dict[str, int]
    tree: Any
    inputs: list[Any]
    sizes: list[_Size]
    asked: set[Any]
    draws: int


@dataclass(frozen=True)
class _Size:
    """A symbol: its example value and its range; the name of its Dim, "" if it has none."""

    symbol: sympy.Symbol
    value: int
    least: int
    most: int
    name: str

    def values(self, sign: str) -> tuple[int, int]:
        """Of an earlier and a later call, so related."""
        low, high = sorted((self.value, self.value + 1 if self.value < self.most else self.value - 1))
        return {"<": (low, high), ">": (high, low), "=": (self.value, self.value)}[sign]


class _Check:
    def __init__(
        self,
        model: nn.Module,
        methods: Sequence[Exported],
        answers: Answers,
        constants: Constants,
        state: Collection[int],
        trace: Trace,
    ) -> None:
        self.model, self.answers, self.constants, self.trace = model, answers, constants, trace
        programs = [decomposed(e.program) for e in methods]
        written = {target for e, program in zip(methods, programs, strict=True) for target in _written(e, program)}
        tensors = [*model.named_parameters(), *model.named_buffers()]
        self.state = [n for n, t in tensors if n in written or storage_of(t) in state]
        self.expressions = Expressions()
        self.alone = [self._alone(e, program) for e, program in zip(methods, programs, strict=True)]
        self.calls = FEW_CALLS + 4 * len(methods) ** 2

    def run(self) -> None:
        """Until the methods leave behind nothing new."""
        paths: list[list[_Alone]] = [[m] for m in self.alone if m.method.writes]
        known: set[Any] = {_form([], [])}
        for path in paths:
            for method in self.alone:
                for before, after in self._after(path, method):
                    known.add(before)
                    if after not in known:
                        known.add(after)
                        paths.append([*path, method])

    def _alone(self, e: Exported, program: Any) -> _Alone:
        user = _user_inputs(program)
        inputs = {node.name: Input(0, k) for k, node in enumerate(user)}
        for spec in program.graph_signature.input_specs:
            name = (spec.target or "").removeprefix(e.strip)
            if name in self.state:
                inputs[spec.arg.name] = Input(0, name)
        count = draws_of(program)
        reader = self.expressions.read(program, inputs, {0: LAST}, [(0, k) for k in range(count)])
        given, written = results(program, reader)
        names = {node.name: f"argument {k}" for k, node in enumerate(user)}
        return _Alone(
            e,
            [m.number for m in given],
            {names.get(k, k.removeprefix(e.strip)): m.number for k, m in written.items()},
            program.call_spec.out_spec,
            user,
            _sizes(e, program, user),
            {_renamed(q.relation, reader, program) for q in e.asked},
            count,
        )

    def _after(self, path: Sequence[_Alone], method: _Alone) -> Iterator[tuple[Any, Any]]:
        """What was left before the last call of a path and a method, and after it, for each relation of sizes."""
        shared = [s.symbol for s in method.sizes if s.name and s.least < s.most] if list(path) == [method] else []
        covered: list[Mapping[Any, str]] = []
        for signs in itertools.product("<>=", repeat=len(shared)):
            wanted = dict(zip(shared, signs, strict=True))
            if not any(all(wanted[s] in region[s] for s in shared) for region in covered):
                before, after, region = self._traced([*path, method], wanted)
                covered.append(region)
                yield before, after

    def _traced(self, calls: Sequence[_Alone], signs: Mapping[Any, str]) -> tuple[Any, Any, Mapping[Any, str]]:
        """What was left before the last call, and after it; for each symbol the signs for which that is so."""
        self.calls -= len(calls)
        if self.calls < 0:
            raise Carried
        last = len(calls) - 1
        given = [_arguments(m, k == last, signs) for k, m in enumerate(calls)]
        states = [[_tensor(self.model, n).detach().clone() for n in self.state] for _ in calls]
        dynamic = [_dynamic(m, k, signs) for k, m in enumerate(calls)]
        shapes = (
            {"calls": dynamic, "states": [[None] * len(s) for s in states]} if any(m.sizes for m in calls) else None
        )
        with watched(self.model) as before:
            root = _Calls(self.model, [m.method for m in calls], self.state, before, self.answers, self.constants)
            program, asked = self.trace(self.model, root, calls[-1].method.method, ((given, states), {}), shapes)
            if root.lasting or root.reasons or before.lost() or self.constants.clash:
                raise Carried
        seen = _Seen(self, calls, root, decomposed(program))
        seen.compare()
        region = {s: "=" if sign == "=" else "<>=" for s, sign in signs.items()}
        for question in asked:
            seen.restrict(question, region)
        return seen.form(last - 1), seen.form(last), region


class _Seen:
    """What a trace of calls shows."""

    def __init__(self, check: _Check, calls: Sequence[_Alone], root: _Calls, program: Any) -> None:
        self.calls, self.root, self.program, self.state = calls, root, program, check.state
        self.last = len(calls) - 1
        user = [n.name for n in _user_inputs(program)]
        self.inputs = [Input(k, j) for k, m in enumerate(calls) for j in range(len(m.inputs))]
        self.inputs += [Input(k, name) for k in range(len(calls)) for name in check.state]
        if len(user) != len(self.inputs) or draws_of(program) != sum(m.draws for m in calls):
            raise Carried
        self.names = dict(zip(user, self.inputs, strict=True))
        self.drawn = [(k, j) for k, m in enumerate(calls) for j in range(m.draws)]
        self.expressions = check.expressions
        self.reader = self._read({self.last: LAST} | {k: f"call {k}" for k in range(self.last)})

    def _read(self, labels: Mapping[int, str]) -> Reader:
        return self.expressions.read(self.program, self.names, labels, self.drawn)

    def _outputs(self, reader: Reader, call: int) -> tuple[list[Meaning], list[Meaning], list[Meaning]]:
        """The results of a call, the state after it, and the tensors and sizes that it has left behind."""
        values = iter(results(self.program, reader)[0])
        for k, (tree, form) in enumerate(zip(self.root.trees, self.root.forms, strict=True)):
            parts = [list(itertools.islice(values, n)) for n in (tree.num_leaves, len(self.state), form[1])]
            if k == call:
                return parts[0], parts[1], parts[2]
        raise AssertionError(call)

    def compare(self) -> None:
        """Carried if the last call is not what its method is by itself."""
        method = self.calls[self.last]
        given, state, _ = self._outputs(self.reader, self.last)
        written = results(self.program, self.reader)[1]
        changed = [(i, written.pop(name)) for name, i in self.names.items() if name in written]
        arguments = [(self.calls[i.call], f"argument {i.what}", i.call, m.number) for i, m in changed]
        if any(name not in m.written for m, name, *_ in arguments) or {self._of_model(n) for n in written} - {
            *self.state
        }:
            raise Carried  # by an alias that an earlier call has left behind
        found = {name: number for _, name, call, number in arguments if call == self.last}
        found |= {name: m.number for name, m in zip(self.state, state, strict=True)}
        unwritten = {n: m.number for n, m in self._state_before().items() if n not in method.written}
        same = [m.number for m in given] == method.given and self.root.trees[self.last] == method.tree
        if not same or found != method.written | unwritten:
            raise Carried

    def _of_model(self, target: str) -> str:
        return target.removeprefix(self.calls[self.last].method.strip)

    def _state_before(self) -> dict[str, Meaning]:
        placeholders = {n.name: n for n in self.program.graph.nodes if n.op == "placeholder"}
        given = {name: i for name, i in self.names.items() if i.call == self.last}
        return {i.what: self.reader.of(placeholders[name]) for name, i in given.items() if isinstance(i.what, str)}

    def form(self, call: int) -> Any:
        """What is left after a call, with inputs called after the order of the calls that it depends on."""
        left = self._outputs(self.reader, call)[2]
        used = sorted({k for m in left for k in m.calls}, reverse=True)
        labels = {k: f"{self.calls[k].method.name} {rank}" for rank, k in enumerate(used)}
        others = {k: f"other {k}" for k in range(len(self.calls)) if k not in labels}
        numbers = [m.number for m in self._outputs(self._read(labels | others), call)[2]]
        return _form(self.root.forms[call][0], numbers)

    def restrict(self, question: Any, region: dict[Any, str]) -> None:
        """Keep the signs for which a question has the answer that it got; Carried if others than the sizes of one
        method, or the same size of two calls, are in it.
        """
        relation = _renamed(question.relation, self.reader, self.program)
        method, symbols = self.calls[self.last], relation.free_symbols
        if relation in method.asked or not symbols:
            return
        if not symbols <= {name for name, _ in self.reader.symbols.values()}:
            raise Carried
        alone = {s: sympy.Symbol(f"{LAST}_{str(s).rpartition('_')[2]}", integer=True) for s in symbols}
        own = {s for s in symbols if alone[s] == s}
        calls = {call for name, call in self.reader.symbols.values() if name in symbols}
        if len(calls) == 1 and relation.xreplace(alone) in self.calls[calls.pop()].asked:
            return
        if not isinstance(relation, sympy.core.relational.Relational) or (len(own), len(symbols)) != (1, 2):
            raise Carried
        (mine,), (other,) = own, symbols - own
        symbol = next((s.symbol for k, s in enumerate(method.sizes) if str(mine) == f"{LAST}_{k}"), None)
        difference = sympy.expand(relation.lhs - relation.rhs)
        factor = difference.coeff(other)
        if alone[other] != mine or symbol not in region or difference != factor * (other - mine):
            raise Carried
        holds = {s: bool(relation.func(factor * k, 0)) for s, k in (("<", -1), ("=", 0), (">", 1))}
        region[symbol] = "".join(s for s in region[symbol] if holds[s])


def _form(skeleton: Any, numbers: Sequence[int]) -> Any:
    return repr(skeleton), tuple(numbers)


def _renamed(relation: Any, reader: Reader, program: Any) -> Any:
    env = shape_env(program)
    relation = env.replace(relation) if env is not None else relation
    return relation.xreplace({s: reader.symbols[s][0] for s in relation.free_symbols & reader.symbols.keys()})


def _written(e: Exported, program: Any) -> Iterator[str]:
    for spec in program.graph_signature.output_specs:
        if spec.kind in MUTATIONS:
            yield spec.target.removeprefix(e.strip)


def _user_inputs(program: Any) -> list[Any]:
    names = {s.arg.name for s in program.graph_signature.input_specs if s.kind is InputKind.USER_INPUT}
    return [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]


def _sizes(e: Exported, program: Any, user: Sequence[Any]) -> list[_Size]:
    names = named_symbols(e.program, e.names, e.args, e.kwargs, e.dynamic)
    values: dict[Any, int] = {}
    for node in user:
        val = node.meta.get("val")
        for d in (val,) if isinstance(val, torch.SymInt) else getattr(val, "shape", ()):
            if isinstance(d, torch.SymInt) and len(d.node.expr.free_symbols) == 1:
                (symbol,) = d.node.expr.free_symbols
                values[symbol] = int(sympy.solve(d.node.expr - d.node.hint, symbol)[0])
    found = []
    for symbol in symbols_of(user):
        if symbol not in values:
            raise Carried
        bounds = program.range_constraints[symbol]
        least, most = (int(b) if b.is_Integer else default for b, default in ((bounds.lower, 0), (bounds.upper, 2**62)))
        found.append(_Size(symbol, values[symbol], least, most, names.get(symbol, ("", 0))[0]))
    return found


def _arguments(m: _Alone, last: bool, signs: Mapping[Any, str]) -> tuple[Any, Any]:
    """Example arguments of the sizes that a call is to have."""
    values = {s.symbol: s.values(signs.get(s.symbol, "<"))[last] for s in m.sizes}
    (_, order) = m.method.program.call_spec.in_spec.unflatten([None] * len(m.inputs))
    leaves, tree = pytree.tree_flatten((m.method.args, {k: m.method.kwargs[k] for k in order}))
    if len(leaves) != len(m.inputs):
        raise Carried
    made = []
    for node, leaf in zip(m.inputs, leaves, strict=True):
        sizes = [int(e.xreplace(values)) for e in map(sympy.sympify, sizes_of(node))]
        if isinstance(leaf, torch.Tensor):
            leaf = leaf.clone() if list(leaf.shape) == sizes else torch.ones(sizes, dtype=leaf.dtype)
        made.append(sizes[0] if sizes and isinstance(leaf, int) else leaf)
    args, kwargs = pytree.tree_unflatten(made, tree)
    return args, kwargs


def _dynamic(m: _Alone, call: int, signs: Mapping[Any, str]) -> Any:
    """The dynamic shapes of a call, in which sizes that need not be equal have names of their own."""
    e = m.method
    if not m.sizes:
        return None
    equal = {s.name for s in m.sizes if signs.get(s.symbol) == "="}
    made: dict[str, Any] = {}

    def renamed(spec: Any) -> Any:
        if isinstance(spec, Mapping):
            return {k: renamed(v) for k, v in spec.items()}
        if isinstance(spec, (tuple, list)):
            return type(spec)(map(renamed, spec))
        root = getattr(spec, "root", spec)
        name = getattr(root, "__name__", "")
        if not name or name in equal:
            return spec
        if name not in made:
            made[name] = Dim(f"{name}_{call}", min=root.min, max=root.max)
        return made[name] if root is spec else made[name] * (spec.fn(2) - spec.fn(1)) + (2 * spec.fn(1) - spec.fn(2))

    specs = by_argument(e.names, e.args, e.kwargs, e.dynamic)
    named = dict(zip(e.kwargs, specs[len(e.args) :], strict=True))
    (_, order) = e.program.call_spec.in_spec.unflatten([None] * len(m.inputs))
    return tuple(map(renamed, specs[: len(e.args)])), {k: renamed(named[k]) for k in order}


def _tensor(model: nn.Module, name: str) -> torch.Tensor:
    path, _, last = name.rpartition(".")
    found: torch.Tensor = getattr(model.get_submodule(path), last)
    return found
