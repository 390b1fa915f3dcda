"""How the sweeps run a model: by the reference interpreter, or compiled.

A backend takes (model, args, kwargs) and gives a function of the flat tensors among them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from neve.capture.constants import in_parts, to_numpy
from neve.capture.export import capture
from neve.runtime.trees import Struct

Run = Callable[[Sequence[torch.Tensor]], Sequence[np.ndarray]]
Backend = Callable[[nn.Module, tuple[Any, ...], Mapping[str, Any]], Run]


def interpret(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Run:
    """By `neve.ir.interpret`, after verification."""
    from neve.ir.interpret import interpret as run
    from neve.ir.verify import verify_program

    program = capture(model, args, kwargs)
    verify_program(program)

    def call(tensors: Sequence[torch.Tensor]) -> Sequence[np.ndarray]:
        with np.errstate(all="ignore"):
            return run(program.methods["forward"].graph, [to_numpy(in_parts(t)) for t in tensors])

    return call


def compiled(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Run:
    """By `neve.compile`, without its own comparison with the original."""
    from neve.api import compile as compile_

    module = compile_(model, args, kwargs, threads=1, verify=False)
    leaves, spec = pytree.tree_flatten((args, dict(kwargs)))

    def call(tensors: Sequence[torch.Tensor]) -> Sequence[np.ndarray]:
        given = iter(tensors)
        a, k = pytree.tree_unflatten([next(given) if isinstance(x, torch.Tensor) else x for x in leaves], spec)
        return [to_numpy(in_parts(t)) for t in _tensors(module(*a, **k))]

    return call


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in a result, in order; a model's output object comes as a `Struct`."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict, Struct)):
        for part in value if isinstance(value, (tuple, list)) else value.values():
            yield from _tensors(part)


BACKENDS: dict[str, Backend] = {"interpret": interpret, "compiled": compiled}


def hide_unusable_packages() -> None:
    """torchaudio may be installed for another package, yet not load with this torch: nothing here needs it."""
    sys.modules.setdefault("torchaudio", None)  # type: ignore[arg-type]
