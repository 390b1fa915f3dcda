"""Comparison of a compiled module with the original: the errors that `neve.compile` states and refuses."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neve.errors import ModelError, VerifyError
from neve.ir.types import real_form
from neve.ops.random import DEFAULT_SEED
from neve.runtime.passed import changed
from neve.runtime.signature import MethodSignature
from neve.runtime.trees import flatten

if TYPE_CHECKING:
    from neve.capture.examples import Call
    from neve.ir.graph import Graph, Node, Value

TOLERANCE = {
    "float32": 1e-4, "float64": 1e-9, "float16": 4e-3, "bfloat16": 3e-2, "complex64": 1e-4, "complex128": 1e-9,
}  # fmt: skip
"""Largest difference that is accepted, relative to the largest magnitude of the output; other dtypes must be equal."""


def tolerance(dtype: str, computed: str = "") -> float:
    """For an output of a dtype, of whose computation some is in the dtype `computed` (see `computed_in`)."""
    return max(TOLERANCE[dtype], TOLERANCE.get(computed, 0.0)) if dtype in TOLERANCE else 0.0


def narrowest(dtypes: Iterable[str]) -> str:
    """The least precise floating-point dtype of some; "" of none."""
    return max(dtypes, key=lambda d: TOLERANCE.get(d, 0.0), default="")


@dataclass(frozen=True)
class Difference:
    """Of one output: the largest difference, relative to the largest finite magnitude of what was expected."""

    method: str
    output: int
    dtype: str
    error: float
    computed: str = ""

    @property
    def accepted(self) -> bool:
        return self.error <= tolerance(self.dtype, self.computed)

    def __str__(self) -> str:
        return f"{self.method}, output {self.output} ({self.dtype}): {self.error:.1e}"


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    """max |got − want| / max |want| over finite elements; infinite if shapes, NaNs or infinities differ.

    Subnormal numbers, which have fewer digits, count as the smallest normal one. For exact types 0 or infinite.
    """
    if got.shape != want.shape:
        return math.inf
    if got.size == 0:
        return 0.0
    got, want = real_form(got), real_form(want)
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(got, want) else math.inf
    wide, ref = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(ref)
    if not np.array_equal(np.isnan(wide), np.isnan(ref)) or not np.array_equal(wide[np.isinf(ref)], ref[np.isinf(ref)]):
        return math.inf
    if not finite.any():
        return 0.0
    scale = float(np.abs(ref[finite]).max())
    difference = float(np.abs(wide[finite] - ref[finite]).max())
    return difference / max(scale, float(np.finfo(want.dtype).tiny)) if scale > 0 else difference


Result = list[np.ndarray] | Exception
"""Flat, or what the model raised."""


def attempt(run: Callable[..., Any], call: Call, method: MethodSignature) -> list[Any] | Exception:
    """The outcome of a call, or what the model raises."""
    try:
        return outcome(run, call, method)
    except Exception as error:  # anything that a model may raise
        return error


def flat_copies(found: list[Any] | Exception) -> Result:
    """An outcome as flat arrays that later calls do not change."""
    return found if isinstance(found, Exception) else [np.array(a) for a in flat_arrays(found)]


def original(model: Any, method: str, call: Call, stateful: bool) -> Callable[..., Any]:
    """A method of the original in evaluation mode, to be called with arguments like these, at first on its initial
    state.

    A model that changes itself is copied first, not touched; arguments are not copied.
    """
    import torch

    from neve.capture.entry_module import method_of
    from neve.capture.export import evaluation, is_scripted

    mode: Callable[[], AbstractContextManager[Any]] = nullcontext
    if is_scripted(model):
        from neve.capture.torchscript.capture import eager

        function: Any = eager(model, method, call.args, call.kwargs)
    elif isinstance(model, torch.export.ExportedProgram):
        function = model.module()
    else:
        model = copy.deepcopy(model) if stateful else model
        function, mode = method_of(model, method), partial(evaluation, model)

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), warnings.catch_warnings(), mode():
            warnings.simplefilter("ignore")
            return function(*args, **kwargs)

    return run


@contextmanager
def seeded() -> Iterator[None]:
    """torch's random numbers from its default seed on; those of the caller go on afterwards as if nothing had been."""
    import torch

    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(DEFAULT_SEED)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def outcome(run: Callable[..., Any], call: Call, method: MethodSignature) -> list[Any]:
    """The result of a call on copies of the arguments, and by output number what the method has changed in these."""
    args: tuple[Any, ...] = clone(tuple(call.args))
    kwargs: dict[str, Any] = clone(dict(call.kwargs))
    inputs = flatten(method, args, kwargs) if method.writes else []
    result = run(*args, **kwargs)
    after = changed(method, args, kwargs, inputs) if method.writes or method.becomes else {}
    return [result.to_tuple() if hasattr(type(result), "to_tuple") else result, after]


