"""Scripted programs whose control flow depends on data, and state in Python attributes, against torch.jit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.utils import _pytree as pytree

import neve
from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.interpret import interpret
from neve.ir.verify import verify_program
from neve.ops.control import If, While

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Loop(nn.Module):
    def forward(self, x, n: int):
        total = torch.zeros(3)
        k = 0
        for i in range(n):
            if bool(x[i % 3].sum() > 0):
                total += x[i % 3]
            elif i > 2:
                k += 2
                continue
            if k > 5:
                break
            total = total * 0.9
        return total, k


class Attributes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n = 0
        self.h = torch.zeros(3)
        self.entries = [1, 2]
        self.named = {"a": 1.0}
        self.register_buffer("b", torch.zeros(3))
        self.flag = True

    def forward(self, x):
        self.n += 1
        self.h = self.h + x
        self.entries[0] += 2
        self.named["a"] = self.named["a"] * 2
        self.b.add_(1)
        self.b[0] = float(self.n)
        self.flag = not self.flag
        if self.n > 2:
            self.h = torch.zeros(3)
        y = self.b
        y += 1
        return self.h * self.n + self.b, self.entries[0], self.named["a"], self.flag


class Raises(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            raise ValueError("positive")
        assert x.mean() > -2, "too low"
        while x.sum() < 5:
            x = x + 1
            if bool(x.max() > 100):
                raise RuntimeError("big")
        return x


class Rows(nn.Module):
    def forward(self, x, n: int):
        out = torch.zeros(4, 3)
        for i in range(n):
            out[i] = x * i
            out[i, 1] += 1
        return out


class Handed(nn.Module):
    def forward(self, x, y):
        z = x if bool(x.sum() > 0) else y
        return z + 1, z


class Early(nn.Module):
    def forward(self, x, n: int):
        if n == 0:
            return x, -1
        for i in range(n):
            x = x * 0.5
            if bool(x.abs().max() < 0.1):
                return x, i
        return x + 1, n


class Steps(nn.Module):
    def forward(self, x):
        r = torch.zeros(2)
        for i in range(x.size(0)):
            r = torch.tanh(r + x[i])
        return r


class Powers(nn.Module):
    def forward(self, x, n: int, a: float):
        return x * (n**2) + n // 3 + (-n) % 4 + int(a) + n / 2 + abs(a), n**2, -n // 2, a * n > 3


class Shared(nn.Module):
    """Writes through a tensor that is another one on one path only, then uses the other."""

    def forward(self, x):
        y = x * 1
        z = y if bool(x.sum() > 0) else x * 2
        z.add_(1)
        return y, z


class Grows(nn.Module):
    def forward(self, x):
        found = []
        while bool(x.sum() < 5):
            x = x + 1
            found.append(x)
        return torch.stack(found)


class GrowingState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.zeros(0, 3)

    def forward(self, x):
        self.seen = torch.cat((self.seen, x))
        return self.seen.sum(0)


ONES = torch.ones(2)
X = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))


class OneTensorTwice(nn.Module):
    """From the second call on, the write to a is one to b."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.zeros(3), torch.zeros(3)
        self.n = 0

    def forward(self, x):
        self.n += 1
        if self.n > 1:
            self.a.add_(1)
        else:
            pass
        self.a = x + 1
        self.b = self.a
        return self.b


