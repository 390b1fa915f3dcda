"""Sizes that go through doubles: int(n * 0.7), scale_factor=1.7, over every size of the range that is declared."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
import sympy
import torch
from torch.export import Dim
from torch.utils._sympy import functions as sizes

import neve
from neve.capture import float_sizes
from neve.capture.export import capture
from neve.capture.symbols import in_whole_numbers
from neve.errors import CaptureError, InputError
from neve.ir.types import Range, symbol

N = sympy.Symbol("n", integer=True, positive=True)
CONSTANTS = (1.7, 0.6, 1.3, 0.7, 2.3, 1.15, 1 / 3, 0.1, 3.3, 1.1, 2.2, 0.9, 1.0000001, math.pi)
ROUNDINGS: dict[type, Callable[[float], int]] = {
    sizes.TruncToInt: math.trunc,
    sizes.FloorToInt: math.floor,
    sizes.CeilToInt: math.ceil,
    sizes.RoundToInt: round,
}


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: r.__name__)
def test_a_formula_is_what_python_computes_for_every_size_of_the_range(rounding: type) -> None:
    found = 0
    for c in CONSTANTS:
        for least, last in ((2, 64), (5, 300), (1, 1000)):
            e = rounding(c * sizes.ToFloat(N))
            assert not float_sizes.exact(e)
            form = float_sizes.whole(e, N, Range(least, last))
            if form is None:
                continue
            found += 1
            whole = in_whole_numbers(form)
            assert whole is not None and whole[1] == 1
            at = whole[0].value({"n": np.arange(last + 1)})
            wrong = [n for n in range(least, last + 1) if at[n] != ROUNDINGS[rounding](n * c)]
            assert not wrong, (c, least, last, wrong[:3], form)
    assert found >= (15 if rounding is sizes.RoundToInt else 35)


@pytest.mark.parametrize(
    ("make", "is_exact"),
    [
        (lambda n: sizes.TruncToInt(2.0 * sizes.ToFloat(n)), True),
        (lambda n: sizes.CeilToInt(1.5 * sizes.ToFloat(n) + 0.25), True),
        (lambda n: sizes.FloorToInt(sizes.IntTrueDiv(n, sympy.Integer(3))), True),
        (lambda n: sizes.FloorToInt(49 * sizes.IntTrueDiv(n, sympy.Integer(49))), False),  # 0 for 1
        (lambda n: sizes.FloorToInt(sizes.IntTrueDiv(n, sympy.Integer(3)) + 0.5), False),
        (lambda n: sizes.TruncToInt(1.1 * sizes.ToFloat(n)), False),
        (lambda n: sizes.TruncToInt(1025.5 * sizes.ToFloat(n)), False),
        (lambda n: sizes.RoundToInt(0.5 * sizes.ToFloat(n)), False),
    ],
)
def test_what_is_exact_needs_no_search(make: Callable[[sympy.Symbol], sympy.Expr], is_exact: bool) -> None:
    assert float_sizes.exact(make(N)) is is_exact


class Sized(torch.nn.Module):
    def __init__(self, size: Callable[[int], int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_ones(self.size(x.shape[0])) + x.sum()


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        (lambda n: math.trunc(n * 0.7), True),
        (lambda n: math.floor(n * 2.3) + math.ceil(n * 1.1), True),
        (lambda n: round(n * 0.7), True),
        (lambda n: int(n * 0.5) + max(1, int(n * 0.3)), True),
        (lambda n: int(math.ceil(n / 2)), True),  # noqa: RUF046
        (lambda n: operator.methodcaller("__int__")(n * 0.5), False),  # one size's number, where Python itself asks
        (lambda n: math.trunc((n + 1) * 0.7), True),
        (lambda n: math.floor(n / 3 * 0.7), True),
        (lambda n: math.floor(n / 49 * 49), False),
        (lambda n: math.trunc(n * 0.7 * 0.3), True),  # torch: 0.21·n, from here on
        (lambda n: math.trunc((n * 0.7 + 0.3) * 2.1), False),  # 1.47·n + 0.63
        (lambda n: math.trunc(n * 0.7 + n * 0.3), False),  # n
        (lambda n: math.trunc(n - n * 0.3), False),  # 0.7·n
        (lambda n: math.trunc(2 * (n * 0.7 + 0.3)), True),
    ],
)
def test_a_size_of_a_model_is_what_python_computes_or_is_refused(size: Callable[[int], int], taken: bool) -> None:
    program = None
    with suppress(CaptureError):
        program = capture(Sized(size), (torch.zeros(20),), dynamic_shapes=({0: Dim("n", min=10, max=120)},))
    assert (program is not None) is taken
    if program is None:
        return
    (dim,) = program.methods["forward"].graph.outputs[0].shape
    assert [dim.at({symbol("n"): n}) for n in range(10, 121)] == [size(n) for n in range(10, 121)]


def test_arithmetic_that_torch_folds_is_refused_where_it_differs() -> None:
    with pytest.raises(CaptureError, match="which is another integer where the size is 12"):
        capture(
            Sized(lambda n: math.trunc(n * 0.7 + n * 0.3)),
            (torch.zeros(20),),
            dynamic_shapes=({0: Dim("n", min=10, max=120)},),
        )


def test_a_size_without_a_bound_gets_the_one_up_to_which_it_was_tried() -> None:
    model = Sized(lambda n: math.trunc(n * 1.7))
    program = capture(model, (torch.zeros(20),), dynamic_shapes=({0: Dim("n", min=2)},))
    assert [r.max for r in program.symbols.values()] == [float_sizes.LARGEST]
    compiled = neve.compile(model, (torch.zeros(20),), dynamic_shapes=({0: Dim("n", min=2)},), verify=False)
    assert compiled(torch.zeros(float_sizes.LARGEST)).shape == (int(float_sizes.LARGEST * 1.7),)
    with pytest.raises(InputError, match=str(float_sizes.LARGEST)):
        compiled(torch.zeros(float_sizes.LARGEST + 1))


class Resampled(torch.nn.Module):
    def __init__(self, scale: tuple[float, ...], mode: str, recompute: bool | None) -> None:
        super().__init__()
        self.given = {"scale_factor": scale, "mode": mode, "recompute_scale_factor": recompute}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, **self.given)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize(
    ("scale", "recompute"), [((1.15, 2.3), None), ((1.7, 0.7), False), ((2.3, 1.15), True), ((0.6, 1.3), None)]
)
def test_resampling_by_a_factor_at_every_size(scale: tuple[float, ...], recompute: bool | None, mode: str) -> None:
    """Factors below 2 keep the smallest sizes, which ATen then copies."""
    model, (least, last) = Resampled(scale, mode, recompute), (4, 100)
    dims = {2: Dim("h", min=least, max=last), 3: Dim("w", min=least, max=last)}
    compiled = neve.compile(model, (torch.zeros(1, 1, 20, 31),), dynamic_shapes=(dims,), verify=False)
    g = torch.Generator().manual_seed(0)
    for h in range(least, last + 1):
        for w in (7, least + last - h):
            x = torch.randn(1, 1, h, w, generator=g)
            # a position is rounded to float32: by up to 300 · 2^-24 of the way from one value to the next
            torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=3e-4)


Model = torch.nn.Module


class Roots(Model):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        n = x.shape[1]
        found = [x / math.sqrt(n), x * n**-0.5, x * float(n), x * (1 + math.log(n + 1)), x.clamp(max=math.log10(n + 1))]
        return [*found, x + torch.full_like(x, math.tanh(n / 64)), x * int(math.log2(n + 1)), x * math.exp(-n / 8)]


class Scaled(Model):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, scale=1 / math.sqrt(x.shape[1]))


@pytest.mark.parametrize(("model", "rank"), [(Roots(), 2), (Scaled(), 3)], ids=["roots", "scale"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_of_sizes(model: Model, rank: int, dtype: torch.dtype) -> None:
    n = Dim("n", min=1, max=64)
    shape = (2, 16, 4)[:rank]
    module = neve.compile(model, (torch.ones(shape, dtype=dtype),), dynamic_shapes=({1: n},), verify=False)
    for size in (1, 2, 3, 7, 8, 31, 63, 64):
        x = torch.randn((2, size, 4)[:rank], dtype=dtype)
        torch.testing.assert_close(module(x), model(x))
