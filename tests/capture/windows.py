"""What models do at positions that the run decides: writes into a cache, reads of windows, by every way to say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SIZE = 8
EDGES = (*range(-SIZE - 2, SIZE + 3), 40, -40)


class Cache(nn.Module):
    """Methods with (x of length 1, position), on one cache (1, 2, SIZE, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("c", torch.arange(2.0 * SIZE * 3).reshape(1, 2, SIZE, 3))
        self.c: Tensor


WRITES: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {}
READS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {}


def write(f: Callable[[Any, Tensor, Tensor], None]) -> None:
    def method(self: Any, x: Tensor, pos: Tensor) -> Tensor:
        f(self.c, x, pos)
        return self.c * 1

    WRITES[f.__name__] = method


def read(f: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    READS[f.__name__] = lambda self, x, pos: f(self.c, x, pos)


@write
def a_slice_by_item(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = pos.item()
    c[:, :, p : p + 1] = x


@write
def a_slice_by_int(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = int(pos)
    c[:, :, p : p + 1] = x


@write
def a_slice_by_tensor(c: Tensor, x: Tensor, pos: Tensor) -> None:
    c[..., pos : pos + 1, :] = x


@write
def a_slice_of_a_row(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = pos.item()
    c[0, 1, p : p + 1] = x[0, 1]


@write
def a_row(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = pos.item()
    c[:, :, p] = x[:, :, 0]


@write
def a_row_by_tensor(c: Tensor, x: Tensor, pos: Tensor) -> None:
    c[:, :, pos] = x[:, :, 0]


@write
def narrowed(c: Tensor, x: Tensor, pos: Tensor) -> None:
    c.narrow(2, pos.item(), 1).copy_(x)  # type: ignore[arg-type]


@write
def index_copied(c: Tensor, x: Tensor, pos: Tensor) -> None:
    c.index_copy_(2, pos.reshape(1), x)


@write
def numbers(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = pos.item()
    c[:, :, p : p + 3] = 0
    c[:, :1, p : p + 2] = 1.5


@write
def up_to_the_end(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = pos.item()
    c[:, :, p:] = x


@write
def three_rows(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p, rows = pos.item(), torch.cat([x, x + 1, x + 2], 2)
    c[:, :, p : p + rows.shape[2]] = rows


@write
def checked(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = pos.item()
    torch._check(p >= 0)  # type: ignore[arg-type]
    torch._check(p < SIZE)  # type: ignore[arg-type]
    c[:, :, p : p + 1] = x


@write
def added(c: Tensor, x: Tensor, pos: Tensor) -> None:
    p = pos.item()
    c[:, :, p : p + 1] += x


@read
def a_window(c: Tensor, x: Tensor, pos: Tensor) -> Tensor:
    p = pos.item()
    return c[:, :, p : p + 3] + x


@read
def a_window_behind(c: Tensor, x: Tensor, pos: Tensor) -> Tensor:
    p = int(pos)
    return c[:, :, p - 2 : p + 1] + x


@read
def one_row(c: Tensor, x: Tensor, pos: Tensor) -> Tensor:
    p = pos.item()
    return c[:, :, p] + torch.select(c, 2, p) + x[:, :, 0]  # type: ignore[call-overload, no-any-return]


@read
def scattered(c: Tensor, x: Tensor, pos: Tensor) -> Tensor:
    p = pos.item()
    return torch.slice_scatter(c, x, 2, p, p + 1)  # type: ignore[arg-type]


SHORT = frozenset({"added", "a_window", "a_window_behind"})
"""Those that read a slice: where it is shorter, the call is refused, since a length that data decide is none."""


class Scripted(nn.Module):
    """The same in TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("c", torch.arange(2.0 * SIZE * 3).reshape(1, 2, SIZE, 3))

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        p = int(pos)
        self.c[:, :, p : p + 1] = x
        return self.c * 1

    @torch.jit.export
    def window(self, x: Tensor, pos: Tensor) -> Tensor:
        p = int(pos)
        return self.c[:, :, p : p + 3] + x
