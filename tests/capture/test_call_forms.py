"""However the example was given, by position or by name and in any order, a call means what it means in eager."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neve

NAMES = ("a", "b", "c")
VALUES = {name: torch.tensor([float(k + 1), 10.0]) for k, name in enumerate(NAMES)}


class Plain(nn.Module):
    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return a + 2 * b - 3 * c


class Optional(nn.Module):
    def forward(self, a: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        y = a if b is None else a + 2 * b
        return y if c is None else y - 3 * c


class Named(nn.Module):
    def forward(self, a: Tensor, *, c: Tensor, b: Tensor) -> Tensor:
        return a + 2 * b - 3 * c


def forms(names: tuple[str, ...]) -> Any:
    """(how many are given by position, the order of the others)"""
    for count in range(len(names) + 1):
        for order in permutations(names[count:]):
            yield count, order


def arguments(names: tuple[str, ...], count: int, order: tuple[str, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(VALUES[n] for n in names[:count]), {n: VALUES[n] for n in order}


@pytest.mark.parametrize("given", [("a", "b", "c"), ("a", "c"), ("a",)], ids="".join)
@pytest.mark.parametrize("kind", [Plain, Optional, Named])
def test_a_call_means_what_it_means_in_eager(kind: type[nn.Module], given: tuple[str, ...]) -> None:
    model = kind().eval()
    answered = 0
    for count, order in forms(given):
        args, kwargs = arguments(given, count, order)
        if not takes(model, args, kwargs):
            continue
        module = neve.compile(model, args, kwargs, verify=False, threads=1)
        for calls in forms(NAMES[: len(given)]):
            args, kwargs = arguments(NAMES[: len(given)], *calls)
            try:
                got = module(*args, **kwargs)
            except neve.InputError:
                continue
            assert torch.equal(got, model(*args, **kwargs))
            answered += 1
        args, kwargs = arguments(given, count, order)
        assert torch.equal(module(*args, **kwargs), model(*args, **kwargs))
    assert answered or not takes(model, *arguments(given, len(given), ()))


def takes(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        model(*args, **kwargs)
    except TypeError:
        return False
    return True
