"""What an artifact was compiled from, again: its model captured with the artifact's own examples, sizes and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import Dim

from neve.artifact import Artifact, choose_target, open_module
from neve.build.target import Target, parse_target
from neve.build.toolchain import Compiler, find_compiler
from neve.capture.examples import Call, Examples
from neve.capture.export import capture, is_code
from neve.check.prove import Original
from neve.errors import VerifyError
from neve.runtime.expressions import Tree, linear
from neve.runtime.loader import Module
from neve.runtime.signature import MethodSignature
from neve.runtime.tensors import torch_dtype
from neve.runtime.trees import arguments, builder


@dataclass(frozen=True, eq=False)
class Recaptured:
    """A module of an artifact, and its original captured as it was for it."""

    module: Module
    original: Original
    target: Target
    compiler: Compiler


def recapture(artifact: Artifact, model: Any, threads: int | None = None) -> Recaptured:
    """The artifact as a module beside its model (what `neve.compile` takes).

    Raises VerifyError if the artifact has no examples, CaptureError if the model cannot be captured any more.
    """
    module = open_module(artifact, threads=threads)
    examples = {
        name: _examples(artifact, method.signature)
        for name, method in module.methods.items()
        if artifact.examples.get(name)
    }
    if not examples:
        raise VerifyError(f"{artifact.name} carries no examples, so the model cannot be captured as it was")
    options = dict(artifact.extra.get("options", {}))
    preserved = options.pop("preserved_attrs", ())
    if is_code(model):
        program = capture(model, methods={k: e.spec for k, e in examples.items()}, preserved_attrs=preserved)
    else:
        program = capture(model, preserved_attrs=preserved)
    options["disable"] = tuple(options.get("disable", ()))
    target = choose_target(artifact) if artifact.libraries else parse_target("native")
    return Recaptured(module, Original(model, examples, program, options), target, find_compiler(target, None))


def _examples(artifact: Artifact, signature: MethodSignature) -> Examples:
    """The artifact's example calls of a method, with the sizes that its signature lets vary."""
    own = artifact.extra.get("methods", {}).get(signature.name, signature.name)
    calls = tuple(call_of(signature, example.inputs) for example in artifact.examples[signature.name])
    return Examples(calls, dynamic_shapes(signature), own if own != signature.name else "")


def call_of(signature: MethodSignature, inputs: Any) -> Call:
    """The call with these flat inputs, numpy arrays in their memory form, as torch tensors and Python numbers."""
    flat = [_value(a, t) for a, t in zip(inputs, signature.inputs, strict=True)]
    return Call(*arguments(signature, flat))


def _value(array: np.ndarray, tensor: Any) -> Any:
    if tensor.scalar:
        return np.asarray(array).item()
    bits = np.array(array)
    if tensor.dtype == "bfloat16":
        return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(bits).to(torch_dtype(torch, tensor.dtype))


def dynamic_shapes(signature: MethodSignature) -> Any:
    """torch.export's dynamic_shapes for the sizes that a signature lets vary; None if there are none."""
    if not signature.symbols:
        return None
    limits = {s.name: {"min": s.min} | ({} if s.max is None else {"max": s.max}) for s in signature.symbols}
    dims = {name: Dim(name, **given) for name, given in limits.items()}
    names = list(dims)
    specs = [_axes(t.shape, names, dims) if not t.symbol else Dim.DYNAMIC for t in signature.inputs]
    build = [builder(tree)(specs) for tree in signature.args]
    if not signature.kwargs:
        return build
    keys = [signature.inputs[t["leaf"]].name if "leaf" in t else str(i) for i, t in enumerate(signature.args)]
    named = dict(zip(keys, build, strict=True))
    return named | {k: builder(tree)(specs) for k, tree in signature.kwargs.items()}


def _axes(shape: tuple[Tree, ...], names: list[str], dims: Mapping[str, Any]) -> dict[int, Any] | None:
    found = {}
    for axis, size in enumerate(shape):
        if isinstance(size, int):
            continue
        form = linear(size, names)
        used = [(n, f) for n, f in (form[0].items() if form else ()) if f]
        if form is None or len(used) != 1:
            found[axis] = Dim.AUTO
            continue
        ((name, factor),) = used
        scaled = dims[name] if factor == 1 else factor * dims[name]
        found[axis] = scaled + form[1] if form[1] else scaled
    return found or None
