"""torch's fast path of attention and of encoder layers (evaluation mode, no gradients), in plain ops.

Scripted and traced nn.MultiheadAttention and nn.TransformerEncoderLayer have one op each there
(aten/src/ATen/native/transformers/attention.cpp, transformer.cpp). A row whose keys are all masked is NaN, as in torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.schema import dtype_number
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import Refusal, Var, describe, needs_of

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine

VIEWS = (ATEN.view.default, ATEN.expand.default, ATEN.reshape.default, ATEN.unsqueeze.default)
NEITHER = (
    "an attention mask holds numbers other than 0 and -inf: torch adds them to the scores with gradients, and takes "
    "them all for masked without: make it one of 0 and -inf, or of bools"
)
NESTED = (
    "nn.TransformerEncoder makes a nested tensor of src_key_padding_mask, which is not supported: "
    "make it with enable_nested_tensor=False"
)


def native_attention(
    m: Machine,
    query: Var,
    key: Var,
    value: Var,
    embed_dim: Any,
    num_head: Any,
    qkv_weight: Var,
    qkv_bias: Var,
    proj_weight: Var,
    proj_bias: Var,
    mask: Var | None = None,
    need_weights: Any = True,
    average_attn_weights: Any = True,
    mask_type: Any = None,
) -> tuple[Var, Var | None]:
    """_native_multi_head_attention of (B, T, D): the result and the weights, (B, T, T) or of each head, or None.

    mask: true where a key is not to be seen; (T, T) for mask_type 0, (B, T) for 1, (B, H, T, T) for 2.
    """
    _known(embed_dim, num_head, need_weights, average_attn_weights, mask_type)
    if any(str(x.meta.shape) != str(query.meta.shape) for x in (key, value)):
        raise Refusal("_native_multi_head_attention of query, key and value of different shapes")
    if query.meta.dim() != 3 or embed_dim % num_head or mask_type not in (None, 0, 1, 2):
        raise Refusal(f"_native_multi_head_attention of {describe(query)} with {num_head} heads, mask {mask_type}")

    def heads(x: Any) -> Any:
        split = m.torch("unflatten", [x, -1, [num_head, embed_dim // num_head]], {})
        return m.torch("transpose", [split, 1, 2], {})

    q, k, v = map(heads, _projected(m, (query, key, value), embed_dim, qkv_weight, qkv_bias))
    scores = m.torch("matmul", [m.torch("div", [q, math.sqrt(embed_dim // num_head)], {}), _turned(m, k)], {})
    weights = m.torch("softmax", [_masked(m, scores, mask, mask_type), -1], {})
    joined = m.torch("flatten", [m.torch("transpose", [m.torch("matmul", [weights, v], {}), 1, 2], {}), 2], {})
    result = m.torch("linear", [joined, proj_weight, proj_bias], {})
    if not need_weights:
        return result, None
    return result, m.torch("mean", [weights, [1]], {}) if average_attn_weights else weights


def encoder_layer(
    m: Machine,
    src: Var,
    embed_dim: Any,
    num_heads: Any,
    qkv_weight: Var,
    qkv_bias: Var,
    proj_weight: Var,
    proj_bias: Var,
    use_gelu: Any,
    norm_first: Any,
    eps: Any,
    norm_weight_1: Var,
    norm_bias_1: Var,
    norm_weight_2: Var,
    norm_bias_2: Var,
    ffn_weight_1: Var,
    ffn_bias_1: Var,
    ffn_weight_2: Var,
    ffn_bias_2: Var,
    mask: Var | None = None,
    mask_type: Any = None,
) -> Var:
    """_transformer_encoder_layer_fwd of (B, T, D), whose gelu is the exact one."""
    _known(embed_dim, use_gelu, norm_first, eps)

    def norm(x: Any, weight: Var, bias: Var) -> Any:
        return m.torch("layer_norm", [x, [embed_dim], weight, bias, eps], {})

    def feed_forward(x: Any) -> Any:
        inner = m.torch("linear", [x, ffn_weight_1, ffn_bias_1], {})
        return m.torch("linear", [m.torch("gelu" if use_gelu else "relu", [inner], {}), ffn_weight_2, ffn_bias_2], {})

    x: Any = norm(src, norm_weight_1, norm_bias_1) if norm_first else src
    x, _ = native_attention(
        m, x, x, x, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, False, True, mask_type
    )
    x = m.torch("add", [x, src], {})
    if norm_first:
        return m.tape.tensor(ATEN.add.Tensor, x, feed_forward(norm(x, norm_weight_2, norm_bias_2)))
    x = norm(x, norm_weight_1, norm_bias_1)
    made: Var = norm(m.torch("add", [feed_forward(x), x], {}), norm_weight_2, norm_bias_2)
    return made


def nested(m: Machine, *_: Any, **__: Any) -> Any:
    raise Refusal(NESTED)


def _known(*values: Any) -> None:
    if not all(v is None or isinstance(v, (bool, int, float)) for v in values):
        raise Refusal("attention whose heads, sizes or switches depend on the inputs", needs_of(*values))


def _projected(m: Machine, inputs: tuple[Var, Var, Var], size: int, weight: Var, bias: Var) -> list[Var]:
    """q, k, v of (B, T, D); by one product if they are of one tensor."""
    if inputs[0] is inputs[1] is inputs[2]:
        made: list[Var] = m.torch("chunk", [m.torch("linear", [inputs[0], weight, bias], {}), 3, -1], {})
        return made
    parts = zip(inputs, *(m.torch("split", [x, size, 0], {}) for x in (weight, bias)), strict=True)
    return [m.torch("linear", list(part), {}) for part in parts]


def _turned(m: Machine, k: Var) -> Any:
    return m.torch("transpose", [k, -2, -1], {})


def _masked(m: Machine, scores: Any, mask: Var | None, kind: Any) -> Any:
    """Scores (B, H, T, T) with -inf where they are masked."""
    if mask is None:
        return scores
    if kind is None or mask.meta.dim() != (2, 2, 4)[kind]:
        raise Refusal(f"_native_multi_head_attention with {describe(mask)} as a mask of type {kind}")
    batch, _, length, _ = scores.meta.shape
    wanted = ((length, length), (batch, length), scores.meta.shape)[kind]
    if [str(n) for n in mask.meta.shape] != [str(n) for n in wanted]:
        raise Refusal(
            f"_native_multi_head_attention with {describe(mask)} as a mask of type {kind} of {describe(scores)}"
        )
    if mask.meta.dtype.is_floating_point:
        _only_masks(m, mask)
    hidden = m.torch("to", [mask, dtype_number(torch.bool)], {})
    if kind == 1:
        hidden = m.torch("unsqueeze", [m.torch("unsqueeze", [hidden, 1], {}), 1], {})
    return m.torch("masked_fill", [scores, hidden, float("-inf")], {})


def _only_masks(m: Machine, mask: Var) -> None:
    """Have the run refuse a mask of floats that means something else on torch's other path."""
    while mask.step is not None and mask.step.op in VIEWS and mask.step.args[0].root is mask.root:
        mask = mask.step.args[0]  # so that what is expanded is read once
    odd = m.torch("logical_and", [m.torch("ne", [mask, 0.0], {}), m.torch("ne", [mask, float("-inf")], {})], {})
    m.tape.fail(m.torch("any", [odd], {}), NEITHER)
