"""How far a compilation is, shown on stderr while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[float, str], None]
"""Called with the share of the work done (0 to 1) and what is being done."""


@contextmanager
def shown(what: str, wanted: bool | Progress | None = None) -> Iterator[Progress | None]:
    """What to call while the body runs, None where nobody would see it.

    wanted: a function is given back as it is. None: a bar, if stderr is a terminal (and rich is installed). True: else
    a line on stderr for each step. False: nothing.
    """
    if callable(wanted):
        yield wanted
    elif wanted is not False and sys.stderr is not None and sys.stderr.isatty():
        with _bar(what) as moved:
            yield moved
    else:
        yield _lines(what) if wanted else None


@contextmanager
def _bar(what: str) -> Iterator[Progress | None]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column
    except ModuleNotFoundError:
        yield None
        return
    elapsed = TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[what]}", markup=False),
        BarColumn(20),
        TextColumn("{task.percentage:>3.0f}%"),
        elapsed,
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0, what=what)
        yield lambda done, text: bar.update(task, completed=done, description=text)


def _lines(what: str) -> Progress:
    last = ""

    def tell(done: float, text: str) -> None:
        nonlocal last
        step = text.partition(":")[0]
        if step != last:
            sys.stderr.write(f"{what}: {100 * done:3.0f}% {step}\n")
            last = step

    return tell
