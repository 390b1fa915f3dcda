"""Vision, detection, and the towers of vision-language models."""

from __future__ import annotations

from tests.conformance.architecture import (
    SMALL,
    VISION,
    Architecture,
    features,
    ids,
    image,
)

A = Architecture
stages = {
    "embed_dim": 16,
    "depths": [1, 2],
    "num_heads": [2, 4],
    "window_size": 4,
    "image_size": 32,
    "patch_size": 2,
}
resnet = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "layer_type": "basic"}
detr_backbone = {"model_type": "resnet", "out_features": ["stage4"], **resnet}
detr = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_queries": 5,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": detr_backbone,
    "num_labels": 7,
}
tower = VISION | {"projection_dim": 16}
clip_text = SMALL | {"projection_dim": 16}
rows = [
    A(f"{p}Config", f"{p}ForImageClassification", VISION | {"num_labels": 7}, image())
    for p in ("ViT", "DeiT", "Beit", "Dinov2", "IJepa", "Dinov2WithRegisters")
]
ROWS = [
    *rows,
    A("ViTMSNConfig", "ViTMSNModel", VISION, image()),
    A(
        "YolosConfig",
        "YolosForObjectDetection",
        VISION | {"image_size": [32, 32], "num_detection_tokens": 5, "num_labels": 7},
        image(),
    ),
    A("SwinConfig", "SwinForImageClassification", stages | {"num_labels": 7}, image()),
    A("Swinv2Config", "Swinv2ForImageClassification", stages | {"num_labels": 7}, image()),
    A("DonutSwinConfig", "DonutSwinModel", stages, image()),
    A(
        "FocalNetConfig",
        "FocalNetForImageClassification",
        {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 16,
            "hidden_sizes": [16, 32],
            "depths": [1, 1],
            "focal_levels": [2, 2],
            "focal_windows": [3, 3],
            "num_labels": 7,
        },
        image(),
    ),
    A(
        "ConvNextConfig",
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 7},
        image(),
    ),
    A(
        "ConvNextV2Config",
        "ConvNextV2ForImageClassification",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 7},
        image(),
    ),
    A("ResNetConfig", "ResNetForImageClassification", resnet | {"num_labels": 7}, image(64)),
    A(
        "RegNetConfig",
        "RegNetForImageClassification",
        {
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 2, 1],
            "groups_width": 8,
            "num_labels": 7,
        },
        image(64),
    ),
    A(
        "BitConfig",
        "BitForImageClassification",
        {
            "embedding_size": 8,
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 1, 1],
            "num_groups": 4,
            "num_labels": 7,
        },
        image(64),
    ),
    A(
        "MobileNetV1Config",
        "MobileNetV1ForImageClassification",
        {"depth_multiplier": 0.25, "image_size": 64, "num_labels": 7},
        image(64),
    ),
    A(
        "MobileNetV2Config",
        "MobileNetV2ForImageClassification",
        {"depth_multiplier": 0.25, "image_size": 64, "num_labels": 7},
        image(64),
    ),
    A(
        "MobileNetV2Config",
        "MobileNetV2ForSemanticSegmentation",
        {"depth_multiplier": 0.25, "image_size": 64, "num_labels": 7},
        image(64),
    ),
    A(
        "MobileViTConfig",
        "MobileViTForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
            "num_attention_heads": 2,
            "num_labels": 7,
        },
        image(64),
    ),
    A(
        "MobileViTV2Config",
        "MobileViTV2ForImageClassification",
        {"image_size": 64, "width_multiplier": 0.25, "num_labels": 7},
        image(64),
    ),
    A(
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320, "num_labels": 7},
        image(64),
    ),
    A(
        "SegformerConfig",
        "SegformerForSemanticSegmentation",
        {
            "hidden_sizes": [8, 16, 16, 32],
            "num_attention_heads": [1, 2, 2, 4],
            "depths": [1, 1, 1, 1],
            "decoder_hidden_size": 16,
            "num_labels": 7,
        },
        image(64),
    ),
    A(
        "PoolFormerConfig",
        "PoolFormerForImageClassification",
        {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_labels": 7},
        image(64),
    ),
    A(
        "LevitConfig",
        "LevitForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "num_labels": 7,
        },
        image(64),
    ),
    A(
        "PvtConfig",
        "PvtForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 16, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
            "num_labels": 7,
        },
        image(64),
    ),
    A(
        "PvtV2Config",
        "PvtV2ForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 16, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
            "num_labels": 7,
        },
        image(64),
    ),
    A(
        "SwiftFormerConfig",
        "SwiftFormerForImageClassification",
        {"embed_dims": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "num_labels": 7},
        image(64),
    ),
    A(
        "GLPNConfig",
        "GLPNForDepthEstimation",
        {
            "hidden_sizes": [8, 16, 16, 32],
            "num_attention_heads": [1, 2, 2, 4],
            "depths": [1, 1, 1, 1],
            "decoder_hidden_size": 16,
        },
        image(64),
    ),
    A(
        "DPTConfig",
        "DPTForDepthEstimation",
        VISION
        | {
            "image_size": 32,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 8, 16, 16],
            "fusion_hidden_size": 16,
            "is_hybrid": False,
        },
        image(),
    ),
    A(
        "Swin2SRConfig",
        "Swin2SRForImageSuperResolution",
        {"image_size": 16, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "upscale": 2},
        image(16),
    ),
    A("DetrConfig", "DetrForObjectDetection", detr, image(64)),
    A("ConditionalDetrConfig", "ConditionalDetrForObjectDetection", detr, image(64)),
    A(
        "DeformableDetrConfig",
        "DeformableDetrForObjectDetection",
        detr | {"num_feature_levels": 2, "backbone_config": detr_backbone | {"out_features": ["stage3", "stage4"]}},
        image(64),
    ),
    A("TableTransformerConfig", "TableTransformerForObjectDetection", detr, image(64)),
    A("CLIPVisionConfig", "CLIPVisionModelWithProjection", tower, image()),
    A("CLIPTextConfig", "CLIPTextModelWithProjection", clip_text, ids()),
    A("SiglipVisionConfig", "SiglipVisionModel", VISION, image()),
    A("SiglipTextConfig", "SiglipTextModel", SMALL | {"projection_size": 16}, ids()),
    A("BlipVisionConfig", "BlipVisionModel", VISION, image()),
    A(
        "GroupViTVisionConfig",
        "GroupViTVisionModel",
        VISION | {"depths": [1, 1, 0], "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 0]},
        image(),
    ),
    A(
        "TimesformerConfig",
        "TimesformerModel",
        VISION | {"num_frames": 2},
        features(1, 2, 3, 32, 32, name="pixel_values"),
    ),
    A(
        "VideoMAEConfig",
        "VideoMAEModel",
        VISION | {"num_frames": 4, "tubelet_size": 2},
        features(1, 4, 3, 32, 32, name="pixel_values"),
    ),
]
