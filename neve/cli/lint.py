"""The command `neve lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from neve import artifact as artifacts
from neve.check.findings import CODES, Finding
from neve.check.lint import lint, lint_artifact
from neve.cli.console import REFUSED, UsageError, out, tell_json
from neve.progress import shown

_HELP = f"""Tell what in a model keeps it from being compiled, or makes it larger or slower than it need be.

Each finding has the line of the model's source, the module, what it is and how to fix it. MODEL is what
`neve compile` takes, and nothing is compiled; of a .neve file the graph is looked at. Exit code 1 if there are
errors (with `--strict`: any findings), so that a script or CI can stop there.

Errors and warnings, by code:

{chr(10).join(f"- `{code}`: {text}" for code, text in CODES.items())}

For example:

    neve lint net.py:make

    neve lint model.pt2 --ignore unused-weight --huge 16

    neve lint model.neve --json
"""


def lint_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="model.pt2, package.module:factory, file.py:factory or FILE.neve.", show_default=False
        ),
    ],
    dynamic: Annotated[
        list[str] | None,
        typer.Option("--dynamic", metavar="ARG:DIM[=NAME[:MIN..MAX]]", help="A size that calls may vary."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="CODE", help="Leave findings of this code out.")
    ] = None,
    huge: Annotated[
        float, typer.Option("--huge", metavar="MIB", min=0, help="From where an intermediate tensor is reported.")
    ] = 64.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 for warnings too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """The command; _HELP is what `neve lint --help` shows."""
    unknown = [code for code in ignore or [] if code not in CODES]
    if unknown:
        raise UsageError(f"--ignore: there is no code {unknown[0]!r}; the codes are {', '.join(CODES)}")
    with shown(f"looking at {model}", False if as_json else None):
        found = [f for f in _find(model, dynamic or [], int(huge * 2**20)) if f.code not in (ignore or [])]
    errors = sum(f.level == "error" for f in found)
    if as_json:
        counts = {"errors": errors, "warnings": len(found) - errors}
        tell_json({"model": model, **counts, "findings": [f.json() for f in found]})
    else:
        for f in found:
            _show(f)
        out.print(f"{errors} errors, {len(found) - errors} warnings" if found else "nothing to fix")
    if errors or (strict and found):
        raise typer.Exit(REFUSED)


lint_command.__doc__ = _HELP


def _find(model: str, dynamic: list[str], huge: int) -> list[Finding]:
    if model.endswith(".neve"):
        if dynamic:
            raise UsageError("--dynamic is for models that are not compiled yet: a .neve file has its sizes")
        return lint_artifact(artifacts.load(Path(model)), huge)
    from neve.cli.models import dynamic_shapes, load_model, read_dynamic

    sizes = read_dynamic(dynamic)
    loaded = load_model(model)
    shapes = dynamic_shapes(loaded, sizes)
    return lint(loaded.model, loaded.args, loaded.kwargs, dynamic_shapes=shapes, huge=huge)


def _show(f: Finding) -> None:
    color = "red" if f.level == "error" else "yellow"
    place = escape(f.source or f"({f.method})") + (f" in {escape(f.module)}" if f.module else "")
    out.print(f"[bold]{place}[/]: [{color}]{f.level}[/] {escape(f'[{f.code}]')} {escape(f.what)}")
    out.print(f"    {escape(f.fix)}")
