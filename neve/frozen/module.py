"""FrozenModule: what `neve.freeze` and its like return, as a ScriptModule that was frozen behaves."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neve.errors import FreezeError
from neve.frozen.snapshot import Method, Part, Snapshot
from neve.frozen.specialise import Options, Specialisations, own

FUNCTIONS = "get_bundled_inputs_functions_and_info"


class FrozenModule:
    """A snapshot of a model in evaluation mode, compiled for each form of call that it sees.

    It takes whatever the model takes. The first call with new types, dtypes or shapes compiles (seconds; the logger
    "neve.frozen" says so), later ones do not; at most 32 such specialisations are kept. What methods write is kept from
    call to call, whichever specialisation runs. Results are tensors without gradients, as under torch.no_grad().

    Methods and attributes that were preserved are there by name; such an attribute is read at run time and can be set;
    writing into its tensor counts. Others raise AttributeError. Nothing that happens to the original matters here, and
    nothing here changes it.

    Calls raise what the model itself raises for such arguments; CaptureError if neve cannot compile it; ModelError
    where an assert or raise in compiled code is reached.
    """

    def __init__(self, origin: Snapshot, methods: Sequence[str], kept: Sequence[str], options: Options) -> None:
        values = {path: value for name in kept for path, value in origin.values(name)}
        self._set("_origin", origin)
        self._set("_methods", tuple(methods))
        self._set("_kept", tuple(kept))
        self._set("_code", Specialisations(origin, options, values))
        self._set("_flags", {})
        self._set("_python", _bundled(origin))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _mark(self, name: str, value: Any) -> None:
        """Give the module a flag, such as mobile_optimized."""
        self._flags[name] = value

    # Calls, and what was preserved.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("forward")(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training":
            self._flags[name] = bool(value)
        else:
            self._assign(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be removed from a frozen module")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(n.partition(".")[0] for n in (*self._methods, *self._kept))})

    def _get(self, path: str) -> Any:
        if path in self._python:
            return self._python[path]
        if path in self._methods:
            return self._method(path)
        code = self._code
        if path in code.settings:
            with code.lock:
                return code.values[path]
        if any(n.startswith(f"{path}.") for n in (*self._methods, *code.settings)) or path in self._kept:
            return FrozenPart(self, path)
        if path in self._flags:
            return self._flags[path]
        what = "the frozen module" if "." not in path else f"its {path.rpartition('.')[0]}"
        known = ", ".join(n for n in (*self._methods, *self._kept)) or "nothing"
        raise AttributeError(
            f"{what} has no attribute {path.rpartition('.')[2]!r}: preserved are {known}; what is needed "
            f"later has to be named when it is frozen (preserved_attrs=[{path!r}])"
        )

    def _method(self, path: str) -> Any:
        if path not in self._methods:
            raise AttributeError(
                f"the frozen module has no method {path!r}; it has {', '.join(self._methods) or 'none'}"
            )

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._code.call(path, args, kwargs)

        call.__name__ = call.__qualname__ = path.rpartition(".")[2]
        return call

    def _assign(self, path: str, value: Any) -> None:
        code = self._code
        if path not in code.settings:
            raise AttributeError(
                f"{path} cannot be set: it is folded into the code; name it when the module is frozen "
                f"(preserved_attrs=[{path!r}])"
            )
        with code.lock:
            old = code.values[path]
            if not _fits(old, value):
                raise FreezeError(
                    f"{path}: got {_describe(value)}, wanted {_describe(old)}, as it was when the module was frozen"
                )
            others = self._origin.tied(path)
            if others:
                raise FreezeError(
                    f"{path} shares memory with {', '.join(others)}, and would not any more with another tensor: write "
                    f"the new content into it ({path}.copy_(value)), which changes both"
                )
            code.values[path] = own(value)

    # What a torch module has.

    def eval(self) -> FrozenModule:
        """Sets the flag `training`, which has no effect: what is frozen computes as in evaluation mode."""
        return self.train(False)

    def train(self, mode: bool = True) -> FrozenModule:
        """As `eval`."""
        self._flags["training"] = bool(mode)
        return self

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """None: weights are constants of the code."""
        return iter(())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Any]]:
        """As `parameters`."""
        return iter(())

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """As `parameters`."""
        return iter(())

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Any]]:
        """As `parameters`."""
        return iter(())

    def children(self) -> Iterator[Any]:
        """The submodules that were preserved."""
        return (m for _, m in self.named_children())

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """As `children`, with their names."""
        for name in self._kept:
            if isinstance(self._origin.look(name), Part) and "." not in name:
                yield name, self._get(name)

    def modules(self) -> Iterator[Any]:
        """The module itself and the submodules that were preserved."""
        yield self
        yield from self.children()

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        """As `modules`, with their names."""
        yield "", self
        yield from self.named_children()

    def state_dict(self) -> dict[str, Any]:
        """Empty: weights are constants of the code."""
        return collections.OrderedDict()

    def to(self, *args: Any, **kwargs: Any) -> FrozenModule:
        """Itself, for the device "cpu". Raises FreezeError for any other: constants are not converted."""
        if kwargs or any(str(a) != "cpu" for a in args):
            raise FreezeError("a frozen module cannot be converted: convert the model, then freeze it")
        return self

    # What is compiled.

    @property
    def graph(self) -> str:
        """The optimized graph of what is compiled, as text, the latest last; before any call, why there is none."""
        codes = self._code.codes
        if not codes:
            return (
                "no graph yet: nothing is compiled before the sizes of the arguments are known, by the first call or "
                "by example_inputs=(x,)"
            )
        if len(codes) == 1:
            return str(codes[0].module.graph)
        return "\n".join("; ".join(f"{m}({t})" for m, t in c.texts.items()) + f"\n{c.module.graph}" for c in codes)

    @property
    def specialisations(self) -> list[str]:
        """The forms of call that code is kept for, the least recently used first: "forward(float32[1, 3])"."""
        return [f"{m}({t})" for c in self._code.codes for m, t in c.texts.items()]

    def save(self, path: str | Path) -> None:
        """Writes a `.neve` file with all methods, each for the form of its latest compiled call, that starts with what
        methods have written so far. FreezeError if a method's arguments are not known yet.
        """
        self._code.artifact(self._methods).save(path)

    def _save_for_lite_interpreter(self, path: str | Path) -> None:
        """`save`, under the name that it had."""
        warnings.warn(
            f"{path}: a .neve file is written, for neve.load; the lite interpreter cannot read it", stacklevel=2
        )
        self.save(path)

    def __repr__(self) -> str:
        return "\n".join([f"<neve frozen module: {', '.join(self._methods) or 'no methods'}>", *self.specialisations])

    def __reduce__(self) -> Any:
        raise TypeError("a frozen module cannot be pickled or copied: use save(path) and neve.load(path), or freeze it")


class FrozenPart:
    """A submodule of a frozen module, as far as it was preserved; its attributes are those of the frozen module."""

    def __init__(self, owner: FrozenModule, path: str) -> None:
        object.__setattr__(self, "_owner", owner)
        object.__setattr__(self, "_path", path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._owner._get(f"{self._path}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self._owner._assign(f"{self._path}.{name}", value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._owner._method(f"{self._path}.forward")(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self._path} of a frozen module>"


def _fits(old: Any, new: Any) -> bool:
    """Whether an attribute that had the old value may get the new one: of the same type; None goes with anything."""
    import torch

    if old is None or new is None:
        return True
    if isinstance(old, torch.Tensor):
        return isinstance(new, torch.Tensor)
    if type(old) is float and type(new) is int:
        return False
    return type(old) is type(new)


def _describe(value: Any) -> str:
    return type(value).__name__ if value is not None else "None"


def _bundled(origin: Snapshot) -> dict[str, Any]:
    """What `neve.bundled_inputs` put into the model, by name: all of it or, if it is not complete, nothing."""
    if not isinstance(_look(origin, FUNCTIONS), Method):
        return {}
    found: dict[str, Any] = {FUNCTIONS: lambda: origin.run(FUNCTIONS)}
    names = list(origin.run(FUNCTIONS))
    methods = [f"get_all_bundled_inputs_for_{n}" for n in names]
    methods += ["get_all_bundled_inputs", "get_num_bundled_inputs"] if "forward" in names else []
    if not all(isinstance(_look(origin, m), Method) for m in methods):
        return {}
    for m in methods:
        found[m] = lambda m=m: origin.run(m)
    for n in names:
        found[f"_bundled_inputs_deflated_{n}"] = _look(origin, f"_bundled_inputs_deflated_{n}")
    return found


def _look(origin: Snapshot, name: str) -> Any:
    try:
        return origin.look(name)
    except KeyError:
        return None
