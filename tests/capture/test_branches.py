"""Branches of a model's Python code on sizes that differ over the declared ranges: both sides are captured. Each model
is interpreted at the boundaries of its branches, on both sides of them and at the ends of its ranges.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves

from neve.build.target import native
from neve.capture import joined, sides
from neve.capture.export import capture
from neve.capture.joined import indicator
from neve.capture.regions import Region
from neve.capture.symbols import Symbols
from neve.emit.program import emit
from neve.errors import CaptureError, InputError, ModelError
from neve.ir.graph import Method
from neve.ir.interpret import interpret
from neve.ir.types import Range, symbol
from neve.ir.walk import constants
from tests.capture.support import Model

TIMES = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 40)
PAIRS = tuple(itertools.product((1, 2, 4, 5, 9), (1, 2, 4, 5, 8, 9, 40)))


def _elif(x: Tensor) -> Tensor:
    t = x.shape[1]
    if t < 4:
        y = x * 2
    elif t < 16:
        if t == 7:
            return x.sum(1, keepdim=True) + x
        y = x.cumsum(1)
    elif t == 17:
        y = -x
    else:
        y = x.flip(1)
    return y + 1


def _cropped_or_padded(x: Tensor) -> Tensor:
    if x.shape[1] > 16:
        return x[:, :16]
    return F.pad(x, (0, 0, 0, 16 - x.shape[1])) if x.shape[1] < 16 else x


def _power_of_four(x: Tensor) -> Tensor:
    n = 4
    while n < x.shape[1]:
        n *= 4
    return F.pad(x, (0, 0, 0, n - x.shape[1]))


def _halves(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return first.mean(1) - second.mean(1)


def _asserted(x: Tensor) -> Tensor:
    assert x.shape[1] >= 3
    return x * 2 if x.shape[1] > 8 else x


def _too_long() -> Tensor:
    raise ValueError("too long")


def _written(x: Tensor) -> Tensor:
    if x.shape[1] > 8:
        x.mul_(2)
    return x + 1


@dataclass(frozen=True)
class Problem:
    """A function of a float32 [n, t, 4]; sizes: the (n, t) at which it is called; raises: at which eager does."""

    f: Callable[[Tensor], Any]
    sizes: Sequence[tuple[int, int]] = tuple((3, t) for t in TIMES)
    raises: Callable[[int, int], bool] = lambda n, t: False


PROBLEMS = {
    "elif": Problem(_elif),
    "other sizes": Problem(_cropped_or_padded),
    "the rest of an axis": Problem(lambda x: x[:, 8:] @ torch.ones(4, 3) if x.shape[1] > 8 else x @ torch.ones(4, 3)),
    "a side's own sizes": Problem(lambda x: x.new_ones(x.shape[1] - 8, 4).sum(0) if x.shape[1] > 8 else x[0, 0]),
    "a product": Problem(lambda x: x.sum(1) if x.shape[0] * x.shape[1] > 20 else x.mean(1), PAIRS),
    "two sizes": Problem(lambda x: x.sum(0) if x.shape[0] > x.shape[1] else x.mean(0), PAIRS),
    "equal sizes": Problem(lambda x: x + x.transpose(0, 1) if x.shape[0] == x.shape[1] else x, PAIRS),
    "parity": Problem(lambda x: x[:, x.shape[1] % 2 :].reshape(3, -1, 2, 4).sum(2) if x.shape[1] % 2 else x[:, ::2]),
    "and, or": Problem(lambda x: -x if (x.shape[0] > 3 and x.shape[1] > 8) or x.shape[0] == 1 else x, PAIRS),
    "least of sizes": Problem(lambda x: x[:, : min(x.shape[1], 7)] * max(x.shape[0], 3), PAIRS),
    "a loop": Problem(_power_of_four),
    "a loop over what fits": Problem(
        lambda x: torch.stack([x[:, :k].sum(1) for k in (4, 8) if k <= x.shape[1]] or [x.sum(1)]).sum(0)
    ),
    "how many pieces": Problem(lambda x: torch.cat([p.sum(1) for p in x.split(8, 1)], 1)),
    "how many chunks": Problem(lambda x: torch.stack([p.sum(1) for p in x.chunk(4, dim=1)], 1)),
    "too few chunks": Problem(_halves, raises=lambda n, t: t < 2),
    "numbers": Problem(lambda x: (x.sum(1), x.shape[1]) if x.shape[1] > 8 else (x.mean(1), 3)),
    "an assertion": Problem(_asserted, raises=lambda n, t: t < 3),
    "an expression that raises": Problem(lambda x: x if x.shape[1] < 16 else _too_long(), raises=lambda n, t: t > 15),
    "an argument that is written": Problem(_written),
}


PLANNED = ("other sizes", "the rest of an axis", "a side's own sizes")


def _same(method: Method, model: nn.Module, x: Tensor) -> None:
    got = interpret(method.graph, (x.numpy().copy(),))
    wanted = tree_leaves(model(x))
    for g, w in zip(got, [*wanted, *([x] if len(got) > len(wanted) else [])], strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5, err_msg=f"{x.shape}")


@pytest.mark.parametrize("name", PROBLEMS)
def test_both_sides(name: str) -> None:
    problem = PROBLEMS[name]
    model = Model(problem.f)
    dims = {0: Dim("n", min=1, max=9)} if problem.sizes is PAIRS else {}
    dims[1] = Dim("t", min=1, max=40)
    program = capture(model, (torch.randn(3, 12, 4),), dynamic_shapes=(dims,))
    method = program.methods["forward"]
    for n, t in problem.sizes:
        x = torch.randn(n, t, 4)
        if problem.raises(n, t):
            with pytest.raises((AssertionError, ValueError)):
                model(x)
            with pytest.raises((AssertionError, InputError, ModelError, ValueError)):
                interpret(method.graph, (x.numpy(),))
        else:
            _same(method, model, x)
    if name in PLANNED:
        emit(program, native())  # which checks the plan: it has memory for a side that does not run


class Twice(nn.Module):
    """A submodule that is called for two sizes, shares weights between its sides, and writes state on one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("count", torch.zeros(2))

    def step(self, x: Tensor) -> Tensor:
        if x.shape[1] > 8:
            self.count[0] += 1
            return self.linear(x)  # type: ignore[no-any-return]
        return self.linear(x).relu() + self.count[0]  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self.step(x)[:, ::2])


