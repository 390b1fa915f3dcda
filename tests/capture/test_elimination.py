"""Linear algebra by elimination inside models: filters and likelihoods with dynamic batches, what eager raises, and the
same bits for a matrix whatever it is worked on with.

That each op is right is for op_db to say (`tests/conformance`), and for the samples of `neve.ops.elimination`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.errors import ModelError
from tests.capture.support import Model

L = torch.linalg
BATCH = Dim("batch", min=0, max=300)
BATCHES = (0, 1, 5, 16, 33)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def definite(*shape: int) -> torch.Tensor:
    """Positive-definite matrices, (…, n, n)."""
    x = torch.randn(*shape)
    return x @ x.mT + torch.eye(shape[-1])


def compiled(
    functions: Mapping[str, Callable[..., Any]], example: tuple[Any, ...], dynamic: Any = None, **how: Any
) -> Any:
    """All of them as methods of one module, without a comparison."""

    def method(f: Callable[..., Any]) -> Callable[..., Any]:
        return {1: lambda self, x: f(x), 3: lambda self, x, y, z: f(x, y, z)}[len(example)]

    model = type("Functions", (nn.Module,), {name: method(f) for name, f in functions.items()})()
    for name, f in functions.items():
        if isinstance(f, nn.Module):
            model.add_module(f"{name}_module", f)
    wanted = {name: {"args": example, "dynamic_shapes": dynamic} for name in functions}
    return neve.compile(model, methods=wanted, verify=False, **how)


class Kalman(nn.Module):
    """One step of a filter with 4 states and 2 measurements; gain: K from S and H P."""

    def __init__(self, gain: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.gain = gain
        self.register_buffer("step", torch.eye(4) + 0.1 * torch.randn(4, 4))
        self.register_buffer("measure", torch.randn(2, 4))

    def forward(self, x: torch.Tensor, p: torch.Tensor, z: torch.Tensor) -> Any:
        h = self.measure
        x, p = self.step @ x.unsqueeze(-1), self.step @ p @ self.step.mT + 0.1 * torch.eye(4, dtype=p.dtype)
        k = self.gain(h @ p @ h.mT + 0.2 * torch.eye(2, dtype=p.dtype), h @ p)
        return (x + k @ (z.unsqueeze(-1) - h @ x)).squeeze(-1), p - k @ h @ p


GAINS = {
    "inv": lambda s, hp: hp.mT @ L.inv(s),
    "cholesky_solve": lambda s, hp: torch.cholesky_solve(hp, L.cholesky(s)).mT,
}


def test_kalman_filter() -> None:
    """In float64, so that a difference tells."""
    models = {name: Kalman(gain).double() for name, gain in GAINS.items()}
    example = torch.randn(3, 4).double(), definite(3, 4, 4).double(), torch.randn(3, 2).double()
    module = compiled(models, example, ({0: BATCH},) * 3)
    for name, model in models.items():
        for n in BATCHES:
            args = [x.double() for x in (torch.randn(n, 4), definite(n, 4, 4), torch.randn(n, 2))]
            for got, want in zip(getattr(module, name)(*args), model(*args), strict=True):
                torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


class Likelihood(nn.Module):
    """Of x under Gaussians, by the factor and by the determinant."""

    def forward(self, x: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> Any:
        factor = L.cholesky(covariance)
        z = L.solve_triangular(factor, (x - mean).unsqueeze(-1), upper=False).squeeze(-1)
        distance = z.square().sum(-1)
        by_factor = -0.5 * distance - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return by_factor, -0.5 * (distance + torch.logdet(covariance)), torch.det(covariance)


def test_likelihood_of_gaussians_of_any_dimension() -> None:
    model, size = Likelihood(), Dim("size", min=1, max=80)
    example = torch.randn(3, 4), torch.randn(3, 4), definite(3, 4, 4)
    shapes = ({0: BATCH, 1: size}, {0: BATCH, 1: size}, {0: BATCH, 1: size, 2: size})
    module = neve.compile(model, example, dynamic_shapes=shapes, verify=False)
    for n in BATCHES:
        for d in (1, 3, 17, 80):
            args = torch.randn(n, d), torch.randn(n, d), definite(n, d, d) / d
            for got, want in zip(module(*args), model(*args), strict=True):
                torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    with pytest.raises(ModelError, match=r"linalg\.cholesky: the matrix is not positive-definite.*L\.cholesky\(cov"):
        module(*args[:2], -args[2])


SIZED: dict[str, Callable[[torch.Tensor], Any]] = {
    "lu": lambda x: tuple(L.lu(x[..., 1:])),
    "solve": lambda x: L.solve(x, x[..., 0]),
    "right": lambda x: L.solve(x, x[:, :1], left=False),
    "ldl": lambda x: L.ldl_solve(*L.ldl_factor(x + x.mT), x),
    "matrix_exp": lambda x: torch.matrix_exp(x / 8),
    "norms": lambda x: (L.matrix_norm(x, 1), L.norm(x, -math.inf, dim=(2, 1), keepdim=True), L.norm(x[0], 1)),
    "cond": lambda x: (L.cond(x, "fro"), L.cond(x, -1)),
    "multi_dot": lambda x: L.multi_dot([x[0, 0], x[0], x[0, 1]]),
    "cov": lambda x: torch.cov(x[0], aweights=x[0, 0] ** 2),
}


def test_sizes_may_be_dynamic() -> None:
    size = Dim("size", min=2, max=30)
    shapes = ({0: Dim("batch", min=1, max=300), 1: size, 2: size},)
    module = compiled(SIZED, (torch.randn(2, 4, 4).double(),), shapes)
    for n, d in ((1, 2), (3, 4), (9, 19)):
        x = (torch.randn(n, d, d) + 3 * torch.eye(d)).double()
        for name, f in SIZED.items():
            want = f(x)
            for got, w in zip(_all(getattr(module, name)(x)), _all(want), strict=True):
                torch.testing.assert_close(got, w, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def _all(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


# The same operations in the same order, side by side or one at a time.


def factors(x: torch.Tensor) -> Any:
    half = L.solve_triangular(x, x.mT, upper=True)
    exponential = torch.matrix_exp(x / 8)
    return *L.lu_factor_ex(x)[:2], L.inv_ex(x)[0], half, L.cholesky_ex(x @ x.mT)[0], exponential


def test_bits_depend_neither_on_the_batch_nor_on_threads() -> None:
    x = torch.randn(21, 20, 20) + 3 * torch.eye(20)
    module = neve.compile(Model(factors), (x,), dynamic_shapes=({0: BATCH},), threads=2, verify=False)
    whole = module(x)
    for begin, end in ((0, 1), (1, 2), (2, 8), (8, 21)):
        for part, all_ in zip(module(x[begin:end]), whole, strict=True):
            assert torch.equal(part, all_[begin:end])


# What eager raises.

CHECKED: dict[str, Callable[[torch.Tensor], Any]] = {
    "inv": L.inv,
    "inv_ex": lambda x: tuple(L.inv_ex(x, check_errors=True)),
    "tensorinv": lambda x: L.tensorinv(x, 1),
    "matrix_power": lambda x: L.matrix_power(x, -2),
    "solve": lambda x: L.solve(x, torch.ones_like(x)),
    "solve_ex": lambda x: tuple(L.solve_ex(x, torch.ones_like(x), check_errors=True)),
    "tensorsolve": lambda x: L.tensorsolve(x, torch.ones_like(x[0])),
    "lu_factor": lambda x: tuple(L.lu_factor(x)),
    "cholesky": L.cholesky,
    "upper_cholesky": lambda x: torch.cholesky(x, upper=True),
    "cholesky_ex": lambda x: tuple(L.cholesky_ex(x, check_errors=True)),
    "cholesky_inverse": torch.cholesky_inverse,
    "lu_unpack": lambda x: torch.lu_unpack(x, x.diagonal().int() + 1),
    "cov": lambda x: torch.cov(x, aweights=x.diagonal()),
}


def small_integers(seed: int) -> Iterator[torch.Tensor]:
    """Matrices of which many are singular, and exactly so."""
    rng = np.random.default_rng(seed)
    for k in range(12):
        x = rng.integers(-2, 3, (2, 2)).astype(np.float32)
        yield torch.from_numpy(x @ x.T if k % 2 else x)


@pytest.fixture(scope="module")
def checked() -> Any:
    return compiled(CHECKED, (torch.eye(2),))


@pytest.mark.parametrize("name", CHECKED)
def test_raises_where_eager_does(name: str, checked: Any) -> None:
    raised = 0
    for x in (torch.zeros(2, 2), *small_integers(len(name))):
        try:
            want = CHECKED[name](x)
        except RuntimeError:
            raised += 1
            with pytest.raises(ModelError, match=r"test_elimination\.py"):
                getattr(checked, name)(x)
            continue
        got = getattr(checked, name)(x)
        for g, w in zip(_all(got), _all(want), strict=True):
            torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert raised


def test_roundings_that_decide_what_is_singular_are_no_difference() -> None:
    """Of rank 3 at most: which pivots are 0 hangs on how the product rounds."""
    neve.compile(Model(lambda x: L.inv(x.mT @ x)), (torch.randn(3, 4),), verify="thorough")
