"""Matrix products."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import TensorType, broadcast, same
from neve.ops.base import Op
from neve.ops.checks import check, check_same_dtype


@dataclass(frozen=True)
class MatMul(Op):
    """a (…, M, K) @ b (…, K, N) → (…, M, N); leading dims broadcast."""

    name: ClassVar[str] = "matmul"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) == 2 and all(t.rank >= 2 for t in types), self, "two inputs of rank ≥ 2", types)
        check_same_dtype(self, types)
        a, b = types
        check(same(a.shape[-1], b.shape[-2]), self, "a (…, M, K) and b (…, K, N)", types)
        return (a.with_shape((*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])),)


@dataclass(frozen=True)
class Linear(Op):
    """x (…, K), w (N, K) [, bias (N,)] → x @ wᵀ + bias (…, N)."""

    name: ClassVar[str] = "linear"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) in (2, 3) and types[0].rank >= 1 and types[1].rank == 2, self, "x (…, K), w (N, K) [, bias (N,)]", types)
        check_same_dtype(self, types)
        x, w = types[:2]
        check(same(x.shape[-1], w.shape[1]), self, "x (…, K) and w (N, K)", types)
        check(len(types) == 2 or (types[2].rank == 1 and same(types[2].shape[0], w.shape[0])), self, "a bias of (N,)", types)
        return (x.with_shape((*x.shape[:-1], w.shape[0])),)
