"""Encoders and decoders of text."""

from __future__ import annotations

from tests.conformance.architecture import (
    GROUPED,
    SEQ2SEQ,
    SMALL,
    Architecture,
    ids,
    pair,
    tokens,
)

A = Architecture
cached = {"use_cache": False}
rows = [
    A(f"{p}Config", f"{p}Model", SMALL, ids())
    for p in (
        "Bert",
        "Roberta",
        "XLMRoberta",
        "Camembert",
        "Electra",
        "MPNet",
        "Ernie",
        "LayoutLM",
        "Splinter",
        "RoCBert",
        "MegatronBert",
        "RoFormer",
        "Nystromformer",
        "ConvBert",
        "IBert",
        "Data2VecText",
        "MobileBert",
        "Tapas",
        "Deberta",
        "DebertaV2",
        "Mra",
        "Yoso",
    )
]
rows += [
    A(
        "DistilBertConfig",
        "DistilBertModel",
        {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 99},
        ids(),
    ),
    A("SqueezeBertConfig", "SqueezeBertModel", SMALL | {"embedding_size": 32}, ids()),
    A("AlbertConfig", "AlbertModel", SMALL | {"embedding_size": 16}, ids()),
    A("BertConfig", "BertForMaskedLM", SMALL, ids()),
    A("RobertaConfig", "RobertaForSequenceClassification", SMALL, ids()),
    A("BertConfig", "BertForQuestionAnswering", SMALL, ids()),
    A("RemBertConfig", "RemBertModel", SMALL | {"input_embedding_size": 16, "output_embedding_size": 16}, ids()),
    A("FNetConfig", "FNetModel", SMALL, tokens()),
    A("EsmConfig", "EsmModel", SMALL | {"mask_token_id": 5, "token_dropout": False}, ids()),
    A("ModernBertConfig", "ModernBertModel", SMALL | {"local_attention": 8, "attn_implementation": "sdpa"}, ids()),
    A(
        "FunnelConfig",
        "FunnelBaseModel",
        {
            "vocab_size": 99,
            "block_sizes": [1, 1],
            "num_decoder_layers": 1,
            "d_model": 32,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 48,
        },
        ids(),
    ),
    A(
        "LongformerConfig",
        "LongformerModel",
        SMALL | {"attention_window": 4, "max_position_embeddings": 70},
        ids(8),
    ),
    A("BigBirdConfig", "BigBirdModel", SMALL | {"attention_type": "original_full"}, ids()),
    A(
        "CanineConfig",
        "CanineModel",
        SMALL
        | {"num_hash_buckets": 64, "num_hash_functions": 2, "downsampling_rate": 4, "local_transformer_stride": 8},
        ids(32),
    ),
    A(
        "XLNetConfig",
        "XLNetModel",
        {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
        ids(),
        {"use_mems": False},
    ),
    A(
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "vocab_size": 99,
            "n_positions": 64,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        ids(),
        cached,
    ),
    A(
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "attention_types": [[["global", "local"], 1]],
            "num_heads": 4,
            "vocab_size": 99,
            "max_position_embeddings": 64,
            "window_size": 4,
        },
        ids(),
        cached,
    ),
    A(
        "GPTJConfig",
        "GPTJForCausalLM",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "vocab_size": 99, "n_positions": 64},
        ids(),
        cached,
    ),
    A(
        "CodeGenConfig",
        "CodeGenForCausalLM",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "vocab_size": 99, "n_positions": 64},
        ids(),
        cached,
    ),
    A(
        "BloomConfig",
        "BloomForCausalLM",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99},
        ids(),
        cached,
    ),
    A("OPTConfig", "OPTForCausalLM", SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32}, ids(), cached),
    A(
        "FalconConfig",
        "FalconForCausalLM",
        SMALL | {"alibi": False, "new_decoder_architecture": False},
        ids(),
        cached,
    ),
    A(
        "MptConfig",
        "MptForCausalLM",
        {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 99},
        ids(),
        cached,
    ),
    A(
        "XGLMConfig",
        "XGLMForCausalLM",
        {
            "d_model": 32,
            "num_layers": 2,
            "attention_heads": 4,
            "ffn_dim": 48,
            "vocab_size": 99,
            "max_position_embeddings": 64,
        },
        ids(),
        cached,
    ),
    A(
        "MambaConfig",
        "MambaForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 99, "state_size": 8, "time_step_rank": 4},
        tokens(),
        cached,
    ),
    A("MixtralConfig", "MixtralForCausalLM", GROUPED | {"num_local_experts": 4}, ids(), cached),
]
rows += [
    A(f"{p}Config", f"{p}ForCausalLM", GROUPED, ids(), cached)
    for p in (
        "Llama",
        "Mistral",
        "Qwen2",
        "Qwen3",
        "Gemma",
        "Gemma2",
        "Phi",
        "Phi3",
        "GPTNeoX",
        "StableLm",
        "Starcoder2",
        "Olmo",
        "Olmo2",
        "Cohere",
        "Granite",
        "Glm",
        "Nemotron",
        "Persimmon",
        "SmolLM3",
        "Helium",
        "Exaone4",
    )
]
rows += [
    A(f"{p}Config", f"{p}Model", SEQ2SEQ, pair(), cached)
    for p in ("Bart", "MBart", "Pegasus", "M2M100", "Blenderbot", "Marian", "PLBart", "LED")
]
rows += [
    A(
        f"{p}Config",
        f"{p}Model",
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 99,
            "decoder_start_token_id": 0,
        },
        pair(),
        cached,
    )
    for p in ("T5", "MT5", "UMT5")
]
ROWS = rows
