"""Normalisations and softmax. Statistics are those of inference: biased variance, two passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, call, cast, const
from neve.ir.types import Dim, DType, TensorType, numel, same
from neve.ops.base import Op, Sample
from neve.ops.checks import check, check_float, exact, number, same_shape, wide
from neve.ops.samples import FLOATS, data, sample

Element = Callable[[Sequence[Index], Sequence[Index]], Expr]
"""An element of a row, by the row's index and the position in it."""


@dataclass(frozen=True)
class BatchNorm(Op):
    """(x − mean) / √(var + eps) · weight + bias a channel: x (N, C, …), weight, bias, mean, var (C,).

    As x · scale + shift, like eager: a variance of zero gives NaN.
    """

    eps: float = 1e-5
    name: ClassVar[str] = "batch_norm"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 5 and types[0].rank >= 2, self, "x (N, C, …), weight, bias, mean, var", types)
        check_float(self, types)
        check(
            all(t.rank == 1 and same(t.shape[0], types[0].shape[1]) for t in types[1:]),
            self,
            "parameters of shape (C,)",
            types,
        )
        return (types[0],)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, *parameters = (exact(a) for a in inputs)
        weight, bias, mean, var = (p.reshape(-1, *[1] * (x.ndim - 2)) for p in parameters)
        with np.errstate(all="ignore"):
            scale = weight / np.sqrt(var + self.eps)
            return ((x * scale + (bias - mean * scale)).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """A scale and a shift a channel, computed first as eager does."""
        x, weight, bias, mean, var = inputs
        acc = wide(x.dtype)
        scale = b.compute(
            mean.shape,
            acc,
            lambda c: call(
                "mul", cast(weight(c), acc), call("rsqrt", call("add", cast(var(c), acc), const(self.eps, acc)))
            ),
        )
        shift = b.compute(
            mean.shape, acc, lambda c: call("sub", cast(bias(c), acc), call("mul", cast(mean(c), acc), scale(c)))
        )
        return (
            b.compute(
                x.shape,
                x.dtype,
                lambda *i: cast(call("add", call("mul", cast(x(*i), acc), scale(i[1])), shift(i[1])), x.dtype),
            ),
        )

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis, *(0 if axis == 1 else None for _ in types[1:]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, shape in enumerate([(2, 3, 4, 5), (3, 4), (1, 2, 7), (2, 3, 2, 2, 3), (0, 3, 4, 4), (2, 3, 0)]):
            yield normalised(cls(1e-3 if i % 2 else 1e-5), data(shape, edges=i == 2), shape[1:2])
        for dtype in FLOATS[1:]:
            yield normalised(cls(), data((2, 3, 4, 5), dtype), (3,), dtype)


@dataclass(frozen=True)
class LayerNorm(Op):
    """Normalises the last `rank` axes: x [, weight [, bias]], both of the shape of those axes."""

    rank: int = 1
    eps: float = 1e-5
    name: ClassVar[str] = "layer_norm"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(
            1 <= len(types) <= 3 and 1 <= self.rank <= types[0].rank,
            self,
            f"x of rank ≥ {self.rank} [, weight [, bias]]",
            types,
        )
        check_float(self, types)
        check(
            all(same_shape(t.shape, types[0].shape[-self.rank :]) for t in types[1:]),
            self,
            "parameters of the normalised shape",
            types,
        )
        return (types[0],)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, *parameters = (exact(a) for a in inputs)
        y = normalise(x, tuple(range(-self.rank, 0)), self.eps)
        return (scale_and_shift(y, parameters).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, *parameters = inputs
        acc, r = wide(x.dtype), self.rank
        mean, scale = moments(b, lambda i, k: cast(x(*i, *k), acc), x.shape[:-r], x.shape[-r:], self.eps, acc)

        def element(*i: Index) -> Expr:
            y = call("mul", call("sub", cast(x(*i), acc), mean(*i[:-r])), scale(*i[:-r]))
            return cast(affine(y, [cast(p(*i[-r:]), acc) for p in parameters]), x.dtype)

        return (b.compute(x.shape, x.dtype, element),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis, *(None for _ in types[1:])) if axis < types[0].rank - self.rank else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, rank) in enumerate(
            [((4, 9), 1), ((2, 3, 4, 5), 2), ((7,), 1), ((3, 1), 1), ((0, 4), 1), ((2, 3, 4), 3), ((5, 64), 1)]
        ):
            x = data(shape, seed=i) + 100 * (i == 6)
            for affine_parameters in (0, 1, 2):
                yield normalised(
                    cls(rank, 1e-3 if i % 2 else 1e-5), x.astype(np.float32), shape[-rank:], count=affine_parameters
                )
        yield normalised(cls(), data((3, 8), edges=True), (8,), count=2)
        for dtype in FLOATS[1:]:
            yield normalised(cls(), data((3, 8), dtype), (8,), dtype, 2)


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
        c: Any = types[0].shape[1]
        check(
            isinstance(c, int) and self.groups > 0 and c % self.groups == 0,
            self,
            f"channels that {self.groups} groups divide",
            types,
        )
        check(all(t.rank == 1 and t.shape[0] == c for t in types[1:]), self, "parameters of shape (C,)", types)
        return (types[0],)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, *parameters = (exact(a) for a in inputs)
        n, c = x.shape[:2]
        per = (c // self.groups, *x.shape[2:])
        y = normalise(x.reshape(n, self.groups, int(np.prod(per))), (-1,), self.eps).reshape(x.shape)
        return (scale_and_shift(y, [p.reshape(-1, *[1] * (x.ndim - 2)) for p in parameters]).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, *parameters = inputs
        acc, channels = wide(x.dtype), x.shape[1]
        assert isinstance(channels, int)
        per = channels // self.groups
        mean, scale = moments(
            b,
            lambda i, k: cast(x(i[0], i[1] * per + k[0], *k[1:]), acc),
            (x.shape[0], self.groups),
            (per, *x.shape[2:]),
            self.eps,
            acc,
        )

        def element(*i: Index) -> Expr:
            g = i[1] // per
            y = call("mul", call("sub", cast(x(*i), acc), mean(i[0], g)), scale(i[0], g))
            return cast(affine(y, [cast(p(i[1]), acc) for p in parameters]), x.dtype)

        return (b.compute(x.shape, x.dtype, element),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis, *(None for _ in types[1:])) if axis == 0 else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, groups) in enumerate(
            [((2, 6, 3, 4), 3), ((2, 4, 5), 4), ((3, 4), 2), ((1, 6, 2, 3, 2), 1), ((0, 4, 3), 2)]
        ):
            for affine_parameters in (0, 1, 2):
                yield normalised(
                    cls(groups, 1e-3 if i % 2 else 1e-5), data(shape, seed=i), shape[1:2], count=affine_parameters
                )
        for dtype in FLOATS[1:]:
            yield normalised(cls(2), data((2, 4, 3), dtype), (4,), dtype, 2)


@dataclass(frozen=True)
class RmsNorm(Op):
    """x / √(mean(x²) + eps) over the last `rank` axes: x [, weight of the shape of those axes]."""

    rank: int = 1
    eps: float = 1e-6
    name: ClassVar[str] = "rms_norm"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(
            1 <= len(types) <= 2 and 1 <= self.rank <= types[0].rank, self, f"x of rank ≥ {self.rank} [, weight]", types
        )
        check_float(self, types)
        check(
            all(same_shape(t.shape, types[0].shape[-self.rank :]) for t in types[1:]),
            self,
            "a weight of the normalised shape",
            types,
        )
        return (types[0],)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, *weight = (exact(a) for a in inputs)
        with np.errstate(all="ignore"):
            y = x / np.sqrt((x * x).mean(tuple(range(-self.rank, 0)), keepdims=True) + self.eps)
        return (scale_and_shift(y, weight).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, *weight = inputs
        acc, r = wide(x.dtype), self.rank
        rows, row = x.shape[:-r], x.shape[-r:]
        squares = b.reduce("sum", rows, acc, row, lambda i, k: square(cast(x(*i, *k), acc)))
        scale = inverse_root(b, squares, row, self.eps)

        def element(*i: Index) -> Expr:
            return cast(
                affine(call("mul", cast(x(*i), acc), scale(*i[:-r])), [cast(w(*i[-r:]), acc) for w in weight]), x.dtype
            )

        return (b.compute(x.shape, x.dtype, element),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis, *(None for _ in types[1:])) if axis < types[0].rank - self.rank else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (shape, rank) in enumerate([((4, 9), 1), ((2, 3, 4, 5), 2), ((7,), 1), ((3, 1), 1), ((0, 4), 1)]):
            for affine_parameters in (0, 1):
                yield normalised(
                    cls(rank, 1e-3 if i % 2 else 1e-6), data(shape, seed=i), shape[-rank:], count=affine_parameters
                )
        yield normalised(cls(), data((3, 8), edges=True), (8,), count=1)
        for dtype in FLOATS[1:]:
            yield normalised(cls(), data((3, 8), dtype), (8,), dtype, 1)


@dataclass(frozen=True)
class Softmax(Op):
    """exp(x − max) / Σ exp(x − max) along dim (0 ≤ dim < rank)."""

    dim: int
    name: ClassVar[str] = "softmax"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 1 and 0 <= self.dim < types[0].rank, self, f"one input with an axis {self.dim}", types)
        check_float(self, types)
        return (types[0],)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        e = np.exp(below_max(inputs[0], self.dim))
        with np.errstate(all="ignore"):
            return ((e / e.sum(self.dim, keepdims=True)).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        acc, d = wide(x.dtype), self.dim
        _, e, total = exponentials(b, x, d, acc)
        scale = b.compute(total.shape, acc, lambda *i: call("div", const(1.0, acc), total(*i)))
        return (b.compute(x.shape, x.dtype, lambda *i: cast(call("mul", e(*i), scale(*i[:d], *i[d + 1 :])), x.dtype)),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis,) if axis != self.dim else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return softmax_samples(cls)


@dataclass(frozen=True)
class LogSoftmax(Op):
    """x − max − log Σ exp(x − max) along dim (0 ≤ dim < rank)."""

    dim: int
    name: ClassVar[str] = "log_softmax"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 1 and 0 <= self.dim < types[0].rank, self, f"one input with an axis {self.dim}", types)
        check_float(self, types)
        return (types[0],)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        y = below_max(inputs[0], self.dim)
        with np.errstate(all="ignore"):
            return ((y - np.log(np.exp(y).sum(self.dim, keepdims=True))).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        acc, d = wide(x.dtype), self.dim
        top, _, total = exponentials(b, x, d, acc)
        log = b.compute(total.shape, acc, lambda *i: call("log", total(*i)))

        def element(*i: Index) -> Expr:
            row = (*i[:d], *i[d + 1 :])
            return cast(call("sub", call("sub", cast(x(*i), acc), top(*row)), log(*row)), x.dtype)

        return (b.compute(x.shape, x.dtype, element),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        return (axis,) if axis != self.dim else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return softmax_samples(cls)


def normalise(x: np.ndarray, axes: tuple[int, ...], eps: float) -> np.ndarray:
    if not x.size:
        return x
    with np.errstate(all="ignore"):
        centred = x - x.mean(axes, keepdims=True)
        return np.asarray(centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + eps))


def scale_and_shift(y: np.ndarray, parameters: Sequence[np.ndarray]) -> np.ndarray:
    """y · weight + bias, as far as they are given."""
    y = y * parameters[0] if parameters else y
    return y + parameters[1] if len(parameters) > 1 else y


def affine(y: Expr, parameters: Sequence[Expr]) -> Expr:
    """y · weight + bias, as far as they are given."""
    if len(parameters) > 1:
        return call("fma", y, parameters[0], parameters[1])
    return call("mul", y, parameters[0]) if parameters else y


def square(x: Expr) -> Expr:
    return call("mul", x, x)


def moments(
    b: Builder, x: Element, rows: Sequence[Dim], row: Sequence[Dim], eps: float, acc: DType
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / √(variance + eps) of each row, in two passes."""
    total = b.reduce("sum", rows, acc, row, x)
    mean = b.compute(rows, acc, lambda *i: call("div", total(*i), number(numel(row), acc)))
    squares = b.reduce("sum", rows, acc, row, lambda i, k: square(call("sub", x(i, k), mean(*i))))
    return mean, inverse_root(b, squares, row, eps)


def inverse_root(b: Builder, squares: Tensor, row: Sequence[Dim], eps: float) -> Tensor:
    """1 / √(squares / size of a row + eps)."""
    acc = squares.dtype
    return b.compute(
        squares.shape,
        acc,
        lambda *i: call("rsqrt", call("add", call("div", squares(*i), number(numel(row), acc)), const(eps, acc))),
    )


def below_max(x: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(exact(x) - exact(x).max(axis, keepdims=True, initial=-np.inf))


def exponentials(b: Builder, x: Tensor, d: int, acc: DType) -> tuple[Tensor, Tensor, Tensor]:
    """The maxima along axis d, exp(x − max), and its sums."""

    def at(i: Sequence[Index], k: Index) -> tuple[Index, ...]:
        return (*i[:d], k, *i[d:])

    rows, row = (*x.shape[:d], *x.shape[d + 1 :]), x.shape[d : d + 1]
    top = b.reduce("max", rows, acc, row, lambda i, k: cast(x(*at(i, k[0])), acc))
    e = b.compute(x.shape, acc, lambda *i: call("exp", call("sub", cast(x(*i), acc), top(*i[:d], *i[d + 1 :]))))
    return top, e, b.reduce("sum", rows, acc, row, lambda i, k: e(*at(i, k[0])))


def softmax_samples(cls: Callable[[int], Op]) -> Iterator[Sample]:
    for i, (shape, dim) in enumerate(
        [((3, 7), 1), ((3, 7), 0), ((2, 3, 4, 5), 1), ((1,), 0), ((0, 4), 1), ((4, 0), 1), ((2, 33), 1)]
    ):
        yield sample(cls(dim), data(shape, seed=i, low=-30, high=30))
    rows = np.array(
        [
            [1, 2, 3],
            [1, -np.inf, 2],
            [-np.inf] * 3,
            [1, np.inf, 2],
            [1, np.nan, 2],
            [1e30, -1e30, 1e30],
            [0.0, -0.0, 0.0],
        ]
    )
    for dtype in FLOATS:
        yield sample(cls(1), data((3, 8), dtype), dtypes=[dtype])
        if dtype in (DType.float32, DType.float64):
            yield sample(cls(1), rows.astype(dtype.numpy), dtypes=[dtype])
            yield sample(cls(0), rows.T.astype(dtype.numpy), dtypes=[dtype])


def normalised(op: Op, x: np.ndarray, shape: tuple[int, ...], dtype: DType = DType.float32, count: int = 4) -> Sample:
    """A sample with `count` parameters of a shape; the fourth, a variance, is positive."""
    parameters = [data(shape, dtype, seed=10 + i, low=0.1 if i == 3 else -2, high=2) for i in range(count)]
    return sample(op, x, *parameters, dtypes=[dtype] * (count + 1))
