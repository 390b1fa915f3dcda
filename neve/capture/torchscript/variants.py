"""Methods captured once for each form that the model's state takes (see `forms`), and joined.

Starting from the archive's, the signatures that calls leave behind are followed until none is new. Then a method is one
branch for each, on a number that is state itself and says which of them the state has now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from neve.capture import diagnose
from neve.capture.torchscript.arguments import Arguments, contents_of, is_size, plain, rearranged
from neve.capture.torchscript.branch import branch
from neve.capture.torchscript.changes import Changes
from neve.capture.torchscript.control import leaf
from neve.capture.torchscript.forms import Component, Form, NumberForm, components
from neve.capture.torchscript.instance import Inputs, Instance, State
from neve.capture.torchscript.machine import Frame, Machine
from neve.capture.torchscript.model import Entry, Model, Settled, StatePlace, part_at
from neve.capture.torchscript.numbers import is_number, kind_of
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.replay import Recording
from neve.capture.torchscript.tape import ATEN, Recorder
from neve.capture.torchscript.values import Names, Num, Place, Raised, Refusal, Var

MAX_SIGNATURES = 16
ACTIVE: Component = ("the variant", NumberForm(int))
"""The number of the signature that the state has; no attribute has a blank in its name."""
RESULT = "the result"


@dataclass
class Variants:
    """The signatures of a model's state, and what capturing the methods in them has found.

    calls: for each signature the calls that first led to it; reasons: why something cannot be captured.
    """

    model: Model
    settled: Settled
    entries: Sequence[Entry]
    state: State
    sizes: bool = True
    signatures: list[dict[StatePlace, Form]] = field(default_factory=list)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    raised: dict[str, dict[int, str]] = field(default_factory=dict)
    results: dict[str, dict[str, int]] = field(default_factory=dict)

    def explore(self) -> None:
        """Follow all calls; ends early with reasons, or when something new about the model is found."""
        before = self.settled.size()
        self.signatures, self.calls = [dict(self.state.initial)], [()]
        for k, _ in enumerate(self.signatures):  # grows as it is walked
            for entry in self.entries:
                self._call(k, entry)
            if self.settled.size() != before or self.reasons:
                return
            if len(self.signatures) > MAX_SIGNATURES:
                self.reasons.append(self._growth())
                return
        for name, messages in self.raised.items():
            if len(messages) == len(self.signatures):
                self.reasons.append(f"{name} raises with the example inputs: {messages[0]}")
        self.reasons += [self._unlike(name, kinds) for name, kinds in self.results.items() if len(kinds) > 1]

    def record(self, entry: Entry) -> Recording | None:
        """A method in all signatures; None if there is a reason against it."""
        return self._run(_Recording(self, entry, range(len(self.signatures)), self.names()), ())

    def names(self) -> dict[Component, str]:
        """A name for each state variable: where it is, if it is the only one there."""
        found = {c: None for s in self.signatures for p, f in s.items() for c in components(f, self.model.path(p))}
        paths = {path for path, _ in found}
        names: dict[Component, str] = {ACTIVE: _unique("variant", paths)}
        for path, form in found:
            alone = sum(p == path for p, _ in found) == 1
            names[path, form] = path if alone else _unique(f"{path}_as_{form.short}", {*paths, *names.values()})
        return names

    def _call(self, k: int, entry: Entry) -> None:
        """One method in one signature: a new signature, a reason, or something new about the model."""
        recording = _Recording(self, entry, [k], {})
        try:
            made = self._run(recording, self.calls[k])
        except Raised as error:
            self.raised.setdefault(entry.name, {})[k] = error.message
            return
        if made is None:
            return
        self.results.setdefault(entry.name, {}).setdefault(_type_of(made.result), k)
        (after,) = recording.after
        if after not in self.signatures:
            self.signatures.append(after)
            self.calls.append((*self.calls[k], entry.name))

    def _run(self, recording: _Recording, calls: Sequence[str]) -> Recording | None:
        """A recording; None with a reason, or with something new about the model."""
        name = recording.entry.name
        try:
            return recording.run()
        except Refusal as error:
            reason = f"{_called(name, calls)}: {error.reason}{_where(error.place)}"
            if not self._need(recording, error.needs, reason):
                self.reasons.append(reason)
        except (
            TypeError, AttributeError, ValueError, LookupError, AssertionError, ArithmeticError, RuntimeError,
            MemoryError,
        ) as error:  # fmt: skip
            what = f"not TorchScript that neve understands: {type(error).__name__}: {error}"
            self.reasons.append(f"{_called(name, calls)}: {what}{_where(recording.tape.place)}")
        return None

    def _need(self, recording: _Recording, names: Names, reason: str) -> bool:
        """Note numbers (arguments, or "self." and the path of state) that capture has to know; False if all are noted.

        An argument becomes a size symbol first, if it may.
        """
        settled, entry = self.settled, recording.entry
        before = settled.size()
        state = {n.removeprefix("self.") for n in names if n.startswith("self.")} - settled.varying
        for path in sorted(state):
            settled.known.setdefault(path, reason)
        fixed, tried = (d.setdefault(entry.name, set()) for d in (settled.fixed, settled.sizes))
        wanted = {n for n in names if not n.startswith("self.")} - fixed
        new = {n for n in wanted - tried if self.sizes and is_size(entry.example(recording.parameters, n))}
        (tried if new else fixed).update(new or wanted)
        return settled.size() != before

    def _unlike(self, name: str, kinds: dict[str, int]) -> str:
        (one, i), (other, k), *_ = kinds.items()
        return (
            f"{_called(name, self.calls[i])}: it returns {one}, and {other} {_after(self.calls[k])}: a method must "
            "return the same types whatever its state"
        )

    def _growth(self) -> str:
        """Why the signatures do not end: the attribute that has most forms."""
        counts = {p: len({s[p] for s in self.signatures}) for p in self.signatures[0]}
        place = max(counts, key=counts.__getitem__)
        path = self.model.path(place)
        shown = list(dict.fromkeys(str(s[place]) for s in self.signatures))
        reason = next((why for known, why in self.settled.known.items() if f"{known}.".startswith(f"{path}.")), None)
        why = f"; its value must be known at capture, because: {reason}" if reason else ""
        return (
            f"the state of the model takes ever new forms from call to call: the attribute {path} is "
            f"{', '.join(shown[:4])}, … (more than {MAX_SIGNATURES} in {' → '.join(self.calls[-1][:4])} → …){why}: "
            "give it a form that stays, or pass it to the method and return it"
        )


class _Recording:
    """One interpretation of a method, in one signature or as a branch for each of several."""

    def __init__(self, variants: Variants, entry: Entry, which: Sequence[int], names: dict[Component, str]) -> None:
        self.variants, self.entry, self.which = variants, entry, list(which)
        model = variants.model
        self.function = model.method(entry.method or entry.name)
        self.tape = Recorder()
        self.inputs = Inputs(model, variants.settled, variants.state, names, self.tape)
        self.after: list[dict[StatePlace, Form]] = []
        self.changed: dict[str, Component] = {}
        self.reads: dict[str, str] = {}
        parameters = [p.arg for p in self.function.parameters][1:]
        self.machine = self._machine(Obj(""), ())
        self.frame = Frame(self.function)
        self.parameters = parameters

    def run(self) -> Recording:
        settled, tape = self.variants.settled, self.tape
        known = (d.get(self.entry.name, ()) for d in (settled.fixed, settled.sizes))
        self.given = Arguments(tape, self.entry, self.parameters, *known)
        self.machine.frames.append(self.frame)
        self._all_sides()
        tape.place = None
        result = plain(self.machine, self.frame.locals[RESULT])
        updates = [(self.inputs.name(c), leaf(self.machine, new, (new,))) for c, new in self._updates()]
        inputs = self.inputs
        return Recording(
            self.entry.name, self.parameters, tape.top, self.given.leaves, inputs.tensors, inputs.used, result, updates,
            self.reads,
        )  # fmt: skip

    def _all_sides(self) -> None:
        if len(self.which) == 1:
            self._side(self.which[0])
            return
        raised = self.variants.raised.get(self.entry.name, {})
        for k, message in raised.items():
            self.tape.fail(self._is_active(k).var, message)
        self._branch([k for k in self.which if k not in raised])

    def _branch(self, left: Sequence[int]) -> None:
        """One of these signatures."""
        first, *others = left
        if others:
            pred = self._is_active(first)
            branch(self.machine, self.frame, pred, lambda: self._side(first), lambda: self._branch(others))
        else:
            self._side(first)

    def _is_active(self, k: int) -> Num:
        """Whether the state has that signature."""
        active: Var = self.inputs.component(ACTIVE).var
        return Num(bool, self.tape.call(ATEN.eq.Scalar, active, k))

    def _side(self, k: int) -> None:
        """The method in one signature: its result and the new state as variables of the frame."""
        tape = self.tape
        tape.sharing = {}  # what other signatures did is of no concern here
        instance = Instance(self.inputs, self.variants.signatures[k])
        self.inputs.share()
        machine = self._machine(instance.root, instance.constants)
        instance.set_state(machine)
        args, kwargs = self.given.fresh()
        before = contents_of(args, kwargs)
        owner = part_at(instance.root, (self.entry.method or self.entry.name).rpartition(".")[0])
        result = machine.run(self.function, owner, args, kwargs)
        if rearranged(before, args, kwargs):
            raise Refusal(
                "it changes which entries a list or dict among its arguments has, which its caller would not see: "
                "return the new one, or write into the tensors that are in it"
            )
        self._note_reads(machine, instance)
        changes = Changes(machine, instance)
        self.given.check_unwritten()
        self.after.append(changes.signature)
        values = dict(changes.values)
        if len(self.which) > 1:
            values |= {c: values.get(c, self.inputs.component(c)) for c in self._all()}
            values[ACTIVE] = self.variants.signatures.index(changes.signature)
        self.frame.locals = {RESULT: result} | {self.inputs.name(c): v for c, v in values.items()}

    def _note_reads(self, machine: Machine, instance: Instance) -> None:
        for (i, name), place in machine.reads.items():
            if i in instance.made:
                path = f"{self.variants.model.paths[id(instance.made[i][1])]}.{name}".lstrip(".")
                self.reads.setdefault(path, f"{place[1]}:{place[2]}" if place else "")

    def _all(self) -> list[Component]:
        path = self.variants.model.path
        return list({c: None for s in self.variants.signatures for p, f in s.items() for c in components(f, path(p))})

    def _updates(self) -> list[tuple[Component, Any]]:
        """The state variables that have changed, with their new content."""
        found = []
        for c in self.inputs.components:
            new = self.frame.locals.get(self.inputs.name(c), self.inputs.component(c))
            if new is not self.inputs.component(c):
                found.append((c, new))
        return found

    def _machine(self, root: Obj, constants: Sequence[Any]) -> Machine:
        model = self.variants.model
        return Machine(model.sources, model.archive.version, root, constants, self.tape)


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _type_of(result: Any) -> str:
    """What a method returns, as far as every signature must return the same."""

    def kind(x: Any) -> str:
        if is_number(x):
            return f"a {kind_of(x).__name__}"
        if isinstance(x, Var):
            return repr(x) if isinstance(x.meta, torch.Tensor) else "a int"
        return repr(x)

    leaves, spec = pytree.tree_flatten(result, is_leaf=lambda x: isinstance(x, (Var, Num)) or x is None)
    kinds = [kind(x) for x in leaves]
    return kinds[0] if spec.is_leaf() else f"{spec.type.__name__} ({', '.join(kinds)})"


def _called(name: str, calls: Sequence[str]) -> str:
    return f"{name} (called after {' and '.join(calls)})" if calls else name


def _after(calls: Sequence[str]) -> str:
    return f"after {' and '.join(calls)}" if calls else "in its first call"


def _where(place: Place | None) -> str:
    return diagnose.where(place[0], place[1:]) if place else ""
