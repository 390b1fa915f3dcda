"""The commands that hold a compiled model against its original: `verify`, and `bisect`, where a difference begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import neve
from neve import artifact as artifacts
from neve.cli import calls
from neve.cli.console import REFUSED, UsageError, out, tell_json
from neve.cli.models import check_spec, load_model
from neve.cli.options import ArtifactFile, Json, MethodName, Threads, existing
from neve.cli.report import show_tried
from neve.errors import VerifyError
from neve.progress import shown
from neve.runtime.context import DEFAULT_SEED, GENERATOR

OTHER = (
    "not in compiling this model, which gives what it should: the file was made of another one (other weights?), "
    "with other options, or by another neve"
)

ModelSpec = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="model.pt2, package.module:factory or path/file.py:factory (default: what it was compiled from).",
    ),
]


def verify(
    file: ArtifactFile,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Look for a difference from the model itself, which needs PyTorch.")
    ] = False,
    model: ModelSpec = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long --thorough looks at most.")] = 120.0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run a compiled model on the examples that it carries and compare with what the original gave for them.

    Shows that a file works on this machine; needs numpy alone. With `--thorough` the model is loaded again, and both
    are called with other values, masks and sizes, several times in a row, and with inputs that the model refuses. Exit
    code 1 if anything differs by more than its tolerance.

    For example:

        neve verify model.neve

        neve verify --thorough model.neve

        neve verify --thorough --model net.py:make model.neve
    """
    if model and not thorough:
        raise UsageError("--model is for --thorough: the examples are compared without the model")
    if model:
        check_spec(model)
    if thorough:
        _search(file, model, seconds, threads, as_json)
        return
    module = neve.load(file, threads=threads)
    rows = list(_compare_examples(module))
    if not rows:
        raise VerifyError(f"{file} carries no examples, so there is nothing to compare with")
    wrong = [r for r in rows if not r["right"]]
    if as_json:
        tell_json({"file": str(file), "right": not wrong, "outputs": rows})
    else:
        for r in rows:
            mark = "[green]right[/]" if r["right"] else "[red]differs[/]"
            what = f"{r['method']} example {r['example']}: {r['output']} ({r['dtype']})"
            out.print(f"{mark}  {what} {r['error']:.1e} of the largest value")
    if wrong:
        raise typer.Exit(REFUSED)


def bisect(
    file: ArtifactFile,
    model: ModelSpec = None,
    given: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE.npz",
            help="The inputs that differ, as a VerifyError saved them.",
            callback=existing,
        ),
    ] = None,
    method: MethodName = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="How long to look for such inputs at most.")
    ] = 120.0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Find the first step of a compilation that gives something else than the model: capture, a pass, or a kernel.

    Without `--input` inputs that differ are looked for first. Says the node, the module and the line of the model's
    source, and the branch or iteration if it is in one. Needs PyTorch and the model. Exit code 1 if there is a
    difference.

    For example:

        neve bisect model.neve

        neve bisect --model net.py:make --input inputs.npz model.neve
    """
    if model:
        check_spec(model)
    from neve.check.prove import first_step, save_inputs, search

    with shown(f"bisecting {file}", False if as_json else None) as report:
        made = _recaptured(file, model, threads)
        if given is None:
            found = search(made.module, made.original, seconds, report)[1]
        else:
            found = _counterexample(made, calls.pick_method(made.module, method), given)
        step = (
            first_step(
                found,
                made.original,
                made.target,
                made.compiler,
                (lambda text: report(0.5, text)) if report else lambda text: None,
            )
            if found
            else None
        )
    saved = save_inputs(found) if found and given is None else str(given or "")
    if as_json:
        tell_json(
            {
                "file": str(file),
                "differs": str(found or ""),
                "begins": str(step or OTHER) if found else "",
                "inputs": saved,
            }
        )
    elif found is None:
        out.print(f"{file}: no difference was found" + ("" if given is None else f" for {given}"), markup=False)
    else:
        out.print(f"differs: {found}", markup=False)
        out.print(f"begins:  {step or OTHER}", markup=False)
        out.print(f"inputs:  {saved}", markup=False)
    if found:
        raise typer.Exit(REFUSED)


def _search(file: Path, model: str | None, seconds: float, threads: int | None, as_json: bool) -> None:
    from neve.check.prove import explain, search

    with shown(f"comparing {file} with its model", False if as_json else None) as report:
        made = _recaptured(file, model, threads)
        tried, found = search(made.module, made.original, seconds, report)
        if found:
            error = explain(found, made.original, made.target, made.compiler, report)
            raise error if error.step else VerifyError(f"{file} differs from its model ({found}); that begins {OTHER}")
    rows = [t.json() for t in tried]
    if as_json:
        tell_json({"file": str(file), "right": True, "tried": rows})
        return
    show_tried(rows)
    out.print(f"[green]right[/]  {len(rows)} trials, no difference")


def _recaptured(file: Path, model: str | None, threads: int | None) -> Any:
    from neve.check.recapture import recapture

    artifact = artifacts.load(file)
    spec = model or artifact.extra.get("model")
    if not spec:
        raise UsageError(f"{file} does not say what it was compiled from: name the model with --model file.py:factory")
    return recapture(artifact, load_model(spec).model, threads)


def _counterexample(made: Any, method: Any, given: Path) -> Any:
    from neve.check.prove import compared
    from neve.check.recapture import call_of

    signature = method.signature
    with np.load(given) as stored:
        before = sorted({k.split(".")[0] for k in stored if k.startswith("call")}, key=lambda k: int(k[4:]))
        rows = [[stored[f"{c}.{t.name}"] for t in signature.inputs] for c in before]
    rows.append(calls.read_inputs(signature, [given]))
    return compared(made.module, made.original, signature.name, [call_of(signature, row) for row in rows])


def _compare_examples(module: Any) -> Iterator[dict[str, Any]]:
    """Each output of each example with its error, each example from the initial state."""
    from neve.check.verify import relative_error, tolerance

    for name, examples in module.artifact.examples.items():
        method = module.methods[name]
        computed = module.artifact.extra.get("computed", {}).get(name) or [""] * len(method.signature.outputs)
        for i, example in enumerate(examples):
            module.reset()
            if GENERATOR in module.state:
                module.manual_seed(DEFAULT_SEED)
            got = calls.call(method, example.inputs)
            for tensor, mine, wanted, within in zip(
                method.signature.outputs, got, example.outputs, computed, strict=True
            ):
                error = relative_error(calls.numbers(mine, tensor.dtype), calls.numbers(wanted, tensor.dtype))
                yield {
                    "method": name,
                    "example": i,
                    "output": tensor.name,
                    "dtype": tensor.dtype,
                    "error": error,
                    "right": error <= tolerance(tensor.dtype, within),
                }
