"""Sizes of 0 and 1, which torch.export takes for 2: a model that asks for them raises as eager does, or gives what
eager gives. Each is called at all small sizes of the range it was captured for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.export import Dim

from neve.capture.export import capture
from neve.capture.releases import EMPTY_GROUPS_RAISE
from neve.errors import InputError, ModelError
from neve.ir.interpret import interpret
from tests.capture.support import Model


@dataclass(frozen=True)
class Problem:
    """raises: the sizes (n, t) of at most 3 on which eager does."""

    f: Callable[[Tensor], Any]
    raises: Callable[[int, int], bool] = lambda n, t: False


def _checks(x: Tensor) -> Tensor:
    torch._check(x.shape[0] != 1)
    return x * 2


def _asserts(x: Tensor) -> Tensor:
    assert x.shape[0] > 1
    return x * 2


def _raises(x: Tensor) -> Tensor:
    if x.shape[0] * x.shape[2] <= 1:
        raise ValueError("too few")
    return x * 2


def _raises_of_two(x: Tensor) -> Tensor:
    if x.shape[0] == 1 and x.shape[2] == 1:
        raise ValueError("too few")
    return x * 2


def _branches(x: Tensor) -> Tensor:
    if x.shape[0] == 1:
        return x * 2
    return x + 1


def _branches_at_3(x: Tensor) -> Tensor:
    y = F.pad(x, (1, 1))
    if x.shape[0] > 3 or y.shape[2] == 3:
        y = y.flip(2) * 2
    return y


def _grows(x: Tensor) -> Tensor:
    n = x.shape[2]
    while n < 2:
        n = n + 1
    return x * n


def _empty(n: int, t: int) -> bool:
    return n * t == 0


PROBLEMS = {
    "branch": Problem(lambda x: x * 2 if x.shape[0] == 1 else x + 1),
    "branch of a function": Problem(_branches),
    "branch within the range": Problem(_branches_at_3),
    "branch on a product": Problem(lambda x: x * 2 if x.shape[0] * x.shape[2] == 1 else x + 1),
    "truth": Problem(lambda x: x.sum(2) / x.shape[2] if x.shape[2] else x.sum(2)),
    "least": Problem(lambda x: x * min(x.shape[0], 1) + max(x.shape[2], 1)),
    "a comparison as a value": Problem(lambda x: x + int(x.shape[0] > 1)),
    "loop": Problem(_grows),
    "torch._check": Problem(_checks, raises=lambda n, t: n == 1),
    "assert": Problem(_asserts, raises=lambda n, t: n <= 1),
    "raise": Problem(_raises, raises=lambda n, t: n * t <= 1),
    "raise of two": Problem(_raises_of_two, raises=lambda n, t: n == 1 and t == 1),
    "instance norm": Problem(F.instance_norm, raises=lambda n, t: t == 1),
    "group norm": Problem(
        lambda x: F.group_norm(x, 3), raises=lambda n, t: n * t == 1 or (EMPTY_GROUPS_RAISE and t == 0)
    ),
    "batch norm": Problem(lambda x: F.batch_norm(x, None, None, training=True), raises=lambda n, t: n * t == 1),
    "reflect": Problem(lambda x: F.pad(x, (1, 1), mode="reflect"), raises=lambda n, t: t <= 1),
    "replicate": Problem(lambda x: F.pad(x, (2, 0), mode="replicate"), raises=lambda n, t: t == 0),
    "circular": Problem(lambda x: F.pad(x, (0, 1), mode="circular"), raises=lambda n, t: t == 0),
    "amax": Problem(lambda x: x.amax(0), raises=lambda n, t: n == 0),
    "max": Problem(lambda x: x.max(2)[0], raises=lambda n, t: t == 0),
    "max of all": Problem(lambda x: x.max() + x.min(), raises=_empty),
    "argmin": Problem(lambda x: x.argmin(2), raises=lambda n, t: t == 0),
    "argmax of all": Problem(lambda x: x.argmax(), raises=_empty),
    "inf norm": Problem(lambda x: torch.linalg.vector_norm(x, float("inf"), 2), raises=lambda n, t: t == 0),
    "softmax": Problem(lambda x: x.softmax(0) + x.sum(2, keepdim=True)),
    "mean": Problem(lambda x: x.mean((0, 2))),
}


@pytest.mark.parametrize("least", [0, 1, 2])
@pytest.mark.parametrize("name", PROBLEMS)
def test_small_sizes(name: str, least: int) -> None:
    torch.manual_seed(0)  # in some draws eager's float32 is further from float64 than the tolerance
    problem = PROBLEMS[name]
    ranges = {0: Dim("n", min=least, max=9), 2: Dim("t", min=least, max=9)}
    model = Model(problem.f)
    program = capture(model, (torch.randn(3, 3, 4),), dynamic_shapes=(ranges,))
    graph = program.methods["forward"].graph
    for n, t in itertools.product(range(least, 4), repeat=2):
        x = torch.randn(n, 3, t)
        if problem.raises(n, t):
            with pytest.raises((AssertionError, IndexError, RuntimeError, ValueError)):
                model(x)
            with pytest.raises((ModelError, InputError)):
                interpret(graph, (x.numpy(),))
            continue
        wanted = torch.utils._pytree.tree_leaves(model(x))
        for got, want in zip(interpret(graph, (x.numpy(),)), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_an_int_may_be_0_or_1_though_torch_says_it_is_not() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, k: int) -> Tensor:
            return x if k == 1 else x * k

    program = capture(Scaled(), (torch.randn(3), 3), dynamic_shapes=(None, Dim.DYNAMIC))
    method = program.methods["forward"]
    for k in (0, 1, 2, 7):
        inputs = np.ones(3, np.float32), np.array(k)
        np.testing.assert_allclose(interpret(method.graph, inputs, sizes=method.given_sizes(inputs))[0], np.full(3, k))


def test_a_question_about_a_size_that_two_inputs_share() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            if y.shape[0] == 1:
                raise ValueError("too few")
            return x + y

    n = Dim("n", min=1, max=9)
    program = capture(Both(), (torch.randn(4, 2), torch.randn(4, 2)), dynamic_shapes=({0: n}, {0: n}))
    one = np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match="wanted sizes where n != 1"):
        interpret(program.methods["forward"].graph, (one, one))


@pytest.mark.parametrize("at", [70, 1000, 99_999])
def test_a_branch_far_from_the_example(at: int) -> None:
    """The range is too wide to try all of it, and the bounds do not decide."""
    for f in (lambda x: x * 2 if x.shape[0] == at else x, lambda x: x * 2 if x.shape[0] > at else x):
        program = capture(Model(f), (torch.randn(64),), dynamic_shapes=({0: Dim("n", min=1, max=100_000)},))
        for n in (1, 64, at - 1, at, at + 1):
            x = torch.randn(n)
            np.testing.assert_array_equal(interpret(program.methods["forward"].graph, (x.numpy(),))[0], f(x))
