"""Section X6: channels where torch's pruners raise or are wrong, and rows that cannot be removed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neve import sparsity
from neve.sparsity import PruneError, SaliencyPruner
from tests.sparsity.support import FLAT, STEPS, Net, X, prune, settled, shapes


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def write_in_place(m: Any, y: Tensor) -> Tensor:
    return m.b(torch.cat([y.relu_(), y + 1], 0))


# shrinking: where torch raises, or is wrong


def test_x6_norm_in_between() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.BatchNorm2d(6, affine=False),
    )
    model.extend(
        [nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.PReLU(8)]
    )
    model.append(nn.Linear(8, 4))
    _, warned = prune(model, X, ["0.weight", "3.weight", "8.weight"])
    assert shapes(model, "0", "3", "8", "11") == [(4, 3, 3, 3), (3, 4, 3, 3), (4, 3), (4, 4)] and not warned
    assert model[1].num_features == 4 and model[1].running_var.shape == (4,) and model[10].num_parameters == 4
    without = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.Conv2d(8, 2, 1))
    prune(without, X, ["0.weight"])
    assert without[2].in_channels == 4


def test_x6_norm_before_padding() -> None:
    """Behind a norm a pruned channel is rarely zero: inexactly it goes too, and results differ at borders alone."""
    for depthwise in (False, True):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
        layers += [nn.Conv2d(8, 8, 3, padding=1, groups=8)] if depthwise else []
        model = settled(nn.Sequential(*layers, nn.Conv2d(8, 4, 3, padding=1)))
        nn.init.constant_(model[1].running_mean, -2)  # all constants are positive
        pruners = []
        for net in (copy.deepcopy(model), model):
            pruners.append(SaliencyPruner({"sparsity_level": 0.5}))
            pruners[-1].prepare(net, [{"tensor_fqn": "0.weight"}])
            pruners[-1].step()
        expected = model(X)
        with pytest.warns(UserWarning, match=r"4 of '0\.weight'"):
            torch.testing.assert_close(pruners[0].prune()(X), expected)
        assert pruners[0].model[-1].in_channels == 8
        with pytest.warns(UserWarning, match=f"constants are in biases, but .*'{len(model) - 1}'"):
            pruners[1].prune(exact=False)
        border = 2 if depthwise else 1
        inside = (..., slice(border, -border), slice(border, -border))
        assert model[-1].in_channels == model[0].out_channels == 4
        torch.testing.assert_close(model(X)[inside], expected[inside], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(model(X), expected)


class Residual(nn.Module):
    """x + f(x), with the sum read twice."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.inner = nn.Conv2d(8, 8, 3, padding=1, padding_mode="zeros" if padding else "replicate")
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 4, 1)
        self.other = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.stem(x), inplace=True)
        y = self.norm(self.inner(x))
        y += x
        y = F.relu(y, inplace=True)
        return self.head(y), self.other(y.mean((2, 3)))


def test_x6_residual_uses() -> None:
    model = Residual(1)
    masks = {"stem.weight": [0, 1, 2, 3], "inner.weight": [2, 3, 4, 5]}
    pruner = SaliencyPruner({"sparsity_level": 0.0})
    settled(model)
    config = []
    for name, rows in masks.items():
        mask = torch.ones(8, dtype=torch.bool)
        mask[rows] = False
        config.append({"tensor_fqn": name, "mask": mask})
    pruner.prepare(model, config)
    expected = model(X)
    with pytest.warns(UserWarning, match=r"2 of 'stem\.weight' \('head' reads it\); 2 of 'inner\.weight'"):
        pruner.prune()
    for a, b in zip(model(X), expected, strict=True):
        torch.testing.assert_close(a, b)
    # rows 2 and 3 are pruned on both sides of the sum; the others carry what the other side adds
    assert shapes(model, "stem", "inner", "head", "other") == [(6, 3, 3, 3), (6, 6, 3, 3), (4, 6, 1, 1), (2, 6)]
    assert model.norm.num_features == 6 and (model.stem.weight == 0).flatten(1).all(1).sum() == 2


