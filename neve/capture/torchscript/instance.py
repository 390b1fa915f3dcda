"""The model as one interpretation of a method finds it: a copy in which tensors are Vars and state is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.held import whole_of
from neve.capture.torchscript.forms import Component, Form, NumberForm, Reader, build, shared_message, state_need
from neve.capture.torchscript.model import CONTENT, Model, Settled, StatePlace, tensor_key
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.tape import ATEN, Recorder
from neve.capture.torchscript.values import KINDS, Num, Refusal, Var, content

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

Signature = Mapping[StatePlace, Form]


class State:
    """The state variables of a model: for each component its initial content, zeros if it is none at first.

    initial: the signature of the archive.
    """

    def __init__(self, model: Model, settled: Settled) -> None:
        self.model, self.settled = model, settled
        reader = Reader(model.sources, settled.known)
        self.initial = {p: reader.form(model.initial(p), model.path(p)) for p in self._places()}
        self._tensors = {c: _content(value, c) for c, value in reader.leaves.items()}
        self._refuse_shared(reader)

    def _places(self) -> list[StatePlace]:
        """The places of state that are not inside another one."""
        places = self.settled.state
        inside: set[int] = set()
        for p in places:
            _containers(self.model.initial(p), inside, top=p[1] is CONTENT)
        return [p for p in places if p[0] not in inside and (p[1] is CONTENT or (p[0], CONTENT) not in places)]

    def _refuse_shared(self, reader: Reader) -> None:
        model = self.model
        for i, path in reader.containers.items():
            if model.holders[i] > 1 and (i, CONTENT) not in self.settled.state:
                raise Refusal(shared_message(model.paths[i], path, "one container"))
        for (path, _), value in reader.leaves.items():
            if not isinstance(value, torch.Tensor):
                continue
            storage = value.untyped_storage()._cdata
            if len(model.tensors_of[storage]) < 2:
                continue
            self.settled.tie(path, storage)
            written = path in self.settled.overwritten or any(k[0] == storage for k in self.settled.written)
            if written:
                raise Refusal(
                    f"{path} is the memory of several attributes until one of them is assigned, and is written in "
                    "place: copy it when the model is made (clone), or write it in place everywhere (copy_)"
                )

    def tensor(self, component: Component) -> torch.Tensor:
        """Its initial content."""
        if component not in self._tensors:
            self._tensors[component] = _zeros(component)
        return self._tensors[component]


def _zeros(component: Component) -> torch.Tensor:
    form = component[1]
    if isinstance(form, NumberForm):
        return torch.zeros((), dtype=KINDS[form.kind])
    return torch.zeros(form.shape, dtype=form.dtype)


def _content(value: Any, component: Component) -> torch.Tensor:
    form = component[1]
    if isinstance(form, NumberForm):
        return torch.tensor(value, dtype=KINDS[form.kind])
    if value.layout is not torch.strided:
        raise Refusal(f"{component[0]} is a tensor of layout {value.layout}, which is not supported")
    return value.detach().clone(memory_format=torch.contiguous_format)  # type: ignore[no-any-return]


def _containers(value: Any, found: set[int], top: bool = False) -> None:
    """The ids of the containers in a value, itself included unless top."""
    if isinstance(value, (list, dict, Obj)) and not top:
        found.add(id(value))
    parts = value.attrs.values() if isinstance(value, Obj) else value.values() if isinstance(value, dict) else value
    if isinstance(value, (list, tuple, dict, Obj)):
        for v in parts:
            _containers(v, found)


class Inputs:
    """The tensors of a model as inputs of a tape, each once: those of the archive and the state variables.

    names: those of state variables; tensors: the names of the inputs; used: the tensors by these names.
    """

    def __init__(
        self, model: Model, settled: Settled, state: State, names: Mapping[Component, str], tape: Recorder
    ) -> None:
        self.model, self.settled, self.state, self.names, self.tape = model, settled, state, names, tape
        self.used: dict[str, torch.Tensor] = {}
        self.tensors: dict[Var, str] = {}
        self.archive: dict[Any, Var] = {}
        self.components: dict[Component, Any] = {}

    def component(self, c: Component) -> Any:
        """A state variable's content before the call: a Var or a Num."""
        if c not in self.components:
            path, form = c
            number = isinstance(form, NumberForm)
            needs = state_need(path) if number else frozenset()
            var = self._input(self.state.tensor(c), self.name(c), False, needs)
            var.loose = path in self.settled.loose
            self.components[c] = Num(form.kind, var) if isinstance(form, NumberForm) else var
        return self.components[c]

    def share(self) -> None:
        """Let the tape know which of the inputs so far may be one memory."""
        members: dict[str | int, list[Var]] = {}
        for (path, _), value in self.components.items():
            if isinstance(value, Var):
                members.setdefault(path, []).append(value)
        for key, var in self.archive.items():
            if key[0] != "whole":
                members.setdefault(key[0], []).append(var)
        for group in {id(g): g for g in self.settled.ties.values()}.values():
            known: list[Var] = []
            for var in (v for m in group for v in members.get(m, ())):
                self.tape.may_share(var, known)
                known.append(var)

    def name(self, c: Component) -> str:
        """The name of a state variable."""
        return self.names.get(c, f"{c[0]} as {c[1]}")

    def tensor(self, tensor: torch.Tensor) -> Var:
        """A tensor of the archive."""
        key = tensor_key(tensor)
        if key not in self.archive:
            path = self._name(self.model.paths[id(tensor)])
            if key[0] in self.settled.shared:
                self.archive[key] = self._view_of_storage(tensor, path)
            else:
                self.archive[key] = self._input(tensor, path, key not in self.settled.written)
        return self.archive[key]

    def _name(self, path: str) -> str:
        """A name for a tensor of the archive: where it is, unless state is there that started as a copy of it."""
        name, state, others = path, set(self.names.values()), set(self.model.paths.values())
        while name in state or (name != path and name in others):
            name += "_"
        return name

    def _view_of_storage(self, tensor: torch.Tensor, path: str) -> Var:
        """A tensor that shares memory with others, some of which are written: all are views of the whole memory."""
        whole = whole_of(tensor)
        key = ("whole", tensor_key(whole))
        if any(k[0] == "whole" and k[1][0] == key[1][0] and k != key for k in self.archive):
            raise Refusal(f"{path} shares memory with tensors of another type, and the model writes it")
        if key not in self.archive:
            self.archive[key] = self._input(whole, f"{path}.memory", False)
        with self.tape.at_top():
            view: Var = self.tape.call(
                ATEN.as_strided.default, self.archive[key], list(tensor.shape), list(tensor.stride()),
                tensor.storage_offset(),
            )  # fmt: skip
        return view

    def _input(self, tensor: torch.Tensor, name: str, known: bool, needs: frozenset[str] = frozenset()) -> Var:
        if tensor.layout is not torch.strided:
            raise Refusal(f"{name} is a tensor of layout {tensor.layout}, which is not supported")
        with self.tape.at_top():
            var = self.tape.input(self.tape.fake(tensor), name, tensor if known else None, needs)
        var.mutated = not known
        if self.used.setdefault(name, tensor) is not tensor:
            raise AssertionError(f"two tensors are called {name}")
        self.tensors[var] = name
        return var


