"""Models that catch what only a trace raises: `except Exception` around a branch on a tensor would go on as if eager
had raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses import fake_tensor

from neve.capture.hidden import is_users
from neve.internals import replaced, require

KINDS = (
    "torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode",
    "torch._subclasses.fake_tensor.DataDependentOutputException",
    "torch._subclasses.fake_tensor.DynamicOutputShapeException",
    "torch._subclasses.fake_tensor.UnsupportedOperatorException",
)
"""What torch raises while it traces, and never in eager."""


@contextmanager
def raised_again() -> Iterator[None]:
    """Raises at the end of the block what a model's code was given of these and has caught."""
    require("tracing a model", *KINDS)
    made: list[BaseException] = []

    def noting(init: Any) -> Any:
        def noted(self: BaseException, *args: Any, **kwargs: Any) -> None:
            made.append(self)
            init(self, *args, **kwargs)

        return noted

    kinds = [torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode]
    kinds += [getattr(fake_tensor, name.rpartition(".")[2]) for name in KINDS[1:]]
    with replaced(*((f"{name}.__init__", noting(k.__init__)) for name, k in zip(KINDS, kinds, strict=True))):
        yield
    for error in made:
        if any(is_users(f.filename) for f in traceback.extract_tb(error.__traceback__)):
            raise error
