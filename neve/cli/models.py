"""From what the command line says of a model to the model: a file, or a factory in a module."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neve.cli.console import MissingPackageError, UsageError
from neve.errors import CaptureError

ARCHIVES = (".pt2", ".pt", ".ptl")
_DYNAMIC = re.compile(r"(?P<arg>\w+):(?P<dim>\d+)(=(?P<name>[A-Za-z_]\w*))?(:(?P<min>\d+)\.\.(?P<max>\d+)?)?")


@dataclass(frozen=True)
class Loaded:
    """A model with its example call; args None: the model brings its own."""

    model: Any
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def load_model(spec: str) -> Loaded:
    """The model that `model.pt2`, `package.module:factory` or `path/to/file.py:factory` names.

    UsageError: there is no such file, module or factory. CaptureError: the factory raised, or gave no model.
    """
    need_torch()
    if spec.endswith(ARCHIVES):
        if not Path(spec).is_file():
            raise UsageError(f"there is no file {spec}")
        return Loaded(spec)
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"{spec!r} is no model: wanted model.pt2, package.module:factory or path/to/file.py:factory")
    module = _import(place)
    try:
        factory = getattr(module, name)
    except AttributeError:
        there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(f"{place} has no {name!r}; it has {', '.join(sorted(there)) or 'no functions'}") from None
    return _made(spec, factory)


def dynamic_shapes(loaded: Loaded, asked: Sequence[str]) -> Any:
    """torch.export's dynamic_shapes for options such as "x:0", "x:0=batch" and "x:0=batch:1..64"; None if there are
    none.

    The name of an argument, or its position where forward takes *args; dims of one name are equal.
    """
    if not asked:
        return None
    from torch import nn
    from torch.export import Dim

    if not isinstance(loaded.model, nn.Module) or loaded.args is None:
        raise UsageError("--dynamic is for a factory that gives (model, args): a .pt2 file has its sizes already")
    wanted: dict[str, dict[int, Any]] = {}
    dims: dict[str, Any] = {}
    for text in asked:
        found = _DYNAMIC.fullmatch(text)
        if found is None:
            raise UsageError(
                f"--dynamic {text!r}: wanted ARG:DIM, ARG:DIM=NAME or ARG:DIM=NAME:MIN..MAX, as in ids:1=seq:2..512"
            )
        name = found["name"] or f"{found['arg']}_{found['dim']}"
        name = name if name[0].isalpha() else f"d{name}"
        if name not in dims or found["min"]:
            limits = {"min": int(found["min"])} if found["min"] else {}
            limits |= {"max": int(found["max"])} if found["max"] else {}
            dims[name] = Dim(name, **limits)
        wanted.setdefault(found["arg"], {})[int(found["dim"])] = name
    bound = inspect.signature(loaded.model.forward).bind(*loaded.args, **loaded.kwargs)
    shapes: dict[str, Any] = {}
    for parameter, value in bound.arguments.items():
        if bound.signature.parameters[parameter].kind is inspect.Parameter.VAR_POSITIONAL:
            shapes[parameter] = tuple(wanted.pop(str(i), None) for i in range(len(value)))
        elif bound.signature.parameters[parameter].kind is inspect.Parameter.VAR_KEYWORD:
            shapes[parameter] = {key: wanted.pop(key, None) for key in value}
        else:
            shapes[parameter] = wanted.pop(parameter, None)
    if wanted:
        raise UsageError(f"--dynamic: forward has no argument {', '.join(wanted)}; it has {', '.join(shapes)}")
    return _with_dims(shapes, dims)


def _with_dims(value: Any, dims: Mapping[str, Any]) -> Any:
    """The same structure, with each dim's name replaced by its Dim."""
    if isinstance(value, dict):
        return {k: dims[v] if isinstance(k, int) else _with_dims(v, dims) for k, v in value.items()}
    return tuple(_with_dims(v, dims) for v in value) if isinstance(value, tuple) else value


def need_torch() -> None:
    """MissingPackageError if torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise MissingPackageError(
            "compiling needs PyTorch: pip install 'neve[compile]' (run, bench, inspect and verify do not)"
        )


def _import(place: str) -> Any:
    """The module of a dotted name, looked for in the current folder too, or of a .py file."""
    try:
        if not place.endswith(".py"):
            sys.path.insert(0, str(Path.cwd()))
            return importlib.import_module(place)
        path = Path(place).resolve()
        if not path.is_file():
            raise UsageError(f"there is no file {place}")
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(error.name + ".")):
            raise UsageError(
                f"there is no module {place!r} (no {error.name!r}), neither installed nor in this folder"
            ) from error
        raise CaptureError(_raised(place, error)) from error
    except Exception as error:
        raise CaptureError(_raised(place, error)) from error
    return module


def _made(spec: str, factory: Any) -> Loaded:
    from torch import nn
    from torch.export import ExportedProgram

    made = factory
    if callable(factory) and not isinstance(factory, (nn.Module, ExportedProgram)):
        try:
            made = factory()
        except Exception as error:
            raise CaptureError(_raised(f"{spec}()", error)) from error
    parts = made if isinstance(made, tuple) else (made,)
    model, args, kwargs = (*parts, None, None)[:3] if len(parts) <= 3 else (None, None, None)
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise CaptureError(f"{spec}() gave {_kind(made)}, wanted a model, (model, args) or (model, args, kwargs)")
    bundled = any(hasattr(model, f"get_{what}") for what in ("all_bundled_inputs", "bundled_inputs_functions_and_info"))
    if isinstance(model, nn.Module) and args is None and kwargs is None and not bundled:
        raise CaptureError(
            f"{spec}() gave a model alone: let it return (model, args), args being a tuple of example inputs, or "
            "bundle inputs with the model (neve.bundled_inputs)"
        )
    if args is not None and not isinstance(args, (tuple, list)):
        args = (args,)
    return Loaded(model, None if args is None and kwargs is None else tuple(args or ()), dict(kwargs or {}))


def _kind(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"


def _raised(what: str, error: BaseException) -> str:
    """Where in the user's own code an import or a factory failed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent != Path(__file__).parent]
    own = [f for f in frames if "importlib" not in f.filename]
    place = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
    return f"{what} raised {type(error).__name__}: {error}{place}"
