"""Whole models at the edges: what is refused and how, any strides, no rows at all, NaN and infinity."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.check.verify import relative_error
from neve.runtime.loader import Module

LIMIT = 1e-5


class Layer(nn.Module):
    """Attention and two linear layers, each after a norm and beside a residual (nn.TransformerEncoderLayer cannot take
    a batch of 0 with a mask).
    """

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(24), nn.LayerNorm(24)])
        self.project, self.gather = nn.Linear(24, 72), nn.Linear(24, 24)
        self.wide = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24))

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(self.norms[0](x)).unflatten(2, (3, 3, 8)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None])
        x = x + self.gather(y.transpose(1, 2).flatten(2))
        out: torch.Tensor = x + self.wide(self.norms[1](x))
        return out


class Encoder(nn.Module):
    """Two transformer layers; mask is 0 where a token is to be ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x, mask != 0)
        return x


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 16, bidirectional=True, batch_first=True)
        self.lstm = nn.LSTM(32, 7, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.lstm(self.gru(x)[0])[0]
        return out


def direct() -> nn.Module:
    """Every kind of convolution but Winograd's; the places of values survive to the end."""
    return nn.Sequential(
        nn.Conv2d(3, 13, 3, 2, 1), nn.BatchNorm2d(13), nn.ReLU6(),
        nn.Conv2d(13, 13, 3, 1, 1, groups=13), nn.Hardswish(),
        nn.Conv2d(13, 16, 1), nn.SiLU(), nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(16, 6, 5, 1, 2, groups=2), nn.ReLU(), nn.AvgPool2d(2),
    )  # fmt: skip


def winograd() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 40, 3, padding=1), nn.ReLU(), nn.Conv2d(40, 8, 1))


@dataclass(frozen=True)
class Net:
    make: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[torch.Tensor, ...]]  # of so many rows


def masked(rows: int, length: int = 9) -> tuple[torch.Tensor, ...]:
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[1:, length * 2 // 3 :] = 0
    return torch.randn(rows, length, 24), mask


NETS = {
    "direct": Net(direct, lambda rows: (torch.randn(rows, 3, 33, 35),)),
    "winograd": Net(winograd, lambda rows: (torch.randn(rows, 3, 30, 31),)),
    "transformer": Net(Encoder, masked),
    "recurrent": Net(Recurrent, lambda rows: (torch.randn(rows, 11, 5),)),
}


@functools.cache
def compiled(name: str) -> tuple[nn.Module, Module]:
    """A net and what it was compiled to, for 0 to 5 rows."""
    torch.manual_seed(0)
    model = NETS[name].make().eval().requires_grad_(False)
    args = NETS[name].inputs(2)
    rows = Dim("rows", min=0, max=5)
    # a net of one layer after another calls its argument "input": neither needs names
    return model, neve.compile(model, args, dynamic_shapes=[{0: rows}] * len(args), threads=1)


def drawn(name: str, rows: int, seed: int = 1) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    return NETS[name].inputs(rows)


def agrees(name: str, args: tuple[torch.Tensor, ...]) -> np.ndarray:
    """Checks that NaN and infinities are where eager has them, and the rest is close; gives what eager gives."""
    model, module = compiled(name)
    wanted = model(*args).numpy()
    error = relative_error(module(*args).numpy(), wanted)
    assert error <= LIMIT, f"{error:.1e}"
    return wanted  # type: ignore[no-any-return]


def test_winograd_is_used() -> None:
    """The net that is here for the sake of this kernel has it."""
    for name, wanted in (("winograd", True), ("direct", False)):
        labels = [c["label"] for c in compiled(name)[1].artifact.extra["calls"]["forward"]]
        assert any("winograd" in label for label in labels) == wanted, labels


# --- what is refused ----------------------------------------------------------------------------------------------


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).cumprod(0).abs()


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.poisson(x.abs())


@pytest.mark.parametrize("call", [neve.compile, neve.build_artifact])
def test_every_part_that_cannot_be_compiled_is_named(call: Any) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.spectrum, self.noise = nn.Linear(8, 8), Spectrum(), Noise()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.spectrum(self.noise(self.first(x)).relu())
            return torch.linalg.eigvals(y[:, :4]).abs()

    with pytest.raises(neve.CaptureError) as caught:
        call(Whole(), (torch.randn(4, 8),))
    text = "\n".join(caught.value.reasons)
    for part in ("complex numbers", "poisson", "eig"):
        assert part in text
    assert text.count("test_edges.py:") >= 3
    assert "linear" not in text and "relu" not in text
    assert all(reason in str(caught.value) for reason in caught.value.reasons)


