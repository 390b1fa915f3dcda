"""Section X5: masks of rows, and layers shrunk where torch shrinks them. What a shrunk model must compute is what the
masked model computes.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.ao.pruning._experimental.pruner.FPGM_pruner import FPGMPruner as ReferenceFPGM
from torch.ao.pruning._experimental.pruner.saliency_pruner import SaliencyPruner as ReferenceSaliency

from neve import sparsity
from neve.sparsity import LSTMSaliencyPruner, SaliencyPruner
from tests.sparsity.support import FLAT, STEPS, Net, X, prune, shapes


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# masks


@pytest.mark.parametrize("level", [0.0, 0.3, 0.55, 1.0])
@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Conv2d(3, 7, 2)])
def test_x5_saliency_masks(level: float, layer: nn.Module) -> None:
    masks = []
    for cls in (SaliencyPruner, ReferenceSaliency):
        model = nn.Sequential(copy.deepcopy(layer))
        pruner = cls({"sparsity_level": level})
        pruner.prepare(model, None)
        pruner.step()
        masks.append(pruner.state["0.weight"]["mask"])
        assert model[0].parametrizations.weight[0].mask is masks[-1]
    assert torch.equal(*masks) and masks[0].dtype == torch.bool and (~masks[0]).sum() == int(7 * level)


@pytest.mark.parametrize("level", [-1, 0.0, 0.3, 0.6, 1.0, 2])
@pytest.mark.parametrize("dist", [None, 1, 2, lambda x: (x[:, None] - x).abs().amax(-1)])
def test_x5_fpgm_masks(level: float, dist: Any) -> None:
    layer, masks = nn.Conv2d(3, 8, 2), []
    for cls in (sparsity.FPGMPruner, ReferenceFPGM):
        pruner = cls(level, dist)
        pruner.prepare(nn.Sequential(copy.deepcopy(layer)), None)
        pruner.step()
        masks.append(pruner.state["0.weight"]["mask"])
    assert torch.equal(*masks) and (~masks[0]).sum() == round(8 * min(max(level, 0), 1))
    with pytest.raises(NotImplementedError, match="Distance function is not yet implemented"):
        sparsity.FPGMPruner(dist=3)


def test_x5_masks_accumulate_and_errors() -> None:
    model = nn.Sequential(nn.Linear(4, 8))
    pruner = SaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(model, None)
    pruner.step()
    before = pruner.state["0.weight"]["mask"].clone()
    with torch.no_grad():
        model[0].parametrizations.weight.original[~before] = 9.0
    pruner.groups[0]["sparsity_level"] = 0.25
    pruner.step()
    assert torch.equal(pruner.state["0.weight"]["mask"], before)
    pruner.groups[0]["sparsity_level"] = 1.5
    with pytest.raises(ValueError, match=r"a share of the rows, 0 to 1; got 1\.5"):
        pruner.step()
    for fqn, message in (("0.weight_ih_l0", "use LSTMSaliencyPruner"), ("1.bias", r"2\+dim weight tensor")):
        pruner = SaliencyPruner({"sparsity_level": 0.5})
        pruner.prepare(nn.Sequential(nn.LSTM(2, 3), nn.Linear(2, 2)), [{"tensor_fqn": fqn}])
        with pytest.raises(ValueError, match=message):
            pruner.step()


def test_x5_masked_layers_before_pruning() -> None:
    """A pruned row gives 0, or its bias with prune_bias=False, at any rank; torch adds biases along dim 1."""
    for prune_bias in (True, False):
        for x in (FLAT, STEPS):
            model = nn.Sequential(nn.Linear(6, 7))
            weight, bias = (p.detach().clone() for p in model.parameters())
            pruner = SaliencyPruner({"sparsity_level": 0.5, "prune_bias": prune_bias})
            pruner.prepare(model, None)
            pruner.step()
            mask = pruner.state["0.weight"]["mask"]
            expected = F.linear(x, weight * mask[:, None], bias * mask if prune_bias else bias)
            torch.testing.assert_close(model(x), expected)
            assert all(v.shape[0] == 7 for v in pruner.model.state_dict().values())
            pruner.squash_mask()  # zeros without shrinking
            torch.testing.assert_close(model(x), expected)
            assert type(model[0]) is nn.Linear and (model[0].weight == 0).all(1).sum() == 3


# shrinking: what torch's patterns cover

ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish"),
    *("PReLU", "ReLU", "ReLU6", "RReLU", "SELU", "Sigmoid", "SiLU", "Softplus", "Softsign", "Tanh", "Tanhshrink"),
)


@pytest.mark.parametrize("prune_bias", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_x5_activations(name: str, prune_bias: bool) -> None:
    """f(0) and f(bias) of the rows that go are in the next bias, of modules and functions alike."""
    model = nn.Sequential(nn.Linear(6, 8), getattr(nn, name)(), nn.Linear(8, 4), getattr(nn, name)(), nn.Linear(4, 3))
    _, warned = prune(model, FLAT, ["0.weight", "2.weight"], prune_bias=prune_bias)
    assert shapes(model, "0", "2", "4") == [(4, 6), (2, 4), (3, 2)] and not warned
    assert (model[0].out_features, model[2].in_features, model[2].out_features) == (4, 4, 2)
    if name == "PReLU":
        return
    function = getattr(F, {"LogSigmoid": "logsigmoid", "LeakyReLU": "leaky_relu"}.get(name, name.lower()))
    net = Net(lambda m, x: m.b(function(m.a(x))), a=nn.Conv2d(3, 6, 3), b=nn.Conv2d(6, 2, 3))
    _, warned = prune(net, X, ["a.weight"], prune_bias=prune_bias)
    assert shapes(net, "a", "b") == [(3, 3, 3, 3), (2, 3, 3, 3)] and not warned


@pytest.mark.parametrize("prune_bias", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "pool",
    [
        (nn.MaxPool2d(2), nn.ReLU()),
        (nn.ReLU(), nn.AvgPool2d(2)),
        (nn.Softplus(), nn.AvgPool2d(3, 2, padding=1)),
        (nn.AdaptiveMaxPool2d(3),),
        (nn.AdaptiveAvgPool2d((2, 3)),),
    ],
)
def test_x5_convolutions_pools_and_flatten(pool: tuple[nn.Module, ...], bias: bool, prune_bias: bool) -> None:
    tail = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), *pool, nn.Flatten())
    size = tail(X).shape[1]
    model = nn.Sequential(*tail, nn.Linear(size, 5))
    _, warned = prune(model, X, ["0.weight"], prune_bias=prune_bias)
    const_lost = isinstance(pool[-1], nn.AvgPool2d) and pool[-1].padding  # softplus(0) beside zeros of the padding
    assert shapes(model, "0", str(len(model) - 1)) == (
        [(8, 3, 3, 3), (5, size)] if const_lost else [(4, 3, 3, 3), (5, size // 2)]
    )
    assert len(warned) == bool(const_lost)
    convs = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), *pool, nn.Conv2d(8, 4, 2))
    prune(convs, X, ["0.weight"], prune_bias=prune_bias)
    assert convs[-1].in_channels == convs[0].out_channels == (8 if const_lost else 4)


def test_x5_padded_convolutions() -> None:
    """Zero padding does not fit a constant other than zero: such rows stay, and only they."""
    for prune_bias, mode, kept in (
        (True, "zeros", 4),
        (False, "zeros", 8),
        (False, "reflect", 4),
        (False, "circular", 4),
    ):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3, padding="same", padding_mode=mode))
        nn.init.uniform_(model[0].bias, 0.1, 1)
        _, warned = prune(model, X, ["0.weight"], prune_bias=prune_bias)
        assert shapes(model, "0", "2") == [(kept, 3, 3, 3), (2, kept, 3, 3)]
        assert ["pruned rows that stay, as zeros: 4 of '0.weight'" in w for w in warned] == [True] * (kept == 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
    model[0].bias.data = torch.tensor([-1.0, 1.0] * 4)  # relu makes half of the constants zero
    model[0].weight.data[:4] *= 0.01
    prune(model, X, ["0.weight"], prune_bias=False)
    assert shapes(model, "0", "2") == [(6, 3, 3, 3), (2, 6, 3, 3)]


def test_x5_last_layer() -> None:
    """Outputs of the model lose the channels of pruned rows."""
    for model, x in ((nn.Sequential(nn.Linear(6, 4)), FLAT), (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), X)):
        pruner = SaliencyPruner({"sparsity_level": 0.5})
        pruner.prepare(model, None)
        pruner.step()
        mask = pruner.state["0.weight"]["mask"]
        expected = model(x)[:, mask]
        torch.testing.assert_close(pruner.prune()(x), expected)
        assert model[0].bias.shape == (2,)


@pytest.mark.parametrize(
    "arguments", [{}, {"num_layers": 3}, {"bidirectional": True, "num_layers": 2}, {"bias": False}]
)
@pytest.mark.parametrize("norm", [False, True])
def test_x5_lstm(arguments: dict[str, Any], norm: bool) -> None:
    lstm = nn.LSTM(6, 8, batch_first=True, **arguments)
    features = 8 * (1 + lstm.bidirectional)
    net = Net(
        lambda m, x: m.fc(m.norm(m.lstm(x)[0])),
        lstm=lstm,
        norm=nn.LayerNorm(features) if norm else nn.Identity(),
        fc=nn.Linear(features, 3),
    )
    names = [f"lstm.{n}" for n in lstm._flat_weights_names if n.startswith("weight")]
    pruner = LSTMSaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(net, [{"tensor_fqn": n} for n in names])
    pruner.step()
    hidden = net.lstm(STEPS)[0].detach()
    gone = (hidden == 0).all(0).all(0)
    assert gone.sum() == features // 2  # the masked model shows it
    expected = net(STEPS).detach()
    if norm:
        kept = ~gone
        expected = F.layer_norm(hidden[..., kept], (features // 2,), net.norm.weight[kept], net.norm.bias[kept])
        expected = F.linear(expected, net.fc.weight[:, kept], net.fc.bias)
        with pytest.warns(UserWarning, match="mean and variance of 'norm' are over fewer features"):
            pruner.prune()
        assert net.norm.normalized_shape == (features // 2,)
    else:
        pruner.prune()
    torch.testing.assert_close(net(STEPS), expected, rtol=1e-5, atol=1e-6)
    assert lstm.hidden_size == 4 and lstm.weight_hh_l0.shape == (16, 4) and not lstm._forward_pre_hooks
    assert net.fc.in_features == features // 2
    again = nn.LSTM(6, 4, batch_first=True, **arguments)
    again.load_state_dict(lstm.state_dict())
    torch.testing.assert_close(again(STEPS)[0], lstm(STEPS)[0])


def test_x5_lstm_units() -> None:
    """A unit's four gates in both weights go together, by their norm together."""
    net = nn.Sequential(nn.LSTM(2, 2))
    gates = torch.tensor([2.0, 1.0, 1.0, 5.0, 2.0, 1.0, 1.0, 5.0])  # unit 0 has less, though more in two gates
    for name in ("weight_ih_l0", "weight_hh_l0"):
        getattr(net[0], name).data = gates[:, None].repeat(1, 2)
    pruner = LSTMSaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(net, None)
    assert {g["tensor_name"] for g in pruner.groups} == {"weight_ih_l0", "weight_hh_l0"}
    pruner.step()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert pruner.state[f"0.{name}"]["mask"].tolist() == [False, True] * 4


