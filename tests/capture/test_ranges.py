"""The declared range of a size is taken as a whole, down to 1: what torch asks of sizes is proved over the range, or
checked by the call; a bound that may lie outside of an axis is cut off as in eager.

Each function is captured with n and t in their ranges, and called at every corner and between.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.export import Dim

from neve.capture.export import capture
from neve.capture.symbols import remainder
from neve.errors import CaptureError, InputError
from neve.ir.interpret import interpret
from tests.capture.support import Model

TABLE = torch.arange(200.0).reshape(50, 4)


def _windows(x: Tensor) -> Tensor:
    n, t, c = x.shape
    x = F.pad(x, (0, 0, 0, (-t) % 4, 0, (-n) % 3))
    h, w = x.shape[0] // 3, x.shape[1] // 4
    return x.view(h, 3, w, 4, c).permute(0, 2, 1, 3, 4).reshape(h * w, 12, c).sum(1)


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool1d(x.transpose(1, 2), 1, stride=2).transpose(1, 2)


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "differences": lambda x: x[:, 1:] - x[:, :-1],
    "first": lambda x: x[:, :5] * 2,
    "last": lambda x: x[:, -5:] + 1,
    "between": lambda x: x[:, 2:6],
    "all but": lambda x: x[:, :-3],
    "first and last": lambda x: x[:, :5] + x[:, -5:],
    "every third": lambda x: torch.stack([x[:, i::3].sum(1) for i in range(3)], 1),
    "a table": lambda x: x + TABLE[: x.shape[1]],
    "from the end of a table": lambda x: x + TABLE[-x.shape[1] :],
    "topk": lambda x: torch.topk(x, min(3, x.shape[1] // 2), dim=1)[0],
    "padded": lambda x: F.pad(x, (0, 0, 0, (-x.shape[1]) % 8)).view(x.shape[0], -1, 8, 4).sum(2),
    "windows": _windows,
    "strided": lambda x: F.conv1d(x.transpose(1, 2), torch.ones(2, 4, 3), stride=2, padding=1),
    "pooled": lambda x: F.max_pool1d(x.transpose(1, 2), 2, ceil_mode=True),
    "a line": lambda x: x * torch.linspace(-1, 2, x.shape[1])[:, None],
    "merged": lambda x: x.reshape(-1, 4) @ torch.ones(4, 2),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "counted": lambda x: x * len(x) + torch.ones(3, 4).sum() * len(x[0]),
    "a deviation": lambda x: torch.cat(torch.std_mean(x, (0, 2), keepdim=True)),
    "halved twice": lambda x: _halved(_halved(x)) + x[:, : (x.shape[1] + 3) // 4, :1],
    "two sizes": lambda x: x.flatten(0, 1)[: x.shape[0]],
}


@pytest.mark.parametrize("most", [20, 4000], ids=["few", "many"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_whole_range(name: str, most: int) -> None:
    model = Model(FUNCTIONS[name])
    long = {"a table", "from the end of a table"}
    dims = {0: Dim("n", min=1, max=7), 1: Dim("t", min=1, max=min(most, 50) if name in long else most)}
    graph = capture(model, (torch.randn(3, 9, 4),), dynamic_shapes=(dims,)).methods["forward"].graph
    for n, t in itertools.product((1, 2, 7), (1, 2, 3, 4, 5, 8, 19)):
        x = torch.randn(n, t, 4)
        np.testing.assert_allclose(
            interpret(graph, (x.numpy(),))[0], model(x), rtol=1e-4, atol=1e-5, err_msg=f"{n} {t}"
        )


def test_a_derived_dim_begins_where_its_root_does() -> None:
    model = Model(lambda x: x.view(x.shape[0], -1, 4).mean(1))
    quarter = Dim("quarter", min=1, max=16)
    graph = capture(model, (torch.randn(2, 16),), dynamic_shapes=({1: 4 * quarter},)).methods["forward"].graph
    for n in (4, 8, 64):
        x = torch.randn(2, n)
        np.testing.assert_allclose(interpret(graph, (x.numpy(),))[0], model(x), rtol=1e-5, atol=1e-6)


def test_what_the_range_does_not_ensure_is_checked_by_the_call() -> None:
    model = Model(lambda x: x.sum(0) + x.sum(1))
    dims = {0: Dim("n", min=2, max=9), 1: Dim.DYNAMIC}
    graph = capture(model, (torch.randn(3, 3),), dynamic_shapes=(dims,)).methods["forward"].graph
    np.testing.assert_allclose(interpret(graph, (np.ones((4, 4), np.float32),))[0], np.full(4, 8.0))
    with pytest.raises((InputError, ValueError)):
        interpret(graph, (np.zeros((3, 4), np.float32),))


N = sympy.Symbol("n", integer=True, nonnegative=True)


@pytest.mark.parametrize("m", [3, 4, 8])
def test_remainders_are_those_of_python(m: int) -> None:
    for f in (
        lambda n: -n,
        lambda n: 3 * n + 1,
        lambda n: (n % m) // 2 - n,
        lambda n: (n % m) * n - 5,
        lambda n: m - n % m,
    ):
        found = remainder(sympy.sympify(f(N)), sympy.Integer(m))
        assert [int(found.subs(N, n)) for n in range(40)] == [f(n) % m for n in range(40)], found


@pytest.mark.parametrize("index", [np.s_[:, :1], np.s_[:, -1:], np.s_[..., 2:3, :], np.s_[1, 1:2]], ids=str)
def test_a_slice_of_one_entry_has_none_of_an_axis_without(index: Any) -> None:
    program = capture(
        Model(lambda x: x[index] * 2), (torch.ones(3, 5, 2),), dynamic_shapes=({1: Dim("t", min=0, max=9)},)
    )
    for t in (0, 1, 2, 3, 5, 9):
        x = torch.randn(3, t, 2)
        (got,) = interpret(program.methods["forward"].graph, [x.numpy()])
        np.testing.assert_array_equal(got, (x[index] * 2).numpy())


def test_what_torch_takes_for_larger_sizes_is_refused_with_a_range() -> None:
    def ranks(x: Tensor) -> Tensor:
        return torch.linalg.matrix_rank(x)

    with pytest.raises(CaptureError, match="declare a range without 0 and 1"):
        capture(Model(ranks), (torch.ones(3, 5),), dynamic_shapes=({1: Dim("t", min=0, max=9)},))
    capture(Model(ranks), (torch.ones(3, 5),), dynamic_shapes=({1: Dim("t", min=2, max=9)},))
