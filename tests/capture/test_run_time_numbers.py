"""Numbers that the run decides as arguments of ops that have no overload with a tensor, against eager."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neve.capture.torchscript.number_forms import FORMS
from tests.conformance.backends import interpret

F = nn.functional
X = torch.tensor([[1.0, -3.0, 0.2, 0.0, -0.4], [2.0, 0.5, -0.1, 0.3, 30.0], [-0.5, 0.4, 0.6, -2.0, 1.5]])


class Called(nn.Module):
    """Each of FORMS, under its name."""

    def forward(self, x):
        s = float(x.abs().mean()) * 0.1 + 0.1
        return {
            "add": (torch.add(x, x * x, alpha=s), torch.add(x.long(), x.long(), alpha=int(s) + 2)),
            "sub": torch.sub(x, x * x, alpha=s),
            "addcmul": torch.addcmul(x, x, x, value=s),
            "addcdiv": torch.addcdiv(x, x, x.abs() + 1, value=s),
            "addmm": torch.addmm(x, x[:, :3], x, beta=s, alpha=2.0),
            "addmv": torch.addmv(x[:, 0], x, x[0], alpha=s),
            "baddbmm": torch.baddbmm(x[None] / 0, x[None, :, :3], x[None], beta=s - s, alpha=s),
            "celu": F.celu(x, s),
            "elu": (F.elu(x, s), F.elu(x.double(), s)),
            "hardshrink": F.hardshrink(x, s),
            "softshrink": F.softshrink(x, s),
            "hardtanh": (F.hardtanh(x, -s, s), F.hardtanh(x.clone(), 0.0, s, inplace=True)),
            "leaky_relu": (F.leaky_relu(x, s), F.leaky_relu(x.half(), s)),
            "logit": torch.logit(torch.sigmoid(x), eps=s * 0.1),
            "nan_to_num": torch.nan_to_num(x / x, nan=s),
            "new_full": x.new_full([2], s),
            "pad": F.pad(x, [1, 2], value=s),
            "constant_pad_nd": torch.constant_pad_nd(x, [1, 0, 0, 1], s),
            "scatter": x.scatter(1, torch.tensor([[0], [1], [4]]), s),
            "softplus": (F.softplus(x, s), F.softplus(x, 1.0, s)),
            "threshold": (F.threshold(x, s, 2.0), F.threshold(x, 0.1, s), F.threshold(x.half(), s, s)),
        }


class Item(nn.Module):
    """Those that torch.export can trace by itself."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        s = x.abs().mean().item() * 0.1 + 0.1
        return F.leaky_relu(x, s), F.elu(x, s), F.softplus(x, s), F.softplus(x, 1.0, s), x.clamp(-s, s)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", [Called, Item])
def test_each_computes_what_it_does_in_eager(kind: type[nn.Module]) -> None:
    model = kind().eval()
    run = interpret(model, (X,), {})
    for x in (X, -X * 3, X.flip(0) * 0.1):
        want = pytree.tree_leaves(model(x))
        for got, w in zip(run((x,)), want, strict=True):
            near = 1e-2 if w.dtype is torch.float16 else 1e-5
            torch.testing.assert_close(torch.from_numpy(got), w, rtol=near, atol=near, equal_nan=True)


def test_every_form_is_tested() -> None:
    assert set(Called()(X)) == set(FORMS)
