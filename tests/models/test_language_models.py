"""Decode loops of tiny Hugging Face models with random weights: prefill and steps give the tokens of `generate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import neve
from neve.errors import CaptureError

transformers = pytest.importorskip("transformers")
executorch = pytest.importorskip("transformers.integrations.executorch")

PROMPT = torch.tensor([[5, 9, 12, 33, 7]])
NEW, ROOM = 64, 96
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": ROOM,
} | SPECIAL
GPT2 = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": ROOM} | SPECIAL
T5 = {"vocab_size": 64, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 4} | SPECIAL
WHISPER = {
    "vocab_size": 64,
    "num_mel_bins": 8,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_source_positions": 9,
    "max_target_positions": ROOM,
    "decoder_start_token_id": 3,
} | SPECIAL
DECODERS = {
    "Llama": ("LlamaForCausalLM", LLAMA),
    "Qwen2": ("Qwen2ForCausalLM", LLAMA),
    "GPT2": ("GPT2LMHeadModel", GPT2),
}
SEQ2SEQ = {"T5": ("T5ForConditionalGeneration", T5), "Whisper": ("WhisperForConditionalGeneration", WHISPER)}


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    architecture, sizes = (DECODERS | SEQ2SEQ)[name]
    cls = getattr(transformers, architecture)
    return cls(cls.config_class(**sizes)).eval()


def generated(model: Any) -> list[int]:
    mask = torch.ones_like(PROMPT)
    with torch.no_grad():
        out = model.generate(
            PROMPT, attention_mask=mask, max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    tokens: list[int] = out[0].tolist()
    return tokens


def decoded(prefill: Callable[..., Tensor], step: Callable[..., Tensor]) -> list[int]:
    """The prompt and NEW tokens by calls with (tokens, their positions)."""
    tokens = PROMPT[0].tolist()
    logits = prefill(input_ids=PROMPT, cache_position=torch.arange(len(tokens)))
    for at in range(len(tokens), len(tokens) + NEW):
        tokens.append(int(logits[0, -1].argmax()))
        if at < len(tokens) + NEW - 1:
            logits = step(input_ids=torch.tensor([tokens[-1:]]), cache_position=torch.tensor([at]))
    return tokens


def static(model: Any) -> Any:
    model.generation_config.cache_implementation = "static"
    return executorch.TorchExportableModuleWithStaticCache(model, batch_size=1, max_cache_len=ROOM)


def call(count: int) -> dict[str, Tensor]:
    return {"input_ids": PROMPT[:, :count], "cache_position": torch.arange(count)}


def test_prefill_and_step_as_methods() -> None:
    n = Dim("n", min=1, max=ROOM)
    sizes = {"input_ids": {1: n}, "cache_position": {0: n}}
    spec = {"kwargs": call(5), "dynamic_shapes": sizes, "method": "forward"}
    methods = {"prefill": spec, "step": {"kwargs": call(1), "method": "forward"}}
    compiled = neve.compile(static(model_of("Llama")), methods=methods)
    for _ in range(2):  # a second text begins at position 0 again
        assert decoded(compiled.prefill, compiled.step) == generated(model_of("Llama"))


@pytest.mark.parametrize("name", ["Qwen2", "GPT2"])
def test_prefill_and_step_by_a_dynamic_length(name: str) -> None:
    n = Dim("n", min=1, max=ROOM)
    sizes = {"input_ids": {1: n}, "cache_position": {0: n}}
    compiled = neve.compile(static(model_of(name)), kwargs=call(5), dynamic_shapes=sizes, verify=False)
    assert decoded(compiled, compiled) == generated(model_of(name))


class Growing(nn.Module):
    """A DynamicCache as lists of key and value states, in and out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, keys: list[Tensor], values: list[Tensor]) -> Any:
        cache = transformers.DynamicCache(list(zip(keys, values, strict=True)))
        out = self.model(input_ids=ids, cache=cache, use_cache=True)
        return out.logits, [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]


def test_a_cache_that_grows_from_nothing() -> None:
    past = [torch.randn(1, 2, 3, 4)]
    n, p = Dim("n", min=1, max=ROOM), Dim("p", min=0, max=ROOM)
    args = (PROMPT, past, [t.clone() for t in past])
    sizes = ({1: n}, [{2: p}], [{2: p}])
    compiled = neve.compile(Growing(model_of("Llama")), args, dynamic_shapes=sizes, verify=False)
    state: list[Any] = [[torch.zeros(1, 2, 0, 4)]] * 2

    def step(input_ids: Tensor, cache_position: Tensor) -> Tensor:
        logits, *state[:] = compiled(input_ids, *state)
        return logits  # type: ignore[no-any-return]

    assert decoded(step, step) == generated(model_of("Llama"))


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_the_model_as_it_is_with_the_cache_that_it_is_passed(name: str) -> None:
    model = model_of(name)
    with torch.no_grad():
        past = model(input_ids=PROMPT, use_cache=True).cache
    n, p = Dim("n", min=1, max=ROOM), Dim("p", min=0, max=ROOM)
    sizes = {"input_ids": {1: n}, "cache": {"layers": [{"keys": {2: p}, "values": {2: p}} for _ in past.layers]}}
    example = {"input_ids": PROMPT, "cache": past}
    compiled = neve.compile(model, kwargs=example, dynamic_shapes=sizes, verify=False)
    for layer in past.layers:
        layer.keys, layer.values = layer.keys[:, :, :0], layer.values[:, :, :0]

    def step(input_ids: Tensor, cache_position: Tensor) -> Tensor:
        logits: Tensor = compiled(input_ids=input_ids, cache=past).logits
        return logits

    assert decoded(step, step) == generated(model)
    assert past.get_seq_length() == PROMPT.shape[1] + NEW


class CrossEachCall(executorch.Seq2SeqLMDecoderExportableModuleWithStaticCache):  # type: ignore[misc, name-defined]
    """With the cache of what the encoder gave made in each call: it would be state whose form changes."""

    def forward(self, ids: Tensor, encoded: Tensor, cache_position: Tensor) -> Tensor:
        crossed = transformers.DynamicCache(config=self.config)
        self.cache = transformers.EncoderDecoderCache(self.static_cache, crossed)
        logits: Tensor = super().forward(ids, encoded, cache_position)
        self.cache = None
        return logits


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_decoders_beside_an_encoder(name: str) -> None:
    model = model_of(name)
    model.lm_head = getattr(model, "lm_head", None) or model.proj_out
    args = torch.tensor([[3]]), torch.randn(1, 9, 16), torch.tensor([0])
    whole = executorch.Seq2SeqLMDecoderExportableModuleWithStaticCache(model, ROOM, 1).eval()
    with pytest.raises(CaptureError, match="make it in the call"):
        neve.compile(whole, args)
    fixed = CrossEachCall(model, ROOM, 1).eval()
    fixed.cache = None
    compiled = neve.compile(fixed, args, verify=False)
    for encoded in (args[1], torch.randn(1, 9, 16)):
        cache, tokens = None, [3]
        for at in range(NEW):
            with torch.no_grad():
                ids = torch.tensor([tokens[-1:]])
                out = model.get_decoder()(input_ids=ids, encoder_hidden_states=encoded, cache=cache, use_cache=True)
                want = model.lm_head(out[0])
            got = compiled(ids, encoded, torch.tensor([at]))
            torch.testing.assert_close(got, want)
            cache = out.cache if hasattr(out, "cache") else out.past_key_values
            tokens.append(int(want[0, -1].argmax()))