def test_x6_two_users_and_two_calls() -> None:
    net = Net(
        lambda m, x: m.b(m.a(x)) + m.c(torch.tanh(m.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 3), c=nn.Linear(8, 3)
    )
    _, warned = prune(net, FLAT, ["a.weight"], prune_bias=False)
    assert shapes(net, "a", "b", "c") == [(4, 6), (3, 4), (3, 4)] and not warned
    net = Net(lambda m, x: m.b(m.b(m.a(x))), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    prune(net, FLAT, ["a.weight"])  # b reads its own rows too, and they vary
    assert shapes(net, "a", "b") == [(6, 6), (6, 6)]


def test_x6_pins_outlive_ties() -> None:
    """b's channels must stay for the softmax, so those of a, which they meet in a sum afterwards, must too."""

    def forward(m: Any, x: Tensor) -> Tensor:
        a, b = m.a(x), m.b(x)
        return torch.softmax(b, 1).sum(1, keepdim=True) * x.sum() + m.c(a + b) + torch.softmax(b, 1)[:, :1]

    net = Net(forward, a=nn.Linear(6, 8), b=nn.Linear(6, 8), c=nn.Linear(8, 3))
    net.b.weight.data = net.a.weight.data.clone()  # the same rows are pruned
    _, warned = prune(net, FLAT, ["a.weight", "b.weight"])
    assert shapes(net, "a", "b", "c") == [(8, 6), (8, 6), (3, 8)] and "softmax reads it" in warned[0]


def test_x6_biases() -> None:
    """A convolution without bias before pool, flatten, Linear, with prune_bias unset or False; Linear on 3-D input."""
    for config in ({}, {"prune_bias": False}):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3, bias=False)
        )
        prune(model, X, ["0.weight"], **config)
        assert shapes(model, "0", "3") == [(4, 3, 3, 3), (3, 16)] and model[3].bias is None
        model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3, bias=False))
        prune(model, STEPS, ["0.weight"], **config)
        assert shapes(model, "0", "2") == [(4, 6), (3, 4)] and model[2].bias is not None  # σ(0) or σ(bias) is in it


def test_x6_refusals() -> None:
    def branch(m: Any, x: Tensor) -> Tensor:
        return m.a(x) if x.sum() > 0 else x

    net = Net(branch, a=nn.Linear(6, 6))
    pruner = SaliencyPruner({"sparsity_level": 0.5})
    with pytest.raises(ValueError, match="call prepare"):
        pruner.prune()
    pruner.prepare(net, None)
    pruner.step()
    expected = net(FLAT)
    with pytest.raises(PruneError, match=r"cannot be traced by torch\.fx.*Take control flow"):
        pruner.prune()
    assert torch.equal(net(FLAT), expected) and parametrize.is_parametrized(net.a)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    pruner = SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(model, None)
    with pytest.raises(PruneError, match="does not take the example inputs"):
        pruner.prune((torch.ones(2, 5),))
    pruner.prune()
    with pytest.raises(AttributeError, match="has no mask"):
        pruner.prune()


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda m, x: m.b(torch.softmax(m.a(x), -1)), "softmax reads it"),
        (lambda m, x: m.b(m.a(x) + x), "meets what cannot shrink"),
        (lambda m, x: m.b(m.a(x).view(-1, 6)), "changes the shape"),
        (lambda m, x: m.b(m.a(x)[:, torch.tensor([0, 1, 2, 3, 4, 5])]), "takes some of its channels"),
        (lambda m, x: m.b(m.a(x) * m.a(x).size(1)), "reads its sizes"),
        (lambda m, x: m.b(x), "the model does not call the layer"),
        (lambda m, x: (m.a(x).sum(1), m.b(x)), "sum_1 reads it"),
        (lambda m, x: write_in_place(m, m.a(x)), "writes it in place"),
    ],
)
def test_rows_that_cannot_go_stay_as_zeros(forward: Any, reason: str) -> None:
    net = Net(forward, a=nn.Linear(6, 6), b=nn.Linear(6, 2))
    _, warned = prune(net, FLAT, ["a.weight"])
    assert shapes(net, "a", "b") == [(6, 6), (2, 6)] and (net.a.weight == 0).all(1).sum() == 3
    assert len(warned) == 1 and "3 of 'a.weight'" in warned[0] and reason in warned[0]


