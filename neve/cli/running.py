"""The commands that run a compiled model: `run` once, and `bench` again and again."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

import neve
from neve.cli import calls, report
from neve.cli.console import UsageError, duration, err, out, tell_json, writable_file
from neve.cli.options import ArtifactFile, Inputs, Json, MethodName, Random, SizeOptions, Threads
from neve.errors import NeveError
from neve.progress import shown


def run_command(
    file: ArtifactFile,
    inputs: Inputs = None,
    random: Random = None,
    sizes: SizeOptions = None,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", metavar="FILE", help="An .npy for each output in order, or one .npz."),
    ] = None,
    method: MethodName = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run a compiled model once, on files, on random inputs, or else on its first example.

    Needs numpy alone, no torch.

    For example:

        neve run model.neve

        neve run model.neve -i image.npy -o scores.npy

        neve run model.neve --random 0 --size s0=17 --json
    """
    for path in output or []:
        writable_file(path, [file, *(inputs or [])])
    module = neve.load(file, threads=threads)
    chosen = calls.pick_method(module, method)
    given = _inputs(module, chosen, inputs, random, sizes)
    results = calls.call(chosen, given)
    _write(results, [t.name for t in chosen.signature.outputs], output or [])
    named = list(zip(chosen.signature.outputs, results, strict=True))
    if as_json:
        outputs = [
            {"name": t.name, "dtype": t.dtype, "shape": list(a.shape), **_statistics(calls.numbers(a, t.dtype))}
            for t, a in named
        ]
        tell_json({"method": chosen.signature.name, "outputs": outputs})
        return
    table = Table("output", "dtype", "shape", "min", "mean", "max", "first values", box=None, header_style="bold")
    for t, a in named:
        values = calls.numbers(a, t.dtype)
        reported = _statistics(values)
        first = " ".join(f"{x:.6g}" for x in values.reshape(-1)[:4])
        table.add_row(
            t.name,
            t.dtype,
            str(list(a.shape)),
            *(f"{reported[k]:.6g}" if k in reported else "" for k in ("min", "mean", "max")),
            first,
        )
    out.print(table)


def bench(
    file: ArtifactFile,
    threads: Annotated[
        list[int] | None,
        typer.Option("--threads", min=1, metavar="N", help="Threads for a call; may be given several times."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, help="How long to measure for each number of threads.")
    ] = 2.0,
    warmup: Annotated[float, typer.Option("--warmup", min=0.0, help="Seconds of calls before that.")] = 0.5,
    inputs: Inputs = None,
    random: Random = None,
    sizes: SizeOptions = None,
    method: MethodName = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also the time of each kernel; needs a C compiler.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time a compiled model's calls: median, minimum, 95th percentile.

    Measured is the C function with inputs and outputs in place, after a warm-up. Needs numpy alone. Keep the machine
    quiet: if the
    95th percentile is far from the median, other programs were running.

    For example:

        neve bench model.neve --threads 1 --threads 2

        neve bench encoder.neve --random 0 --size s0=128 --json

        neve bench model.neve --threads 1 --profile
    """
    module = neve.load(file)
    chosen = calls.pick_method(module, method)
    given = _inputs(module, chosen, inputs, random, sizes)
    found: list[calls.Times] = []
    counts = threads or sorted({1, module.threads})
    with shown(f"timing {file}", False if as_json else None) as report_progress:
        for i, count in enumerate(counts):
            if report_progress:
                report_progress(i / len(counts), f"{count} threads")
            module.threads = count
            if module.threads == count:
                found.append(calls.time_calls(module, chosen, given, seconds, warmup))
            else:
                err.print(f"neve: {count} threads: this model can use {module.threads} at most here", markup=False)
        if found and profile:
            if report_progress:
                report_progress(0.9, "building it with a clock around every kernel")
            profiled = _profile(module, chosen, given, found[0].threads)
    if not found:
        raise UsageError("there is no number of threads to measure")
    if as_json:
        times = [t.json() for t in found]
        reported: dict[str, Any] = {"file": str(file), "method": chosen.signature.name, "times": times}
        if profile:
            reported |= {"kernels": [asdict(line) for line in profiled.lines], "peak": asdict(profiled.peak)}
        tell_json(reported)
        return
    table = Table("threads", "median", "min", "p95", "mean", "calls", box=None, header_style="bold")
    for t in found:
        table.add_row(str(t.threads), *(duration(x) for x in (t.median, t.min, t.p95, t.mean)), str(t.calls))
    out.print(table)
    if profile:
        report.show_profile(profiled, found[0].threads)


def _inputs(
    module: Any, method: Any, files: list[Path] | None, seed: int | None, sizes: list[str] | None
) -> list[calls.Array]:
    signature = method.signature
    if files and seed is not None:
        raise UsageError("--input and --random are two ways to say the same")
    if files:
        return calls.read_inputs(signature, files)
    values: dict[str, int] = {}
    for text in sizes or []:
        found = re.fullmatch(r"(\w+)=(\d+)", text)
        if found is None:
            raise UsageError(f"--size {text!r}: wanted NAME=N, as in s0=32")
        values[found[1]] = int(found[2])
    if seed is not None or values:
        return calls.random_inputs(signature, seed or 0, values)
    examples = calls.example_inputs(module, signature)
    if examples is None:
        raise UsageError(f"{module.name} carries no example for {signature.name}: give --input or --random")
    return examples


def _profile(module: Any, method: Any, given: list[calls.Array], threads: int) -> Any:
    from neve.check.profile import profile
    from neve.runtime.trees import arguments

    name = method.signature.name
    args, kwargs = arguments(method.signature, given)
    return profile(module.artifact, args, kwargs, method=name, threads=threads)


def _statistics(values: calls.Array) -> dict[str, float]:
    """Of complex numbers those of their magnitudes."""
    if not values.size:
        return {}
    wide = (np.abs(values) if np.iscomplexobj(values) else values).astype(np.float64)
    return {"min": float(wide.min()), "mean": float(wide.mean()), "max": float(wide.max())}


def _write(results: list[calls.Array], names: list[str], paths: list[Path]) -> None:
    if not paths:
        return
    try:
        if len(paths) == 1 and paths[0].suffix == ".npz":
            np.savez(paths[0], **{f"out{i}": a for i, a in enumerate(results)})  # type: ignore[arg-type]
            return
        if len(paths) != len(results):
            raise UsageError(
                f"{len(results)} outputs ({', '.join(names)}) for {len(paths)} --output files; one .npz takes all"
            )
        for path, array in zip(paths, results, strict=True):
            np.save(path, array)
    except OSError as error:
        raise NeveError(f"cannot write {error.filename}: {error.strerror}") from error
