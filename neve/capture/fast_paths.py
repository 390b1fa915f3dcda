"""torch's fast paths of attention, encoder layers and encoders, in plain ops while torch.export runs.

In evaluation mode without gradients nn.MultiheadAttention and nn.TransformerEncoderLayer call one op each
(aten/src/ATen/native/transformers/attention.cpp, transformer.cpp), and nn.TransformerEncoder makes a nested tensor of a
padding mask (nn/modules/transformer.py). torch.export takes the other path, whose results differ: on the fast one
- a query that sees no key gives NaN, not zeros;
- a mask of numbers in a layer hides each key whose number is not 0, instead of being added to the scores;
- `is_causal` is ignored, and a layer reads the parameters of its parts, but does not call them; any nn.GELU is exact;
- an encoder does not read padded rows, and gives zeros for them (before its norm), if all padding comes last.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neve.errors import CaptureError
from neve.internals import replaced, require

F: Any = functional  # the helpers of its masks have no types
_encoder: Any = nn.TransformerEncoder.forward
_layer: Any = nn.TransformerEncoderLayer.forward
_attention: Any = nn.MultiheadAttention.forward
NO_ROWS = "every row of every sequence is padded: torch makes no nested tensor of that"


def as_in_eager() -> AbstractContextManager[None]:
    """torch's modules computing what they compute in eager without gradients, in ops that can be exported."""
    changes = (
        ("torch.nn.TransformerEncoder.forward", encoder),
        ("torch.nn.TransformerEncoderLayer.forward", encoder_layer),
        ("torch.nn.MultiheadAttention.forward", attention),
        ("torch.nn.modules.transformer._detect_is_causal_mask", _told_causal),
        ("torch.unique_consecutive", _by_name),
    )
    helpers = "torch.nn.functional._canonical_mask", "torch.nn.functional._none_or_dtype"
    require("torch's attention modules", *helpers, *(name for name, _ in changes), error=CaptureError)
    return replaced(*changes)


_unique_consecutive: Any = torch.unique_consecutive


def _by_name(input: Tensor, *flags: Any, **named: Any) -> Any:
    """torch.unique_consecutive reads flags by position as others than it names (boolean_dispatch in functional.py), but
    not under a mode.
    """
    if flags:
        raise CaptureError(
            "torch.unique_consecutive takes flags by position for others than it names: pass return_inverse and "
            "return_counts by name"
        )
    return _unique_consecutive(input, **named)


