"""Functions of torch whose own code asks for values of tensors, which torch.export has none of, as ops that do not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from neve.capture.asserted import check
from neve.capture.composed_matrices import MATRICES


class Composed(TorchFunctionMode):
    """While a method of a model runs in a trace."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return COMPOSED.get(func, func)(*args, **(kwargs or {}))


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """torch.cov, as ATen's Correlation.cpp has it."""
    if input.dim() > 2 or input.dtype is torch.bool:
        raise RuntimeError("cov(): expected at most two axes of numbers")
    x = input.reshape(1, -1) if input.dim() < 2 else input
    weights: Tensor | None = None
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is not None:
            fits = w.dim() <= 1 and not w.is_complex() and w.is_floating_point() is (name == "aweights")
            if not fits or w.numel() != x.shape[1]:
                raise RuntimeError(f"cov(): expected {name} of one number for each observation")
            check((w >= 0).all(), f"cov(): {name} cannot be negative")
            weights = w if weights is None else weights * w
    if weights is None:
        total, weighted = torch.scalar_tensor(x.shape[1], dtype=torch.int64), x
    else:
        total, weighted = weights.sum(), x * weights
        check(total != 0, "cov(): weights sum to zero, can't be normalized")
    centred = x - (weighted.sum(1) / total).unsqueeze(1)
    degrees = total - correction
    if weights is not None and aweights is not None and correction != 0:
        degrees = total - correction * (weights * aweights).sum() / total
    product = torch.mm(centred, (centred if weights is None else centred * weights).t().conj())
    return (product / degrees.clamp(min=0)).squeeze()


def corrcoef(input: Tensor) -> Tensor:
    """torch.corrcoef, as ATen's Correlation.cpp has it."""
    c = cov(input)
    if c.dim() == 0:
        return c / c
    deviation = c.diagonal().real.sqrt()
    c = c / deviation.unsqueeze(1) / deviation
    return torch.complex(c.real.clip(-1, 1), c.imag.clip(-1, 1)) if c.is_complex() else c.clip(-1, 1)


COMPOSED: dict[Any, Any] = MATRICES | {
    torch.cov: cov,
    Tensor.cov: cov,
    torch.ops.aten.cov.default: cov,
    torch.corrcoef: corrcoef,
    Tensor.corrcoef: corrcoef,
    torch.ops.aten.corrcoef.default: corrcoef,
}
