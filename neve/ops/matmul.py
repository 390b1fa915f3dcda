"""Matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, call, cast
from neve.ir.types import DType, TensorType, broadcast, same
from neve.ops.base import Op, Sample, broadcast_axis
from neve.ops.checks import check, check_same_dtype, exact, finish, wide, widened
from neve.ops.samples import data, sample


@dataclass(frozen=True)
class MatMul(Op):
    """a (…, M, K) @ b (…, K, N) → (…, M, N); leading dims broadcast."""

    name: ClassVar[str] = "matmul"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 2 and all(t.rank >= 2 for t in types), self, "two inputs of rank ≥ 2", types)
        check_same_dtype(self, types)
        a, b = types
        check(same(a.shape[-1], b.shape[-2]), self, "a (…, M, K) and b (…, K, N)", types)
        check(a.dtype is not DType.bool, self, "numbers", types)
        return (a.with_shape((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        a, b = (exact(x) for x in inputs)
        with np.errstate(all="ignore"):
            return ((a @ b).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        a, c = inputs
        if b.refuses(self, inputs):
            return (finish(b, self.loops(b, a, c), a.dtype),)
        (y,) = b.kernel(self, inputs, widened(self.infer(a.type, c.type)))
        return (finish(b, y, a.dtype),)

    def loops(self, b: Builder, a: Tensor, c: Tensor) -> Tensor:
        """Without a kernel, in the type that a's is computed in."""
        (out,) = self.infer(a.type, c.type)
        acc = wide(a.dtype)
        return b.reduce(
            "sum",
            out.shape,
            acc,
            a.shape[-1:],
            lambda i, r: call("mul", cast(lead(a, i)(i[-2], r[0]), acc), cast(lead(c, i)(r[0], i[-1]), acc)),
        )

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        rank = max(t.rank for t in types)
        if axis >= rank - 2:
            return (types[0].rank - 2, None) if axis == rank - 2 else (None, types[1].rank - 1)
        return tuple(broadcast_axis(axis, rank, t) for t in types)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        shapes = [
            ((3, 4), (4, 5)),
            ((1, 7), (7, 1)),
            ((2, 3, 4), (2, 4, 3)),
            ((2, 1, 3, 4), (5, 4, 2)),
            ((0, 4), (4, 2)),
            ((3, 0), (0, 2)),
            ((4, 3), (2, 3, 6)),
            ((33, 17), (17, 40)),
        ]
        for i, (a, b) in enumerate(shapes):
            yield sample(cls(), data(a, seed=2 * i), data(b, seed=2 * i + 1))
        yield sample(cls(), data((2, 3), edges=True), data((3, 2), seed=1))
        for dtype in (DType.float64, DType.float16, DType.bfloat16, DType.int64, DType.int32, DType.uint8):
            for b in ((4, 5), (2, 4, 5)):
                yield sample(cls(), data((2, 3, 4), dtype), data(b, dtype, seed=1), dtypes=[dtype] * 2)


@dataclass(frozen=True)
class Linear(Op):
    """x (…, K), w (N, K) [, bias (N,)] → x @ wᵀ + bias (…, N)."""

    name: ClassVar[str] = "linear"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(
            len(types) in (2, 3) and types[0].rank >= 1 and types[1].rank == 2,
            self,
            "x (…, K), w (N, K) [, bias (N,)]",
            types,
        )
        check_same_dtype(self, types)
        x, w = types[:2]
        check(same(x.shape[-1], w.shape[1]), self, "x (…, K) and w (N, K)", types)
        check(
            len(types) == 2 or (types[2].rank == 1 and same(types[2].shape[0], w.shape[0])),
            self,
            "a bias of (N,)",
            types,
        )
        check(x.dtype is not DType.bool, self, "numbers", types)
        return (x.with_shape((*x.shape[:-1], w.shape[0])),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, w, *bias = (exact(a) for a in inputs)
        with np.errstate(all="ignore"):
            y = x @ w.T
            return ((y + bias[0] if bias else y).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        x, w, *bias = inputs
        return (finish(b, self.product(b, x, w), x.dtype, bias),)

    def product(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """Without bias, in the type that x's is computed in: by a kernel, or loops."""
        if b.refuses(self, (x, w)):
            return self.loops(b, x, w)
        return b.kernel(self, (x, w), widened(self.infer(x.type, w.type)))[0]

    def loops(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """Without a kernel and without bias, in the type that x's is computed in."""
        (out,) = self.infer(x.type, w.type)
        acc = wide(x.dtype)
        return b.reduce(
            "sum",
            out.shape,
            acc,
            x.shape[-1:],
            lambda i, r: call("mul", cast(x(*i[:-1], *r), acc), cast(w(i[-1], *r), acc)),
        )

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        if axis == types[0].rank - 1:
            return (None, *(0 for _ in types[1:]))
        return (axis, *(None for _ in types[1:]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (x, w, bias) in enumerate(
            [
                ((3, 4), (5, 4), True),
                ((4,), (3, 4), True),
                ((2, 3, 7), (1, 7), False),
                ((0, 4), (2, 4), True),
                ((2, 0), (3, 0), True),
                ((31, 18), (33, 18), True),
            ]
        ):
            yield sample(
                cls(), data(x, seed=3 * i), data(w, seed=3 * i + 1), *([data(w[:1], seed=3 * i + 2)] if bias else [])
            )
        for dtype in (DType.float64, DType.float16, DType.bfloat16, DType.int64):
            yield sample(
                cls(), data((3, 4), dtype), data((2, 4), dtype, seed=1), data((2,), dtype, seed=2), dtypes=[dtype] * 3
            )


def lead(t: Tensor, index: tuple[Index, ...]) -> Callable[[Index, Index], Expr]:
    """t's last two axes, at the leading axes of an index of a shape that they broadcast to."""
    return lambda m, n: t.broadcast((*index[:-2], m, n))
