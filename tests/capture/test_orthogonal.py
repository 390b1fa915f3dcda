"""Orthogonal decompositions inside models: alignment, whitening, least squares with dynamic sizes, what eager raises,
and the same bits for a matrix whatever it is worked on with.

That each function is right is for op_db to say (`tests/conformance`), and for `tests/ops/test_orthogonal.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import neve
from neve.errors import CaptureError, ModelError
from tests.capture.support import Model
from tests.capture.test_elimination import BATCH, compiled

L = torch.linalg
BATCHES = (0, 1, 5, 16)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Kabsch(nn.Module):
    """The rotation that brings points p (b, n, 3) onto q, and how far they are from it then."""

    def forward(self, p: Tensor, q: Tensor) -> Any:
        p, q = p - p.mean(1, keepdim=True), q - q.mean(1, keepdim=True)
        u, _, vh = L.svd(p.mT @ q)
        mirrored = L.det(u @ vh).sign()
        signs = torch.stack([torch.ones_like(mirrored), torch.ones_like(mirrored), mirrored], -1)
        rotation = (vh.mT * signs.unsqueeze(-2)) @ u.mT
        return rotation, (p @ rotation.mT - q).square().sum((1, 2))


def test_alignment_of_points() -> None:
    points = Dim("points", min=3, max=50)
    example = torch.randn(3, 9, 3), torch.randn(3, 9, 3)
    module = neve.compile(Kabsch(), example, dynamic_shapes=({0: BATCH, 1: points},) * 2, verify=False)
    for n in BATCHES:
        for count in (4, 17):
            p, turn = torch.randn(n, count, 3), L.qr(torch.randn(n, 3, 3))[0]
            for q in (p @ turn, torch.randn_like(p)):
                for got, want in zip(module(p, q), Kabsch()(p, q), strict=True):
                    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)


class Whitened(nn.Module):
    """Samples (b, n, 5) with the covariance of the identity, by principal components and by the symmetric root."""

    def forward(self, x: Tensor) -> Any:
        x = x - x.mean(1, keepdim=True)
        values, vectors = L.eigh(x.mT @ x / x.shape[1])
        scaled = vectors / values.clamp(min=1e-6).sqrt().unsqueeze(-2)
        return (x @ scaled).abs(), x @ scaled @ vectors.mT


def test_whitening() -> None:
    samples = Dim("samples", min=10, max=99)
    module = neve.compile(Whitened(), (torch.randn(3, 20, 5),), dynamic_shapes=({0: BATCH, 1: samples},), verify=False)
    for n in BATCHES:
        for count in (20, 99):
            x = torch.randn(n, count, 5) @ torch.randn(5, 5)
            principal, symmetric = module(x)
            torch.testing.assert_close(
                symmetric.mT @ symmetric / count, torch.eye(5).expand(n, 5, 5), rtol=0, atol=1e-3
            )
            for got, want in zip((principal, symmetric), Whitened()(x), strict=True):
                torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "by_qr": lambda x: [
        L.solve_triangular(L.qr(x)[1], L.qr(x)[0].mT @ x.sum(-1, keepdim=True).exp(), upper=True),
        torch.ormqr(*torch.geqrf(x), x.sum(-1, keepdim=True).exp(), transpose=True),
        torch.ormqr(*x.geqrf(), x.mT, left=False),
        L.householder_product(*torch.geqrf(x)),
    ],
    "lstsq": lambda x: [
        *L.lstsq(x, x.square(), driver="gels")[:2],
        *(L.lstsq(x, x[..., 0], driver="gelsd")[k] for k in (0, 2, 3)),
        *L.lstsq(x.mT, x.mT[..., :1], driver="gels"),
        *L.lstsq(x.mT, x.mT[..., :2], driver="gelss"),
    ],
    "norms": lambda x: [
        *(L.matrix_norm(x, p, keepdim=p == 2) for p in (2, -2, -1, float("inf"), "nuc")),
        *(L.norm(x, 2, dim=(0, 2)), L.matrix_norm(x, -1, (2, 0), True), L.norm(x[0], -2)),
        *(L.cond(x[:, :3], p) for p in (-2, "nuc", "fro")),
    ],
    "tolerances": lambda x: [
        *(L.matrix_rank(x), L.matrix_rank(x, atol=1.0), L.matrix_rank(x @ x.mT, hermitian=True)),
        *(L.pinv(x), L.pinv(x, atol=0.5), L.pinv(x, rtol=torch.tensor([0.1]).double())),
        *(L.pinv(x @ x.mT, rtol=0.2, hermitian=True), L.eigvalsh(x[:, :3], "U"), torch.svd(x, compute_uv=False)[1]),
    ],
}


def compare(got: Any, want: Any, tolerance: float) -> None:
    got, want = (list(v) if isinstance(v, (tuple, list)) else [v] for v in (got, want))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_dynamic_batches() -> None:
    """In float64, so that a difference tells."""
    module = compiled(FUNCTIONS, (torch.randn(3, 5, 3).double(),), ({0: Dim("batch", min=1, max=300)},))
    for n in (1, 5, 16, 33):
        x = torch.randn(n, 5, 3).double()
        for name, f in FUNCTIONS.items():
            compare(getattr(module, name)(x), f(x), 1e-7)


def test_dynamic_matrices() -> None:
    """Of each form, where the number of rows and columns comes with the call; op_db has the static ones."""

    def forms(x: Tensor) -> Any:
        factors = *L.qr(x), *L.svd(x, full_matrices=False), L.eigvalsh(x.mT @ x)
        return [v.abs() for v in factors] + [v.square().sum() for v in (L.qr(x, "complete")[0], L.svd(x)[0])]

    model = Model(forms)
    sizes = {0: Dim("m", min=0, max=90), 1: Dim("n", min=0, max=90)}
    module = neve.compile(model, (torch.randn(5, 4).double(),), dynamic_shapes=(sizes,), verify=False)
    for shape in ((5, 4), (4, 5), (1, 1), (3, 0), (0, 3), (40, 30), (30, 70), (2, 31)):
        x = torch.randn(shape).double()
        compare(module(x), model(x), 1e-7)


def test_rank_deficient_systems() -> None:
    """All but gels give the least solution."""
    x = torch.randn(4, 6, 2).double() @ torch.randn(4, 2, 3).double()
    x[1] = 0

    def solved(x: Tensor) -> Any:
        return [L.lstsq(x, x.exp(), driver=driver)[k] for driver in ("gelsy", "gelsd", "gelss") for k in (0, 2)]

    compare(neve.compile(Model(solved), (x,), verify=False)(x), solved(x), 1e-9)


def test_what_eager_raises() -> None:
    unknown, singular = torch.randn(2, 3, 4, 4)
    unknown[1, 2, 3] = torch.nan
    singular[1] = torch.diag(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    functions = {
        "svdvals": L.svdvals,
        "pinv": L.pinv,
        "matrix_rank": L.matrix_rank,
        "cond": L.cond,
        "gelsy": lambda x: L.lstsq(x, x)[0],
        "gels": lambda x: L.lstsq(x, x, driver="gels")[0],
    }
    module = compiled(functions, (unknown,))
    for name, f in functions.items():
        x, why = (singular, "full rank") if name == "gels" else (unknown, r"linalg\.svd: .* NaN")
        with pytest.raises(RuntimeError):
            f(x)
        with pytest.raises(ModelError, match=rf"{why}.*\.py:\d+"):
            getattr(module, name)(x)


def test_bits_depend_neither_on_the_batch_nor_on_threads() -> None:
    def decompositions(x: Tensor) -> Any:
        return *L.qr(x), *L.eigh(x), *L.svd(x), L.pinv(x)

    x = torch.randn(21, 7, 7)
    module = neve.compile(Model(decompositions), (x,), dynamic_shapes=({0: BATCH},), threads=2, verify=False)
    whole = module(x)
    for begin, end in ((0, 1), (1, 2), (2, 8), (8, 21)):
        for part, all_ in zip(module(x[begin:end]), whole, strict=True):
            assert torch.equal(part, all_[begin:end])


def test_verification_knows_what_is_open() -> None:
    """Equal values, matrices without full rank, zeros: the search tries all."""

    def decompositions(x: Tensor) -> Any:
        return *L.qr(x), *L.eigh(x @ x.mT), *L.svd(x)

    neve.compile(Model(decompositions), (torch.randn(2, 4, 3),))


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        *(
            (f, r"\(a @ solution - b\)\.square\(\)\.sum\(-2\)")
            for f in (
                lambda x: L.lstsq(x, x, driver="gelsd").residuals,
                lambda x: L.lstsq(x, x, driver="gelss")[:2],
                lambda x: tuple(L.lstsq(x, x, driver="gelsd")),
                lambda x: L.lstsq(x, x, driver="gelsd"),
            )
        ),
        (lambda x: L.eigvals(x[:3]).abs(), r"torch\.linalg\.eigvalsh"),
    ],
)
def test_refusals(f: Callable[[Tensor], Any], reason: str) -> None:
    with pytest.raises(CaptureError, match=reason):
        neve.compile(Model(f), (torch.randn(5, 3),))
