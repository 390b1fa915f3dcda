"""nn.Modules that torch.export cannot trace: compiled from source to what eager gives, or refused with the fix."""

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

import neve
from neve.capture.export import capture
from neve.errors import CaptureError, VerifyError
from neve.ir.graph import Program
from neve.ir.interpret import interpret
from neve.ir.verify import verify_program
from tests.capture.scripting import fixed, hidden, hooked, obstacles, refused


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
        warnings.filterwarnings("ignore", "the model prints", UserWarning)
        program = capture(model, args)
    assert capsys.readouterr().err == ""
    assert contents(model) == before
    check(program, model, [("forward", args), ("forward", args), ("forward", negative(args)), ("forward", args)])


def contents(model: nn.Module) -> str:
    """All that the modules of a model hold."""
    return repr([(type(m).__qualname__, m.__dict__) for m in model.modules()])


@pytest.mark.parametrize("cls", refused.REFUSED, ids=lambda c: c.__name__)
def test_what_is_refused_with_line_and_mend(cls: type[nn.Module], capsys: Any) -> None:
    args, fix = refused.REFUSED[cls]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CaptureError) as e:
            capture(cls().eval(), args)
    found = [(inspect.getsourcelines(type(m))) for m in cls().modules() if type(m).__module__ == refused.__name__]
    places = {start + k for lines, start in found for k, line in enumerate(lines) if line.endswith("# here\n")}
    (here,) = places
    text = str(e.value)
    assert f"refused.py:{here}: " in text
    assert fix in text
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


@pytest.mark.parametrize("cls", hidden.SEEN_TWICE, ids=lambda c: c.__name__)
def test_what_a_second_call_shows_is_refused(cls: type[nn.Module]) -> None:
    with pytest.raises(VerifyError, match="gives another result when it is called again"):
        neve.compile(cls().eval(), (hidden.X,), threads=1)


@pytest.mark.parametrize(
    ("inner", "script"), [(hooked.Child, False), (hooked.Branching, False), (hooked.Branching, True)]
)
@pytest.mark.parametrize("hooks", hooked.HOOKS)
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


class Gate(nn.Module):
    """Methods that share weights and state; each has something that torch.export alone does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.calls, self.last = 0, torch.zeros(3)
        self.sizes: list[int] = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if x.sum() > 0:
            self.last = self.linear(x)
        return self.last * self.calls

    def peek(self, scale: float = 1.0) -> tuple[torch.Tensor, int]:
        return self.last * scale, self.calls

    def ratio(self, n: int) -> tuple[float, float, bool]:
        return 0.1, n / 3, n > 3

    def steps(self, x: torch.Tensor, n: int) -> tuple[torch.Tensor, int]:
        for i in range(n):
            x = x + self.last * i
            if x.abs().max() > 20:
                return x, i
        return self.forward(x), n


def test_methods_that_forward_does_not_call_share_weights_and_state() -> None:
    model, x = Gate().eval(), torch.tensor([1.0, 2.0, 0.5])
    program = capture(model, (x,), methods={"peek": (2.0,), "steps": (x, 3), "ratio": (2,)})
    assert program.methods.keys() == {"forward", "peek", "steps", "ratio"}
    calls = [
        ("forward", (x,)),
        ("peek", (3.0,)),
        ("ratio", (5,)),
        ("steps", (x, 4)),
        ("steps", (-x, 0)),
        ("steps", (9 * x, 50)),
    ]
    check(program, model, [*calls, ("forward", (-x,)), ("peek", (1.0,))])
    only = capture(model, methods={"steps": (x, 3)})
    check(only, model, [("steps", (x, 2)), ("steps", (x, 7))])


class SaysOtherwise(nn.Module):
    """What torch.jit compiles is not what Python does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ask = torch.jit.is_scripting  # under a name of its own it is not answered as in Python
        if ask():
            return x
        if x.sum() > 0:
            return x * 2
        return x


def test_source_that_torch_jit_reads_otherwise_is_refused() -> None:
    with pytest.raises(CaptureError, match="gives something else than in Python"):
        capture(SaysOtherwise().eval(), (torch.ones(3),))
    with pytest.raises(CaptureError, match="gives something else than in Python"):  # the other sign
        capture(SaysOtherwise().eval(), (-torch.ones(3),))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_jit_of_the_user_is_left_alone() -> None:
    """Neither its caches nor the model's classes keep anything of a capture."""
    model = obstacles.Super().eval()
    before = [vars(c).keys() - {"__annotations__"} for c in (obstacles.Super, obstacles.Base)]
    capture(model, (obstacles.X,))
    assert [vars(c).keys() - {"__annotations__"} for c in (obstacles.Super, obstacles.Base)] == before
    with pytest.raises(RuntimeError, match="forward"):
        torch.jit.script(model)


def test_a_compiled_module_keeps_its_state() -> None:
    module = neve.compile(Gate().eval(), (torch.ones(3),), threads=1)
    assert module.artifact.measured
    first, second = module(torch.ones(3)), module(torch.ones(3))
    np.testing.assert_allclose(second, 2 * np.asarray(first), rtol=1e-5)


@pytest.mark.parametrize("cls", fixed.FIXED, ids=lambda c: c.__name__)
@pytest.mark.filterwarnings("ignore:The TorchScript type system")
def test_what_follows_the_mend_of_a_refusal_works(cls: type[nn.Module]) -> None:
    model, args = fixed.FIXED[cls]().eval(), refused.REFUSED[cls][0]
    check(capture(model, args), model, [("forward", args), ("forward", negative(args)), ("forward", args)])
