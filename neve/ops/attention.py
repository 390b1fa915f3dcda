"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, call, cast, const, guard, where
from neve.ir.types import Dim, DType, TensorType, broadcast, dim, same
from neve.ops.base import Op, Sample, broadcast_axis
from neve.ops.checks import check, check_float, exact, finish, number, wide, widened
from neve.ops.samples import data, sample


@dataclass(frozen=True)
class Attention(Op):
    """softmax(q kᵀ · scale + mask) v: q (…, SQ, D), k (…, SK, D), v (…, SK, DV) [, mask] → (…, SQ, DV).

    mask broadcasts to (…, SQ, SK): bool (True takes part) or of q's dtype (added). is_causal lets query i see keys 0…i.
    scale None is 1/√D. A query that may see nothing gives zeros. enable_gqa: q's heads (axis −3) are a multiple of
    k's and v's.
    """

    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False
    name: ClassVar[str] = "scaled_dot_product_attention"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) in (3, 4) and all(t.rank >= 2 for t in types[:3]), self, "q, k, v of rank ≥ 2 [, mask]", types)
        check_float(self, types[:3])
        q, k, v = types[:3]
        check(
            same(q.shape[-1], k.shape[-1]) and same(k.shape[-2], v.shape[-2]),
            self,
            "q (…, SQ, D), k (…, SK, D), v (…, SK, DV)",
            types,
        )
        lead = broadcast(q.shape[:-2], *(self.heads(q, t, types) for t in (k, v)))
        if len(types) == 4:
            mask = types[3]
            check(mask.dtype in (DType.bool, q.dtype), self, f"a mask of bool or {q.dtype}", types)
            check(not self.is_causal, self, "no mask when is_causal", types)
            scores = (*lead, q.shape[-2], k.shape[-2])
            check(broadcast(scores, mask.shape) == scores, self, f"a mask that broadcasts to {scores}", types)
        return (q.with_shape((*lead, q.shape[-2], v.shape[-1])),)

    def heads(self, q: TensorType, t: TensorType, types: tuple[TensorType, ...]) -> tuple[Dim, ...]:
        """The leading dims of k or v with its heads repeated to q's."""
        if not self.enable_gqa:
            return t.shape[:-2]
        check(q.rank >= 3 and t.rank >= 3, self, "heads at axis −3 for enable_gqa", types)
        hq, hk = q.shape[-3], t.shape[-3]
        multiple = isinstance(hq, int) and isinstance(hk, int) and hk > 0 and hq % hk == 0
        check(same(hq, hk) or multiple, self, "q's heads a multiple of k's and v's", types)
        return (*t.shape[:-3], dim(hq))

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        q, k, v, *mask = (exact(a) for a in inputs)
        if self.enable_gqa:
            k, v = (np.repeat(t, q.shape[-3] // t.shape[-3], -3) for t in (k, v))
        with np.errstate(all="ignore"):
            scores = q @ k.swapaxes(-1, -2) * self.factor(q.shape[-1])
            if self.is_causal:
                scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
            for m in mask:
                scores = np.where(m, scores, -np.inf) if m.dtype == bool else scores + m
            top = scores.max(-1, keepdims=True, initial=-np.inf)
            e = np.exp(scores - np.where(top == -np.inf, 0, top))
            total = e.sum(-1, keepdims=True)
            return ((e / np.where(total == 0, 1, total) @ v).astype(inputs[0].dtype),)

    def factor(self, d: int) -> float:
        """The scale of the scores, for queries of size d."""
        return self.scale if self.scale is not None else 1.0 / math.sqrt(d) if d else 0.0

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (out,) = self.infer(*(t.type for t in inputs))
        if b.refuses(self, inputs):
            return (self.loops(b, *inputs),)
        if out.rank != 3 or isinstance(out.shape[0], int):
            (y,) = b.kernel(self, inputs, widened((out,)))
            return (finish(b, y, out.dtype),)
        # any number of heads: a batch of one head each
        split = tuple(_split_heads(b, t) if len(t.shape) == 3 else t for t in inputs)
        (y,) = b.kernel(self, split, widened((out.with_shape((out.shape[0], 1, *out.shape[1:])),)))
        return (b.compute(out.shape, out.dtype, lambda i, *j: cast(y(i, 0, *j), out.dtype)),)

    def loops(self, b: Builder, q: Tensor, k: Tensor, v: Tensor, *mask: Tensor) -> Tensor:
        """Without a kernel."""
        (out,) = self.infer(q.type, k.type, v.type, *(m.type for m in mask))
        acc, rows = wide(q.dtype), out.shape[:-1]
        scores = self.scores(b, q, k, mask, rows)
        top = b.reduce("max", rows, acc, k.shape[-2:-1], lambda i, j: scores(*i, *j))

        def exponential(*i: Index) -> Expr:
            m = top(*i[:-1])
            return call(
                "exp", call("sub", scores(*i), where(call("eq", m, const(float("-inf"), acc)), const(0.0, acc), m))
            )

        e = b.compute(scores.shape, acc, exponential)
        total = b.reduce("sum", rows, acc, k.shape[-2:-1], lambda i, j: e(*i, *j))
        scale = b.compute(
            rows,
            acc,
            lambda *i: call(
                "div", const(1.0, acc), where(call("eq", total(*i), const(0.0, acc)), const(1.0, acc), total(*i))
            ),
        )
        weights = b.compute(scores.shape, acc, lambda *i: call("mul", e(*i), scale(*i[:-1])))
        y = b.reduce(
            "sum",
            out.shape,
            acc,
            k.shape[-2:-1],
            lambda i, j: call("mul", weights(*i[:-1], *j), cast(self.at_heads(v, q, i, j[0], i[-1]), acc)),
        )
        return finish(b, y, out.dtype)

    def scores(self, b: Builder, q: Tensor, k: Tensor, mask: Sequence[Tensor], rows: tuple[Dim, ...]) -> Tensor:
        """q kᵀ · scale + mask (rows…, SK); −inf where a query must not look."""
        acc, d = wide(q.dtype), q.shape[-1]
        dots = b.reduce(
            "sum",
            (*rows, k.shape[-2]),
            acc,
            (d,),
            lambda i, r: call(
                "mul", cast(q.broadcast((*i[:-1], r[0])), acc), cast(self.at_heads(k, q, i, i[-1], r[0]), acc)
            ),
        )
        if self.scale is None and not isinstance(d, int):
            scale = call("rsqrt", number(d, acc))
        else:
            scale = const(self.factor(d if isinstance(d, int) else 1), acc)
        never = const(float("-inf"), acc)

        def element(*i: Index) -> Expr:
            y: Expr = call("mul", dots(*i), scale)
            if self.is_causal:
                y = guard([(i[-2] - i[-1], Index.of(rows[-1]))], y, never)
            for m in mask:
                y = (
                    where(m.broadcast(i), y, never)
                    if m.dtype is DType.bool
                    else call("add", y, cast(m.broadcast(i), acc))
                )
            return y

        return b.compute(dots.shape, acc, element)

    def at_heads(self, t: Tensor, q: Tensor, i: Sequence[Index], row: Index, column: Index) -> Expr:
        """k or v for the batch and head of an output index."""
        lead = list(i[:-2])
        if self.enable_gqa and not same(q.shape[-3], t.shape[-3]):
            repeats: Any = q.shape[-3] // t.shape[-3]
            lead[-1] = lead[-1] // repeats
        return t.broadcast((*lead, row, column))

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        rank = max(t.rank for t in types)
        if self.is_causal or (self.enable_gqa and axis == rank - 3):
            return None
        if axis == rank - 1:
            return (None, None, types[2].rank - 1, *(None for _ in types[3:]))
        others = (None, None) if axis == rank - 2 else (broadcast_axis(axis, rank, t) for t in types[1:3])
        return (broadcast_axis(axis, rank, types[0]), *others, *(broadcast_axis(axis, rank, t) for t in types[3:]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dtype in (DType.float32, DType.float64, DType.float16, DType.bfloat16):
            yield problem(cls(), (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 6), dtype=dtype)
            yield problem(cls(is_causal=True), (1, 2, 6, 4), (1, 2, 6, 4), (1, 2, 6, 4), dtype=dtype)
            yield problem(cls(scale=0.3), (1, 2, 4, 4), (1, 2, 5, 4), (1, 2, 5, 4), (4, 5), dtype)
        for dtype in (DType.float32, DType.float64):
            yield problem(cls(), (2, 5, 4), (2, 3, 4), (2, 3, 4), dtype=dtype)
            yield problem(cls(), (3, 4), (5, 4), (5, 4), dtype=dtype)
            yield problem(cls(is_causal=True), (1, 2, 3, 4), (1, 2, 6, 4), (1, 2, 6, 4), dtype=dtype)
            yield problem(cls(is_causal=True), (1, 2, 6, 4), (1, 2, 3, 4), (1, 2, 3, 4), dtype=dtype)
            yield problem(cls(enable_gqa=True), (2, 6, 5, 4), (2, 2, 7, 4), (2, 2, 7, 4), (2, 1, 1, 7), dtype)
            yield problem(cls(), (1, 2, 4, 4), (1, 2, 0, 4), (1, 2, 0, 4), dtype=dtype)
            yield problem(cls(), (0, 2, 4, 4), (0, 2, 3, 4), (0, 2, 3, 4), dtype=dtype)
            yield masked(cls(), dtype, np.array([[True, False, True, False], [False] * 4, [True] * 4]))
            yield masked(cls(), dtype, np.array([[0, -np.inf, 1, -1], [-np.inf] * 4, [2, 2, -1e9, -1e9]], dtype.numpy))


def problem(
    op: Op,
    q: tuple[int, ...],
    k: tuple[int, ...],
    v: tuple[int, ...],
    mask: tuple[int, ...] | None = None,
    dtype: DType = DType.float32,
) -> Sample:
    arrays = [data(s, dtype, seed=i) for i, s in enumerate([q, k, v, mask] if mask else [q, k, v])]
    return sample(op, *arrays, dtypes=[dtype] * len(arrays))


def _split_heads(b: Builder, t: Tensor) -> Tensor:
    """(B, S, D) as (B, 1, S, D)."""
    shape = (t.shape[0], 1, *t.shape[1:])
    return b.compute(shape, t.dtype, lambda i, _, *j: t(i, *j))


def masked(op: Op, dtype: DType, mask: np.ndarray) -> Sample:
    """A sample with a mask over three queries and four keys."""
    arrays = [data((2, 2, n, 4), dtype, seed=n) for n in (3, 4, 4)]
    return sample(op, *arrays, mask, dtypes=[dtype] * 3 + [DType.bool if mask.dtype == bool else dtype])
