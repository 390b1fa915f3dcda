"""Attention, encoder layers and encoders against eager without gradients: every path that torch takes, every mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.capture.export import capture
from neve.errors import CaptureError, ModelError
from tests.interpreted import Interpreted

B, T, D, H = 3, 5, 8, 2
INF = float("-inf")


class Called(nn.Module):
    """A module given x, a padding mask and (T, T) or (B·H, T, T) scores' mask, each where its form has it."""

    def __init__(self, inner: nn.Module, **fixed: Any) -> None:
        super().__init__()
        self.inner, self.fixed = inner, fixed

    def forward(self, x: torch.Tensor, padding: torch.Tensor | None, scores: torch.Tensor | None) -> Any:
        if isinstance(self.inner, nn.MultiheadAttention):
            return self.inner(x, x, x, key_padding_mask=padding, attn_mask=scores, **self.fixed)
        named = "mask" if isinstance(self.inner, nn.TransformerEncoder) else "src_mask"
        return self.inner(x, src_key_padding_mask=padding, **{named: scores}, **self.fixed)


def attention(**options: Any) -> nn.Module:
    return nn.MultiheadAttention(D, **{"num_heads": H, "batch_first": True, **options})


def layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(D, dim_feedforward=12, **{"nhead": H, "batch_first": True, **options})


def encoder(norm: nn.Module | None = None, nested: bool = True, check: bool = True, **options: Any) -> nn.Module:
    return nn.TransformerEncoder(layer(**options), 2, norm, nested, check)


def reactivated() -> nn.Module:
    made = layer()
    made.activation = nn.Tanh()  # what the fast path does not see
    return made


def unequal() -> nn.Module:
    made = layer()
    made.norm1.eps = 1e-3
    return made


MODULES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "attention": (attention, {"need_weights": False}),
    "attention, weights": (attention, {}),
    "attention, weights of heads": (attention, {"average_attn_weights": False}),
    "attention, no bias": (lambda: attention(bias=False), {"need_weights": False}),
    "attention, one head": (lambda: attention(num_heads=1), {"need_weights": False}),
    "attention, zeros": (lambda: attention(add_zero_attn=True), {"need_weights": False}),
    "layer": (layer, {}),
    "layer, norm first": (lambda: layer(norm_first=True), {}),
    "layer, gelu": (lambda: layer(activation="gelu"), {}),
    "layer, tanh gelu": (lambda: layer(activation=nn.GELU("tanh")), {}),
    "layer, silu": (lambda: layer(activation=nn.functional.silu), {}),
    "layer, other activation": (reactivated, {}),
    "layer, other eps": (unequal, {}),
    "layer, no bias": (lambda: layer(bias=False), {}),
    "layer, one head": (lambda: layer(nhead=1), {}),
    "encoder": (encoder, {}),
    "encoder, norm": (lambda: encoder(nn.LayerNorm(D)), {}),
    "encoder, gelu": (lambda: encoder(activation="gelu"), {}),
    "encoder, no bias": (lambda: encoder(bias=False), {}),
    "encoder, norm first": (lambda: encoder(nn.LayerNorm(D), norm_first=True), {}),
    "encoder, not nested": (lambda: encoder(nested=False), {}),
    "encoder, no check": (lambda: encoder(check=False), {}),
}


def paddings() -> Iterator[torch.Tensor]:
    """Whether rows are padded: none, left aligned ones, some entry padded whole, not left aligned, all."""
    for lengths in ((T, T, T), (3, T, 1), (2, 0, 1), (0, 0, 0)):
        yield torch.arange(T)[None] >= torch.tensor(lengths)[:, None]
    yield torch.tensor([[0, 1, 0, 0, 1], [0] * T, [1, 1, 1, 0, 0]]).bool()
    yield torch.tensor([[1, 1, 1, 1, 0], [1] * T, [0, 1, 0, 1, 0]]).bool()


def as_numbers(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape).masked_fill(mask, INF)


def scores_masks(heads: int = H) -> Iterator[torch.Tensor]:
    """(T, T): causal, some row with no key; (B·H, T, T)."""
    yield torch.ones(T, T).triu(1).bool()
    yield torch.eye(T).roll(1, 0).bool() | (torch.arange(T) == 2)[:, None]
    yield torch.rand(B * heads, T, T) > 0.4


