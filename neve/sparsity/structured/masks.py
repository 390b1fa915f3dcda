"""Masks of whole rows: a Linear's output features, a convolution's output channels, an LSTM's gates of its units.

A transposed convolution has its output channels in dim 1 of its weight [in, out / groups, …], group by group.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from neve.sparsity.modules import parametrizations


class FakeStructuredSparsity(nn.Module):
    """Parametrization that zeroes rows: mask is a bool buffer [rows], False where a row is pruned. As with
    FakeSparsity, the mask is in no state_dict and its object never changes.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """x with its pruned rows (along dim 0) zero. Raises AssertionError for another number of rows."""
        if self.mask.shape[0] != x.shape[0]:
            raise AssertionError(f"mask shape[0] ({self.mask.shape[0]}) must match x shape[0] ({x.shape[0]})")
        return self.mask.reshape(-1, *(1 for _ in x.shape[1:])) * x

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override] # adds nothing
        return {}


class FakeTransposedSparsity(FakeStructuredSparsity):
    """The same for the weight of a transposed convolution: mask [out] of output channels."""

    def __init__(self, mask: Tensor, groups: int) -> None:
        super().__init__(mask)
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """x [in, out / groups, …] with pruned output channels zero. Raises AssertionError if it has not as many."""
        if self.mask.shape[0] != self.groups * x.shape[1]:
            raise AssertionError(
                f"a mask of {self.mask.shape[0]} must match {self.groups * x.shape[1]} output channels"
            )
        each = self.mask.view(self.groups, 1, x.shape[1], *(1 for _ in x.shape[2:]))
        return (x.view(self.groups, -1, *x.shape[1:]) * each).flatten(0, 1)


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def rows_first(module: Any, tensor: Tensor) -> Tensor:
    """A parameter with what its module gives, its rows, along dim 0."""
    if not isinstance(module, TRANSPOSED) or tensor.dim() < 2:
        return tensor
    return tensor.view(module.groups, -1, *tensor.shape[1:]).transpose(1, 2).flatten(0, 1)


def bias_name(module: nn.Module, tensor_name: str) -> str | None:
    """The bias whose elements belong to the rows of a weight, if there is one."""
    name = tensor_name.replace("weight", "bias", 1)
    return name if name != tensor_name and isinstance(getattr(module, name, None), Tensor) else None


def attach_rows(module: Any, tensor_name: str, mask: Tensor, prune_bias: bool, cls: type[nn.Module]) -> None:
    """Apply a mask of rows to a weight, and with prune_bias to its bias too: then what a pruned row gives is zero, and
    else the bias.
    """
    names = [tensor_name, bias_name(module, tensor_name) if prune_bias else None]
    for name in names:
        if name is None:
            continue
        transposed = isinstance(module, TRANSPOSED) and name == tensor_name and cls is FakeStructuredSparsity
        applied = FakeTransposedSparsity(mask, module.groups) if transposed else cls(mask)
        parametrize.register_parametrization(module, name, applied)


def squash_rows(module: nn.Module, tensor_name: str) -> None:
    """Replace a masked weight, and its bias if that is masked, by plain parameters."""
    for name in (tensor_name, bias_name(module, tensor_name)):
        if name is not None and name in parametrizations(module):
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