class Instance:
    """A copy of a model in a state of the given signature, for one interpretation.

    root, constants: what the machine runs on; made: id of each copied container → (it, the archive's, what it held
    before the call), but for those inside a place of state; places: where the values of such places are.
    """

    def __init__(self, inputs: Inputs, signature: Signature) -> None:
        self.inputs, self.signature = inputs, signature
        self.places: dict[StatePlace, Any] = {}
        self.numbers: dict[Var, Num] = {}
        self._copies: dict[int, Any] = {}
        self._made: list[tuple[Any, Any]] = []
        archive = inputs.model.archive
        self.root = self._copy(archive.root)
        self.constants = [self._copy(c) for c in archive.constants]
        self.made = {id(copy): (copy, owner, content(copy)) for copy, owner in self._made}

    def set_state(self, m: Machine) -> None:
        """Give objects of classes that have a __setstate__ their attributes by it."""
        for copy, _ in self._made:
            if isinstance(copy, Obj) and copy.packed is not None and ".torch.classes." not in copy.cls:
                state, copy.packed = copy.packed, None
                m.call_method(copy, "__setstate__", [state], {})
        self.made = {id(copy): (copy, owner, content(copy)) for copy, owner in self._made}

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.inputs.tensor(value)
        if isinstance(value, tuple):
            return tuple(self._copy(v) for v in value)
        if not isinstance(value, (Obj, list, dict)):
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        made: Any = Obj(value.cls) if isinstance(value, Obj) else type(value)()
        self._copies[id(value)] = made
        self._made.append((made, value))
        if (id(value), CONTENT) in self.signature:
            self.places[id(value), CONTENT] = made
            held = build(self.signature[id(value), CONTENT], self.inputs.model.path((id(value), CONTENT)), self._read)
            made.update(held) if isinstance(made, dict) else made.extend(held)
        elif isinstance(value, Obj):
            made.attrs = {k: self._entry(value, made, k, v) for k, v in value.attrs.items()}
            made.packed = self._copy(value.packed)
        elif isinstance(value, dict):
            made.update({k: self._entry(value, made, k, v) for k, v in value.items()})
        else:
            made.extend(self._entry(value, made, k, v) for k, v in enumerate(value))
        return made

    def _entry(self, owner: Any, made: Any, key: Any, value: Any) -> Any:
        """An entry of a container: state is read, all else copied."""
        place = (id(owner), key)
        if place not in self.signature:
            return self._copy(value)
        self.places[place] = made
        return build(self.signature[place], self.inputs.model.path(place), self._read)

    def _read(self, c: Component) -> Any:
        """A state variable as the call finds it."""
        value = self.inputs.component(c)
        if isinstance(value, Num):
            # a copy: the number must not change when the state is written
            read = Num(value.kind, self.inputs.tape.call(ATEN.clone.default, value.var))
            self.numbers[read.var] = value
            return read
        return value
