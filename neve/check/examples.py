"""The example calls of a model with what the original gives for each, as an artifact keeps them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.artifact import Example
from neve.capture.examples import Call, Examples
from neve.check.verify import Result, attempt, flat_arrays, flat_copies, original, relative_error, seeded, tolerance
from neve.errors import InputError, VerifyError
from neve.ir.graph import Method, Program
from neve.ir.types import complex_form, to_bytes
from neve.runtime.signature import MethodSignature, Signature
from neve.runtime.sizes import Solver
from neve.runtime.tensors import is_torch, prepare
from neve.runtime.trees import flatten, outputs_of


@dataclass(frozen=True, eq=False)
class Recorded:
    """A call, what the original gives for it and, if it is stateful, for a second one, and call and result as an
    artifact keeps them: None if the original raises.
    """

    call: Call
    expected: list[Result]
    example: Example | None


def record(
    model: Any, examples: Mapping[str, Examples], program: Program, signature: Signature
) -> dict[str, list[Recorded]]:
    """Run the original on all example calls, each from its initial state.

    The first call of a method is the one that was captured; of the others those are left out, with a warning, that the
    compiled method does not take.
    """
    from neve.capture.entry_module import unchanged

    with unchanged(model):
        return {
            name: list(_recorded(model, examples[name], method, signature.methods[name], bool(signature.state)))
            for name, method in program.methods.items()
            if name in examples
        }


def _recorded(model: Any, examples: Examples, method: Method, signature: MethodSignature, stateful: bool) -> Any:
    for i, call in enumerate(examples.calls):
        try:
            inputs = _inputs(call, method, signature)
        except InputError as error:
            if i == 0:
                raise
            warnings.warn(f"example {i} of {signature.name} is left out: {error}", stacklevel=2)
            continue
        run = original(model, examples.method or signature.name, call, stateful)
        with seeded():
            found = attempt(run, call, signature)
            kept = None if isinstance(found, Exception) else Example(inputs, _in_memory_form(found, method))
            expected = [flat_copies(found)]
        with seeded():
            again = flat_copies(attempt(run, call, signature))
        if stateful:
            expected.append(again)
        else:
            _refuse_changed(signature.name, expected[0], again)
        yield Recorded(call, expected, kept)


def _refuse_changed(name: str, first: Result, second: Result) -> None:
    """VerifyError if a model in which capture has found no state gives something else for the same call again."""
    if isinstance(first, Exception) or isinstance(second, Exception):
        same = isinstance(first, Exception) == isinstance(second, Exception)
    else:
        pairs = zip(first, second, strict=False)
        same = len(first) == len(second) and all(relative_error(b, a) <= tolerance(str(a.dtype)) for a, b in pairs)
    if not same:
        raise VerifyError(
            f"{name}: the original gives another result when it is called again with the same arguments, and what that "
            "depends on has been compiled in (a clock, a file, random numbers of Python, a cache that is written): "
            "pass it as an argument, or keep it in an attribute or buffer of the module"
        )


def _inputs(call: Call, method: Method, signature: MethodSignature) -> list[np.ndarray]:
    """The flat inputs in their memory form. InputError if the compiled method does not take them."""
    leaves = flatten(signature, call.args, dict(call.kwargs))
    ready = [prepare(x, t, signature.name) for x, t in zip(leaves, signature.inputs, strict=True)]
    Solver(signature).solve([shape for _, shape, _ in ready], leaves)
    arrays = []
    for (_, _, held), v in zip(ready, method.graph.inputs, strict=True):
        if is_torch(held):
            held = held.numpy() if held.is_complex() else next(flat_arrays(held))
        arrays.append(np.array(held) if np.iscomplexobj(held) else to_bytes(np.array(held), v.dtype))
    return arrays


def _in_memory_form(outcome: Sequence[Any], method: Method) -> list[np.ndarray]:
    """A result, and arguments written in place, as the graph's outputs are kept in an artifact: an array each, bfloat16
    as its bits.
    """
    result, changed = outcome
    outputs = outputs_of(method.out_tree, result) if method.out_tree else dict(enumerate(result))
    outputs |= changed
    flat = {k: x if isinstance(x, np.ndarray) else next(flat_arrays(x)) for k, x in outputs.items()}
    arrays = [to_bytes(np.array(flat[k]), v.dtype) for k, v in enumerate(method.graph.outputs)]
    return [complex_form(a) if k in method.complex[1] else a for k, a in enumerate(arrays)]
