"""Counted steps: how a scheduler knows whether its sparsifier has stepped before it, as torch's schedulers of learning
rates do (https://github.com/pytorch/pytorch/issues/20124).
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any

from neve.sparsity.sparsifier import BaseSparsifier


class CountedStep:
    """Put in place of sparsifier.step: calls it and counts the calls. Refers weakly to its sparsifier."""

    def __init__(self, sparsifier: BaseSparsifier) -> None:
        method: Any = sparsifier.step
        self.sparsifier = weakref.ref(sparsifier)
        self.function: Callable[..., Any] = method.__func__
        self.count = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return self.function(self.sparsifier(), *args, **kwargs)


def count_steps(sparsifier: BaseSparsifier) -> None:
    """Have the sparsifier count its steps, from zero on."""
    step: Any = sparsifier.step
    if isinstance(step, CountedStep):
        step.count = 0
    else:
        sparsifier.step = CountedStep(sparsifier)  # type: ignore[method-assign]


def check_order(sparsifier: BaseSparsifier, name: str) -> None:
    """Warn (UserWarning, at the line that called the scheduler's step) if the sparsifier has not stepped since
    `count_steps`, or if its step is not counted any more. name is what it is called in the message.
    """
    step: Any = sparsifier.step
    if not isinstance(step, CountedStep):
        warnings.warn(
            f"Seems like `{name}.step()` has been overridden after sparsity scheduler initialization. "
            f"Please, make sure to call `{name}.step()` before `scheduler.step()`.",
            UserWarning,
            stacklevel=3,
        )
    elif step.count == 0:
        warnings.warn(
            f"Detected call of `scheduler.step()` before `{name}.step()`. "
            f"You have to make sure you run the {name}.step() BEFORE any calls to the scheduler.step().",
            UserWarning,
            stacklevel=3,
        )
