"""Complex numbers: what audio and positions by rotation are made of, dynamic sizes too; arguments, results and state.

That each op is right on complex64 is for op_db to say: `python -m tests.conformance.opdb --dtype complex64`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.capture.export import capture
from neve.cli.app import run
from neve.errors import CaptureError, InputError
from neve.ir.parse import TextError, parse_program
from neve.ir.text import print_program
from neve.ir.walk import constants

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
    """A function of the module and its arguments, with complex state."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("state", torch.zeros(3, dtype=torch.complex64))

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def add_to_state(m: Any, x: torch.Tensor) -> torch.Tensor:
    m.state.mul_(0.5j).add_(x.sum(0))
    return m.state.clone()  # type: ignore[no-any-return]


class KeepsTheLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(2, dtype=torch.complex64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = x[:2, 0] * self.last.conj() + 1
        return self.last * 2


class OnValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(3, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.abs().sum() > 12:
            y = x * (1 - 2j) + (-2j)
            self.state.add_(y[0])
        else:
            y = x.conj() + 1
        return y * self.state


def on_size(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if x.shape[0] > 3:
        return x * 2j, x.real
    return x.conj() + 1, x.imag.clone()


def in_a_loop(m: Any, x: torch.Tensor) -> torch.Tensor:
    h, out = torch.zeros_like(x[0]), []
    for k in range(x.shape[0]):
        h = h * (0.5 + 0.1j) + x[k]
        out.append(h)
    return torch.stack(out)


def repeated(m: Any, x: torch.Tensor) -> torch.Tensor:
    def goes_on(i: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return i < 5

    def step(i: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return i + 1, z * (0.5 + 0.5j)

    return torch.while_loop(goes_on, step, (torch.tensor(0), x))[1]  # type: ignore[no-any-return]


def complex_noise(n: int, dtype: torch.dtype = torch.complex64) -> torch.Tensor:
    return torch.randn(n, 3, dtype=dtype, generator=torch.Generator().manual_seed(n))


ROWS = torch.export.Dim("rows", min=1, max=16)
IO: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "argument and result": (lambda: Calls(lambda m, x: (x * (1 + 2j) + x.conj(), x.abs())), True),
    "result of reals": (lambda: Calls(lambda m, x: torch.fft.fft(x.real)), True),
    "only a conjugate": (lambda: Calls(lambda m, x: x.conj()), True),
    "a dict": (lambda: Calls(lambda m, x: {"y": x.mH @ x, "z": [x.sum(-1)]}), True),
    "written in place": (lambda: Calls(lambda m, x: x.mul_(2j).real.sum()), True),
    "rows that data choose": (lambda: Calls(lambda m, x: x[x.abs() > 1]), True),
    "buffer": (lambda: Calls(add_to_state), True),
    "attribute": (KeepsTheLast, False),
    "branch on values": (OnValues, False),
    "branch on the size": (lambda: Calls(on_size), True),
    "loop": (lambda: Calls(in_a_loop), False),
    "while_loop": (lambda: Calls(repeated), False),
}


def limit(want: torch.Tensor) -> float:
    return 2e-6 * max([1.0, *want.abs().reshape(-1).tolist()])


def outcome(model: Any, x: Any) -> list[Any]:
    """The tensors of a result, and the argument after the call."""
    x = x.clone() if isinstance(x, torch.Tensor) else x.copy()
    with torch.no_grad():
        return [*torch.utils._pytree.tree_leaves(model(x)), x]


@pytest.mark.parametrize("name", IO)
def test_complex_arguments_results_and_state(name: str) -> None:
    """Verified by compile as well; torch tensors, lazy conjugates and arrays, two calls each; other sizes."""
    make, dynamic = IO[name]
    x = complex_noise(5)
    module = neve.compile(make().eval(), (x,), dynamic_shapes=({0: ROWS},) if dynamic else None)
    model = make().eval()
    for given in (x, x, complex_noise(5).conj(), *((complex_noise(n) for n in (1, 3, 4, 16)) if dynamic else ())):
        for got, want in zip(outcome(module, given), outcome(model, given), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=limit(want))
    for got, want in zip(outcome(module, x.numpy()), outcome(model, x), strict=True):
        assert isinstance(got, np.ndarray)
        torch.testing.assert_close(torch.from_numpy(got), want, rtol=0, atol=limit(want))


def test_double_precision() -> None:
    x = complex_noise(5, torch.complex128)
    model = Calls(lambda m, x: x / (x + 1j)).eval()
    torch.testing.assert_close(neve.compile(model, (x,))(x), model(x))


def test_files_and_state(tmp_path: Path) -> None:
    """A file's examples verify; its state is complex by name and attribute; C is said how numbers lie in memory."""
    x = complex_noise(4)
    module = neve.compile(Calls(add_to_state).eval(), (x,), name="sums")
    module.save(tmp_path / "sums.neve")
    loaded = neve.load(tmp_path / "sums.neve")
    assert run(["verify", str(tmp_path / "sums.neve")]) == 0
    loaded.state["state"] = np.full(3, 1j, np.complex64)
    torch.testing.assert_close(loaded.attributes["state"], torch.full((3,), 1j))
    loaded.attributes["state"] = torch.full((3,), 2.0 + 0j)
    torch.testing.assert_close(loaded(x), x.sum(0) + 1j)
    with pytest.raises(InputError, match=r"got float32 \[3\], wanted complex64 \[3\]"):
        loaded.attributes["state"] = torch.ones(3)
    with pytest.raises(InputError, match=r"got float32 \[4, 3\], wanted .*complex64 \[4, 3\]; convert"):
        loaded(x.real)
    text = loaded.artifact.sources["sums.h"]
    assert "complex64[4, 3] as float32[4, 3, 2], the real part first" in text
    assert "complex64[3] as float32[3, 2]" in text


def test_text_keeps_what_is_complex() -> None:
    program = capture(Calls(add_to_state).eval(), (complex_noise(4),))
    arrays = {c.name: c.array for c in constants(program)}
    again = parse_program(print_program(program), arrays, {s.name: s.init for s in program.state})
    assert again.methods["forward"].complex == program.methods["forward"].complex == ({0}, {0})
    assert [s.complex for s in again.state] == [True]
    wrong = print_program(program).replace('"complex": [[0], [0]]', '"complex": [[0], [1]]')
    with pytest.raises(TextError, match="does not fit"):
        parse_program(wrong, arrays, {s.name: s.init for s in program.state})


def test_what_is_not_supported_says_what_to_do() -> None:
    model = Calls(lambda m, x: x.cumprod(0)).eval()
    with pytest.raises(CaptureError, match=r"x\.real"):
        neve.compile(model, (complex_noise(4),), verify=False)


def test_a_dynamic_length_is_refused() -> None:
    model = Calls(lambda m, x: torch.fft.rfft(x).abs()).eval()
    with pytest.raises(CaptureError, match="pad x to a fixed length"):
        neve.compile(model, (torch.randn(80),), dynamic_shapes=({0: WAVE},), verify=False)
    model = Calls(lambda m, x: torch.fft.rfft(nn.functional.pad(x, (0, 4000 - x.shape[0]))).abs()).eval()
    module = neve.compile(model, (torch.randn(80),), dynamic_shapes=({0: WAVE},), verify=False)
    for n in (64, 512, 999):
        torch.testing.assert_close(module(x := torch.randn(n)), model(x), rtol=0, atol=1e-4)
