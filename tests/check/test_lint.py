"""`neve lint`: every code on a model that deserves it, and silence on one like it that does not."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import neve
from neve.check.findings import CODES, ERRORS, Finding
from neve.check.lint import lint, lint_artifact
from neve.cli.app import run

HERE = "test_lint.py:"
DATA = Path(__file__).parents[1] / "data" / "torchscript"


def line_of(thing: Any, text: str) -> int:
    """The number of the line of a class's source that contains the text."""
    lines, start = inspect.getsourcelines(thing)
    return next(start + i for i, line in enumerate(lines) if text in line)


def only(found: list[Finding], code: str) -> list[Finding]:
    assert {f.code for f in found} == {code}, [str(f) for f in found]
    return found


X = torch.randn(2, 4)


class Clean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Identity(), nn.Linear(8, 4)])
        self.drop = nn.Dropout(0.3)
        self.norm = nn.BatchNorm1d(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.rnn = nn.GRU(4, 4, 2, dropout=0.2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)[None]
        return self.drop(self.rnn(self.attention(x, x, x)[0])[0])


def test_a_clean_model_has_no_findings() -> None:
    assert lint(Clean().eval(), (X,)) == []


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Eig()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + torch.linalg.eigvals(x).real


class Eig(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eig(x)[0].real


def test_unsupported_operators_each_at_its_line() -> None:
    found = only(lint(Unsupported().eval(), (torch.randn(3, 3),)), "unsupported-op")
    places = {(f.module, f.source.rpartition("/")[2]) for f in found}
    assert places == {
        ("inner", f"{HERE}{line_of(Eig, 'linalg.eig')}"),
        ("", f"{HERE}{line_of(Unsupported, 'linalg.eigvals')}"),
    }
    assert all(f.level == "error" and "not supported" in f.what for f in found)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = x + 1
        return self.inner(x)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.abs().max())):
            x = x * 2
        return x


class Tries(Branches):
    def forward(self, x: Tensor) -> Tensor:
        try:  # torch.jit takes no such model either
            return super().forward(x)
        except ValueError:
            return x


def test_every_read_of_a_value_is_found_not_only_the_first() -> None:
    assert lint(Branches().eval(), (X,)) == []
    model = Tries().eval()
    found = [f for f in lint(model, (X,)) if f.code != "cannot-capture"]
    assert {f.code for f in found} == {"data-dependent-control-flow"}
    places = [(f.module, f.source.rpartition("/")[2]) for f in found]
    assert places == [
        ("", f"{HERE}{line_of(Branches, 'x.sum()')}"),
        ("inner", f"{HERE}{line_of(Inner, 'range(')}"),
    ]
    assert "torch.cond" in found[0].fix and "x.sum() > 0" in found[0].what
    assert not model._forward_hooks and not model.inner._forward_pre_hooks


class Distinct(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unique(dim=0)


def test_sizes_that_depend_on_values() -> None:
    (found,) = only(lint(Distinct().eval(), (X,)), "data-dependent-shape")
    assert found.source.endswith(f"{HERE}{line_of(Distinct, 'x.unique')}")


def test_other_reasons_are_told_as_they_are() -> None:
    (found,) = only(lint(nn.Linear(3, 3).eval(), (X,)), "cannot-capture")
    assert "the model itself raises for the example arguments, RuntimeError" in found.what and "2x4" in found.what


class AlwaysDrops(nn.Module):
    def __init__(self, training: bool) -> None:
        super().__init__()
        self.always = training

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, training=self.always)


class OwnStatistics(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize(
    ("model", "text"),
    [(AlwaysDrops(True), "functional.dropout"), (OwnStatistics(), "functional.batch_norm")],
    ids=["dropout", "norm"],
)
def test_functional_leftovers_of_training(model: nn.Module, text: str) -> None:
    (found,) = only(lint(model.eval(), (X,)), "train-mode")
    assert found.source.endswith(f"{HERE}{line_of(type(model), text)}") and "whatever the model's mode" in found.what
    assert lint(AlwaysDrops(False).eval(), (X,)) == []


def test_modules_left_in_training() -> None:
    model = Clean().eval()
    model.drop.train()
    model.layers[1].train()  # an Identity: it does not matter
    found, op = only(lint(model, (X,)), "train-mode")
    assert found.module == op.module == "drop" and model.drop.training
    assert "though the model is not" in str(found) and "as its module is in training mode" in str(op)
    (found,) = only(lint(Clean(), (X,)), "train-mode")
    assert found.module == ""


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.ignored, self.never = nn.Linear(4, 4), nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4))
        self.spare = nn.Parameter(torch.zeros(10))
        self.register_buffer("table", torch.zeros(10))

    def forward(self, x: Tensor) -> Tensor:
        self.ignored(x)
        _ = self.spare + 1
        return self.used(x)

    def other(self, x: Tensor) -> Tensor:
        return self.never(x) + self.table[:4]


