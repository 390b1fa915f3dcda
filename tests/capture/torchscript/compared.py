"""Scripted models, interpreted and compiled, against torch.jit over several calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

import neve
from neve.capture.export import capture
from neve.ir.graph import Program
from neve.ir.interpret import interpret
from neve.ir.verify import verify_program
from neve.runtime.trees import builder

Calls = Sequence[tuple[Any, ...]]


def scripted(model: Any) -> Any:
    """The model as a ScriptModule in evaluation mode."""
    return model if isinstance(model, torch.jit.ScriptModule) else torch.jit.script(model.eval())


def flat(value: Any) -> list[np.ndarray]:
    """The tensors and numbers of a result."""
    leaves = pytree.tree_leaves(value)
    return [x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in leaves]


def same(got: Any, want: Any, tolerance: float = 1e-5) -> None:
    """Equal in structure and shape, integers equal, floats near."""
    assert len(flat(got)) == len(flat(want))
    assert [type(x) for x in pytree.tree_leaves(got)] == [type(x) for x in pytree.tree_leaves(want)]
    for g, w in zip(flat(got), flat(want), strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype, f"{g.dtype}{g.shape}, wanted {w.dtype}{w.shape}"
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


def clones(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.clone() if isinstance(a, torch.Tensor) else a for a in args)


def as_torch_jit(model: Any, example: tuple[Any, ...], calls: Calls, dynamic_shapes: Any = None) -> Program:
    """Captured from one example and interpreted with these calls, it gives what torch.jit does, errors included."""
    model = scripted(model)
    program = capture(model, example, dynamic_shapes=dynamic_shapes)
    verify_program(program)
    method = program.methods["forward"]
    build = builder(method.out_tree)
    for args in calls:
        inputs = [np.asarray(a) for a in clones(args)]
        try:
            want = model(*clones(args))
        except RuntimeError:
            with np.testing.assert_raises(neve.NeveError):
                interpret(method.graph, inputs, sizes=method.given_sizes(inputs))
            continue
        outputs = interpret(method.graph, inputs, sizes=method.given_sizes(inputs))
        same(build([torch.from_numpy(np.array(x)) for x in outputs]), want)
    return program


def compiled_as_torch_jit(
    model: Any, example: tuple[Any, ...], calls: Calls, folder: Path, dynamic_shapes: Any = None
) -> neve.Module:
    """Compiled from one example, saved and loaded, it gives what torch.jit does, errors included."""
    model = scripted(model)
    made = neve.compile(model, example, dynamic_shapes=dynamic_shapes, threads=1)
    made.save(folder / "model.neve")
    module = neve.load(folder / "model.neve")
    for args in calls:
        try:
            want = model(*clones(args))
        except RuntimeError:
            with np.testing.assert_raises(neve.NeveError):
                module(*args)
            continue
        same(module(*args), want)
    return module
