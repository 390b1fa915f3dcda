"""Numbers of a model's tensors: constants where no method writes them, whatever is computed from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neve.capture.diagnose import NotTraceable
from neve.capture.export import capture, export_methods
from neve.ir.interpret import interpret

X = torch.linspace(-1, 1, 10).reshape(2, 5)


class Model(nn.Module):
    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.f = f
        self.register_buffer("n", torch.tensor(3))
        self.register_buffer("sizes", torch.tensor([2, 3]))
        self.scale = nn.Parameter(torch.tensor(0.25))
        self.plain = torch.tensor([True, False, True, True, False])

    def forward(self, x: Tensor) -> Any:
        return self.f(self, x)

    def write(self, x: Tensor) -> Tensor:
        self.n += 1
        return x * self.n


def number(m: Any, x: Tensor) -> Any:
    return x[:, : int(m.n)] * m.n.item() + m.scale.detach().item() * float(m.scale.detach())


def branch(m: Any, x: Tensor) -> Any:
    return x * 2 if m.n > 2 and not bool((m.sizes == 0).any()) else x


def computed(m: Any, x: Tensor) -> Any:
    a, b = torch.cat((m.sizes, m.sizes[:1] * 2)).flip(0)[1:].tolist()
    return x.split([a, b], -1)[0] * (m.sizes.float().mean() + m.scale).round().item()


def array(m: Any, x: Tensor) -> Any:
    return x * float(np.sqrt(m.sizes.numpy()).sum()) + m.sizes.detach().cpu().numpy().tolist()[1]


def loop(m: Any, x: Tensor) -> Any:
    for k in range(m.n):
        x = x + k
    return x


def columns(m: Any, x: Tensor) -> Any:
    return torch.stack([x[:, i] * (2 if flag else m.n) for i, flag in enumerate(m.plain)], 1)


@pytest.mark.parametrize("f", [number, branch, computed, array, loop, columns], ids=lambda f: f.__name__)
def test_is_constant(f: Callable[..., Any]) -> None:
    model = Model(f).eval()
    (exported,) = export_methods(model, (X,), None, None, None)
    assert not any(
        "_local_scalar_dense" in str(node.target) or "aten.item" in str(node.target)
        for node in exported.program.graph.nodes
    )
    graph = capture(model, (X,)).methods["forward"].graph
    np.testing.assert_allclose(interpret(graph, [X.numpy()], {})[0], model(X).detach().numpy(), rtol=1e-6)


def written(m: Any, x: Tensor) -> Any:
    m.n.add_(1)
    return x * 2 if m.n > 4 else x


def written_later(m: Any, x: Tensor) -> Any:
    y = x * 2 if m.n > 4 else x
    m.n = m.n + 1
    return y


def written_as_data(m: Any, x: Tensor) -> Any:
    m.n.data.add_(1)
    return x * 2 if m.n > 4 else x


def drawn(m: Any, x: Tensor) -> Any:
    return x * 2 if torch.bernoulli(torch.full_like(m.scale, 0.5)) > 0 else x


def changed(m: Any, x: Tensor) -> Any:
    y = m.sizes * 2
    y += x[0, 0].long()
    return x * 2 if y[0] > 4 else x


def written_unregistered(m: Any, x: Tensor) -> Any:
    m.plain.logical_not_()
    return columns(m, x)


NO_CONSTANTS = [written, written_later, written_as_data, drawn, changed]


@pytest.mark.parametrize("f", NO_CONSTANTS, ids=lambda f: f.__name__)
def test_is_no_constant(f: Callable[..., Any]) -> None:
    with pytest.raises(NotTraceable, match="depends on the values of a tensor"):
        export_methods(Model(f).eval(), (X,), None, None, None)


def test_written_though_not_registered() -> None:
    with pytest.raises(NotTraceable, match=r"writes the attribute self\.plain"):
        export_methods(Model(written_unregistered).eval(), (X,), None, None, None)


def test_written_by_another_method() -> None:
    methods = {"forward": (X,), "write": (X,)}
    with pytest.raises(NotTraceable, match="depends on the values of a tensor"):
        export_methods(Model(branch).eval(), None, None, None, methods)


def test_preserved() -> None:
    model = Model(branch).eval()
    with pytest.raises(NotTraceable, match="depends on the values of a tensor"):
        export_methods(model, (X,), None, None, None, {model.n.untyped_storage()._cdata})
