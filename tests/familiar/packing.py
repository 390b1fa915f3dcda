"""Sections D, I and M: dropout, packed layers with what follows them, clamps, sums, methods that share a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.familiar.case import Call, Case, calls, randn
from tests.familiar.folding import IMAGE, IMAGE2, POSITIVE, norms


class Dropouts(nn.Module):
    """Every kind, as layers and as functions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(), nn.Dropout(0.3, inplace=True), nn.Dropout2d(0.9), nn.FeatureAlphaDropout()
        )
        self.p = 0.4

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x * 2)
        x = nn.functional.dropout(x, self.p, self.training)
        x = nn.functional.dropout2d(x, 0.9, training=False)
        return nn.functional.alpha_dropout(x, 0.2, self.training) + 1


class RandomDropout(nn.Module):
    """nn.functional.dropout drops unless it is told not to."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5)


class DropoutByFlag(nn.Module):
    def forward(self, x: Tensor, train: bool) -> Tensor:
        return nn.functional.dropout(x, 0.5, train)


class DropoutInBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = self.drop(x) + 1
        for _ in range(2):
            x = self.drop(x) * 2
        return x


class Linears(nn.Module):
    """With and without bias, by functions, and with weights that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 5, bias=False)
        self.w, self.c = nn.Parameter(torch.randn(5, 2)), nn.Parameter(torch.randn(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.b(self.a(x).relu())
        return y, torch.addmm(self.c, y, self.w), torch.matmul(y, self.w) + self.c


class ComputedWeights(nn.Module):
    def forward(self, x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.linear(x.mean((2, 3)), w.mean((2, 3)), b), nn.functional.conv2d(x, w, b, padding=1).relu()


class Heads(nn.Module):
    """Linears on one input: of two widths, one without bias, one after a write to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = nn.Linear(4, 3), nn.Linear(4, 5), nn.Linear(4, 3, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = x + 1
        q, k, v = self.q(x), self.k(x), self.v(x)
        x.mul_(2)
        return q, k, v, self.o(x)


class Group(nn.Module):
    """A convolution with layers behind it."""

    def __init__(self, *layers: nn.Module, conv: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        self.conv, self.layers = conv() if conv else nn.Conv2d(3, 4, 3), nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.conv(x))


class Apply(nn.Module):
    """A function as a layer, by name, so that it can be scripted."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        if self.name == "clamp_min":
            return torch.clamp(x, min=0.1)
        if self.name == "clamp_max":
            return torch.clamp(x, max=0.1)
        if self.name == "clamp_int":
            return torch.clamp(x, 0, 1)
        if self.name == "clamp_disjoint":
            return torch.clamp(torch.clamp(x, -0.5, -0.2), 0.1, 0.3)
        if self.name == "clamp_reversed":
            return torch.clamp(x, 0.5, -0.5)
        if self.name == "hardtanh_":
            return nn.functional.hardtanh_(x, -0.3, 0.4)
        if self.name == "relu_":
            return nn.functional.relu_(x)
        if self.name == "threshold":
            return nn.functional.threshold(x, 0.1, 5.0)
        if self.name == "twice_mul":
            return (x * 2).mul_(0.25)
        if self.name == "shared":
            y = torch.clamp(x, -0.1, 0.1)
            return y.relu() + x + y
        return torch.sigmoid(x)


class BroadcastSums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 1, 3)
        self.row = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x) + self.other(x)).relu() * self.other(x) * self.row + self.conv(x).mul(3)


class Residual(nn.Module):
    """conv + z, relu: z is used again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.a(x))
        z = self.b(y)
        z += y
        return nn.functional.relu_(z) + y


class ConvInLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, n: int) -> Tensor:
        for i in range(n):
            x = self.conv(x).relu()
            if x.sum() < 1.0:
                break
            if i % 2 == 0:
                continue
            x = x * 1.5
        return x


class Methods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.drop = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.encode(x))

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return self.drop(self.conv(x)).relu().mean((2, 3))

    @torch.jit.export
    def logits(self, x: Tensor) -> Tensor:
        return nn.functional.relu(torch.add(self.linear(x), x[:, :2]))


class Subclassed(nn.Conv2d):
    """A layer of the user's own that is a convolution and more."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class UpTo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 2, 3, 2, padding=1)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        return self.up(x, size).relu()


