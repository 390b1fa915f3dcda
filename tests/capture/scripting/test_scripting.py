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
from tests.capture.scripting import hidden, hooked, obstacles


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
        method = program.methods["forward" if name == "__call__" else name]
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


def captured(model: nn.Module, args: tuple[Any, ...]) -> tuple[Program | None, str]:
    """The Program, or why there is none."""
    try:
        return capture(model, args), ""
    except CaptureError as error:
        return None, str(error)


@pytest.mark.parametrize("cls", hidden.MODELS, ids=lambda c: c.__name__)
def test_state_outside_of_buffers_is_kept_or_refused(cls: type[nn.Module]) -> None:
    model = cls().eval()
    program, why = captured(model, (hidden.X,))
    if program is None:
        assert "forward writes" in why and "would be lost" in why
        return
    check(program, model, [("forward", (hidden.X * k,)) for k in (1, 2, 1, -1)])


@pytest.mark.parametrize("inner", [hooked.Child, hooked.Branching])
@pytest.mark.parametrize("hooks", hooked.HOOKS)
@pytest.mark.parametrize("script", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hooks_keep_their_effect(inner: type[nn.Module], hooks: dict[str, Any], script: bool) -> None:
    model = hooked.Root(inner, **hooks).eval()
    given: nn.Module = model
    if script:
        try:
            given = torch.jit.script(model)
        except Exception:
            pytest.skip("torch.jit does not compile these hooks")
    program, why = captured(given, (hooked.X,))
    if program is None:
        assert "with def" in why or "declare them" in why
        return
    check(program, model, [("__call__", (x,)) for x in (hooked.X, -hooked.X)])
