"""Complex numbers inside models: what audio and positions by rotation are made of, dynamic sizes too; and its refusals.

That each op is right on complex64 is for op_db to say: `python -m tests.conformance.opdb --dtype complex64`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.errors import CaptureError

WAVE, FRAMES, STEPS = Dim("wave", min=64, max=4000), Dim("frames", min=2, max=300), Dim("steps", min=1, max=64)


class Spectrum(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("window", torch.hann_window(how.get("win_length", how["n_fft"])))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.stft(x, window=self.window, return_complex=True, **self.how)
        return y.abs(), torch.view_as_real(y)


class Vocoder(nn.Module):
    """Magnitude and phase to sound, as Vocos ends."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("window", torch.hann_window(64))

    def forward(self, length: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        return torch.istft(torch.polar(length, phase), 64, 16, window=self.window, **self.how)


class GriffinLim(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))

    def forward(self, length: torch.Tensor) -> torch.Tensor:
        turned = torch.exp(1j * torch.zeros_like(length))
        for _ in range(2):
            x = torch.istft(length * turned, 64, 16, window=self.window)
            again = torch.stft(x, 64, 16, window=self.window, return_complex=True)
            turned = again / (again.abs() + 1e-8)
        return torch.istft(length * turned, 64, 16, window=self.window)


class Rotary(nn.Module):
    """Llama's own code: a complex buffer, sliced by a dynamic size."""

    def __init__(self) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(64.0), torch.rand(4))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(z * self.turns[: x.shape[1], None]).flatten(3)


class SpectralConv(nn.Module):
    """A layer of a Fourier neural operator: complex weights on the lowest frequencies."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 5, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.fft.rfft(x)
        out = torch.zeros(x.shape[0], 4, y.shape[-1], dtype=y.dtype)
        out[..., :5] = torch.einsum("bix,iox->box", y[..., :5], self.weight)
        return torch.fft.irfft(out, n=x.shape[-1])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


Case = tuple[Callable[[], nn.Module], Callable[[int], tuple[torch.Tensor, ...]], Any, tuple[int, ...]]
CASES: dict[str, Case] = {
    "stft": (lambda: Spectrum(n_fft=64, hop_length=16), lambda n: (noise(2, n),), ({1: WAVE},), (400, 77, 3999)),
    "stft, narrow window": (
        lambda: Spectrum(n_fft=60, hop_length=20, win_length=40, center=False, normalized=True),
        lambda n: (noise(2, n),),
        ({1: WAVE},),
        (400, 64, 1001),
    ),
    "stft, all frequencies of a prime": (
        lambda: Spectrum(n_fft=37, hop_length=10, onesided=False, pad_mode="constant"),
        lambda n: (noise(n),),
        None,
        (400,),
    ),
    "istft": (
        Vocoder,
        lambda n: (noise(1, 33, n).abs(), noise(1, 33, n)),
        ({2: FRAMES}, {2: FRAMES}),
        (20, 2, 100),
    ),
    "istft, longer": (lambda: Vocoder(length=400), lambda n: (noise(1, 33, n).abs(), noise(1, 33, n)), None, (20,)),
    "Griffin-Lim": (GriffinLim, lambda n: (noise(1, 33, n).abs(),), None, (20,)),
    "rotary": (Rotary, lambda n: (noise(1, n, 2, 8),), ({1: STEPS},), (6, 1, 64)),
    "spectral convolution": (SpectralConv, lambda n: (noise(2, 3, n),), None, (32,)),
}


@pytest.mark.parametrize("name", CASES)
def test_models_of_complex_numbers(name: str) -> None:
    make, inputs, dynamic, sizes = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    module = neve.compile(model, inputs(sizes[0]), dynamic_shapes=dynamic, verify=False)
    for n in sizes:
        with torch.no_grad():
            want = model(*inputs(n))
        got = module(*inputs(n))
        for g, w in zip(*((v,) if isinstance(v, torch.Tensor) else v for v in (got, want)), strict=True):
            torch.testing.assert_close(g, w, rtol=0, atol=2e-6 * float(w.abs().max()))


def test_a_window_that_does_not_cover_its_steps() -> None:
    model = Vocoder(center=False).eval()
    with pytest.raises(neve.ModelError, match="squared windows"):
        neve.compile(model, (torch.ones(1, 33, 9), torch.zeros(1, 33, 9)), verify=False)(
            torch.ones(1, 33, 9), torch.zeros(1, 33, 9)
        )


class Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("state", torch.zeros(3, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


Z = torch.randn(3, dtype=torch.complex64)
REFUSED: dict[str, tuple[Callable[..., Any], torch.Tensor, str]] = {
    "argument": (lambda m, x: x.abs(), Z, "view_as_complex"),
    "result": (lambda m, x: torch.fft.fft(x), torch.randn(3), "view_as_real"),
    "state": (lambda m, x: m.state.add_(x).abs(), torch.randn(3), "two buffers"),
    "function": (lambda m, x: torch.complex(x, x).tanh().abs(), torch.randn(3), r"x\.real"),
}
FIXED: dict[str, tuple[Callable[..., Any], torch.Tensor]] = {
    "argument": (lambda m, x: torch.view_as_complex(x).abs(), torch.view_as_real(Z)),
    "result": (lambda m, x: torch.view_as_real(torch.fft.fft(x)), torch.randn(3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_do(name: str) -> None:
    function, x, fix = REFUSED[name]
    with pytest.raises(CaptureError, match=fix):
        neve.compile(Calls(function).eval(), (x,), verify=False)
    if name in FIXED:
        function, x = FIXED[name]
        model = Calls(function).eval()
        torch.testing.assert_close(neve.compile(model, (x,), verify=False)(x), model(x))


def test_a_dynamic_length_is_refused() -> None:
    model = Calls(lambda m, x: torch.fft.rfft(x).abs()).eval()
    with pytest.raises(CaptureError, match="pad x to a fixed length"):
        neve.compile(model, (torch.randn(80),), dynamic_shapes=({0: WAVE},), verify=False)
    model = Calls(lambda m, x: torch.fft.rfft(nn.functional.pad(x, (0, 4000 - x.shape[0]))).abs()).eval()
    module = neve.compile(model, (torch.randn(80),), dynamic_shapes=({0: WAVE},), verify=False)
    for n in (64, 512, 999):
        torch.testing.assert_close(module(x := torch.randn(n)), model(x), rtol=0, atol=1e-4)
