"""What eager raises on the values of arguments, a compilation raises: indices out of range, integer divisions by zero.

Every problem is a function, a table of arguments on which eager is asked whether, and as what, it raises, and how many
checks its graph may have after the passes: none where it is known that they cannot fail.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.export import Dim

import neve
from neve.capture.export import capture
from neve.ir.graph import Program
from neve.ir.interpret import interpret
from neve.ir.walk import graphs
from neve.passes.pipeline import optimize

N, WIDE = 5, 2**40
X = torch.arange(20.0).reshape(N, 4) / 7


def whole(*values: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


@dataclass(frozen=True)
class Problem:
    """f takes one of calls, each a tuple of tensors of the same shapes; the first is the example."""

    f: Callable[..., Any]
    calls: tuple[tuple[torch.Tensor, ...], ...]
    checks: int = 1


def over(f: Callable[[torch.Tensor], Any], *tails: int, checks: int = 1, dtype: torch.dtype = torch.int64) -> Problem:
    """f of [1, k] for k in range, at both ends of it, and beyond."""
    values = (0, *(tails or (N - 1, N, -1, -N, -N - 1)), *((WIDE, -WIDE) if dtype is torch.int64 else ()))
    return Problem(f, tuple((whole(1, k, dtype=dtype),) for k in values), checks)


def divided(f: Callable[..., Any], dtype: torch.dtype = torch.int64) -> Problem:
    x = whole(7, 8, dtype=dtype)
    return Problem(f, ((x, whole(2, 3, dtype=dtype)), (x, whole(3, 0, dtype=dtype)), (x, whole(0, 1, dtype=dtype))))


def masks(f: Callable[..., Any], have: int, checks: int = 1) -> Problem:
    """A source of so many elements for masks with 0 to 4 places."""
    places = [torch.arange(4) < k for k in (1, 0, 2, 3, 4)]
    return Problem(f, tuple((m, torch.arange(float(have))) for m in places), checks)


def row(i: torch.Tensor) -> torch.Tensor:
    return i.reshape(1, 2)


def rows(i: torch.Tensor) -> torch.Tensor:
    return i.reshape(2, 1).expand(2, 4)


def losses(f: Callable[..., Any]) -> Problem:
    return over(lambda i: f(X[:2], i), 3, 4, -1, -100, -99)


V, MANY = torch.full((2, 4), 0.5), X.repeat(30, 1)
PROBLEMS: dict[str, Problem] = {
    "embedding": over(lambda i: F.embedding(i, X)),
    "embedding of int32": over(lambda i: F.embedding(i, X), dtype=torch.int32),
    "embedding, padding_idx": over(lambda i: F.embedding(i, X, padding_idx=2)),
    "embedding twice": over(lambda i: F.embedding(i, X) + F.embedding(i.flip(0), X) + F.embedding(row(i), X)[0]),
    "embeddings of other sizes": over(lambda i: F.embedding(i, X) + F.embedding(i, X[:3]), checks=2),
    "gather": over(lambda i: X.gather(0, row(i))),
    "gather along 1": over(lambda i: X.gather(1, row(i)), 3, 4, -1),
    "index_select": over(lambda i: X.index_select(0, i)),
    "index": over(lambda i: X[i]),
    "index, two axes": over(lambda i: X[i, i.flip(0)], 3, 4, 5, -4, -5, checks=2),
    "index of int32": over(lambda i: X[i], dtype=torch.int32),
    "index by a number": over(lambda i: X[:, i[1:]], 3, 4, -4, -5),
    "index, nothing read": over(lambda i: X[:, :0][i], checks=0),
    "take": over(lambda i: X.take(i + 0), 19, 20, -20, -21),
    "take_along_dim": over(lambda i: torch.take_along_dim(X, rows(i), 0), checks=0),
    "take_along_dim of all": over(lambda i: torch.take_along_dim(X, i), 19, 20, -1),
    "index_put": over(lambda i: X.index_put((i,), X[:1])),
    "index_put, added": over(lambda i: X.index_put((i,), X[:1], accumulate=True)),
    "index_add": over(lambda i: X.index_add(0, i, V, alpha=2)),
    "index_add of one axis": over(lambda i: X[:, 0].index_add(0, i, V[0, :2])),
    "index_copy": over(lambda i: X.index_copy(0, i, V)),
    "index_fill": over(lambda i: X.index_fill(0, i, 2.0)),
    "scatter": over(lambda i: X.scatter(0, rows(i), V)),
    "scatter of a number": over(lambda i: X.scatter(1, row(i), 3.0), 3, 4, -1),
    "scatter_add": over(lambda i: X.scatter_add(0, rows(i), V)),
    "scatter_reduce": over(lambda i: X.scatter_reduce(0, rows(i), V, "amax")),
    "cross_entropy": losses(F.cross_entropy),
    "cross_entropy, weights": losses(lambda x, i: F.cross_entropy(x, i, torch.arange(4.0) + 1)),
    "cross_entropy, ignore_index": losses(lambda x, i: F.cross_entropy(x, i, ignore_index=-1, label_smoothing=0.1)),
    "nll_loss": losses(lambda x, i: F.nll_loss(x, i, reduction="none")),
    "nll_loss of images": over(lambda i: F.nll_loss(X.reshape(1, 5, 2, 2), i.repeat(2).reshape(1, 2, 2)), 4, 5, -1),
    "multi_margin_loss": over(lambda i: F.multi_margin_loss(X[:2], i), 3, 4, -1),
    "one_hot": over(lambda i: F.one_hot(i, N), checks=2),
    "max_unpool1d": over(lambda i: F.max_unpool1d(row(i).float() * 0 + 1, row(i), 2), 3, 4, -1),
    "max_unpool2d": over(lambda i: F.max_unpool2d(X[:2, :1, None], i[:, None, None], 2), 2, 3, 4, -1),
    "max_unpool3d": over(lambda i: F.max_unpool3d(X[:2, :1, None, None], i.reshape(2, 1, 1, 1), 2), 7, 8, -1),
    "masked_scatter": masks(lambda m, v: torch.zeros(4).masked_scatter(m, v), 2),
    "masked_scatter, enough": masks(lambda m, v: torch.zeros(4).masked_scatter(m, v), 4, checks=0),
    "floor_divide": divided(lambda a, b: a // b),
    "floor_divide of uint8": divided(lambda a, b: a // b, torch.uint8),
    "div, trunc": divided(lambda a, b: torch.div(a, b, rounding_mode="trunc")),
    "remainder": divided(lambda a, b: a % b),
    "remainder of a number": divided(lambda a, b: 7 % b + a),
    "fmod": divided(lambda a, b: torch.fmod(a + 0, b), torch.int32),
    "division and remainder": divided(lambda a, b: a // b + a % b),
    "broadcast division": divided(lambda a, b: a[:, None] // b),
    "mixed division": divided(lambda a, b: a // b.to(torch.int8)),
}


def no_check(f: Callable[[torch.Tensor], Any]) -> Problem:
    return over(f, 1, 3, 7, -9, checks=0)


PROBLEMS |= {
    "known: constants": no_check(lambda i: X[whole(0, -1)] + i.sum()),
    "known: arange": no_check(lambda i: F.embedding(torch.arange(2), X) + i[:, None]),
    "known: argmax": no_check(lambda i: F.embedding((i[:, None] * X[:2]).argmax(0), X)),
    "known: topk": no_check(lambda i: X[(i[0] + X[:, 0]).topk(2)[1]]),
    "known: sort": no_check(lambda i: X.gather(0, (X * i.sum()).argsort(0))),
    "known: clamp": no_check(lambda i: F.embedding(i.clamp(0, N - 1), X)),
    "known: bounds as tensors": no_check(lambda i: X[torch.minimum(torch.maximum(i, whole(-N)), whole(N - 1))]),
    "known: remainder": no_check(lambda i: F.embedding(i % N, X)),
    "known: a comparison": no_check(lambda i: F.embedding((i > 2).long() + 2, X)),
    "known: a mask's sum": no_check(lambda i: F.embedding((i > 0).long().cumsum(0) + 1, X)),
    "known: where": no_check(lambda i: F.embedding(torch.where(i > 2, 1, 4), X)),
    "known: of known ones": no_check(lambda i: F.embedding(whole(0, 1, 2)[i % 3], X)),
    "known: bits": no_check(lambda i: F.embedding(i & 3, X)),
    "known: uint8": no_check(lambda i: F.embedding(i.to(torch.uint8).int(), X.repeat(60, 1))),
    "known: arithmetic": no_check(lambda i: F.embedding((i % 3) * 2 // 3 + 1, X)),
    "known: joined": no_check(lambda i: F.embedding(torch.cat((i % N, whole(3))), X)),
    "known: divisors": no_check(lambda i: i // 3 + i // i.clamp(min=1) + i % i.clamp(max=-2) + i // whole(2, -3)),
    "known: true division": no_check(lambda i: 1 / (i - 1)),
    "known: floats": no_check(lambda i: (i.float() - 1) // (i.float() - 1)),
    "not known: clamped to other sizes": over(lambda i: F.embedding(i.clamp(0, N), X)),
    "not known: sums that wrap": over(lambda i: F.embedding(i.clamp(0, 127).to(torch.int8).add(1).long(), MANY), 127),
    "not known: one bound": over(lambda i: F.embedding(i.clamp(max=N - 1), X), 7, -1),
}  # fmt: skip


class Model(nn.Module):
    """A method for each problem."""

    def __init__(self) -> None:
        super().__init__()
        for k, problem in enumerate(PROBLEMS.values()):
            setattr(self, f"m{k}", problem.f)


@pytest.fixture(scope="module")
def compiled() -> Any:
    methods = {f"m{k}": p.calls[0] for k, p in enumerate(PROBLEMS.values())}
    return neve.compile(Model().eval(), methods=methods, verify=False, threads=2)


class One(nn.Module):
    def __init__(self, f: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.f = f
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        return self.f(*args)


def raises(program: Program, method: str = "forward") -> int:
    return sum(n.op.name == "raise" for g in graphs(program.methods[method].graph) for n in g.nodes)


def outcome(f: Callable[..., Any], args: tuple[torch.Tensor, ...]) -> Any:
    """The result as an array, or the type of what was raised."""
    try:
        got = f(*args)
    except neve.ModelError as error:
        return IndexError if isinstance(error, IndexError) else RuntimeError
    except (IndexError, RuntimeError) as error:
        return error if isinstance(error, neve.NeveError) else type(error)
    return np.asarray(got[0] if isinstance(got, tuple) else got)


def same(got: Any, want: Any) -> bool:
    if isinstance(want, type):
        return got is want
    return not isinstance(got, type) and np.allclose(got, want, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", PROBLEMS)
def test_raises_where_eager_does(name: str, compiled: Any) -> None:
    problem = PROBLEMS[name]
    method = f"m{list(PROBLEMS).index(name)}"
    program = capture(One(problem.f), problem.calls[0])
    small, _ = optimize(program)
    assert raises(small) == problem.checks
    wanted = [outcome(problem.f, args) for args in problem.calls]
    assert not isinstance(wanted[0], type)
    for args, want in zip(problem.calls, wanted, strict=True):
        arrays = [a.numpy() for a in args]
        for p in (program, small):
            got = outcome(lambda *a, p=p: interpret(p.methods["forward"].graph, a), arrays)  # type: ignore[misc, arg-type]
            assert same(got, want), (arrays, got, want)
        got = outcome(getattr(compiled, method), args)
        assert same(got, want), (arrays, got, want)


def test_the_message_names_what_was_wrong_and_the_line() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(N, 4)

        def forward(self, i: torch.Tensor) -> torch.Tensor:
            return self.table(i)  # the line of the model

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, i: torch.Tensor) -> torch.Tensor:
            return self.inner(i) * 2

    module = neve.compile(Outer().eval(), (whole(0, 1),))
    with pytest.raises(neve.ModelError, match=r"IndexError: embedding: .*not in 0\.\.4") as raised:
        module(whole(0, N))
    assert "in inner.table, " in str(raised.value) and "test_raising.py:" in str(raised.value)
    assert "self.table(i)" in str(raised.value)
    assert "NEVE_RAISED + 0: IndexError: embedding" in module.artifact.sources["model.h"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_call_that_raises_leaves_state_and_threads_as_they_were(threads: int) -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(N, 64)
            self.register_buffer("seen", torch.zeros(64))
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x: torch.Tensor, i: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
            self.seen += x.sum(1)  # a reduction, in whose loop the copy to the buffer could run
            self.calls += 1
            y = self.table(i + self.calls - 1) + (self.seen / 2)
            return y * (x.sum() / (7 // n.sum()))

    torch.manual_seed(0)
    model = Counter().eval()
    good = [(torch.randn(64, 300), whole(0, k % 3), whole(1, 1)) for k in range(2)]
    module = neve.compile(model, good[0], threads=threads)
    module.reset()
    for args in good:
        np.testing.assert_allclose(module(*args).numpy(), model(*args).detach().numpy(), rtol=1e-4, atol=1e-4)
        for bad in ((args[0], whole(0, N), args[2]), (args[0], args[1], whole(1, -1))):
            before = {k: np.array(v) for k, v in module.state.items()}
            with pytest.raises(neve.ModelError):
                module(*bad)
            for k, v in module.state.items():
                np.testing.assert_array_equal(v, before[k], err_msg=k)


def test_a_branch_checks_only_what_it_runs() -> None:
    def f(p: torch.Tensor, i: torch.Tensor) -> Any:
        return torch.cond(p, lambda i: X[i] * 2, lambda i: (7 // i)[:, None] + X[:2] * 0, (i,))

    module = neve.compile(One(f), (torch.tensor(True), whole(1, 2)))
    for p in (True, False):
        for i in (whole(1, 2), whole(0, 1), whole(1, N), whole(0, N)):
            args = torch.tensor(p), i
            assert same(outcome(module, args), outcome(f, args)), args


def test_a_loop_checks_each_iteration() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("step", torch.tensor([1, 2, 3, 7, 0]))

        def forward(self, i: torch.Tensor, n: torch.Tensor) -> Any:
            return torch.while_loop(lambda i, n: n > 0, lambda i, n: (self.step.index_select(0, i), n - 1), (i, n))[0]

    f = Steps()
    module = neve.compile(f, (whole(0), torch.tensor(2)))
    for start, n in ((0, 0), (0, 3), (0, 4), (0, 5), (4, 5), (4, 6), (-1, 2)):
        args = whole(start), torch.tensor(n)
        assert same(outcome(module, args), outcome(f, args)), args


def test_positions_within_the_declared_range_of_a_size_are_not_checked() -> None:
    table = nn.Embedding(16, 3)

    def f(x: torch.Tensor) -> torch.Tensor:
        t = x.shape[1]
        last = x.gather(1, x.argmax(1, keepdim=True)) + (torch.arange(t) // t)
        return table(torch.arange(t))[:, 0] + x + x[:, torch.arange(t - 1, -1, -1)] + last

    for most, count in ((16, 0), (17, 1)):
        size = {1: Dim("t", min=1, max=most)}
        program, _ = optimize(capture(One(f, table=table), (torch.randn(2, 5),), dynamic_shapes=((size,),)))
        assert raises(program) == count


def test_nothing_to_index_raises_nothing() -> None:
    size = ({0: Dim("n", min=0, max=8)},)
    program, _ = optimize(capture(One(lambda i: X[i]), (whole(1, 2, 3),), dynamic_shapes=(size,)))
    assert raises(program) == 1
    (got,) = interpret(program.methods["forward"].graph, (np.zeros(0, np.int64),))
    assert got.shape == (0, 4)


def test_python_numbers_are_divided_once() -> None:
    class Scripted(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x * (int(x.sum()) // int(y.sum()))

    program, _ = optimize(capture(torch.jit.script(Scripted()), (whole(3, 4), whole(1, 2))))
    assert raises(program) == 1
    with pytest.raises(neve.ModelError, match="division by zero"):
        interpret(program.methods["forward"].graph, (np.array([3, 4]), np.array([1, -1])))


def test_entries_behind_the_length_of_what_has_grown_divide_nothing() -> None:
    class Scripted(nn.Module):
        def forward(self, x: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            out = x[:0]
            for i in range(x.size(0)):
                if bool(keep[i] > 0):
                    out = torch.cat([out, x[i : i + 1]])
            return torch.remainder(x[:1], out), torch.div(x[:1], out, rounding_mode="trunc")

    x, model = whole(3, 7, 0), torch.jit.script(Scripted())
    module = neve.compile(model, (x, whole(1, 0, 0)))
    for keep in itertools.product((0, 1), repeat=3):
        assert same(outcome(module, (x, whole(*keep))), outcome(model, (x, whole(*keep)))), keep


SMALL: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv1d": (nn.Conv1d(1, 3, 2, stride=2), (3, 1, 4)),
    "conv2d": (nn.Conv2d(1, 3, 2), (1, 1, 4, 5)),
    "valid": (nn.Conv1d(1, 3, 2, padding="valid"), (3, 1, 4)),
    "transposed": (nn.ConvTranspose1d(1, 3, 2, padding=1), (3, 1, 4)),
    "padded": (lambda x: F.conv1d(F.pad(x, (-1, 0)), torch.ones(3, 2, 2), padding=1), (3, 2, 4)),
    "same": (lambda x: F.conv1d(F.pad(x, (-1, 0)), torch.ones(3, 2, 3), padding="same"), (3, 2, 4)),
    "unpadded transposed": (lambda x: F.conv_transpose1d(F.pad(x, (-1, 0)), torch.ones(2, 3, 4)), (3, 2, 4)),
    "padded pool": (lambda x: F.max_pool1d(x[..., 1:], 2, padding=1), (3, 1, 4)),
    "padded mean": (lambda x: F.avg_pool2d(x[..., 1:, :], 2, padding=1), (1, 1, 4, 5)),
    "adaptive": (lambda x: F.adaptive_avg_pool1d(x[..., 1:], 2), (3, 1, 4)),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x[..., 1:, :], 2), (1, 1, 4, 5)),
    "windows": (lambda x: F.unfold(x[..., 1:, :], 2, padding=1), (1, 1, 4, 5)),
    "enlarged": (lambda x: F.interpolate(x[..., 1:], size=3), (3, 1, 4)),
    "replicated": (lambda x: F.pad(x[..., 1:], (1, 1), "replicate"), (3, 1, 4)),
    "max_pool": (nn.MaxPool1d(2), (3, 1, 4)),
    "avg_pool": (nn.AvgPool2d(2), (1, 1, 4, 5)),
    "interpolate": (nn.Upsample(scale_factor=0.4), (3, 1, 4)),
    "bilinear": (nn.Upsample(scale_factor=0.4, mode="bilinear"), (1, 1, 4, 5)),
    "median": (lambda x: x[..., 2:].median(2)[0], (3, 1, 4)),
    "mode": (lambda x: x[..., 2:].mode(2)[0], (3, 1, 4)),
    "amax": (lambda x: x[..., 2:].amax(2), (3, 1, 4)),
    "argmax": (lambda x: x[..., 2:].argmax(2), (3, 1, 4)),
}


@pytest.mark.parametrize("name", SMALL)
def test_what_eager_raises_on_small_sizes(name: str) -> None:
    f, shape = SMALL[name]
    program = capture(Applied(f).eval(), (torch.randn(shape),), dynamic_shapes=({2: Dim("n", min=1, max=12)},))
    raised = 0
    for n in range(1, 7):
        x = torch.randn(*shape[:2], n, *shape[3:])
        with torch.no_grad():
            raised += _outcome(lambda x=x: f(x)) is None
            assert _outcome(lambda x=x: f(x)) == _outcome(
                lambda x=x: interpret(program.methods["forward"].graph, (x.numpy(),))[0]
            )
    assert raised or name == "transposed"


def _outcome(call: Callable[[], Any]) -> tuple[int, ...] | None:
    """The shape of what a call gives; None if it raises."""
    try:
        return tuple(call().shape)
    except (neve.ModelError, neve.InputError, RuntimeError, IndexError):
        return None


class Applied(nn.Module):
    def __init__(self, f: Any) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: torch.Tensor) -> Any:
        return self.f(x)
