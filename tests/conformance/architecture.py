"""Tiny random models of transformers: what a row of the sweep is, the inputs it is run on, how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Inputs = Callable[[torch.Generator], dict[str, torch.Tensor]]
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 99,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
VISION = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 99,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (8, 4, 4),
    "conv_stride": (4, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
    "layerdrop": 0.0,
    "vocab_size": 32,
}


def ids(length: int = 10, rows: int = 2, vocabulary: int = 99) -> Inputs:
    """Token ids with a mask that hides the end of the second row."""

    def make(g: torch.Generator) -> dict[str, torch.Tensor]:
        mask = torch.ones(rows, length, dtype=torch.long)
        mask[1, -2:] = 0
        return {"input_ids": torch.randint(3, vocabulary, (rows, length), generator=g), "attention_mask": mask}

    return make


def tokens(length: int = 10, vocabulary: int = 99) -> Inputs:
    return lambda g: {"input_ids": torch.randint(3, vocabulary, (2, length), generator=g)}


def pair(length: int = 10) -> Inputs:
    return lambda g: {
        "input_ids": torch.randint(3, 99, (2, length), generator=g),
        "decoder_input_ids": torch.randint(3, 99, (2, 6), generator=g),
    }


def image(size: int = 32, channels: int = 3) -> Inputs:
    return lambda g: {"pixel_values": torch.randn(2, channels, size, size, generator=g)}


def audio(length: int = 800) -> Inputs:
    return lambda g: {"input_values": torch.randn(2, length, generator=g)}


def features(*shape: int, name: str = "input_features") -> Inputs:
    return lambda g: {name: torch.randn(*shape, generator=g)}


@dataclass(frozen=True)
class Architecture:
    config: str
    model: str
    options: dict[str, Any]
    inputs: Inputs
    call: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model


def build(a: Architecture, seed: int = 0) -> nn.Module:
    """The model, redrawn so that every layer matters: no zero biases, unit scales or identity statistics."""
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, a.config)(**a.options)
    model: nn.Module = getattr(transformers, a.model)(config).eval()
    redraw(model)
    return model


def redraw(model: nn.Module) -> None:
    g = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if p.dim() < 2:
                low, high = (-0.3, 0.3) if name.endswith("bias") else (0.6, 1.4)
                p.copy_(torch.rand(p.shape, generator=g) * (high - low) + low)
            else:
                p.copy_(torch.randn(p.shape, generator=g) * (p[0].numel() ** -0.5 if p.shape[0] > 1 else 0.5))
            p.requires_grad_(False)
    for m in model.modules():
        if getattr(m, "running_var", None) is not None:
            m.running_mean.copy_(torch.randn(m.running_mean.shape, generator=g) * 0.2)  # type: ignore[union-attr,operator]
            m.running_var.copy_(torch.rand(m.running_var.shape, generator=g) + 0.5)  # type: ignore[union-attr,operator]
