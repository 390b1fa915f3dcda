"""A compiled program as a Python object: torch tensors in, torch tensors out; numpy arrays in, numpy arrays out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neve.errors import NeveError
from neve.runtime.attributes import MISSING, Attributes, StateView, lookup
from neve.runtime.call import Entry, fast_path
from neve.runtime.context import Context
from neve.runtime.native import Bytes, NativeLibrary, default_threads
from neve.runtime.signature import Signature, read_signature
from neve.runtime.trees import builder


class Method:
    """One entry point of a Module; call it like the model's own method.

    Arguments are torch tensors or numpy arrays of the dtypes in `signature` (any strides; detached from autograd),
    and Python numbers where the model took them. If any argument is a torch tensor, or there are none and torch is
    imported, the outputs are torch tensors; bfloat16 is uint16 in numpy. InputError tells which argument is wrong;
    ModelError: the model raised.
    """

    def __init__(self, entry: Entry) -> None:
        self.signature = entry.method
        self.__name__ = entry.method.name
        self._entry = entry
        self.fast: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fast is not None:
            return self.fast(*args, **kwargs)
        result = self._entry.slow(args, kwargs)
        if self._entry.fast_plans:
            self.fast = fast_path(self._entry)
        return result

    def __repr__(self) -> str:
        return f"<method {self.signature}>"


class Module:
    """A compiled program: call it, or its other methods by name; `reset()` and `state` for models that remember.

    The model's attributes that are read at run time (`preserved_attrs` of `neve.compile`, and what its methods write)
    are attributes here, too: `module.sub.scale = 2.0`; see `Attributes`. A name that this class has already is reached
    by `module.attributes["name"]` alone.

    One module runs one call at a time: calls from several Python threads wait for each other. `clone()` gives another
    module on the same weights whose calls run beside this one's. `artifact` is what it was opened from, if anything.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.signature = context.signature
        self.name = context.signature.name
        self.artifact: Any = None
        self.methods = {name: Method(Entry(context, m)) for name, m in context.signature.methods.items()}
        self.state, self.attributes = StateView(context), Attributes(context)
        self._forward = self.methods.get("forward") or next(iter(self.methods.values()))
        for name, method in self.methods.items():
            if name not in self.__dict__ and not hasattr(type(self), name):
                setattr(self, name, method)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self._forward
        return (method.fast or method)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__.get("attributes")
        if attributes is not None and (found := lookup(attributes, name)) is not MISSING:
            return found
        methods = ", ".join(self.__dict__.get("methods", {}))
        raise AttributeError(f"this module has no method or attribute {name!r}; its methods are {methods}")

    def __setattr__(self, name: str, value: Any) -> None:
        attributes = self.__dict__.get("attributes", {})
        if name in self.__dict__ or hasattr(type(self), name) or not attributes:
            object.__setattr__(self, name, value)
        elif name in attributes:
            attributes[name] = value
        elif any(k.startswith(f"{name}.") for k in attributes):
            raise AttributeError(f"{name} is a submodule of the model: set its attributes ({name}.…)")
        else:
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return "\n".join([f"<neve module {self.name}>", *(f"  {m.signature}" for m in self.methods.values())])

    def __reduce__(self) -> Any:
        raise TypeError(
            "a compiled module cannot be pickled or copied: use module.save(path) and neve.load(path), or clone()"
        )

    @property
    def threads(self) -> int:
        """On how many threads a call runs, at most those that the model can use; the results are the same bits."""
        return self._context.threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._context.use_threads(count)

    @property
    def graph(self) -> str:
        """The optimized graph as text, "" if it was opened without one."""
        return str(self.artifact.graph) if self.artifact else ""

    @property
    def example_inputs(self) -> tuple[Any, ...]:
        """The arguments of the first example that came with the module, as numpy arrays; () if none did."""
        method = self._forward.signature
        examples = self.artifact.examples.get(method.name) if self.artifact else None
        return tuple(builder(tree)(examples[0].inputs) for tree in method.args) if examples else ()

    def reset(self) -> None:
        """All state back to its initial content; random numbers are torch's again, after `manual_seed`."""
        self._context.reset()

    def manual_seed(self, seed: int | None) -> None:
        """Seeds the random numbers: calls draw what the model draws after `torch.manual_seed(seed)`, from a stream of
        the module's own, which no other code moves on, until `manual_seed(None)` or `reset()`.

        Without it they come from torch's default generator, which a call moves on as the model would, so that
        `torch.manual_seed(5); module(x)` is `torch.manual_seed(5); model(x)`; in a process without torch from a stream
        of the module's own that starts at torch's default seed. NeveError if the module draws none.
        """
        self._context.seed(seed)

    def clone(self) -> Module:
        """Another module on the same weights and code, with a state of its own that starts at its initial content."""
        old = self._context
        made = Module(Context(old.library, old.signature, old.weights, old.threads))
        made.artifact = self.artifact
        return made

    def save(self, path: str | Path) -> None:
        """Writes the `.neve` file; the state in it is the initial one."""
        if self.artifact is None:
            raise NeveError(f"{self.name} was opened without an artifact, so there is nothing to save")
        self.artifact.save(path)


def open_library(path: Path | str, signature: dict[str, Any], weights: Bytes, threads: int | None = None) -> Module:
    """The module of a built library; signature is the JSON form of `neve.runtime.signature`, weights are used in place.

    threads is on how many a call runs, by default `default_threads()`. ArtifactError if library, signature and
    weights do not belong together.
    """
    made: Signature = read_signature(signature)
    flat = weights.reshape(-1).view(np.uint8)
    library = NativeLibrary(path, made.name)
    return Module(Context(library, made, flat, default_threads() if threads is None else threads))
