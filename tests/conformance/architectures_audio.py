"""Speech and sound."""

from __future__ import annotations

import torch

from tests.conformance.architecture import (
    SEQ2SEQ,
    SPEECH,
    Architecture,
    audio,
    features,
)

A = Architecture
rows = [
    A(f"{p}Config", f"{p}Model", SPEECH, audio())
    for p in ("Wav2Vec2", "Hubert", "WavLM", "UniSpeech", "UniSpeechSat", "Data2VecAudio", "SEW")
]
ROWS = [
    *rows,
    A("Wav2Vec2Config", "Wav2Vec2ForCTC", SPEECH, audio()),
    A(
        "ASTConfig",
        "ASTForAudioClassification",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "patch_size": 8,
            "max_length": 24,
            "num_mel_bins": 16,
            "frequency_stride": 8,
            "time_stride": 8,
            "num_labels": 7,
        },
        features(2, 24, 16, name="input_values"),
    ),
    A(
        "WhisperConfig",
        "WhisperModel",
        SEQ2SEQ | {"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 20},
        lambda g: {
            "input_features": torch.randn(2, 16, 40, generator=g),
            "decoder_input_ids": torch.randint(3, 99, (2, 6), generator=g),
        },
        {"use_cache": False},
    ),
    A(
        "Speech2TextConfig",
        "Speech2TextModel",
        SEQ2SEQ
        | {
            "num_conv_layers": 2,
            "conv_kernel_sizes": (3, 3),
            "conv_channels": 16,
            "input_feat_per_channel": 8,
            "input_channels": 1,
            "max_source_positions": 64,
            "max_target_positions": 64,
        },
        lambda g: {
            "input_features": torch.randn(2, 32, 8, generator=g),
            "decoder_input_ids": torch.randint(3, 99, (2, 6), generator=g),
        },
        {"use_cache": False},
    ),
    A(
        "SpeechT5HifiGanConfig",
        "SpeechT5HifiGan",
        {
            "model_in_dim": 8,
            "upsample_initial_channel": 16,
            "upsample_rates": [2, 2],
            "upsample_kernel_sizes": [4, 4],
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1, 3]],
        },
        features(2, 12, 8, name="spectrogram"),
    ),
    A(
        "EncodecConfig",
        "EncodecModel",
        {"num_filters": 4, "hidden_size": 16, "codebook_size": 16, "upsampling_ratios": [4, 2]},
        features(1, 1, 160, name="input_values"),
    ),
    A(
        "ClapAudioConfig",
        "ClapAudioModel",
        {
            "spec_size": 32,
            "num_mel_bins": 8,
            "patch_size": 2,
            "patch_embeds_hidden_size": 16,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "window_size": 4,
            "hidden_size": 32,
            "patch_stride": [2, 2],
            "enable_fusion": False,
        },
        features(1, 1, 32, 8),
    ),
]
