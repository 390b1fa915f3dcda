"""Interpolation gives eager's bits, so that what steps on it (a cast to bytes, a comparison) steps as in eager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import neve
from neve.build.target import native
from neve.ops.upsample import small

SIZES: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "linear": [((1, 3, 50), (77,)), ((2, 17, 50), (277,)), ((1, 1, 9), (4,))],
    "bilinear": [
        *[((1, 3, 17, 19), (64, 61)), ((1, 16, 16, 16), (64, 64)), ((2, 3, 60, 50), (23, 31))],
        *[((1, 3, 17, 19), (140, 132)), ((1, 32, 7, 9), (128, 131)), ((2, 3, 60, 80), (45, 224))],
    ],
    "trilinear": [((1, 3, 9, 8, 7), (12, 11, 17)), ((2, 8, 3, 4, 5), (8, 9, 10))],
    "bicubic": [((1, 3, 60, 50), (23, 31)), ((1, 16, 17, 19), (140, 133)), ((1, 2, 8, 8), (128, 128))],
}
CASES = [(mode, *sizes) for mode, all_ in SIZES.items() for sizes in all_]


GRIDS = [
    ("bilinear", (1, 3, 17, 19), (1, 24, 20, 2)),
    ("bilinear", (2, 16, 9, 8), (2, 33, 31, 2)),
    ("bilinear", (2, 5, 5, 7, 9), (2, 16, 8, 9, 3)),
    ("nearest", (1, 3, 17, 19), (1, 24, 20, 2)),
]


class Resize(nn.Module):
    def __init__(self, mode: str, size: tuple[int, ...], align: bool) -> None:
        super().__init__()
        self.mode, self.size, self.align = mode, size, align

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, self.size, mode=self.mode, align_corners=self.align)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """ATen uses another kernel for large outputs of bilinear interpolation where a thread is alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Warp(nn.Module):
    def __init__(self, mode: str, padding: str, align: bool) -> None:
        super().__init__()
        self.mode, self.padding, self.align = mode, padding, align

    def forward(self, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return nn.functional.grid_sample(x, grid, self.mode, self.padding, self.align)


def same_bits(got: object, want: torch.Tensor) -> None:
    got = torch.as_tensor(got)
    unequal = (got != want).float().mean()
    assert not unequal, f"{unequal:.2%} of the elements differ, by up to {(got - want).abs().max()}"


fused = pytest.mark.skipif(native().isa not in ("avx2", "avx512"), reason="the bits are those of x86 with FMA")


@fused
@pytest.mark.parametrize("align", [False, True], ids=["", "align_corners"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("mode", "shape", "size"), CASES, ids=lambda v: str(v).replace(" ", ""))
def test_same_bits_as_eager(
    mode: str, shape: tuple[int, ...], size: tuple[int, ...], dtype: torch.dtype, align: bool, two_threads: None
) -> None:
    if dtype is not torch.float32 and small(size):
        pytest.skip("ATen's kernel for small outputs sums halves in an order that was not found")
    torch.manual_seed(0)
    model = Resize(mode, size, align).eval()
    noise, flat = (torch.rand(shape) * 255).to(dtype), torch.full(shape, 255.0, dtype=dtype)
    module = neve.compile(model, (noise,), verify=False)
    for x in (noise, flat):
        same_bits(module(x), model(x))


@fused
@pytest.mark.parametrize("align", [False, True], ids=["", "align_corners"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("mode", "shape", "grid"), GRIDS, ids=lambda v: str(v).replace(" ", ""))
def test_same_bits_as_eager_at_computed_positions(
    mode: str, shape: tuple[int, ...], grid: tuple[int, ...], padding: str, align: bool
) -> None:
    torch.manual_seed(0)
    model, at = Warp(mode, padding, align).eval(), torch.rand(grid) * 2.4 - 1.2
    noise, flat = torch.rand(shape) * 255, torch.full(shape, 255.0)
    module = neve.compile(model, (noise, at), verify=False)
    for x in (noise, flat):
        same_bits(module(x, at), model(x, at))


class Thumbnail(nn.Module):
    def __init__(self, mode: str, size: tuple[int, int], align: bool) -> None:
        super().__init__()
        self.mode, self.size, self.align = mode, size, align

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, self.size, mode=self.mode, align_corners=self.align, antialias=True)


@pytest.mark.parametrize("align", [False, True], ids=["", "align_corners"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias_of_bytes_has_eagers_bits(mode: str, align: bool) -> None:
    torch.manual_seed(0)
    for size in ((7, 12), (19, 40)):
        model, x = Thumbnail(mode, size, align), torch.randint(0, 256, (1, 4, 19, 23), dtype=torch.uint8)
        module = neve.compile(model, (x,), verify=False)
        for given in (x, (x > 127).byte() * 255):
            same_bits(module(given), model(given))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias_of_any_size(mode: str) -> None:
    """Sizes that turn out to be kept are copied, Inf and NaN with them."""
    torch.manual_seed(0)
    model, x = Thumbnail(mode, (7, 12), False), torch.randn(1, 2, 30, 17)
    sizes = {"x": {2: torch.export.Dim("h", min=1, max=200), 3: torch.export.Dim("w", min=1, max=200)}}
    module = neve.compile(model, (x,), dynamic_shapes=sizes, verify=False)
    special = torch.full((1, 2, 7, 12), float("inf"))
    special[0, 0, 3, 3] = float("nan")
    spread = torch.randn(1, 2, 50, 12)
    spread[0, 0, 20, 3] = float("inf")
    for given in (x, special, spread, torch.randn(1, 2, 1, 3), torch.randn(1, 2, 191, 2)):
        torch.testing.assert_close(module(given), model(given), rtol=0, atol=2e-6, equal_nan=True)
