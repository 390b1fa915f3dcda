"""From what the command line says of a model to the model: a file, or a factory in a module."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import keyword
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
_DYNAMIC = re.compile(r"(?P<arg>\w+):(?P<dim>\d+)(=(?P<name>[A-Za-z_]\w*))?(:(?P<min>\d+)\.\.(?P<max>\d+)?)?", re.ASCII)
LARGEST = 2**31 - 1
"""Of what a size may be at most."""


@dataclass(frozen=True)
class Loaded:
    """A model with its example call; args None: the model brings its own."""

    model: Any
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def check_spec(spec: str) -> tuple[str, str]:
    """The place and the factory that a MODEL names; UsageError, before anything is imported, if it cannot be one."""
    place, colon, name = (spec, "", "") if spec.endswith(ARCHIVES) else spec.rpartition(":")
    if not place or (colon and not name) or not (colon or spec.endswith(ARCHIVES)):
        raise UsageError(f"{spec!r} is no model: wanted model.pt2, package.module:factory or path/to/file.py:factory")
    if place.endswith((".py", *ARCHIVES)) and not Path(place).is_file():
        raise UsageError(f"there is no file {place}")
    return place, name


def load_model(spec: str) -> Loaded:
    """The model that `model.pt2`, `package.module:factory` or `path/to/file.py:factory` names.

    UsageError: there is no such file, module or factory. CaptureError: the factory raised, or gave no model.
    """
    need_torch()
    place, name = check_spec(spec)
    if not name:
        return Loaded(spec)
    module = _import(place)
    try:
        factory = getattr(module, name)
    except AttributeError:
        there = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UsageError(f"{place} has no {name!r}; it has {', '.join(sorted(there)) or 'no functions'}") from None
    return _made(spec, factory)


@dataclass(frozen=True)
class DynamicSize:
    """One --dynamic: a dim of an argument, the name of its size, and the range (None: not limited)."""

    text: str
    argument: str
    dim: int
    name: str
    range: tuple[int, int | None] | None


def read_dynamic(asked: Sequence[str]) -> list[DynamicSize]:
    """Options such as "x:0", "x:0=batch" and "x:0=batch:1..64". UsageError for what contradicts itself."""
    made: list[DynamicSize] = []
    for text in asked:
        found = _DYNAMIC.fullmatch(text)
        if found is None:
            raise UsageError(
                f"--dynamic {text!r}: wanted ARG:DIM, ARG:DIM=NAME or ARG:DIM=NAME:MIN..MAX, as in ids:1=seq:2..512"
            )
        name = found["name"] or f"{found['arg']}_{found['dim']}"
        name = name if name[0].isalpha() else f"d{name}"
        if keyword.iskeyword(name):
            raise UsageError(f"--dynamic {text!r}: {name} is a word of Python: take another name")
        low, high = int(found["min"] or 0), int(found["max"]) if found["max"] else None
        if high is not None and not max(low, 1) <= high <= LARGEST:
            raise UsageError(f"--dynamic {text!r}: wanted MIN..MAX with 0 <= MIN <= MAX and MAX from 1 to {LARGEST}")
        size = DynamicSize(text, found["arg"], int(found["dim"]), name, (low, high) if found["min"] else None)
        for other in made:
            if (other.argument, other.dim) == (size.argument, size.dim):
                raise UsageError(f"--dynamic {text!r} and {other.text!r} are about the same dim: leave one out")
            if other.name == name and size.range and other.range and size.range != other.range:
                raise UsageError(f"--dynamic {text!r} and {other.text!r}: {name} is one size, and has two ranges")
        made.append(size)
    return made


def dynamic_shapes(loaded: Loaded, asked: Sequence[DynamicSize]) -> Any:
    """torch.export's dynamic_shapes, None if nothing is asked.

    An argument is named, or has its position where forward takes *args; dims of one name are equal.
    """
    if not asked:
        return None
    from torch import nn
    from torch.export import Dim

    if not isinstance(loaded.model, nn.Module) or loaded.args is None:
        raise UsageError("--dynamic is for a factory that gives (model, args): a .pt2 file has its sizes already")
    ranges = {s.name: s.range for s in sorted(asked, key=lambda s: s.range is not None)}
    dims = {n: Dim(n, min=r[0], max=r[1]) if r else Dim(n) for n, r in ranges.items()}
    wanted: dict[str, list[DynamicSize]] = {}
    for size in asked:
        wanted.setdefault(size.argument, []).append(size)

    known: list[str] = []

    def of(name: str, value: Any) -> Any:
        known.append(name)
        return {s.dim: dims[s.name] for s in wanted.pop(name, ()) if _has_dim(value, s)} or None

    try:
        bound = inspect.signature(loaded.model.forward).bind(*loaded.args, **loaded.kwargs)
    except TypeError as error:
        raise CaptureError(f"the example arguments do not fit forward: {error}") from error
    shapes: dict[str, Any] = {}
    for parameter, value in bound.arguments.items():
        if bound.signature.parameters[parameter].kind is inspect.Parameter.VAR_POSITIONAL:
            shapes[parameter] = tuple(of(str(i), v) for i, v in enumerate(value))
        elif bound.signature.parameters[parameter].kind is inspect.Parameter.VAR_KEYWORD:
            shapes[parameter] = {key: of(key, v) for key, v in value.items()}
        else:
            shapes[parameter] = of(parameter, value)
    if wanted:
        raise UsageError(f"--dynamic: forward has no argument {', '.join(wanted)}; it has {', '.join(known)}")
    return shapes


def _has_dim(value: Any, size: DynamicSize) -> bool:
    """True; UsageError if an example argument has no such dim, or its size there is outside of the range."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise UsageError(
            f"--dynamic {size.text!r}: the example's {size.argument} is no tensor but {_kind(value)}"
            " (neve.compile in Python takes dynamic_shapes for tensors in lists and dicts)"
        )
    if size.dim >= value.dim():
        raise UsageError(
            f"--dynamic {size.text!r}: the example's {size.argument} has the dims 0 to {value.dim() - 1} only, "
            f"its shape is {list(value.shape)}"
            if value.dim()
            else f"--dynamic {size.text!r}: the example's {size.argument} has no dims, it is a number"
        )
    low, high = size.range or (0, None)
    if not low <= value.shape[size.dim] <= (LARGEST if high is None else high):
        raise UsageError(
            f"--dynamic {size.text!r}: the example's {size.argument} has the size {value.shape[size.dim]} there, "
            "which is outside of the range"
        )
    return True


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
    name = type(value).__name__
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _raised(what: str, error: BaseException) -> str:
    """Where in the user's own code an import or a factory failed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent != Path(__file__).parent]
    own = [f for f in frames if "importlib" not in f.filename]
    place = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
    return f"{what} raised {type(error).__name__}: {error}{place}"
