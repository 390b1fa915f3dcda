"""A compiled module held against its original: on the examples, then by a search for a difference; and, when there is
one, what is reported to the user: the call, the step where it begins, and a file with its inputs.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neve.build.target import Target
from neve.build.toolchain import Compiler
from neve.capture.entry_module import unchanged
from neve.capture.examples import Call, Examples
from neve.check.bisect import Failure, Step, locate
from neve.check.examples import Recorded
from neve.check.modules import first_module
from neve.check.search import (
    EXAMPLE,
    THOROUGH_TRIALS,
    Counterexample,
    Differs,
    Search,
    Trial,
    Tried,
    result_of,
)
from neve.check.subjects import Subject, numeric, subjects
from neve.check.verify import Result, outcome, tolerance
from neve.errors import VerifyError
from neve.ir.graph import Program
from neve.ops.random import DEFAULT_SEED
from neve.runtime.loader import Module
from neve.runtime.trees import outputs_of

BISECT_SECONDS = 60.0
"""The most that looking for the step takes while compiling; `neve bisect` takes the time that it needs."""

Report = Callable[[float, str], None]


@dataclass(frozen=True, eq=False)
class Original:
    """What a module was compiled from: the model, its example calls, the program as it was captured, and the options of
    `optimize`.
    """

    model: Any
    examples: Mapping[str, Examples]
    program: Program
    options: Mapping[str, Any] = field(default_factory=dict)


def prove(
    module: Module,
    original: Original,
    recorded: Mapping[str, Sequence[Recorded]],
    target: Target,
    compiler: Compiler,
    seconds: float,
    trials: int,
    progress: Report | None = None,
) -> dict[str, Any]:
    """What `Artifact.measured` says: errors of the examples by "method/output", and what was tried.

    Raises VerifyError at the first difference.
    """
    with unchanged(original.model):
        tried, found = search(module, original, seconds, progress, trials, recorded)
        if found is not None:
            raise explain(found, original, target, compiler, progress)
    errors: dict[str, float] = {}
    for t in tried:
        for k, e in enumerate(t.errors if t.example else ()):
            errors[f"{t.method}/{k}"] = max(errors.get(f"{t.method}/{k}", 0.0), e)
    return {"errors": errors, "tried": [t.json() for t in tried]}


def search(
    module: Module,
    original: Original,
    seconds: float,
    progress: Report | None = None,
    trials: int = THOROUGH_TRIALS,
    recorded: Mapping[str, Sequence[Recorded]] | None = None,
) -> tuple[list[Tried], Counterexample | None]:
    """The examples, then trials of all methods until there are no more, the time is over, or a call differs.

    recorded: what the original gave for the examples, if that is known.
    """
    found = _subjects(module, original)
    run = Search(module, seconds, trials, progress)
    tried: list[Tried] = []
    try:
        with torch.random.fork_rng(devices=[]):
            for s in found:
                for call, known in _examples(s, original, recorded):
                    tried.append(run.calls(s, EXAMPLE, [call] * max(len(known), 1), known))
            run.all(found, tried)
    except Differs as differs:
        return tried, differs.found
    finally:
        module.reset()
    return tried, None


def compared(module: Module, original: Original, method: str, calls: Sequence[Call]) -> Counterexample | None:
    """The first of some calls in a row, from the initial state, on which both differ."""
    (s,) = (s for s in _subjects(module, original) if s.name == method)
    try:
        with torch.random.fork_rng(devices=[]):
            Search(module, 0.0, 0).calls(s, Trial("the given inputs"), calls)
    except Differs as differs:
        return differs.found
    finally:
        module.reset()
    return None


def _subjects(module: Module, original: Original) -> list[Subject]:
    return subjects(module, original.model, original.examples, original.program, bool(module.signature.state))


def _examples(s: Subject, original: Original, recorded: Any) -> Iterator[tuple[Call, Sequence[Result]]]:
    """The example calls of a method, each with the results that are known of it, of one call or of several in a row."""
    if recorded is not None:
        yield from ((r.call, r.expected) for r in recorded[s.name])
    else:
        yield from ((call, ()) for call in original.examples[s.name].calls)


def explain(
    found: Counterexample, original: Original, target: Target, compiler: Compiler, progress: Report | None
) -> VerifyError:
    """The error for a counterexample, with the step where it begins and its inputs in a file."""
    end = time.perf_counter() + BISECT_SECONDS

    def report(text: str) -> None:
        if time.perf_counter() > end:
            raise TimeoutError
        if progress:
            progress(0.0, f"found a difference: {text}")

    step: Step | None = None
    with suppress(TimeoutError):
        step = first_step(found, original, target, compiler, report)
    path = save_inputs(found)
    begins = f" The difference begins in {step}." if step else " Where it begins was not found: use `neve bisect`."
    saved = f" The inputs are in {path}." if path else ""
    error = VerifyError(
        f"the compiled module differs from the original ({found}).{begins}{saved} "
        "This is a defect of neve: please report it; verify=False returns the module all the same"
    )
    error.step, error.inputs = str(step or ""), path
    return error


def first_step(
    found: Counterexample, original: Original, target: Target, compiler: Compiler, report: Callable[[str], None]
) -> Step | None:
    """Where a difference begins: capture, a pass or a kernel."""
    s = found.subject
    graph = s.method.graph
    calls = [s.arrays(flat) for flat in found.inputs]
    limits = [tolerance(v.dtype.value, s.computed) for v in graph.outputs]
    failure = Failure(original.program, s.name, calls, _wanted(found), limits, original.options)
    step = locate(failure, target, compiler, report)
    if step is not None and step.stage == "capture":
        module = first_module(original.model, original.examples[s.name].method or s.name, found, failure)
        if module:
            return Step(step.stage, step.what, f"{step.node}, first in the module {module}", error=step.error)
    return step


def _wanted(found: Counterexample) -> list[np.ndarray] | None:
    """The graph's outputs as the original gives them in the last call; None where it raises."""
    s = found.subject
    run = s.start(s.call(found.inputs[0]))
    for flat in found.inputs[:-1]:
        result_of(run, s, flat)
    torch.manual_seed(DEFAULT_SEED)
    try:
        result, changed = outcome(run, s.call(found.inputs[-1]), s.signature)
    except Exception:  # anything that a model may raise
        return None
    parts = outputs_of(s.signature.out_tree, result)
    parts |= changed
    return [numeric(parts[k], v.dtype) for k, v in enumerate(s.method.graph.outputs)]


def save_inputs(found: Counterexample, path: Path | None = None) -> str:
    """The inputs of the last call by name, and of those before it as "call0.NAME", …, as an .npz file for `neve run -i`
    and `neve bisect --input`.

    Gives the path, in the folder for temporary files by default, or "" if it cannot be written.
    """
    names = [t.name for t in found.subject.signature.inputs]
    arrays: dict[str, Any] = {}
    for n, flat in enumerate(found.inputs):
        before = f"call{n}." if n < len(found.inputs) - 1 else ""
        arrays |= {f"{before}{name}": _stored(x) for name, x in zip(names, flat, strict=True)}
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values())).hexdigest()[:12]
    path = path or Path(tempfile.gettempdir()) / f"neve-{found.subject.name}-{digest}.npz"
    try:
        np.savez(path, **arrays)
    except OSError:
        return ""
    return str(path)


def _stored(x: Any) -> np.ndarray:
    if isinstance(x, torch.Tensor) and x.dtype is torch.bfloat16:
        return x.view(torch.int16).numpy().view(np.uint16)
    return np.asarray(x)
