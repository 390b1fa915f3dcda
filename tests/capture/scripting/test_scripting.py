"""nn.Modules that torch.export cannot trace: compiled from source to what eager gives, or refused with the mend."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.graph import Program
from neve.ir.interpret import interpret
from neve.ir.verify import verify_program
from tests.capture.scripting import obstacles


def negative(value: Any) -> Any:
    return pytree.tree_map(lambda x: -x if isinstance(x, torch.Tensor) else x, value)


def check(program: Program, model: nn.Module, calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Calls, (method, args), one after the other give what eager gives, state included."""
    verify_program(program)
    eager = copy.deepcopy(model)
    state: dict[Any, Any] = {}
    for name, args in calls:
        with torch.no_grad():
            want = pytree.tree_leaves(getattr(eager, name)(*pytree.tree_map(cloned, args)))
        method = program.methods[name]
        given = [
            np.asarray(x)
            for x, t in zip(pytree.tree_leaves(args), leaves_of(method.in_tree), strict=False)
            if t is not None
        ]
        results = interpret(method.graph, given, state)
        for k, w in zip(leaves_of(method.out_tree), want, strict=True):
            if k is not None:
                np.testing.assert_allclose(results[k], np.asarray(w), rtol=1e-5, atol=1e-5)


def leaves_of(tree: Any) -> list[Any]:
    """For each leaf of a tree the number of its tensor, or None for a constant."""
    if isinstance(tree, dict) and {"leaf", "const", "none"} & tree.keys():
        return [tree.get("leaf")]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [x for part in parts for x in leaves_of(part)]


def cloned(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize("cls", obstacles.WORKS, ids=lambda c: c.__name__)
def test_what_works_all_the_same(cls: type[nn.Module], capsys: Any) -> None:
    model, args = cls().eval(), obstacles.WORKS[cls]
    before = contents(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = capture(model, args)
    assert capsys.readouterr().err == ""
    assert contents(model) == before
    check(program, model, [("forward", args), ("forward", args), ("forward", negative(args)), ("forward", args)])


def contents(model: nn.Module) -> str:
    """All that the modules of a model hold."""
    return repr([(type(m).__qualname__, m.__dict__) for m in model.modules()])


@pytest.mark.parametrize("cls", obstacles.REFUSED, ids=lambda c: c.__name__)
def test_what_is_refused_with_line_and_mend(cls: type[nn.Module], capsys: Any) -> None:
    args, mend = obstacles.REFUSED[cls]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CaptureError) as e:
            capture(cls().eval(), args)
    lines, start = inspect.getsourcelines(cls)
    (here,) = [start + k for k, line in enumerate(lines) if line.endswith("# here\n")]
    text = str(e.value)
    assert f"obstacles.py:{here}: " in text
    assert mend in text
    assert len(text) < 900 and not any(
        raw in text for raw in ("Traceback", "aten::", "<---", "RuntimeError", "Inferred")
    )
    assert capsys.readouterr().err == ""
