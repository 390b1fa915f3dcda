"""A case: a small model, calls of it, and what has to come out: what the eager model gives in evaluation mode.

`run(case, entry)` makes the model, passes it through one entry point of neve, makes the calls on both in turn and
compares results, raised errors, arguments written in place and attributes; the model passed in must not have changed.
Of classes scripted or traced, too, the eager module is the reference, never torch.jit.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import neve

TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Largest difference, relative to the largest magnitude of what is expected; other types must be equal."""

HONEST = (neve.NeveError, RuntimeError, TypeError, ValueError, LookupError, AssertionError)
"""What may be raised where the eager model raises."""


@dataclass(frozen=True)
class Call:
    """Arguments of a method. raises: what the error's text matches on both sides; spoils: overwrite what came back."""

    args: tuple[Any, ...]
    method: str = "forward"
    raises: str = ""
    spoils: bool = False


@dataclass(frozen=True)
class Assign:
    """Set an attribute (dotted path)."""

    path: str
    value: Any


@dataclass(frozen=True)
class Read:
    """Compare an attribute (dotted path)."""

    path: str


Step = Call | Assign | Read


@dataclass(frozen=True)
class Case:
    """behaviour: its number in the specification; the rest of the name says what is looked at.

    form: what is passed in: the "module", "script" (torch.jit.script of it) or "trace" (of the first call).
    preserved: names for preserved_attrs and preserved_methods. entries: where it applies. train: passed in with its
    training flags on. refused: what the CaptureError must match where there can be no right answer, with the reason
    in `why`. plain: statistics of norms are as they were made.
    """

    behaviour: str
    name: str
    make: Callable[[], nn.Module]
    steps: Sequence[Step]
    form: str = "module"
    preserved: tuple[str, ...] = ()
    entries: tuple[str, ...] = ("freeze", "optimize_for_inference", "optimize_for_mobile")
    train: bool = False
    refused: str = ""
    why: str = ""
    plain: bool = False
    tolerance: float = 0.0
    examples: bool = True

    @property
    def calls(self) -> list[Call]:
        return [s for s in self.steps if isinstance(s, Call)]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(c.method for c in self.calls))

    def __str__(self) -> str:
        return f"{self.behaviour}-{self.name}"


@dataclass(frozen=True)
class Outcome:
    """kind: "right", "refused" (a CaptureError before any wrong answer) or "wrong"."""

    kind: str
    text: str = ""
    seen: list[str] = field(default_factory=list)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers that depend on shape and seed alone."""
    g = torch.Generator().manual_seed(1000 * seed + sum(shape) + len(shape))
    return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)


def calls(*args: Any, method: str = "forward") -> list[Step]:
    """A call for each of args: a tuple of arguments, or the only argument."""
    return [Call(a if isinstance(a, tuple) else (a,), method) for a in args]


def build(case: Case) -> nn.Module:
    """The case's model, always the same, in evaluation mode; norms have statistics that no default hides behind."""
    torch.manual_seed(7)
    model = case.make()
    g = torch.Generator().manual_seed(3)

    def draw(t: Any, low: float, high: float) -> None:
        if isinstance(t, Tensor) and t.is_floating_point():
            t.copy_(torch.rand(t.shape, generator=g) * (high - low) + low)

    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._NormBase) and not case.plain:
                draw(m.running_mean, -1, 1)
                draw(m.running_var, 0.4, 2)
                draw(m.weight, 0.5, 1.5)
                draw(m.bias, -1, 1)
    return model.train(case.train)