def test_channels_through_concatenation_gates_and_depthwise() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a, b = F.relu(m.a(x)), m.b(x)
        x = m.depth(torch.cat([a, b], 1))
        x = x * torch.sigmoid(m.gate(x.mean([2, 3], keepdim=True)))
        x = m.c(x)
        return m.fc(x.view(x.size(0), -1))

    net = Net(
        forward,
        a=nn.Conv2d(3, 4, 3),
        b=nn.Conv2d(3, 6, 3),
        depth=nn.Conv2d(10, 20, 3, padding=1, groups=10, bias=False),
        gate=nn.Conv2d(20, 20, 1),
        c=nn.Conv2d(20, 4, 3),
        fc=nn.Linear(64, 3),
    )
    _, warned = prune(net, X, ["a.weight", "b.weight", "c.weight"])
    assert not warned and net.depth.groups == 5 and net.fc.in_features == 32
    assert shapes(net, "a", "b", "depth", "gate", "c") == [
        (2, 3, 3, 3),
        (3, 3, 3, 3),
        (10, 1, 3, 3),
        (10, 10, 1, 1),
        (2, 10, 3, 3),
    ]


def test_grouped_shared_and_parametrized_layers_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 2, 1))
    _, warned = prune(model, X, ["0.weight", "1.weight"])
    assert shapes(model, "0", "1", "2") == [(8, 3, 1, 1), (8, 4, 1, 1), (2, 8, 1, 1)] and "in groups" in warned[0]
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    model[2].weight = model[1].weight
    _, warned = prune(model, FLAT, ["0.weight"])
    assert shapes(model, "0", "1") == [(6, 6), (6, 6)] and "shared with another" in warned[0]
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    other = sparsity.WeightNormSparsifier()
    other.prepare(model, [{"tensor_fqn": "1.weight"}])
    pruner = SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(model, [{"tensor_fqn": "0.weight"}])
    pruner.step()
    with pytest.warns(UserWarning, match="'1' is parametrized by FakeSparsity"):
        pruner.prune()
    assert model[0].out_features == 6


def test_one_row_always_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    _, warned = prune(model, X, ["0.weight"], sparsity_level=1.0)
    assert shapes(model, "0", "2") == [(1, 3, 1, 1), (2, 1, 1, 1)] and "the layer would be empty" in warned[0]


def test_example_inputs_tell_ranks() -> None:
    """BatchNorm1d works on dim 1, which is not the channels' for 3-D inputs; flatten(1) of [C, H, W] leaves C."""
    model = nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Linear(7, 2)).train()
    _, warned = prune(model, STEPS, ["0.weight"], examples=True)
    assert model[0].out_features == 7 and "works on another dim" in warned[0]
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(16, 2))
    _, warned = prune(model, X[0], ["0.weight"], examples=True)
    assert model[0].out_channels == 4 and "flattens other dims" in warned[0]
    net = Net(lambda m, x: m.b(torch.cat([m.a(x), m.a(x)], 1)), a=nn.Linear(6, 8), b=nn.Linear(8, 2))
    prune(net, STEPS, ["a.weight"], examples=True)  # along the steps
    assert net.b.in_features == 4
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 8), nn.Linear(8, 2)).train()
    pruner = SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(model, [{"tensor_fqn": "1.weight"}])
    pruner.prune((FLAT,))
    assert model.training and model[0].training and model[0].num_batches_tracked == 0


def test_shrunk_models_train_save_and_copy() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    model[2].weight.requires_grad_(False)
    prune(model, FLAT, ["0.weight"])
    assert model[0].weight.requires_grad and not model[2].weight.requires_grad
    model(FLAT).sum().backward()
    assert model[0].weight.grad is not None and model[0].weight.grad.shape == (4, 6)
    twin = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(copy.deepcopy(model)(FLAT), twin(FLAT))


