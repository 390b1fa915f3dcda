"""nn.MultiheadAttention and nn.TransformerEncoderLayer, scripted and traced: torch's fast path and its slow one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import neve
from neve.capture.export import capture
from neve.ir.graph import Method
from neve.ir.interpret import interpret
from tests.capture.torchscript.compared import as_torch_jit, compiled_as_torch_jit

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning"
)
BATCH, LENGTH, SIZE, HEADS = 3, 5, 8, 2
PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] + [True] * 4])
CAUSAL = torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1)
EACH_HEAD = (torch.rand(BATCH * HEADS, LENGTH, LENGTH, generator=torch.manual_seed(1)) < 0.3) & ~torch.eye(5).bool()
MASKS: dict[str, tuple[Tensor | None, Tensor | None]] = {
    "no mask": (None, None),
    "padding": (PADDING, None),
    "causal": (None, CAUSAL),
    "each head": (None, EACH_HEAD),
    "padding and causal": (PADDING, CAUSAL),
    "floats": (None, torch.zeros(LENGTH, LENGTH).masked_fill_(CAUSAL, float("-inf"))),
}
masks = pytest.mark.parametrize("mask", MASKS.values(), ids=list(MASKS))


class Attends(nn.Module):
    """Self-attention with masks that are constants."""

    def __init__(self, mask: tuple[Tensor | None, Tensor | None], weights: bool, average: bool, batch_first: bool):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(SIZE, HEADS, batch_first=batch_first)
        nn.init.normal_(self.attention.in_proj_bias)
        nn.init.normal_(self.attention.out_proj.bias)
        self.padding, self.mask = mask
        self.weights, self.average = weights, average

    def forward(self, x):
        y, weights = self.attention(x, x, x, self.padding, self.weights, self.mask, self.average)
        return (y, y) if weights is None else (y, weights)


class Encodes(nn.Module):
    def __init__(self, mask: tuple[Tensor | None, Tensor | None], **kwargs: Any):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, **kwargs)
        for p in self.layer.parameters():
            nn.init.normal_(p, std=0.5)
        self.padding, self.mask = mask

    def forward(self, x):
        return self.layer(x, self.mask, self.padding)


def inputs(batch_first: bool, *, seed: int = 0) -> Tensor:
    x = torch.randn(BATCH, LENGTH, SIZE, generator=torch.manual_seed(seed))
    return x if batch_first else x.transpose(0, 1).contiguous()


def as_both(model: nn.Module, batch_first: bool) -> None:
    """As torch.jit on its fast path, and as eager on the slow path that gradients make it take."""
    x, other = inputs(batch_first), inputs(batch_first, seed=1)
    with torch.no_grad():
        program = as_torch_jit(model, (x,), [(other,)])
    slow = [y.detach().numpy() for y in pytree.tree_leaves(model(other))]
    for got, want in zip(interpret(program.methods["forward"].graph, [other.numpy()]), slow, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@masks
def test_attention(mask: Any) -> None:
    as_both(Attends(mask, True, True, True), True)


@pytest.mark.parametrize(("weights", "average"), [(True, False), (False, True)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_weights(weights: bool, average: bool, batch_first: bool) -> None:
    as_both(Attends(MASKS["padding"], weights, average, batch_first), batch_first)


def test_traced() -> None:
    x, other = inputs(True), inputs(True, seed=1)
    for model in (
        Attends(MASKS["each head"], True, True, True),
        Encodes(MASKS["padding and causal"], batch_first=True),
    ):
        with torch.no_grad():
            as_torch_jit(torch.jit.trace(model.eval(), (x,)), (x,), [(other,)])


@masks
def test_encoder_layer(mask: Any) -> None:
    as_both(Encodes(mask, batch_first=True, norm_first=mask[0] is None), True)


@pytest.mark.parametrize("batch_first", [False, True])
def test_encoder_layer_with_gelu(batch_first: bool) -> None:
    as_both(Encodes((PADDING, None), batch_first=batch_first, activation="gelu", layer_norm_eps=0.1), batch_first)


class Given(nn.Module):
    """Masks that the call brings, sizes that vary."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, batch_first=True)
        self.attention = nn.MultiheadAttention(SIZE, HEADS, batch_first=True)

    def forward(self, x, mask, padding):
        y = self.layer(x, mask, padding)
        z, w = self.attention(y, y, y, padding, True, mask)
        return z, w


def test_compiled_with_sizes_that_vary(tmp_path: Path) -> None:
    batch, length = torch.export.Dim("batch", min=2, max=8), torch.export.Dim("length", min=2, max=8)
    shapes = ({0: batch, 1: length}, {0: length, 1: length}, {0: batch, 1: length})
    example = (inputs(True), CAUSAL, PADDING)
    small = (torch.randn(2, 3, SIZE), CAUSAL[:3, :3], torch.tensor([[False, False, True], [False, True, True]]))
    with torch.no_grad():
        compiled_as_torch_jit(Given(), example, [example, small], tmp_path, dynamic_shapes=shapes)


def test_a_row_without_keys_is_not_a_number() -> None:
    example = (inputs(True), CAUSAL, torch.ones(BATCH, LENGTH, dtype=torch.bool))
    with torch.no_grad():
        as_torch_jit(Given(), example, [example])


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, batch_first=True)

    def forward(self, x, mask):
        return self.layer(x, mask)


def test_a_mask_that_torch_takes_in_two_ways() -> None:
    """Fast, every number but 0 masks; slow, numbers are added."""
    model, x = Layer().eval(), inputs(True)
    good = torch.zeros(LENGTH, LENGTH).masked_fill_(CAUSAL, float("-inf"))
    method: Method = capture(torch.jit.script(model), (x, good)).methods["forward"]
    (got,) = interpret(method.graph, [x.numpy(), good.numpy()])
    np.testing.assert_allclose(got, model(x, good).detach().numpy(), rtol=1e-5, atol=1e-5)
    for wrong in (0.5, float("nan"), float("inf")):
        with pytest.raises(neve.NeveError, match="other than 0 and -inf"):
            interpret(method.graph, [x.numpy(), torch.where(CAUSAL, wrong, good).numpy()])
    module = neve.compile(model, (x, good), threads=1)
    added = torch.randn(LENGTH, LENGTH)
    with torch.no_grad():
        np.testing.assert_allclose(module(x, added).numpy(), model(x, added).numpy(), rtol=1e-5, atol=1e-5)


class Padded(nn.Module):
    def __init__(self, enable_nested_tensor: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(SIZE, HEADS, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=enable_nested_tensor)

    def forward(self, x, padding):
        return self.encoder(x, None, padding)


def test_encoder() -> None:
    example = (inputs(True), PADDING)
    with torch.no_grad():
        as_torch_jit(Padded(False), example, [example])
    with pytest.raises(neve.CaptureError, match="enable_nested_tensor=False"):
        capture(torch.jit.script(Padded(True).eval()), example)