def clone(value: Any) -> Any:
    """The value with every tensor in it copied, so that a call cannot change the caller's."""
    import torch

    from neve.capture.objects import tree_map

    return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, value)


def flat_arrays(value: Any) -> Iterator[np.ndarray]:
    """The tensors in a result, as numpy arrays (bfloat16 as float32, complex numbers as their parts along a last axis),
    in order; numbers count as arrays.
    """
    import torch

    from neve.capture.constants import in_parts
    from neve.capture.objects import tree_leaves

    for x in tree_leaves(value if not hasattr(type(value), "to_tuple") else value.to_tuple()):
        if isinstance(x, torch.Tensor):
            x = in_parts(x.detach().cpu())
            yield (x.float() if x.dtype is torch.bfloat16 else x).resolve_neg().numpy()
        elif isinstance(x, (bool, int, float)):
            yield np.asarray(x)


def torch_program(model: Any) -> Any:
    """The model itself, or what the file at a path holds; a TorchScript archive stays a path (see `reference`)."""
    import torch

    from neve.capture.export import is_scripted

    if is_scripted(model):
        return model
    return torch.export.load(model) if isinstance(model, (str, os.PathLike)) else model


def computed_in(graph: Graph) -> list[str]:
    """For each output the least precise floating-point dtype in which a value is computed that it depends on, or ""."""
    from neve.ir.walk import graphs, subgraphs

    worst: dict[Value, str] = {}

    def of(node: Node) -> str:
        own = [v.dtype.value for v in node.outputs if node.inputs and not widens(node)]
        within = (v.dtype.value for _, inner in subgraphs(node.op) for g in graphs(inner) for v in g.values())
        return narrowest([*(worst.get(v, "") for v in node.inputs), *own, *within])

    def widens(node: Node) -> bool:
        return node.op.name == "cast" and node.output.dtype.size > node.inputs[0].dtype.size

    for node in graph.nodes:
        worst.update(dict.fromkeys(node.outputs, of(node)))
    return [worst.get(v, "") for v in graph.outputs]


def compare(method: str, call: Callable[[], Any], want: Result, computed: str = "") -> list[Difference]:
    """One Difference an output; computed is the least precise dtype in which any of it is computed.

    Raises VerifyError if there are not as many outputs, or if only one of both raises.
    """
    if isinstance(want, Exception):
        try:
            call()
        except ModelError:
            return []
        raise VerifyError(f"{method}: the original raises {str(want).strip()[-200:]!r}, the compiled module does not")
    got = call()
    arrays = list(flat_arrays(got))
    if len(arrays) != len(want):
        raise VerifyError(f"{method}: the compiled module gives {len(arrays)} outputs, the original {len(want)}")
    kinds = dtype_names(got, arrays)
    return [
        Difference(method, k, d, relative_error(x, y), computed)
        for k, (x, y, d) in enumerate(zip(arrays, want, kinds, strict=True))
    ]


def dtype_names(value: Any, arrays: Sequence[np.ndarray]) -> list[str]:
    """Element types of flat results; bfloat16 is not seen in the arrays."""
    import torch

    from neve.capture.objects import tree_leaves

    tensors = [x for x in tree_leaves(value) if isinstance(x, torch.Tensor)]
    if len(tensors) == len(arrays):
        return [str(t.real.dtype if t.is_complex() else t.dtype).removeprefix("torch.") for t in tensors]
    return [str(a.dtype) for a in arrays]


def refuse_differences(found: Sequence[Difference]) -> None:
    """Raises VerifyError if any output differs by more than its tolerance."""
    bad = [d for d in found if not d.accepted]
    if bad:
        limits = ", ".join(f"{k} {v:g}" for k, v in TOLERANCE.items())
        raise VerifyError(
            "the compiled module differs from the original on the example inputs: "
            + "; ".join(map(str, bad))
            + f" (largest difference relative to the largest value; accepted are {limits}). "
            "This is a defect of neve: please report it; verify=False returns the module all the same"
        )
