"""Snapshots: a frozen module's own copy of the model that it was made from, which nothing changes afterwards."""

from __future__ import annotations

import copy
import os
import re
import types
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neve.errors import CaptureError, FreezeError, ModelError, NeveError, model_error

INTERNAL = frozenset({"training", "dump_patches", "T_destination", "call_super_init"})
ARCHIVES = (".pt", ".ptl", ".jit", ".pth")


class Method:
    """Says that a name of a model is one of its methods."""


class Part:
    """Says that a name of a model is one of its submodules."""


class Snapshot(ABC):
    """A model as it was; `model` is what `neve.compile` takes.

    Names are dotted paths from the root.
    """

    model: Any

    @abstractmethod
    def look(self, path: str) -> Any:
        """The Method or Part of that name, or the value of that attribute. KeyError if the model has no such thing."""

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """The attributes, methods and submodules of the root ("") or a submodule."""

    @abstractmethod
    def replaced(self, values: Mapping[str, Any]) -> Snapshot:
        """A copy in which attributes have other values."""

    def training(self) -> bool:
        """Whether the model itself is in training mode."""
        return False

    def has(self, path: str) -> bool:
        try:
            self.look(path)
        except KeyError:
            return False
        return True

    def run(self, method: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """What PyTorch gives for a call, on copies of model and arguments."""
        from neve.capture.examples import Call
        from neve.check.verify import clone, original

        call = Call(tuple(args), dict(kwargs or {}))
        return original(self.model, method, call, stateful=True)(*clone(call.args), **clone(dict(call.kwargs)))

    def error_of(self, method: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Exception | None:
        """What PyTorch itself raises for a call, None if nothing or if that is not known; of TorchScript, whose
        errors hide what the code raised, a ModelError that is also of that type.
        """
        import torch

        try:
            self.run(method, args, kwargs)
        except NeveError:
            return None
        except torch.jit.Error as error:
            return _raised(str(error))
        except Exception as error:
            return error
        return None

    def attributes(self, path: str = "") -> Iterator[tuple[str, Any]]:
        """(path, value) of every attribute of the model, or of a submodule."""
        for name in self.names(path):
            yield from self.values(f"{path}.{name}".lstrip("."))

    def tied(self, path: str) -> list[str]:
        """The paths of other tensors that share memory with the tensor at path."""
        import torch

        def memory(value: Any) -> int:
            strided = isinstance(value, torch.Tensor) and value.layout is torch.strided
            return value.untyped_storage().data_ptr() if strided else 0

        place = memory(self.look(path))
        return [p for p, v in self.attributes() if p != path and memory(v) == place] if place else []

    def values(self, path: str) -> Iterator[tuple[str, Any]]:
        """(path, value) of an attribute, or of all attributes of a submodule and those below it."""
        found = self.look(path)
        if isinstance(found, Part):
            for name in self.names(path):
                yield from self.values(f"{path}.{name}")
        elif not isinstance(found, Method):
            yield path, found

    def methods(self, path: str) -> Iterator[str]:
        """The paths of a method, or of all methods of a submodule and those below it."""
        found = self.look(path)
        if isinstance(found, Method):
            yield path
        elif isinstance(found, Part):
            for name in self.names(path):
                yield from self.methods(f"{path}.{name}")


def _raised(text: str) -> ModelError:
    """The error that a report of the TorchScript interpreter ends with: "builtins.ValueError: the message"."""
    found = re.search(
        r"^(?:builtins\.|RuntimeError: (?=\w+Error: ))?(\w+): (.*)",
        text.rpartition("<--- HERE")[2],
        re.DOTALL | re.MULTILINE,
    )
    kind, message = found.groups() if found else ("RuntimeError", text)
    return model_error(kind)(message.strip())


class ModuleSnapshot(Snapshot):
    """Of an nn.Module: a deep copy, which keeps what shares memory in it shared."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def look(self, path: str) -> Any:
        from torch import nn

        found, owner = self.model, None
        for part in path.split("."):
            owner = found
            if isinstance(owner, (list, tuple, dict)):
                found = entry(owner, part, path)
                continue
            if not isinstance(owner, nn.Module) or not part or not hasattr(owner, part):
                raise KeyError(path)
            found = getattr(owner, part)
        if isinstance(found, nn.Module):
            return Part()
        return Method() if callable(found) else found

    def names(self, path: str) -> list[str]:
        from torch import nn

        owner = self.model.get_submodule(path)
        kept = [k for k in vars(owner) if not k.startswith("_") and k not in INTERNAL]
        held = [k for d in (owner._parameters, owner._buffers, owner._modules) for k, v in d.items() if v is not None]
        own = [k for c in type(owner).__mro__ if c is not nn.Module and issubclass(c, nn.Module) for k in vars(c)]
        methods = [k for k in own if not k.startswith("_") and callable(getattr(owner, k, None)) and k not in INTERNAL]
        return list(dict.fromkeys([*kept, *held, *methods]))

    def replaced(self, values: Mapping[str, Any]) -> Snapshot:
        model = _copied(self.model)
        for path, value in values.items():
            assign(model, path, value)
        return ModuleSnapshot(model)

    def training(self) -> bool:
        return bool(self.model.training)


class ScriptSnapshot(Snapshot):
    """Of a ScriptModule: the bytes of its archive, which needs no torch.jit to be read."""

    def __init__(self, data: bytes) -> None:
        from neve.capture.torchscript.archive import read_archive
        from neve.capture.torchscript.source import Sources

        self.model = data
        archive = read_archive(data)
        self._root, self._sources = archive.root, Sources(archive.code)

    def look(self, path: str) -> Any:
        from neve.capture.torchscript.pickles import Obj

        found = self._root
        for part in path.split("."):
            if isinstance(found, (list, tuple, dict)):
                found = entry(found, part, path)
            elif not isinstance(found, Obj):
                raise KeyError(path)
            elif part in found.attrs:
                found = found.attrs[part]
            elif part in self._sources.cls(found.cls).methods:
                found = Method()
            else:
                raise KeyError(path)
        return Part() if isinstance(found, Obj) else found

    def names(self, path: str) -> list[str]:
        found = self._root
        for part in path.split(".") if path else ():
            found = found.attrs[part]
        attributes = [k for k in found.attrs if not k.startswith("_") and k not in INTERNAL]
        return list(dict.fromkeys([*attributes, *self._sources.cls(found.cls).methods]))

    def replaced(self, values: Mapping[str, Any]) -> Snapshot:
        import io

        import torch

        from neve.capture.torchscript.entry import saved

        if not values:
            return self
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model: Any = torch.jit.load(io.BytesIO(self.model))  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise FreezeError(
                    f"torch cannot load this archive ({str(error).strip().splitlines()[0][:120]}), which is needed to "
                    "write other values into it"
                ) from error
            for path, value in values.items():
                assign(model, path, value)
        return ScriptSnapshot(saved(model))

    def training(self) -> bool:
        return self._root.attrs.get("training") is True


class ProgramSnapshot(Snapshot):
    """Of an ExportedProgram."""

    def __init__(self, program: Any) -> None:
        self.model = program

    def look(self, path: str) -> Any:
        if path == "forward":
            return Method()
        tensors = {**self.model.state_dict, **self.model.constants}
        if path in tensors:
            return tensors[path]
        if any(name.startswith(f"{path}.") for name in tensors):
            return Part()
        raise KeyError(path)

    def names(self, path: str) -> list[str]:
        start = f"{path}." if path else ""
        found = [n for n in (*self.model.state_dict, *self.model.constants) if n.startswith(start)]
        return list(dict.fromkeys(n.removeprefix(start).partition(".")[0] for n in found))

    def replaced(self, values: Mapping[str, Any]) -> Snapshot:
        program = copy.deepcopy(self.model)
        for path, value in values.items():
            tensors = program.state_dict if path in program.state_dict else program.constants
            tensors[path].data.copy_(value)
        return ProgramSnapshot(program)


def snapshot(model: Any) -> Snapshot:
    """A copy of a model, or of what is in a file.

    TypeError for what is no model; CaptureError if it cannot be copied or the file cannot be read.
    """
    import torch
    from torch.export import ExportedProgram

    if isinstance(model, (str, os.PathLike)):
        if os.fspath(model).endswith(ARCHIVES):
            return ScriptSnapshot(_read(os.fspath(model)))
        from neve.capture.export import load_program

        return ProgramSnapshot(load_program(model, None, None).program)
    if isinstance(model, torch.jit.ScriptModule):
        from neve.capture.torchscript.entry import archive_of, saved

        try:
            archive_of(model)  # refuses what an archive cannot hold
            return ScriptSnapshot(saved(model))
        except RuntimeError as error:
            raise CaptureError(f"the ScriptModule cannot be saved, so it cannot be copied: {error}") from error
    if isinstance(model, ExportedProgram):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ProgramSnapshot(copy.deepcopy(model))
    if isinstance(model, torch.nn.Module):
        try:
            return ModuleSnapshot(_copied(model))
        except Exception as error:
            raise CaptureError(
                f"{type(model).__name__} cannot be copied ({type(error).__name__}: {str(error)[:200]}), and a frozen "
                "module needs a copy of its own: give the class a __deepcopy__, or freeze a torch.export program of it"
            ) from error
    raise TypeError(
        f"Got {type(model)}, but ScriptModule is expected. An nn.Module, an ExportedProgram, a frozen module and the "
        "path of a .pt2, .pt or .ptl file will do as well"
    )


def _copied(model: Any) -> Any:
    """A deep copy in which functions that were made around the model, such as lambdas and hooks, are about the copy."""
    memo: dict[int, Any] = {}
    made = copy.deepcopy(model, memo)
    for module in made.modules():
        for held in (vars(module), *(d for k, d in vars(module).items() if k.endswith("_hooks") and d)):
            for name, value in list(held.items()):
                if isinstance(value, types.FunctionType):
                    held[name] = _about(value, memo)
    return made


def _about(function: types.FunctionType, memo: Mapping[int, Any]) -> types.FunctionType:
    """The function with copies in its closure and defaults in the place of what was copied."""

    def copied(value: Any) -> Any:
        return memo.get(id(value), value)

    def content(cell: Any) -> Any:
        try:
            return cell.cell_contents
        except ValueError:  # nothing is in it yet
            return None

    cells = function.__closure__ or ()
    if not any(id(content(c)) in memo for c in cells):
        return function
    closure = tuple(types.CellType(copied(content(c))) if id(content(c)) in memo else c for c in cells)
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, closure)
    made.__defaults__ = tuple(map(copied, function.__defaults__)) if function.__defaults__ else None
    made.__kwdefaults__ = {k: copied(v) for k, v in (function.__kwdefaults__ or {}).items()}
    return made


def entry(owner: Any, parts: str, path: str) -> Any:
    """The entry of a list, tuple or dict that the rest of a path names. KeyError if there is none."""
    for part in parts.split("."):
        owner = owner[_key(owner, part, path)]
    return owner


def set_entry(owner: Any, parts: str, value: Any) -> None:
    """Put a value where the rest of a path is in a list or dict."""
    above, _, last = parts.rpartition(".")
    owner = entry(owner, above, parts) if above else owner
    owner[_key(owner, last, parts)] = value


def _key(owner: Any, part: str, path: str) -> Any:
    keys = owner if isinstance(owner, dict) else range(len(owner)) if isinstance(owner, (list, tuple)) else ()
    for key in keys:
        if str(key) == part:
            return key
    raise KeyError(path)


def assign(model: Any, path: str, value: Any) -> None:
    """Give an attribute, or an entry of one, a value; a tensor of the same type goes into the one there, which others
    may share.
    """
    import torch

    parts = path.split(".")
    owner, name = model, parts.pop(0)
    while parts and not isinstance(getattr(owner, name), (list, tuple, dict)):
        owner, name = getattr(owner, name), parts.pop(0)
    held, rest = getattr(owner, name), ".".join(parts)
    old = entry(held, rest, path) if rest else held
    if isinstance(old, torch.Tensor) and isinstance(value, torch.Tensor):
        if old.shape == value.shape and old.dtype == value.dtype:
            with torch.no_grad():
                old.copy_(value)
            return
        value = value.detach().clone()
        value = torch.nn.Parameter(value) if isinstance(old, torch.nn.Parameter) else value
    if rest:
        set_entry(held, rest, copy.deepcopy(value))
    setattr(owner, name, held if rest else copy.deepcopy(value))  # lists of a script are copies


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CaptureError(f"{path} cannot be read: {error.strerror or error}") from error
