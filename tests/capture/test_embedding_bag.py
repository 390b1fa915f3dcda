"""Embedding bags against eager where op_db has no samples: offsets that are empty, go down, or are out of range."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neve.errors import NeveError
from tests.conformance.backends import interpret

OFFSETS = (
    [0, 2, 4], [0, 4, 2], [0, 5, 3], [0, 2, 2], [0, 6, 6], [0, 0, 0], [0, 0, 6], [1, 2, 3], [0, 1, 7], [0, 2, -1],
    [0, -1, 2],
)  # fmt: skip
INDICES = ([0, 1, 2, 3, 4, 5], [2, 2, 2, 7, 2, 1], [0, 8, 1, 1, 1, 1])


class Bags(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, weight: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
        return nn.functional.embedding_bag(indices, weight, offsets, **self.options)


def outcome(f: Any, *args: Any) -> Any:
    try:
        return f(*args)
    except (RuntimeError, IndexError, NeveError):
        return None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # torch has a kernel for each
@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_every_offset_means_what_it_means_in_eager(
    mode: str, last: bool, padding: int | None, dtype: torch.dtype
) -> None:
    model = Bags(mode=mode, include_last_offset=last, padding_idx=padding)
    weight = torch.linspace(-2, 2, 24).reshape(8, 3).to(dtype)
    weight[4] = float("nan")
    run = interpret(model, (weight, torch.tensor(INDICES[0]), torch.tensor(OFFSETS[0])), {})
    undefined = mode != "max" and padding is None and dtype is torch.float32  # eager may read behind its tensors
    for indices, offsets in itertools.product(INDICES, OFFSETS):
        if undefined and offsets != sorted(offsets):
            continue
        args = (weight, torch.tensor(indices), torch.tensor(offsets))
        want, got = outcome(model, *args), outcome(run, args)
        assert (want is None) == (got is None), (indices, offsets)
        if want is not None:
            torch.testing.assert_close(torch.from_numpy(got[0]), want, equal_nan=True)
