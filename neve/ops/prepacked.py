"""Prepacking, visible in the graph: op(x, w, bias) as prepacked_op(x, *prepack(w, bias)).

A packed parameter keeps its logical shape and values: how a kernel stores it belongs to the plan. What the graph gains
is that parameters meant for a kernel are marked and shared, and that the clamp which follows belongs to the op.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from neve.ir.loops import Builder, Tensor, call, const
from neve.ir.types import DType, TensorType
from neve.ops.base import Op, Sample
from neve.ops.checks import check
from neve.ops.conv import Conv, ConvTranspose, Pairs
from neve.ops.matmul import Linear
from neve.ops.samples import data, sample

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

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return inputs

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        return inputs

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield sample(cls("linear"), data((3, 4)))
        yield sample(cls("convolution"), data((3, 2, 1, 1)), data((3,)))


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

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (y,) = self.plain.eval(*inputs)
        y = y if self.minimum is None else np.maximum(y, y.dtype.type(self.minimum))
        return (y if self.maximum is None else np.minimum(y, y.dtype.type(self.maximum)),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """As the plain op, which the plan gives its kernel, then the clamp for its epilogue."""
        (y,) = self.plain.lower(b, *inputs)
        for bound, fn in ((self.minimum, "maximum"), (self.maximum, "minimum")):
            if bound is not None:
                y = clamped(b, y, fn, bound)
        return (y,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for s in cls.plain_samples():
            if s.types is None or s.types[0].dtype in (DType.float32, DType.float64):
                attributes: dict[str, Any] = {f.name: getattr(s.op, f.name) for f in fields(s.op)}
                for bounds in ((None, None), (0.0, None), (-1.0, 2.5)):
                    attributes.update(minimum=bounds[0], maximum=bounds[1])
                    yield Sample(cls(**attributes), s.inputs, s.types)

    @classmethod
    def plain_samples(cls) -> Iterator[Sample]:
        """Samples of the plain op."""
        raise NotImplementedError


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

    @classmethod
    def plain_samples(cls) -> Iterator[Sample]:
        return Conv.samples()


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

    @classmethod
    def plain_samples(cls) -> Iterator[Sample]:
        return ConvTranspose.samples()


@dataclass(frozen=True)
class PrepackedLinear(Prepacked):
    """Linear on prepacked parameters, then clamp."""

    minimum: float | None = None
    maximum: float | None = None
    name: ClassVar[str] = "prepacked_linear"

    @property
    def plain(self) -> Op:
        return Linear()

    @classmethod
    def plain_samples(cls) -> Iterator[Sample]:
        return Linear.samples()


def clamped(b: Builder, y: Tensor, fn: str, bound: float) -> Tensor:
    return b.compute(y.shape, y.dtype, lambda *i: call(fn, y(*i), const(bound, y.dtype)))
