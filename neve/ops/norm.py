"""Normalisations and softmax. Statistics are those of inference: biased variance, two passes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import TensorType, same
from neve.ops.base import Op
from neve.ops.checks import check, check_float, same_shape


@dataclass(frozen=True)
class BatchNorm(Op):
    """(x − mean) / √(var + eps) · weight + bias a channel: x (N, C, …), weight, bias, mean, var (C,)."""

    eps: float = 1e-5
    name: ClassVar[str] = "batch_norm"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 5 and types[0].rank >= 2, self, "x (N, C, …), weight, bias, mean, var", types)
        check_float(self, types)
        check(all(t.rank == 1 and same(t.shape[0], types[0].shape[1]) for t in types[1:]), self, "parameters of shape (C,)", types)
        return (types[0],)


@dataclass(frozen=True)
class LayerNorm(Op):
    """Normalises the last `rank` axes: x [, weight [, bias]], both of the shape of those axes."""

    rank: int = 1
    eps: float = 1e-5
    name: ClassVar[str] = "layer_norm"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(1 <= len(types) <= 3 and 1 <= self.rank <= types[0].rank, self, f"x of rank ≥ {self.rank} [, weight [, bias]]", types)
        check_float(self, types)
        check(all(same_shape(t.shape, types[0].shape[-self.rank:]) for t in types[1:]), self, "parameters of the normalised shape", types)
        return (types[0],)


@dataclass(frozen=True)
class GroupNorm(Op):
    """Normalises each of `groups` runs of channels with all positions: x (N, C, …) [, weight (C,) [, bias (C,)]].

    groups = C is instance norm.
    """

    groups: int
    eps: float = 1e-5
    name: ClassVar[str] = "group_norm"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(1 <= len(types) <= 3 and types[0].rank >= 2, self, "x (N, C, …) [, weight [, bias]]", types)
        check_float(self, types)
        c = types[0].shape[1]
        check(isinstance(c, int) and self.groups > 0 and c % self.groups == 0, self, f"channels that {self.groups} groups divide", types)
        check(all(t.rank == 1 and t.shape[0] == c for t in types[1:]), self, "parameters of shape (C,)", types)
        return (types[0],)


@dataclass(frozen=True)
class RmsNorm(Op):
    """x / √(mean(x²) + eps) over the last `rank` axes: x [, weight of the shape of those axes]."""

    rank: int = 1
    eps: float = 1e-6
    name: ClassVar[str] = "rms_norm"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(1 <= len(types) <= 2 and 1 <= self.rank <= types[0].rank, self, f"x of rank ≥ {self.rank} [, weight]", types)
        check_float(self, types)
        check(all(same_shape(t.shape, types[0].shape[-self.rank:]) for t in types[1:]), self, "a weight of the normalised shape", types)
        return (types[0],)


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x − max) / Σ exp(x − max) along dim (0 ≤ dim < rank)."""

    dim: int
    name: ClassVar[str] = "softmax"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 1 and 0 <= self.dim < types[0].rank, self, f"one input with an axis {self.dim}", types)
        check_float(self, types)
        return (types[0],)


@dataclass(frozen=True)
class LogSoftmax(Op):
    """x − max − log Σ exp(x − max) along dim (0 ≤ dim < rank)."""

    dim: int
    name: ClassVar[str] = "log_softmax"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 1 and 0 <= self.dim < types[0].rank, self, f"one input with an axis {self.dim}", types)
        check_float(self, types)
        return (types[0],)
