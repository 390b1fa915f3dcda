"""Models that are refused with a fix, each beside itself with that fix followed to the letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

X = torch.tensor([[1.0, 2.0, 0.5], [0.1, 0.2, 0.3], [3.0, 1.0, 2.0], [0.2, 0.2, 0.1]])
ROW = torch.linspace(-1, 1, 32).reshape(2, 16)
T = Dim("t", min=1, max=64)


@dataclass(frozen=True)
class Fix:
    """broken is refused with these words; fixed, which does what they say, is taken. dynamic: of both, in turn."""

    words: str
    broken: Callable[[], nn.Module]
    fixed: Callable[[], nn.Module]
    args: tuple[Any, ...] = (X,)
    dynamic: tuple[Any, Any] = (None, None)
    fixed_args: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        return getattr(self.broken, "__name__", self.words)


FIXES: list[Fix] = []


def declared(words: str, broken: Any, fixed: Any, *args: Tensor) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function whose sizes have to be declared in another way."""

    def add(f: Callable[..., Any]) -> Callable[..., Any]:
        def model() -> nn.Module:
            return Called(f) if len(args) < 2 else Pairwise(f)

        model.__name__ = f.__name__
        FIXES.append(Fix(words, model, model, args or (ROW,), (broken, fixed)))
        return f

    return add


class Called(nn.Module):
    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Any:
        return self.f(x)


class Pairwise(Called):
    def forward(self, x: Tensor, y: Tensor) -> Any:  # type: ignore[override]
        return self.f(x, y)


def rewritten(words: str, *args: Any) -> Callable[[type], type]:
    """A class with two methods, broken and fixed, of which one is forward."""

    def add(cls: type) -> type:
        def variant(name: str) -> type[nn.Module]:
            return type(cls.__name__, (cls, nn.Module), {"forward": vars(cls)[name], "__module__": cls.__module__})

        FIXES.append(Fix(words, variant("broken"), variant("fixed"), args or (X,)))
        return cls

    return add


# Sizes.

S = Dim("s", min=1, max=63)


@declared(r"declare t = torch\.export\.Dim\('t', min=6, max=64\)", {1: T}, {1: Dim("t", min=6, max=64)})
def sixth(x: Tensor) -> Tensor:
    return x.kthvalue(6)[0]


@declared("t can be 16 alone: leave it out of dynamic_shapes", {1: T}, None)
def fixed_weights(x: Tensor) -> Tensor:
    return x @ torch.ones(16, 3)


