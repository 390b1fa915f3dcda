"""Models with forward hooks, of kinds that torch.jit compiles and others."""

import torch
from torch import nn

X = torch.tensor([1.0, -2.0, 0.5])


class Child(nn.Module):
    def forward(self, x):
        return x + 1


class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 3
        return x - 1


def doubled(self, input: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    return output * 2


def looked_at(self, input: tuple[torch.Tensor], output: torch.Tensor) -> None:
    assert output.dim() == 1


def negated(self, input: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (-input[0],)


def untyped(module, args, output):
    return output + args[0]


def untyped_pre(module, args):
    return args[0] * 0.5


class Root(nn.Module):
    def __init__(self, inner, *, root=(), child=(), pre=(), root_pre=()):
        super().__init__()
        self.inner = inner()
        for hook in root:
            self.register_forward_hook(hook)
        for hook in child:
            self.inner.register_forward_hook(hook)
        for hook in pre:
            self.inner.register_forward_pre_hook(hook)
        for hook in root_pre:
            self.register_forward_pre_hook(hook)

    def forward(self, x):
        return self.inner(x) * 5 - self.inner(x + 1)


HOOKS = [
    {"child": (doubled,)},
    {"pre": (negated,)},
    {"root": (doubled,)},
    {"root_pre": (negated,)},
    {"root": (doubled, untyped), "root_pre": (negated, untyped_pre), "child": (looked_at,), "pre": (negated,)},
    {"child": (untyped,), "pre": (untyped_pre,)},
    {"child": (lambda module, args, output: output * 7,)},
]
