"""Numbers that an integer type cannot hold, beside tensors of that type: they wrap or are refused, as in eager."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.interpret import interpret
from tests.conformance.backends import BACKENDS

NUMBERS = {torch.uint8: (-2, -255, 300), torch.int8: (-300, 200), torch.int16: (40000,), torch.int32: (2**31, -(2**33))}
OPS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "add": lambda x, n: x + n,
    "rsub": lambda x, n: n - x,
    "mul": lambda x, n: x * n,
    "floor_divide": lambda x, n: x // n,
    "trunc_divide": lambda x, n: torch.div(x, n, rounding_mode="trunc"),
    "remainder": lambda x, n: x % n,
    "fmod": torch.fmod,
    "gt": lambda x, n: x > n,
    "le": lambda x, n: x <= n,
    "eq": lambda x, n: x == n,
    "and": lambda x, n: x & n,
    "maximum": lambda x, n: torch.maximum(x, x.new_zeros(()) + n),
    "clamp": lambda x, n: x.clamp(n, 3),
    "clamp_min": lambda x, n: x.clamp(min=n),
    "clamp_max": lambda x, n: x.clamp(max=n),
    "masked_fill": lambda x, n: x.masked_fill(x > 1, n),
}


class All(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        x = values(dtype)
        self.calls = [(op, n) for op in OPS.values() for n in NUMBERS[dtype] if _accepts(op, x, n)]

    def forward(self, x: Tensor) -> list[Tensor]:
        return [op(x, n) for op, n in self.calls]


def values(dtype: torch.dtype) -> Tensor:
    info = torch.iinfo(dtype)
    return torch.tensor([0, 1, 2, 5, 44, info.max, info.max - 1, info.min, info.min + 1], dtype=dtype)


def _accepts(op: Callable[[Tensor, int], Tensor], x: Tensor, n: int) -> bool:
    try:
        op(x, n)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("backend", ["interpret", "compiled"])
def test_what_a_type_cannot_hold_wraps(dtype: torch.dtype, backend: str) -> None:
    model, x = All(dtype), values(dtype)
    assert len(model.calls) >= 10
    got = BACKENDS[backend](model, (x,), {})((x,))
    for k, (g, w) in enumerate(zip(got, model(x), strict=True)):
        assert torch.equal(torch.from_numpy(g), w), k


@pytest.mark.parametrize(("dtype", "n"), [(torch.uint8, 300), (torch.uint8, -256), (torch.int8, -129)], ids=str)
def test_bounds_that_eager_refuses(dtype: torch.dtype, n: int) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(min=n)

    with pytest.raises(RuntimeError, match="overflow"):
        Model()(values(dtype))
    with pytest.raises(CaptureError, match="without overflow"):
        capture(Model(), (values(dtype),))


def test_a_full_holds_a_value_of_its_type() -> None:
    from neve.ir.types import DType
    from neve.ops.source import Full

    with pytest.raises(ValueError, match="no value of uint8"):
        Full((2,), -2, DType.uint8).infer()


class Halves(nn.Module):
    """What eager rounds once, though it is several ops here."""

    def forward(self, x: Tensor, bias: Tensor) -> list[Tensor]:
        y = x * 300
        return [torch.baddbmm(bias, y, y.transpose(1, 2)), (x / 1000).std(1), torch.std_mean(x / 1000, 1)[0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_round_once(dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 64).to(dtype)
    bias = torch.full((2, 4, 4), float("-inf"), dtype=dtype).triu(1)
    graph = capture(Halves(), (x, bias)).methods["forward"].graph
    arrays = [t.numpy() if dtype is torch.float16 else t.float().numpy() for t in (x, bias)]
    for got, want in zip(interpret(graph, arrays), Halves()(x, bias), strict=True):
        torch.testing.assert_close(
            torch.from_numpy(got).to(dtype), want, rtol=2e-3 if dtype is torch.float16 else 1e-2, atol=0
        )
