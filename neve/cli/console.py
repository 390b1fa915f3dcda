"""What the commands share: where they print, how errors become messages and exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from neve.errors import BuildError, CacheError, CaptureError, NeveError

OK, REFUSED, USAGE, TOOLS, DEFECT, INTERRUPTED = 0, 1, 2, 3, 70, 130
EXIT_CODES = """
Exit codes: **0** done · **1** refused or wrong (a model that cannot be captured, a damaged file, results that differ) ·
**2** wrong usage · **3** a tool is missing or failed (compiler, package, disk) · **70** a defect of neve ·
**130** interrupted
"""

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class UsageError(NeveError):
    """The command line asks for what there is not."""


class MissingPackageError(NeveError):
    """A command needs a package that is not installed."""


def writable_file(path: Path, sources: Sequence[str | Path] = ()) -> Path:
    """The path, if a file can be written there that is none of the sources; else UsageError, before any work."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: wanted the name of a file in it")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no plain file: write to another one")
    if any(path.exists() and Path(s).exists() and path.samefile(s) for s in sources):
        raise UsageError(f"{path} is what is read: write the result to another file")
    if not path.parent.is_dir():
        what = "is no folder" if path.parent.exists() else "does not exist: make it first"
        raise UsageError(f"cannot write {path}: the folder {path.parent} {what}")
    return _permitted(path, path.parent)


def writable_folder(path: Path) -> Path:
    """The path, if a folder is there, or can be made there, whose files can be written; else UsageError."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UsageError(f"cannot write into {path}: {there} is no folder")
    return _permitted(path, there)


def _permitted(path: Path, folder: Path) -> Path:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: no permission to write into the folder {folder}")
    return path


def exit_code(error: BaseException) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, (BuildError, CacheError, MissingPackageError)):
        return TOOLS
    if isinstance(error, NeveError) and not isinstance(error, CaptureError) and isinstance(error.__cause__, OSError):
        return TOOLS  # of the disk; a model's own code that fails to open a file is the model's affair
    return REFUSED if isinstance(error, NeveError) else DEFECT


def tell_error(error: BaseException, as_json: bool, verbose: bool = False) -> None:
    """One message on stderr; with --json also an object on stdout, so that a script that reads it sees why."""
    text = str(error) or type(error).__name__
    if isinstance(error, CaptureError) and error.reasons != error.all_reasons:
        more = len(error.all_reasons) - len(error.reasons)
        text = error.message(error.all_reasons if verbose else error.reasons)
        text += "" if verbose else f"\n  and {more} more, which --verbose prints"
    if exit_code(error) == DEFECT:
        text = f"{type(error).__name__}: {text}\nThis is a defect of neve: please report it, with what --debug prints"
    err.print("[bold red]neve:[/] ", end="")
    err.print(text, markup=False)
    if as_json:
        reported = {"kind": type(error).__name__, "message": str(error), "exit_code": exit_code(error)}
        reported |= {"reasons": error.all_reasons} if isinstance(error, CaptureError) else {}
        tell_json({"error": reported})


def tell_json(value: Any) -> None:
    """One JSON object on stdout."""
    out.print(json.dumps(value, indent=1, default=str), markup=False)


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
