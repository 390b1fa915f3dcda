"""Section C: norms and arithmetic that fold into the weights of convolutions and linears, and what only looks so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.familiar.case import Call, Case, calls, randn


def norms(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


class Functional(nn.Module):
    """conv and batch_norm as function calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.conv2d(x, self.weight, self.bias, padding=1)
        return nn.functional.batch_norm(y, self.norm.running_mean, self.norm.running_var, eps=0.2)


class BatchStatistics(nn.Module):
    """A norm over the batch, always."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(self.conv(x), None, None, training=True)


class WrittenStatistics(nn.Module):
    """The running statistics are state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.batch_norm(self.conv(x), self.mean, self.var, training=True, momentum=0.3)
        return y + nn.functional.batch_norm(y, self.mean, self.var)


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y.relu()


class ConvThrice(nn.Module):
    """One convolution with two norms, and bare."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.b(self.conv(self.a(self.conv(x)))))


class NormInOneBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.norm(self.conv(x))
        return self.conv(x)


class TwoMethodsOneConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    @torch.jit.export
    def bare(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Chain(nn.Module):
    """conv, mul, add, sub, div, norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("scale", torch.rand(4, 1, 1) + 0.5)
        self.register_buffer("shift", torch.randn(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm((self.conv(x) * self.scale + self.shift - 0.3) / 1.7)


class Numbers(nn.Module):
    """alpha, and a rounding mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("c", torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = torch.add(self.conv(x), self.c, alpha=3)
        b = torch.sub(self.conv(x), self.c, alpha=-2)
        return a, b, torch.div(self.conv(x), 0.25, rounding_mode="floor")


class With(nn.Module):
    """A convolution and arithmetic with one constant."""

    def __init__(self, conv: nn.Module, c: Tensor, op: str = "mul") -> None:
        super().__init__()
        self.conv, self.op = conv, op
        self.register_buffer("c", c)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.op == "mul":
            return y * self.c
        if self.op == "add":
            return y + self.c
        if self.op == "div":
            return y / self.c
        if self.op == "mul_":
            return y.mul_(self.c).add_(0.5)
        if self.op == "reversed":
            return 2.0 * (1 - (2.0 + y)) + self.c * y
        return self.c - y


class LinearNorm3(nn.Module):
    """A linear over the last axis of (N, L, C), a norm over the second."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


class LinearUsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.linear(x)
        return self.norm(y), y


class LowWeights(nn.Module):
    """Weights of a small type, statistics in float32."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False).to(dtype)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Dies(nn.Module):
    """A negative variance, a zero scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.tensor([1.0, -1.0, 0.0, 2.0]))
        self.register_buffer("weight", torch.tensor([1.0, 1.0, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(self.conv(x), self.mean, self.var, self.weight, None, eps=0.0)


class NestedFold(nn.Module):
    """In a loop, and in a branch of a method that is not forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor, n: int) -> Tensor:
        for _ in range(n):
            x = self.norm(self.conv(x)).tanh()
        return x

    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.norm(self.conv(x)) * 2
        return self.conv(x)


IMAGE, IMAGE2 = randn(2, 3, 6, 6), randn(2, 3, 6, 6, seed=1)
POSITIVE = randn(1, 3, 5, 5).abs()
PADDED: dict[str, Any] = {"kernel_size": 3, "padding": 2}


def conv2d(*args: Any, **kwargs: Any) -> Any:
    return lambda: norms(nn.Conv2d(*args, **kwargs), nn.BatchNorm2d(args[1]))


def product(c: Tensor, op: str = "mul", conv: Any = None, seed: int = 5) -> Any:
    return lambda: With(conv() if conv else nn.Conv2d(3, 4, 3), c, op)


CASES = [
    Case("C1", "conv1d", lambda: norms(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), calls(randn(2, 3, 9))),
    Case("C1", "conv2d_chain", lambda: norms(*conv2d(3, 4, 3)(), nn.ReLU(), *conv2d(4, 5, 1)()), calls(IMAGE, IMAGE2)),
    Case("C1", "conv3d", lambda: norms(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3)), calls(randn(1, 2, 4, 4, 4))),
    Case("C1", "functional", Functional, calls(IMAGE), form="script"),
    Case("C2", "no_bias", conv2d(3, 4, 3, bias=False), calls(IMAGE), form="script"),
    Case(
        "C3",
        "eps_and_momentum",
        lambda: norms(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.3, momentum=None)),
        calls(IMAGE),
    ),
    Case("C4", "groups_stride_dilation", conv2d(4, 6, 3, 2, 3, 2, 2), calls(randn(1, 4, 9, 8))),
    Case("C4", "same", conv2d(3, 4, 4, padding="same"), calls(IMAGE)),
    Case("C4", "valid", conv2d(3, 4, 3, padding="valid"), calls(IMAGE), form="trace"),
    Case("C4", "reflect", conv2d(3, 4, padding_mode="reflect", **PADDED), calls(IMAGE)),
    Case("C4", "circular", conv2d(3, 4, padding_mode="circular", **PADDED), calls(IMAGE), form="script"),
    Case("C4", "replicate", conv2d(3, 4, padding_mode="replicate", **PADDED), calls(IMAGE)),
    Case("C5", "no_affine", lambda: norms(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), calls(IMAGE)),
    Case(
        "C6",
        "no_running_statistics",
        lambda: norms(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        calls(IMAGE, IMAGE2),
    ),
    Case("C6", "training_constant", BatchStatistics, calls(IMAGE, IMAGE2)),
    Case("C6", "written_statistics", WrittenStatistics, calls(IMAGE, IMAGE2, IMAGE)),
    Case("C6", "written_statistics_scripted", WrittenStatistics, calls(IMAGE, IMAGE2, IMAGE), form="script"),
    Case("C7", "used_twice", UsedTwice, calls(IMAGE)),
    Case("C8", "conv_called_thrice", ConvThrice, calls(IMAGE)),
    Case("C8", "norm_in_one_branch", NormInOneBranch, calls(POSITIVE, -POSITIVE), form="script"),
    Case("C9", "transposed", lambda: norms(nn.ConvTranspose2d(3, 4, 3, 2), nn.BatchNorm2d(4)), calls(IMAGE)),
    Case(
        "C9",
        "transposed_groups",
        lambda: norms(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm2d(6)),
        calls(randn(1, 4, 5, 4)),
    ),
    Case("C10", "chain", Chain, calls(IMAGE)),
    Case("C10", "chain_scripted", Chain, calls(IMAGE), form="script"),
    Case("C10", "chain_traced", Chain, calls(IMAGE), form="trace"),
    Case("C11", "alpha_and_rounding", Numbers, calls(IMAGE)),
    Case("C12", "one_element", product(randn(1, 1)), calls(IMAGE)),
    Case("C12", "one_channel_each", product(randn(1, 4, 1, 1)), calls(IMAGE)),
    Case("C12", "channels_first_of_three", product(randn(4, 1, 1), "div"), calls(IMAGE)),
    Case("C12", "aligned_right_2", product(randn(1, 4)), calls(IMAGE), form="script"),
    Case("C12", "aligned_right_3", product(randn(1, 4, 1), "add"), calls(IMAGE), form="script"),
    Case("C12", "aligned_right_1", product(randn(4)), calls(IMAGE)),
    Case("C12", "spatial", product(randn(4, 4), "add"), calls(IMAGE)),
    Case("C13", "unbatched_rank_4", product(randn(1, 4, 1, 1), "add"), calls(randn(3, 6, 6)), form="script"),
    Case("C13", "unbatched_mul", product(randn(4, 1, 1)), calls(randn(3, 6, 6))),
    Case("C14", "integer_tensor", product(torch.tensor([1, 2, 3, 4]).view(4, 1, 1)), calls(IMAGE)),
    Case(
        "C14",
        "float64_tensor",
        product(randn(4, 1, 1, dtype=torch.float64)),
        calls(IMAGE),
        form="script",
        tolerance=1e-5,
    ),
    Case("C14", "float64_number", product(torch.tensor(1.7, dtype=torch.float64)), calls(IMAGE)),
    Case(
        "C14",
        "half_weight_float_tensor",
        product(randn(4, 1, 1), conv=lambda: nn.Conv2d(3, 4, 3).half()),
        calls(IMAGE.half()),
    ),
    Case("C15", "reversed", product(randn(4, 1, 1), "reversed"), calls(IMAGE)),
    Case("C15", "constant_minus_conv", product(randn(4, 1, 1), "rsub"), calls(IMAGE), form="script"),
    Case("C15", "in_place", product(randn(4, 1, 1), "mul_"), calls(IMAGE)),
    Case("C15", "in_place_traced", product(randn(4, 1, 1), "mul_"), calls(IMAGE), form="trace"),
    Case("C16", "linear", lambda: norms(nn.Linear(3, 5), nn.BatchNorm1d(5)), calls(randn(4, 3))),
    Case("C16", "linear_no_bias", lambda: norms(nn.Linear(3, 5, False), nn.BatchNorm1d(5)), calls(randn(4, 3))),
    Case("C16", "one_feature", lambda: norms(nn.Linear(3, 5), nn.BatchNorm1d(1)), calls(randn(4, 1, 3))),
    Case("C17", "linear_rank_3", LinearNorm3, calls(randn(2, 5, 3)), form="script"),
    Case("C17", "linear_used_twice", LinearUsedTwice, calls(randn(4, 3)), form="script"),
    Case("C17", "mismatched", lambda: norms(nn.Linear(3, 5), nn.BatchNorm1d(4)), calls(randn(2, 4, 3))),
    Case(
        "C18",
        "norm_before_padded_conv",
        lambda: norms(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)),
        calls(IMAGE),
    ),
    Case("C19", "half_weights", lambda: LowWeights(torch.float16), calls(IMAGE.half())),
    Case("C19", "bfloat16_weights", lambda: LowWeights(torch.bfloat16), calls(IMAGE.bfloat16())),
    Case(
        "C19",
        "float64",
        lambda: norms(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double(),
        calls(IMAGE.double()),
    ),
    Case(
        "C20",
        "dropout_between",
        lambda: norms(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.BatchNorm2d(4)),
        calls(IMAGE),
        form="trace",
    ),
    Case(
        "C20",
        "dropout_between_scripted",
        lambda: norms(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.BatchNorm2d(4)),
        calls(IMAGE),
        form="script",
    ),
    Case("G1", "negative_variance", Dies, calls(IMAGE)),
    Case("G1", "infinite_input", Dies, calls(IMAGE / 0)),
    Case(
        "G3",
        "loops_and_methods",
        NestedFold,
        [
            *calls((IMAGE, 0), (IMAGE, 1), (IMAGE2, 3)),
            *(Call((x,), "other") for x in (POSITIVE, -POSITIVE)),
        ],
        form="script",
        preserved=("other",),
    ),
    Case("M6", "two_methods_one_conv", TwoMethodsOneConv, [*calls(IMAGE), Call((IMAGE,), "bare")], preserved=("bare",)),
    Case("M6", "conv_called_thrice", ConvThrice, calls(IMAGE), form="script"),
    Case("M7", "traced_without_bias", conv2d(3, 4, 3, bias=False), calls(IMAGE), form="trace"),
]