@functools.wraps(_encoder)
def encoder(
    self: Any,
    src: Tensor,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Tensor:
    padding = _numbers(src_key_padding_mask, "src_key_padding_mask", src, mask)
    mask = _numbers(mask, "mask", src)
    padded = None
    if padding is not None and mask is None and _nests(self, src):
        padding, padded = _nested(self, padding)
        src = src.masked_fill(padded, 0.0)
    output = src
    for layer in self.layers:
        output = layer(output, src_mask=mask, is_causal=is_causal is True, src_key_padding_mask=padding)
    if padded is not None:
        output = output.masked_fill(padded, 0.0)
    return output if self.norm is None else self.norm(output)


@functools.wraps(_layer)
def encoder_layer(
    self: Any,
    src: Tensor,
    src_mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    if not _layer_is_fast(self, src):
        found: Tensor = _layer(self, src, src_mask, src_key_padding_mask, is_causal)
        return found
    hidden = src_mask, src_key_padding_mask
    if src_mask is not None and src_key_padding_mask is not None:
        padding = _numbers(src_key_padding_mask, "src_key_padding_mask", src, src_mask)
        merged, _ = self.self_attn.merge_masks(_numbers(src_mask, "src_mask", src), padding, src)
        hidden = merged.flatten(0, 1), None
    scores, padding = (None if m is None else m if m.dtype is torch.bool else m != 0 for m in hidden)

    def norm(x: Tensor, part: Any) -> Tensor:
        return functional.layer_norm(x, (self.self_attn.embed_dim,), part.weight, part.bias, self.norm1.eps)

    def attend(x: Tensor) -> Tensor:
        return _native_attention(self.self_attn, x, scores, padding)

    def feed_forward(x: Tensor) -> Tensor:
        inner = F.linear(x, self.linear1.weight, self.linear1.bias)
        inner = F.gelu(inner) if self.activation_relu_or_gelu == 2 else F.relu(inner)
        return functional.linear(inner, self.linear2.weight, self.linear2.bias)

    if self.norm_first:
        x = src + attend(norm(src, self.norm1))
        return x + feed_forward(norm(x, self.norm2))
    x = norm(src + attend(src), self.norm1)
    return norm(x + feed_forward(x), self.norm2)


@functools.wraps(_attention)
def attention(
    self: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    fast = query is key is value and _attention_is_fast(self, query, key_padding_mask, attn_mask)
    if fast and not need_weights:
        return _native_attention(self, query, attn_mask, key_padding_mask), None
    given = (query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights)
    found: tuple[Tensor, Tensor | None] = _attention(self, *given, is_causal=is_causal and not fast)
    return found


def _native_attention(part: Any, x: Tensor, scores: Tensor | None, padding: Tensor | None) -> Tensor:
    """_native_multi_head_attention of x (B, T, D); scores (T, T) or (B·heads, T, T) and padding (B, T)
    are true where they hide a key.
    """
    rows = x.transpose(0, 1)
    size, out = (part.embed_dim, part.num_heads), part.out_proj
    weights = part.in_proj_weight, part.in_proj_bias, None, None, False, 0.0, out.weight, out.bias
    masks = {"key_padding_mask": padding, "attn_mask": scores}
    y: Tensor
    y, _ = F.multi_head_attention_forward(rows, rows, rows, *size, *weights, False, need_weights=False, **masks)
    y = y.transpose(0, 1)
    hidden: list[Any] = [] if padding is None else [padding[:, None, None]]
    if scores is not None:
        hidden.append(scores[None, None] if scores.dim() == 2 else scores.view(x.shape[0], -1, *scores.shape[1:]))
    if not hidden:
        return y
    blind = functools.reduce(torch.logical_or, hidden).all(-1).any(1)
    return y.masked_fill(blind.unsqueeze(-1), float("nan"))


def _nested(self: Any, padding: Tensor) -> tuple[Tensor, Tensor]:
    """The padding mask (B, T) of each layer, as numbers, and which rows (B, T, 1) are none of the nested tensor's."""
    hidden = padding != 0
    counts = hidden.logical_not().sum(1, keepdim=True)
    last = torch.arange(padding.shape[1], device=padding.device) >= counts
    if getattr(self, "mask_check", True):
        aligned = (hidden == last).all()
        padded = hidden & aligned
    else:
        aligned, padded = torch.ones((), dtype=torch.bool, device=padding.device), last
    torch.ops.aten._assert_async.msg((aligned & padded.all()).logical_not(), NO_ROWS)
    infinite = torch.zeros_like(padding).masked_fill(padded, float("-inf"))
    return torch.where(aligned, infinite, padding), padded.unsqueeze(-1)


def _nests(self: Any, src: Tensor) -> bool:
    """Whether an encoder makes a nested tensor of a padding mask, if that is left aligned."""
    if not torch.backends.mha.get_fastpath_enabled() or not getattr(self, "use_nested_tensor", False):
        return False
    first = self.layers[0]
    tensors = (src, *_parameters(first))
    if first.training or src.dim() != 3 or torch.is_autocast_enabled() or _differentiated(tensors):
        return False
    for k, layer in enumerate(self.layers):
        if reason := _never_nested(layer, src):
            raise CaptureError(
                f"nn.TransformerEncoder gives its layers a nested tensor where src_key_padding_mask is left aligned, "
                f"and layers.{k} {reason}: make the encoder with enable_nested_tensor=False"
            )
    return True


def _never_nested(layer: Any, src: Tensor) -> str:
    """Why what a layer does with a nested tensor cannot be said of a padded one; "" if it can."""
    if getattr(type(layer), "forward", None) is not encoder_layer:
        return f"is a {type(layer).__name__} with a forward of its own"
    hooks = [h for m in layer.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    if any(not type(h).__module__.startswith("torch.nn.utils.") for h in hooks):
        return "has hooks, which would be given it"
    if not _layer_is_fast(layer, src) and not _attention_is_fast(layer.self_attn, src, None, None):
        return "cannot take one (torch raises)"
    return ""


def _layer_is_fast(self: Any, src: Tensor) -> bool:
    mha = self.self_attn
    return (
        torch.backends.mha.get_fastpath_enabled()
        and src.dim() == 3
        and not self.training
        and mha.batch_first
        and mha.in_proj_bias is not None
        and mha._qkv_same_embed_dim
        and bool(self.activation_relu_or_gelu)
        and self.norm1.eps == self.norm2.eps
        and mha.num_heads % 2 == 0
        and not torch.is_autocast_enabled()
        and not any(m._forward_hooks or m._forward_pre_hooks for m in self.modules())
        and not _differentiated((src, *_parameters(self)))
    )


def _attention_is_fast(self: Any, query: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None) -> bool:
    return (
        torch.backends.mha.get_fastpath_enabled()
        and not any(m is not None and m.is_floating_point() for m in (key_padding_mask, attn_mask))
        and query.dim() == 3
        and self.in_proj_weight is not None
        and self.in_proj_bias is not None
        and query.dtype == self.in_proj_weight.dtype == self.in_proj_bias.dtype
        and not self.training
        and self.num_heads % 2 == 0
        and self.batch_first
        and self.bias_k is None
        and self.bias_v is None
        and not self.add_zero_attn
        and self._qkv_same_embed_dim
        and not torch.is_autocast_enabled()
        and not _differentiated((query, self.in_proj_weight, self.in_proj_bias, *self.out_proj.parameters()))
    )


def _parameters(layer: Any) -> tuple[Tensor, ...]:
    mha = layer.self_attn
    parts = (mha.out_proj, layer.norm1, layer.norm2, layer.linear1, layer.linear2)
    return mha.in_proj_weight, mha.in_proj_bias, *(t for p in parts for t in (p.weight, p.bias))


def _differentiated(tensors: tuple[Any, ...]) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _numbers(mask: Tensor | None, name: str, x: Tensor, other: Tensor | None = None) -> Tensor | None:
    """A mask as numbers that are added to scores, as torch's modules hand it on; its errors are torch's."""
    beside = {"check_other": False} if other is None else {"other_type": F._none_or_dtype(other)}
    given = {"other_type": None, "other_name": "mask" if other is not None else "", "target_type": x.dtype} | beside
    found: Tensor | None = F._canonical_mask(mask=mask, mask_name=name, **given)
    return found


def _told_causal(mask: Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Without a look at the mask: one that turns out causal gives the same result as a mask."""
    return is_causal is True
