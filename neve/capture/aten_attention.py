"""Builder of scaled dot-product attention."""

from __future__ import annotations

from typing import Any

from neve.capture.aten import aten
from neve.capture.context import Context, Refusal
from neve.ir.graph import Value
from neve.ops.attention import Attention


@aten("scaled_dot_product_attention")
def attention(
    c: Context,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Value:
    if dropout_p:
        raise Refusal("attention with dropout is random: use dropout_p=self.dropout if self.training else 0.0")
    if scale is not None and not isinstance(scale, (int, float)):
        raise Refusal("attention with a scale that depends on a size")
    inputs = (q, k, v) if mask is None else (q, k, v, mask)
    return c(Attention(is_causal, None if scale is None else float(scale), enable_gqa), *inputs)
