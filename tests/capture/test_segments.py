"""Histograms and reductions over segments against eager where op_db has no samples: elements on and beside the edges
of bins, NaN and Inf, sizes that vary, lengths and positions that eager refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neve
from neve.errors import NeveError
from tests.capture.support import Model

EDGES = torch.tensor([-1.0, -0.3, 0.0, 0.1, 0.7, 2.0])


def on_edges(dtype: torch.dtype) -> Tensor:
    """Edges of bins of many numbers, and their neighbours."""
    at = torch.cat([torch.linspace(-1, 2, n + 1, dtype=dtype) for n in (1, 3, 7, 100)])
    beside = [torch.nextafter(at, torch.full_like(at, to)) for to in (-9, 9)]
    return torch.cat([at, *beside, EDGES.to(dtype)])


SPECIAL = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0, 2.0, -1.0, 0.5])
HISTOGRAMS: dict[str, Callable[[Tensor], Any]] = {
    "histc": lambda x: torch.histc(x, 7, -1, 2),
    "histc_of_range": lambda x: torch.histc(x, 100),
    "histc_of_ends": lambda x: torch.histc(x, 3, 1, 1),
    "histogram": lambda x: torch.histogram(x, 7, range=(-1.0, 2.0)),
    "density": lambda x: torch.histogram(x, 100, density=True),
    "weighted": lambda x: torch.histogram(x, 3, weight=x * x),
    "bins": lambda x: torch.histogram(x, EDGES.to(x.dtype), density=True),
    "histogramdd": lambda x: torch.histogramdd(torch.stack([x, x * 0.5], -1), [3, 7], range=[-1.0, 2.0, -0.5, 1.0]),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.float32) for name in HISTOGRAMS), ("density", torch.float64)], ids=str
)
def test_every_element_falls_into_eagers_bin(name: str, dtype: torch.dtype) -> None:
    model, x = Model(HISTOGRAMS[name]), on_edges(dtype)
    varies = "histc" in name  # torch has no shape functions for the others
    sizes = {"x": {0: torch.export.Dim("n", min=1, max=20000)}} if varies else None
    module = neve.compile(model, (x,), dynamic_shapes=sizes, verify=False)
    special, n = SPECIAL.to(dtype), len(x)
    draws = [torch.randn(n, dtype=dtype), torch.full((n,), 0.7, dtype=dtype), special.repeat(n)[:n]]
    for given in (x, *draws, *([special, draws[0].repeat(20)] if varies else ())):
        try:
            want = model(given)
        except RuntimeError:  # a range that is not finite
            with pytest.raises(NeveError, match="not finite"):
                module(given)
            continue
        assert_same(module(given), want)


def assert_same(got: Any, want: Any, tolerance: float = 2e-6) -> None:
    got, want = (torch.utils._pytree.tree_leaves(v) for v in (got, want))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=tolerance, atol=1e-7, equal_nan=True)


class Segments(nn.Module):
    def __init__(self, reduce: str, **options: Any) -> None:
        super().__init__()
        self.reduce, self.options = reduce, options

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return torch.segment_reduce(x, self.reduce, lengths=lengths, **self.options)


@pytest.mark.parametrize("initial", [None, 2.0])
@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "max", "min"])
def test_segments_of_any_length(reduce: str, initial: float | None) -> None:
    x = torch.randn(9, 2)
    x[4, 1] = float("nan")
    model = Segments(reduce, initial=initial)
    module = neve.compile(model, (x, torch.tensor([2, 3, 4])), verify=False)
    for lengths in ([2, 3, 4], [0, 9, 0], [9, 0, 0], [4, 0, 5]):
        torch.testing.assert_close(module(x, torch.tensor(lengths)), model(x, torch.tensor(lengths)), equal_nan=True)
    for wrong in ([2, 3, 5], [10, -1, 0], [1, 1, 1]):
        with pytest.raises(NeveError, match="segment_reduce: "):
            module(x, torch.tensor(wrong))


class Put(nn.Module):
    def forward(self, x: Tensor, at: Tensor) -> Any:
        values = torch.arange(at.numel(), dtype=x.dtype)
        rows = values.reshape(-1, 1).expand(-1, x.shape[1])
        return (
            x.put(at.reshape(1, -1), values, accumulate=True),
            x.index_reduce(0, at, rows, "amax", include_self=False),
            x.index_reduce(0, at, rows, "mean"),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32, torch.uint8], ids=str)
def test_rows_and_elements_at_positions(dtype: torch.dtype) -> None:
    x = (torch.randn(5, 3) * 9).abs().to(dtype)
    model, at = Put(), torch.tensor([4, 0, 4, 1])
    sizes = {"x": {0: torch.export.Dim("n", min=1, max=50)}, "at": {0: torch.export.Dim("m", max=50)}}
    module = neve.compile(model, (x, at), dynamic_shapes=sizes, verify=False)
    for given in (at, torch.tensor([2, 2, 2, 2, 0, 1]), torch.tensor([], dtype=torch.int64)):
        assert_same(module(x, given), model(x, given), 2e-3 if dtype is torch.float16 else 0)
    with pytest.raises(NeveError, match="out of range"):
        module(x, torch.tensor([5]))
    with pytest.raises(NeveError, match="index_reduce"):
        module(x, torch.tensor([-1]))
