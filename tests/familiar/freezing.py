"""Section F, constants: what freezing folds, and structures, checks, hooks and conversions that it keeps."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tests.familiar.case import Call, Case, calls
from tests.familiar.state import X, Y, Z


class Folded(nn.Module):
    """Attributes of all kinds that nothing writes."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4, 3))
        self.scale, self.count, self.on, self.name, self.none = 1.5, 3, True, "schnée", None
        self.pair = (2, torch.randn(3))
        self.table = {"a": torch.randn(3), "ü": torch.ones(3)}
        self.nested = [[1.0, 2.0], [3.0]]

    def forward(self, x: Tensor) -> Tensor:
        y = x @ (self.v.t() * 2 + self.w) @ self.v
        if self.on and self.name == "schnée" and self.none is None:
            y = y * self.scale + self.pair[1] * self.pair[0]
        for i in range(self.count):
            y = y + self.table["a"] * i + self.table["ü"]
        return y + self.nested[1][0]


class ReturnsParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        return self.w, [self.b, x + 1], {"w": self.w * 2}


class Unreferenced(nn.Module):
    """Has a list, a method and a child that nothing uses, which could not all be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)
        self.things = [object()]

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)

    def noise(self, x: Tensor) -> Tensor:
        return x + torch.rand(3)


class Tied(nn.Module):
    """One module at two paths, one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 3), nn.Linear(3, 5)
        self.out.weight = self.embed.weight
        self.again = self.embed

    def forward(self, i: Tensor) -> Tensor:
        return self.out(self.embed(i) + self.again(i))


class WithoutForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    @torch.jit.export
    def infer(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.linear(nn.functional.dropout(x, 0.5, self.training)) + x)


class FreshConstant(nn.Module):
    """What is returned is new at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3))

    def forward(self) -> tuple[Tensor, Tensor]:
        return torch.ones(3) * 2, self.w * 1


class Detaches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> tuple[Tensor, bool, bool]:
        y = x.detach()
        return y.float() + self.w.detach().to(torch.float32), x is y, x is x


class RandomConstant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(3)


class Prints(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print("called")
        return x + 1


class Converts(nn.Module):
    """To dtypes and devices, by name and like others."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w", torch.arange(3))
        self.low = nn.Parameter(torch.randn(3).half())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y = x.to("cpu", torch.float64) * self.w
        ones = torch.ones(3, dtype=torch.int32, device=x.device) + self.w
        return y, ones, self.low.to(x) + x, (x > 0).type_as(self.low) * self.low + self.w


class Containers(nn.Module):
    """Lists and dicts of modules and parameters, walked over and by constant keys."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Tanh()})
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(3)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x) * (i + 1)
        for w in self.weights:
            x = x + w
        return self.heads["b"](self.heads["a"](x)) + self.layers[-1](x)[:2]


class RunTimeKey(nn.Module):
    """A module chosen by an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)})
        self.layers = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])

    def forward(self, x: Tensor, key: str, i: int) -> Tensor:
        return self.heads[key](x) + self.layers[i](x)


class Raises(nn.Module):
    """Checks that depend on the input."""

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 100):
            raise ValueError("too large")
        assert x.min() > -50, "too small"
        return x + 1


class WritesInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor, parts: list[Tensor]) -> Tensor:
        x.mul_(2)
        parts[0][1:] += self.w[1:]
        return x + parts[0]


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None


class Structures(nn.Module):
    def forward(
        self,
        parts: dict[str, Tensor],
        pair: tuple[Tensor, list[Tensor]],
        more: Tensor | None = None,
    ) -> dict[str, list[Tensor]]:
        a, (b, c) = parts["a"] * 2, (pair[0], pair[1][0])
        packed = (a, [b, c])
        if more is not None:
            a = a + more
        return {"x": [a, packed[1][0] + 1], "y": [packed[1][1] - 1]}


class Named(nn.Module):
    def forward(self, x: Tensor) -> tuple[Pair, Tensor | None, list[Tensor]]:
        return Pair(x + 1, None), None, [x * 2, x - 1]


