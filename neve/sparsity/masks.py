"""Masks: the parametrization that applies one to a tensor, and masks of blocks and diagonals computed from scores.

A mask has the shape of its tensor and is 1 where an element is kept, 0 where it is pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from neve.sparsity.modules import parametrizations

Norm: TypeAlias = int | Callable[[Tensor], Tensor] | None
"""Element by element, how much a weight matters: 1 is |w|, 2 (and None) w * w, a function is applied to the tensor."""


class FakeSparsity(nn.Module):
    """Parametrization `mask * x`: the tensor stays dense, and what is pruned reads as zero.

    mask is a buffer of x's shape; a sparsifier changes its content and never the object. It is not in any state_dict:
    models save `parametrizations.NAME.original` alone, and the sparsifier saves the masks. A strict load into a model
    with masks therefore misses them; with strict=False they stay as they are.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """Raises AssertionError if x does not have the mask's shape."""
        if self.mask.shape != x.shape:
            raise AssertionError(f"mask shape ({self.mask.shape}) must match x shape ({x.shape})")
        return self.mask * x

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override] # adds nothing
        return {}


def find_mask(module: nn.Module, tensor_name: str, mask: Tensor | None = None) -> Tensor:
    """The mask that is applied to a tensor of module: the given one if it is among them, else the first.

    Raises AttributeError if the tensor has none: it was not prepared, or its mask was squashed.
    """
    masks = [p.mask for p in parametrizations(module).get(tensor_name, ()) if isinstance(p.mask, Tensor)]
    for found in masks:
        if mask is None or found is mask:
            return found
    raise AttributeError(
        f"'{tensor_name}' of {type(module).__name__} has no mask: it was never prepared, or squash_mask() made its "
        "zeros permanent; call prepare() first"
    )


def set_mask(mask: Tensor, content: Tensor) -> None:
    """Give mask a new content of the same shape; whoever holds the object sees it. Its dtype becomes the content's."""
    if content.shape != mask.shape:
        raise ValueError(
            f"the new mask has the shape {list(content.shape)}, wanted that of the old: {list(mask.shape)}"
        )
    mask.data = content.to(mask.device)


def absolute(w: Tensor) -> Tensor:
    """The elementwise L1 norm."""
    return w.abs()


def square(w: Tensor) -> Tensor:
    """The elementwise L2 norm, without its root."""
    return w * w


def norm_function(norm: Norm) -> Callable[[Tensor], Tensor]:
    """The function that a norm stands for. Raises NotImplementedError for an order other than 1 and 2."""
    if callable(norm):
        return norm
    functions = {None: square, 1: absolute, 2: square}
    if norm not in functions:
        raise NotImplementedError(f"L-{norm} is not yet implemented. Use 1, 2, or a function of the weight.")
    return functions[norm]


def check_zeros_per_block(zeros: int, block: tuple[int, int]) -> None:
    """Raise ValueError unless a block can hold that many zeros."""
    if zeros > block[0] * block[1]:
        raise ValueError(
            "Number of zeros per block cannot be more than the total number of elements in that block: "
            f"got {zeros}, at most {block[0] * block[1]} fit in {block[0]} x {block[1]}."
        )
    if zeros < 0:
        raise ValueError(f"Number of zeros per block should be positive, got {zeros}.")


def whole_blocks(scores: Tensor, block: tuple[int, int], count: int) -> Tensor:
    """Zero the count blocks of least mean score.

    scores is [h, w], of elements; blocks tile it from element (0, 0), those at the edge are partial, and their mean is
    over what is there. Of equal blocks the first in row order goes first. Returns a mask [h, w] of scores' dtype.
    """
    h, w = scores.shape
    means = functional.avg_pool2d(scores[None, None], kernel_size=block, stride=block, ceil_mode=True)[0, 0]
    blocks = torch.ones_like(means).flatten()
    blocks[means.flatten().argsort(stable=True)[:count]] = 0
    return blocks.view_as(means).repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:h, :w].contiguous()


def within_blocks(scores: Tensor, block: tuple[int, int], zeros: int) -> Tensor:
    """Zero the elements of least score in every block: `zeros` of each, or all of a partial block that has fewer.

    scores is [h, w]; returns a mask of its shape and dtype. Of equal elements the first in row order goes first.
    """
    h, w = scores.shape
    edge = (-w % block[1], -h % block[0])
    padded = functional.pad(scores, (0, edge[0], 0, edge[1]), value=float("nan"))  # sorts last
    columns = functional.unfold(padded[None, None], kernel_size=block, stride=block)
    order = columns.argsort(dim=1, stable=True)[:, :zeros]
    kept = torch.ones_like(columns).scatter_(1, order, 0)
    return functional.fold(kept, padded.shape, kernel_size=block, stride=block)[0, 0, :h, :w].contiguous()


def near_diagonal(mask: Tensor, nearliness: int) -> Tensor:
    """A mask [h, w] like the given one that keeps the elements with |row - column| <= nearliness // 2.

    nearliness is the number of diagonals kept, an odd number; none are if it is negative. Raises ValueError for an even
    number, and for one that reaches beyond the shorter side.
    """
    distance = nearliness // 2
    if nearliness % 2 == 0:
        raise ValueError(f"nearliness can only be an odd number, got {nearliness}")
    h, w = mask.shape
    if distance >= min(h, w):
        raise ValueError(
            f"nearliness cannot be larger than the dimensions of tensor. Got {nearliness} for {h} x {w}, "
            f"wanted at most {2 * min(h, w) - 1}"
        )
    rows, columns = torch.arange(h, device=mask.device), torch.arange(w, device=mask.device)
    return ((rows[:, None] - columns).abs() <= distance).to(mask.dtype)
