"""Writes of rows into state: in its own memory where nothing can tell, else by a copy; results are eager's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neve
from neve.capture.export import capture
from neve.errors import ModelError
from neve.passes.pipeline import optimize
from neve.plan.lowering import Lowering

ROWS, WIDTH = 50, 4
Write = Callable[[Any, Tensor, Tensor], Any]
CASES: dict[str, tuple[bool, Write]] = {}
"""Name → whether it is done in place, and the model."""


def case(in_place: bool) -> Callable[[Write], Write]:
    def register(f: Write) -> Write:
        CASES[f.__name__] = in_place, f
        return f

    return register


@case(True)
def one(self: Any, x: Tensor, at: Tensor) -> Any:
    self.c.index_copy_(1, at, x)
    return self.c.sum(1), self.c[:, 3]


@case(True)
def twice_the_last_stays(self: Any, x: Tensor, at: Tensor) -> Any:
    self.c[:, at] = x
    self.c[:, at + 1] = x * 2
    return self.c.sum(1)


@case(True)
def two_axes(self: Any, x: Tensor, at: Tensor) -> Any:
    self.c[torch.arange(2), at] = x[:, 0]
    return self.c.mean(1)


@case(True)
def half(self: Any, x: Tensor, at: Tensor) -> Any:
    self.h.index_copy_(0, at, x[0].half())
    return self.h[3] * 1


@case(True)
def old_is_read_before(self: Any, x: Tensor, at: Tensor) -> Any:
    before = self.c[:, 1] * 2
    self.c.index_copy_(1, at, x + self.c.index_select(1, at))
    return before, self.c.sum(1)


@case(False)
def old_is_returned(self: Any, x: Tensor, at: Tensor) -> Any:
    old = self.c.clone()
    self.c.index_copy_(1, at, x)
    return old, self.c.sum(1)


@case(False)
def old_and_new_meet(self: Any, x: Tensor, at: Tensor) -> Any:
    old = self.c.clone()
    self.c.index_copy_(1, at, x)
    return (self.c.amax() * old).sum(1)


@case(False)
def a_check_of_the_new(self: Any, x: Tensor, at: Tensor) -> Any:
    self.c.index_copy_(1, at, x)
    return torch.arange(9.0)[self.c.sum().long()]


@case(True)
def a_check_of_the_arguments(self: Any, x: Tensor, at: Tensor) -> Any:
    self.c.index_copy_(1, at, x)
    return torch.arange(40.0)[at] + self.c.sum()


class Rows(nn.Module):
    def __init__(self, write: Write) -> None:
        super().__init__()
        self.write = write
        self.register_buffer("c", torch.zeros(2, ROWS, WIDTH))
        self.register_buffer("h", torch.zeros(ROWS, WIDTH, dtype=torch.half))

    def forward(self, x: Tensor, at: Tensor) -> Any:
        return self.write(self, x, at)


CALLS = ((0, 0.1), (1, 0.1), (4, 0.1), (3, 9), (3, 0.1), (45, 0.1), (ROWS, 0.1), (2, 0.1))
"""Position and size of the values: beyond ROWS - 1 eager raises, and of large ones where a check is on them."""


@pytest.mark.parametrize("name", CASES)
def test_rows_of_state(name: str) -> None:
    in_place, write = CASES[name]
    torch.manual_seed(0)
    model = Rows(write)
    args = torch.rand(2, 1, WIDTH), torch.tensor([2])
    graph = optimize(capture(model, args))[0].methods["forward"].graph
    stages = Lowering().method(graph).block.stages
    assert any(t.type.numel >= ROWS * WIDTH for s in stages for t in s.outputs) is not in_place
    compiled = neve.compile(model, args, verify=False)
    for at, scale in CALLS:
        call = torch.rand(2, 1, WIDTH) * scale, torch.tensor([at])
        before = copy.deepcopy(model.state_dict())
        try:
            want = model(*call)
        except (IndexError, RuntimeError):
            model.load_state_dict(before)
            with pytest.raises(ModelError):
                compiled(*call)
        else:
            torch.testing.assert_close(compiled(*call), want)
