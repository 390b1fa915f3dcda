"""Random numbers of compiled models: those of eager after the same seed, call after call, in order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import neve
from neve.check.verify import relative_error, tolerance
from neve.ops.random import DEFAULT_SEED

X = torch.linspace(-2, 2, 120).reshape(3, 40)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


class Function(nn.Module):
    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: torch.Tensor) -> Any:
        return self.f(x)


def diffusion(x: torch.Tensor) -> torch.Tensor:
    for _ in range(3):
        x = x * 0.9 + torch.randn_like(x) * 0.1
    return x


def one_branch(x: torch.Tensor) -> torch.Tensor:
    drawn = torch.cond(x.sum() > 0, lambda x: x + torch.randn_like(x), lambda x: x * 1.0, (x,))
    return drawn + torch.rand(1)


def while_drawing(x: torch.Tensor) -> Any:
    def more(i: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return i < 3

    def step(i: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return i + 1, y + torch.rand(3, 40)

    return torch._higher_order_ops.while_loop(more, step, (torch.zeros((), dtype=torch.int64), x))[1]


def unused_last(x: torch.Tensor) -> torch.Tensor:
    y = x + torch.rand(40)
    torch.randn(17)
    return y


CASES: dict[str, Callable[..., Any]] = {
    "latent": lambda x: x + torch.randn_like(x) * (0.5 * x).exp(),
    "noise": lambda x: x * 0.5 + torch.randn_like(x),
    "filled": lambda x: (
        torch.rand(3, 5), torch.randn(7), torch.randint(-3, 9, (4,)), torch.randint_like(x, 3, 7), torch.randperm(9),
        torch.empty(5).uniform_(-1, 1), torch.empty(9).exponential_(2.0), torch.empty(9).cauchy_(),
        torch.empty(9).log_normal_(), torch.empty(9).geometric_(0.3), torch.empty(4, dtype=torch.int64).random_(),
    ),
    "of_tensors": lambda x: (
        torch.bernoulli(x.sigmoid()), torch.bernoulli(x, 0.3), torch.empty(5).bernoulli_(0.5),
        torch.normal(x, 0.5), torch.normal(0.5, x.abs()), torch.normal(x, x.abs()), torch.normal(1.0, 2.0, (20,)),
    ),
    "decoder": lambda x: (
        torch.multinomial(x.softmax(-1), 1), torch.multinomial(x.softmax(-1), 5, True),
        torch.multinomial(x[0].softmax(-1), 5), torch.distributions.Categorical(logits=x).sample(),
    ),
    "distributions": lambda x: (
        torch.distributions.Normal(x, x.abs() + 1).rsample(), torch.distributions.Bernoulli(logits=x).sample(),
        F.gumbel_softmax(x, hard=True),
    ),
    "dropout": lambda x: (
        F.dropout(x, 0.3, True), F.dropout(x.t(), 0.3, True), F.dropout(x * 2, 0.3, True, True),
        F.alpha_dropout(x, 0.3, True), F.dropout2d(x.reshape(3, 4, 10, 1), 0.3, True), F.rrelu(x, training=True),
        F.scaled_dot_product_attention(x, x, x, dropout_p=0.4),
    ),
    "order_in_memory": lambda x: (torch.randn_like(x.t()), torch.rand_like(x.t()), torch.empty_like(x.t()).normal_()),
    "diffusion": diffusion,
    "one_branch": one_branch,
    "while_drawing": while_drawing,
    "unused_last": unused_last,
}  # fmt: skip
DTYPES = {"noise": (torch.float64, torch.float16, torch.bfloat16), "dropout": (torch.float64,)}


def close(got: Any, want: Any) -> None:
    for g, w in zip(*(v if isinstance(v, tuple) else (v,) for v in (got, want)), strict=True):
        assert g.dtype is w.dtype
        a, b = (t.double().numpy() if t.is_floating_point() else t.numpy() for t in (g, w))
        assert relative_error(a, b) <= tolerance(str(w.dtype).removeprefix("torch."))


def compiled(f: Callable[..., Any], x: torch.Tensor) -> tuple[nn.Module, neve.Module]:
    model = Function(f).eval()
    before = torch.get_rng_state()
    module = neve.compile(model, (x,))
    assert torch.equal(before, torch.get_rng_state()), "compile must not move torch's generator"
    return model, module


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for n in CASES for d in (torch.float32, *DTYPES.get(n, ()))], ids=str
)
def test_the_numbers_are_eager_s(name: str, dtype: torch.dtype) -> None:
    x = X.to(dtype)
    model, module = compiled(CASES[name], x)
    torch.manual_seed(11)
    torch.randn(3)  # so that a number of a pair is kept
    wants = [model(x), model(-x), torch.rand(1), model(x)]
    torch.manual_seed(11)
    torch.randn(3)
    for got, want in zip([module(x), module(-x), torch.rand(1), module(x)], wants, strict=True):
        close(got, want)


def test_a_stream_of_its_own() -> None:
    model, module = compiled(CASES["latent"], X)
    torch.manual_seed(-3)
    wants = [model(X), model(X)]
    module.manual_seed(-3)
    before = torch.get_rng_state()
    for want in wants:
        torch.rand(5)  # moves torch's generator, not the module's
        close(module(X), want)
    torch.set_rng_state(before)
    module.reset()
    want = model(X)
    torch.set_rng_state(before)
    close(module(X), want)


def test_threads_give_the_same_bits() -> None:
    _, module = compiled(lambda x: torch.randn(70007) * x.sum(), X)
    found = []
    for threads in (1, 2, 3):
        module.threads = threads
        module.manual_seed(4)
        found.append(module(X))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_methods_share_the_generator() -> None:
    class Two(nn.Module):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x)

        def sample(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.rand(3)[0]

    model = Two().eval()
    module = neve.compile(model, methods={"encode": (X,), "sample": (X,)})
    torch.manual_seed(9)
    wants = [model.encode(X), model.sample(X), model.encode(X)]
    module.manual_seed(9)
    for got, want in zip([module.encode(X), module.sample(X), module.encode(X)], wants, strict=True):
        close(got, want)


def test_layers_in_training_mode_within_a_model_in_evaluation_mode() -> None:
    layers = (nn.Sequential(nn.Linear(40, 8), nn.Dropout(0.3)), X), (nn.LSTM(8, 6, 3, dropout=0.4), torch.ones(2, 4, 8))
    for part, x in layers:
        model = nn.Sequential(part).eval()
        part.train()
        module = neve.compile(model, (x,))
        torch.manual_seed(3)
        with torch.no_grad():
            want = model(x)
        torch.manual_seed(3)
        got = module(x)
        close(got[0] if isinstance(got, tuple) else got, want[0] if isinstance(want, tuple) else want)


def test_without_torch_the_stream_is_that_of_the_default_seed(tmp_path: Path) -> None:
    model, module = compiled(CASES["latent"], X)
    module.save(tmp_path / "m.neve")
    np.save(tmp_path / "x.npy", X.numpy())
    code = (
        "import sys, numpy as np, neve; m = neve.load('m.neve'); x = np.load('x.npy'); "
        "np.savez('y.npz', m(x), m(x)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    torch.manual_seed(DEFAULT_SEED)
    for got in np.load(tmp_path / "y.npz").values():
        close(torch.from_numpy(got), model(X))


def test_what_eager_raises_is_raised() -> None:
    _, module = compiled(lambda x: torch.distributions.Normal(0.0, x, validate_args=True).sample(), X.abs() + 1)
    with pytest.raises(neve.ModelError, match="outside of its constraint"):
        module(-X.abs() - 1)
    _, module = compiled(lambda x: torch.multinomial(x, 1), X.abs() + 1)
    with pytest.raises(neve.ModelError, match="probability tensor"):
        module(-X.abs() - 1)


def test_a_model_that_draws_nothing_has_nothing_to_seed() -> None:
    _, module = compiled(lambda x: x + 1, X)
    with pytest.raises(neve.NeveError, match="draws no random numbers"):
        module.manual_seed(1)


def seeds(x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.rand_like(x)


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda x: torch.poisson(x.abs()), "poisson numbers are not reproduced"),
        (seeds, "the model seeds torch's generator"),
    ],
)
def test_refused(f: Callable[..., Any], why: str) -> None:
    with pytest.raises(neve.CaptureError, match=why):
        neve.compile(Function(f).eval(), (X,))


def test_an_overload_whose_name_is_a_word_of_python() -> None:
    model, module = compiled(lambda x: x.new_empty(4).random_(0, 9), X)
    results = []
    for f in (model, module):
        torch.manual_seed(5)
        results.append(f(X))
    assert torch.equal(*results)
