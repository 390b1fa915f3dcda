"""The first submodule of a model whose result is nowhere in the graph that was captured of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from neve.capture.objects import tree_leaves
from neve.check.bisect import Failure
from neve.check.search import Counterexample, result_of
from neve.check.verify import flat_arrays, original, relative_error

TOLERANCE = 1e-4


def first_module(model: Any, method: str, found: Counterexample, failure: Failure) -> str:
    """Dotted path and class of the first submodule, in the order in which they return, some of whose results no value
    of the captured graph has; "" if there is none, or the model cannot be copied.
    """
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return ""
    results: list[tuple[str, list[np.ndarray]]] = []
    with suppress(Exception):  # what a model holds need not be copyable
        copied = copy.deepcopy(model)
        run = original(copied, method, found.subject.call(found.inputs[0]), False)
        for flat in found.inputs[:-1]:
            result_of(run, found.subject, flat)
        for path, module in copied.named_modules():
            if path:
                module.register_forward_hook(_keep(f"{path} ({type(module).__name__})", results))
        result_of(run, found.subject, found.inputs[-1])
    known = _values(failure)
    missing = [name for name, arrays in results if not all(_among(a, known) for a in arrays)]
    return missing[0] if missing else ""


def _keep(name: str, results: list[tuple[str, list[np.ndarray]]]) -> Callable[..., None]:
    def hook(module: Any, args: Any, output: Any) -> None:
        tensors = [x for x in tree_leaves(output) if isinstance(x, torch.Tensor)]
        results.append((name, [np.array(next(flat_arrays(x))) for x in tensors]))

    return hook


def _values(failure: Failure) -> dict[int, list[np.ndarray]]:
    """All values of the captured graph by their number of elements."""
    found: dict[int, list[np.ndarray]] = {}

    def learn(_: Any, __: Any, outs: Any) -> None:
        for a in outs:
            found.setdefault(a.size, []).append(np.array(a))

    for a in failure.calls[-1]:
        found.setdefault(a.size, []).append(a)
    failure.run(failure.program, learn)
    return found


def _among(array: np.ndarray, known: dict[int, list[np.ndarray]]) -> bool:
    flat = array.reshape(-1)
    return any(
        (a.dtype.kind == flat.dtype.kind and relative_error(a.reshape(-1), flat) <= TOLERANCE)
        or (a.ndim == array.ndim and sorted(a.shape) == sorted(array.shape) and _permuted(a, array))
        for a in known.get(array.size, ())
    )


def _permuted(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a has b's elements in another order, as a transposed view has."""
    x, y = np.sort(a, axis=None), np.sort(b, axis=None)
    return bool(a.dtype.kind == b.dtype.kind and relative_error(x, y) <= TOLERANCE)