def test_weights_are_one_and_state_is_kept() -> None:
    model = Twice().eval()
    t = Dim("t", min=1, max=40)
    program = capture(model, (torch.randn(2, 12, 4),), dynamic_shapes=({1: t},))
    assert sorted(c.name for c in constants(program)) == ["linear.bias", "linear.weight"]
    state: dict[Any, Any] = {}
    with torch.no_grad():
        for n in (1, 8, 9, 16, 17, 40, 2):
            x = torch.randn(2, n, 4)
            (got,) = interpret(program.methods["forward"].graph, (x.numpy(),), state)
            np.testing.assert_allclose(got, model(x), rtol=1e-5, atol=1e-5, err_msg=str(n))


REFUSED = {
    "gives a float32.* instead of a float64": lambda x: x.double() if x.shape[1] > 8 else x,
    r"gives a float32\[3, t, 4\] instead of a float32\[3, 4\]": lambda x: x.sum(1) if x.shape[1] > 8 else x,
    "other tuples": lambda x: (x, x) if x.shape[1] > 8 else (x,),
    "gives a tensor instead of a constant": lambda x: (x, None) if x.shape[1] > 8 else (x, x),
    "differs in too many cases": lambda x: torch.cat([p.sum(1, keepdim=True) for p in x.split(16, 1)], 1),
    "more than 3 ways": lambda x: x * sum(k for k in range(40) if x.shape[1] > k),
    "compare integers": lambda x: x * 2 if x.shape[1] * 0.7 >= 7.0 else x,
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_says_where_and_what_to_declare(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f = REFUSED[words]
    monkeypatch.setattr(sides, "MOST", 3)
    monkeypatch.setattr(joined, "MOST_TERMS", 1)
    with pytest.raises(CaptureError, match=words) as refused:
        capture(Model(f), (torch.randn(3, 12, 4),), dynamic_shapes=({1: Dim("t", min=1, max=40)},))
    assert "torch.export.Dim with min and max" in str(refused.value)
    capture(Model(f), (torch.randn(3, 12, 4),), dynamic_shapes=({1: Dim("t", min=12, max=13)},))


N, T = sympy.symbols("n t", integer=True, nonnegative=True)
RELATIONS = [
    N > 3,
    T < 9,
    N * T > 20,
    sympy.Ne(N, 1),
    sympy.Eq(T % 3, 1),
    N > T,
    sympy.Or(N > 5, T > 5),
    2 * N - T >= 4,
]


@pytest.mark.parametrize("most", [12, 4000])
def test_regions_imply_what_holds_in_them(most: int) -> None:
    """Of few sizes exactly that; of many nothing that does not hold for some."""
    n_, t_ = symbol("n"), symbol("t")
    declared = {n_: Range(1, most), t_: Range(1, most)}
    grid = [(n, t) for n in range(1, 13) for t in range(1, 13)]
    true = {r: {at for at in grid if bool(r.subs({N: at[0], T: at[1]}))} for r in RELATIONS}
    for one, other in itertools.combinations(RELATIONS, 2):
        region = Region(declared).where(one).where(other)
        inside = true[one] & true[other]
        for r in (one, other, *RELATIONS):
            implied = region.implies(r)
            assert not implied or inside <= true[r], (one, other, r)
            assert implied or most > 12 or not inside <= true[r], (one, other, r)
        assert all(region.ranges[n_].min <= n <= (region.ranges[n_].max or n) for n, _ in inside)
        sizes = region.sample({n_: 6, t_: 6})
        assert sizes is None or (sizes[n_], sizes[t_]) in inside or max(sizes.values()) > 12


def test_an_indicator_is_one_where_its_relation_holds() -> None:
    symbols = Symbols()
    n_, t_ = (symbols.define(name, Range(1, 12)) for name in "nt")
    for relation in RELATIONS:
        e = indicator(relation, symbols.side({}, Region(symbols.ranges)))
        for n, t in itertools.product((1, 2, 5, 9, 12), (1, 3, 4, 8, 10)):
            assert e.at({n_: n, t_: t}) == bool(relation.subs({N: n, T: t})), (relation, n, t)
