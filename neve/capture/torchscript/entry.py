"""The way in: an archive, or a ScriptModule, and example arguments → methods for torch.export.

A method is interpreted until everything is settled that depends on all methods together: which attributes are state
(some kept method changes them), which tensors are written, which number arguments must keep their example value.
"""

from __future__ import annotations

import collections
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext
from torch.utils import _pytree as pytree

from neve.capture import dynamic as dynamics
from neve.capture.torchscript.archive import Archive, read_archive, refused_classes
from neve.capture.torchscript.control import leaf, same, same_shape, size_tensor
from neve.capture.torchscript.machine import Machine
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.replay import Recording, Replay, Weights
from neve.capture.torchscript.source import Function, Sources
from neve.capture.torchscript.tape import ATEN, Recorder
from neve.capture.torchscript.values import (
    KINDS,
    Bound,
    Dim,
    Named,
    Num,
    Raised,
    Refusal,
    Text,
    Uninitialized,
    Var,
    content,
    describe,
)
from neve.errors import CaptureError

MAX_ROUNDS = 60
Place = tuple[Any, ...]
"""(id of a container of the archive, key, *path through tuples)."""


@dataclass
class Entry:
    """A method to capture and its example call."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: Any = None


@dataclass
class Settled:
    """What has been found out of the model and its methods so far; grows until nothing new is found."""

    state: dict[Place, torch.Tensor] = field(default_factory=dict)
    kinds: dict[Place, type] = field(default_factory=dict)
    written: set[Any] = field(default_factory=set)
    shared: set[int] = field(default_factory=set)
    fixed: dict[str, set[str]] = field(default_factory=dict)

    def size(self) -> int:
        return sum(map(len, (self.state, self.written, self.shared))) + sum(map(len, self.fixed.values()))


@dataclass
class Scripted:
    """What the interpreter made of a model: a recording for each method, and the tensors that they use."""

    recordings: dict[str, Recording]
    weights: Weights
    settled: Settled

    def replay(self, name: str) -> Replay:
        return Replay(self.recordings[name], self.weights)


def archive_of(model: Any) -> Archive:
    """The archive in a file, or of a live ScriptModule."""
    if isinstance(model, (str, os.PathLike)):
        return read_archive(model)
    return read_archive(saved(model))


def saved(model: Any) -> bytes:
    """A live ScriptModule as the bytes of an archive."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(model, buffer)
    return buffer.getvalue()


def interpret(archive: Archive, entries: Sequence[Entry]) -> Scripted:
    """All entries, interpreted. CaptureError with every reason."""
    refused = refused_classes(archive)
    if refused:
        raise CaptureError(refused)
    model = Model(archive)
    settled = Settled()
    for _ in range(MAX_ROUNDS):
        before = settled.size()
        attempts: list[Attempt] = []
        reasons: list[str] = []
        for entry in entries:
            attempt = _attempt(model, entry, settled, reasons)
            attempts += [attempt] if attempt else []
        if settled.size() != before:
            continue
        if reasons:
            raise CaptureError(list(dict.fromkeys(reasons)))
        tensors: dict[str, torch.Tensor] = {}
        for attempt in attempts:
            tensors |= attempt.used
        return Scripted({a.entry.name: a.recording() for a in attempts}, Weights(tensors), settled)
    raise CaptureError("the state of the model does not settle: from call to call its attributes change in new ways")


def _attempt(model: Model, entry: Entry, settled: Settled, reasons: list[str]) -> Attempt | None:
    """One more interpretation of a method; None with a reason, or with an argument more that is fixed."""
    attempt = Attempt(model, entry, settled)
    try:
        attempt.run()
        return attempt
    except Refusal as error:
        wanted = error.needs - settled.fixed.setdefault(entry.name, set())
        if wanted:
            settled.fixed[entry.name] |= wanted
        else:
            reasons.append(model.reason(entry, error))
    except (TypeError, AttributeError, ValueError, LookupError, AssertionError, RecursionError) as error:
        last = attempt.tape.place
        where = f"  (code/{last[0]}:{last[1]})" if last else ""
        reasons.append(f"{entry.name}: not TorchScript that neve understands: {type(error).__name__}: {error}{where}")
    except Raised as error:
        reasons.append(f"{entry.name} raises with the example inputs: {error.message}")
    return None