class AddRelu(nn.Module):
    """Sums and relus that fuse, and those that only look alike."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        kept = a * 1
        kept.add_(b)
        clamped = nn.functional.relu(kept)
        both = torch.add(a, b)
        in_place = (a * 1).add_(b).relu_()
        return (
            nn.functional.relu(torch.add(a, b, alpha=2)),
            clamped + kept,
            nn.functional.relu(both) + both,
            in_place,
            nn.functional.relu(torch.sub(a, b)),
            nn.functional.relu(a + 3),
        )


class SameTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = self.a
        self.base = nn.Parameter(torch.randn(3, 3))
        self.register_buffer("memory", torch.zeros(4, 3))
        self.tail = self.memory[2:]

    def forward(self, x: Tensor) -> Tensor:
        self.memory.add_(x)
        return self.b(self.a(x)) + self.tail.sum() + self.memory


class Bounds(nn.Module):
    """Bounds that come with the call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, low: float) -> Tensor:
        return torch.clamp(nn.functional.hardtanh(self.conv(x), -0.2, 0.5), low, 0.3)


def conv(*args: Any, **kwargs: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*args, **kwargs)


def group(*layers: Callable[[], nn.Module] | str, conv: Callable[[], nn.Module] | None = None) -> Callable[[], Group]:
    return lambda: Group(*(Apply(x) if isinstance(x, str) else x() for x in layers), conv=conv)


NAN = IMAGE.clone()
NAN[0, 1, 2, 3] = float("nan")
NAN[1, 0, 0, 0] = float("inf")
VECTOR, ROWS = randn(4), randn(2, 3, 4)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "prelu": lambda: nn.PReLU(4),
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "rrelu": nn.RReLU,
    "max_pool": lambda: nn.MaxPool2d(2, 1, padding=1),
    "avg_pool": lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
    "adaptive_pool": lambda: nn.AdaptiveAvgPool2d((2, 1)),
    "layer_norm": lambda: nn.LayerNorm(4),
}

DROPOUT = [
    Case("D1", "all_kinds", Dropouts, calls(IMAGE)),
    Case("D1", "all_kinds_scripted", Dropouts, calls(IMAGE), form="script"),
    Case("D1", "all_kinds_traced", Dropouts, calls(IMAGE), form="trace"),
    Case(
        "D2",
        "alpha_dropout",
        lambda: norms(nn.Linear(4, 4), nn.AlphaDropout(0.5), nn.Linear(4, 2)),
        calls(ROWS),
        form="script",
    ),
    Case(
        "D3",
        "always_random",
        RandomDropout,
        calls(ROWS),
    ),
    Case("D3", "flag_given_false", DropoutByFlag, calls((ROWS, False)), form="script"),
    Case(
        "D3",
        "flag_given_true",
        DropoutByFlag,
        calls((ROWS, True)),
        form="script",
    ),
    Case("D4", "in_branches_and_loops", DropoutInBranches, calls(ROWS.abs(), -ROWS.abs()), form="script"),
]

