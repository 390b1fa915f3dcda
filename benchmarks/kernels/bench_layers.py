"""Layers that are no matrix product, each compiled alone, against the machine's peak.

    python -m benchmarks.kernels.bench_layers [names …]

Prints for every kernel of a layer the time of a warm call, what limits it, and its share of the measured peak.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import neve
from neve.check.profile import profile


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.function(*args)  # type: ignore[operator]
        return out


IMAGE, ROWS = (1, 64, 56, 56), (512, 768)
LAYERS: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...]]] = {
    "softmax": (nn.Softmax(-1), (torch.randn(ROWS),)),
    "layer_norm": (nn.LayerNorm(768), (torch.randn(ROWS),)),
    "group_norm": (nn.GroupNorm(8, 64), (torch.randn(IMAGE),)),
    "gelu": (nn.GELU(), (torch.randn(ROWS),)),
    "silu": (nn.SiLU(), (torch.randn(ROWS),)),
    "erf": (Call(torch.erf), (torch.randn(ROWS),)),
    "log": (Call(torch.log), (torch.rand(ROWS) + 0.1,)),
    "add": (Call(torch.add), (torch.randn(ROWS), torch.randn(ROWS))),
    "transpose": (Call(lambda x: x.t().contiguous()), (torch.randn(768, 768),)),
    "sum": (Call(lambda x: x.sum(0)), (torch.randn(ROWS),)),
    "cumsum": (Call(lambda x: x.cumsum(-1)), (torch.randn(ROWS),)),
    "max_pool": (nn.MaxPool2d(3, 2, 1), (torch.randn(IMAGE),)),
    "avg_pool": (nn.AdaptiveAvgPool2d(1), (torch.randn(IMAGE),)),
    "upsample": (nn.Upsample(scale_factor=2.0, mode="bilinear"), (torch.randn(IMAGE),)),
    "embedding": (nn.Embedding(30000, 384), (torch.randint(0, 30000, (128,)),)),
    "depthwise_3x3": (nn.Conv2d(64, 64, 3, padding=1, groups=64), (torch.randn(IMAGE),)),
    "depthwise_7x7": (nn.Conv2d(64, 64, 7, padding=3, groups=64), (torch.randn(IMAGE),)),
    "gru": (nn.GRU(80, 256), (torch.randn(100, 1, 80),)),
    "lstm": (nn.LSTM(80, 128), (torch.randn(100, 1, 80),)),
    "gemv": (nn.Linear(1280, 1000), (torch.randn(1, 1280),)),
}


def main() -> None:
    """Print a line a kernel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(LAYERS)}; all if none is given")
    args = parser.parse_args()
    for name in args.names or LAYERS:
        layer, inputs = LAYERS[name]
        artifact = neve.compile(layer.eval(), inputs, threads=1).artifact
        for line in profile(artifact, inputs, {}, calls=200).lines:
            unit = "GFLOP/s" if line.limit == "compute" else "GB/s"
            print(
                f"{name:14} {line.seconds * 1e6:9.1f} us {line.rate / 1e9:7.1f} {unit:7} "
                f"{100 * line.efficiency:4.0f} %  {line.label}",
                flush=True,
            )


if __name__ == "__main__":
    main()
