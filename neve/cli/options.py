"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neve.cli.console import UsageError


def existing(path: Path | None) -> Path | None:
    """The path of a file that is there; else UsageError."""
    if path is None or path.is_file():
        return path
    raise UsageError(f"{path} is a folder: wanted a file" if path.is_dir() else f"there is no file {path}")


ArtifactFile = Annotated[
    Path, typer.Argument(metavar="FILE.neve", help="A compiled model.", show_default=False, callback=existing)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
MethodName = Annotated[
    str | None, typer.Option("--method", "-m", metavar="NAME", help="Which entry point (default: forward).")
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="Threads for a call (default: one a processor).")
]
Inputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--input", "-i", metavar="FILE", help="An .npy for each input in order, or one .npz with arrays by name."
    ),
]
Random = Annotated[
    int | None,
    typer.Option(
        "--random", metavar="SEED", help="Inputs from this seed: normal floats, integers 0 or 1, coins for bools."
    ),
]
SizeOptions = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="NAME=N", help="A symbolic size of --random inputs, e.g. s0=32."),
]