REFUSED: dict[str, tuple[str, Callable[..., tuple[Any, ...]], str]] = {
    "doubles": ("direct", lambda x: (x.double(),), "got float64"),
    "bytes": ("direct", lambda x: ((x * 9).to(torch.uint8),), "got uint8"),
    "one picture": ("direct", lambda x: (x[0],), "its rank is 3, not 4"),
    "channels last": ("direct", lambda x: (x.permute(0, 2, 3, 1),), r"got float32 \[2, 33, 35, 3\]"),
    "taller": ("direct", lambda x: (torch.zeros(2, 3, 34, 35),), r"wanted .*\[rows, 3, 33, 35\]"),
    "too many rows": ("recurrent", lambda x: (x[:1].expand(6, -1, -1),), r"\(rows\) is 6, wanted 0 to 5"),
    "float mask": ("transformer", lambda x, mask: (x, mask.float()), "mask.*got float32.*wanted.*int64"),
    "rows differ": ("transformer", lambda x, mask: (x, mask[:1]), r"\[1, 9\].*wanted.*\[2, 9\]"),
    "swapped": ("transformer", lambda x, mask: (mask, x), "x.*got int64"),
    "not all": ("transformer", lambda x, mask: (x,), "misses the argument 'mask'"),
    "no tensor": ("recurrent", lambda x: (x.tolist(),), "got a list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_arguments_leave_the_module_as_it_was(case: str) -> None:
    name, change, message = REFUSED[case]
    module, args = compiled(name)[1], drawn(name, 2)
    before = module(*args)
    with pytest.raises(neve.InputError, match=message):
        module(*change(*args))
    assert torch.equal(module(*args), before)


# --- any strides --------------------------------------------------------------------------------------------------


def transposed(x: torch.Tensor) -> torch.Tensor:
    """The dims in memory in reverse order."""
    dims = tuple(reversed(range(x.dim())))
    return x.permute(dims).contiguous().permute(dims)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.to(memory_format=torch.channels_last)


def stepped(x: torch.Tensor) -> torch.Tensor:
    """A view of every second element in each dim of something larger."""
    wide = torch.full([2 * n + 1 for n in x.shape], 77, dtype=x.dtype)
    view = wide[tuple(slice(1, None, 2) for _ in x.shape)]
    return view.copy_(x)


def backwards(x: torch.Tensor) -> np.ndarray:
    """An array with negative strides in all dims."""
    flip = tuple(slice(None, None, -1) for _ in x.shape)
    return np.ascontiguousarray(x.numpy()[flip])[flip]


def repeated(x: torch.Tensor) -> torch.Tensor:
    """Its first row for all rows, without a copy."""
    return x[:1].expand_as(x)


@pytest.mark.parametrize(
    ("name", "layout"),
    [(name, layout) for name in NETS for layout in (transposed, stepped, backwards, repeated)]
    + [("direct", channels_last), ("winograd", channels_last)],
)
def test_strides_do_not_matter(name: str, layout: Callable[[torch.Tensor], Any]) -> None:
    module, args = compiled(name)[1], drawn(name, 3)
    views = [layout(a) for a in args]
    for view, a in zip(views, args, strict=True):
        assert any(s != t for s, t in zip(np.asarray(view).strides, a.numpy().strides, strict=True)), "nothing to see"
    plain = [torch.from_numpy(np.ascontiguousarray(v)) for v in views]
    if layout is not repeated:
        assert all(torch.equal(p, a) for p, a in zip(plain, args, strict=True))
    wanted = agrees(name, tuple(plain))
    np.testing.assert_array_equal(np.asarray(module(*views)), module(*plain).numpy())
    assert wanted.any()


# --- no rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_no_rows(name: str) -> None:
    wanted = agrees(name, drawn(name, 0))
    assert wanted.shape[0] == 0 and wanted.ndim > 2
    assert agrees(name, drawn(name, 1)).shape[0] == 1


def test_no_rows_in_the_example() -> None:
    module = neve.compile(direct(), drawn("direct", 0), threads=1)
    assert module(*drawn("direct", 0)).shape == (0, 6, 8, 9)


def test_no_tokens() -> None:
    model = nn.TransformerEncoderLayer(24, 3, 40, batch_first=True).eval().requires_grad_(False)
    module = neve.compile(model, (torch.randn(2, 6, 24),), dynamic_shapes=[{1: Dim("length", min=0, max=9)}], threads=1)
    for length in (0, 1, 9):
        x = torch.randn(2, length, 24)
        assert relative_error(module(x).numpy(), model(x).numpy()) <= LIMIT


# --- NaN and infinity ---------------------------------------------------------------------------------------------

VALUES = {"nan": [float("nan")], "inf": [float("inf")], "-inf": [-float("inf")], "both": [float("inf"), float("nan")]}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NETS)
def test_nan_and_infinity_go_where_eager_has_them(name: str, value: str) -> None:
    """One or two elements of one row are replaced: in the middle, then at the very first and last place."""
    for places in ((0.5, 0.3), (0.0, 1.0)):
        x, *rest = drawn(name, 3)
        for where, v in zip(places, VALUES[value], strict=False):
            x[1].view(-1)[int(where * (x[1].numel() - 1))] = v
        wanted = agrees(name, (x, *rest))
        assert np.isfinite(wanted[[0, 2]]).all(), "other rows are not concerned"
        if value in ("nan", "both"):
            assert np.isnan(wanted[1]).any()


def test_a_whole_batch_of_nan_and_overflow() -> None:
    for name in NETS:
        for value in (float("nan"), 3e38):
            x, *rest = drawn(name, 2)
            agrees(name, (torch.full_like(x, value), *rest))
