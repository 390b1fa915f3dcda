"""Models of the zoo's families at a size that is compiled in a moment, and those in which equal buffers abound."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn


class Residual(nn.Module):
    """A block of a diffusion UNet: two convolutions behind group norms, the time added between them."""

    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(4, channels), nn.GroupNorm(4, out)])
        self.convs = nn.ModuleList([nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)])
        self.time = nn.Linear(time, out)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        y = self.convs[0](nn.functional.silu(self.norms[0](x))) + self.time(nn.functional.silu(t))[:, :, None, None]
        y = self.convs[1](nn.functional.silu(self.norms[1](y)))
        out: torch.Tensor = self.skip(x) + y
        return out


class Attention(nn.Module):
    """Every pixel looks at every other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        y = self.norm(x).view(n, c, h * w).transpose(1, 2)
        q, k, v = (p.view(n, h * w, 2, c // 2).transpose(1, 2) for p in self.qkv(y).chunk(3, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        out: torch.Tensor = x + self.out(y).transpose(1, 2).view(n, c, h, w)
        return out


class UNet(nn.Module):
    """A diffusion UNet: down, attention in the middle, up with what was kept on the way."""

    def __init__(self, channels: int = 16, time: int = 32) -> None:
        super().__init__()
        self.width = channels
        self.embed = nn.Sequential(nn.Linear(channels, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        widths = [channels, channels, 2 * channels]
        self.down = nn.ModuleList(Residual(a, b, time) for a, b in pairwise(widths))
        self.smaller = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in widths[1:])
        self.middle = nn.ModuleList([Residual(widths[-1], widths[-1], time), Residual(widths[-1], widths[-1], time)])
        self.attention = Attention(widths[-1])
        self.up = nn.ModuleList(Residual(2 * b, a, time) for a, b in pairwise(widths))
        self.last = nn.Sequential(nn.GroupNorm(4, channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        half = self.width // 2
        angles = step[:, None] * torch.exp(-9.2 * torch.arange(half) / half)[None]
        t = self.embed(torch.cat([angles.sin(), angles.cos()], -1))
        x, kept = self.first(x), []
        for block, smaller in zip(self.down, self.smaller, strict=True):
            x = block(x, t)
            kept.append(x)
            x = smaller(x)
        x = self.middle[1](self.attention(self.middle[0](x, t)), t)
        for block in reversed(self.up):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, kept.pop()], 1), t)
        out: torch.Tensor = self.last(x)
        return out


class Encoder(nn.Module):
    """Two layers of a transformer, with masks, several results of one shape, and a lookup."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.layers = nn.ModuleList(nn.TransformerDecoderLayer(32, 4, 64, batch_first=True) for _ in range(2))
        self.heads = nn.ModuleDict({name: nn.Linear(32, 32) for name in ("start", "end", "kind", "score")})

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, x)
        return {name: head(x) for name, head in self.heads.items()}


class Streaming(nn.Module):
    """Layers whose last states are kept, and attributes that are written."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm = nn.GRU(8, 8, 2, batch_first=True), nn.LSTM(8, 8, bidirectional=True)
        for name in ("h", "c", "seen", "total"):
            self.register_buffer(name, torch.zeros(2, 1, 8))
        self.register_buffer("g", torch.zeros(2, 1, 8))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, g = self.gru(x, self.g)
        z, (h, c) = self.lstm(x.transpose(0, 1), (self.h, self.c))
        self.seen.copy_(self.total)
        self.total.add_(h)
        for buffer, value in ((self.g, g), (self.h, h), (self.c, c)):
            buffer.copy_(value)
        return y, z + self.seen.mean()


class Branching(nn.Module):
    """Data decide how often a loop runs and what is kept, in attributes that torch.export cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(6, 6) for name in ("left", "right", "up", "down")})
        self.seen, self.last, self.limit = 0, torch.zeros(2, 6), 4.0
        self.weight = 0.5

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, k = x, 0
        while bool(y.abs().sum() < self.limit) and k < 5:
            for layer in self.layers.values():
                y = y + self.weight * layer(y)
            k += 1
        if bool((y > 0).any()):
            self.last = y + self.last
            self.seen += 1
        return self.last * self.seen, y


def tokens() -> tuple[torch.Tensor, ...]:
    return (torch.arange(14).reshape(2, 7),)


SMALL: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[torch.Tensor, ...]]]] = {
    "unet": (UNet, lambda: (torch.randn(1, 3, 16, 16), torch.tensor([3.0]))),
    "encoder": (Encoder, tokens),
    "streaming": (Streaming, lambda: (torch.randn(1, 5, 8),)),
    "branching": (Branching, lambda: (torch.randn(2, 6) / 4,)),
}
"""By name: how to make the model, and arguments for it; seed torch before either."""
