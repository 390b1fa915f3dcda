"""The command `neve`: compile, run, bench, inspect, verify, lint, unpack, demo."""

from __future__ import annotations

import sys

_NEEDED = ("typer", "rich")


def main() -> None:
    """The command's entry point: sys.argv in, exit code out (`neve --help` lists the codes)."""
    try:
        from neve.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _NEEDED:
            raise
        print(  # noqa: T201 - there is no rich to print with
            f"neve: the command line needs {error.name}: pip install 'neve[cli]' (neve.load needs numpy alone)",
            file=sys.stderr,
        )
        sys.exit(3)
    except KeyboardInterrupt:
        print("neve: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
