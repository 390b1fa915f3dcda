"""Orthogonal decompositions: kernels against the meaning, to the bit, where bases are open as well; the meaning against
the definitions, and against torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from neve.ir.types import DType, TensorType, symbol
from neve.ops.base import Op
from neve.ops.orthogonal import Eigh, Geqrf, Ormqr, Qr, Svd, rounding
from tests.ops.loops_numpy import NumpyBuilder

L = torch.linalg
N, M, K = symbol("n"), symbol("m"), symbol("k")
SHAPES = ((1, 1), (2, 2), (3, 3), (6, 6), (27, 27), (2, 1), (5, 3), (3, 5), (7, 5), (27, 29))
"""LAPACK works in another way on more than 25 rows, and on matrices half as high again as they are wide."""
OPS: tuple[Op, ...] = (
    *(Qr(K, mode) for mode in ("reduced", "complete", "r")),
    Geqrf(K),
    *(Eigh(upper) for upper in (False, True)),
    Eigh(True, False),
    *(Svd(K, full) for full in (False, True)),
    Svd(K, False, False),
)


def batch(m: int, n: int, dtype: Any) -> np.ndarray:
    """Matrices (…, m, n), most of which have equal values, no full rank, or nothing to reflect; two if large."""
    x = np.random.default_rng(m + n).normal(size=(8, m, n))
    x[0] *= 2.0 ** -np.arange(n) * 1e-3
    x[1] = 1
    x[2] = np.round(x[2])
    x[3] = -0.0
    x[4] = np.eye(m, n)
    x[5, :, 0] = 0
    x[6, -1] = x[6, 0]
    return x[: 2 if n > 9 else 8].astype(dtype)


def problems(op: type[Op], dtype: Any) -> Iterator[np.ndarray]:
    return (batch(m, n, dtype) for m, n in SHAPES if m == n or op is not Eigh)


@cache
def evaluated(op: Op, m: int, n: int, dtype: Any) -> tuple[np.ndarray, ...]:
    return op.eval(batch(m, n, dtype))


def at(op: Op, x: np.ndarray) -> Op:
    """op for matrices of this size."""
    return type(op)(**{**vars(op), "k": min(x.shape[-2:])}) if "k" in vars(op) else op


@pytest.mark.parametrize("op", OPS, ids=str)
def test_kernels_give_the_bits_of_the_meaning(op: Op) -> None:
    """For all sizes by one kernel, which takes them from the call."""
    for dtype in (np.float32, np.float64):
        for x in problems(type(op), dtype):
            count, m, n = x.shape
            b = NumpyBuilder({"m": m, "n": n, "k": min(m, n)})
            given = b.tensor(x, DType(x.dtype.name), (count, N if isinstance(op, Eigh) else M, N))
            for got, want in zip(op.lower(b, given), evaluated(at(op, x), m, n, dtype), strict=True):
                np.testing.assert_array_equal(b.array(got), want)


def orthonormal(q: np.ndarray, close: Any) -> bool:
    return bool((np.abs(np.swapaxes(q, -1, -2) @ q - np.eye(q.shape[-1])) <= close).all())


@pytest.mark.parametrize("op", [op for op in OPS if op.attributes().get("vectors", True)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_definitions(op: Op, dtype: Any) -> None:
    for x in problems(type(op), dtype):
        (_, m, n), k = x.shape, min(x.shape[-2:])
        close = 32 * max(m, n) * rounding(x)
        scaled = close * np.abs(x).max((-2, -1), initial=1, keepdims=True)
        found = evaluated(at(op, x), m, n, dtype)
        if isinstance(op, Svd):
            u, s, vh = found
            assert orthonormal(u, close)
            assert orthonormal(np.swapaxes(vh, -1, -2), close)
            assert (np.diff(s) <= 0).all()
            assert (s >= 0).all()
            assert (np.abs(u[..., :k] * s[:, None] @ vh[:, :k] - x) <= scaled).all()
        elif isinstance(op, Eigh):
            w, v = found
            part = np.triu(x) if op.upper else np.tril(x)
            whole = part + np.swapaxes(part, -1, -2) * (1 - np.eye(n))
            assert orthonormal(v, close)
            assert (np.diff(w) >= 0).all()
            assert (np.abs(v * w[:, None] @ np.swapaxes(v, -1, -2) - whole) <= 2 * scaled).all()
        elif isinstance(op, Qr) and op.mode != "r":
            q, r = found
            assert orthonormal(q, close)
            assert (np.tril(r, -1) == 0).all()
            assert (np.abs(q @ r - x) <= scaled).all()


CALLS: list[tuple[Op, Any]] = [
    *((Qr(3, mode), lambda x, mode=mode: L.qr(x, mode)) for mode in ("reduced", "complete")),
    (Geqrf(3), torch.geqrf),
    *((Eigh(upper), lambda x, upper=upper: L.eigh(x, "LU"[upper])) for upper in (False, True)),
    *((Svd(3, full), lambda x, full=full: L.svd(x, full)) for full in (False, True)),
]


@pytest.mark.parametrize(("op", "call"), CALLS, ids=lambda v: str(v) if isinstance(v, Op) else "")
def test_signs_are_those_of_torch(op: Op, call: Any) -> None:
    """Where its library is MKL; what `open` leaves to the library is all that may differ elsewhere."""
    mkl = torch.backends.mkl.is_available()
    for m, n in ((3, 3), (5, 3), (3, 5), (4, 3), (27, 27)):
        if isinstance(op, Eigh) and m != n:
            continue
        for dtype in (torch.float32, torch.float64):
            x = torch.randn(3 if n > 9 else 30, m, n, dtype=dtype, generator=torch.Generator().manual_seed(m * n))
            ours = at(op, x.numpy())
            states = ours.open(x.numpy())
            for got, want, free in zip(ours.eval(x.numpy()), call(x), states, strict=True):
                if mkl or not free:
                    step = 2000 * rounding(x.numpy())  # gaps between values are small at times
                    right = np.abs(got - want.numpy()).reshape(len(x), -1).max(1) <= step * max(m, n)
                    assert right.mean() >= 0.9, (ours, m, n, dtype)


def test_products_with_reflections() -> None:
    """Q, as torch forms it, times a matrix."""
    a, tau = torch.geqrf(torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)))
    c = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    for transpose in (False, True):
        (got,) = Ormqr(transpose).eval(a.numpy(), tau.numpy(), c.numpy())
        np.testing.assert_allclose(got, torch.ormqr(a, tau, c, True, transpose).numpy(), rtol=1e-5, atol=1e-6)


def test_sizes_that_do_not_fit() -> None:
    f32 = DType.float32
    for op, shape in ((Qr(3), (4, 2)), (Svd(2), (3, 3)), (Geqrf(1), (2, 2)), (Eigh(), (2, 3)), (Svd(1), (1,))):
        with pytest.raises(ValueError, match=op.name):
            op.infer(TensorType(shape, f32))
    with pytest.raises(ValueError, match="matrices"):
        Svd(2).infer(TensorType((2, 2), DType.float16))