INFERENCE = [
    Case(
        "I3",
        "other_methods",
        Methods,
        [*calls(IMAGE), Call((IMAGE2,), "encode"), Call((ROWS[0],), "logits")],
        preserved=("encode", "logits"),
    ),
    Case("I4", "linears", Linears, calls(randn(2, 4))),
    Case("I4", "linears_scripted", Linears, calls(randn(2, 4), randn(3, 4)), form="script"),
    Case("I4", "computed_weights", ComputedWeights, calls((IMAGE, randn(4, 3, 3, 3), randn(4)))),
    Case("I5", "heads", Heads, calls(ROWS)),
    Case("I5", "heads_scripted", Heads, calls(ROWS), form="script"),
    Case("I6", "same_padding", group(nn.ReLU, conv=conv(3, 4, 4, padding="same")), calls(IMAGE), form="script"),
    Case("I6", "unbatched", group(nn.ReLU), calls(IMAGE[0]), form="script"),
    Case("I6", "float64", lambda: group(nn.ReLU)().double(), calls(IMAGE.double())),
    Case("I6", "conv1d", group(nn.ReLU, conv=lambda: nn.Conv1d(3, 4, 3)), calls(randn(2, 3, 7)), form="script"),
    Case("I6", "conv3d", group(nn.ReLU, conv=lambda: nn.Conv3d(3, 2, 2)), calls(randn(1, 3, 3, 4, 3))),
    Case("I7", "clamp_min", group("clamp_min"), calls(IMAGE)),
    Case("I7", "clamp_max", group("clamp_max"), calls(IMAGE), form="script"),
    Case("I7", "clamp_int_bounds", group("clamp_int"), calls(IMAGE), form="script"),
    Case("I7", "clamp_without_zero", group(lambda: nn.Hardtanh(0.1, 0.4)), calls(IMAGE)),
    Case("I7", "norm_1d", lambda: norms(nn.Conv1d(3, 4, 2), nn.ReLU(), nn.BatchNorm1d(4)), calls(randn(2, 3, 6))),
    Case("I7", "norm_without_affine", group(nn.ReLU, lambda: nn.BatchNorm2d(4, affine=False)), calls(IMAGE)),
    Case("I7", "mul_by_numbers", group("twice_mul"), calls(IMAGE), form="script"),
    Case("I7", "value_still_needed", group("shared"), calls(IMAGE)),
    *(Case("I7", k, group(f), calls(IMAGE)) for k, f in ACTIVATIONS.items()),
    Case("I8", "nan_through_relu", group(nn.ReLU), calls(NAN)),
    Case("I8", "nan_through_relu6", group(nn.ReLU6), calls(NAN), form="script"),
    Case("I8", "nan_through_max_pool", group(lambda: nn.MaxPool2d(2)), calls(NAN)),
    Case(
        "I9",
        "two_clamp_bounds",
        group(lambda: nn.Hardtanh(-0.2, 0.2), conv(4, 3, 1), lambda: nn.Hardtanh(-0.5, 0.1)),
        calls(IMAGE),
    ),
    Case("I9", "clamp_after_clamp", group("clamp_disjoint"), calls(IMAGE), form="script"),
    Case("I9", "clamp_reversed_bounds", group("clamp_reversed"), calls(IMAGE)),
    Case("I10", "broadcast_sums", BroadcastSums, calls(IMAGE)),
    Case("I11", "residual", Residual, calls(IMAGE), form="script"),
    Case("I14", "conv_in_loop_with_break", ConvInLoop, calls((IMAGE, 0), (IMAGE, 1), (IMAGE2, 6)), form="script"),
]

