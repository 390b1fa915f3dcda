"""Builders of distances between rows."""

from __future__ import annotations

import numpy as np

from neve.capture.aten import aten
from neve.capture.aten_fourier import constant
from neve.capture.context import Context, Refusal
from neve.ir.graph import Value
from neve.ir.types import Dim
from neve.ops import reduce
from neve.ops.index import IndexSelect
from neve.ops.matmul import MatMul
from neve.ops.pad import Cat

FEW = 25
"""Up to so many rows ATen takes differences (cdist_impl in Distance.cpp), else a product of matrices."""


@aten("_cdist_forward")
def cdist(c: Context, a: Value, b: Value, p: float, compute_mode: int | None) -> Value:
    """[..., r, m] and [..., s, m] → [..., r, s], in the way that ATen takes for these sizes."""
    rows = c.out.shape[-2:]
    if p == 2 and compute_mode != 2 and (compute_mode == 1 or any(_many(c, n) for n in rows)):
        return _euclidean(c, a, b)
    difference = c("sub", c.unsqueeze(a, len(a.shape) - 1), c.unsqueeze(b, len(b.shape) - 2))
    return c(reduce.VectorNorm((len(difference.shape) - 1,), False, float(p)), difference)


def _many(c: Context, n: Dim) -> bool:
    least, most = (n, n) if isinstance(n, int) else c.symbols.range(n) or (0, FEW + 1)
    if least <= FEW < most:
        raise Refusal(
            f"cdist of {n} rows: torch computes it in another way for more than {FEW}; declare a range on one side of "
            "that, or give compute_mode"
        )
    return least > FEW


def _euclidean(c: Context, a: Value, b: Value) -> Value:
    """sqrt(|a|² − 2ab + |b|²) as one product, as _euclidean_dist has it."""

    def squares(x: Value) -> Value:
        return c(reduce.Sum((len(x.shape) - 1,), True), c("mul", x, x))

    def side(x: Value, factor: float, norm_first: bool) -> Value:
        ones = c.full(1.0, x.dtype, (*x.shape[:-1], 1))
        parts = (squares(x), ones) if norm_first else (ones, squares(x))
        scaled = c("mul", x, c.full(factor, x.dtype)) if factor != 1 else x
        return c(Cat(len(x.shape) - 1), scaled, *parts)

    right = side(b, 1.0, False)
    order = (*range(len(right.shape) - 2), len(right.shape) - 1, len(right.shape) - 2)
    product = c(MatMul(), side(a, -2.0, True), c.permute(right, order))
    return c("sqrt", c("maximum", product, c.full(0.0, product.dtype)))


@aten("_pdist_forward")
def pdist(c: Context, x: Value, p: float = 2) -> Value:
    """[n, m] → [n (n − 1) / 2]: of each row to those behind it."""
    n = x.shape[0]
    if not isinstance(n, int):
        raise Refusal("pdist of a dynamic number of rows: use torch.cdist, and the part above its diagonal")
    pairs = (constant(c, "pair", k.astype(np.int64)) for k in np.triu_indices(n, 1))
    difference = c("sub", *(c(IndexSelect(0), x, k) for k in pairs))
    return c(reduce.VectorNorm((1,), False, float(p)), difference)
