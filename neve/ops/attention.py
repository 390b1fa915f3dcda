"""Scaled dot-product attention."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import DType, TensorType, broadcast, dim, same
from neve.ops.base import Op
from neve.ops.checks import check, check_float


@dataclass(frozen=True)
class Attention(Op):
    """softmax(q kᵀ · scale + mask) v: q (…, SQ, D), k (…, SK, D), v (…, SK, DV) [, mask] → (…, SQ, DV).

    mask broadcasts to (…, SQ, SK): bool (True takes part) or of q's dtype (added). is_causal lets query i see keys 0…i. scale None is
    1/√D. A query that may see nothing gives zeros. enable_gqa: q's heads (axis −3) are a multiple of k's and v's.
    """

    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False
    name: ClassVar[str] = "scaled_dot_product_attention"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(len(types) in (3, 4) and all(t.rank >= 2 for t in types[:3]), self, "q, k, v of rank ≥ 2 [, mask]", types)
        check_float(self, types[:3])
        q, k, v = types[:3]
        check(same(q.shape[-1], k.shape[-1]) and same(k.shape[-2], v.shape[-2]), self, "q (…, SQ, D), k (…, SK, D), v (…, SK, DV)", types)
        lead = broadcast(q.shape[:-2], *(self.heads(q, t, types) for t in (k, v)))
        if len(types) == 4:
            mask = types[3]
            check(mask.dtype in (DType.bool, q.dtype), self, f"a mask of bool or {q.dtype}", types)
            check(not self.is_causal, self, "no mask when is_causal", types)
            scores = (*lead, q.shape[-2], k.shape[-2])
            check(broadcast(scores, mask.shape) == scores, self, f"a mask that broadcasts to {scores}", types)
        return (q.with_shape((*lead, q.shape[-2], v.shape[-1])),)

    def heads(self, q: TensorType, t: TensorType, types: tuple[TensorType, ...]) -> tuple[object, ...]:
        """The leading dims of k or v with its heads repeated to q's."""
        if not self.enable_gqa:
            return t.shape[:-2]
        check(q.rank >= 3 and t.rank >= 3, self, "heads at axis −3 for enable_gqa", types)
        hq, hk = q.shape[-3], t.shape[-3]
        check(same(hq, hk) or (isinstance(hq, int) and isinstance(hk, int) and hk > 0 and hq % hk == 0), self, "q's heads a multiple of k's and v's", types)
        return (*t.shape[:-3], dim(hq))
