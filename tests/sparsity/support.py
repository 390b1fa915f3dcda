"""Models whose rows are pruned, and the comparison of shrunk models with masked ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neve.sparsity import SaliencyPruner


class Net(nn.Module):
    """Layers by name, and a forward given as a function of (self, x)."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.run = forward

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def settled(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, norms with statistics as if trained."""
    generator = torch.Generator().manual_seed(5)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            for t, low, high in ((m.running_mean, -1, 1), (m.running_var, 0.5, 2), (m.weight, 0.5, 2), (m.bias, -1, 1)):
                if t is not None:
                    t.data.uniform_(low, high, generator=generator)
    return model.eval()


def prune(
    model: nn.Module,
    x: Tensor,
    names: Sequence[str],
    cls: type[Any] = SaliencyPruner,
    examples: bool = False,
    **config: Any,
) -> tuple[nn.Module, list[str]]:
    """Mask rows of the named tensors, shrink, and compare results; the model, and what was warned of."""
    settled(model)
    pruner = cls({"sparsity_level": 0.5, **config})
    pruner.prepare(model, [{"tensor_fqn": name} for name in names])
    pruner.step()
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = model(x)
        assert pruner.prune((x,) if examples else None) is model
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)
    assert not any(parametrize.is_parametrized(m) for m in model.modules())
    return model, [str(w.message) for w in caught]


def shapes(model: nn.Module, *names: str) -> list[tuple[int, ...]]:
    return [tuple(model.get_submodule(n).weight.shape) for n in names]


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
FLAT = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
STEPS = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(3))