def test_unused_weights_and_dead_submodules() -> None:
    found = lint(Idle().eval(), (X,))
    assert [(f.code, f.module) for f in found] == [
        ("unused-weight", ""),
        ("unused-weight", ""),
        ("dead-submodule", "ignored"),
        ("dead-submodule", "never"),
    ]
    assert found[0].what.startswith("spare of 40 bytes") and found[1].what.startswith("table of 40 bytes")
    assert "never used" in found[2].what and "never called" in found[3].what
    both = lint(Idle().eval(), (X,), methods={"other": (X,)})
    assert [(f.code, f.module) for f in both] == [("unused-weight", ""), ("dead-submodule", "ignored")]


class Constant(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, torch.ones(3) * 2


def test_outputs_that_are_constant() -> None:
    (found,) = only(lint(Constant().eval(), (X,)), "constant-output")
    assert "output 1 of forward" in found.what
    assert found.source.endswith(f"{HERE}{line_of(Constant, 'torch.ones')}")


class Scores(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(-1, -2)).cumsum(-1) @ x


def test_huge_intermediates_at_the_largest_sizes() -> None:
    x = torch.randn(256, 8)
    assert lint(Scores().eval(), (x,)) == []
    found = only(lint(Scores().eval(), (x,), huge=256 * 256 * 4), "huge-intermediate")
    assert all("float32 [256, 256], takes 0 MiB" in f.what and HERE in f.source for f in found)
    assert lint(Scores().eval(), (x,), huge=256 * 256 * 4 + 1) == []
    rows = torch.export.Dim("rows", min=2, max=8192)
    found = only(lint(Scores().eval(), (x,), dynamic_shapes=[{0: rows}]), "huge-intermediate")
    assert "[8192, 8192], takes 256 MiB" in found[0].what


def test_pointwise_results_that_get_no_memory_are_not_huge() -> None:
    class Chain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ((x[:, None] * x[None]).exp() + 1).sum(-1)

    assert lint(Chain().eval(), (torch.randn(128, 128),), huge=1 << 20) == []


def test_sizes_without_a_maximum() -> None:
    shapes = [{0: torch.export.Dim("batch", min=1)}]
    (found,) = only(lint(nn.Linear(4, 4).eval(), (X,), dynamic_shapes=shapes), "unbounded-dim")
    assert "size batch, axis 0 of the input" in found.what and "max=" in found.fix
    assert lint(nn.Linear(4, 4).eval(), (X,), dynamic_shapes=[{0: torch.export.Dim("batch", min=1, max=9)}]) == []


class Leaks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale).float() + x.double().cumsum(0).float()


def test_float64_where_it_begins() -> None:
    found = only(lint(Leaks().eval(), (X,)), "float64-leak")
    assert any("scale" in f.what for f in found)
    assert all(f.source.endswith(f"{HERE}{line_of(Leaks, '.double()')}") for f in found)
    assert lint(Leaks().eval().double(), (X.double(),)) == []


def network(*layers: nn.Module) -> nn.Module:
    model = nn.Sequential(*layers).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
            nn.init.uniform_(m.weight, 0.5, 2.0)
            nn.init.uniform_(m.bias)
    return model


def test_an_activation_between_a_layer_and_its_norm_blocks_fusion() -> None:
    x = torch.randn(1, 3, 8, 8)
    found = only(lint(network(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), (x,)), "blocked-fusion")
    assert [f.module for f in found] == ["2"] and "relu" in found[0].what and "batchnorm.py" in found[0].source
    assert lint(network(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), (x,)) == []
    # here the norm goes into the layer that follows
    assert lint(network(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)), (x,)) == []


class Filter(nn.Module):
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return functional.conv2d(x, w)


def test_layers_that_no_kernel_takes() -> None:
    model, x = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 4)).eval(), torch.randn(64, 256)
    assert lint(model, (x,)) == []
    assert lint(model.bfloat16(), (x.bfloat16(),)) == []
    assert lint(model.double(), (x.double(),)) == []
    model, x = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU()).eval(), torch.randn(1, 16, 32, 32)
    (found,) = only(lint(model.double(), (x.double(),)), "plain-loops")
    assert found.module == "0" and "4 MFLOP" in found.what and "float64" in found.what
    assert lint(model.float(), (x,)) == [], "the fix that is proposed"
    assert lint(Filter().eval(), (torch.randn(1, 8, 32, 32), torch.randn(8, 8, 3, 3))) == []
    (found,) = only(lint(Filter().eval(), (torch.randn(1, 512, 1, 4), torch.randn(512, 512, 1, 3))), "plain-loops")
    assert "weights" in found.what and HERE in found.source


