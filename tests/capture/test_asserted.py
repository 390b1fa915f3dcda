"""Asserts and raises on tensors become checks: a capture raises on the values on which eager does.

Each function is captured with a value on which it raises nothing, and called with all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neve.capture.diagnose import NotTraceable
from neve.capture.export import capture, export_methods
from neve.errors import ModelError
from neve.ir.interpret import interpret
from tests.capture.support import Model

X = torch.tensor([[1.0, 2.0, 3.0]])
CALLS = [X, -X, X * 0, X * 100, X * torch.tensor([1.0, -1.0, 1.0]), X - 2]


class Unfit(ValueError):
    pass


def asserted(x: Tensor) -> Any:
    assert (x > 0).all(), "positive"
    return x.log()


def asserted_not(x: Tensor) -> Any:
    assert not torch.any(x > 50)
    return x + 1


def in_torch(x: Tensor) -> Any:
    return torch.nn.functional.gaussian_nll_loss(x, x + 1, x - 0.5)


def both(x: Tensor) -> Any:
    assert x.dim() == 2 and (x.min() >= 0) and x.max() < 50
    return x.sqrt()


def raised(x: Tensor) -> Any:
    if (x < 0).any():
        raise Unfit("negative")
    return x.sqrt()


def raised_unless(x: Tensor) -> Any:
    if not torch.isfinite(x.log()).all():
        raise ValueError
    return x.log()


def either(x: Tensor) -> Any:
    if x.shape[1] != 3 or x.sum() > 60:
        raise ValueError(f"{x.shape}")
    return x * 2


def of_what_is_made(x: Tensor) -> Any:
    mask = torch.ones_like(x, dtype=torch.bool)
    assert mask[0].all()
    return torch.where(mask, x, x * 2)


def within(x: Tensor) -> Any:
    def checked(y: Tensor) -> Tensor:
        assert y.sum() < 60
        return y * 2

    return checked(x) + 1


CHECKED = [asserted, asserted_not, in_torch, both, raised, raised_unless, either, of_what_is_made, within]


@pytest.mark.parametrize("f", CHECKED, ids=lambda f: f.__name__)
def test_raises_where_eager_does(f: Callable[[Tensor], Any]) -> None:
    graph = capture(Model(f), (X,)).methods["forward"].graph
    for x in CALLS:
        wanted = None
        with contextlib.suppress(AssertionError, ValueError):
            wanted = f(x)
        if wanted is None:
            with pytest.raises(ModelError):
                interpret(graph, (x.numpy(),))
        else:
            torch.testing.assert_close(torch.from_numpy(interpret(graph, (x.numpy(),))[0]), wanted)


def test_the_message_is_the_models_own() -> None:
    for f, words in ((asserted, "AssertionError: positive"), (raised, "Unfit: negative"), (both, "assert x.dim")):
        graph = capture(Model(f), (X,)).methods["forward"].graph
        with pytest.raises(ModelError, match=words):
            interpret(graph, ((-X).numpy(),))


def caught(x: Tensor) -> Any:
    try:
        assert (x > 0).all()
    except AssertionError:
        return x * 0
    return x.sqrt()


def suppressed(x: Tensor) -> Any:
    with contextlib.suppress(ValueError):
        raised(x)
    return x + 1


class Swallowed:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> bool:
        return True


def swallowed(x: Tensor) -> Any:
    with torch.no_grad(), Swallowed():
        if x.min() < 0:
            raise Unfit
    return x


def broadly(x: Tensor) -> Any:
    try:
        return x + 1 if x.min() < 0 else x
    except Exception:
        return x - 1


def of_all(x: Tensor) -> Any:
    assert all(value > 0 for value in x[0])
    return x + 1


def chained(x: Tensor) -> Any:
    assert 0 < x.sum() < 50
    return x + 1


def any_of(x: Tensor) -> Any:
    if x.sum() > 0 and x.min() < 0:
        raise ValueError
    return x + 1


def branched(x: Tensor) -> Any:
    if (x < 0).any():
        return x * 2
    return x + 1


@pytest.mark.parametrize(
    "f", [caught, suppressed, swallowed, broadly, of_all, chained, any_of, branched], ids=lambda f: f.__name__
)
def test_decides_more_than_whether_to_raise(f: Callable[[Tensor], Any]) -> None:
    with pytest.raises(NotTraceable, match="depends on the values of a tensor"):
        export_methods(Model(f), (X,), None, None, None)
