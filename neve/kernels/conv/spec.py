"""What the convolution templates are asked for, and what they share: contract macros and sizes."""

from __future__ import annotations

from dataclasses import dataclass

from neve.build.target import Target
from neve.ir.types import DType
from neve.kernels.kernel import STORED, Macro, Size
from neve.kernels.terms import rows_that_fit

Macros = tuple[tuple[str, Macro], ...]

ASSUMED_SPATIAL = 56
LINE = 64
MEMORY_BANDWIDTH = 15e9
PANEL_VECTORS = 2
"""Vectors of output channels a register tile."""
MOST_ROWS = 8
"""conv_heights.h compiles tiles of up to as many rows."""


@dataclass(frozen=True)
class ConvSpec:
    """A 2-D convolution of x (batch, channels, height, width) with weights (out_channels, channels / groups, *kernel).

    Sizes and strides (of x, in elements, in the order n, c, h, w) may be symbolic where they are Size. padding is
    (top, left); what is padded at the bottom and at the right follows from the output sizes. weight_type is what the
    direct kernels' weights are stored as; the others store float32: Winograd's would lose what halves cannot hold.
    ValueError if the groups do not divide the channels.
    """

    batch: Size
    channels: int
    height: Size
    width: Size
    out_channels: int
    out_height: Size
    out_width: Size
    kernel: tuple[int, int]
    strides: tuple[Size, Size, Size, Size]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight_type: DType = DType.float32

    def __post_init__(self) -> None:
        if self.groups < 1 or self.channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"{self.groups} groups must divide {self.channels} input and {self.out_channels} output channels"
            )

    @property
    def depthwise(self) -> bool:
        """Whether each group has a single input channel."""
        return self.groups == self.channels and self.groups > 1

    @property
    def depth(self) -> int:
        """Length of the sum behind one output."""
        return self.channels // self.groups * self.kernel[0] * self.kernel[1]

    def pixels(self) -> int:
        """Output pixels of the whole batch, a symbolic batch taken as 1 and a symbolic side as 56."""
        return guess(self.batch, 1) * guess(self.out_height, ASSUMED_SPATIAL) * guess(self.out_width, ASSUMED_SPATIAL)

    def macros(self) -> Macros:
        """The contract macros that all the convolution templates have."""
        n, c, h, w = self.strides
        return (
            ("CONV_N", self.batch),
            ("CONV_C", self.channels),
            ("CONV_H", self.height),
            ("CONV_W", self.width),
            ("CONV_XN", n),
            ("CONV_XC", c),
            ("CONV_XH", h),
            ("CONV_XW", w),
            ("CONV_OC", self.out_channels),
            ("CONV_OH", self.out_height),
            ("CONV_OW", self.out_width),
            ("CONV_KH", self.kernel[0]),
            ("CONV_KW", self.kernel[1]),
            ("CONV_SH", self.stride[0]),
            ("CONV_SW", self.stride[1]),
            ("CONV_DH", self.dilation[0]),
            ("CONV_DW", self.dilation[1]),
            ("CONV_PT", self.padding[0]),
            ("CONV_PL", self.padding[1]),
            ("CONV_G", self.groups),
            ("CONV_TYPE", STORED.index(self.weight_type)),
        )


def tile_rows(target: Target) -> int:
    """Pixels, or tiles of Winograd's, a register tile."""
    return rows_that_fit(PANEL_VECTORS, target, MOST_ROWS)


def guess(size: Size, assumed: int) -> int:
    """A size for cost estimates."""
    return size if isinstance(size, int) else assumed


def weight_seconds(size: int, passes: int, target: Target) -> float:
    """Time to read `size` bytes of weights: first from memory (a network's exceed the caches), then from cache."""
    return size / min(MEMORY_BANDWIDTH, target.bandwidth) + (passes - 1) * size / target.bandwidth


def align(size: int) -> int:
    """size bytes rounded up to whole cache lines."""
    return -(-size // LINE) * LINE