@declared(
    "s and t are always equal: declare one Dim for both|t and s are always equal: declare one Dim for both",
    ({1: T}, {1: Dim("s", min=1, max=64)}),
    ({1: T}, {1: T}),
    ROW,
    ROW + 1,
)
def equal_sizes(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@declared(
    r"declare s = torch\.export\.Dim\('s', max=63\); declare t as s \+ 1",
    ({1: T}, {1: Dim("s", min=1, max=64)}),
    ({1: S + 1}, {1: S}),
    ROW,
    ROW[:, 1:],
)
def one_more(x: Tensor, y: Tensor) -> Tensor:
    return x[:, 1:] + y


@declared(r"declare t as 4 \* torch\.export\.Dim", {1: T}, {1: 4 * Dim("t4", min=1, max=16)})
def fours(x: Tensor) -> Tensor:
    return x.view(2, -1, 4).sum(-1)


H, W = Dim("_H", min=3, max=16), Dim("_W", min=3, max=16)
IMAGE = torch.arange(507.0).reshape(1, 3, 13, 13)


@declared(
    r"declare H as 4\*_H - 3",
    {2: Dim("H", min=4, max=61), 3: Dim("W", min=4, max=61)},
    {2: 4 * H - 3, 3: 4 * W - 3},
    IMAGE,
)
def unshuffled(x: Tensor) -> Tensor:
    return functional.pixel_unshuffle(x[:, :, :-1, :-1], 4)


@declared(
    r"declare H as 4 \* torch\.export\.Dim\(…\), W as 4 \* torch\.export\.Dim",
    {2: Dim("H", min=4, max=64), 3: Dim("W", min=4, max=64)},
    {2: 4 * Dim("h", min=1, max=16), 3: 4 * Dim("w", min=1, max=16)},
    IMAGE[:, :, 1:, 1:],
)
def unshuffled_whole(x: Tensor) -> Tensor:
    return functional.pixel_unshuffle(x, 4)


@declared(r"declare a range without such sizes \(torch.export.Dim with min", {1: T}, {1: Dim("t", min=11, max=64)})
def branch_on_size(x: Tensor) -> Tensor:
    return x.sum(1) if x.shape[1] > 10 else x * 2


@declared(r"where t % 4 != 0 .*declare t as 4 \* torch\.export\.Dim", {1: T}, {1: 4 * Dim("t4", min=1, max=16)})
def branch_on_remainder(x: Tensor) -> Tensor:
    return x.sum(1) if x.shape[1] % 4 != 0 else x


@declared("leave that dim out of dynamic_shapes", {1: T}, None, ROW[:, :15])
def branch_on_no_remainder(x: Tensor) -> Tensor:
    return x.sum(1) if x.shape[1] % 4 != 0 else x


@declared("give the size a range without 1", {1: T}, {1: Dim("t", min=2, max=64)})
def squeezed(x: Tensor) -> Tensor:
    return x.squeeze(1) * 2


@declared(r"declare the size's range \(torch.export.Dim with max\)", {1: Dim("t")}, {1: T})
def from_the_third(x: Tensor) -> Tensor:
    return x[:, 3:] * 2


@declared("t is declared as 2 to 8: give an example in the range", {1: Dim("t", min=2, max=8)}, {1: T})
def outside(x: Tensor) -> Tensor:
    return x * 2


@declared("the range of t ends at 1: declare max=2", {1: Dim("t", min=0, max=1)}, {1: Dim("t", max=2)}, ROW[:, :1])
def at_most_one(x: Tensor) -> Tensor:
    return x * 2


@declared(r"about axis 2 of x, whose shape is \[2, 16\]: number the axes from 0", {2: T}, {1: T})
def third_axis(x: Tensor) -> Tensor:
    return x * 2


# What the model does.


@rewritten("use torch.where, or torch.cond")
class Where:
    def broken(self, x: Tensor) -> Tensor:
        best = max(list(x), key=lambda row: row.sum())
        return best * 2

    def fixed(self, x: Tensor) -> Tensor:
        best = x[0]
        for row in x[1:]:
            best = torch.where(row.sum() > best.sum(), row, best)
        return best * 2


@rewritten("use torch's functions, or do it outside")
class Numpy:
    def broken(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.sin(x.numpy()))

    def fixed(self, x: Tensor) -> Tensor:
        return torch.sin(x)


@rewritten(r"leave generator= out")
class Generator:
    def broken(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) * torch.rand(3, generator=torch.Generator())

    def fixed(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) * torch.rand(3)


@rewritten("write it in place")
class Rebound:
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

    def broken(self, x: Tensor) -> Tensor:
        self.weight.data = x[0]
        return x * self.weight

    def fixed(self, x: Tensor) -> Tensor:
        self.weight.copy_(x[0])
        return x * self.weight


@rewritten("use the elements of the tensor itself")
class ToList:
    def broken(self, x: Tensor) -> Tensor:
        y = x.sum(0).tolist()
        if x.sum() > 0:
            return x * y[0]
        return x

    def fixed(self, x: Tensor) -> Tensor:
        y = x.sum(0)
        if x.sum() > 0:
            return x * y[0]
        return x


class Config:
    def __init__(self, shift):  # type: ignore[no-untyped-def]
        self.shift = shift


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = Config(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.config.shift if x.sum() > 0 else x


class Attributes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift if x.sum() > 0 else x


FIXES.append(Fix("keep the numbers and tensors of it as attributes of the module in its place", Configured, Attributes))


@rewritten(r"write to a copy \(x = x.clone\(\)\)")
class OnSomePaths:
    def broken(self, x: Tensor) -> Tensor:
        y = x.clone()
        z = y if x.sum() > 0 else x
        z.add_(1)
        return y + x

    def fixed(self, x: Tensor) -> Tensor:
        y = x.clone()
        z = (y if x.sum() > 0 else x).clone()
        z.add_(1)
        return y + x


@rewritten("give both the same shape and type")
class Paths:
    def broken(self, x: Tensor) -> Tensor:
        y = x
        if x.sum() > 0:
            y = x.long()
        return y * 2

    def fixed(self, x: Tensor) -> Tensor:
        y = x
        if x.sum() > 0:
            y = x.long().float()
        return y * 2


@rewritten(r"call .contiguous\(\) on it first")
class Noise:
    def broken(self, x: Tensor) -> Tensor:
        return functional.rrelu(x.t(), training=True) * 0

    def fixed(self, x: Tensor) -> Tensor:
        return functional.rrelu(x.t().contiguous(), training=True) * 0


@rewritten(r"write into slices, x\[…\] = …")
class Windows:
    def broken(self, x: Tensor) -> Tensor:
        x = x.clone()
        x.unfold(1, 1, 2).mul_(2)
        return x

    def fixed(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[:, ::2] = x[:, ::2] * 2
        return x


@rewritten("give it all its keys before the loop")
class Grows:
    def broken(self, x: Tensor) -> Any:
        found, i = {}, 0
        while x[0, 0] + i < 3:
            found["last"] = x + i
            i += 1
        return found["last"]

    def fixed(self, x: Tensor) -> Any:
        found, i = {"last": x}, 0
        while x[0, 0] + i < 3:
            found["last"] = x + i
            i += 1
        return found["last"]


@declared("give a tuple with an entry for each", ({1: T}, {1: T}), ({1: T},))
def too_many(x: Tensor) -> Tensor:
    return x * 2


@rewritten(r"\(a @ solution - b\)\.square\(\)\.sum\(-2\)")
class Residuals:
    def broken(self, x: Tensor) -> Tensor:
        return torch.linalg.lstsq(x, x.exp(), driver="gelsd").residuals

    def fixed(self, x: Tensor) -> Tensor:
        solution = torch.linalg.lstsq(x, x.exp(), driver="gelsd").solution
        return (x @ solution - x.exp()).square().sum(-2)


@rewritten(r"call torch\.linalg\.eigh or torch\.linalg\.eigvalsh")
class General:
    def broken(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x.mT @ x).real.sort()[0]

    def fixed(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x.mT @ x)


@rewritten("cast it to float32 first", torch.ones(1, 2, 8, 8, dtype=torch.float16))
class PoolsHalves:
    def broken(self, x: Tensor) -> Tensor:
        return functional.fractional_max_pool2d(x, 2, output_size=1)

    def fixed(self, x: Tensor) -> Tensor:
        return functional.fractional_max_pool2d(x.float(), 2, output_size=1)


@rewritten("which may lie outside of 0 to 1: leave it out", torch.ones(1, 2, 8, 8))
class PoolsWhereGiven:
    def broken(self, x: Tensor) -> Tensor:
        return functional.fractional_max_pool2d(x, 2, output_size=1, _random_samples=torch.full((1, 2, 2), 1.5))

    def fixed(self, x: Tensor) -> Tensor:
        return functional.fractional_max_pool2d(x, 2, output_size=1)