def given(case: Case) -> Any:
    """The model in the form in which it is passed in."""
    model = build(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.form == "script":
            return torch.jit.script(model)
        if case.form == "trace":
            return torch.jit.trace(model, copied(case.calls[0].args))
    return model


def copied(value: Any) -> Any:
    """A deep copy of arguments; tensors keep strides, and whether they require a gradient."""
    if isinstance(value, Tensor):
        kept = {} if value.is_sparse else {"memory_format": torch.preserve_format}
        made = value.detach().clone(**kept)
        if isinstance(value, nn.Parameter):
            return nn.Parameter(made, value.requires_grad)
        return made.requires_grad_(value.requires_grad)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(copied, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(copied, value))
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return value


# --- comparing ----------------------------------------------------------------------------------------------------


def difference(got: Any, want: Any, where: str = "result", tolerance: float = 0.0) -> str:
    """What distinguishes two results; "" if nothing does."""
    if isinstance(want, Tensor):
        return _tensors(got, want, where, tolerance)
    if type(got) is not type(want) and not (hasattr(want, "_fields") and getattr(got, "_fields", 0) == want._fields):
        return f"{where}: got {type(got).__name__} ({got!r}), wanted {type(want).__name__} ({want!r})"
    if isinstance(want, dict):
        if list(got) != list(want):
            return f"{where}: got the keys {list(got)}, wanted {list(want)}"
        return next((d for k in want if (d := difference(got[k], want[k], f"{where}[{k!r}]", tolerance))), "")
    if isinstance(want, (list, tuple)):
        if len(got) != len(want):
            return f"{where}: got {len(got)} entries, wanted {len(want)}"
        found = (difference(g, w, f"{where}[{i}]", tolerance) for i, (g, w) in enumerate(zip(got, want, strict=True)))
        return next((d for d in found if d), "")
    if isinstance(want, float):
        same = math.isclose(got, want, rel_tol=1e-5) or (math.isnan(got) and math.isnan(want))
        return "" if same else f"{where}: got {got}, wanted {want}"
    return "" if got == want else f"{where}: got {got!r}, wanted {want!r}"


def _tensors(got: Any, want: Tensor, where: str, tolerance: float) -> str:
    if not isinstance(got, Tensor):
        return f"{where}: got {type(got).__name__}, wanted a tensor"
    if got.dtype is not want.dtype or got.shape != want.shape:
        return f"{where}: got {got.dtype} {list(got.shape)}, wanted {want.dtype} {list(want.shape)}"
    g, w = got.detach(), want.detach()
    if not w.is_floating_point():
        return "" if torch.equal(g, w) else f"{where}: got {g.flatten()[:8]}, wanted {w.flatten()[:8]}"
    g, w = g.double(), w.double()
    finite = w.isfinite()
    if not torch.equal(g.isnan(), w.isnan()) or not torch.equal(g[w.isinf()], w[w.isinf()]):
        return f"{where}: NaN or infinities differ: got {g.flatten()[:8]}, wanted {w.flatten()[:8]}"
    if not finite.any():
        return ""
    error = float((g[finite] - w[finite]).abs().max())
    limit = (tolerance or TOLERANCE[want.dtype]) * max(float(w[finite].abs().max()), 1e-30)
    return "" if error <= limit else f"{where}: differs by {error:.2e}, allowed are {limit:.2e}"


def snapshot(model: Any) -> dict[str, Any]:
    """All that a caller can see of a model: tensors, flags, plain attributes."""
    found: dict[str, Any] = {}
    for path, m in model.named_modules():
        found[f"{path}:training"] = getattr(m, "training", None)
        tensors = [*m.named_parameters(recurse=False), *m.named_buffers(recurse=False)]
        for k, t in tensors:
            found[f"{path}.{k}"] = (copied(t.detach()), t.requires_grad)
        if not isinstance(m, torch.jit.ScriptModule):
            for k, v in vars(m).items():
                if not k.startswith("_") and isinstance(v, (int, float, str, list, dict, tuple, Tensor)):
                    found[f"{path}.{k}"] = copied(v)
    return found


# --- running ------------------------------------------------------------------------------------------------------


def examples_of(case: Case) -> dict[str, tuple[Any, ...]] | None:
    """The first call of every method; None where the first call is to compile."""
    if not case.examples:
        return None
    return {m: copied(next(c.args for c in case.calls if c.method == m)) for m in case.methods}


def freeze(case: Case, model: Any) -> Any:
    return neve.freeze(model, list(case.preserved) or None, example_inputs=examples_of(case))


def optimize_for_inference(case: Case, model: Any) -> Any:
    others = [m for m in case.methods if m != "forward"]
    if set(case.preserved) - set(others):
        return neve.optimize_for_inference(freeze(case, model), others or None)
    return neve.optimize_for_inference(model, others or None, example_inputs=examples_of(case))


def optimize_for_mobile(case: Case, model: Any) -> Any:
    kept = list(case.preserved) or None
    return neve.optimize_for_mobile(model, preserved_methods=kept, example_inputs=examples_of(case))


ENTRIES: Mapping[str, Callable[[Case, Any], Any]] = {
    "freeze": freeze,
    "optimize_for_inference": optimize_for_inference,
    "optimize_for_mobile": optimize_for_mobile,
}


def run(case: Case, entry: str) -> Outcome:
    """What comes of a case through an entry point."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded = case.train and case.form == "trace"  # a trace keeps the mode that it was made in
        eager, model = given(case) if recorded else build(case).eval(), given(case)
        before = snapshot(model)
        try:
            made = ENTRIES[entry](case, model)
            problem = next(filter(None, (_step(s, made, eager, case.tolerance) for s in case.steps)), "")
        except neve.CaptureError as error:
            return Outcome("refused", str(error))
        except HONEST as error:
            return Outcome("wrong", f"{type(error).__name__}: {error}")
        problem = problem or difference(snapshot(model), before, "the model passed in")
    return Outcome("wrong" if problem else "right", problem)


def _step(step: Step, made: Any, eager: Any, tolerance: float) -> str:
    if isinstance(step, Assign):
        for target in (made, eager):
            owner, name = _owner(target, step.path)
            setattr(owner, name, copied(step.value))
        return ""
    if isinstance(step, Read):
        got, want = (getattr(*_owner(target, step.path)) for target in (made, eager))
        return difference(got, want, step.path)
    return _call(step, made, eager, tolerance)


def _owner(target: Any, path: str) -> tuple[Any, str]:
    *parents, name = path.split(".")
    for p in parents:
        target = getattr(target, p)
    return target, name


def _call(call: Call, made: Any, eager: Any, tolerance: float) -> str:
    where = f"{call.method}({', '.join(map(_shown, call.args))})"
    ours, theirs = copied(call.args), copied(call.args)
    torch.manual_seed(5)
    try:
        want = _method(eager, call.method)(*theirs)
    except Exception as error:
        return _both_raise(call, made, ours, error, where)
    torch.manual_seed(5)
    got = _method(made, call.method)(*ours)
    problem = difference(got, copied(want), where, tolerance) or difference(
        ours, theirs, f"the arguments after {where}"
    )
    if call.spoils:
        for result in (got, want):
            for t in torch.utils._pytree.tree_leaves(result):
                if isinstance(t, Tensor):
                    t.detach().fill_(77)
    return problem


def _both_raise(call: Call, made: Any, args: Any, error: Exception, where: str) -> str:
    if call.raises and not re.search(call.raises, str(error)):
        raise AssertionError(f"the case expects {call.raises!r}, eager raises {error!r}") from error
    try:
        got = _method(made, call.method)(*args)
    except HONEST as ours:
        return "" if re.search(call.raises, str(ours)) else f"{where}: got the error {ours}, wanted {call.raises}"
    return f"{where}: got {got!r}, wanted {type(error).__name__}: {error}"


def _method(target: Any, name: str) -> Any:
    return target if name == "forward" else getattr(*_owner(target, name))


def _shown(x: Any) -> str:
    return f"{str(x.dtype)[6:]}{list(x.shape)}" if isinstance(x, Tensor) else repr(x)


def outcomes(cases: Iterable[Case]) -> Iterator[tuple[Case, str, Outcome]]:
    """What comes of every case through every entry point that it applies to."""
    for case in cases:
        for entry in case.entries:
            yield case, entry, run(case, entry)


def unique(cases: Iterable[Case]) -> list[Case]:
    """The cases; two may not have the same name."""
    found: dict[str, Case] = {}
    for c in cases:
        assert str(c) not in found, f"two cases are named {c}"
        found[str(c)] = c
    return list(found.values())
