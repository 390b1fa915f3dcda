"""Tiny random models of transformers: one row an architecture, by the names of its configuration and model classes."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Inputs = Callable[[torch.Generator], dict[str, torch.Tensor]]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 99, "max_position_embeddings": 64,
         "type_vocab_size": 2, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
VISION = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SEQ2SEQ = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
           "decoder_ffn_dim": 48, "vocab_size": 99, "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
           "decoder_start_token_id": 2, "forced_eos_token_id": None}
SPEECH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "conv_dim": (16, 16, 16), "conv_kernel": (8, 4, 4),
          "conv_stride": (4, 2, 2), "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 3, "layerdrop": 0.0,
          "vocab_size": 32}


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
    return lambda g: {"input_ids": torch.randint(3, 99, (2, length), generator=g), "decoder_input_ids": torch.randint(3, 99, (2, 6), generator=g)}


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


def _rows() -> list[Architecture]:
    A = Architecture
    cached = {"use_cache": False}
    rows = [A(f"{p}Config", f"{p}Model", SMALL, ids()) for p in (
        "Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "MPNet", "Ernie", "LayoutLM", "Splinter", "RoCBert", "MegatronBert",
        "RoFormer", "Nystromformer", "ConvBert", "IBert", "Data2VecText", "MobileBert", "SqueezeBert", "Tapas", "Deberta", "DebertaV2", "Mra", "Yoso")]
    rows += [
        A("DistilBertConfig", "DistilBertModel", {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 99}, ids()),
        A("AlbertConfig", "AlbertModel", SMALL | {"embedding_size": 16}, ids()),
        A("BertConfig", "BertForMaskedLM", SMALL, ids()),
        A("RobertaConfig", "RobertaForSequenceClassification", SMALL, ids()),
        A("BertConfig", "BertForQuestionAnswering", SMALL, ids()),
        A("RemBertConfig", "RemBertModel", SMALL | {"input_embedding_size": 16, "output_embedding_size": 16}, ids()),
        A("FNetConfig", "FNetModel", SMALL, tokens()),
        A("EsmConfig", "EsmModel", SMALL | {"mask_token_id": 5, "token_dropout": False}, ids()),
        A("ModernBertConfig", "ModernBertModel", SMALL | {"local_attention": 8, "attn_implementation": "sdpa"}, ids()),
        A("FunnelConfig", "FunnelBaseModel", {"vocab_size": 99, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48}, ids()),
        A("LongformerConfig", "LongformerModel", SMALL | {"attention_window": 4, "max_position_embeddings": 70}, ids(8)),
        A("BigBirdConfig", "BigBirdModel", SMALL | {"attention_type": "original_full"}, ids()),
        A("CanineConfig", "CanineModel", SMALL | {"num_hash_buckets": 64, "num_hash_functions": 2, "downsampling_rate": 4, "local_transformer_stride": 8}, ids(32)),
        A("XLNetConfig", "XLNetModel", {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}, ids(), {"use_mems": False}),
        A("GPT2Config", "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 2}, ids(), cached),
        A("GPTNeoConfig", "GPTNeoForCausalLM", {"hidden_size": 32, "num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 4,
                                                 "vocab_size": 99, "max_position_embeddings": 64, "window_size": 4}, ids(), cached),
        A("GPTJConfig", "GPTJForCausalLM", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "vocab_size": 99, "n_positions": 64}, ids(), cached),
        A("CodeGenConfig", "CodeGenForCausalLM", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "vocab_size": 99, "n_positions": 64}, ids(), cached),
        A("BloomConfig", "BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99}, ids(), cached),
        A("OPTConfig", "OPTForCausalLM", SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32}, ids(), cached),
        A("FalconConfig", "FalconForCausalLM", SMALL | {"alibi": False, "new_decoder_architecture": False}, ids(), cached),
        A("MptConfig", "MptForCausalLM", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 99}, ids(), cached),
        A("XGLMConfig", "XGLMForCausalLM", {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48, "vocab_size": 99, "max_position_embeddings": 64}, ids(), cached),
        A("MambaConfig", "MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 99, "state_size": 8, "time_step_rank": 4}, tokens(), cached),
        A("MixtralConfig", "MixtralForCausalLM", GROUPED | {"num_local_experts": 4}, ids(), cached),
    ]
    rows += [A(f"{p}Config", f"{p}ForCausalLM", GROUPED, ids(), cached) for p in (
        "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Phi", "Phi3", "GPTNeoX", "StableLm", "Starcoder2", "Olmo", "Olmo2", "Cohere", "Granite",
        "Glm", "Nemotron", "Persimmon", "SmolLM3", "Helium", "Exaone4")]
    rows += [A(f"{p}Config", f"{p}Model", SEQ2SEQ, pair(), cached) for p in ("Bart", "MBart", "Pegasus", "M2M100", "Blenderbot", "Marian", "PLBart", "LED")]
    rows += [A(f"{p}Config", f"{p}Model", {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 99,
                                            "decoder_start_token_id": 0}, pair(), cached) for p in ("T5", "MT5", "UMT5")]
    return rows + _vision() + _audio()


def _vision() -> list[Architecture]:
    A = Architecture
    stages = {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 32, "patch_size": 2}
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "layer_type": "basic"}
    detr_backbone = {"model_type": "resnet", "out_features": ["stage4"], **resnet}
    detr = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48, "num_queries": 5, "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
            "backbone_config": detr_backbone, "num_labels": 7}
    tower = VISION | {"projection_dim": 16}
    clip_text = SMALL | {"projection_dim": 16}
    rows = [A(f"{p}Config", f"{p}ForImageClassification", VISION | {"num_labels": 7}, image()) for p in ("ViT", "DeiT", "Beit", "Dinov2", "IJepa", "Dinov2WithRegisters")]
    return rows + [
        A("ViTMSNConfig", "ViTMSNModel", VISION, image()),
        A("YolosConfig", "YolosForObjectDetection", VISION | {"image_size": [32, 32], "num_detection_tokens": 5, "num_labels": 7}, image()),
        A("SwinConfig", "SwinForImageClassification", stages | {"num_labels": 7}, image()),
        A("Swinv2Config", "Swinv2ForImageClassification", stages | {"num_labels": 7}, image()),
        A("DonutSwinConfig", "DonutSwinModel", stages, image()),
        A("FocalNetConfig", "FocalNetForImageClassification", {"image_size": 32, "patch_size": 2, "embed_dim": 16, "hidden_sizes": [16, 32], "depths": [1, 1],
                                                                "focal_levels": [2, 2], "focal_windows": [3, 3], "num_labels": 7}, image()),
        A("ConvNextConfig", "ConvNextForImageClassification", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 7}, image()),
        A("ConvNextV2Config", "ConvNextV2ForImageClassification", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 7}, image()),
        A("ResNetConfig", "ResNetForImageClassification", resnet | {"num_labels": 7}, image(64)),
        A("RegNetConfig", "RegNetForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "groups_width": 8, "num_labels": 7}, image(64)),
        A("BitConfig", "BitForImageClassification", {"embedding_size": 8, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "num_groups": 4, "num_labels": 7}, image(64)),
        A("MobileNetV1Config", "MobileNetV1ForImageClassification", {"depth_multiplier": 0.25, "image_size": 64, "num_labels": 7}, image(64)),
        A("MobileNetV2Config", "MobileNetV2ForImageClassification", {"depth_multiplier": 0.25, "image_size": 64, "num_labels": 7}, image(64)),
        A("MobileNetV2Config", "MobileNetV2ForSemanticSegmentation", {"depth_multiplier": 0.25, "image_size": 64, "num_labels": 7}, image(64)),
        A("MobileViTConfig", "MobileViTForImageClassification", {"image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
                                                                  "num_attention_heads": 2, "num_labels": 7}, image(64)),
        A("MobileViTV2Config", "MobileViTV2ForImageClassification", {"image_size": 64, "width_multiplier": 0.25, "num_labels": 7}, image(64)),
        A("EfficientNetConfig", "EfficientNetForImageClassification", {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 32,
                                                                        "num_labels": 7}, image(64)),
        A("SegformerConfig", "SegformerForSemanticSegmentation", {"hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 2, 2, 4], "depths": [1, 1, 1, 1],
                                                                   "decoder_hidden_size": 16, "num_labels": 7}, image(64)),
        A("PoolFormerConfig", "PoolFormerForImageClassification", {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_labels": 7}, image(64)),
        A("LevitConfig", "LevitForImageClassification", {"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1],
                                                          "key_dim": [8, 8, 8], "num_labels": 7}, image(64)),
        A("CvtConfig", "CvtForImageClassification", {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 1, 2], "num_labels": 7}, image(64)),
        A("PvtConfig", "PvtForImageClassification", {"image_size": 64, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4], "num_labels": 7}, image(64)),
        A("PvtV2Config", "PvtV2ForImageClassification", {"image_size": 64, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4], "num_labels": 7}, image(64)),
        A("SwiftFormerConfig", "SwiftFormerForImageClassification", {"embed_dims": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_labels": 7}, image(64)),
        A("GLPNConfig", "GLPNForDepthEstimation", {"hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 2, 2, 4], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}, image(64)),
        A("DPTConfig", "DPTForDepthEstimation", VISION | {"image_size": 32, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16],
                                                           "fusion_hidden_size": 16, "is_hybrid": False}, image()),
        A("Swin2SRConfig", "Swin2SRForImageSuperResolution", {"image_size": 16, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "upscale": 2}, image(16)),
        A("DetrConfig", "DetrForObjectDetection", detr, image(64)),
        A("ConditionalDetrConfig", "ConditionalDetrForObjectDetection", detr, image(64)),
        A("DeformableDetrConfig", "DeformableDetrForObjectDetection", detr | {"num_feature_levels": 2, "backbone_config": detr_backbone | {"out_features": ["stage3", "stage4"]}}, image(64)),
        A("TableTransformerConfig", "TableTransformerForObjectDetection", detr, image(64)),
        A("CLIPVisionConfig", "CLIPVisionModelWithProjection", tower, image()),
        A("CLIPTextConfig", "CLIPTextModelWithProjection", clip_text, ids()),
        A("SiglipVisionConfig", "SiglipVisionModel", VISION, image()),
        A("SiglipTextConfig", "SiglipTextModel", SMALL | {"projection_size": 16}, ids()),
        A("BlipVisionConfig", "BlipVisionModel", VISION, image()),
        A("GroupViTVisionConfig", "GroupViTVisionModel", VISION | {"depths": [1, 1, 0], "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 0]}, image()),
        A("TimesformerConfig", "TimesformerModel", VISION | {"num_frames": 2}, features(1, 2, 3, 32, 32, name="pixel_values")),
        A("VideoMAEConfig", "VideoMAEModel", VISION | {"num_frames": 4, "tubelet_size": 2}, features(1, 4, 3, 32, 32, name="pixel_values")),
    ]


def _audio() -> list[Architecture]:
    A = Architecture
    rows = [A(f"{p}Config", f"{p}Model", SPEECH, audio()) for p in ("Wav2Vec2", "Hubert", "WavLM", "UniSpeech", "UniSpeechSat", "Data2VecAudio", "SEW")]
    return rows + [
        A("Wav2Vec2Config", "Wav2Vec2ForCTC", SPEECH, audio()),
        A("ASTConfig", "ASTForAudioClassification", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "patch_size": 8,
                                                      "max_length": 24, "num_mel_bins": 16, "frequency_stride": 8, "time_stride": 8, "num_labels": 7},
          features(2, 24, 16, name="input_values")),
        A("WhisperConfig", "WhisperModel", SEQ2SEQ | {"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 20},
          lambda g: {"input_features": torch.randn(2, 16, 40, generator=g), "decoder_input_ids": torch.randint(3, 99, (2, 6), generator=g)}, {"use_cache": False}),
        A("Speech2TextConfig", "Speech2TextModel", SEQ2SEQ | {"num_conv_layers": 2, "conv_kernel_sizes": (3, 3), "conv_channels": 16, "input_feat_per_channel": 8,
                                                               "input_channels": 1, "max_source_positions": 64, "max_target_positions": 64},
          lambda g: {"input_features": torch.randn(2, 32, 8, generator=g), "decoder_input_ids": torch.randint(3, 99, (2, 6), generator=g)}, {"use_cache": False}),
        A("SpeechT5HifiGanConfig", "SpeechT5HifiGan", {"model_in_dim": 8, "upsample_initial_channel": 16, "upsample_rates": [2, 2], "upsample_kernel_sizes": [4, 4],
                                                        "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]]}, features(2, 12, 8, name="spectrogram")),
        A("EncodecConfig", "EncodecModel", {"num_filters": 4, "hidden_size": 16, "codebook_size": 16, "upsampling_ratios": [4, 2]}, features(1, 1, 160, name="input_values")),
        A("ClapAudioConfig", "ClapAudioModel", {"spec_size": 32, "num_mel_bins": 8, "patch_size": 2, "patch_embeds_hidden_size": 16, "depths": [1, 1],
                                                 "num_attention_heads": [2, 2], "window_size": 4, "hidden_size": 32, "patch_stride": [2, 2], "enable_fusion": False},
          features(1, 1, 32, 8)),
    ]


ARCHITECTURES = _rows()


def build(a: Architecture, seed: int = 0) -> nn.Module:
    """The model with weights redrawn so that every layer matters: no zero biases, no unit scales, no identity statistics."""
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