class Branching(nn.Module):
    """An attribute that is None."""

    bias: Tensor | None
    scale: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.bias = None
        self.scale = torch.full((3,), 2.0)

    def forward(self, x: Tensor) -> Tensor:
        bias, scale = self.bias, self.scale
        if bias is not None:
            x = x + bias
        return x * scale if scale is not None else x


class Hooked(nn.Module):
    """A hook before and one after the child."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(3, 3)
        self.child.register_forward_pre_hook(doubled)
        self.child.register_forward_hook(negated)

    def forward(self, x: Tensor) -> Tensor:
        return self.child(x)


def doubled(self: Any, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0] * 2,)


def negated(self: Any, args: tuple[Tensor], result: Tensor) -> Tensor:
    return -result + args[0]


class ChildTrains(nn.Module):
    """A child that is put back into training mode, whose norm then uses the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Forks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        future = torch.jit.fork(self.a, x)
        return torch.jit.wait(future) + self.a(x * 2)


CASES = [
    Case("F1", "attributes_of_all_kinds", Folded, calls(X)),
    Case("F1", "attributes_of_all_kinds_scripted", Folded, calls(X), form="script"),
    Case("F2", "returned_parameters", ReturnsParameter, calls(X)),
    Case("F2", "returned_parameters_scripted", ReturnsParameter, calls(X), form="script"),
    Case("F3", "unreferenced", Unreferenced, calls(X)),
    Case("F9", "tied", Tied, calls(torch.tensor([1, 4]))),
    Case("F9", "tied_scripted", Tied, calls(torch.tensor([1, 4])), form="script"),
    Case("F16", "none_folds", Branching, calls(X), form="script"),
    Case(
        "F18", "fresh_constants", FreshConstant, [Call((), spoils=True), Call((), spoils=True), Call(())], form="script"
    ),
    Case("F18", "fresh_constants_eager", FreshConstant, [Call((), spoils=True), Call(())]),
    Case("F19", "detach_and_identity", Detaches, calls(X), form="script"),
    Case(
        "F21",
        "random",
        RandomConstant,
        calls(X),
    ),
    Case("F21", "prints", Prints, calls(X), form="script"),
    Case("F22", "conversions", Converts, calls(X)),
    Case("F22", "conversions_scripted", Converts, calls(X), form="script"),
    Case("F23", "containers", Containers, calls(X)),
    Case("F23", "containers_scripted", Containers, calls(X), form="script"),
    Case("F23", "run_time_key", RunTimeKey, calls((X, "a", 0), (X, "b", 1))),
    Case("F24", "hooks", Hooked, calls(X)),
    Case("F24", "hooks_scripted", Hooked, calls(X), form="script"),
    Case("F24", "hooks_traced", Hooked, calls(X), form="trace"),
    Case(
        "F25",
        "checks",
        Raises,
        [*calls(X), Call((X + 99,), raises="too large"), Call((X - 60,), raises="too small"), *calls(Y)],
        form="script",
    ),
    Case("F25", "checks_eager", Raises, [*calls(X), Call((X + 99,), raises="too large"), *calls(Y)]),
    Case("F26", "writes_inputs", WritesInput, calls((X, [Y]), (Z, [X]))),
    Case("F26", "writes_inputs_scripted", WritesInput, calls((X, [Y]), (Z, [X])), form="script"),
    Case("F27", "structures", Structures, calls(({"a": X}, (Y, [Z])), ({"a": X}, (Y, [Z]), Z))),
    Case("F27", "structures_scripted", Structures, calls(({"a": X}, (Y, [Z])), ({"a": X}, (Y, [Z]), Z)), form="script"),
    Case("F27", "named_results", Named, calls(X)),
    Case("F27", "named_results_scripted", Named, calls(X), form="script"),
    Case("F32", "fork_and_wait", Forks, calls(X), form="script"),
    Case(
        "A15",
        "without_forward",
        WithoutForward,
        [Call((X,), "infer"), Call((Y,), "infer")],
        preserved=("infer",),
        form="script",
    ),
    Case("A15", "without_forward_eager", WithoutForward, [Call((X,), "infer")], preserved=("infer",)),
]
