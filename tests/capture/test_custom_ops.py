"""Custom ops: refused with the fix, which is to say what they compute in torch's ops, and held to that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neve
from neve.capture import custom_ops
from neve.errors import CaptureError, NeveError, VerifyError

LIBRARY = torch.library.Library("neve_tests", "DEF")
LIBRARY.define("plain(Tensor x, float scale=2.0, *, int power=1) -> Tensor")
LIBRARY.impl("plain", lambda x, scale=2.0, power=1: x**power * scale, "CompositeExplicitAutograd")
torch.library.register_fake("neve_tests::plain", lambda x, scale=2.0, *, power=1: torch.empty_like(x))
LIBRARY.define("add_one_(Tensor(a!) x) -> Tensor(a!)")
LIBRARY.impl("add_one_", lambda x: x.add_(1), "CompositeExplicitAutograd")


@torch.library.custom_op("neve_tests::by_numpy", mutates_args=())
def by_numpy(x: Tensor, low: float) -> tuple[Tensor, Tensor]:
    """An op whose code torch cannot trace, without an implementation for fake tensors."""
    return torch.from_numpy(x.numpy().clip(low)), torch.from_numpy(x.numpy().sum(1))


def by_torch(x: Tensor, low: float) -> tuple[Tensor, Tensor]:
    return x.clamp(min=low), x.sum(1)


class Calls(nn.Module):
    def forward(self, x: Tensor) -> Any:
        clipped, total = by_numpy(x * 2, 0.25)
        return torch.ops.neve_tests.plain(clipped, power=2) + total[:, None]


@pytest.fixture(autouse=True)
def none_registered() -> Iterator[None]:
    yield
    custom_ops._GIVEN.clear()


def test_the_function_is_compiled_in_the_ops_place() -> None:
    x = torch.randn(3, 4)
    with pytest.raises(CaptureError, match=r'register_op\("neve_tests::by_numpy", a function\)'):
        neve.compile(Calls(), (x,))
    neve.register_op(by_numpy, by_torch)
    with pytest.raises(CaptureError, match=r'register_op\("neve_tests::plain", a function\)'):
        neve.compile(Calls(), (x,))
    neve.register_op("neve_tests::plain", lambda x, scale, *, power: x**power * scale)
    module = neve.compile(Calls(), (x,), dynamic_shapes={"x": {0: torch.export.Dim("n", max=9)}}, verify=False)
    for given in (x, torch.randn(7, 4)):
        torch.testing.assert_close(module(given), Calls()(given))


def test_a_function_that_computes_something_else_is_noticed() -> None:
    neve.register_op(by_numpy, lambda x, low: (x.clamp(min=low), x.sum(1) * 1.01))
    neve.register_op("neve_tests::plain", lambda x, scale, *, power: x**power * scale)
    with pytest.raises(VerifyError):
        neve.compile(Calls(), (torch.randn(3, 4),))
    neve.register_op("neve_tests::plain", lambda x, scale, *, power: (x**power * scale).double())
    with pytest.raises(CaptureError, match=r"gives \['torch.float64 of 2 dims'\], the op \['torch.float32"):
        neve.compile(Calls(), (torch.randn(3, 4),), verify=False)


@pytest.mark.parametrize("op", ["neve_tests::add_one_", "neve_tests::none", "by_numpy", 3, torch.ops.aten.relu])
def test_what_is_no_op_of_the_users_is_refused(op: Any) -> None:
    with pytest.raises(NeveError):
        neve.register_op(op, lambda x: x)
