"""The model as one interpretation of a method finds it: a copy in which tensors are Vars and state is read."""

from __future__ import annotations

from typing import Any

import torch

from neve.capture.held import whole_of
from neve.capture.torchscript.model import Model, Place, Settled, tensor_key
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.tape import ATEN, Recorder
from neve.capture.torchscript.values import Num, Refusal, Var, content


class Instance:
    """A copy of a model on a tape.

    root, constants: what the machine runs on; states: the state places as they are before the call; tensors, used: the
    inputs of the tape that are tensors of the model, and these by their paths.
    """

    def __init__(self, model: Model, settled: Settled, tape: Recorder) -> None:
        self.model, self.settled, self.tape = model, settled, tape
        self.used: dict[str, torch.Tensor] = {}
        self.tensors: dict[Var, str] = {}
        self.by_key: dict[Any, Var] = {}
        self.states: dict[Place, Any] = {}
        self.made: dict[int, tuple[Any, Any]] = {}
        self._copies: dict[int, Any] = {}
        self.root = self._copy(model.archive.root)
        self.constants = [self._copy(c) for c in model.archive.constants]
        self.before = {i: content(made) for i, (made, _) in self.made.items()}

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, tuple):
            return tuple(self._copy(v) for v in value)
        if not isinstance(value, (Obj, list, dict)):
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        made: Any = Obj(value.cls) if isinstance(value, Obj) else type(value)()
        self._copies[id(value)], self.made[id(made)] = made, (made, value)
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
        return self._at((id(owner), key), value)

    def _at(self, place: Place, value: Any) -> Any:
        if place not in self.settled.state:
            if isinstance(value, tuple):
                return tuple(self._at((*place, i), v) for i, v in enumerate(value))
            return self._copy(value)
        tensor = self.settled.state[place]
        path = self.model.path(place)
        kind = self.settled.kinds[place]
        var = self._state_var(tensor, path)
        self.states[place] = var if kind is torch.Tensor else Num(kind, var)
        if kind is not torch.Tensor:
            # a copy: the number must not change when the state is written
            return Num(kind, self.tape.call(ATEN.clone.default, var))
        var.loose = place in self.settled.loose
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
            path += ".before" if storage in self.settled.apart else ""  # its first name may be that of a state now
            if storage in self.settled.shared:
                self.by_key[key] = self._view_of_storage(tensor, path)
            else:
                self.by_key[key] = self._input(tensor, path, known=key not in self.settled.written)
        return self.by_key[key]

    def _view_of_storage(self, tensor: torch.Tensor, path: str) -> Var:
        """A tensor that shares memory with others, some of which are written: all are views of the whole memory."""
        whole = whole_of(tensor)
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
        if self.used.setdefault(path, tensor) is not tensor:
            raise AssertionError(f"two tensors are called {path}")
        self.tensors[var] = path
        return var
