"""What the commands share: where they print, how errors become messages and exit codes, progress."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from neve.errors import BuildError, CacheError, NeveError

OK, REFUSED, USAGE, TOOLS, DEFECT = 0, 1, 2, 3, 70
EXIT_CODES = """
Exit codes: **0** done · **1** refused or wrong (a model that cannot be captured, a damaged file, results that differ) ·
**2** wrong usage · **3** a tool is missing or failed (compiler, package, disk) · **70** a defect of neve
"""

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class UsageError(NeveError):
    """The command line asks for what there is not."""


class MissingPackageError(NeveError):
    """A command needs a package that is not installed."""


def exit_code(error: BaseException) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, (BuildError, CacheError, MissingPackageError)):
        return TOOLS
    return REFUSED if isinstance(error, NeveError) else DEFECT


def tell_error(error: BaseException, as_json: bool) -> None:
    """One message on stderr; with --json also an object on stdout, so that a script that reads it sees why."""
    text = str(error) or type(error).__name__
    if exit_code(error) == DEFECT:
        text = f"{type(error).__name__}: {text}\nThis is a defect of neve: please report it, with what --debug prints"
    err.print("[bold red]neve:[/] ", end="")
    err.print(text, markup=False)
    if as_json:
        tell_json({"error": {"kind": type(error).__name__, "message": str(error), "exit_code": exit_code(error)}})


def tell_json(value: Any) -> None:
    """One JSON object on stdout."""
    out.print(json.dumps(value, indent=1, default=str), markup=False)


@contextlib.contextmanager
def progress(what: str, quiet: bool) -> Iterator[Callable[[float, str], None] | None]:
    """A bar on stderr while the body runs, moved by calling what this gives; None where nobody would see it."""
    if quiet or not err.is_terminal:
        yield None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[what]}"),
        BarColumn(20),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    elapsed = TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7))
    with Progress(*columns, elapsed, TextColumn("{task.description}"), console=err, transient=True) as bar:
        task = bar.add_task("", total=1.0, what=what)
        yield lambda done, text: bar.update(task, completed=done, description=text)


def size(count: int) -> str:
    """A number of bytes as a person reads it."""
    if count < 1000:
        return f"{count} bytes"
    for unit, scale in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * scale or unit == "GB":
            return f"{count / scale:.3g} {unit}" if count < 100 * scale else f"{count / scale:.0f} {unit}"
    raise AssertionError(count)


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds >= 100:
        return f"{seconds:.0f} s"
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1 or unit == "µs":
            return f"{seconds * scale:.3g} {unit}"
    raise AssertionError(seconds)
