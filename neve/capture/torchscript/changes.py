"""What a method left changed in the model: attributes and entries that become state, tensors that it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from neve.capture.torchscript.control import same
from neve.capture.torchscript.forms import Component, Form, Reader, shared_message
from neve.capture.torchscript.instance import Instance
from neve.capture.torchscript.machine import Machine
from neve.capture.torchscript.memory import contiguous
from neve.capture.torchscript.model import CONTENT, StatePlace, entry_of
from neve.capture.torchscript.values import Named, Num, Refusal, Var, content


class Holder(NamedTuple):
    """A place that holds a tensor after the call. member: as of `Settled.ties`; new: whether it held another before."""

    path: str
    member: str | int
    new: bool
    written: bool


class Changes:
    """Compares an instance after the call with what it was before, and notes in `settled` what is found.

    signature: the state's after the call; values: each of its state variables' new content, a Var or a number.
    """

    def __init__(self, m: Machine, instance: Instance) -> None:
        self.m, self.instance, self.inputs, self.tape = m, instance, instance.inputs, m.tape
        self.model, self.settled = self.inputs.model, self.inputs.settled
        self.signature: dict[StatePlace, Form] = {}
        self.values: dict[Component, Any] = {}
        self._find_state()
        self._find_writes()
        self._read_state()

    def _find_state(self) -> None:
        """Entries that are not what they were and are not known to be state."""
        for made, owner, before in self.instance.made.values():
            self.m.heap.check(made)
            if (id(owner), CONTENT) in self.instance.places:
                continue
            old, new = _entries(before), _entries(content(made))
            if old.keys() != new.keys():
                self.settled.state[id(owner), CONTENT] = None
                continue
            for key in old:
                if (id(owner), key) not in self.instance.places and not _same(old[key], new[key]):
                    self.settled.state[id(owner), key] = None

    def _find_writes(self) -> None:
        """Tensors that are written in place, with all that share their memory."""
        inputs, settled, tape = self.inputs, self.settled, self.tape
        for key, var in inputs.archive.items():
            if key[0] == "whole":
                continue
            if var in tape.versions:
                settled.written.add(key)
                if len(set(self.model.tensors_of[key[0]])) > 1:
                    settled.shared.add(key[0])
            tape.use(var.root)
        for (path, _), value in inputs.components.items():
            if isinstance(value, Var):
                if value in tape.versions:
                    settled.overwritten.add(path)
                tape.use(value)

    def _read_state(self) -> None:
        """The signature after the call. Refusal if one tensor or container would be reached from two places."""
        reader = Reader(self.model.sources, self.settled.known)
        for place, made in self.instance.places.items():
            self.signature[place] = reader.form(entry_of(made, place[1]), self.model.path(place))
        for i in self.tape.invalidated.keys() & reader.containers.keys():
            raise Refusal(self.tape.invalidated[i])
        inner = reader.containers.items() - {(id(made), self.model.path(p)) for p, made in self.instance.places.items()}
        for i, path in inner:
            if i in self.instance.made:
                raise Refusal(shared_message(self.model.paths[id(self.instance.made[i][1])], path, "one container"))
        for c, value in reader.leaves.items():
            number = isinstance(value, Num) and value.var in self.instance.numbers
            self.values[c] = self.instance.numbers[value.var] if number else value
            if isinstance(value, Var):
                self.values[c] = self._tensor(c[0], value)
        self._refuse_shared_tensors()

    def _tensor(self, path: str, value: Var) -> Var:
        """The new content of a state tensor, which the next call finds dense."""
        new = self.tape.use(value)
        if new.loose or not contiguous(new.meta):
            self.settled.loose.add(path)
        return new

    def _refuse_shared_tensors(self) -> None:
        """Tensors that two places hold after the call are copies of each other from then on, unless one is written."""
        holders: dict[Var, list[Holder]] = {}
        for c, value in self.values.items():
            if isinstance(value, Var):
                new = value is not self.inputs.component(c)
                for root in self.tape.may_be(value):
                    holders.setdefault(root, []).append(Holder(c[0], c[0], new, c[0] in self.settled.overwritten))
        keys = {var: key for key, var in self.inputs.archive.items()}
        for path, var in self._other_tensors():
            if var in keys and var.root in holders:
                holders[var.root].append(Holder(path, keys[var][0], False, keys[var] in self.settled.written))
        for found in holders.values():
            if len(found) > 1 and any(h.new for h in found):
                if any(h.written for h in found):
                    first, second, *_ = sorted(found, key=lambda h: not h.written)
                    raise Refusal(shared_message(first.path, second.path, "one tensor") + " (clone)")
                self.settled.tie(*(h.member for h in found))

    def _other_tensors(self) -> Iterator[tuple[str, Var]]:
        """The tensors that are not state, where they are."""
        for made, owner, _ in self.instance.made.values():
            for key, value in _entries(content(made)).items():
                if (id(owner), key) not in self.instance.places and (id(owner), CONTENT) not in self.instance.places:
                    for v in _tensors(value):
                        yield self.model.path((id(owner), key)), v


def _entries(held: Any) -> dict[Any, Any]:
    return dict(enumerate(held)) if isinstance(held, list) else held


def _same(old: Any, new: Any) -> bool:
    """Whether an entry is what it was; a container if it is the same one (what it holds is looked at by itself)."""
    if isinstance(old, Named) and isinstance(new, Named):
        old, new = old.items, new.items
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        return all(_same(a, b) for a, b in zip(old, new, strict=True))
    return same(old, new)


def _tensors(value: Any) -> Iterator[Var]:
    if isinstance(value, Var):
        yield value
    elif isinstance(value, (tuple, Named)):
        for v in value.items if isinstance(value, Named) else value:
            yield from _tensors(v)
