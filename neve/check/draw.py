"""Values for a method's inputs: what the example does not show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from neve.check.domains import Domain
from neve.ir.index import Index
from neve.ir.types import DType, size_at

Sizes = Mapping[Index, int]

FEW = 4
"""A tensor of at most so many different values, each seen often, is taken for a mask or for codes."""
LARGE = {DType.float16: 4.0}
MULTIPLES = 100


@dataclass(frozen=True)
class Kind:
    """How values are drawn: one way for each kind of input.

    floats: redrawn, tiny, large, negated, zeros, ties, boundaries; ints: within, zeros, edges, least, greatest; masks:
    mixed, all true, all false, prefixes.
    """

    floats: str = "redrawn"
    ints: str = "within"
    masks: str = "mixed"


def draw(domain: Domain, kind: Kind, sizes: Sizes, g: torch.Generator) -> Any:
    """A value of the domain: a tensor, or a Python number."""
    if domain.symbol is not None:
        return int(sizes[domain.symbol])
    if domain.scalar:
        return _number(domain, kind, g)
    if domain.complex:
        return torch.view_as_complex(draw(replace(domain, complex=False), kind, sizes, g))
    shape = tuple(size_at(d, sizes) for d in domain.shape)
    example = _example(domain)
    dtype = getattr(torch, domain.dtype.value)
    codes = few_values(example)
    if domain.dtype is DType.bool or (codes is not None and not domain.limits and set(codes) <= {0, 1}):
        return _mask(shape, kind.masks, g).to(dtype)
    if domain.dtype.is_int:
        return _integers(domain, example, shape, kind.ints, sizes, g).to(dtype)
    if codes is not None:
        return torch.tensor(codes, dtype=torch.float64)[torch.randint(len(codes), shape, generator=g)].to(dtype)
    return _floats(domain, example, shape, kind.floats, g).to(dtype)


def few_values(example: torch.Tensor) -> list[float] | None:
    """The values of a tensor that has few of them, all seen often; None if it has many."""
    if example.numel() < 2 * FEW:
        return None
    values = torch.unique(example.detach().to(torch.float64))
    return [float(x) for x in values] if len(values) <= FEW and len(values) * 2 <= example.numel() else None


def is_mask(domain: Domain) -> bool:
    """Whether the input is bool, or looks like a mask of zeros and ones."""
    if domain.scalar:
        return domain.scalar == "bool"
    codes = few_values(_example(domain)) if not domain.limits else None
    return domain.dtype is DType.bool or (codes is not None and set(codes) <= {0, 1})


def _example(domain: Domain) -> torch.Tensor:
    return domain.example if isinstance(domain.example, torch.Tensor) else torch.as_tensor(domain.example)


def _number(domain: Domain, kind: Kind, g: torch.Generator) -> Any:
    x = domain.example.item() if hasattr(domain.example, "item") else domain.example
    if domain.scalar == "bool":
        return {"all true": True, "all false": False}.get(kind.masks, bool(torch.randint(2, (), generator=g)))
    if domain.scalar == "int":
        near = sorted({0, 1, 2, x, x + 1, max(x - 1, 0)})
        return near[int(torch.randint(len(near), (), generator=g))]
    factor = {"zeros": 0.0, "negated": -1.0, "tiny": 1e-3}.get(kind.floats)
    return x * (0.5 + float(torch.rand((), generator=g)) if factor is None else factor)


def _mask(shape: tuple[int, ...], kind: str, g: torch.Generator) -> torch.Tensor:
    if kind == "all true":
        return torch.ones(shape, dtype=torch.bool)
    if kind == "all false":
        return torch.zeros(shape, dtype=torch.bool)
    if kind == "prefixes" and shape:
        n = shape[-1]
        ends = torch.randint(n + 1, (*shape[:-1], 1), generator=g)
        return torch.arange(n) >= ends
    return torch.rand(shape, generator=g) < 0.5


def _integers(
    domain: Domain, example: torch.Tensor, shape: tuple[int, ...], kind: str, sizes: Sizes, g: torch.Generator
) -> torch.Tensor:
    known = domain.range(sizes)
    low, high = known or _seen(example)
    if low > high:
        return torch.zeros(shape, dtype=torch.int64)
    if kind == "least":
        return torch.full(shape, low, dtype=torch.int64)
    if kind == "greatest":
        return torch.full(shape, high, dtype=torch.int64)
    made = torch.randint(low, high + 1, shape, generator=g)
    if kind == "zeros" and known is None:
        return torch.where(torch.rand(shape, generator=g) < 0.3, 0, made)
    if kind == "edges":
        made = torch.where(torch.rand(shape, generator=g) < 0.3, low, made)
        made = torch.where(torch.rand(shape, generator=g) < 0.3, high, made)
    if known is None and shape and _is_sorted(example):  # offsets, lengths: an order that the model may rely on
        made = made.sort(-1)[0]
        made = made - made[..., :1] + example.reshape(-1)[0] if example.reshape(-1)[0] == 0 else made
    return made


def _seen(example: torch.Tensor) -> tuple[int, int]:
    if example.numel() == 0:
        return 0, 0
    return int(example.min()), int(example.max())


def _is_sorted(example: torch.Tensor) -> bool:
    return bool(example.dim() == 1 and example.numel() > 2 and (example[1:] >= example[:-1]).all())


def beyond(domain: Domain, value: torch.Tensor, sizes: Sizes, above: bool) -> torch.Tensor | None:
    """The indices with one of them just out of range; None if the input is no index, or has no elements."""
    known = domain.range(sizes)
    if known is None or value.numel() == 0:
        return None
    limits = torch.iinfo(value.dtype)
    wrong = known[1] + 1 if above else known[0] - 1
    if not limits.min <= wrong <= limits.max:
        return None
    made = value.clone()
    made.reshape(-1)[made.numel() // 2] = wrong
    return made


def _floats(
    domain: Domain, example: torch.Tensor, shape: tuple[int, ...], kind: str, g: torch.Generator
) -> torch.Tensor:
    x = example.detach().to(torch.float64)
    x = x[torch.isfinite(x)]
    if x.numel() == 0:
        x = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    low, high, mean = float(x.min()), float(x.max()), float(x.mean())
    spread = float(x.std()) if x.numel() > 1 else 0.0
    spread = spread or abs(mean) or 1.0
    if low >= 0:  # a picture, a probability, a length: not to be negative
        base = low + (max(high, low + spread) - low) * torch.rand(shape, generator=g, dtype=torch.float64)
    else:
        base = mean + spread * torch.randn(shape, generator=g, dtype=torch.float64)
    if kind == "tiny":
        return base * 1e-3
    if kind == "large":
        return base * LARGE.get(domain.dtype, 30.0)
    if kind == "negated":
        return -base
    if kind == "zeros":
        return torch.zeros(shape, dtype=torch.float64)
    if kind == "ties":
        return (base / spread).round() * spread
    if kind == "boundaries":
        return _boundaries(domain, base, g)
    return base


def _boundaries(domain: Domain, base: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    """Whole numbers, halves, and multiples of the constants that the model divides by or compares with, in the input's
    own type, and what is next to them.
    """
    steps = torch.tensor([1.0, 0.5, *domain.steps], dtype=torch.float64)
    step = steps[torch.randint(len(steps), base.shape, generator=g)]
    most = torch.randint(1, MULTIPLES + 1, base.shape, generator=g)
    exact = step * torch.where(base < 0, -most, most)
    dtype = getattr(torch, domain.dtype.value)
    near = exact.to(dtype)
    aside = torch.randint(3, base.shape, generator=g)
    if dtype in (torch.float32, torch.float64):
        for side, to in ((1, float("inf")), (2, float("-inf"))):
            near = torch.where(aside == side, torch.nextafter(near, torch.full_like(near, to)), near)
    return near.to(torch.float64)
