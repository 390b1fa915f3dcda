"""Archives that this torch cannot load, saved as ones that it can: weights to the bit, results, methods and state."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import neve
from neve import bundled_inputs
from neve.capture.export import capture
from neve.capture.torchscript.archive import read_archive
from neve.capture.torchscript.source import Sources
from neve.cli.app import run
from neve.errors import CaptureError, NeveError
from tests.interpreted import Interpreted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

DATA = Path(__file__).parents[2] / "data" / "torchscript"
MODELS = ["small", "up", "two", "gate"]
KINDS = (".pt", ".optimized.pt", ".optimized.ptl")


def recorded(name: str) -> dict[str, dict[str, Any]]:
    return torch.load(DATA / f"{name}.io.pt")


def loaded(path: Path) -> Any:
    return torch.jit.load(str(path)).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_torch_loads_it_and_gives_what_was_recorded(name: str, kind: str, tmp_path: Path) -> None:
    source, out, io_ = DATA / f"{name}{kind}", tmp_path / "new.pt", recorded(name)
    if kind != ".pt":
        with pytest.raises(RuntimeError):  # else there is nothing to rescue
            torch.jit.load(str(source))
    neve.convert(source, out)
    for method, args in io_["inputs"].items():
        model = loaded(out)  # each from its initial state
        torch.testing.assert_close(getattr(model, method)(*args), io_["outputs"][method], rtol=1e-5, atol=1e-5)
        module = Interpreted(capture(str(out), methods={method: args}))
        torch.testing.assert_close(module.call(method, *args), io_["outputs"][method].detach(), rtol=1e-5, atol=1e-5)
    archive = read_archive(source)
    assert all(hasattr(loaded(out), m) for m in Sources(archive.code).cls(archive.root.cls).methods)
    assert _tensors(source) == _tensors(out)


def _tensors(path: Path) -> set[bytes]:
    """The bytes of every tensor record."""
    with zipfile.ZipFile(path) as z:
        return {z.read(n) for n in z.namelist() if n.split("/")[1] in ("data", "constants")}


def test_it_can_be_saved_and_converted_again(tmp_path: Path) -> None:
    neve.convert(DATA / "two.optimized.ptl", tmp_path / "a.pt")
    io_ = recorded("two")
    torch.jit.save(loaded(tmp_path / "a.pt"), tmp_path / "b.pt")
    neve.convert(tmp_path / "b.pt", tmp_path / "c.pt")
    got = torch.jit.load(str(tmp_path / "c.pt")).decode(*io_["inputs"]["decode"])
    torch.testing.assert_close(got, io_["outputs"]["decode"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_kept_over_calls(kind: str, tmp_path: Path) -> None:
    x = recorded("gate")["inputs"]["forward"][0]
    neve.convert(DATA / f"gate{kind}", tmp_path / "new.pt")
    neve.convert(DATA / f"gate{kind}", tmp_path / "new.pt2", (x,))
    old = torch.jit.load(str(DATA / "gate.pt")).eval()
    new, exported = loaded(tmp_path / "new.pt"), torch.export.load(tmp_path / "new.pt2").module()
    for call in (x.abs(), -x.abs(), x, -x):
        want = old(call)
        torch.testing.assert_close(new(call), want, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(exported(call), want, rtol=1e-5, atol=1e-5)
    assert torch.equal(new.seen, old.seen)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "method"), [("small", "forward"), ("up", "forward"), ("two", "encode")])
def test_export_holds_one_method(name: str, method: str, kind: str, tmp_path: Path) -> None:
    source, out, io_ = DATA / f"{name}{kind}", tmp_path / "new.pt2", recorded(name)
    neve.convert(source, out, io_["inputs"][method], method=method)
    program = torch.export.load(out)
    torch.testing.assert_close(program.module()(*io_["inputs"][method]), io_["outputs"][method], rtol=1e-5, atol=1e-5)
    mine = {bytes(t.detach().contiguous().untyped_storage()) for t in program.state_dict.values()}
    assert mine <= _tensors(source)


def test_bundled_inputs_are_the_example_of_an_export_and_survive(tmp_path: Path) -> None:
    source = DATA / "small.optimized.ptl"
    neve.convert(source, tmp_path / "a.pt2")
    neve.convert(source, tmp_path / "a.pt")
    (x,) = loaded(tmp_path / "a.pt").get_all_bundled_inputs()[0]
    torch.testing.assert_close(torch.export.load(tmp_path / "a.pt2").module()(x), loaded(tmp_path / "a.pt")(x))
    assert bundled_inputs.example_inputs(loaded(tmp_path / "a.pt")).keys() == {"forward"}


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """two.optimized.pt with another text in its code."""
    path = tmp_path / "edited.pt"
    with zipfile.ZipFile(DATA / "two.optimized.pt") as source, zipfile.ZipFile(path, "w") as made:
        for name in source.namelist():
            data = source.read(name)
            made.writestr(name, data.replace(old.encode(), new.encode()) if name.endswith(".py") else data)
    return path


def test_a_packed_weight_that_is_made_at_run_time(tmp_path: Path) -> None:
    old = "    _6 = ops.prepacked.linear_clamp_run(x, CONSTANTS.c5)\n"
    new = (
        "    w = torch.mul(torch.ones([3, 8]), 2)\n"
        "    p = ops.prepacked.linear_clamp_prepack(w, None, None, 1.5)\n"
        '    note = "ops.prepacked.linear_clamp_run"\n'
        "    _6 = ops.prepacked.linear_clamp_run(x, p)\n"
    )
    neve.convert(edited(tmp_path, old, new), tmp_path / "new.pt")
    x = torch.randn(2, 8)
    want = torch.relu((2 * x.sum(1, keepdim=True)).clamp(max=1.5)).expand(2, 3)
    torch.testing.assert_close(loaded(tmp_path / "new.pt").encode(x), want)
    torch.testing.assert_close(
        Interpreted(capture(str(tmp_path / "new.pt"), methods={"encode": (x,)})).call("encode", x), want
    )


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("ops.prepacked.fancy_run(x, CONSTANTS.c5)", "prepacked::fancy_run, which has no plain form"),
        ("ops.metal_prepack.conv2d_run(x, CONSTANTS.c5)", "metal_prepack::conv2d_run, which torch .* does not have"),
    ],
)
def test_what_torch_does_not_have_is_refused_and_nothing_is_written(op: str, reason: str, tmp_path: Path) -> None:
    source = edited(tmp_path, "ops.prepacked.linear_clamp_run(x, CONSTANTS.c5)", op)
    with pytest.raises(CaptureError, match=reason):
        neve.convert(source, tmp_path / "new.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["edited.pt"]


def test_what_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"a \.pt2 file holds one method, and the model has forward, decode, encode"):
        neve.convert(DATA / "two.optimized.pt", tmp_path / "a.pt2")
    with pytest.raises(CaptureError, match="none are bundled for encode"):
        neve.convert(DATA / "two.optimized.pt", tmp_path / "a.pt2", method="encode")
    with pytest.raises(NeveError, match=r"wanted the name of a \.pt2 file"):
        neve.convert(DATA / "two.optimized.pt", tmp_path / "a.onnx")
    (tmp_path / "no.pt").write_bytes(b"not a zip")
    with pytest.raises(CaptureError, match="no TorchScript archive"):
        neve.convert(tmp_path / "no.pt", tmp_path / "a.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["no.pt"]


class Restored(nn.Module):
    """A class of the archive's own that is restored by its __setstate__."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.arange(3.0)
        self.n = 2

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, int, bool]:
        return (self.weight + 1, self.n, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, int, bool]) -> None:
        self.weight = state[0] * 2
        self.n = state[1] + 1
        self.training = state[2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight * self.n


def test_objects_with_a_state_of_their_own_are_read_as_torch_does(tmp_path: Path) -> None:
    torch.jit.script(nn.Sequential(Restored())).save(str(tmp_path / "m.pt"))
    x = torch.ones(3)
    module = Interpreted(capture(str(tmp_path / "m.pt"), (x,)))
    torch.testing.assert_close(module(x), loaded(tmp_path / "m.pt")(x))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(DATA / "small.optimized.ptl")
    for out in ("a.pt", "a.pt2"):
        assert run(["convert", source, str(tmp_path / out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["file"] == str(tmp_path / out)
    assert run(["convert", str(DATA / "two.pt"), str(tmp_path / "b.pt2")]) == 1
    assert "one method" in capsys.readouterr().err
