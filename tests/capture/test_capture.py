"""Capture against eager: structure of arguments, state, control flow, dynamic sizes, and what has to be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.graph import Program
from neve.ir.interpret import interpret
from neve.ir.verify import verify_program
from neve.trees import leaves


def run(program: Program, *inputs: torch.Tensor, method: str = "forward", state: Any = None) -> list[np.ndarray]:
    verify_program(program)
    return list(interpret(program.methods[method].graph, [x.numpy() for x in inputs], state))


def close(got: np.ndarray, wanted: torch.Tensor) -> None:
    assert got.shape == tuple(wanted.shape)
    np.testing.assert_allclose(
        got,
        wanted.detach().numpy(),
        rtol=1e-5,
        atol=1e-5 * max(1.0, float(wanted.abs().max())) if wanted.numel() else 0,
    )


class Net(nn.Module):
    """An nn.Module whose forward is the given function of (self, …)."""

    def __init__(self, f: Any, **members: Any) -> None:
        super().__init__()
        for k, v in members.items():
            if isinstance(v, nn.Parameter) or not isinstance(v, torch.Tensor):
                setattr(self, k, v)
            else:
                self.register_buffer(k, v)
        self.f = f

    def forward(self, *args: Any) -> Any:
        return self.f(self, *args)


def test_dynamic_batch_from_an_example_of_one() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 3))
    program = capture(model, (torch.randn(1, 8),), dynamic_shapes=({0: Dim("batch", min=1, max=64)},))
    ((symbol, limits),) = program.symbols.items()
    assert (str(symbol), limits.min, limits.max) == ("batch", 1, 64)
    assert program.methods["forward"].examples[0][0].shape == (1, 8)
    model.eval()
    for n in (1, 2, 7, 64):
        x = torch.randn(n, 8)
        close(run(program, x)[0], model(x))


def test_training_flags_and_parameters_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    capture(model, (torch.randn(3, 2),))
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_two_dynamic_sizes_with_arithmetic() -> None:
    model = Net(
        lambda self, x: (x.reshape(x.shape[0], -1, 2).sum(2) * x.shape[1] + x.shape[0] / x.shape[1], x.shape[0] * 2)
    ).eval()
    program = capture(model, (torch.randn(3, 4),), dynamic_shapes=(({0: Dim("n"), 1: 2 * Dim("half", min=1)},),))
    for shape in ((1, 2), (5, 6), (2, 10)):
        x = torch.randn(shape)
        wanted, double = model(x)
        got, size = run(program, x)
        close(got, wanted)
        assert int(size) == double
    assert program.methods["forward"].out_tree == {"tuple": [{"leaf": 0}, {"leaf": 1, "as": "int"}]}


def test_an_assumption_about_sizes_is_refused_with_the_mend() -> None:
    with pytest.raises(CaptureError, match=r"Dim|size"):
        capture(
            Net(lambda self, x: x.reshape(x.shape[0] // 2, 2, -1)),
            (torch.randn(4, 3),),
            dynamic_shapes=(({0: Dim.AUTO},),),
        )


def test_state_is_shared_by_methods() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("n", torch.zeros(2))
            self.w = nn.Parameter(torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.n.add_(x)
            return self.n * self.w

        def peek(self, scale: torch.Tensor) -> torch.Tensor:
            return self.n * scale + self.w

    program = capture(Counter(), (torch.ones(2),), methods={"peek": (torch.ones(1),)})
    state: dict[Any, Any] = {}
    run(program, torch.tensor([1.0, 2.0]), state=state)
    (out,) = run(program, torch.tensor([1.0, 2.0]), state=state)
    np.testing.assert_array_equal(out, [2, 4])
    (out,) = run(program, torch.tensor([10.0]), method="peek", state=state)
    np.testing.assert_array_equal(out, [21, 41])
    from neve.ir.walk import constants, states

    assert [s.name for s in states(program)] == ["n"]
    assert [c.name for c in constants(program)] == ["w"]


def test_a_buffer_that_is_replaced_is_state() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.last = self.last * 0.5 + x
        return self.last + 1

    program = capture(Net(forward, last=torch.zeros(3)), (torch.ones(3),))
    state: dict[Any, Any] = {}
    run(program, torch.ones(3), state=state)
    np.testing.assert_array_equal(run(program, torch.ones(3), state=state)[0], [2.5] * 3)


def test_trees() -> None:
    def forward(self: Any, x: torch.Tensor, pair: Any, flag: Any, k: int) -> Any:
        return {"sum": x + pair[0], "same": x, "none": None, "k": k, "nested": [(pair[1]["b"] * k,), x]}

    args = (torch.ones(2), (torch.ones(2), {"b": torch.full((2,), 2.0)}), None, 3)
    program = capture(Net(forward), args)
    m = program.methods["forward"]
    assert m.in_tree["args"] == [
        {"leaf": 0},
        {"tuple": [{"leaf": 1}, {"dict": {"b": {"leaf": 2}}}]},
        {"none": True},
        {"const": 3},
    ]
    out = m.out_tree["dict"]
    assert list(out) == ["sum", "same", "none", "k", "nested"]
    assert out["none"] == {"none": True} and out["k"] == {"const": 3}
    results = run(program, torch.ones(2), torch.ones(2), torch.full((2,), 2.0))
    np.testing.assert_array_equal(results[next(leaves(out["nested"]))], [6, 6])
    np.testing.assert_array_equal(results[out["same"]["leaf"]], [1, 1])


def test_outputs_that_are_constants_or_repeated() -> None:
    program = capture(Net(lambda self, x: (self.c, x, x, torch.ones(2)), c=torch.arange(3.0)), (torch.zeros(1),))
    got = run(program, torch.full((1,), 7.0))
    assert [g.tolist() for g in got] == [[0, 1, 2], [7], [7], [1, 1]]


def test_cond_and_while_loop() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        y = torch.cond(x.sum() > 0, lambda a: a * 2, lambda a: a - 1, (x,))
        return torch.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a + x), (torch.tensor(0), y))

    model = Net(forward).eval()
    program = capture(model, (torch.ones(2),))
    for value in (1.0, -1.0):
        x = torch.full((2,), value)
        y = x * 2 if value > 0 else x - 1
        n, out = run(program, x)
        assert int(n) == 3
        close(out, y + 3 * x)


def test_tied_weights_are_one_constant() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    from neve.ir.walk import constants

    assert sorted(c.name for c in constants(capture(Tied(), (torch.randn(1, 3),)))) == ["a.bias", "b.bias", "b.weight"]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent(kind: Any, bidirectional: bool) -> None:
    model = kind(5, 4, num_layers=2, batch_first=bidirectional, bidirectional=bidirectional, bias=bidirectional).eval()
    x = torch.randn(3, 2, 5)
    wanted = model(x)
    got = run(capture(model, (x,)), x)
    for g, w in zip(got, torch.utils._pytree.tree_leaves(wanted), strict=True):
        close(g, w)


def test_origin_names_module_and_line() -> None:
    program = capture(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), (torch.ones(1, 2),))
    node = next(n for n in program.methods["forward"].graph.nodes if n.op.name == "linear")
    assert node.origin.module == "0" and "linear.py:" in node.origin.source


def refused(model: nn.Module, *args: Any, **kw: Any) -> list[str]:
    with pytest.raises(CaptureError) as e:
        capture(model, args, **kw)
    return e.value.reasons


def test_every_unsupported_op_is_listed_at_once() -> None:
    reasons = refused(
        Net(lambda self, x: torch.fft.fft(x).real + torch.poisson(x) + torch.linalg.eigvals(x).real), torch.randn(3, 3)
    )
    text = "\n".join(reasons)
    assert "fft" in text and "poisson" in text and "eigvals" in text
    assert "test_capture.py:" in text


@pytest.mark.parametrize(
    ("forward", "wanted"),
    [
        (lambda self, x: x if x.sum() > 0 else -x, "control flow"),
        (lambda self, x: torch.unique(x, dim=0), "depends on the values"),
        (lambda self, x: torch.zeros(x.long().sum().item()), "depend"),
        (lambda self, x: torch.poisson(x), "poisson numbers are not reproduced"),
        (lambda self, x: torch.complex(x, x).cumprod(0).abs(), "complex numbers"),
        (lambda self, x: x.to(torch.uint8).masked_fill(x > 0, 300), "300 does not fit into uint8"),
    ],
    ids=["branch", "unique", "size", "poisson", "complex", "number"],
)
def test_refusals_say_why(forward: Any, wanted: str) -> None:
    assert wanted in "\n".join(refused(Net(forward), torch.randn(3)))


def test_attribute_writes_are_refused_and_undone() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(1)
        self.kept = x
        return x * self.calls

    model = Net(forward, calls=0, seen=[])
    text = "\n".join(refused(model, torch.ones(2)))
    assert "self.calls" in text and "self.seen" in text and "self.kept" in text
    assert model.calls == 0 and model.seen == [] and not hasattr(model, "kept")


def test_attribute_writes_of_plain_objects_are_refused_and_undone() -> None:
    class Position:
        def __init__(self) -> None:
            self.now = 1

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.position.now += 1
        return x * self.position.now

    model = Net(forward, position=Position())
    assert "self.position" in refused(model, torch.ones(2))[0]
    assert model.position.now == 1


def test_what_is_no_model_is_refused(tmp_path: Any) -> None:
    with pytest.raises(CaptureError, match="no model"):
        capture(3)
    with pytest.raises(CaptureError, match=r"m\.pt cannot be read"):
        capture(str(tmp_path / "m.pt"))
    (tmp_path / "m.pt").write_bytes(b"nonsense")
    with pytest.raises(CaptureError, match="no TorchScript archive"):
        capture(str(tmp_path / "m.pt"))
    (tmp_path / "m.pt2").write_bytes(b"nonsense")
    with pytest.raises(CaptureError, match="cannot be loaded"):
        capture(tmp_path / "m.pt2")


def test_a_write_into_windows_keeps_what_is_between_or_is_refused() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x.unfold(1, 2, 2)[-1].mul_(-1)
        return x

    model = Net(forward)
    for n in (6, 7):
        x = torch.randn(3, n, 4)
        if n % 2:
            assert "leave out elements" in "\n".join(refused(model, x))
        else:
            np.testing.assert_array_equal(run(capture(model, (x,)), x)[0], model(x))


def test_a_lazy_module_is_refused_until_it_has_sizes() -> None:
    model, x = nn.LazyLinear(3), torch.randn(2, 5)
    with pytest.raises(CaptureError, match=r"weight has no size yet.*call the model once"):
        capture(model, (x,))
    model(x)
    capture(model, (x,))


def test_exported_program_and_file(tmp_path: Any) -> None:
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    exported = torch.export.export(model, (x,), strict=False)
    close(run(capture(exported), x)[0], model(x))
    torch.export.save(exported, tmp_path / "m.pt2")
    close(run(capture(tmp_path / "m.pt2"), x)[0], model(x))


def test_wrong_example_arguments() -> None:
    assert "forward" in refused(nn.Linear(2, 2))[0]


@pytest.mark.parametrize(
    ("forward", "causes"),
    [
        (lambda self, x: torch.unique(x, dim=0) * 2 + 1, ["unique"]),
        (lambda self, x: (torch.unique(x, dim=0).sum(0), torch.poisson(x)), ["unique", "poisson"]),
        (lambda self, x: torch.zeros(torch.unique(x, dim=0).shape[0] * 2) + 1, ["unique"]),
        (lambda self, x: torch.unique(x, dim=0).view(-1, 1).expand(-1, 2).reshape(-1), ["unique"]),
    ],
    ids=["pointwise", "two", "size", "views"],
)
def test_what_follows_from_a_reason_is_none(forward: Any, causes: list[str]) -> None:
    reasons = refused(Net(forward), torch.randn(3))
    assert len(reasons) == len(causes), reasons
    assert all(any(c in r.split("\n")[0] for r in reasons) for c in causes), reasons


class Shadowing(nn.Module):
    """Has submodules that methods hide, one that a property gives, and a sparse buffer that forward does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.parameters = nn.ParameterList(self.layer.parameters())  # type: ignore[assignment]
        self.children = nn.Sequential(nn.Linear(3, 2))  # type: ignore[assignment]
        self._modules["head"] = nn.Linear(3, 3)
        self.register_buffer("heads", torch.eye(3).to_sparse(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)) * 2

    @property
    def head(self) -> Any:
        return self._modules["head"]


@pytest.mark.parametrize("make", [Shadowing, lambda: nn.Sequential(Shadowing(), nn.ReLU())], ids=["root", "inside"])
def test_names_that_methods_hide_and_tensors_without_a_storage(make: Any) -> None:
    model = make().eval()
    before = [[*m._modules] for m in model.modules()]
    x = torch.randn(2, 3)
    graph = capture(model, (x,)).methods["forward"].graph
    np.testing.assert_allclose(interpret(graph, (x.numpy(),))[0], model(x).detach().numpy(), rtol=1e-5)
    assert [[*m._modules] for m in model.modules()] == before