class OneTakesTheOther(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.zeros(3), torch.zeros(3)

    def forward(self, x):
        self.b.add_(x[0])
        self.a = self.b
        return self.a + 1


PROBLEMS: list[tuple[nn.Module, list[tuple[Any, ...]]]] = [
    (Loop(), [(X, 5), (X, 0), (X, 17), (-X, 9), (-X.abs(), 12)]),
    (Attributes(), [(X[0],), (X[1],), (X[2],), (X[0],), (X[1],)]),
    (Raises(), [(-ONES,), (ONES,), (-5 * ONES,), (torch.tensor([99.5, -198]),)]),
    (Rows(), [(X[0], 3), (X[0], 0), (X[0], 4), (X[0], 5)]),
    (Handed(), [(X.abs(), X), (-X.abs(), X)]),
    (Early(), [(X, 4), (X, 0), (X, 50), (X * 0.1, 3)]),
    (Powers(), [(X, 5, 1.5), (X, -7, -2.5), (X, 0, 0.0)]),
]


def flat(value: Any) -> list[np.ndarray]:
    leaves = pytree.tree_leaves(value)
    return [x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in leaves]


@pytest.mark.parametrize(("model", "calls"), PROBLEMS, ids=lambda p: type(p).__name__)
def test_as_torch_jit(model: nn.Module, calls: list[tuple[Any, ...]]) -> None:
    scripted = torch.jit.script(model.eval())
    program = capture(scripted, calls[0])
    verify_program(program)
    state: dict[Any, Any] = {}
    graph = program.methods["forward"].graph
    assert any(isinstance(n.op, (If, While)) for n in graph.nodes) or isinstance(model, Powers)
    for args in calls:
        try:
            want = flat(scripted(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args)))
        except Exception:
            with pytest.raises(Exception, match=r"positive|too low|big|range"):
                interpret(graph, flat(args), dict(state))
            continue
        got = interpret(graph, flat(args), state)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("model", "calls"), PROBLEMS, ids=lambda p: type(p).__name__)
def test_compiled_as_torch_jit(model: nn.Module, calls: list[tuple[Any, ...]]) -> None:
    scripted = torch.jit.script(model.eval())
    module = neve.compile(scripted, calls[0], threads=1)
    for args in calls:
        try:
            want = flat(scripted(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args)))
        except Exception:
            with pytest.raises(neve.NeveError):
                module(*args)
            continue
        for g, w in zip(flat(module(*args)), want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5)


class ViewThenAssigned(nn.Module):
    """Written through a view of the old tensor, replaced, and the new one written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.h = torch.zeros(4)

    def forward(self, x):
        v = self.h[1:3]
        v.add_(x[0])
        self.h = self.h * 2
        self.h[0] = x[1]
        return self.h + 1, self.h[1:]


class BufferThroughViews(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("b", torch.zeros(2, 3))
        self.p = torch.zeros(2)

    def forward(self, x):
        self.b.t()[0].add_(x[0])
        self.p = self.b[:, 0].clone()
        self.b.view(-1)[5] = x[1]
        return self.b * 1, self.p


@pytest.mark.parametrize("cls", [ViewThenAssigned, BufferThroughViews])
def test_state_written_through_views(cls: type[nn.Module]) -> None:
    scripted, other = torch.jit.script(cls().eval()), torch.jit.script(cls().eval())
    module = neve.compile(other, (torch.ones(2),), threads=1)
    for k in range(4):
        x = torch.tensor([k + 0.5, 3.0 - k])
        for g, w in zip(flat(module(x)), flat(scripted(x.clone())), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-6)


def test_a_loop_over_a_size_that_varies() -> None:
    scripted = torch.jit.script(Steps())
    program = capture(scripted, (torch.randn(3, 2),), dynamic_shapes=({0: Dim("t", min=1, max=50)},))
    for n in (1, 3, 40):
        x = torch.randn(n, 2)
        (got,) = interpret(program.methods["forward"].graph, [x.numpy()])
        np.testing.assert_allclose(got, scripted(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "args", "wanted"),
    [
        (Shared(), (X,), "same as another one on some paths only"),
        (Grows(), (X * 0,), "no bound"),
        (GrowingState(), (X,), r"ever new forms.* seen is float32\[0, 3\], float32\[3, 3\], float32\[6, 3\]"),
        (OneTensorTwice(), (X[0],), "a and b are one tensor after the call"),
        (OneTakesTheOther(), (X,), "b and a are one tensor after the call"),
    ],
    ids=lambda p: type(p).__name__,
)
def test_what_could_be_silently_wrong_is_refused(model: nn.Module, args: tuple[Any, ...], wanted: str) -> None:
    with pytest.raises(CaptureError, match=wanted):
        capture(torch.jit.script(model.eval()), args)