def test_x5_lstm_layers_keep_equally_many_units() -> None:
    net = Net(lambda m, x: m.fc(m.lstm(x)[0]), lstm=nn.LSTM(6, 8, num_layers=2, batch_first=True), fc=nn.Linear(8, 3))
    pruner = LSTMSaliencyPruner({"sparsity_level": 0.5})
    pruner.prepare(net, None)
    for group in pruner.groups:
        group["sparsity_level"] = 0.75 if group["tensor_name"].endswith("l0") else 0.25
    pruner.step()
    expected = net(STEPS).detach()
    with pytest.warns(UserWarning, match="all layers of an LSTM have equally many units"):
        pruner.prune()
    torch.testing.assert_close(net(STEPS), expected, rtol=1e-5, atol=1e-6)
    assert net.lstm.hidden_size == 6 and net.lstm.weight_ih_l1.shape == (24, 6)


def test_x5_lstm_that_keeps_units() -> None:
    def both(m: Any, x: Tensor) -> Tensor:
        out, (h, _) = m.lstm(x)
        return m.fc(out[:, -1]) + m.fc(h[-1])

    layers = [f"lstm.weight_{kind}_l0" for kind in ("ih", "hh")]
    net = Net(both, lstm=nn.LSTM(6, 8, batch_first=True), fc=nn.Linear(8, 3))
    _, warned = prune(net, STEPS, layers[:1], LSTMSaliencyPruner)
    assert net.lstm.hidden_size == 8 and len(warned) == 1  # the units' other weight is not masked
    net = Net(both, lstm=nn.LSTM(6, 8, batch_first=True), fc=nn.Linear(8, 3))
    _, warned = prune(net, STEPS, layers, LSTMSaliencyPruner, prune_bias=False)
    assert net.lstm.hidden_size == 8 and len(warned) == 1  # biases alone move a unit
    net = Net(both, lstm=nn.LSTM(6, 8, num_layers=2, batch_first=True), fc=nn.Linear(8, 3))
    _, warned = prune(net, STEPS, layers, LSTMSaliencyPruner)
    assert net.lstm.hidden_size == 8 and "the states of all layers of 'lstm' are read" in warned[0]
