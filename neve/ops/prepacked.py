"""Prepacking, visible in the graph: op(x, w, bias) as prepacked_op(x, *prepack(w, bias)), the latter evaluated at compile time.

A packed parameter keeps its logical shape and values: how a kernel stores it belongs to the plan. What the graph gains is that
parameters meant for a kernel are marked, shared between calls, and that the clamp which follows belongs to the op.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import TensorType
from neve.ops.base import Op
from neve.ops.checks import check
from neve.ops.conv import Conv, ConvTranspose, Pairs
from neve.ops.matmul import Linear

KINDS = ("convolution", "conv_transpose", "linear")


@dataclass(frozen=True)
class Prepack(Op):
    """w [, bias] → the same, packed for the prepacked op of that kind."""

    kind: str
    name: ClassVar[str] = "prepack"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(self.kind in KINDS, self, f"a kind among {KINDS} (is {self.kind!r})", types)
        check(len(types) in (1, 2), self, "w [, bias]", types)
        return types


class Prepacked(Op):
    """Base: the plain op, then clamp to minimum…maximum where they are given (NaN stays NaN)."""

    minimum: float | None
    maximum: float | None

    @property
    def plain(self) -> Op:
        """The op without clamp that this computes."""
        raise NotImplementedError

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        return self.plain.infer(*types)


@dataclass(frozen=True)
class PrepackedConv(Prepacked):
    """Conv on prepacked parameters, then clamp."""

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1
    minimum: float | None = None
    maximum: float | None = None
    name: ClassVar[str] = "prepacked_convolution"

    @property
    def plain(self) -> Op:
        return Conv(self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True)
class PrepackedConvTranspose(Prepacked):
    """ConvTranspose on prepacked parameters, then clamp."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    minimum: float | None = None
    maximum: float | None = None
    name: ClassVar[str] = "prepacked_conv_transpose"

    @property
    def plain(self) -> Op:
        return ConvTranspose(self.stride, self.padding, self.output_padding, self.dilation, self.groups)


@dataclass(frozen=True)
class PrepackedLinear(Prepacked):
    """Linear on prepacked parameters, then clamp."""

    minimum: float | None = None
    maximum: float | None = None
    name: ClassVar[str] = "prepacked_linear"

    @property
    def plain(self) -> Op:
        return Linear()
