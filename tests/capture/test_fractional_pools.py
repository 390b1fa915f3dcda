"""Fractional max pooling against eager with the same seeds: op_db's samples seed inside of the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from tests.capture.support import Model

SIZES = {0: Dim("n", min=1, max=6), 2: Dim("h", min=7, max=30)}
POOLS: dict[str, tuple[nn.Module, tuple[int, ...], Any]] = {
    "sizes_vary": (nn.FractionalMaxPool2d(3, output_size=(5, 4), return_indices=True), (2, 3, 11, 9), SIZES),
    "ratio": (nn.FractionalMaxPool2d((2, 3), output_ratio=(0.6, 0.5)), (3, 13, 10), None),
    "one_window": (nn.FractionalMaxPool2d(2, output_size=(13, 1)), (2, 3, 19, 9), None),
    "volume": (nn.FractionalMaxPool3d((2, 1, 3), output_size=(4, 3, 2), return_indices=True), (2, 2, 8, 7, 9), None),
}


@pytest.mark.parametrize(("name", "dtype"), [*((n, torch.float32) for n in POOLS), ("ratio", torch.float64)], ids=str)
def test_windows_lie_where_eagers_do(name: str, dtype: torch.dtype) -> None:
    pool, shape, sizes = POOLS[name]
    model, x = Model(pool), torch.randn(shape, dtype=dtype)
    module = neve.compile(model, (x,), dynamic_shapes={"x": sizes} if sizes else None, verify=False)
    some_nan = torch.where(torch.rand(shape) < 0.2, torch.nan, x)
    larger = [torch.randn(1, 3, h, 9, dtype=dtype) for h in (7, 8, 30)] if sizes else []
    for given in (x, some_nan, torch.full_like(x, -torch.inf), x.round(), *larger):
        for seed in range(8):
            torch.manual_seed(seed)
            want = model(given)
            module.manual_seed(seed)
            torch.testing.assert_close(module(given), want, rtol=0, atol=0, equal_nan=True)
