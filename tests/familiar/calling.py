"""Section A: what optimize_for_mobile keeps, and in which forms it takes a model; here as far as results show it."""

import torch
from torch import Tensor, nn

from tests.familiar.case import Assign, Call, Case, Read, calls, randn
from tests.familiar.folding import IMAGE, norms

MOBILE = ("optimize_for_mobile",)
X = randn(2, 3)


class Kept(nn.Module):
    """Has an attribute, a child and methods to keep, one of which does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.other = nn.Linear(3, 3), nn.Linear(3, 2)
        self.scale, self.label = 2.0, "kept"

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale

    @torch.jit.export
    def nothing(self) -> None:
        pass

    @torch.jit.export
    def head(self, x: Tensor) -> Tensor:
        return self.other(self.forward(x))


class Plain(nn.Module):
    """Without parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def net() -> nn.Module:
    return norms(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))


CASES = [
    Case("A2", "train_mode", net, calls(IMAGE), form="script", train=True, entries=MOBILE),
    Case("A2", "without_example_inputs", net, calls(IMAGE, randn(1, 3, 4, 5)), examples=False),
    Case("A2", "without_example_inputs_scripted", net, calls(IMAGE), form="script", examples=False),
    Case(
        "A7",
        "attribute_and_child",
        Kept,
        [*calls(X), Assign("scale", 5.0), Read("label"), *calls(X)],
        preserved=("scale", "label", "other"),
        form="script",
    ),
    Case("A7", "named_twice", Kept, [*calls(X), Call((X,), "head")], preserved=("head", "head")),
    Case(
        "A12", "method_that_does_nothing", Kept, [*calls(X), Call((), "nothing")], preserved=("nothing",), form="script"
    ),
    Case("A12", "no_parameters", Plain, calls(X), form="trace"),
    Case("A16", "traced", net, calls(IMAGE), form="trace"),
    Case(
        "A16",
        "traced_in_train_mode",
        net,
        calls(IMAGE),
        form="trace",
        train=True,
        entries=MOBILE,
    ),
]
