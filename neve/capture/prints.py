"""What a model prints while it runs: compiled code does not, which is reported once, with the lines."""

from __future__ import annotations

import builtins
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from neve.capture import diagnose

_PLACES: ContextVar[dict[str, None] | None] = ContextVar("places", default=None)


def note(place: str) -> None:
    """The model printed there."""
    places = _PLACES.get()
    if places is not None:
        places[place] = None


@contextmanager
def reported() -> Iterator[None]:
    """A UserWarning at the end of the block if the model printed in it."""
    token = _PLACES.set({})
    try:
        yield
        places = _PLACES.get()
    finally:
        _PLACES.reset(token)
    if places:
        warnings.warn(f"the model prints, the compiled module will not: {', '.join(places)}", stacklevel=4)


@contextmanager
def silent() -> Iterator[None]:
    """Python's print, called by this thread from the user's code, is noted instead."""
    plain, thread = builtins.print, threading.get_ident()

    def noting(*args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != thread:
            plain(*args, **kwargs)
            return
        frames = [f for f in traceback.extract_stack() if not f.filename.startswith(diagnose.INTERNAL)]
        note(f"{diagnose.short_path(frames[-1].filename)}:{frames[-1].lineno}" if frames else "")

    builtins.print = noting
    try:
        yield
    finally:
        builtins.print = plain