class Model:
    """An archive, its sources, and where everything in it is."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.sources = archive, Sources(archive.code)
        self.paths: dict[int, str] = {}
        self.keys_by_storage: dict[int, set[Any]] = {}
        self._name(archive.root, "")
        for k, c in enumerate(archive.constants):
            self._name(c, f"constant.{k}")

    def _name(self, value: Any, path: str) -> None:
        if isinstance(value, torch.Tensor):
            self.keys_by_storage.setdefault(value.untyped_storage()._cdata, set()).add(tensor_key(value))
            self.paths.setdefault(id(value), path or "tensor")
            return
        if id(value) in self.paths and isinstance(value, (Obj, list, dict)):
            return
        if isinstance(value, (Obj, list, dict)):
            self.paths[id(value)] = path
        for key, part in parts_of(value):
            self._name(part, f"{path}.{key}".lstrip("."))

    def reason(self, entry: Entry, error: Refusal) -> str:
        return f"{entry.name}: {error.reason}{f'  ({error.place})' if error.place else ''}"

    def method(self, name: str) -> Function:
        """CaptureError if the model has no such method."""
        methods = self.sources.cls(self.archive.root.cls).methods
        if name not in methods:
            known = ", ".join(n for n in methods if not n.startswith("_"))
            raise CaptureError(f"the model has no method {name!r}; it has {known or 'none'}")
        return methods[name]


def parts_of(value: Any) -> list[tuple[Any, Any]]:
    """(key, part) of a container, object or packed context."""
    if isinstance(value, Obj):
        packed = [(f"packed.{i}", v) for i, v in enumerate(value.packed)] if isinstance(value.packed, tuple) else []
        return [*value.attrs.items(), *packed]
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else []


def tensor_key(t: torch.Tensor) -> Any:
    return (t.untyped_storage()._cdata, t.storage_offset(), tuple(t.shape), tuple(t.stride()), t.dtype)


class Attempt:
    """One interpretation of one method, on a copy of the model in which tensors are Vars and state is read."""

    def __init__(self, model: Model, entry: Entry, settled: Settled) -> None:
        self.model, self.entry, self.settled = model, entry, settled
        self.tape = Recorder()
        self.function = model.method(entry.name)
        self.used: dict[str, torch.Tensor] = {}
        self.tensors: dict[Var, str] = {}
        self.by_key: dict[Any, Var] = {}
        self.states: dict[Place, Any] = {}
        self.copies: dict[int, Any] = {}
        self.originals: dict[int, Any] = {}
        self.leaves: list[Var | None] = []
        self.numbers: list[str | None] = []
        self.result: Any = None
        self.updates: list[tuple[str, Var]] = []

    def run(self) -> None:
        root = self._copy(self.model.archive.root)
        constants = [self._copy(c) for c in self.model.archive.constants]
        machine = Machine(self.model.sources, self.model.archive.version, root, constants, self.tape)
        before = {i: content(c) for i, c in self.originals.items()}
        args, kwargs = self._arguments()
        result = machine.call(self.function, [root, *args], kwargs)
        self.tape.place = None
        self.result = self._plain(machine, result)
        self._changes(machine, before)
        self._writes()

    def recording(self) -> Recording:
        names = [p.arg for p in self.function.parameters][1:]
        return Recording(self.entry.name, names, self.tape.top, self.leaves, self.tensors, self.result, self.updates)

    # The model.

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, tuple):
            return tuple(self._copy(v) for v in value)
        if not isinstance(value, (Obj, list, dict)):
            return value
        if id(value) in self.copies:
            return self.copies[id(value)]
        made: Any = Obj(value.cls) if isinstance(value, Obj) else type(value)()
        self.copies[id(value)], self.originals[id(made)] = made, made
        self._source = getattr(self, "_source", {})
        self._source[id(made)] = value
        if isinstance(value, Obj):
            made.attrs = {k: self._entry(value, k, v) for k, v in value.attrs.items()}
            made.packed = self._copy(value.packed)
        elif isinstance(value, dict):
            made.update({k: self._entry(value, k, v) for k, v in value.items()})
        else:
            made.extend(self._entry(value, k, v) for k, v in enumerate(value))
        return made

    def _entry(self, owner: Any, key: Any, value: Any) -> Any:
        """An entry of a container: state is read, all else copied."""
        place = (id(owner), key)
        if place not in self.settled.state:
            return self._copy(value)
        tensor = self.settled.state[place]
        path = f"{self.model.paths[id(owner)]}.{key}".lstrip(".")
        kind = self.settled.kinds[place]
        var = self._state_var(tensor, path)
        self.states[place] = var if kind is torch.Tensor else Num(kind, var)
        if kind is not torch.Tensor:
            # a copy: the number must not change when the state is written
            return Num(kind, self.tape.call(ATEN.clone.default, var))
        return var

    def _state_var(self, tensor: torch.Tensor, path: str) -> Var:
        key = ("state", tensor_key(tensor))
        if key not in self.by_key:
            self.by_key[key] = self._input(tensor, path, known=False)
        return self.by_key[key]

    def _tensor(self, tensor: torch.Tensor) -> Var:
        key = tensor_key(tensor)
        if ("state", key) in self.by_key:
            return self.by_key["state", key]
        if key not in self.by_key:
            path = self.model.paths[id(tensor)]
            storage = tensor.untyped_storage()._cdata
            if storage in self.settled.shared:
                self.by_key[key] = self._view_of_storage(tensor, path)
            else:
                self.by_key[key] = self._input(tensor, path, known=key not in self.settled.written)
        return self.by_key[key]

    def _view_of_storage(self, tensor: torch.Tensor, path: str) -> Var:
        """A tensor that shares memory with others, some of which are written: all are views of the whole memory."""
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        key = ("whole", tensor_key(whole))
        if any(k[0] == "whole" and k[1][0] == key[1][0] and k != key for k in self.by_key if k[0] == "whole"):
            raise Refusal(f"{path} shares memory with tensors of another type, and the model writes it")
        if key not in self.by_key:
            self.by_key[key] = self._input(whole, f"{path}.memory", known=False)
        view: Var = self.tape.call(
            ATEN.as_strided.default, self.by_key[key], list(tensor.shape), list(tensor.stride()),
            tensor.storage_offset(),
        )  # fmt: skip
        return view

    def _input(self, tensor: torch.Tensor, path: str, known: bool) -> Var:
        if tensor.layout is not torch.strided:
            raise Refusal(f"{path} is a tensor of layout {tensor.layout}, which is not supported")
        var = self.tape.input(self.tape.fake(tensor), path, tensor if known else None)
        var.mutated = not known
        self.used[path], self.tensors[var] = tensor, path
        return var

    # Arguments and result.

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        names = [p.arg for p in self.function.parameters][1:]
        entry = self.entry
        if len(entry.args) > len(names):
            raise Refusal(f"it takes {len(names)} arguments ({', '.join(names)}), got {len(entry.args)}")
        unknown = [k for k in entry.kwargs if k not in names]
        if unknown:
            raise Refusal(f"it has no argument {unknown[0]!r}; it has {', '.join(names)}")
        fixed = self.settled.fixed.setdefault(entry.name, set())
        given = [*zip(names, entry.args, strict=False), *entry.kwargs.items()]
        dims = self._dynamic(names)
        values: dict[str, Any] = {}
        for name, value in given:
            leaves, spec = pytree.tree_flatten(value)
            made = [self._argument(name, x, name in fixed, dims) for x in leaves]
            values[name] = pytree.tree_unflatten(made, spec)
        return [values[n] for n in names[: len(entry.args)]], {k: values[k] for k in entry.kwargs}

    def _argument(self, name: str, value: Any, fixed: bool, dims: Mapping[int, Sequence[Any]]) -> Any:
        if isinstance(value, torch.Tensor):
            var = self.tape.input(self._fake(value, name, dims.get(id(value))), name)
            var.mutated = True
            self.leaves.append(var)
            self.numbers.append(None)
            return var
        if type(value) in KINDS and not fixed:
            with self.tape.mode:
                meta = torch.empty((), dtype=KINDS[type(value)])
            var = self.tape.input(meta, name, needs=frozenset({name}))
            var.mutated = True
            self.leaves.append(var)
            self.numbers.append(type(value).__name__)
            return Num(type(value), var)
        if value is None or isinstance(value, (bool, int, float, str, torch.device)):
            self.leaves.append(None)
            self.numbers.append(None)
            return value
        if isinstance(value, torch.dtype):
            self.leaves.append(None)
            self.numbers.append(None)
            from neve.capture.torchscript.schema import dtype_number

            return dtype_number(value)
        raise Refusal(f"the argument {name!r} is a {type(value).__name__}: pass tensors, numbers, strings or None")

    def _dynamic(self, names: list[str]) -> dict[int, Sequence[Any]]:
        """id of an argument tensor → its axes that vary."""
        entry = self.entry
        found: dict[int, Sequence[Any]] = {}
        if not entry.dynamic:
            return found
        specs = dynamics._by_argument(names, entry.args, entry.kwargs, entry.dynamic)
        for value, spec in zip([*entry.args, *entry.kwargs.values()], specs, strict=False):
            for tensor, s in dynamics._pairs(value, spec):
                found[id(tensor)] = list(dynamics._axes(tensor, s))
        return found

    def _fake(self, tensor: torch.Tensor, name: str, axes: Sequence[Any] | None) -> Any:
        if not axes:
            return self.tape.fake(tensor)
        from torch._dynamo.source import ConstantSource

        sizes = [DimDynamic.DYNAMIC if i in axes else DimDynamic.STATIC for i in range(tensor.dim())]
        context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
        source = ConstantSource(f"{name}_{len(self.leaves)}")
        return self.tape.mode.from_tensor(tensor, source=source, symbolic_context=context)

    def _plain(self, m: Machine, value: Any) -> Any:
        """A result as torch.export returns it: containers of tensors, numbers as they are."""
        if isinstance(value, Named):
            cls = collections.namedtuple(value.cls.rpartition(".")[2], value.fields)  # type: ignore[misc] # noqa: PYI024
            return cls(*(self._plain(m, v) for v in value.items))
        if isinstance(value, (list, tuple)):
            return type(value)(self._plain(m, v) for v in value)
        if isinstance(value, dict):
            if not all(isinstance(k, str) for k in value):
                raise Refusal("a dict whose keys are no strings is returned")
            return {k: self._plain(m, v) for k, v in value.items()}
        if isinstance(value, Dim):
            return value.var if value.kind is int else Num(value.kind, size_tensor(m, value))
        if isinstance(value, (Obj, Bound, Text, Uninitialized)):
            raise Refusal(
                f"the method returns {describe(value)}: only tensors, numbers, strings and containers of them"
            )
        if isinstance(value, Var) and value.root in self.tape.tainted:
            raise Refusal(self.tape.tainted[value.root])
        return value

    # What the method changed.

    def _changes(self, m: Machine, before: Mapping[int, Any]) -> None:
        """Find attributes and entries that are not what they were: they are state."""
        holders: dict[Var, list[tuple[str, bool]]] = {}
        for i, made in self.originals.items():
            owner = self._source[i]
            old, new = before[i], content(made)
            if isinstance(old, list):
                old, new = dict(enumerate(old)), dict(enumerate(new))
            where = self.model.paths[id(owner)] or "self"
            if old.keys() != new.keys():
                raise Refusal(
                    f"{where}: {describe(made)} has {len(old)} entries before the call and {len(new)} after it: state "
                    "must keep its size from call to call"
                )
            for key in old:
                path = f"{self.model.paths[id(owner)]}.{key}".lstrip(".")
                if isinstance(new[key], Var):
                    holders.setdefault(new[key].root, []).append((path, not same(old[key], new[key])))
                self._change(m, owner, key, old[key], new[key], path)
        for found in holders.values():
            if len(found) > 1 and any(assigned for _, assigned in found):
                raise Refusal(
                    f"the attributes {' and '.join(path for path, _ in found)} are one tensor after the call, so a "
                    "write to one would change the other in later calls: copy what is assigned (clone)"
                )

    def _change(self, m: Machine, owner: Any, key: Any, old: Any, new: Any, path: str) -> None:
        place = (id(owner), key)
        if place in self.states:
            self._update(m, place, old, new, path)
        elif not (same(old, new) or self._same_container(old, new)):
            self._new_state(place, owner, key, old, new, path)

    def _same_container(self, old: Any, new: Any) -> bool:
        if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
            return all(same(a, b) or self._same_container(a, b) for a, b in zip(old, new, strict=True))
        return False

    def _new_state(self, place: Place, owner: Any, key: Any, old: Any, new: Any, path: str) -> None:
        original = owner.attrs[key] if isinstance(owner, Obj) else owner[key]
        if isinstance(original, torch.Tensor) and isinstance(new, Var):
            self._require_type(old, new, path)
            self.settled.state[place], self.settled.kinds[place] = original, torch.Tensor
        elif type(original) in KINDS and _kind(new) is type(original):
            kind = type(original)
            self.settled.state[place] = torch.tensor(original, dtype=KINDS[kind])
            self.settled.kinds[place] = kind
        else:
            raise Refusal(
                f"the attribute {path} is {describe(old)} before the call and {describe(new)} after it: state must "
                "keep its type, size and structure from call to call; give it its final form when the model is made"
            )

    def _require_type(self, old: Any, new: Var, path: str) -> None:
        if new.meta.dtype is not old.meta.dtype or not same_shape(new.meta.shape, old.meta.shape):
            raise Refusal(
                f"the attribute {path} is {describe(old)} before the call and {describe(new)} after it: state must"
                " keep its shape and type from call to call; give it its final form when the model is made"
            )

    def _update(self, m: Machine, place: Place, old: Any, new: Any, path: str) -> None:
        state = self.states[place]
        if same(old, new):
            return
        if isinstance(state, Var):
            if not isinstance(new, Var):
                raise Refusal(f"the attribute {path} is a tensor before the call and {describe(new)} after it")
            self._require_type(state, new, path)
            if new.root is state.root and new is not state:
                raise Refusal(f"the attribute {path} becomes a view of itself: copy it (clone)")
            self.updates.append((path, new))
            return
        if _kind(new) is not state.kind:
            raise Refusal(f"the attribute {path} is {describe(state)} before the call and {describe(new)} after it")
        self.updates.append((path, leaf(m, new, (new, state))))

    def _writes(self) -> None:
        """Note tensors of the model that are written in place, with all that share their memory."""
        by_var = {v: k for k, v in self.by_key.items()}
        for var, path in self.tensors.items():
            key = by_var[var]
            if key[0] == "whole":
                continue
            real = key[1] if key[0] == "state" else key
            wrote = var.root.mutated and real not in self.settled.written and key[0] != "state"
            if wrote or key[0] == "state":
                if key[0] != "state":
                    self.settled.written.add(real)
                if len(self.model.keys_by_storage.get(real[0], ())) > 1:
                    self.settled.shared.add(real[0])
            if var in self.tape.tainted and (wrote or real in self.settled.written or key[0] == "state"):
                raise Refusal(f"{path}: {self.tape.tainted[var]}")


def _kind(value: Any) -> type:
    return value.kind if isinstance(value, (Num, Dim)) else type(value)