CONVOLUTIONS = {
    n: (getattr(nn, f"Conv{n}d"), getattr(nn, f"ConvTranspose{n}d"), getattr(nn, f"BatchNorm{n}d")) for n in (1, 2, 3)
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("n", CONVOLUTIONS)
def test_x5_transposed_convolutions(n: int, bias: bool) -> None:
    """Output channels of a transposed convolution are dim 1 of its weight, its input channels dim 0."""
    conv, transposed, norm = CONVOLUTIONS[n]
    x, kernel = torch.randn(2, 4, *[5] * n), (3,) * n
    up = {"stride": 2, "padding": 1, "output_padding": 1, "bias": bias}
    model, told = prune(nn.Sequential(transposed(4, 6, 3, **up), nn.ReLU(), conv(6, 2, 3)), x, ["0.weight"])
    assert shapes(model, "0", "2") == [(4, 3, *kernel), (2, 3, *kernel)] and not told
    model, told = prune(nn.Sequential(conv(4, 6, 3), nn.ReLU(), transposed(6, 2, 3, **up)), x, ["0.weight"])
    assert shapes(model, "0", "2") == [(3, 4, *kernel), (3, 2, *kernel)] and not told
    model, told = prune(nn.Sequential(transposed(4, 6, 3, **up), norm(6), conv(6, 2, 2)), x, ["0.weight"])
    assert shapes(model, "0", "2") == [(4, 3, *kernel), (2, 3, *[2] * n)] and not told
    flat = nn.Sequential(transposed(4, 6, 2, bias=bias), nn.Flatten(), nn.Linear(6 * 6**n, 3))
    model, told = prune(flat, x, ["0.weight"])
    assert shapes(model, "0", "2") == [(4, 3, *[2] * n), (3, 3 * 6**n)] and not told


@pytest.mark.parametrize("n", CONVOLUTIONS)
def test_x5_transposed_convolutions_that_cannot_shrink_whole(n: int) -> None:
    """Groups; depthwise ones, whose channels go where their input's do; constants that a stride spreads unevenly."""
    conv, transposed, norm = CONVOLUTIONS[n]
    x, kernel = torch.randn(2, 4, *[5] * n), (3,) * n
    model, told = prune(nn.Sequential(transposed(4, 6, 3, groups=2), nn.ReLU(), conv(6, 2, 3)), x, ["0.weight"])
    assert shapes(model, "0") == [(4, 3, *kernel)] and "in groups" in told[0]
    deep = nn.Sequential(conv(4, 6, 3), transposed(6, 12, 3, groups=6, stride=2), nn.Tanh(), conv(12, 2, 3))
    deep[1].bias.data.uniform_(0.5, 1)
    model, told = prune(deep, x, ["0.weight"])
    assert shapes(model, "0", "1", "3") == [(3, 4, *kernel), (3, 2, *kernel), (2, 6, *kernel)] and not told
    for prune_bias in (False, True):
        spread = nn.Sequential(conv(4, 6, 3), norm(6), transposed(6, 2, 3, stride=2))
        model, told = prune(spread, x, ["0.weight"], prune_bias=prune_bias)
        assert shapes(model, "0", "2") == [(6, 4, *kernel), (6, 2, *kernel)]
        assert "reads a constant other than zero, which it pads, spreads" in told[0]
    kept = nn.Sequential(transposed(4, 6, 3), nn.ReLU(), conv(6, 2, 2))
    kept[0].bias.data.uniform_(0.5, 1)
    model, told = prune(kept, x, ["0.weight"], prune_bias=False)
    assert shapes(model, "0", "2") == [(4, 3, *kernel), (2, 3, *[2] * n)] and not told


@pytest.mark.parametrize("kind", ["Max", "Avg", "AdaptiveAvg", "AdaptiveMax"])
@pytest.mark.parametrize("n", CONVOLUTIONS)
def test_x5_pools_of_all_ranks(n: int, kind: str) -> None:
    conv, _, norm = CONVOLUTIONS[n]
    pools = [getattr(nn, f"{kind}Pool{n}d")(2)] + ([nn.AvgPool1d(2, padding=1)] if (n, kind) == (1, "Avg") else [])
    for pool in pools:
        model = nn.Sequential(conv(4, 6, 2), norm(6), pool, conv(6, 2, 1))
        model, told = prune(model, torch.randn(2, 4, *[5] * n), ["0.weight"])
        assert shapes(model, "0")[0][0] == (6 if getattr(pool, "padding", 0) == (1,) else 3), told


def test_x5_what_is_not_followed_is_named() -> None:
    _, told = prune(Net(lambda m, x: m.b(m.a(x)[0]), a=nn.GRU(6, 4), b=nn.Linear(4, 2)), STEPS, ["a.weight_ih_l0"])
    assert told == ["pruned rows that stay, as zeros: 6 of 'a.weight_ih_l0' (what a GRU gives is not followed)"]