def calls(form: str, heads: int = H) -> list[tuple[Any, ...]]:
    torch.manual_seed(3)
    x = torch.randn(B, T, D)
    if form == "padding":
        return [(x.masked_fill(p[..., None], v), p, None) for p in paddings() for v in (0.5, float("nan"))]
    if form == "padding, numbers":
        numbers = [torch.tensor([[0.0, 0, -1, 2, INF], [0, 0, 0, 0, -3], [0, 1, 1, 1, 1]]), torch.randn(B, T)]
        return [(x, p, None) for p in (*map(as_numbers, paddings()), *numbers)]
    if form == "scores":
        return [(x, None, s) for s in list(scores_masks())[:2]]
    if form == "scores of heads":
        return [(x, None, s) for s in list(scores_masks(heads))[2:]]
    if form == "scores, numbers":
        return [(x, None, s) for s in (*map(as_numbers, list(scores_masks())[:2]), torch.randn(T, T))]
    if form == "both":
        return [(x, p, s) for p in paddings() for s in list(scores_masks())[:2]]
    assert form == "both, numbers"
    both = torch.tensor([[0.0, 1, 0, 0, 0]] * B), torch.tensor([[0.0, -1, 0, 0, 0]] * T)  # their sum hides nothing
    return [both_as_numbers(x, p, s) for p in paddings() for s in list(scores_masks())[:2]] + [(x, *both)]


def both_as_numbers(x: torch.Tensor, padding: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return x, as_numbers(padding), as_numbers(scores)


FORMS = ("padding", "padding, numbers", "scores", "scores of heads", "scores, numbers", "both", "both, numbers")

WHOLE = ("attention", "layer", "encoder, norm")
"""Modules for which all forms are tried."""


def eager(model: nn.Module, args: Any) -> Any:
    try:
        with torch.no_grad():
            return model(*args)
    except RuntimeError:
        return RuntimeError


def same(run: Callable[..., Any], model: nn.Module, args: tuple[Any, ...]) -> None:
    want = eager(model, args)
    if want is RuntimeError:
        with pytest.raises(ModelError):
            run(*args)
        return
    torch.testing.assert_close(run(*args), want, equal_nan=True, rtol=2e-5, atol=2e-5)


def made(name: str) -> nn.Module:
    torch.manual_seed(1)
    build, fixed = MODULES[name]
    model = Called(build(), **fixed).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.4)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "form"), [(n, f) for n in MODULES for f in (FORMS if n in WHOLE else FORMS[::6])])
def test_every_mask(name: str, form: str) -> None:
    model, given = made(name), calls(form, 1 if name.endswith("one head") else H)
    if "weights" in name:  # which of a query that is NaN are not promised
        given = [args for args in given if not args[0].isnan().any()]
    run = Interpreted(capture(model, given[0]))
    for args in given:
        same(run, model, args)


@pytest.mark.filterwarnings("ignore")
def test_dynamic_sizes_in_c() -> None:
    model = made("encoder, norm")
    batch, time = Dim("batch", max=8), Dim("time", max=16)
    shapes = ({0: batch, 1: time}, {0: batch, 1: time}, None)
    run = neve.compile(model, (torch.randn(2, 4, D), torch.zeros(2, 4).bool(), None), dynamic_shapes=shapes, threads=1)
    for args in calls("padding"):
        same(run, model, args)
    for n, t in ((1, 1), (2, 16), (8, 7)):
        same(run, model, (torch.randn(n, t, D), torch.rand(n, t) > 0.5, None))
        same(run, model, (torch.randn(n, t, D), torch.arange(t)[None] > torch.randint(t, (n, 1)), None))


@pytest.mark.filterwarnings("ignore")
def test_is_causal_is_what_eager_makes_of_it() -> None:
    x, mask = torch.randn(B, T, D), nn.Transformer.generate_square_subsequent_mask(T)
    for build in (layer, encoder, lambda: layer(nhead=1), lambda: encoder(nhead=1)):
        for other in (mask, torch.zeros(T, T)):
            model = Called(build(), is_causal=True).eval()
            same(Interpreted(capture(model, (x, None, other))), model, (x, None, other))
    model = Called(encoder(nhead=1)).eval()  # eager looks whether the mask is causal
    same(Interpreted(capture(model, (x, None, mask))), model, (x, None, mask))


@pytest.mark.filterwarnings("ignore")
def test_what_a_nested_tensor_would_reach_is_refused() -> None:
    class Own(nn.TransformerEncoderLayer):
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return 2 * super().forward(*args, **kwargs)

    def hooked() -> nn.Module:
        made = encoder()
        made.get_submodule("layers.1.linear1").register_forward_hook(lambda *_: None)
        return made

    own = nn.TransformerEncoder(Own(D, H, 12, batch_first=True), 1)
    for inner, what in ((own, "is a Own with a forward of its own"), (hooked(), "layers.1 has hooks")):
        model = Called(inner).eval()
        with pytest.raises(CaptureError, match=f"{what}.*enable_nested_tensor=False"):
            capture(model, calls("padding")[0])
    plain = nn.TransformerEncoder(Own(D, H, 12, batch_first=True), 1, enable_nested_tensor=False)
    model = Called(plain).eval()
    for args in calls("padding")[::2]:
        same(Interpreted(capture(model, args)), model, args)