class SharedResult(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        nn.init.uniform_(self.norm.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y).relu() + y


def test_a_second_use_blocks_fusion() -> None:
    found = only(lint(SharedResult().eval(), (torch.randn(1, 3, 8, 8),)), "blocked-fusion")
    assert found[0].module == "norm" and "shared" in found[0].what


def test_a_compiled_model_is_looked_at_without_torch(tmp_path: Path) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = network(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
    shapes = [{0: torch.export.Dim("batch", min=1)}]
    module = neve.compile(model, (x,), dynamic_shapes=shapes)
    assert {f.code for f in lint_artifact(module.artifact)} == {"unbounded-dim"}
    path = tmp_path / "m.neve"
    neve.compile(SharedResult().eval(), (torch.randn(1, 3, 8, 8),)).save(path)
    found = only(lint_artifact(neve.load(path).artifact), "blocked-fusion")
    assert found[0].module == "norm" and "shared" in found[0].what


def test_scripted_models_have_findings_of_the_graph() -> None:
    scripted: Any = torch.jit.script(Constant().eval())
    (found,) = only(lint(scripted, (X,)), "constant-output")
    assert "output 1 of forward" in found.what
    bundled = neve.bundled_inputs.bundle_inputs(scripted, [(torch.ones(2, 4),)])
    assert lint(bundled) == [found]


class Leftovers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head, self.old = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2), nn.ReLU()), nn.Linear(4, 9)
        self.again, self.tied, self.spare = self.layer, self.layer.weight, nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head[0](self.layer(x))

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return x + self.spare.sum()


def test_scripted_models_have_submodules_and_weights_that_nothing_reads(tmp_path: Path) -> None:
    scripted: Any = torch.jit.script(Leftovers().eval())
    scripted.save(str(tmp_path / "m.pt"))
    for model in (scripted, tmp_path / "m.pt"):
        found = [(f.code, f.module, f.what) for f in lint(model, (X,))]
        dead = ("dead-submodule", "old", "Linear is never called")
        assert found == [("unused-weight", "", "spare of 20 bytes has no influence on any result"), dead]
        assert [f.code for f in lint(model, (X,), methods={"encode": (X,)})] == [dead[0]]


@pytest.mark.parametrize("name", ["small", "up", "two", "gate"])
def test_packed_weights_of_old_archives_are_used(name: str) -> None:
    methods = torch.load(DATA / f"{name}.io.pt")["inputs"]
    found = lint(DATA / f"{name}.optimized.ptl", methods=methods)
    assert {f.code for f in found}.isdisjoint({"unused-weight", "dead-submodule"})


# The command.

MODELS = """
import torch
from torch import nn

class Eig(nn.Module):
    def forward(self, x):
        return torch.linalg.eig(x)[0].real

def clean():
    return nn.Linear(4, 4).eval(), (torch.randn(2, 4),)

def idle():
    model = nn.Linear(4, 4).eval()
    model.register_parameter("spare", nn.Parameter(torch.zeros(8)))
    return model, (torch.randn(2, 4),)

def unsupported():
    return Eig().eval(), (torch.randn(3, 3),)
"""


@pytest.fixture
def models(tmp_path: Path) -> str:
    (tmp_path / "lint_models.py").write_text(MODELS)
    return str(tmp_path / "lint_models.py")


def test_exit_codes_and_json(models: str, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*argv: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = run(["lint", *argv, "--json"])
        return code, json.loads(capsys.readouterr().out)

    assert told(f"{models}:clean") == (
        0, {"model": f"{models}:clean", "errors": 0, "warnings": 0, "findings": []},
    )  # fmt: skip
    code, found = told(f"{models}:idle")
    assert code == 0 and found["warnings"] == 1 and found["findings"][0]["code"] == "unused-weight"
    assert set(found["findings"][0]) == {"level", "code", "what", "fix", "module", "source", "method"}
    assert told(f"{models}:idle", "--strict")[0] == 1
    assert told(f"{models}:idle", "--strict", "--ignore", "unused-weight")[0] == 0
    code, found = told(f"{models}:unsupported")
    assert code == 1 and found["errors"] == 1 and found["findings"][0]["source"].endswith("lint_models.py:7")
    assert told(f"{models}:clean", "--dynamic", "input:0")[1]["findings"][0]["code"] == "unbounded-dim"


def test_text_usage_and_help(models: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", f"{models}:unsupported"]) == 1
    text = capsys.readouterr().out
    assert "lint_models.py:7: error [unsupported-op]" in text and "1 errors, 0 warnings" in text
    assert run(["lint", f"{models}:clean"]) == 0
    assert "nothing to fix" in capsys.readouterr().out
    assert run(["lint", f"{models}:clean", "--ignore", "unused"]) == 2
    assert "there is no code 'unused'" in capsys.readouterr().err
    assert run(["lint", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(code in text for code in CODES)
    assert set(ERRORS) < set(CODES)