MOBILE = [
    Case(
        "M2",
        "train_mode",
        lambda: norms(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9)),
        calls(IMAGE),
        train=True,
        entries=("optimize_for_inference", "optimize_for_mobile"),
    ),
    Case("M4", "conv1d_clamped", group(nn.ReLU6, conv=lambda: nn.Conv1d(4, 6, 3, 2, 2, 2, 2)), calls(randn(2, 4, 11))),
    Case("M4", "conv1d_unbatched", group(nn.ReLU, conv=lambda: nn.Conv1d(4, 6, 3)), calls(randn(4, 11))),
    Case("M5", "subclass", lambda: norms(Subclassed(3, 4, 3), nn.BatchNorm2d(4)), calls(IMAGE)),
    Case(
        "M5",
        "second_norm",
        lambda: norms(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
        calls(IMAGE),
        form="script",
    ),
    Case(
        "M5",
        "nested",
        lambda: norms(norms(norms(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)), norms(nn.ReLU(), nn.Conv2d(4, 2, 1))),
        calls(IMAGE),
        form="script",
    ),
    Case(
        "M8",
        "transposed",
        group(nn.ReLU, conv=lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, 2)),
        calls(randn(1, 4, 5, 5)),
    ),
    Case(
        "M8",
        "transposed_unbatched",
        group(nn.ReLU, conv=lambda: nn.ConvTranspose2d(4, 4, 3, 2)),
        calls(randn(4, 5, 5)),
        form="script",
    ),
    Case(
        "M9", "output_size_given", UpTo, calls((randn(1, 3, 4, 4), [7, 8]), (randn(1, 3, 4, 4), [8, 7])), form="script"
    ),
    Case("M9", "weights_given", ComputedWeights, calls((IMAGE, randn(4, 3, 3, 3), randn(4))), form="script"),
    Case("M10", "relu_in_place", group("relu_"), calls(IMAGE), form="script"),
    Case("M10", "hardtanh_in_place", group("hardtanh_"), calls(IMAGE), form="script"),
    Case("M10", "threshold", group("threshold"), calls(IMAGE), form="script"),
    Case("M10", "sigmoid", group("sigmoid"), calls(IMAGE), form="script"),
    Case("M11", "linear_clamp", lambda: norms(nn.Linear(4, 3), nn.ReLU6(), nn.Linear(3, 3), nn.ReLU()), calls(ROWS)),
    Case("M12", "hardtanh_then_relu", group(lambda: nn.Hardtanh(-0.2, 0.3), nn.ReLU), calls(IMAGE), form="script"),
    Case("M12", "bounds_given", Bounds, calls((IMAGE, 0.1), (IMAGE, -0.7)), form="script"),
    Case(
        "M13",
        "methods_share_a_layer",
        Methods,
        [*calls(IMAGE), Call((IMAGE2,), "encode"), Call((ROWS[0],), "logits")],
        form="script",
        preserved=("encode", "logits"),
        train=True,
        entries=("optimize_for_mobile",),
    ),
    Case("M14", "same_conv1d", group(nn.ReLU, conv=lambda: nn.Conv1d(3, 4, 4, padding="same")), calls(randn(2, 3, 7))),
    Case("M14", "same_dilated", group(conv=conv(3, 4, 2, padding="same", dilation=3)), calls(IMAGE), form="script"),
    Case("M15", "half_conv", lambda: group(nn.ReLU)().half(), calls(IMAGE.half())),
    Case("M15", "bfloat16_linear", lambda: norms(nn.Linear(4, 3), nn.ReLU()).bfloat16(), calls(ROWS.bfloat16())),
    Case(
        "M15", "double_linear", lambda: norms(nn.Linear(4, 3), nn.ReLU()).double(), calls(ROWS.double()), form="script"
    ),
    Case("M15", "double_transposed", lambda: nn.ConvTranspose2d(3, 4, 3).double(), calls(IMAGE.double())),
    Case("M16", "linear_1d", lambda: norms(nn.Linear(4, 3), nn.ReLU()), calls(VECTOR)),
    Case("M16", "linear_nd_and_empty", lambda: norms(nn.Linear(4, 3)), calls(ROWS, randn(0, 4), randn(2, 0, 4))),
    Case("M16", "conv_empty_batch", group(nn.ReLU), calls(randn(0, 3, 6, 6), IMAGE)),
    Case("M16", "conv_unbatched_first", conv(3, 4, 3), calls(IMAGE[0], IMAGE), form="script"),
    Case("M16", "requires_grad", group(nn.ReLU), calls(IMAGE.clone().requires_grad_())),
    Case("M16", "wrong_dtype", group(nn.ReLU), calls(IMAGE, IMAGE.double(), IMAGE.int())),
    Case("M16", "wrong_channels", group(nn.ReLU), calls(IMAGE, randn(2, 4, 6, 6), IMAGE)),
    Case("M16", "wrong_features", lambda: norms(nn.Linear(4, 3), nn.ReLU()), calls(ROWS, randn(2, 5)), form="script"),
    Case("M16", "too_small_image", group(nn.ReLU), calls(IMAGE, randn(2, 3, 2, 2))),
    Case(
        "M16",
        "strided_inputs",
        group(nn.ReLU),
        calls(IMAGE.transpose(2, 3), IMAGE.to(memory_format=torch.channels_last)),
    ),
    Case("M17", "nan_in_add_relu", AddRelu, calls((NAN, IMAGE))),
    Case("M17", "nan_in_clamps", group(lambda: nn.Hardtanh(-0.2, 0.3), "clamp_int"), calls(NAN), form="script"),
    Case("M18", "add_relu", AddRelu, calls((IMAGE, IMAGE2)), form="script"),
    Case("M18", "add_relu_broadcast", AddRelu, calls((IMAGE, randn(3, 1, 6))), form="script"),
    Case("M18", "add_relu_integers", AddRelu, calls((torch.arange(-3, 3), torch.arange(6) - 2)), form="script"),
    Case("M18", "add_relu_promotion", AddRelu, calls((randn(6), torch.arange(6) - 2)), form="script"),
    Case("M21", "loop", ConvInLoop, calls((IMAGE, 2), (POSITIVE, 4)), form="script"),
    Case("M22", "shared_memory_and_modules", SameTwice, calls(randn(3), randn(3, seed=1), randn(3))),
    Case(
        "M22",
        "shared_memory_and_modules_scripted",
        SameTwice,
        calls(randn(3), randn(3, seed=1), randn(3)),
        form="script",
    ),
]

CASES = [*DROPOUT, *INFERENCE, *MOBILE]
