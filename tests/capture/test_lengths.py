"""Lengths that data decide, against eager: masks of every kind, dynamic sizes, compiled once without a check."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import neve
from neve.errors import CaptureError, NeveError
from neve.runtime.loader import Module
from tests.host_program import needs, run_sanitized

Function = Callable[..., Any]


class Model(nn.Module):
    """Every function of FUNCTIONS is a method: of x (N, 4) and integers k (N)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.conv = nn.Conv1d(4, 5, 3, padding=1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.register_buffer("total", torch.zeros(4))


def _written(model: Model, x: Tensor, k: Tensor) -> Tensor:
    x = x.clone()
    x[k > 0] = x[k > 0] * 2
    x[x < -1] = 0.5
    return x


def _summed(model: Model, x: Tensor, k: Tensor) -> Tensor:
    model.total.add_(x[k > 0].sum(0))
    return model.total.clone()


def _attended(model: Model, x: Tensor, k: Tensor) -> Tensor:
    kept = x[k > 0][None]
    return model.attention(kept, kept, kept)[0]


FUNCTIONS: dict[str, Function] = {
    "positions": lambda m, x, k: torch.nonzero(x > 0),
    "argwhere": lambda m, x, k: torch.argwhere(k),
    "where": lambda m, x, k: torch.where(x > 0),
    "rows": lambda m, x, k: (x[k > 0], k[k > 0], torch.nonzero(k > 0).flatten()),
    "columns": lambda m, x, k: x[:, x.sum(0) > 0].softmax(-1),
    "elements": lambda m, x, k: torch.masked_select(x, k[:, None] > 0).cumsum(0),
    "of_some": lambda m, x, k: x[k > 0][(k > 1)[k > 0]],
    "mean": lambda m, x, k: x[x > 0].mean(),
    "two_lengths": lambda m, x, k: torch.cat([x[k > 0], x[k < 0]]),
    "equal_lengths": lambda m, x, k: x[k > 0] + x[k > 0].flip(0),
    "products": lambda m, x, k: x[k > 0] @ x[k < 0].T,
    "ordered": lambda m, x, k: x[k > 0].sort(0).values,
    "count": lambda m, x, k: x[k > 0].shape[0],
    "counted": lambda m, x, k: torch.arange(k.nonzero().shape[0]),
    "some": lambda m, x, k: torch.nonzero_static(x > 0, size=5, fill_value=-7),
    "into_linear": lambda m, x, k: m.linear(x[k > 0]).relu(),
    "into_conv": lambda m, x, k: m.conv(x[k > 0].T[None]),
    "attended": _attended,
    "written": _written,
    "summed": _summed,
    "unique": lambda m, x, k: torch.unique(k, return_inverse=True, return_counts=True),
    "runs": lambda m, x, k: torch.unique_consecutive(k, return_inverse=True, return_counts=True),
    "rows_in_runs": lambda m, x, k: torch.unique_consecutive((x > 0).int(), dim=0),
    "columns_in_runs": lambda m, x, k: torch.unique_consecutive((x > 0).int(), dim=1),
    "repeated": lambda m, x, k: torch.repeat_interleave(x, k.abs() * 30, dim=0),
    "counts": lambda m, x, k: torch.bincount(k.clamp(min=0) * 50, minlength=3),
    "weighed": lambda m, x, k: torch.bincount(k.abs(), weights=x[:, 0]),
}
N = Dim("N", min=0, max=300)
EXAMPLE = torch.randn(6, 4), torch.tensor([1, 0, 2, -1, 1, 0])


def calls() -> Iterator[tuple[Tensor, Tensor]]:
    """Sizes with masks of no, one, all and some true elements, NaN among what is looked at."""
    g = torch.Generator().manual_seed(3)
    for n in (6, 0, 1, 7, 200):
        x, k = torch.randn(n, 4, generator=g), torch.randint(-2, 3, (n,), generator=g)
        one = torch.zeros(n, dtype=torch.int64)
        one[n // 2 :][:1] = 1
        yield from ((x, k), (-x.abs() - 1, -k.abs()), (x.abs() + 1, k.abs() + 1), (x, one))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return type("Of", (Model,), dict(FUNCTIONS))().eval()


@pytest.fixture(scope="module")
def module(model: Model) -> Module:
    spec = {"args": EXAMPLE, "dynamic_shapes": ({0: N}, {0: N})}
    return neve.compile(copy.deepcopy(model), methods=dict.fromkeys(FUNCTIONS, spec), verify=False, threads=2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_eager(name: str, model: Model, module: Module) -> None:
    model = copy.deepcopy(model)
    same = 0
    for x, k in calls():
        try:
            want = getattr(model, name)(x, k)
        except (RuntimeError, IndexError, AssertionError):
            with pytest.raises(NeveError):
                getattr(module, name)(x, k)
            continue
        try:
            got = getattr(module, name)(x, k)
        except NeveError:
            assert name in ("into_conv", "attended", "weighed")
            # torch.export itself asserts that some row is kept; of nothing eager gives integers, whatever the weights
            assert len(x) == 0 if name == "weighed" else not (k > 0).any()
            continue
        torch.testing.assert_close(got, want, equal_nan=True)
        same += 1
    assert same > 5


class Kept(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return self.linear(x[k > 0]).softmax(1)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_in_a_c_program(share: float, tmp_path: Path, compiler_names: list[str]) -> None:
    """Under sanitizers, on 1 to 3 threads: the size beside the result, and nothing written behind it."""
    needs("gcc", compiler_names)
    model, x = Kept(), torch.randn(37, 4)
    k = (torch.arange(37) % 10 < 10 * share).long()
    module = neve.compile(model, (x, k), verify=False)
    assert "u0 (0 .. 37)" in module.artifact.sources[f"{module.name}.h"]
    found = run_sanitized(module, (x, k), np.empty((37, 3), np.float32), tmp_path, measured=int(k.sum()))
    want = model(x, k).detach().numpy()
    np.testing.assert_allclose(found[: len(want)], want, rtol=1e-5, atol=1e-6)
    assert set(found[len(want) :].tobytes()) <= {0xCD}


class Guarded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x[x > 0]
        return y.mean() if y.numel() > 0 else x.sum()


class OnOneSide(nn.Module):
    """A length that either side measures for itself, though torch has one symbol for both; one that both sides keep."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        keep, y = x > 0, x[x < 0.5]
        if len(y) > 3:
            y = y * 2
        z = x[keep].sum() if x.sum() > 1 else x[keep].prod()
        return y, z


@pytest.mark.parametrize("model", [Guarded(), OnOneSide()], ids=lambda m: type(m).__name__)
def test_branches(model: nn.Module) -> None:
    x = torch.linspace(-1, 2, 8)
    module = neve.compile(model, (x,))
    for given in (x, -x.abs(), x.abs()):
        torch.testing.assert_close(module(given), model(given))


class Drawn(nn.Module):
    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return torch.repeat_interleave(x + torch.randn(4), k, dim=0)


def test_a_length_without_bound_after_random_numbers_is_refused() -> None:
    with pytest.raises(CaptureError, match="output_size"):
        neve.compile(Drawn(), (torch.randn(4), torch.tensor([1, 0, 2, 1])))


def test_flags_that_torch_takes_by_position_for_others_are_refused() -> None:
    class ByPosition(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return torch.unique_consecutive(x, True, False)

    with pytest.raises(CaptureError, match="by name"):
        neve.compile(ByPosition(), (torch.ones(3),), verify=False)
